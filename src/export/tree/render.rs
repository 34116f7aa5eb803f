//! Renders the trees of finished spans.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    row::{self, RowPosition},
    style::Style,
};
use crate::trace::model::{
    span::{Attribute, Role, Span, SpanId, TraceId},
    time::Timestamp,
};

/// The change of each trace's head, such as `update Deployment shop/web g3`, by trace.
pub(super) type Heads = HashMap<TraceId, String>;

/// Renders one tree per trace, the earliest first. A span whose parent is missing is at the top. A
/// span that occurs twice has one row.
pub fn render(spans: &[Span], style: Style) -> String {
    render_with_heads(spans, &Heads::new(), style)
}

/// Like [`render`]. Trees without their head are of traces whose head was printed before: their first
/// rows name it.
pub(super) fn render_with_heads(spans: &[Span], heads: &Heads, style: Style) -> String {
    let mut traces: BTreeMap<TraceId, Vec<&Span>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    // A projection is in a trace of another system, and phases are drawn by waterfalls.
    let has_row = |span: &&Span| !matches!(span.role, Role::Phase | Role::Projection);
    for span in spans.iter().filter(has_row) {
        if seen.insert((span.trace_id, span.span_id)) {
            traces.entry(span.trace_id).or_default().push(span);
        }
    }
    let mut trees: Vec<Tree<'_>> = traces.into_values().map(Tree::new).collect();
    trees.sort_by_key(|tree| tree.tops.first().map(|top| order(top)));
    let mut text = String::new();
    for tree in trees {
        for top in &tree.tops {
            let head = heads.get(&top.trace_id).filter(|_| !top.is_head());
            let above =
                head.map_or_else(String::new, |head| format!("  {}", row::below_head(head, style)));
            tree.draw(
                top,
                RowPosition::Top,
                Edges { above: &above, ..Edges::default() },
                style,
                &mut text,
            );
        }
    }
    text
}

/// The spans of one trace that have a row, by their position.
struct Tree<'a> {
    tops: Vec<&'a Span>,
    below: HashMap<SpanId, Vec<&'a Span>>,
    rows: HashMap<SpanId, &'a Span>,
    /// Reconcile spans by the span of their change: both are one row.
    reconciles: HashMap<SpanId, &'a Span>,
}

impl<'a> Tree<'a> {
    fn new(spans: Vec<&'a Span>) -> Self {
        let changes: BTreeSet<SpanId> = spans
            .iter()
            .filter(|span| span.role == Role::Change)
            .map(|span| span.span_id)
            .collect();
        let mut tree = Self {
            tops: Vec::new(),
            below: HashMap::new(),
            rows: HashMap::new(),
            reconciles: HashMap::new(),
        };
        for span in spans {
            let parent = span.parent.filter(|parent| changes.contains(parent));
            match (span.role, parent) {
                (Role::Reconcile, Some(change)) => {
                    tree.reconciles.insert(change, span);
                    continue;
                }
                (_, Some(parent)) => tree.below.entry(parent).or_default().push(span),
                (_, None) => tree.tops.push(span),
            }
            tree.rows.insert(span.span_id, span);
        }
        tree.tops.sort_by_key(|span| order(span));
        tree.below.values_mut().for_each(|spans| spans.sort_by_key(|span| order(span)));
        tree
    }

    /// Draws the row of a span and all rows below it.
    fn draw(
        &self,
        span: &Span,
        position: RowPosition,
        edges: Edges<'_>,
        style: Style,
        text: &mut String,
    ) {
        let row = match span.role {
            Role::Change | Role::Reconcile => {
                row::change(span, self.reconciles.get(&span.span_id).copied(), position, style)
            }
            Role::Stuck => row::stuck(span, position, style),
            Role::Late => {
                let change = span.parent.and_then(|parent| self.rows.get(&parent)).copied();
                row::late(span, change, position, style)
            }
            Role::Phase | Role::Projection => return,
        };
        *text += edges.first;
        *text += &row;
        *text += edges.above;
        text.push('\n');
        let below = self.below.get(&span.span_id).map_or(&[][..], Vec::as_slice);
        for (index, span) in below.iter().enumerate() {
            let is_last = index + 1 == below.len();
            let (branch, beside) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            let rest = edges.rest;
            let (first, rest) = (format!("{rest}{branch}"), format!("{rest}{beside}"));
            let edges = Edges { first: &first, rest: &rest, above: "" };
            self.draw(span, RowPosition::Below, edges, style, text);
        }
    }
}

/// The lines beside the rows of a span and of those below it.
#[derive(Clone, Copy, Default)]
struct Edges<'a> {
    /// Before the row of the span.
    first: &'a str,
    /// Before every row below it.
    rest: &'a str,
    /// After the row of the span: the head that is above it.
    above: &'a str,
}

/// Orders spans by time. Times from the API are whole seconds, so many are equal.
fn order(span: &Span) -> (Timestamp, &str, &str, Option<i64>, SpanId) {
    let generation = Attribute::find_int(&span.attributes, "spanlink.generation");
    (span.start, &span.object.kind.kind, &span.object.name, generation, span.span_id)
}
