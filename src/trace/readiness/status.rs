//! Verdicts about a status, and the evidence they rest on.

use crate::trace::{
    model::{
        object::GroupKind,
        observation::{Condition, SpecFacts, StatusFacts},
        time::Timestamp,
    },
    rules::status_field::StatusFieldRule,
};

/// The verdict about an object, for one of its changes.
#[derive(Clone, Debug, PartialEq)]
pub enum Status {
    /// The change is done; since when, where a condition has the time.
    Current {
        since: Option<Timestamp>,
    },
    InProgress,
    /// Paused, as the spec asks.
    Paused,
    /// Paused by the controller, or by a person in a way the spec does not show: it will continue.
    OnHold,
    Failed {
        reason: Box<str>,
        message: Box<str>,
        since: Option<Timestamp>,
    },
    /// The status holds no evidence for the change.
    Unknown,
}

/// Everything that a verdict depends on.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    pub kind: &'a GroupKind,
    pub spec: &'a SpecFacts,
    pub status: &'a StatusFacts,
    /// The generation of the change; `None` for kinds without one.
    pub generation: Option<i64>,
    /// A status was written after the change.
    pub written_since: bool,
    /// A Pod that shall succeed rather than keep running ([`is_to_finish`]).
    ///
    /// [`is_to_finish`]: crate::trace::readiness::kstatus::is_to_finish
    pub is_to_finish: bool,
    /// No controller writes a status for the kind, as far as is known.
    pub is_data_only: bool,
    /// The configured rule of the kind (option `converges`).
    pub status_field: Option<&'a StatusFieldRule>,
}

/// The newest generation that the controller reports as observed.
pub(crate) fn observed(status: &StatusFacts) -> Option<i64> {
    let conditions = status.conditions.iter().chain(&status.of_parents);
    conditions.map(|c| c.observed_generation).chain([status.observed_generation]).max().flatten()
}

/// Whether the controller reports a generation as observed.
pub(crate) fn is_observed(status: &StatusFacts, generation: Option<i64>) -> bool {
    generation.is_some() && observed(status) >= generation
}

/// Whether the condition was written for an older generation than the change's.
pub(crate) fn is_older(condition: &Condition, e: &Evidence<'_>) -> bool {
    matches!((condition.observed_generation, e.generation), (Some(of), Some(now)) if of < now)
}

/// The condition of a kind.
pub fn condition<'a>(status: &'a StatusFacts, kind: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| &*condition.kind == kind)
}

/// Why a Pod is being removed: eviction, preemption, a lost node
/// ([Pod disruption conditions](https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions)).
pub fn disruption(status: &StatusFacts) -> Option<Box<str>> {
    let condition = condition(status, "DisruptionTarget")?;
    (&*condition.status == "True").then(|| condition.reason.clone())
}
