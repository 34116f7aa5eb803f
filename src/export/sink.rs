//! Where finished spans go: the receiver's outbox, a tree for people, or JSON lines.

use std::{fmt, io};

use bytes::Bytes;

use super::{
    encode::Encoder,
    json,
    tree::{Live, Style},
};
use crate::trace::{span::Span, time::Timestamp};

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
