//! Emits spans, each once: those of a head at once, all others when they have ended.

use std::{sync::Arc, time::Duration};

use crate::trace::{
    model::{
        id::{ChangeKey, Ids},
        kind,
        span::{MAX_EVENTS, Role, Span, SpanEvent},
        time::Timestamp,
    },
    object::{
        change::{Change, ContextUse, OwnWrite},
        tracked::TrackedObject,
    },
    progress::{
        outcome::{Ended, Outcome},
        phase::{self, Phase},
        phase_tables,
        phase_tracker::PhaseTracker,
        slowest::Slowest,
        status_events::make_room,
    },
    readiness::{
        judgement::Urgency,
        problem::{Blocker, Problem},
    },
    rules::{Limits, Rules},
    spans::{
        builder::SpanBuilder,
        links,
        output::{Bound, Output, TraceMetric},
    },
    state::{State, reported_problems::Inserted},
    tracer::trace::Trace,
};

/// A newer change can be observed before the end of a phase that ended before it: a shorter wait of the
/// older change is not counted as open.
const OVERTAKEN_WAIT: Duration = Duration::from_secs(1);

pub(super) struct Emitter<'a> {
    state: &'a mut State,
    rules: &'a Rules,
    ids: &'a Ids,
    out: &'a mut Output,
}

impl<'s> Emitter<'s> {
    pub(super) fn of(trace: &'s mut Trace) -> Self {
        let Trace { rules, ids, state, out, .. } = trace;
        Self { state, rules, ids, out }
    }

    /// A change was decided: emits what was held back until then.
    pub(super) fn emit_decided(&mut self, key: &ChangeKey) {
        self.emit_head(key);
        self.emit_projection(key);
        self.emit_phases(key);
        let change = self.state.objects.change(key);
        if change.is_some_and(|(_, change)| !change.convergence.is_open()) {
            self.close_convergence(key);
        }
    }

    /// A head's change span, so that its trace has a name from the first second.
    pub(super) fn emit_head(&mut self, key: &ChangeKey) {
        let Some((object, change)) = self.state.objects.change(key) else { return };
        let (Some(builder), Some(report)) = (self.builder(object, change), change.report()) else {
            return;
        };
        if !builder.decision.is_head() || report.is_held_back {
            return;
        }
        let ended = change.convergence.ended().filter(|_| change.is_instant());
        let span = builder.change(report, ended, Vec::new());
        self.emit(key, Some(span));
    }

    /// A span in the annotated trace, where the configuration asks for one.
    fn emit_projection(&mut self, key: &ChangeKey) {
        if !self.rules.project {
            return;
        }
        let Some((object, change)) = self.state.objects.change(key) else { return };
        let (Some(decision), Some(report)) = (change.decision(), change.report()) else { return };
        let Some(context) = report.context.as_ref().filter(|context| context.is_sampled()) else {
            return;
        };
        let is_in_trace = decision.trace_id == context.trace_id;
        if is_in_trace || report.context_use != Some(ContextUse::Fresh) {
            return;
        }
        let span = self.builder(object, change).map(|builder| builder.projection(context));
        self.emit(key, span);
    }

    /// The phases that have ended, once the cause is decided.
    pub(super) fn emit_phases(&mut self, key: &ChangeKey) {
        let change = self.state.objects.change_mut(key).filter(|change| change.is_decided());
        let report = change.and_then(Change::report_mut);
        let phases = report.and_then(|report| report.phases.as_mut()).map(PhaseTracker::take);
        let Some(phases) = phases.filter(|phases| !phases.is_empty()) else { return };
        let Some((object, change)) = self.state.objects.change(key) else { return };
        let Some(builder) = self.builder(object, change) else { return };
        let spans: Vec<Span> = phases.iter().map(|phase| builder.phase(phase)).collect();
        for span in spans {
            self.emit(key, Some(span));
        }
        for phase in phases.iter().filter(|phase| phase.container.is_empty()) {
            self.record_phase(key, phase);
        }
    }

