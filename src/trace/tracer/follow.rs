//! Follows convergences: with each observed status, and with time.

use std::time::Duration;

use crate::trace::{
    model::{
        id::ChangeKey,
        kind::{self, ChangeDetection},
        object::Uid,
        observation::{Observation, SpecFacts, StatusFacts},
        time::Timestamp,
    },
    object::{
        change::{Change, ContextUse, Scope},
        retention,
        tracked::TrackedObject,
    },
    progress::{
        convergence::{News, Outcome},
        phase::PhaseInput,
    },
    readiness::{
        kstatus,
        problem::{self, Problem},
        status::{Evidence, Status},
    },
    rules::{Limits, Rules},
    spans::links,
    tracer::{Tracer, episodes},
};

/// A deleted object stays a possible cause for this long.
const DELETED_MEMORY: Duration = Duration::from_mins(15);
/// A deleted Pod, which causes next to nothing, is forgotten sooner.
const DELETED_POD_MEMORY: Duration = Duration::from_mins(1);

impl Tracer {
    pub(super) fn observe_status(&mut self, observation: &Observation) {
        let uid = &observation.object.uid;
        let status = &observation.status;
        let Some(object) = self.state.objects.get_mut(uid) else { return };
        let (was_current, fingerprint) = (object.was_current, object.status_fingerprint);
        object.read_status(observation);
        let verdict = verdict(object, observation, &self.rules);
        if was_current {
            self.begin_episode(observation, &verdict, fingerprint);
        }
        let Some(object) = self.state.objects.get_mut(uid) else { return };
        object.was_current = matches!(verdict, Status::Current { .. });
        let has_failed_job = matches!(verdict, Status::Failed { .. }) && object.is("batch", "Job");
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
        let news = StatusNews {
            observation,
            spec: &object.spec,
            verdict,
            problem: problem::problem(&observation.object.kind, status),
            progress: kstatus::progress(&observation.object.kind, status),
        };
        let open = object.changes.iter_mut().filter(|change| !change.convergence.is_over());
        let followed: Vec<(ChangeKey, Followed)> =
            open.map(|change| (change.key.clone(), news.follow(change))).collect();
        let is_autoscaler = object.is_autoscaler();
        let is_lost = status.phase.as_deref() == Some("Failed");
        let is_newly_lost = is_lost && !std::mem::replace(&mut object.has_failed, is_lost);
        let owner = object.owner.as_ref().filter(|_| is_newly_lost).map(|owner| owner.uid.clone());
        for (key, followed) in followed {
            self.emitter().emit_phases(&key);
            if followed.is_current {
                self.record_current(&key);
            }
            if let Some(news) = followed.news {
                self.emit_news(&key, &news);
            }
        }
        if is_autoscaler {
            self.link_scaled_object(uid);
        }
        if let Some(owner) = owner {
            let at = observation.at.whole_second();
            self.record_lost_pod(uid, &owner, observation.resource_version, at, None);
        }
    }

    /// The status of an autoscaler can explain a change of its target.
    fn link_scaled_object(&mut self, autoscaler: &Uid) {
        let objects = &self.state.objects;
        let target = objects.get(autoscaler).and_then(|object| {
            let target = object.references.as_ref()?.scales.as_ref()?;
            Some(objects.named(object, target)?.uid().clone())
        });
        if let Some(target) = target {
            self.add_autoscaler_link(&target, autoscaler);
        }
    }

    /// A change is Current, so whatever waited for it was not Current earlier: the watch of the owner
    /// may only have been faster.
    pub(super) fn record_current(&mut self, key: &ChangeKey) {
        let objects = &mut self.state.objects;
        let Some((object, change)) = objects.change(key) else { return };
        let Some(since) = change.convergence.current_since() else { return };
        let phases = change.report().and_then(|report| report.phases.as_ref());
        let since = phases.map_or(since, |phases| phases.reached().max(since));
        let apart = self.rules.owner_wait(object.kind());
        let causes: Vec<ChangeKey> = objects.causes_of(change).cloned().collect();
        for cause in causes {
            if let Some(change) = objects.change_mut(&cause) {
                change.convergence.delay_until(since, apart);
            }
        }
    }

    fn emit_news(&mut self, key: &ChangeKey, news: &News) {
        match news {
            News::Ended => {
                if self.settle_short_episode(key) {
                    self.emitter().close_convergence(key);
                }
            }
            News::Late { at } => self.emitter().emit_late(key, *at),
        }
    }

