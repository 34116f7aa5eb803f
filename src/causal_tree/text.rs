//! Prints a causal tree for people, in the look of `--to tree`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    assemble::{CausalTree, Content, Node, Via},
    stored_span::{Emitter, StoredSpan},
    summary::Summary,
};
use crate::{
    export::tree::{Colour, RowPosition, Style, change_row, late_row, one_line, stuck_row},
    trace::{
        model::span::{Role, SpanStatus, TraceId},
        spans::attributes,
    },
};

/// Returns the address of a trace in a UI, if there is one.
pub type UiLink<'a> = dyn Fn(TraceId) -> Option<String> + 'a;

/// What of a causal tree is printed, and how.
#[derive(Clone, Copy)]
pub struct Printed<'a> {
    pub style: Style,
    /// Phases, and spans of other emitters that led to no change, have rows too.
    pub everything: bool,
    /// Each change has the rule that gave it its parent.
    pub why: bool,
    /// Trace ids are links, for terminals.
    pub ui_link: Option<&'a UiLink<'a>>,
}

/// A cause starts after its effect by more than this only if clocks differ: times from the API are
/// whole seconds.
const CLOCKS_DIFFER: Duration = Duration::from_secs(1);

/// Levels that are indented. The rows of deeper ones are still printed.
const INDENTED_MAX: usize = 64;

/// Prints the tree, then a summary of it.
pub fn to_text(tree: &CausalTree, printed: &Printed<'_>) -> String {
    let rows = Rows::new(tree, *printed);
    let mut text = String::new();
    for root in &tree.roots {
        rows.draw(*root, &mut text);
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text += &summary(&Summary::new(tree), printed.style);
    text
}

struct Rows<'a> {
    tree: &'a CausalTree,
    printed: Printed<'a>,
    /// Nodes that have a row.
    shown: BTreeSet<usize>,
    /// Spans of other emitters without a row, by trace.
    hidden: BTreeMap<TraceId, usize>,
}

/// A row to draw, with the lines before it and before those below it.
struct Pending {
    index: usize,
    first: String,
    rest: String,
    depth: usize,
    /// The trace of the row above it.
    above: Option<TraceId>,
}

impl<'a> Rows<'a> {
    fn new(tree: &'a CausalTree, printed: Printed<'a>) -> Self {
        let mut shown = BTreeSet::new();
        let mut hidden: BTreeMap<TraceId, usize> = BTreeMap::new();
        for root in &tree.roots {
            let nodes: Vec<usize> = tree.walk(*root).map(|(index, _)| index).collect();
            // Backwards, so that everything below a node is decided before it.
            for index in nodes.into_iter().rev() {
                let Some(node) = tree.nodes.get(index) else { continue };
                let leads_to_row = node.children.iter().any(|child| shown.contains(child));
                if leads_to_row || has_row(node, printed.everything) {
                    shown.insert(index);
                } else if node.span().is_some_and(is_other) {
                    *hidden.entry(node.trace_id()).or_default() += 1;
                }
            }
        }
        Self { tree, printed, shown, hidden }
    }

    fn draw(&self, root: usize, text: &mut String) {
        let (first, rest) = (String::new(), String::new());
        let mut pending = vec![Pending { index: root, first, rest, depth: 0, above: None }];
        while let Some(row) = pending.pop() {
            let Some(node) = self.tree.nodes.get(row.index) else { continue };
            if !self.shown.contains(&row.index) {
                continue;
            }
            *text += &row.first;
            *text += &self.row(row.index, node, row.above);
            text.push('\n');
            let below = self.below(row.index);
            let count = below.len();
            let rows = below.into_iter().enumerate().map(|(at, index)| {
                let is_last = at + 1 == count;
                let (branch, beside) =
                    if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
                let beside = if row.depth < INDENTED_MAX { beside } else { "" };
                Pending {
                    index,
                    first: format!("{}{branch}", row.rest),
                    rest: format!("{}{beside}", row.rest),
                    depth: row.depth + 1,
                    above: Some(node.trace_id()),
                }
            });
            let mut rows: Vec<Pending> = rows.collect();
            rows.reverse();
            pending.append(&mut rows);
        }
    }

    /// The rows below a row. A head's change and reconcile span share one.
    fn below(&self, index: usize) -> Vec<usize> {
        let children = |index: usize| {
            self.tree.nodes.get(index).map_or(&[][..], |node| node.children.as_slice())
        };
        let reconcile = self.tree.reconcile(index);
        let mut below: Vec<usize> = Vec::new();
        for child in children(index) {
            if Some(*child) == reconcile {
                below.extend_from_slice(children(*child));
            } else {
                below.push(*child);
            }
        }
        below.retain(|child| self.shown.contains(child));
        let start = |index: usize| Some(self.tree.nodes.get(index)?.span()?.span.start);
        if reconcile.is_some() {
            below.sort_by_key(|child| (start(*child), *child));
        }
        below
    }

    fn row(&self, index: usize, node: &Node, above: Option<TraceId>) -> String {
        let style = self.printed.style;
        let dim = |text: &str| style.paint(Colour::Dim, text);
        let trace_id = node.trace_id();
        let begins_trace = above != Some(trace_id);
        let mut parts = match &node.content {
            Content::Span(stored) => vec![self.span_row(index, stored, begins_trace)],
            Content::MissingSpan { owner: Some(owner), .. } => {
                vec![format!("{owner} …"), dim("(no span yet: it has not ended)")]
            }
            Content::MissingSpan { span_id, owner: None, .. } => {
                vec![format!("span {span_id}"), dim("(not in the backend)")]
            }
            Content::MissingTrace(_) => vec![dim("(annotated trace, not in the backend)")],
        };
        parts.extend(self.notes(node).iter().map(|note| dim(note)));
        if begins_trace {
            parts.push(format!("{} {}", dim("trace"), self.trace_link(trace_id)));
            if let Some(hidden) = self.hidden.get(&trace_id) {
                parts.push(dim(&format!("(+{})", count(*hidden, "span"))));
            }
        }
        parts.join("  ")
    }

