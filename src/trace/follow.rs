//! Follows convergences: by each status that is observed, and by time.

use std::time::Duration;

use super::{
    change::Scope,
    converge::{News, Outcome},
    id::{ChangeKey, Verb},
    kind,
    object::Uid,
    observation::Observation,
    phase::Look,
    problem,
    status::{self, Evidence, Status},
    time::Timestamp,
    tracer::{Tracer, kept_until, prune},
};

/// A deleted object stays a cause this long.
const GONE_WAIT: Duration = Duration::from_mins(15);

/// What owns next to nothing is forgotten sooner: what it caused has arrived by then.
const GONE_POD_WAIT: Duration = Duration::from_mins(1);

impl Tracer {
    pub(super) fn observe_status(&mut self, uid: &Uid, now: &Observation) {
        let Some(known) = self.objects.get_mut(uid) else { return };
        known.read_status(now);
        let of_a_job = known.owner.as_ref().is_some_and(|owner| owner.kind.is("batch", "Job"));
        let mut newest = known
            .changes
            .iter_mut()
            .rev()
            .filter(|change| change.scope == Scope::Spec && change.key.verb != Verb::Delete);
        let newest = newest.next();
        // Start-up gives no change to measure a status against: any status counts as evidence.
        let written_since = newest
            .map_or(now.status.present, |c| c.convergence.note_status(now.status_fingerprint));
        let evidence = Evidence {
            kind: &now.object.kind,
            spec: &known.spec,
            status: &now.status,
            generation: known
                .target
                .filter(|_| kind::steps(&now.object.kind) == kind::Steps::Generation),
            written_since,
            of_a_job,
            words: self.rules.words(&now.object.kind),
        };
        let verdict = status::judge(&evidence);
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
        let progress = status::progress(&now.object.kind, &now.status);
        let problem = problem::problem(&now.object.kind, &now.status);
        let mut news = Vec::new();
        let mut walked = Vec::new();
        let mut done = Vec::new();
        for change in known.changes.iter_mut().filter(|change| !change.convergence.is_over()) {
            let is_delete = change.key.verb == Verb::Delete;
            let is_observed =
                change.generation.is_some() && now.status.observed_generation >= change.generation;
            if change.revision.is_none() && is_observed {
                change.revision.clone_from(&known.update_revision);
            }
            if change.scope == Scope::Metadata {
                // Where nobody says what is observed, it is dealt with by the time all else is.
                if is_observed || known.was_current {
                    change.convergence.end(Outcome::Converged, now.at);
                    news.push((change.key.clone(), News::Ended));
                }
                continue;
            }
            // What keeps a container from running does not keep it from going.
            let is_of_others = is_delete && now.object.kind.is("", "Pod");
            let mut problem = problem.clone().filter(|_| !is_of_others);
            let road = change.details.as_deref_mut().and_then(|details| details.road.as_mut());
            if let Some(road) = road {
                let happened = road.observe(&Look {
                    status: &now.status,
                    spec: &known.spec,
                    body: now.body.as_deref(),
                    generation: change.generation,
                    problem: problem.as_ref(),
                    seen: now.at,
                });
                if happened && is_delete {
                    change.convergence.note_progress(now.at);
                }
                problem = problem.or_else(|| road.problem());
                walked.push(change.key.clone());
            }
            // Until it is gone, it is going.
            let verdict = if is_delete { &Status::InProgress } else { &verdict };
            let was_current = change.convergence.current_since().is_some();
            let what = change.convergence.observe(verdict, &now.status, problem, progress, now.at);
            if !was_current && change.convergence.current_since().is_some() {
                done.push(change.key.clone());
            }
            news.extend(what.map(|what| (change.key.clone(), what)));
        }
        let is_autoscaler = known.references.as_ref().is_some_and(|refs| refs.scales.is_some());
        let is_lost = now.status.phase.as_deref() == Some("Failed");
        let is_news = is_lost && !std::mem::replace(&mut known.has_failed, is_lost);
        for key in walked {
            self.tell_phases(&key);
        }
        for key in done {
            self.note_done(&key);
        }
        for (key, what) in news {
            self.hear(&key, &what);
        }
        if is_autoscaler {
            self.scaled(uid);
        }
        if is_news {
            self.note_loss(uid, now.resource_version, now.at.whole_second(), None);
        }
    }

    /// What an owner waited for is Current: so the owner was no earlier, whichever watch was first.
    pub(super) fn note_done(&mut self, key: &ChangeKey) {
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

    pub(super) fn hear(&mut self, key: &ChangeKey, news: &News) {
        match news {
            News::Ended => self.ended(key),
            News::Late { at } => self.tell_late(key, *at),
        }
    }

    /// A timer of this object has run out.
    pub(super) fn ring(&mut self, uid: &Uid, now: Timestamp) {
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
    pub(super) fn wind(&mut self, uid: &Uid) {
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

    pub(super) fn forget(&mut self, uid: &Uid) {
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
