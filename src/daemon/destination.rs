//! Where the spans of a command go: the option `--to`.

use std::io;

use clap::ValueEnum;

use crate::export::{encode::Encoder, sink::Sink, tree::Style};

/// Where spans go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Destination {
    /// Export by OTLP to a collector, Jaeger or Tempo.
    Otlp,
    /// Print indented trees for people to read.
    Tree,
    /// Print OTLP/JSON, one request per line.
    Json,
}

impl Destination {
    /// The sink that accepts spans for this destination.
    pub(super) fn sink(self, encoder: Encoder) -> Sink {
        match self {
            Self::Otlp => Sink::Otlp(encoder),
            Self::Tree => Sink::tree(Style::of(&io::stdout()), Box::new(io::stdout())),
            Self::Json => Sink::Json(encoder, Box::new(io::stdout())),
        }
    }
}
