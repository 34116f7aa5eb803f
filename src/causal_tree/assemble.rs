//! Puts every span below its cause, also across traces.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::stored_span::{Emitter, SpanKey, StoredSpan, link_role};
use crate::trace::{
    model::span::{Attribute, Role, SpanId, TraceId},
    spans::attributes,
};

/// Spans of linked traces, each below its cause.
#[derive(Debug)]
pub struct CausalTree {
    /// Every span once, and a node for each cause that is named and missing.
    pub(super) nodes: Vec<Node>,
    pub(super) roots: Vec<usize>,
    /// The traces that were asked for.
    pub(super) asked: BTreeSet<TraceId>,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) content: Content,
    pub(super) parent: Option<usize>,
    pub(super) via: Via,
    /// In the order of time.
    pub(super) children: Vec<usize>,
    /// Its parent was left out because the spans name each other as causes in a circle.
    pub(super) was_circular: bool,
}

#[derive(Debug)]
pub(super) enum Content {
    Span(Box<StoredSpan>),
    /// A span that others name as their parent. A change is exported at its outcome, so the cause of
    /// finished changes may still be open.
    MissingSpan {
        trace_id: TraceId,
        span_id: SpanId,
        owner: Option<String>,
    },
    /// An annotated trace that the backend does not have.
    MissingTrace(TraceId),
}

/// What connects a node to the one above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    /// It is a root.
    Nothing,
    /// The parent of the span, in the same trace.
    Parent,
    /// The change of the owner, in another trace.
    Owner,
    /// The annotated span.
    Origin,
    /// A link of a span by another emitter.
    Link,
}

impl Via {
    pub(super) const fn name(self) -> Option<&'static str> {
        match self {
            Self::Nothing => None,
            Self::Parent => Some("parent"),
            Self::Owner => Some("owner"),
            Self::Origin => Some("origin"),
            Self::Link => Some("link"),
        }
    }
}

impl Node {
    pub(super) fn span(&self) -> Option<&StoredSpan> {
        match &self.content {
            Content::Span(stored) => Some(stored),
            Content::MissingSpan { .. } | Content::MissingTrace(_) => None,
        }
    }

    pub(super) fn trace_id(&self) -> TraceId {
        match &self.content {
            Content::Span(stored) => stored.span.trace_id,
            Content::MissingSpan { trace_id, .. } | Content::MissingTrace(trace_id) => *trace_id,
        }
    }

    /// Whether spanlink created its span, with this role.
    pub(super) fn is(&self, role: Role) -> bool {
        self.span().is_some_and(|stored| stored.is(role))
    }
}

/// Builds the causal tree of the traces `asked`. Spans that have nothing to do with them are left out:
/// a search finds more than what was caused, such as changes with a stale context.
///
/// A span that occurs twice is one node. Spans that name each other as causes in a circle are cut at
/// the earliest one.
pub fn assemble(
    spans: impl IntoIterator<Item = StoredSpan>,
    asked: impl IntoIterator<Item = TraceId>,
) -> CausalTree {
    let mut builder = Builder::new(spans);
    builder.find_parents();
    builder.cut_circles();
    builder.finish(asked.into_iter().collect())
}

struct Builder {
    nodes: Vec<Node>,
    by_key: HashMap<SpanKey, usize>,
    /// The first root of each trace: stands for a span of it that is missing.
    root_of: HashMap<TraceId, usize>,
    missing_traces: HashMap<TraceId, usize>,
}

impl Builder {
    fn new(spans: impl IntoIterator<Item = StoredSpan>) -> Self {
        let mut unique: BTreeMap<SpanKey, StoredSpan> = BTreeMap::new();
        for stored in spans {
            unique
                .entry(stored.key())
                .and_modify(|kept| {
                    // A backend may have merged a part of a span that was sent twice.
                    if stored.span.end > kept.span.end {
                        kept.clone_from(&stored);
                    }
                })
                .or_insert(stored);
        }
        let mut spans: Vec<StoredSpan> = unique.into_values().collect();
        spans.sort_by(|a, b| order(a).cmp(&order(b)));
        let mut by_key = HashMap::new();
        let mut root_of = HashMap::new();
        for (index, stored) in spans.iter().enumerate() {
            by_key.insert(stored.key(), index);
            if stored.span.parent.is_none() {
                root_of.entry(stored.span.trace_id).or_insert(index);
            }
        }
        let nodes = spans.into_iter().map(|stored| node(Content::Span(Box::new(stored)))).collect();
        Self { nodes, by_key, root_of, missing_traces: HashMap::new() }
    }

