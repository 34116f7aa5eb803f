//! Episodes: work that no change of the spec began, followed like a change (`docs/causes.md`,
//! Episodes).

use crate::trace::{
    model::{
        id::{ChangeKey, Verb},
        observation::{Observation, StatusFacts},
    },
    object::{
        change::{Change, Report},
        new_change::new_change,
        tracked::TrackedObject,
    },
    readiness::{judgement::Judgement, status::Status},
    rules::Rules,
    tracer::{changes::make_room, trace::Trace},
};

/// Begins an episode where a status shows that an object which was Current is at work or has
/// failed, and no change of it is in flight. `fingerprint` is that of the status before.
pub(super) fn begin_episode(
    trace: &mut Trace,
    observation: &Observation,
    judgement: &Judgement,
    fingerprint: u64,
) {
    let uid = &observation.object.uid;
    let Some(object) = trace.state.objects.get(uid) else { return };
    if !is_left_by(object, &judgement.status, &trace.rules) {
        return;
    }
    let (at, version) = (observation.at, observation.resource_version);
    let key =
        ChangeKey { uid: uid.clone(), epoch: object.epoch, verb: Verb::Reconcile, step: version };
    let report = Report {
        is_held_back: true,
        reason: judgement
            .why
            .as_ref()
            .map(|why| why.reason.clone())
            .or_else(|| reason_of(&observation.status)),
        ..Report::default()
    };
    let mut change = new_change(object, key.clone(), version, at, at.whole_second(), report);
    change.generation = None;
    // It carries no context.
    change.value = None;
    change.convergence.wait_since(fingerprint);
    let watch = object.watch;
    trace.state.objects.forget_old_changes(uid, at);
    make_room(trace, uid);
    trace.state.objects.push_change(change);
    trace.state.watches.queue(watch, version, key);
}

/// Whether the object leaves Current by a status, with nothing else that accounts for it.
fn is_left_by(object: &TrackedObject, verdict: &Status, rules: &Rules) -> bool {
    // A failure lasts where the object was Current for less than the settle window since.
    let is_followed = |change: &Change| {
        change.until.is_none() || change.convergence.is_open() || change.convergence.is_lingering()
    };
    let accounts_for_it =
        |change: &Change| change.key.is_deletion() || (change.is_of_work() && is_followed(change));
    matches!(verdict, Status::InProgress | Status::Failed { .. })
        && rules.has_episodes(object.kind())
        && object.gone.is_none()
        && !object.is_terminating
        && !object.is_ignored
        && !object.changes.iter().any(accounts_for_it)
}

/// The reason of the condition that changed last, else the phase.
fn reason_of(status: &StatusFacts) -> Option<Box<str>> {
    let latest = status.conditions.iter().max_by_key(|condition| condition.last_transition);
    let reason = latest.map(|condition| condition.reason_or_kind().into());
    reason.or_else(|| status.reason.clone()).or_else(|| status.phase.clone())
}
