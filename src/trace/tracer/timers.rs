//! The next deadline of each object.

use std::time::Duration;

use crate::trace::{
    model::{object::Uid, time::Timestamp},
    object::{change::Change, retention, tracked::TrackedObject},
    progress::phase_tables,
    rules::{Limits, Rules},
    tracer::{announce::announced_at, trace::Trace},
};

/// A deleted object stays a possible cause for this long.
const DELETED_MEMORY: Duration = Duration::from_mins(15);
/// A deleted Pod, which causes next to nothing, is forgotten sooner.
const DELETED_POD_MEMORY: Duration = Duration::from_mins(1);

/// Sets the object's timer by the deadlines of its changes.
pub(super) fn reschedule(trace: &mut Trace, uid: &Uid) {
    let Some(object) = trace.state.objects.get(uid) else { return };
    let deadlines = object
        .changes
        .iter()
        .zip(limits_of_changes(object, &trace.rules))
        .filter_map(|(change, of)| change.convergence.deadline(&of, change.is_decided()));
    let forgettable =
        (0..object.changes.len()).filter_map(|index| retention::forgettable_at(object, index));
    let settle = limits(object, &trace.rules).settle;
    let announced = object.changes.iter();
    let announced = announced.filter_map(|change| announced_at(change, settle));
    let next = deadlines.chain(announced).chain(forgettable).chain(forget_at(object)).min();
    trace.state.objects.reschedule(uid, next);
}

pub(super) fn limits(object: &TrackedObject, rules: &Rules) -> Limits {
    rules.limits(object.kind(), object.spec.progress_deadline_seconds)
}

/// The limits of each change: a Pod that shall succeed may run for as long as a Job.
pub(super) fn limits_of_changes(object: &TrackedObject, rules: &Rules) -> Vec<Limits> {
    let of_object = limits(object, rules);
    let of_run = object.is("", "Pod").then(|| rules.limits_of_run(object.kind()));
    let of_change = |change: &Change| {
        let is_running = change.open_phase().is_some_and(|phase| phase.name == phase_tables::RUN);
        of_run.filter(|_| is_running).unwrap_or(of_object)
    };
    object.changes.iter().map(of_change).collect()
}

/// When a deleted object is forgotten.
pub(super) fn forget_at(object: &TrackedObject) -> Option<Timestamp> {
    let memory = if object.is("", "Pod") { DELETED_POD_MEMORY } else { DELETED_MEMORY };
    Some(object.gone?.plus(memory))
}
