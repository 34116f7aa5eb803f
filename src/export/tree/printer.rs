//! Prints each tree once, when its trace is complete; until then, a line when a head starts or a
//! problem lasts.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    fmt::Write as _,
    time::Duration,
};

use super::{
    render::{Heads, render_with_heads},
    row::{self, RowPosition},
    style::{Colour, Style},
};
use crate::trace::model::{
    span::{Role, Span, SpanId, TraceId},
    time::Timestamp,
};

/// Which lines precede the tree of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A line when a head starts, and one for a stuck object: for a person who is watching.
    Shown,
    /// None, as for a recording: the tree follows at once.
    Hidden,
}

/// Collects spans until their trace is complete, then prints its tree.
///
/// A trace is complete when none of its changes is open and no span has arrived for a while. What
/// arrives still later is printed as a separate tree, whose first row names the head. Only spans of
/// incomplete traces are kept, so the memory does not grow with the time.
#[derive(Debug)]
pub struct TreePrinter {
    style: Style,
    progress: Progress,
    pending: HashMap<TraceId, PendingTrace>,
    /// The number of spans in `pending`.
    span_count: usize,
    printed: PrintedHeads,
}

/// How long after its last span a trace is complete: causes are decided at different times, so spans
/// of one trace arrive within moments of each other.
const QUIET: Duration = Duration::from_secs(1);

/// How long the head of a printed trace is remembered, for spans that arrive later.
const HEAD_MEMORY: Duration = Duration::from_mins(10);

/// Bounds of what is kept. If one is exceeded, the trace that has been quiet for longest is printed
/// incomplete, or the oldest printed head is forgotten.
const TRACES_MAX: usize = 1_000;
const SPANS_MAX: usize = 50_000;
const PRINTED_HEADS_MAX: usize = 10_000;

#[derive(Debug)]
struct PendingTrace {
    spans: BTreeMap<SpanId, Span>,
    /// When its last span arrived.
    last_arrival: Timestamp,
}

impl TreePrinter {
    pub fn new(style: Style, progress: Progress) -> Self {
        Self {
            style,
            progress,
            pending: HashMap::new(),
            span_count: 0,
            printed: PrintedHeads::default(),
        }
    }

    /// Adds finished spans. Returns the text to print at once.
    pub fn accept(&mut self, spans: Vec<Span>, now: Timestamp) -> String {
        let mut text = String::new();
        // Only changes have rows: a projection is in a trace of another system, and phases are drawn
        // by waterfalls.
        let has_row = |span: &Span| !matches!(span.role, Role::Projection | Role::Phase);
        for span in spans.into_iter().filter(has_row) {
            if self.progress == Progress::Shown {
                text += &self.progress_line(&span);
            }
            let trace = self.pending.entry(span.trace_id).or_insert_with(|| PendingTrace::new(now));
            if trace.add(span, now) {
                self.span_count += 1;
            }
        }
        while self.pending.len() > TRACES_MAX
            || (self.span_count > SPANS_MAX && self.pending.len() > 1)
        {
            text += &self.print_quietest(now);
        }
        text
    }

    /// Returns the trees of the traces that are complete by now, the earliest first. `open_traces`
    /// returns the traces to which spans will be added.
    pub fn tick(
        &mut self,
        now: Timestamp,
        open_traces: impl FnOnce() -> HashSet<TraceId>,
    ) -> String {
        self.printed.forget_old(now);
        let mut quiet: Vec<TraceId> = self
            .pending
            .iter()
            .filter(|(_, trace)| trace.is_quiet(now))
            .map(|(trace_id, _)| *trace_id)
            .collect();
        if quiet.is_empty() {
            return String::new();
        }
        let open = open_traces();
        quiet.retain(|trace_id| !open.contains(trace_id));
        self.print(&quiet, now)
    }

    /// Returns the trees of all remaining traces, complete or not.
    pub fn finish(&mut self, now: Timestamp) -> String {
        let traces: Vec<TraceId> = self.pending.keys().copied().collect();
        self.print(&traces, now)
    }

    fn print_quietest(&mut self, now: Timestamp) -> String {
        let quietest = self.pending.iter().min_by_key(|(id, trace)| (trace.last_arrival, **id));
        let Some((&trace_id, _)) = quietest else { return String::new() };
        self.print(&[trace_id], now)
    }

    fn print(&mut self, traces: &[TraceId], now: Timestamp) -> String {
        let mut spans = Vec::new();
        for trace_id in traces {
            if let Some(trace) = self.pending.remove(trace_id) {
                self.span_count -= trace.spans.len();
                spans.extend(trace.spans.into_values());
            }
        }
        let text = render_with_heads(&spans, &self.printed.subjects, self.style);
        for head in spans.iter().filter(|span| span.is_head()) {
            let subject = row::subject(head, RowPosition::Top);
            self.printed.insert(head.trace_id, subject, now);
        }
        text
    }

    /// The line that a span has before its tree.
    fn progress_line(&self, span: &Span) -> String {
        let mut line = String::new();
        match span.role {
            Role::Change if span.is_head() && span.attribute("spanlink.outcome").is_none() => {
                let row = row::change(span, None, RowPosition::Top, self.style);
                let row = row.replacen(" …", "", 1);
                writeln!(line, "{} {row}", self.style.paint(Colour::Yellow, "…"))
            }
            Role::Stuck => {
                let row = row::stuck(span, RowPosition::Top, self.style);
                match self.head_of(span.trace_id) {
                    Some(head) => {
                        writeln!(line, "{row}  {}", row::below_head(&head, self.style))
                    }
                    None => writeln!(line, "{row}"),
                }
            }
            Role::Change | Role::Reconcile | Role::Late | Role::Projection | Role::Phase => Ok(()),
        }
        .expect("writing to a String does not fail");
        line
    }

    fn head_of(&self, trace_id: TraceId) -> Option<String> {
        let pending = self.pending.get(&trace_id);
        let head = pending.and_then(|trace| trace.spans.values().find(|span| span.is_head()));
        head.map(|head| row::subject(head, RowPosition::Top))
            .or_else(|| self.printed.subjects.get(&trace_id).cloned())
    }
}

impl PendingTrace {
    fn new(now: Timestamp) -> Self {
        Self { spans: BTreeMap::new(), last_arrival: now }
    }

    /// Adds a span, unless it is there.
    fn add(&mut self, span: Span, now: Timestamp) -> bool {
        self.last_arrival = now;
        self.spans.insert(span.span_id, span).is_none()
    }

    fn is_quiet(&self, now: Timestamp) -> bool {
        now.since(self.last_arrival) >= QUIET
    }
}

/// The heads of traces that were printed.
#[derive(Debug, Default)]
struct PrintedHeads {
    subjects: Heads,
    /// When each was printed, the oldest first.
    order: VecDeque<(Timestamp, TraceId)>,
}

impl PrintedHeads {
    fn insert(&mut self, trace_id: TraceId, subject: String, now: Timestamp) {
        if self.subjects.insert(trace_id, subject).is_none() {
            self.order.push_back((now, trace_id));
        }
        if self.order.len() > PRINTED_HEADS_MAX {
            self.forget_oldest();
        }
    }

    fn forget_old(&mut self, now: Timestamp) {
        while self.order.front().is_some_and(|(printed, _)| now.since(*printed) >= HEAD_MEMORY) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, trace_id)) = self.order.pop_front() {
            self.subjects.remove(&trace_id);
        }
    }
}
