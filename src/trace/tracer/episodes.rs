//! Episodes: work that no change of the spec began, followed like a change (`docs/causes.md`,
//! Episodes).

use crate::trace::{
    model::{
        id::{ChangeKey, Verb},
        object::Uid,
        observation::{Observation, StatusFacts},
        time::Timestamp,
    },
    object::{
        change::{Change, Report, SpanRef},
        new_change::new_change,
        tracked::TrackedObject,
    },
    progress::outcome::Outcome,
    readiness::{judgement::Judgement, status::Status},
    rules::Rules,
    spans::output::TraceMetric,
    tracer::Tracer,
};

impl Tracer {
    /// Begins an episode where a status shows that an object which was Current is at work or has
    /// failed, and no change of it is in flight. `fingerprint` is that of the status before.
    pub(super) fn begin_episode(
        &mut self,
        observation: &Observation,
        judgement: &Judgement,
        fingerprint: u64,
    ) {
        let uid = &observation.object.uid;
        let Some(object) = self.state.objects.get(uid) else { return };
        if !is_left_by(object, &judgement.status, &self.rules) {
            return;
        }
        let (at, version) = (observation.at, observation.resource_version);
        let key = ChangeKey {
            uid: uid.clone(),
            epoch: object.epoch,
            verb: Verb::Reconcile,
            step: version,
        };
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
        self.state.objects.forget_old_changes(uid, at);
        self.make_room(uid);
        self.state.objects.push_change(change);
        self.state.watches.queue(watch, version, key);
    }

    /// Exports the change span of an episode, and counts it, once it has lasted or caused something.
    pub(super) fn announce_episode(&mut self, key: &ChangeKey) {
        let Some((object, change)) = self.state.objects.change(key) else { return };
        let is_held_back = change.report().is_some_and(|report| report.is_held_back);
        if !is_held_back || !change.is_decided() {
            return;
        }
        let kind = object.kind().clone();
        let metrics = [TraceMetric::Change { kind, verb: key.verb }, TraceMetric::Opened];
        self.out.metrics.extend(metrics.into_iter().filter(|_| !change.ignored));
        if let Some(report) = self.state.objects.report_mut(key) {
            report.is_held_back = false;
        }
        self.emitter().emit_head(key);
    }

    /// A change links to its owner's episode, which then has to have a span.
    pub(super) fn announce_linked_episode(&mut self, owner: &Uid, span: SpanRef) {
        let Some(object) = self.state.objects.get(owner) else { return };
        let is_linked = |change: &&Change| {
            change.is_episode() && change.decision().is_some_and(|of| of.span() == span)
        };
        if let Some(key) = object.changes.iter().find(is_linked).map(|change| change.key.clone()) {
            self.announce_episode(&key);
        }
    }

    /// An episode has ended before it was exported: it was one if it failed, and otherwise the object
    /// only flapped. Returns whether it was.
    pub(super) fn settle_short_episode(&mut self, key: &ChangeKey) -> bool {
        let Some((_, change)) = self.state.objects.change(key) else { return false };
        if change.report().is_none_or(|report| !report.is_held_back) {
            return true;
        }
        let outcome = change.convergence.ended().map(|ended| ended.outcome);
        match outcome {
            Some(Outcome::Failed | Outcome::TimedOut | Outcome::Superseded) => {
                self.announce_episode(key);
                true
            }
            Some(Outcome::Converged | Outcome::Paused | Outcome::Deleted | Outcome::Unknown) => {
                self.state.objects.remove_change(key);
                false
            }
            None => true,
        }
    }
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

/// When an episode is exported if nothing else happens; `None` where it is, or is Current again.
pub(super) fn announced_at(change: &Change, settle: std::time::Duration) -> Option<Timestamp> {
    let is_held_back = change.report().is_some_and(|report| report.is_held_back);
    let lasts = is_held_back && change.is_decided() && change.convergence.is_waiting();
    lasts.then(|| change.received.plus(settle))
}
