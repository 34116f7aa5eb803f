//! Verdicts about a status, and the evidence they rest on.

use crate::trace::{
    model::{
        object::GroupKind,
        observation::{Condition, SpecFacts, StatusFacts},
        time::Timestamp,
    },
    rules::status_field::StatusFieldRule,
};

/// What kstatus says of an object, seen against one of its changes.
#[derive(Clone, Debug, PartialEq)]
pub enum Status {
    /// Dealt with; since when, where a condition says so.
    Current {
        since: Option<Timestamp>,
    },
    InProgress,
    /// Paused, and the controller has taken note.
    Paused,
    Failed {
        reason: Box<str>,
        message: Box<str>,
        since: Option<Timestamp>,
    },
    /// No status was written that could be evidence of anything.
    Unknown,
}

/// One judgement needs all of this.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    pub kind: &'a GroupKind,
    pub spec: &'a SpecFacts,
    pub status: &'a StatusFacts,
    /// The generation the change made; `None` for kinds without one.
    pub generation: Option<i64>,
    /// A status was written after the change.
    pub written_since: bool,
    /// Kind of the controller owner is Job.
    pub of_a_job: bool,
    /// Where configuration says by what the kind converges.
    pub words: Option<&'a StatusFieldRule>,
}

/// The newest generation that the object's controller says it has observed.
pub(crate) fn observed(status: &StatusFacts) -> Option<i64> {
    let conditions = status.conditions.iter().chain(&status.of_parents);
    conditions.map(|c| c.observed_generation).chain([status.observed_generation]).max().flatten()
}

/// Whether the controller says that it knows of a generation.
pub(crate) fn is_observed(status: &StatusFacts, generation: Option<i64>) -> bool {
    generation.is_some() && observed(status) >= generation
}

pub fn condition<'a>(status: &'a StatusFacts, kind: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| &*condition.kind == kind)
}

/// Why a Pod was made to go: eviction, preemption, a lost node
/// ([Pod disruption conditions](https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions)).
pub fn disruption(status: &StatusFacts) -> Option<Box<str>> {
    let condition = condition(status, "DisruptionTarget")?;
    (&*condition.status == "True").then(|| condition.reason.clone())
}
