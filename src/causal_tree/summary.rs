//! How a causal tree ended: its extent, its outcomes, and the longest wait.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    assemble::{CausalTree, Content},
    stored_span::StoredSpan,
};
use crate::trace::{
    model::{
        span::{Attribute, Role, TraceId, Value},
        time::Timestamp,
    },
    spans::attributes,
};

#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) traces: BTreeSet<TraceId>,
    pub(super) spans: usize,
    /// From the first start to the last end.
    pub(super) extent: Duration,
    /// Changes by their outcome.
    pub(super) outcomes: BTreeMap<String, usize>,
    /// Changes that have no outcome yet.
    pub(super) open: usize,
    pub(super) slowest: Option<Slowest>,
}

/// What the longest convergence waited for longest.
#[derive(Debug)]
pub(super) struct Slowest {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) phase: Option<String>,
    pub(super) reason: Option<String>,
    /// How long the phase took, if its span is there.
    pub(super) duration: Option<Duration>,
}

impl Summary {
    pub(super) fn new(tree: &CausalTree) -> Self {
        let mut summary = Self::default();
        let mut extent: Option<(Timestamp, Timestamp)> = None;
        let mut longest: Option<&StoredSpan> = None;
        for (index, _) in tree.roots.iter().flat_map(|root| tree.walk(*root)) {
            let Some(node) = tree.nodes.get(index) else { continue };
            let stored = match &node.content {
                Content::Span(stored) => &**stored,
                Content::MissingSpan { owner, .. } => {
                    summary.open += usize::from(owner.is_some());
                    continue;
                }
                Content::MissingTrace(_) => continue,
            };
            let span = &stored.span;
            summary.traces.insert(span.trace_id);
            summary.spans += 1;
            extent = Some(extent.map_or((span.start, span.end), |(first, last)| {
                (first.min(span.start), last.max(span.end))
            }));
            if stored.is_change() {
                match tree.outcome(index) {
                    Some(outcome) => *summary.outcomes.entry(outcome.to_owned()).or_default() += 1,
                    None => summary.open += 1,
                }
            }
            let is_longer = |than: &StoredSpan| length(stored) > length(than);
            if stored.text(attributes::SLOWEST_KIND).is_some() && longest.is_none_or(is_longer) {
                longest = Some(stored);
            }
        }
        summary.extent = extent.map(|(first, last)| last.since(first)).unwrap_or_default();
        summary.slowest = longest.and_then(|span| Slowest::of(span, tree));
        summary
    }
}

impl Slowest {
    fn of(stored: &StoredSpan, tree: &CausalTree) -> Option<Self> {
        let fact = |key| stored.text(key).map(str::to_owned);
        let mut slowest = Self {
            kind: fact(attributes::SLOWEST_KIND)?,
            name: fact(attributes::SLOWEST_NAME).unwrap_or_default(),
            phase: fact(attributes::SLOWEST_PHASE),
            reason: fact(attributes::SLOWEST_REASON),
            duration: None,
        };
        let spans = tree.roots.iter().flat_map(|root| tree.walk(*root));
        let spans = spans.filter_map(|(index, _)| tree.nodes.get(index)?.span());
        slowest.duration = spans.filter(|stored| slowest.is_phase(stored)).map(length).max();
        Some(slowest)
    }

    /// Whether the span is the phase.
    fn is_phase(&self, stored: &StoredSpan) -> bool {
        let is_name = |value: &Value| matches!(value, Value::Text(text) if **text == *self.name);
        let mut attributes = stored.span.attributes.iter();
        stored.is(Role::Phase)
            && Some(&*stored.span.name) == self.phase.as_deref()
            && attributes.any(|each| each.key.starts_with("k8s.") && is_name(&each.value))
    }
}

impl CausalTree {
    /// The outcome of a change: that of a head is on its reconcile span.
    pub(super) fn outcome(&self, change: usize) -> Option<&str> {
        let reconcile = self.reconcile(change).and_then(|index| self.nodes.get(index)?.span());
        let change = self.nodes.get(change).and_then(|node| node.span());
        let mut spans = [reconcile, change].into_iter().flatten();
        spans.find_map(|stored| Attribute::find_text(&stored.span.attributes, attributes::OUTCOME))
    }

    /// The reconcile span of a head's change span.
    pub(super) fn reconcile(&self, change: usize) -> Option<usize> {
        let node = self.nodes.get(change)?;
        let is_reconcile =
            |child: &&usize| self.nodes.get(**child).is_some_and(|node| node.is(Role::Reconcile));
        node.children.iter().find(is_reconcile).copied().filter(|_| node.is(Role::Change))
    }
}

fn length(stored: &StoredSpan) -> Duration {
    stored.span.end.since(stored.span.start)
}
