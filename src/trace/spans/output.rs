//! The output for one event: spans to export, and updates of metrics.

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

/// An update of a metric.
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
    /// A context was read.
    Extracted {
        kind: GroupKind,
        valid: bool,
        /// Its flag `sampled`; false where it is invalid.
        sampled: bool,
    },
    Link {
        role: &'static str,
    },
    /// A convergence has started.
    Opened,
    /// A convergence has reached its outcome.
    Closed {
        kind: GroupKind,
        outcome: Outcome,
        took: Duration,
    },
    /// A cause was decided after the wait, before the watch of the owner had caught up.
    OwnerWaitTimeout,
    /// Content changed in the same generation.
    ContentWithoutGeneration,
    /// A generation went back.
    GenerationRollback,
    /// Generations that were overwritten before they were observed.
    MissedGenerations {
        generations: i64,
    },
    /// A bounded table was full.
    BoundReached {
        bound: Bound,
    },
}

/// A bounded table or list of the trace (`docs/architecture.md`, Bounds).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Changes of one object.
    Changes,
    /// Context values, or contexts that wait for their generation or for a resumed rollout, of one
    /// object.
    Contexts,
    /// Leaves of an object that was updated.
    Leaves,
    /// Links of an exported span.
    Links,
    PodLosses,
    ReportedProblems,
    UnclaimedEvents,
}

impl Bound {
    pub const ALL: [Self; 7] = [
        Self::Changes,
        Self::Contexts,
        Self::Leaves,
        Self::Links,
        Self::PodLosses,
        Self::ReportedProblems,
        Self::UnclaimedEvents,
    ];

    /// The label `bound` of `spanlink_trace_bounds_reached_total`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Changes => "changes",
            Self::Contexts => "contexts",
            Self::Leaves => "leaves",
            Self::Links => "links",
            Self::PodLosses => "pod_losses",
            Self::ReportedProblems => "reported_problems",
            Self::UnclaimedEvents => "unclaimed_events",
        }
    }
}

impl Output {
    /// Counts a bound where it was reached.
    pub(crate) fn count_bound(&mut self, bound: Bound, is_reached: bool) {
        if is_reached {
            self.metrics.push(TraceMetric::BoundReached { bound });
        }
    }
}
