//! Where finished spans go: the receiver's outbox, a tree for people, or JSON lines.

use std::{fmt, io};

use bytes::Bytes;

use super::{
    encode::Encoder,
    json,
    tree::{Live, Style},
};
use crate::trace::model::{span::Span, time::Timestamp};

/// One of the ways out, chosen at the start (`--to`).
pub enum Sink {
    /// Makes records for the outbox.
    Otlp(Encoder),
    Tree(Live, Out),
    Json(Encoder, Out),
}

/// Mostly standard output.
pub type Out = Box<dyn io::Write + Send>;

impl Sink {
    pub fn tree(style: Style, out: Out) -> Self {
        Self::Tree(Live::new(style), out)
    }

    /// Takes finished spans. Returns what is to wait in the outbox: a record each span, or nothing
    /// where they have been printed.
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
            Self::Tree(live, out) => print(out, &live.accept(spans, now))?,
            Self::Json(encoder, out) => print(out, &(json::line(&spans, encoder) + "\n"))?,
        }
        Ok(Vec::new())
    }

    /// Time has passed: prints what is due. Several times a second is enough.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn tick(&mut self, now: Timestamp) -> io::Result<()> {
        match self {
            Self::Tree(live, out) => print(out, &live.tick(now)),
            Self::Otlp(_) | Self::Json(..) => Ok(()),
        }
    }

    /// Prints what is not printed yet, due or not.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Tree(live, out) => print(out, &live.finish()),
            Self::Otlp(_) | Self::Json(..) => Ok(()),
        }
    }
}

fn print(out: &mut Out, text: &str) -> io::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    out.write_all(text.as_bytes())?;
    out.flush()
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
    fn otlp_makes_a_record_of_each_span() {
        let mut sink = Sink::Otlp(encoder());
        let spans = vec![span("s", "a"), span("s", "b")];
        let expected: Vec<Bytes> = spans.iter().map(|span| encoder().record(span)).collect();
        assert_eq!(sink.accept(spans, START).unwrap(), expected);
    }

    #[test]
    fn json_is_a_line_each_time() {
        let printed = Printed::default();
        let mut sink = Sink::Json(encoder(), Box::new(printed.clone()));
        for name in ["a", "b"] {
            assert!(sink.accept(vec![span("s", name)], START).unwrap().is_empty());
        }
        assert!(sink.accept(Vec::new(), START).unwrap().is_empty());
        assert_eq!(printed.text().lines().count(), 2);
    }

    #[test]
    fn a_tree_is_printed_when_it_is_due_or_at_the_end() {
        let printed = Printed::default();
        let mut sink = Sink::tree(Style::STABLE, Box::new(printed.clone()));
        let mut span = span("s", "create Deployment");
        span.attributes.push(text("spanlink.outcome", "converged"));
        sink.accept(vec![span], START).unwrap();
        sink.tick(START).unwrap();
        assert_eq!(printed.text(), "");
        sink.finish().unwrap();
        assert_eq!(printed.text(), "create Deployment shop/web g1 -> converged\n");
    }
}
