//! Emits what is to be told, once: heads at once, all else when it has ended.

use std::{sync::Arc, time::Duration};

use crate::trace::{
    model::{
        id::ChangeKey,
        kind,
        span::{Role, Span},
        time::Timestamp,
    },
    object::{
        change::{Change, ContextUse, Scope},
        tracked::TrackedObject,
    },
    progress::{
        convergence::{Ended, Limits, MAX_EVENTS, Outcome, make_room},
        phase::{self, PhaseTracker},
    },
    readiness::problem::{Blocker, Problem},
    spans::{builder::SpanBuilder, links, output::TraceMetric},
    tracer::Tracer,
};

/// Problems told once are remembered this long.
const STUCK_MEMORY: Duration = Duration::from_hours(24);

impl Tracer {
    pub(crate) fn service(&self, known: &TrackedObject, change: &Change) -> Arc<str> {
        let kind = &known.object.kind;
        let by_rule = self.rules.service(kind);
        let built_in = || kind::service(kind).map(Arc::from);
        let by_status = || change.service.clone();
        by_rule
            .or_else(built_in)
            .or_else(by_status)
            .unwrap_or_else(|| format!("{}-controller", kind.kind.to_lowercase()).into())
    }

    pub(crate) fn teller<'a>(
        &'a self,
        known: &'a TrackedObject,
        change: &'a Change,
    ) -> Option<SpanBuilder<'a>> {
        Some(SpanBuilder {
            ids: &self.ids,
            object: known,
            change,
            decided: change.decided.as_ref()?,
            service: self.service(known, change),
        })
    }

    /// A head's change span leaves at once, so that its trace has a name from the first second.
    pub(crate) fn tell_head(&mut self, key: &ChangeKey) {
        let Some((known, change)) = self.change(key) else { return };
        let Some(details) = change.details.as_deref() else { return };
        let Some(teller) = self.teller(known, change) else { return };
        if !teller.decided.is_head() {
            return;
        }
        let over_when_seen =
            change.convergence.ended().filter(|ended| ended.at <= change.at || is_moment(change));
        let span = teller.change(details, over_when_seen.filter(|_| is_moment(change)), Vec::new());
        self.tell(key, Some(span));
    }

    /// Into the output, unless nobody is to hear of it.
    pub(crate) fn tell(&mut self, key: &ChangeKey, span: Option<Span>) {
        let is_told = self.change(key).is_some_and(|(_, change)| {
            !change.ignored && change.decided.as_ref().is_some_and(|decided| decided.sampled)
        });
        self.out.spans.extend(span.filter(|_| is_told));
    }

    /// A convergence has ended: tells it, once its cause is decided.
    pub(crate) fn ended(&mut self, key: &ChangeKey) {
        let Some(known) = self.objects.get_mut(&key.uid) else { return };
        let kind = known.object.kind.clone();
        let Some(change) = known.change_mut(key) else { return };
        if change.decided.is_none() || change.details.is_none() {
            return;
        }
        let mut events = change.convergence.take_events();
        let Some(ended) = change.convergence.ended() else { return };
        let (end, outcome, failure) = (ended.at, ended.outcome, failure(ended));
        let caused = change.caused > 0;
        let nothing_else = ended.settled && !caused;
        let road = change.details.as_deref_mut().and_then(|details| details.road.as_mut());
        let reached = road.map(|road| {
            let observed = road.end(end, failure, nothing_else);
            if let Some(at) = observed
                && (events.len() < MAX_EVENTS || make_room(&mut events))
            {
                events.push(phase::event("observed", at, []));
            }
            road.reached()
        });
        if let Some(details) = change.details.as_deref_mut() {
            std::mem::take(&mut details.remarks).tell(&mut events);
        }
        self.tell_phases(key);
        if caused && matches!(outcome, Outcome::Failed | Outcome::TimedOut | Outcome::Unknown) {
            self.note_still_open(key, end);
        }
        self.note_whole(key);
        let Some((known, change)) = self.change(key) else { return };
        let (Some(details), Some(ended)) = (change.details.as_deref(), change.convergence.ended())
        else {
            return;
        };
        let Some(teller) = self.teller(known, change) else { return };
        let span = match teller.decided.is_head() {
            false => Some(teller.change(details, Some(ended), events)),
            true if is_moment(change) => None,
            true => Some(teller.reconcile(details, ended, events)),
        };
        // A step that took no time has lasted a moment all the same.
        let span = span.map(|span| Span { end: span.end.max(reached.unwrap_or(span.end)), ..span });
        let paused = (ended.outcome == Outcome::Paused
            && details.judged == Some(ContextUse::Fresh))
        .then(|| details.context.clone())
        .flatten();
        // What is counted is what is told.
        let took = span.as_ref().map_or(Duration::ZERO, |span| span.end.since(span.start));
        let note = TraceMetric::Closed { kind, outcome: ended.outcome, took };
        let is_ignored = change.ignored;
        // Those of the change span were counted when it was decided.
        let is_told = span.is_some() && !is_ignored && teller.decided.sampled;
        let links = details.late_links.iter().filter(|_| is_told);
        let links: Vec<TraceMetric> =
            links.map(|link| TraceMetric::Link { role: links::late_role(link) }).collect();
        self.out.notes.extend(links);
        self.tell(key, span);
        self.out.notes.extend(Some(note).filter(|_| !is_ignored));
        if let Some(known) = self.objects.get_mut(&key.uid) {
            if let Some(context) = paused {
                known.contexts.note_paused(context);
            }
            if let Some(change) = known.change_mut(key) {
                change.details = None;
            }
        }
    }

    /// Steps of a Pod that have ended, once the cause is decided.
    pub(crate) fn tell_phases(&mut self, key: &ChangeKey) {
        let Some(known) = self.objects.get_mut(&key.uid) else { return };
        let Some(change) = known.change_mut(key).filter(|change| change.decided.is_some()) else {
            return;
        };
        let road = change.details.as_deref_mut().and_then(|details| details.road.as_mut());
        let Some(phases) = road.map(PhaseTracker::take).filter(|phases| !phases.is_empty()) else {
            return;
        };
        let Some((known, change)) = self.change(key) else { return };
        let Some(teller) = self.teller(known, change) else { return };
        let spans: Vec<Span> = phases.iter().map(|phase| teller.phase(phase)).collect();
        for span in spans {
            self.tell(key, Some(span));
        }
        for phase in phases.iter().filter(|phase| phase.container.is_empty()) {
            self.note_step(key, phase);
        }
    }

    pub(crate) fn tell_late(&mut self, key: &ChangeKey, at: Timestamp) {
        let Some((known, change)) = self.change(key) else { return };
        let span = self.teller(known, change).map(|teller| teller.late(at));
        self.tell(key, span);
    }

    /// Once for all that one change caused: 200 Pods with one wrong image are one row, and it names
    /// the object of the lowest resourceVersion hit by then, to the second, as conditions tell it.
    /// An owner that repeats what its own say is named only without them: of the two, whose news
    /// came first is chance.
    pub(crate) fn tell_stuck(&mut self, key: &ChangeKey, now: Timestamp, limits: &Limits) {
        let Some((_, change)) = self.change(key) else { return };
        let Some(decided) = &change.decided else { return };
        let Some(trouble) = change.convergence.trouble() else { return };
        if self.repeats_its_own(key, &trouble.problem) {
            return;
        }
        let (reason, since) = (trouble.problem.reason.clone(), trouble.since);
        let shared = decided.cause.clone().unwrap_or_else(|| key.clone());
        let id = self.ids.span(&shared, Role::Stuck, &reason);
        if self.stuck_told.insert(id, now).is_some() {
            return;
        }
        if self.stuck_told.len() > 1024 {
            self.stuck_told.retain(|told| told.plus(STUCK_MEMORY) > now);
        }
        let hit = self
            .objects
            .values()
            .flat_map(|known| known.changes.iter().map(move |change| (known, change)))
            .filter(|(_, change)| {
                let same_cause = change.key == *key
                    || change.decided.as_ref().is_some_and(|d| d.cause.as_ref() == Some(&shared));
                same_cause
                    && change.convergence.is_open()
                    && change.convergence.trouble().is_some_and(|trouble| {
                        trouble.problem.reason == reason
                            && trouble.since.whole_second() <= since.whole_second()
                    })
            })
            .min_by_key(|(_, change)| (change.key == shared, change.resource_version));
        let span = hit.and_then(|(known, change)| {
            let trouble = change.convergence.trouble()?;
            let at = since.plus(limits.stuck_after);
            Some(self.teller(known, change)?.stuck(&shared, trouble, at))
        });
        self.tell(key, span);
    }

    /// Whether a condition says word for word what one of something that the change caused says:
    /// that is told. Finalizers are everybody's own, whatever they are called.
    fn repeats_its_own(&self, key: &ChangeKey, problem: &Problem) -> bool {
        let is_it = |of: &Problem| {
            (&of.reason, &of.message, &of.blocks)
                == (&problem.reason, &problem.message, &problem.blocks)
        };
        let mut changes = self.objects.values().flat_map(|known| &known.changes);
        matches!(problem.blocks, Blocker::Condition { .. })
            && changes.any(|change| {
                change.decided.as_ref().is_some_and(|decided| decided.cause.as_ref() == Some(key))
                    && change.convergence.is_open()
                    && change.convergence.trouble().is_some_and(|trouble| is_it(&trouble.problem))
            })
    }
}

/// The error of a step that was open at such an outcome.
fn failure(ended: &Ended) -> Option<Problem> {
    let is_failure = matches!(ended.outcome, Outcome::Failed | Outcome::TimedOut);
    is_failure.then(|| Problem {
        reason: if ended.outcome == Outcome::TimedOut {
            "timeout".into()
        } else {
            ended.reason.clone()
        },
        message: ended.message.clone(),
        container: Box::default(),
        since: None,
        blocks: Blocker::Phase,
    })
}

/// A head without a reconcile span: over when it was seen, or opening nothing.
fn is_moment(change: &Change) -> bool {
    change.scope == Scope::Metadata || change.convergence.was_over_when_seen()
}