    /// A convergence has ended: emits its span, once its cause is decided.
    pub(super) fn close_convergence(&mut self, key: &ChangeKey) {
        let Some(change) = self.state.objects.change_mut(key) else { return };
        if !change.is_decided() || change.is_reported() || change.convergence.is_open() {
            return;
        }
        if change.report().is_some_and(|report| report.is_held_back) {
            change.finish();
            return;
        }
        let (events, reached) = take_events(change);
        let caused = change.caused > 0;
        let Some(ended) = change.convergence.ended() else { return };
        let (at, outcome) = (ended.at, ended.outcome);
        self.emit_phases(key);
        let open_waits = match outcome {
            Outcome::Failed | Outcome::TimedOut | Outcome::Unknown => Some(Duration::ZERO),
            Outcome::Superseded => Some(OVERTAKEN_WAIT),
            Outcome::Converged | Outcome::Deleted | Outcome::Paused => None,
        };
        if let Some(at_least) = open_waits.filter(|_| caused) {
            self.record_open_waits(key, at, at_least);
        }
        self.record_total(key);
        let Some((object, change)) = self.state.objects.change(key) else { return };
        let (Some(report), Some(ended)) = (change.report(), change.convergence.ended()) else {
            return;
        };
        let Some(builder) = self.builder(object, change) else { return };
        let span = match builder.decision.is_head() {
            false => Some(builder.change(report, Some(ended), events)),
            true if change.is_instant() => None,
            true => Some(builder.reconcile(report, ended, events)),
        };
        // A phase without an extent lasts an instant all the same.
        let span = span.map(|span| Span { end: span.end.max(reached.unwrap_or(span.end)), ..span });
        let paused = (outcome == Outcome::Paused && report.context_use == Some(ContextUse::Fresh))
            .then(|| report.context.clone())
            .flatten();
        // The exported extent is counted.
        let took = span.as_ref().map_or(Duration::ZERO, |span| span.end.since(span.start));
        let closed = TraceMetric::Closed { kind: object.kind().clone(), outcome, took };
        let is_ignored = change.ignored;
        // The links of the change span were counted when they were decided.
        let is_exported = span.is_some() && !is_ignored && builder.decision.sampled;
        let late = report.late_links.iter().filter(|_| is_exported);
        let late: Vec<TraceMetric> =
            late.map(|link| TraceMetric::Link { role: links::late_role(link) }).collect();
        self.out.metrics.extend(late);
        self.emit(key, span);
        self.out.metrics.extend(Some(closed).filter(|_| !is_ignored));
        if let Some(object) = self.state.objects.get_mut(&key.uid) {
            if let Some(context) = paused {
                let is_full = object.contexts_mut().record_paused(context);
                self.out.count_bound(Bound::Contexts, is_full);
            }
            if let Some(change) = object.change_mut(key) {
                change.finish();
            }
        }
    }

    pub(super) fn emit_late(&mut self, key: &ChangeKey, at: Timestamp) {
        let Some((object, change)) = self.state.objects.change(key) else { return };
        let span = self.builder(object, change).map(|builder| builder.late(at));
        self.emit(key, span);
    }

    /// One span for a problem of everything that one change caused: 200 Pods with one wrong image are
    /// one row. It names the object of the lowest resourceVersion that has the problem by then, by the
    /// second, which is as exact as conditions are. An owner that repeats the problem of its children
    /// is named only where they do not have it: which of both is observed first is chance.
    pub(super) fn emit_stuck(&mut self, key: &ChangeKey, now: Timestamp, limits: &Limits) {
        let Some((_, change)) = self.state.objects.change(key) else { return };
        let Some(active) = change.convergence.active_problem() else { return };
        if !change.is_decided() || self.repeats_child(key, &active.problem) {
            return;
        }
        let (reason, since) = (active.problem.reason.clone(), active.since);
        let shared = change.cause().cloned().unwrap_or_else(|| key.clone());
        let id = self.ids.span(&shared, Role::Stuck, &reason);
        match self.state.reported_problems.insert(id, now) {
            Inserted::Known => return,
            Inserted::InsteadOfOldest => self.out.count_bound(Bound::ReportedProblems, true),
            Inserted::New => {}
        }
        let has_problem = |change: &Change| {
            change.convergence.is_open()
                && change.convergence.active_problem().is_some_and(|active| {
                    active.problem.reason == reason
                        && active.since.whole_second() <= since.whole_second()
                })
        };
        let first = self
            .state
            .objects
            .caused_by(&shared)
            .chain(self.state.objects.change(key))
            .filter(|(_, change)| has_problem(change))
            .min_by_key(|(_, change)| (change.key == shared, change.resource_version));
        let span = first.and_then(|(object, change)| {
            let active = change.convergence.active_problem()?;
            let at = since.plus(limits.stuck_after);
            Some(self.builder(object, change)?.stuck(&shared, active, at))
        });
        self.emit(key, span);
    }

