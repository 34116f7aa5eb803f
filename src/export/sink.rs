//! Where finished spans go: records for the outbox, trees to read, or JSON lines.

use std::{collections::HashSet, fmt, io};

use bytes::Bytes;

use super::{
    encode::Encoder,
    json,
    tree::{Progress, Style, TreePrinter},
};
use crate::trace::model::{
    span::{Span, TraceId},
    time::Timestamp,
};

/// The destination of spans, chosen at the start (option `--to`).
pub enum Sink {
    /// Encodes records for the outbox.
    Otlp(Encoder),
    Tree(TreePrinter, TextWriter),
    Json(Encoder, TextWriter),
}

/// Where text is printed: standard output, except in tests.
pub type TextWriter = Box<dyn io::Write + Send>;

impl Sink {
    pub fn tree(style: Style, progress: Progress, output: TextWriter) -> Self {
        Self::Tree(TreePrinter::new(style, progress), output)
    }

    /// Accepts finished spans. Returns a record for the outbox per span, or none if the spans are
    /// printed.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn accept(&mut self, spans: Vec<Span>, now: Timestamp) -> io::Result<Vec<Bytes>> {
        if spans.is_empty() {
            return Ok(Vec::new());
        }
        match self {
            Self::Otlp(encoder) => {
                return Ok(spans.iter().map(|span| encoder.record(span)).collect());
            }
            Self::Tree(printer, output) => print(output, &printer.accept(spans, now))?,
            Self::Json(encoder, output) => print(output, &(json::line(&spans, encoder) + "\n"))?,
        }
        Ok(Vec::new())
    }

    /// Prints what is complete by now. Has to be called several times per second. `open_traces` returns
    /// the traces to which spans will be added.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn tick(
        &mut self,
        now: Timestamp,
        open_traces: impl FnOnce() -> HashSet<TraceId>,
    ) -> io::Result<()> {
        match self {
            Self::Tree(printer, output) => print(output, &printer.tick(now, open_traces)),
            Self::Otlp(_) | Self::Json(..) => Ok(()),
        }
    }

    /// Prints everything that is not printed yet, complete or not.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn finish(&mut self, now: Timestamp) -> io::Result<()> {
        match self {
            Self::Tree(printer, output) => print(output, &printer.finish(now)),
            Self::Otlp(_) | Self::Json(..) => Ok(()),
        }
    }
}

fn print(output: &mut TextWriter, text: &str) -> io::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    output.write_all(text.as_bytes())?;
    output.flush()
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Otlp(_) => "Sink::Otlp",
            Self::Tree(..) => "Sink::Tree",
            Self::Json(..) => "Sink::Json",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::samples::{Printed, START, encoder, span, text};

    #[test]
    fn otlp_sink_returns_a_record_per_span() {
        let mut sink = Sink::Otlp(encoder());
        let spans = vec![span("s", "a"), span("s", "b")];
        let expected: Vec<Bytes> = spans.iter().map(|span| encoder().record(span)).collect();
        assert_eq!(sink.accept(spans, START).unwrap(), expected);
    }

    #[test]
    fn json_sink_prints_a_line_per_call() {
        let printed = Printed::default();
        let mut sink = Sink::Json(encoder(), Box::new(printed.clone()));
        for name in ["a", "b"] {
            assert!(sink.accept(vec![span("s", name)], START).unwrap().is_empty());
        }
        assert!(sink.accept(Vec::new(), START).unwrap().is_empty());
        assert_eq!(printed.text().lines().count(), 2);
    }

    #[test]
    fn tree_sink_prints_a_tree_once_it_is_complete_or_at_the_end() {
        let printed = Printed::default();
        let mut sink = Sink::tree(Style::STABLE, Progress::Hidden, Box::new(printed.clone()));
        let mut span = span("s", "create Deployment");
        span.attributes.push(text("spanlink.outcome", "converged"));
        sink.accept(vec![span], START).unwrap();
        sink.tick(START, HashSet::new).unwrap();
        assert_eq!(printed.text(), "");
        sink.finish(START).unwrap();
        assert_eq!(printed.text(), "create Deployment shop/web g1 -> converged\n");
    }
}