    fn find_parents(&mut self) {
        let count = self.nodes.len();
        for index in 0..count {
            let Some(stored) = self.nodes.get(index).and_then(Node::span).cloned() else {
                continue;
            };
            let found = match stored.span.parent {
                Some(parent) => Some(self.parent_in_trace(index, &stored, parent)),
                None => self.linked_parent(&stored),
            };
            let Some((parent, via)) = found.filter(|(parent, _)| *parent != index) else {
                continue;
            };
            if let Some(node) = self.nodes.get_mut(index) {
                (node.parent, node.via) = (Some(parent), via);
            }
        }
    }

    fn parent_in_trace(
        &mut self,
        index: usize,
        stored: &StoredSpan,
        parent: SpanId,
    ) -> (usize, Via) {
        let key = (stored.span.trace_id, parent);
        if let Some(parent) = self.by_key.get(&key) {
            return (*parent, Via::Parent);
        }
        let is_of_owner = stored.causing_owner() == Some(key);
        let owner = Some(stored).filter(|_| is_of_owner).and_then(owner_name);
        let content = Content::MissingSpan { trace_id: key.0, span_id: parent, owner };
        let missing = self.add(content);
        self.by_key.insert(key, missing);
        // An open change is somewhere below the head of its trace.
        let root = self.root_of.get(&key.0).copied();
        if let Some(root) = root.filter(|root| *root != index)
            && let Some(node) = self.nodes.get_mut(missing)
        {
            (node.parent, node.via) = (Some(root), Via::Parent);
        }
        (missing, Via::Parent)
    }

    /// The cause of the root of a trace, by its links.
    fn linked_parent(&mut self, stored: &StoredSpan) -> Option<(usize, Via)> {
        match stored.emitter {
            Emitter::Spanlink => {
                let owner = stored.causing_owner().and_then(|key| self.by_key.get(&key).copied());
                if let Some(owner) = owner {
                    return Some((owner, Via::Owner));
                }
                let origin = stored.origin().filter(|origin| *origin != stored.span.trace_id)?;
                let of_origin = |role| {
                    let mut links = stored.span.links.iter();
                    links.find(|link| link.trace_id == origin && link_role(link) == Some(role))
                };
                let link = of_origin("context").or_else(|| of_origin("origin"));
                let exact = link.and_then(|link| self.by_key.get(&(origin, link.span_id)).copied());
                let cause = exact.or_else(|| self.root_of.get(&origin).copied());
                let cause = cause.unwrap_or_else(|| self.missing_trace(origin));
                Some((cause, Via::Origin))
            }
            Emitter::Other => {
                let mut links = stored.span.links.iter();
                let cause = links.find_map(|link| {
                    let exact = self.by_key.get(&(link.trace_id, link.span_id));
                    let is_other = link.trace_id != stored.span.trace_id;
                    exact.or_else(|| self.root_of.get(&link.trace_id).filter(|_| is_other)).copied()
                })?;
                Some((cause, Via::Link))
            }
        }
    }

    fn missing_trace(&mut self, trace_id: TraceId) -> usize {
        if let Some(index) = self.missing_traces.get(&trace_id) {
            return *index;
        }
        let index = self.add(Content::MissingTrace(trace_id));
        self.missing_traces.insert(trace_id, index);
        index
    }

    fn add(&mut self, content: Content) -> usize {
        self.nodes.push(node(content));
        self.nodes.len() - 1
    }