    fn span_row(&self, index: usize, stored: &StoredSpan, begins_trace: bool) -> String {
        let style = self.printed.style;
        let span = &stored.span;
        let position = if begins_trace { RowPosition::Top } else { RowPosition::Below };
        if stored.is(Role::Change) || stored.is(Role::Reconcile) {
            let reconcile = self.tree.reconcile(index);
            let reconcile = reconcile.and_then(|index| self.tree.nodes.get(index)?.span());
            return change_row(span, reconcile.map(|stored| &stored.span), position, style);
        }
        if stored.is(Role::Stuck) {
            return stuck_row(span, position, style);
        }
        if stored.is(Role::Late) {
            let parent = self.tree.nodes.get(index).and_then(|node| node.parent);
            let change = parent.and_then(|parent| self.tree.nodes.get(parent)?.span());
            return late_row(span, change.map(|stored| &stored.span), position, style);
        }
        let duration = style.duration(span.end.since(span.start));
        let service = one_line(&span.service);
        let mut row = format!("{} ({service}){duration}", one_line(&span.name));
        if let SpanStatus::Error(message) = &span.status {
            let message = if message.is_empty() { "error" } else { message };
            row += "  ";
            row += &style.paint(Colour::Red, &one_line(message));
        }
        row
    }

    fn notes(&self, node: &Node) -> Vec<String> {
        let mut notes = Vec::new();
        let above = node.parent.and_then(|parent| self.tree.nodes.get(parent)?.span());
        if let (Some(stored), Some(above)) = (node.span(), above) {
            let ahead = above.span.start.since(stored.span.start);
            if ahead > CLOCKS_DIFFER && self.printed.style.durations {
                let ahead = self.printed.style.duration(ahead);
                notes.push(format!("(starts{ahead} before its cause: clocks differ)"));
            }
        }
        if node.was_circular {
            notes.push("(its causes form a circle)".to_owned());
        }
        if self.printed.why {
            notes.extend(why(node));
        }
        notes
    }

    /// The id of a trace: a link, if terminals show one ([OSC 8]).
    ///
    /// [OSC 8]: https://gist.github.com/egmontkob/eb114294efbcd5adb1944c9f3cb5feda
    fn trace_link(&self, trace_id: TraceId) -> String {
        match self.printed.ui_link.and_then(|ui_link| ui_link(trace_id)) {
            Some(url) => format!("\x1b]8;;{url}\x1b\\{trace_id}\x1b]8;;\x1b\\"),
            None => trace_id.to_string(),
        }
    }
}

/// Whether a node has a row even if nothing below it has one.
fn has_row(node: &Node, everything: bool) -> bool {
    let Some(stored) = node.span() else { return false };
    if stored.is(Role::Reconcile) {
        // It shares the row of its change.
        return false;
    }
    if [Role::Change, Role::Stuck, Role::Late].into_iter().any(|role| stored.is(role)) {
        return true;
    }
    let is_root_of_other = matches!(node.via, Via::Nothing | Via::Link);
    let failed = matches!(stored.span.status, SpanStatus::Error(_));
    everything || (is_other(stored) && (is_root_of_other || failed))
}

fn is_other(stored: &StoredSpan) -> bool {
    stored.emitter == Emitter::Other
}

/// `(cause: owner)`: what gave a change its place in the tree.
fn why(node: &Node) -> Option<String> {
    let stored = node.span().filter(|stored| stored.is_change())?;
    let rule = match (stored.text(attributes::CAUSE_RULE), node.via) {
        (Some(rule), _) => rule.to_owned(),
        (None, Via::Nothing) => "none: nothing in flight caused it".to_owned(),
        (None, Via::Origin) => "the annotated span".to_owned(),
        (None, Via::Parent | Via::Owner | Via::Link) => "not recorded".to_owned(),
    };
    let ambiguous = if stored.flag(attributes::CAUSE_AMBIGUOUS) { ", ambiguous" } else { "" };
    Some(format!("(cause: {rule}{ambiguous})"))
}

fn summary(summary: &Summary, style: Style) -> String {
    let mut line =
        format!("{} in {}", count(summary.spans, "span"), count(summary.traces.len(), "trace"));
    let extent = style.duration(summary.extent);
    if !extent.is_empty() {
        line.extend([",", &extent, " from the first start to the last end"]);
    }
    let mut outcomes: Vec<String> =
        summary.outcomes.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
    if summary.open > 0 {
        outcomes.push(format!("{} in progress", summary.open));
    }
    if !outcomes.is_empty() {
        line += "; changes: ";
        line += &outcomes.join(", ");
    }
    line.push('\n');
    if let Some(slowest) = &summary.slowest {
        line.extend(["slowest: ", &slowest.kind, " ", &slowest.name]);
        line.extend(slowest.phase.iter().map(|phase| format!(" {phase}")));
        line.extend(slowest.duration.map(|duration| style.duration(duration)));
        line.extend(slowest.reason.iter().map(|reason| format!(", {reason}")));
        line.push('\n');
    }
    line
}

fn count(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}
