//! Where the spans of a command go: the option `--to`.

use std::io;

use clap::ValueEnum;

use crate::export::{
    encode::Encoder,
    sink::Sink,
    tree::{Progress, Style},
};

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
    /// The sink that accepts spans for this destination. `progress` is for trees.
    pub(super) fn sink(self, encoder: Encoder, progress: Progress) -> Sink {
        let output = Box::new(io::stdout());
        match self {
            Self::Otlp => Sink::Otlp(encoder),
            Self::Tree => Sink::tree(Style::for_output(&io::stdout()), progress, output),
            Self::Json => Sink::Json(encoder, output),
        }
    }
}