    /// Cuts each circle of parents at its first node by time.
    fn cut_circles(&mut self) {
        #[derive(Clone, Copy, PartialEq, Eq)]
        enum Visit {
            Not,
            InWalk(usize),
            Done,
        }
        let mut visits = vec![Visit::Not; self.nodes.len()];
        for start in 0..self.nodes.len() {
            let mut walk = Vec::new();
            let mut at = Some(start);
            while let Some(index) = at
                && visits.get(index) == Some(&Visit::Not)
            {
                visits[index] = Visit::InWalk(start);
                walk.push(index);
                at = self.nodes[index].parent;
            }
            if let Some(entered) = at.filter(|index| visits[*index] == Visit::InWalk(start)) {
                let circle = walk.iter().skip_while(|index| **index != entered);
                // The nodes are in the order of time.
                if let Some(first) = circle.min().copied() {
                    let node = &mut self.nodes[first];
                    (node.parent, node.via, node.was_circular) = (None, Via::Nothing, true);
                }
            }
            for index in walk {
                visits[index] = Visit::Done;
            }
        }
    }

    fn finish(mut self, asked: BTreeSet<TraceId>) -> CausalTree {
        let mut times: HashMap<usize, usize> = HashMap::new();
        let mut roots = Vec::new();
        for index in 0..self.nodes.len() {
            match self.nodes[index].parent {
                Some(parent) => self.nodes[parent].children.push(index),
                None => roots.push(index),
            }
        }
        // A node for something missing was added after all spans, and stands where its first child does.
        for index in 0..self.nodes.len() {
            let first = self.nodes[index].children.iter().min().copied().unwrap_or(index);
            let is_span = self.nodes[index].span().is_some();
            times.insert(index, if is_span { index } else { first });
        }
        for node in &mut self.nodes {
            node.children.sort_by_key(|child| (times.get(child).copied(), *child));
        }
        roots.sort_by_key(|root| (times.get(root).copied(), *root));
        let mut tree = CausalTree { nodes: self.nodes, roots, asked };
        let wanted: Vec<usize> =
            tree.roots.iter().copied().filter(|root| tree.has_asked_below(*root)).collect();
        tree.roots = wanted;
        tree
    }
}

impl CausalTree {
    /// Whether nothing was found of the traces that were asked for.
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// The nodes below and including this one, each before those below it, with their depths.
    pub(super) fn walk(&self, root: usize) -> impl Iterator<Item = (usize, usize)> {
        let mut pending = vec![(root, 0)];
        std::iter::from_fn(move || {
            let (index, depth) = pending.pop()?;
            let children = self.nodes.get(index).map_or(&[][..], |node| node.children.as_slice());
            pending.extend(children.iter().rev().map(|child| (*child, depth + 1)));
            Some((index, depth))
        })
    }

    fn has_asked_below(&self, root: usize) -> bool {
        self.walk(root).any(|(index, _)| {
            self.nodes.get(index).is_some_and(|node| self.asked.contains(&node.trace_id()))
        })
    }
}

const fn node(content: Content) -> Node {
    Node { content, parent: None, via: Via::Nothing, children: Vec::new(), was_circular: false }
}

/// Orders spans by time. Times from the API are whole seconds, so many are equal.
fn order(stored: &StoredSpan) -> impl Ord + '_ {
    let span = &stored.span;
    let generation = Attribute::find_int(&span.attributes, attributes::GENERATION);
    let object = (&*span.object.kind.kind, &*span.object.name, generation);
    (span.start, object, &*span.name, span.trace_id, span.span_id)
}

/// `ReplicaSet web-5b6848fddb g1`: the owner whose change is the parent.
fn owner_name(stored: &StoredSpan) -> Option<String> {
    let kind = stored.text(attributes::OWNER_KIND)?;
    let name = stored.text(attributes::OWNER_NAME)?;
    let generation = Attribute::find_int(&stored.span.attributes, attributes::OWNER_GENERATION);
    let generation = generation.map_or_else(String::new, |at| format!(" g{at}"));
    Some(format!("{kind} {name}{generation}"))
}