    /// Whether a child has the same condition word for word: then the child is reported. Finalizers
    /// are each object's own, whatever their names.
    fn repeats_child(&self, key: &ChangeKey, problem: &Problem) -> bool {
        let is_same = |of: &Problem| {
            (&of.reason, &of.message, &of.blocks)
                == (&problem.reason, &problem.message, &problem.blocks)
        };
        matches!(problem.blocks, Blocker::Condition { .. })
            && self.state.objects.caused_by(key).any(|(_, change)| {
                change.convergence.is_open()
                    && change
                        .convergence
                        .active_problem()
                        .is_some_and(|active| is_same(&active.problem))
            })
    }

    /// A phase has ended: it may be what the change and its causes waited for longest.
    fn record_phase(&mut self, key: &ChangeKey, phase: &Phase) {
        let Some((object, change)) = self.state.objects.change(key) else { return };
        let caused = change.report().and_then(|report| report.first_caused);
        // From its first caused change on, it waited for that, unless it has a problem itself.
        let own_end = caused.filter(|_| phase.problem.is_none()).unwrap_or(phase.end);
        let slowest = Slowest {
            took: phase.end.min(own_end).since(phase.begin),
            kind: Arc::clone(&object.kind().kind),
            name: Arc::clone(object.name()),
            phase: phase.name.clone(),
            reason: phase.problem.as_ref().map(|p| p.reason.clone()).unwrap_or_default(),
        };
        self.record_slowest(key, &slowest);
        if phase.name == phase_tables::RUN && own_end < phase.end {
            let run = Slowest { took: phase.end.since(phase.begin), ..slowest };
            self.record_run(key, &run);
        }
    }

    /// A Job waited for its Pods while it ran; whatever caused the Job waited for the whole run, unless
    /// a problem of the Job's Pods explains most of it.
    fn record_run(&mut self, key: &ChangeKey, run: &Slowest) {
        let Some((_, change)) = self.state.objects.change(key) else { return };
        let below = change.report().and_then(|report| report.slowest.as_ref());
        if below.is_some_and(|below| explains(below, run)) {
            return;
        }
        if let Some(cause) = change.cause().cloned() {
            self.record_slowest(&cause, run);
        }
    }

    /// An object without phases was waited for as a whole.
    fn record_total(&mut self, key: &ChangeKey) {
        let Some((object, change)) = self.state.objects.change(key) else { return };
        let Some(ended) = change.convergence.ended() else { return };
        let Some(report) = change.report() else { return };
        let took = ended.at.since(change.at);
        let known = report.slowest.as_ref();
        // A generation is observed at once as a rule: then the object was waited for all the same.
        let is_only_observed = known.is_some_and(|known| {
            change.caused == 0 && known.phase == phase_tables::OBSERVE && known.took * 2 < took
        });
        let has_slowest = known.is_some() && !is_only_observed;
        let is_part = change.own_write == OwnWrite::Yes;
        if has_slowest || is_part || change.ignored || ended.outcome == Outcome::Superseded {
            return;
        }
        let slowest = Slowest {
            took,
            kind: Arc::clone(&object.kind().kind),
            name: Arc::clone(object.name()),
            phase: "".into(),
            reason: ended.reason.clone(),
        };
        // An object without phases is not named in its own span.
        let from = if is_only_observed { Some(key) } else { change.cause() };
        if let Some(from) = from.cloned() {
            self.record_slowest(&from, &slowest);
        }
    }

