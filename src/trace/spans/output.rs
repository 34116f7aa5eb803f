//! What follows from an event: spans to export, and facts to count.

use std::time::Duration;

use crate::trace::{
    model::{id::Verb, object::GroupKind, span::Span},
    progress::outcome::Outcome,
};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    pub spans: Vec<Span>,
    pub metrics: Vec<TraceMetric>,
}

/// Something that happened and is counted.
#[derive(Clone, Debug, PartialEq)]
pub enum TraceMetric {
    Change {
        kind: GroupKind,
        verb: Verb,
    },
    /// A change that is excluded from export.
    Ignored {
        kind: GroupKind,
    },
    /// A change whose owner is not tracked: its kind is not watched, or it was deleted long ago.
    OwnerUnknown {
        kind: GroupKind,
    },
    /// A context annotation was read.
    Extracted {
        kind: GroupKind,
        valid: bool,
    },
    Link {
        role: &'static str,
    },
    Opened,
    Closed {
        kind: GroupKind,
        outcome: Outcome,
        took: Duration,
    },
    /// A cause was decided after the wait, without news of the owner.
    OwnerWaitTimeout,
    /// Content changed in the same generation.
    ContentWithoutGeneration,
    /// A generation went back.
    GenerationRollback,
    /// Generations that were overwritten before they were observed.
    MissedGenerations {
        generations: i64,
    },
    /// A bounded table was full: by the name of the bound.
    BoundReached {
        bound: &'static str,
    },
}
