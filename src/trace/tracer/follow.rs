//! Follows convergences: with each observed status, and with time.

use crate::trace::{
    model::{
        id::ChangeKey,
        kind::{self, ChangeDetection, is_built_in},
        object::Uid,
        observation::{Observation, SpecFacts, StatusFacts, WatchId},
        time::Timestamp,
    },
    object::{
        change::{Change, ContextUse, Scope},
        tracked::TrackedObject,
    },
    progress::{
        convergence::Transition,
        evidence::{Progress, Weighed},
        outcome::Outcome,
        phase::PhaseInput,
    },
    readiness::{
        judge,
        judgement::{Judgement, Urgency},
        kstatus,
        problem::{self, Problem},
        status::{Evidence, Status},
    },
    rules::Rules,
    spans::links,
    state::watches::Watches,
    tracer::{
        announce::{announce_episode, announced_at, settle_short_episode},
        decide::record_current,
        emit::Emitter,
        episodes::begin_episode,
        links::link_scaled_object,
        losses::record_lost_pod,
        timers::{forget_at, limits, limits_of_changes, reschedule},
        trace::Trace,
    },
};

pub(super) fn observe_status(trace: &mut Trace, observation: &Observation) {
    let uid = &observation.object.uid;
    let status = &observation.status;
    let Some(object) = trace.state.objects.get_mut(uid) else { return };
    let is_data_only = is_data_only(&mut trace.state.watches, object.watch, observation);
    let (was_current, fingerprint) = (object.was_current, object.status_fingerprint);
    object.read_status(observation);
    let (judgement, stands) = judge(object, observation, is_data_only, &trace.rules);
    if was_current {
        begin_episode(trace, observation, &judgement, fingerprint);
    }
    let Some(object) = trace.state.objects.get_mut(uid) else { return };
    let verdict = &judgement.status;
    // A suspended Job has done nothing yet: what is done for it still follows from its change.
    let is_suspended = object.spec.suspended && object.is("batch", "Job");
    object.was_current = stands && matches!(verdict, Status::Current { .. }) && !is_suspended;
    let has_failed_job = matches!(verdict, Status::Failed { .. }) && object.is("batch", "Job");
    if !object.was_current && !is_built_in(object.kind()) {
        // What was Current for less than the settle window had not converged.
        for change in object.changes.iter_mut().filter(|change| change.is_of_live_spec()) {
            if change.convergence.is_held() {
                change.until = None;
            }
        }
    }
    if object.was_current || has_failed_job {
        for change in object.changes.iter_mut().filter(|change| !change.key.is_deletion()) {
            change.until.get_or_insert(observation.resource_version);
        }
    }
    if let Some((key, contexts)) = object.take_observed_contexts(status.observed_generation)
        && let Some(report) = object.change_mut(&key).and_then(Change::report_mut)
    {
        let links = contexts.iter();
        let links = links.map(|context| links::context_link(context, ContextUse::Fresh, false));
        report.late_links.extend(links);
    }
    // Superseded changes too: their Pods may still arrive.
    for change in object.changes.iter_mut().filter(|change| change.revision.is_none()) {
        if is_observed(change, status) {
            change.revision.clone_from(&object.update_revision);
        }
    }
    let update = StatusUpdate {
        observation,
        spec: &object.spec,
        is_to_finish: object.is_to_finish(),
        judgement: &judgement,
        problem: match &judgement.why {
            Some(why) => Some(problem::of_verdict(why)),
            None => problem::problem(&observation.object.kind, status),
        },
        progress: Progress {
            counters: kstatus::progress(&observation.object.kind, status),
            status: status.signals.as_ref().map_or(0, |signals| signals.progress),
        },
    };
    let open = object.changes.iter_mut().filter(|change| !change.convergence.is_over());
    let followed: Vec<(ChangeKey, Followed)> =
        open.map(|change| (change.key.clone(), update.follow(change))).collect();
    let is_autoscaler = object.is_autoscaler();
    let is_lost = status.phase.as_deref() == Some("Failed");
    let is_newly_lost = is_lost && !std::mem::replace(&mut object.has_failed, is_lost);
    let owner = object.owner.as_ref().filter(|_| is_newly_lost).map(|owner| owner.uid.clone());
    for (key, followed) in followed {
        Emitter::of(trace).emit_phases(&key);
        if followed.is_current {
            record_current(trace, &key);
        }
        if let Some(transition) = followed.transition {
            emit_transition(trace, &key, &transition);
        }
    }
    if is_autoscaler {
        link_scaled_object(trace, uid);
    }
    if let Some(owner) = owner {
        let at = observation.at.whole_second();
        record_lost_pod(trace, uid, &owner, observation.resource_version, at, None, None);
    }
}

fn emit_transition(trace: &mut Trace, key: &ChangeKey, transition: &Transition) {
    match transition {
        Transition::Ended => {
            if settle_short_episode(trace, key) {
                Emitter::of(trace).close_convergence(key);
            }
        }
        Transition::Late { at } => Emitter::of(trace).emit_late(key, *at),
    }
}

