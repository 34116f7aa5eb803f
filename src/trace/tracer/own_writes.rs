//! Settles which changes of the spec the object's own controller wrote: they are a part of the change
//! in flight and supersede nothing.

use crate::trace::{
    cause::own_write,
    model::{
        field_manager::{Managers, StatusWriter},
        id::ChangeKey,
        object::Uid,
        observation::Body,
    },
    object::change::{Change, OwnWrite, Scope},
    progress::{convergence::Convergence, outcome::Outcome},
    tracer::{announce::settle_short_episode, emit::Emitter, timers::reschedule, trace::Trace},
};

/// A change of the spec ends what was open of its object before it. It supersedes the newest of
/// those that was not Current.
pub(super) fn overtake_older(trace: &mut Trace, key: &ChangeKey) {
    let Some(object) = trace.state.objects.get_mut(&key.uid) else { return };
    let Some(index) = object.changes.iter().position(|change| change.key == *key) else {
        return;
    };
    let (older, newer) = object.changes.split_at_mut(index);
    let Some(change) = newer.first_mut().filter(|change| !change.ignored) else { return };
    let overtaken: Vec<ChangeKey> = older
        .iter_mut()
        .filter_map(|older| older.convergence.overtake(change.at).then(|| older.key.clone()))
        .collect();
    let superseded = older.iter().rev().find(|older| {
        older.scope == Scope::Spec
            && overtaken.contains(&older.key)
            && older.convergence.ended().is_some_and(|e| e.outcome == Outcome::Superseded)
    });
    if let Some(report) = change.report_mut() {
        report.supersedes = superseded.map(|older| older.key.clone());
    }
    for key in overtaken {
        if settle_short_episode(trace, &key) {
            Emitter::of(trace).close_convergence(&key);
        }
    }
}

/// The status of an object was written: its writer is the controller.
pub(super) fn settle_own_write_by_status(trace: &mut Trace, uid: &Uid, body: &Body) {
    let Some(key) = undetermined_write(trace, uid) else { return };
    let writer = match Managers::parse(&body.managed_fields).status_writer() {
        StatusWriter::Nobody => return,
        StatusWriter::One(writer) => Some(writer),
        StatusWriter::Several => None,
    };
    let Some(change) = trace.state.objects.change_mut(&key) else { return };
    let manager = change.report().and_then(|report| report.manager.as_ref());
    let is_own = manager.is_some_and(|manager| Some(&manager.name) == writer.as_ref());
    settle_own_write(trace, &key, is_own);
}

/// Nothing else will show who the controller is: what it made decides.
pub(super) fn settle_own_write_by_children(trace: &mut Trace, uid: &Uid) {
    let Some(key) = undetermined_write(trace, uid) else { return };
    let objects = &trace.state.objects;
    let Some((object, change)) = objects.change(&key) else { return };
    let is_own = own_write::has_made_child(objects, object, change);
    settle_own_write(trace, &key, is_own);
}

/// An object has at most one: a newer change settles it.
fn undetermined_write(trace: &Trace, uid: &Uid) -> Option<ChangeKey> {
    let changes = &trace.state.objects.get(uid)?.changes;
    let is_undetermined = |change: &&Change| change.own_write == OwnWrite::Undetermined;
    changes.iter().rev().find(is_undetermined).map(|change| change.key.clone())
}

fn settle_own_write(trace: &mut Trace, key: &ChangeKey, is_own: bool) {
    let Some(change) = trace.state.objects.change_mut(key) else { return };
    if is_own {
        become_own_write(change);
    } else {
        change.own_write = OwnWrite::No;
        overtake_older(trace, key);
    }
    reschedule(trace, &key.uid);
}

/// The change is a part of the one in flight: it waits for nothing itself.
pub(super) fn become_own_write(change: &mut Change) {
    change.own_write = OwnWrite::Yes;
    change.convergence = Convergence::over(Outcome::Converged, change.at);
    if let Some(report) = change.report_mut() {
        report.joins = true;
        report.phases = None;
    }
}
