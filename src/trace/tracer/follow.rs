//! Follows convergences: by each status that is observed, and by time.

use std::time::Duration;

use crate::trace::{
    model::{
        id::{ChangeKey, Verb},
        kind,
        object::Uid,
        observation::{Observation, SpecFacts, StatusFacts},
        time::Timestamp,
    },
    object::{
        change::{Change, Scope},
        tracked::TrackedObject,
    },
    progress::{
        convergence::{News, Outcome},
        phase::PhaseInput,
    },
    readiness::{
        problem::{self, Problem},
        status::{self, Evidence, Status},
    },
    rules::Rules,
    tracer::{Tracer, kept_until, prune},
};

/// A deleted object stays a cause this long.
const GONE_WAIT: Duration = Duration::from_mins(15);

/// What owns next to nothing is forgotten sooner: what it caused has arrived by then.
const GONE_POD_WAIT: Duration = Duration::from_mins(1);

impl Tracer {
    pub(crate) fn observe_status(&mut self, uid: &Uid, now: &Observation) {
        let Some(known) = self.objects.get_mut(uid) else { return };
        known.read_status(now);
        let verdict = judge(known, now, &self.rules);
        known.was_current = matches!(verdict, Status::Current { .. });
        let finished =
            matches!(verdict, Status::Failed { .. }) && now.object.kind.is("batch", "Job");
        if known.was_current || finished {
            for change in &mut known.changes {
                if change.key.verb != Verb::Delete {
                    change.until.get_or_insert(now.resource_version);
                }
            }
        }
        known.observed(now.status.observed_generation);
        // Also of what was superseded by then: its Pods may still come.
        for change in known.changes.iter_mut().filter(|change| change.revision.is_none()) {
            if is_observed(change, &now.status) {
                change.revision.clone_from(&known.update_revision);
            }
        }
        let seen = StatusNews {
            now,
            spec: &known.spec,
            verdict,
            problem: problem::problem(&now.object.kind, &now.status),
            progress: status::progress(&now.object.kind, &now.status),
        };
        let open = known.changes.iter_mut().filter(|change| !change.convergence.is_over());
        let followed: Vec<(ChangeKey, Followed)> =
            open.map(|change| (change.key.clone(), seen.follow(change))).collect();
        let is_autoscaler = known.references.as_ref().is_some_and(|refs| refs.scales.is_some());
        let is_lost = now.status.phase.as_deref() == Some("Failed");
        let is_news = is_lost && !std::mem::replace(&mut known.has_failed, is_lost);
        let lost_by = known.owner.as_ref().filter(|_| is_news).map(|owner| owner.uid.clone());
        for (key, followed) in followed {
            self.tell_phases(&key);
            if followed.is_done {
                self.note_done(&key);
            }
            if let Some(news) = followed.news {
                self.hear(&key, &news);
            }
        }
        if is_autoscaler {
            self.scaled(uid);
        }
        if let Some(owner) = lost_by {
            self.note_loss(uid, &owner, now.resource_version, now.at.whole_second(), None);
        }
    }

    /// What an owner waited for is Current: so the owner was no earlier, whichever watch was first.
    pub(crate) fn note_done(&mut self, key: &ChangeKey) {
        let Some((known, change)) = self.change(key) else { return };
        let Some(since) = change.convergence.current_since() else { return };
        let road = change.details.as_deref().and_then(|details| details.road.as_ref());
        let since = road.map_or(since, |road| road.reached().max(since));
        let apart = self.rules.owner_wait(&known.object.kind);
        let causes: Vec<ChangeKey> = self.causes_of(change).cloned().collect();
        for cause in causes {
            let known = self.objects.get_mut(&cause.uid);
            if let Some(change) = known.and_then(|known| known.change_mut(&cause)) {
                change.convergence.waited_until(since, apart);
            }
        }
    }

    pub(crate) fn hear(&mut self, key: &ChangeKey, news: &News) {
        match news {
            News::Ended => self.ended(key),
            News::Late { at } => self.tell_late(key, *at),
        }
    }

    /// A timer of this object has run out.
    pub(crate) fn ring(&mut self, uid: &Uid, now: Timestamp) {
        let Some(known) = self.objects.get_mut(uid) else { return };
        known.timer = None;
        let wait = if known.object.kind.is("", "Pod") { GONE_POD_WAIT } else { GONE_WAIT };
        if known.gone.is_some_and(|gone| gone.plus(wait) <= now) {
            self.forget(uid);
            return;
        }
        let limits = self.rules.limits(&known.object.kind, known.spec.progress_deadline_seconds);
        let mut news = Vec::new();
        let mut stuck = Vec::new();
        for change in &mut known.changes {
            news.extend(change.convergence.expire(now, &limits).map(|n| (change.key.clone(), n)));
            let is_open = change.convergence.is_open();
            if let Some(trouble) = change.convergence.trouble_mut()
                && is_open
                && !trouble.told
                && change.decided.is_some()
                && trouble.since.plus(limits.stuck_after) <= now
            {
                trouble.told = true;
                stuck.push(change.key.clone());
            }
        }
        for key in stuck {
            self.tell_stuck(&key, now, &limits);
        }
        for (key, what) in news {
            self.hear(&key, &what);
        }
        // What came late was the last that there was to tell of its change.
        if let Some(known) = self.objects.get_mut(uid) {
            prune(known, now);
        }
        self.wind(uid);
    }

