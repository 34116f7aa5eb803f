//! What follows from a notice: spans to send, and notes to count.

use std::time::Duration;

use crate::trace::{
    model::{id::Verb, object::GroupKind, span::Span},
    progress::convergence::Outcome,
};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    pub spans: Vec<Span>,
    pub notes: Vec<TraceMetric>,
}

/// Something that happened and is worth a metric.
#[derive(Clone, Debug, PartialEq)]
pub enum TraceMetric {
    Change {
        kind: GroupKind,
        verb: Verb,
    },
    /// A change that nobody wants to hear of.
    Ignored {
        kind: GroupKind,
    },
    /// A change whose owner is not known: not watched, or long gone.
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
    /// A change was decided without its owner's watch.
    OwnerLate,
    /// Content moved without a generation.
    Baseline,
    Rewound,
    /// Generations overwritten before they could be seen.
    Gap {
        generations: i64,
    },
}
