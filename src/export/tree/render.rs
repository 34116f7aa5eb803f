//! Draws the trees of finished spans.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    row::{self, Place},
    style::Style,
};
use crate::trace::model::{
    span::{Role, Span, SpanId, TraceId},
    time::Timestamp,
};

/// A tree each trace, the earliest first. Spans whose parents are not among these stand at the
/// top. An exact repeat of a span is drawn once.
pub fn render(spans: &[Span], style: Style) -> String {
    let mut traces: BTreeMap<TraceId, Vec<&Span>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    // Rows are changes; their steps are for waterfalls, and projections in somebody else's trace.
    let rows = |span: &&Span| !matches!(span.role, Role::Phase | Role::Projection);
    for span in spans.iter().filter(rows) {
        if seen.insert((span.trace_id, span.span_id)) {
            traces.entry(span.trace_id).or_default().push(span);
        }
    }
    let mut trees: Vec<Tree<'_>> = traces.into_values().map(Tree::new).collect();
    trees.sort_by_key(|tree| tree.tops.first().map(|top| order(top)));
    let mut text = String::new();
    for tree in trees {
        for top in &tree.tops {
            tree.draw(top, Place::Top, "", "", style, &mut text);
        }
    }
    text
}

/// The spans of one trace that have a row, by where they stand.
struct Tree<'a> {
    tops: Vec<&'a Span>,
    below: HashMap<SpanId, Vec<&'a Span>>,
    rows: HashMap<SpanId, &'a Span>,
    /// By the change they belong to.
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

    /// The row of a span and all below it. `first` stands before its row, `rest` before the others.
    fn draw(
        &self,
        span: &Span,
        place: Place,
        first: &str,
        rest: &str,
        style: Style,
        text: &mut String,
    ) {
        let row = match span.role {
            Role::Change | Role::Reconcile => {
                row::change(span, self.reconciles.get(&span.span_id).copied(), place, style)
            }
            Role::Stuck => row::stuck(span, place, style),
            Role::Late => {
                let change = span.parent.and_then(|parent| self.rows.get(&parent)).copied();
                row::late(span, change, place, style)
            }
            Role::Phase | Role::Projection => return,
        };
        *text += first;
        *text += &row;
        text.push('\n');
        let below = self.below.get(&span.span_id).map_or(&[][..], Vec::as_slice);
        for (at, span) in below.iter().enumerate() {
            let (branch, beside) =
                if at + 1 == below.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            let (first, rest) = (format!("{rest}{branch}"), format!("{rest}{beside}"));
            self.draw(span, Place::Below, &first, &rest, style, text);
        }
    }
}

/// By time; the API's own times are whole seconds, so there are many of the same.
fn order(span: &Span) -> (Timestamp, &str, &str, Option<i64>, SpanId) {
    let generation = row::int(&span.attributes, "spanlink.generation");
    (span.start, &span.object.kind.kind, &span.object.name, generation, span.span_id)
}