    /// Sets the object's timer anew.
    pub(crate) fn wind(&mut self, uid: &Uid) {
        let Some(known) = self.objects.get_mut(uid) else { return };
        let limits = self.rules.limits(&known.object.kind, known.spec.progress_deadline_seconds);
        let wait = if known.object.kind.is("", "Pod") { GONE_POD_WAIT } else { GONE_WAIT };
        let gone = known.gone.map(|gone| gone.plus(wait));
        let changes = known
            .changes
            .iter()
            .filter_map(|change| change.convergence.deadline(&limits, change.decided.is_some()));
        let prunes = (0..known.changes.len()).filter_map(|at| kept_until(known, at));
        let next = changes.chain(prunes).chain(gone).min();
        if known.timer != next {
            if let Some(timer) = known.timer {
                self.timers.remove(&(timer, uid.clone()));
            }
            known.timer = next;
            self.timers.extend(next.map(|next| (next, uid.clone())));
        }
    }

    pub(crate) fn forget(&mut self, uid: &Uid) {
        let Some(known) = self.objects.remove(uid) else { return };
        self.losses.remove(uid);
        if let Some(timer) = known.timer {
            self.timers.remove(&(timer, uid.clone()));
        }
        if self.namespaces.get(&known.object.name) == Some(uid) {
            self.namespaces.remove(&known.object.name);
        }
    }
}

/// What a status says, to be held against each change that is open.
struct StatusNews<'a> {
    now: &'a Observation,
    spec: &'a SpecFacts,
    verdict: Status,
    problem: Option<Problem>,
    progress: [i64; 4],
}

/// What followed for one change.
struct Followed {
    news: Option<News>,
    /// It has become Current.
    is_done: bool,
}

impl StatusNews<'_> {
    fn follow(&self, change: &mut Change) -> Followed {
        let status = &self.now.status;
        let is_observed = is_observed(change, status);
        if change.scope == Scope::Metadata {
            // Where nobody says what is observed, it is dealt with by the time all else is.
            let is_over = is_observed || matches!(self.verdict, Status::Current { .. });
            if is_over {
                change.convergence.end(Outcome::Converged, self.now.at);
            }
            return Followed { news: is_over.then_some(News::Ended), is_done: false };
        }
        let is_delete = change.key.verb == Verb::Delete;
        change.convergence.note_status(self.now.status_fingerprint);
        let problem = self.walk(change);
        // Until it is gone, it is going.
        let verdict = if is_delete { &Status::InProgress } else { &self.verdict };
        let was_current = change.convergence.current_since().is_some();
        let news = change.convergence.observe(verdict, status, problem, self.progress, self.now.at);
        let is_done = !was_current && change.convergence.current_since().is_some();
        Followed { news, is_done }
    }

    /// Goes on with its steps. Returns what holds it up.
    fn walk(&self, change: &mut Change) -> Option<Problem> {
        let is_delete = change.key.verb == Verb::Delete;
        // What keeps a container from running does not keep it from going.
        let is_of_others = is_delete && self.now.object.kind.is("", "Pod");
        let problem = self.problem.clone().filter(|_| !is_of_others);
        let road = change.details.as_deref_mut().and_then(|details| details.road.as_mut());
        let Some(road) = road else { return problem };
        let happened = road.observe(&PhaseInput {
            status: &self.now.status,
            spec: self.spec,
            body: self.now.body.as_deref(),
            generation: change.generation,
            problem: problem.as_ref(),
            seen: self.now.at,
        });
        if happened && is_delete {
            change.convergence.note_progress(self.now.at);
        }
        problem.or_else(|| road.problem())
    }
}

fn is_observed(change: &Change, status: &StatusFacts) -> bool {
    change.generation.is_some() && status.observed_generation >= change.generation
}

/// By kstatus, against the newest change of the spec.
fn judge(known: &mut TrackedObject, now: &Observation, rules: &Rules) -> Status {
    let of_a_job = known.owner.as_ref().is_some_and(|owner| owner.kind.is("batch", "Job"));
    let mut of_spec = known
        .changes
        .iter_mut()
        .rev()
        .filter(|change| change.scope == Scope::Spec && change.key.verb != Verb::Delete);
    // Start-up gives no change to measure a status against: any status counts as evidence.
    let written_since = of_spec.next().map_or(now.status.present, |newest| {
        newest.convergence.note_status(now.status_fingerprint)
    });
    status::judge(&Evidence {
        kind: &now.object.kind,
        spec: &known.spec,
        status: &now.status,
        generation: known.target.filter(|_| {
            kind::change_detection(&now.object.kind) == kind::ChangeDetection::Generation
        }),
        written_since,
        of_a_job,
        words: rules.words(&now.object.kind),
    })
}
