//! Trees while things happen: a line when something begins or hangs, the tree when it is over.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    time::Duration,
};

use super::{
    render::render,
    row::{self, Place},
    style::{Colour, Style},
};
use crate::trace::model::{
    span::{Role, Span, SpanId, TraceId},
    time::Timestamp,
};

/// Knows traces until they are printed and for a while after: later spans print them again.
#[derive(Debug)]
pub struct Live {
    style: Style,
    traces: HashMap<TraceId, Trace>,
    spans: usize,
}

/// Spans of one trace often come in several steps, its Pods' and its own outcome within moments.
const QUIET: Duration = Duration::from_secs(1);

/// A printed trace nothing was added to for so long is forgotten.
const KEPT: Duration = Duration::from_mins(10);

/// More make the oldest go, printed as they are.
const TRACES_MAX: usize = 1_000;
const SPANS_MAX: usize = 50_000;

#[derive(Debug)]
struct Trace {
    spans: BTreeMap<SpanId, Span>,
    touched: Timestamp,
    /// Spans it had when it was last printed.
    printed: usize,
}

impl Live {
    pub fn new(style: Style) -> Self {
        Self { style, traces: HashMap::new(), spans: 0 }
    }

    /// Returns what is to be printed at once.
    pub fn accept(&mut self, spans: Vec<Span>, now: Timestamp) -> String {
        let mut text = String::new();
        for span in spans {
            let trace = self.traces.entry(span.trace_id).or_insert_with(|| Trace {
                spans: BTreeMap::new(),
                touched: now,
                printed: 0,
            });
            if trace.spans.contains_key(&span.span_id) {
                continue;
            }
            trace.touched = now;
            text += &trace.at_once(&span, self.style);
            trace.spans.insert(span.span_id, span);
            self.spans += 1;
        }
        while self.traces.len() > TRACES_MAX || (self.spans > SPANS_MAX && self.traces.len() > 1) {
            text += &self.forget_oldest();
        }
        text
    }

    /// Returns the trees that are due, the earliest first.
    pub fn tick(&mut self, now: Timestamp) -> String {
        let due = |trace: &Trace| {
            trace.printed < trace.spans.len()
                && now.since(trace.touched) >= QUIET
                && trace.is_over()
        };
        let text = self.print(due);
        let spans = &mut self.spans;
        self.traces.retain(|_, trace| {
            let keep = trace.printed < trace.spans.len() || now.since(trace.touched) < KEPT;
            if !keep {
                *spans -= trace.spans.len();
            }
            keep
        });
        text
    }

    /// Returns every tree not printed yet, over or not.
    pub fn finish(&mut self) -> String {
        let text = self.print(|trace| trace.printed < trace.spans.len());
        self.traces.clear();
        self.spans = 0;
        text
    }

    fn print(&mut self, which: impl Fn(&Trace) -> bool) -> String {
        let mut spans = Vec::new();
        for trace in self.traces.values_mut().filter(|trace| which(trace)) {
            trace.printed = trace.spans.len();
            spans.extend(trace.spans.values().cloned());
        }
        render(&spans, self.style)
    }

    fn forget_oldest(&mut self) -> String {
        let oldest = self.traces.iter().min_by_key(|(id, trace)| (trace.touched, **id));
        let Some((&id, _)) = oldest else { return String::new() };
        let Some(trace) = self.traces.remove(&id) else { return String::new() };
        self.spans -= trace.spans.len();
        if trace.printed == trace.spans.len() {
            return String::new();
        }
        let spans: Vec<Span> = trace.spans.into_values().collect();
        render(&spans, self.style)
    }
}

impl Trace {
    /// The line a span is worth before its trace is over.
    fn at_once(&self, span: &Span, style: Style) -> String {
        let mut line = String::new();
        match span.role {
            Role::Change if is_open_head(span) => {
                let row = row::change(span, None, Place::Top, style);
                let row = row.replacen(" …", "", 1);
                writeln!(line, "{} {row}", style.paint(Colour::Yellow, "…"))
            }
            Role::Stuck => {
                let row = row::stuck(span, Place::Top, style);
                match self.spans.values().find(|span| span.is_head()) {
                    Some(head) => {
                        let of = format!("({})", row::subject(head, Place::Top));
                        writeln!(line, "{row}  {}", style.paint(Colour::Dim, &of))
                    }
                    None => writeln!(line, "{row}"),
                }
            }
            Role::Change | Role::Reconcile | Role::Late | Role::Projection | Role::Phase => Ok(()),
        }
        .expect("writing to a string does not fail");
        line
    }

    /// Nothing of it is known to be open: its heads have outcomes, or are not known at all.
    fn is_over(&self) -> bool {
        let has_ended = |head: &Span| {
            let is_end =
                |span: &Span| span.role == Role::Reconcile && span.parent == Some(head.span_id);
            !is_open_head(head) || self.spans.values().any(is_end)
        };
        self.spans.values().filter(|span| span.is_head()).all(has_ended)
    }
}

/// A head whose outcome its reconcile span will tell.
fn is_open_head(span: &Span) -> bool {
    span.is_head() && span.attribute("spanlink.outcome").is_none()
}