/// A timer of the object has expired.
pub(super) fn fire_timer(trace: &mut Trace, uid: &Uid, now: Timestamp) {
    let Some(object) = trace.state.objects.get_mut(uid) else { return };
    if forget_at(object).is_some_and(|at| at <= now) {
        trace.state.forget(uid);
        return;
    }
    let of_changes = limits_of_changes(object, &trace.rules);
    let limits = limits(object, &trace.rules);
    let mut transitions = Vec::new();
    let mut stuck = Vec::new();
    for (change, limits) in object.changes.iter_mut().zip(of_changes) {
        if let Some(expired) = change.convergence.expire(now, &limits) {
            // By evidence that had to stand for a while.
            if change.convergence.has_converged() && !is_built_in(&object.reference.kind) {
                change.until.get_or_insert(object.resource_version);
            }
            transitions.push((change.key.clone(), expired));
        }
        let is_decided = change.is_decided();
        let is_open = change.convergence.is_open();
        if let Some(active) = change.convergence.active_problem_mut()
            && is_open
            && !active.reported
            && is_decided
            && active.reportable_at(&limits).is_some_and(|at| at <= now)
        {
            active.reported = true;
            stuck.push(change.key.clone());
        }
    }
    let lasting = object.changes.iter().filter(|change| {
        announced_at(change, limits.settle).is_some_and(|at| at <= now)
            || stuck.contains(&change.key)
    });
    let lasting: Vec<ChangeKey> = lasting.map(|change| change.key.clone()).collect();
    for key in lasting {
        announce_episode(trace, &key);
    }
    for key in stuck {
        Emitter::of(trace).emit_stuck(&key, now, &limits);
    }
    for (key, transition) in transitions {
        emit_transition(trace, &key, &transition);
    }
    trace.state.objects.forget_old_changes(uid, now);
    reschedule(trace, uid);
}

/// An observed status, for each open change of its object.
struct StatusUpdate<'a> {
    observation: &'a Observation,
    spec: &'a SpecFacts,
    is_to_finish: bool,
    judgement: &'a Judgement,
    problem: Option<Problem>,
    progress: Progress,
}

/// The effect of a status on one change.
struct Followed {
    transition: Option<Transition>,
    /// It has become Current.
    is_current: bool,
}

impl StatusUpdate<'_> {
    fn follow(&self, change: &mut Change) -> Followed {
        let status = &self.observation.status;
        let at = self.observation.at;
        if change.scope == Scope::Metadata {
            // Where the kind observes no generation, it is dealt with once the object is Current.
            let is_over = is_observed(change, status)
                || matches!(self.judgement.status, Status::Current { .. });
            if is_over {
                change.convergence.end(Outcome::Converged, at);
            }
            return Followed {
                transition: is_over.then_some(Transition::Ended),
                is_current: false,
            };
        }
        change.convergence.record_status(self.observation.status_fingerprint, at);
        let problem = self.follow_phases(change);
        // A deletion lasts until the object is gone.
        let deletion = Judgement::certain(Status::InProgress);
        let judgement = if change.key.is_deletion() { &deletion } else { self.judgement };
        let verdict = Weighed { judgement, stands: change.convergence.weigh(judgement) };
        let was_current = change.convergence.current_since().is_some();
        let transition = change.convergence.observe(verdict, status, problem, self.progress, at);
        let is_current = !was_current && change.convergence.current_since().is_some();
        Followed { transition, is_current }
    }

    /// Returns the problem that holds the change up.
    fn follow_phases(&self, change: &mut Change) -> Option<Problem> {
        let is_deletion = change.key.is_deletion();
        // A problem that keeps a container from running does not keep its Pod from being deleted.
        let is_unrelated = is_deletion && self.observation.object.kind.is("", "Pod");
        let problem = self.problem.clone().filter(|_| !is_unrelated);
        let generation = change.generation;
        let phases = change.report_mut().and_then(|report| report.phases.as_mut());
        let Some(phases) = phases else { return problem };
        let has_progressed = phases.observe(&PhaseInput {
            status: &self.observation.status,
            spec: self.spec,
            body: self.observation.body.as_deref(),
            generation,
            is_to_finish: self.is_to_finish,
            problem: problem.as_ref().filter(|problem| problem.urgency != Urgency::Working),
            seen: self.observation.at,
        });
        let problem = problem.or_else(|| phases.problem());
        if has_progressed && is_deletion {
            change.convergence.record_progress(self.observation.at);
        }
        problem
    }
}

fn is_observed(change: &Change, status: &StatusFacts) -> bool {
    change.generation.is_some() && status.observed_generation >= change.generation
}

fn is_data_only(watches: &mut Watches, watch: WatchId, observation: &Observation) -> bool {
    if is_built_in(&observation.object.kind) {
        return false;
    }
    if observation.status.present {
        watches.record_status(watch);
    }
    watches.is_data_only(watch)
}

/// The verdict about a status, seen against the newest change of the spec, and whether it counts for
/// that at once.
fn judge(
    object: &mut TrackedObject,
    observation: &Observation,
    is_data_only: bool,
    rules: &Rules,
) -> (Judgement, bool) {
    let is_to_finish = object.is_to_finish();
    let newest = object.changes.iter_mut().rev().find(|change| change.is_of_live_spec());
    // An object that existed at the start has no change: any status is evidence.
    let written_since = newest.map_or(observation.status.present, |newest| {
        newest.convergence.record_status(observation.status_fingerprint, observation.at)
    });
    let kind = &observation.object.kind;
    let judgement = judge::judge(&Evidence {
        kind,
        spec: &object.spec,
        status: &observation.status,
        generation: object
            .target
            .filter(|_| kind::change_detection(kind) == ChangeDetection::Generation),
        written_since,
        is_to_finish,
        is_data_only,
        status_field: rules.status_field(kind),
    });
    object.evidence = judgement.evidence.unwrap_or(0);
    let newest = object.changes.iter_mut().rev().find(|change| change.is_of_live_spec());
    let stands = newest.is_none_or(|newest| newest.convergence.weigh(&judgement));
    (judgement, stands)
}