    fn record_slowest(&mut self, from: &ChangeKey, slowest: &Slowest) {
        for key in self.state.objects.chain_from(from) {
            let Some(report) = self.state.objects.report_mut(&key) else { continue };
            let before = report.slowest.as_ref();
            if before.is_none_or(|before| before.took < slowest.took) {
                report.slowest = Some(Box::new(slowest.clone()));
            }
        }
    }

    /// A change has ended without everything it caused: the open phases below count too.
    fn record_open_waits(&mut self, key: &ChangeKey, at: Timestamp, at_least: Duration) {
        let waits: Vec<Slowest> = self
            .state
            .objects
            .descendants_of(key)
            .filter_map(|(object, change)| Some((object, change, change.open_phase()?)))
            .map(|(object, change, phase)| Slowest {
                took: at.since(phase.begin),
                kind: Arc::clone(&object.kind().kind),
                name: Arc::clone(object.name()),
                phase: phase.name.into(),
                reason: change.active_reason().unwrap_or_default().into(),
            })
            .filter(|wait| wait.took >= at_least)
            .collect();
        // Of equal ones always the same.
        let order =
            |a: &&Slowest, b: &&Slowest| a.took.cmp(&b.took).then_with(|| b.name.cmp(&a.name));
        let longest = waits.iter().max_by(order).map(|longest| {
            let explaining = waits.iter().filter(|wait| explains(wait, longest)).max_by(order);
            explaining.unwrap_or(longest)
        });
        if let Some(longest) = longest.cloned()
            && let Some(report) = self.state.objects.report_mut(key)
            && report.slowest.as_ref().is_none_or(|before| before.took < longest.took)
        {
            report.slowest = Some(Box::new(longest));
        }
    }

    /// Adds a span to the output, unless its change is excluded from export.
    fn emit(&mut self, key: &ChangeKey, span: Option<Span>) {
        let is_exported = self.state.objects.change(key).is_some_and(|(_, change)| {
            !change.ignored && change.decision().is_some_and(|decision| decision.sampled)
        });
        let span = span.filter(|_| is_exported);
        let has_dropped_links = span.as_ref().is_some_and(|span| span.dropped_links > 0);
        self.out.count_bound(Bound::Links, has_dropped_links);
        self.out.spans.extend(span);
    }

    fn builder<'a>(
        &'a self,
        object: &'a TrackedObject,
        change: &'a Change,
    ) -> Option<SpanBuilder<'a>> {
        Some(SpanBuilder {
            ids: self.ids,
            object,
            change,
            decision: change.decision()?,
            service: self.service(object, change),
            names: self.rules.span_names,
        })
    }

    /// The `service.name` of an object's spans.
    fn service(&self, object: &TrackedObject, change: &Change) -> Arc<str> {
        let kind = object.kind();
        let built_in = || kind::service(kind).map(Arc::from);
        let by_status = || change.service.clone();
        self.rules
            .service(kind)
            .or_else(built_in)
            .or_else(by_status)
            .unwrap_or_else(|| format!("{}-controller", kind.kind.to_lowercase()).into())
    }
}

/// Whether a wait has a reason for most of a longer one that has none: a Job runs for as long as its
/// Pod waits for an image.
fn explains(wait: &Slowest, longer: &Slowest) -> bool {
    longer.reason.is_empty() && !wait.reason.is_empty() && wait.took * 2 >= longer.took
}

/// The events of a change that has ended, and when its last phase ended.
fn take_events(change: &mut Change) -> (Vec<SpanEvent>, Option<Timestamp>) {
    let mut events = change.convergence.take_events();
    let Some(ended) = change.convergence.ended() else { return (events, None) };
    let (end, failure) = (ended.at, failure(ended));
    let nothing_else = ended.settled && change.caused == 0;
    let Some(report) = change.report_mut() else { return (events, None) };
    let reached = report.phases.as_mut().map(|phases| {
        let observed = phases.end(end, failure, nothing_else);
        if let Some(at) = observed
            && (events.len() < MAX_EVENTS || make_room(&mut events))
        {
            events.push(phase::event("observed", at, []));
        }
        phases.reached()
    });
    std::mem::take(&mut report.events).append_to(&mut events);
    (events, reached)
}

/// The error of a phase that was open at a failure.
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
        urgency: Urgency::Failure,
    })
}
