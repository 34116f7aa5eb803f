//! How a convergence ended.

use serde::{Deserialize, Serialize};

use crate::trace::model::time::Timestamp;

/// How a convergence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub enum Outcome {
    Converged,
    Failed,
    Superseded,
    Deleted,
    TimedOut,
    Paused,
    Unknown,
}

impl Outcome {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Converged => "converged",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
            Self::Deleted => "deleted",
            Self::TimedOut => "timed_out",
            Self::Paused => "paused",
            Self::Unknown => "unknown",
        }
    }
}

/// The end of a convergence.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Ended {
    pub outcome: Outcome,
    pub at: Timestamp,
    pub reason: Box<str>,
    pub message: Box<str>,
    /// It held for the settle window, so events of everything it caused have arrived.
    pub settled: bool,
    /// It rests only on the controller's having observed the generation.
    pub is_thin: bool,
}

impl Ended {
    pub fn new(outcome: Outcome, at: Timestamp) -> Self {
        Self { outcome, at, reason: "".into(), message: "".into(), settled: false, is_thin: false }
    }
}