    /// A timer of the object has expired.
    pub(super) fn fire_timer(&mut self, uid: &Uid, now: Timestamp) {
        let Some(object) = self.state.objects.get_mut(uid) else { return };
        if forget_at(object).is_some_and(|at| at <= now) {
            self.forget(uid);
            return;
        }
        let limits = limits(object, &self.rules);
        let mut news = Vec::new();
        let mut stuck = Vec::new();
        for change in &mut object.changes {
            news.extend(change.convergence.expire(now, &limits).map(|n| (change.key.clone(), n)));
            let is_decided = change.is_decided();
            let is_open = change.convergence.is_open();
            if let Some(active) = change.convergence.active_problem_mut()
                && is_open
                && !active.reported
                && is_decided
                && active.since.plus(limits.stuck_after) <= now
            {
                active.reported = true;
                stuck.push(change.key.clone());
            }
        }
        let lasting = object.changes.iter().filter(|change| {
            episodes::announced_at(change, limits.settle).is_some_and(|at| at <= now)
                || stuck.contains(&change.key)
        });
        let lasting: Vec<ChangeKey> = lasting.map(|change| change.key.clone()).collect();
        for key in lasting {
            self.announce_episode(&key);
        }
        for key in stuck {
            self.emitter().emit_stuck(&key, now, &limits);
        }
        for (key, news) in news {
            self.emit_news(&key, &news);
        }
        self.state.objects.forget_old_changes(uid, now);
        self.reschedule(uid);
    }

    /// Sets the object's timer by the deadlines of its changes.
    pub(super) fn reschedule(&mut self, uid: &Uid) {
        let Some(object) = self.state.objects.get(uid) else { return };
        let limits = limits(object, &self.rules);
        let deadlines = object
            .changes
            .iter()
            .filter_map(|change| change.convergence.deadline(&limits, change.is_decided()));
        let forgettable =
            (0..object.changes.len()).filter_map(|index| retention::forgettable_at(object, index));
        let announced = object.changes.iter();
        let announced =
            announced.filter_map(|change| episodes::announced_at(change, limits.settle));
        let next = deadlines.chain(announced).chain(forgettable).chain(forget_at(object)).min();
        self.state.objects.reschedule(uid, next);
    }
}

fn limits(object: &TrackedObject, rules: &Rules) -> Limits {
    rules.limits(object.kind(), object.spec.progress_deadline_seconds)
}

/// When a deleted object is forgotten.
fn forget_at(object: &TrackedObject) -> Option<Timestamp> {
    let memory = if object.is("", "Pod") { DELETED_POD_MEMORY } else { DELETED_MEMORY };
    Some(object.gone?.plus(memory))
}

/// An observed status, for each open change of its object.
struct StatusNews<'a> {
    observation: &'a Observation,
    spec: &'a SpecFacts,
    verdict: Status,
    problem: Option<Problem>,
    progress: [i64; 4],
}

/// What followed for one change.
struct Followed {
    news: Option<News>,
    /// It has become Current.
    is_current: bool,
}

impl StatusNews<'_> {
    fn follow(&self, change: &mut Change) -> Followed {
        let status = &self.observation.status;
        let at = self.observation.at;
        if change.scope == Scope::Metadata {
            // Where the kind observes no generation, it is dealt with once the object is Current.
            let is_over =
                is_observed(change, status) || matches!(self.verdict, Status::Current { .. });
            if is_over {
                change.convergence.end(Outcome::Converged, at);
            }
            return Followed { news: is_over.then_some(News::Ended), is_current: false };
        }
        change.convergence.record_status(self.observation.status_fingerprint);
        let problem = self.follow_phases(change);
        // A deletion lasts until the object is gone.
        let verdict = if change.key.is_deletion() { &Status::InProgress } else { &self.verdict };
        let was_current = change.convergence.current_since().is_some();
        let news = change.convergence.observe(verdict, status, problem, self.progress, at);
        let is_current = !was_current && change.convergence.current_since().is_some();
        Followed { news, is_current }
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
            problem: problem.as_ref(),
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

/// The verdict about a status, seen against the newest change of the spec.
fn verdict(object: &mut TrackedObject, observation: &Observation, rules: &Rules) -> Status {
    let of_a_job = object.owner.as_ref().is_some_and(|owner| owner.kind.is("batch", "Job"));
    let newest = object.changes.iter_mut().rev().find(|change| change.is_of_live_spec());
    // An object that existed at the start has no change: any status is evidence.
    let written_since = newest.map_or(observation.status.present, |newest| {
        newest.convergence.record_status(observation.status_fingerprint)
    });
    let kind = &observation.object.kind;
    kstatus::judge(&Evidence {
        kind,
        spec: &object.spec,
        status: &observation.status,
        generation: object
            .target
            .filter(|_| kind::change_detection(kind) == ChangeDetection::Generation),
        written_since,
        of_a_job,
        status_field: rules.status_field(kind),
    })
}
