//! Follows a change through its phases, by the tables in [`phase_tables`].
//!
//! Conditions can arrive together, late, or not at all. A phase is reported once its end is known,
//! from the end of the last reported one; a phase that was never observed is left out, not guessed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::trace::{
    model::{
        id::Verb,
        kubernetes_event::KubernetesEvent,
        object::GroupKind,
        observation::StatusFacts,
        span::{MAX_EVENTS, SpanEvent},
        time::Timestamp,
    },
    progress::{
        phase::{Actor, Phase, PhaseInput},
        phase_tables::{self, PhaseFacts, PhaseRule, PhaseTable},
    },
    readiness::problem::Problem,
};

/// Jaeger's critical path skips siblings that touch.
const PHASE_GAP: Duration = Duration::from_micros(1);
/// Jaeger warns about a span without a duration.
const MIN_SPAN_DURATION: Duration = Duration::from_micros(2);

/// A shorter `observe` phase becomes a span event.
const OBSERVE_PHASE_MIN: Duration = Duration::from_secs(1);

/// The phases of one change.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PhaseTracker {
    table: PhaseTable,
    /// The phase that has not ended yet.
    index: usize,
    begin: Timestamp,
    problem: Option<Problem>,
    events: Vec<SpanEvent>,
    facts: PhaseFacts,
    /// A short `observe` phase: reported only if nothing else follows from the change.
    observed: Option<Phase>,
    /// Ended phases that are not reported yet: their cause is not decided.
    unreported: Vec<Phase>,
}

/// A phase that has not ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Open<'a> {
    pub name: &'static str,
    pub begin: Timestamp,
    pub problem: Option<&'a Problem>,
}

impl PhaseTracker {
    /// `None` for changes without known phases. `status` is the status at the time of the change.
    pub fn begin(
        kind: &GroupKind,
        verb: Verb,
        at: Timestamp,
        status: &StatusFacts,
    ) -> Option<Self> {
        Some(Self {
            table: PhaseTable::for_change(kind, verb)?,
            index: 0,
            begin: at,
            problem: None,
            events: Vec::new(),
            facts: PhaseFacts::before(kind, status),
            observed: None,
            unreported: Vec::new(),
        })
    }

    /// Takes in an observation. Returns whether something happened within the phase.
    pub fn observe(&mut self, input: &PhaseInput<'_>) -> bool {
        let room = MAX_EVENTS - self.events.len().min(MAX_EVENTS);
        let happened = self.facts.update(input);
        let is_news = !happened.is_empty();
        self.events.extend(happened.into_iter().take(room));
        for (index, rule) in self.table.rules().iter().enumerate().skip(self.index) {
            if let Some(begin) = (rule.begin)(&self.facts).filter(|_| index == self.index) {
                self.begin = self.begin.max(begin);
            }
            if !(rule.is_present)(&self.facts) {
                continue;
            }
            let Some(end) = (rule.end)(input, &self.facts) else { continue };
            let begin = self.begin;
            self.finish_phase(index, rule, end);
            if rule.has_containers {
                self.init_containers(input, begin);
            }
        }
        if let Some(problem) = input.problem.cloned().or_else(|| self.problem()) {
            self.problem = Some(problem);
        }
        is_news
    }

    /// Takes in a Kubernetes Event: some facts are in no status.
    pub fn record_event(&mut self, event: &KubernetesEvent) {
        self.facts.record_event(event);
    }

    fn finish_phase(&mut self, index: usize, rule: &PhaseRule, end: Timestamp) {
        let end = end.max(self.begin.plus(MIN_SPAN_DURATION));
        let phase = Phase {
            name: rule.name.into(),
            container: Box::default(),
            actor: (rule.actor)(&self.facts),
            begin: self.begin,
            end,
            problem: self.problem.take(),
            events: std::mem::take(&mut self.events),
        };
        self.index = index + 1;
        self.begin = end.plus(PHASE_GAP);
        if rule.name == phase_tables::OBSERVE && phase.end.since(phase.begin) <= OBSERVE_PHASE_MIN {
            self.observed = Some(phase);
        } else {
            self.unreported.push(phase);
        }
    }

    /// Adds a phase for each init container, one after the other within the phase that has just ended:
    /// several can end in the same second of the API's times.
    fn init_containers(&mut self, input: &PhaseInput<'_>, begin: Timestamp) {
        let Some(within) = self.unreported.last().map(|phase| phase.end) else { return };
        let mut begin = begin;
        let containers = phase_tables::init_containers(input);
        let mut left = containers.len();
        for (container, end) in containers {
            left -= 1;
            let for_others = (MIN_SPAN_DURATION + PHASE_GAP) * u32::try_from(left).unwrap_or(0);
            let end = end.min(within.minus(for_others)).max(begin.plus(MIN_SPAN_DURATION));
            if end > within {
                return;
            }
            self.unreported.push(Phase {
                name: phase_tables::INIT.into(),
                container,
                actor: Actor::Kubelet,
                begin,
                end,
                problem: None,
                events: Vec::new(),
            });
            begin = end.plus(PHASE_GAP);
        }
    }

    /// The change was made no earlier than `at`, so its phases begin no earlier.
    pub fn delay_start_until(&mut self, at: Timestamp) {
        self.unreported.retain(|phase| phase.container.is_empty() || phase.begin >= at);
        let mut earliest = at;
        let phases = self.observed.iter_mut().chain(&mut self.unreported);
        for phase in phases.filter(|phase| phase.container.is_empty()) {
            phase.begin = phase.begin.max(earliest);
            phase.end = phase.end.max(phase.begin.plus(MIN_SPAN_DURATION));
            earliest = phase.end.plus(PHASE_GAP);
        }
        self.begin = self.begin.max(earliest);
    }

    /// The convergence has ended: so does the open phase, with the same error. `nothing_else`: nothing
    /// but the observation followed from the change. Returns when the generation was observed, where
    /// that is not a phase.
    pub fn end(
        &mut self,
        at: Timestamp,
        failure: Option<Problem>,
        nothing_else: bool,
    ) -> Option<Timestamp> {
        let is_reported = |(_, rule): &(usize, &PhaseRule)| {
            rule.name != phase_tables::OBSERVE || at.since(self.begin) > OBSERVE_PHASE_MIN
        };
        if let Some((index, rule)) = self.open_phase().filter(is_reported) {
            if rule.name == phase_tables::FINALIZE && failure.is_none() {
                // The object is deleted with its last finalizer.
                self.events.extend(self.facts.finalized(at));
            }
            self.problem = self.problem.take().or(failure);
            self.finish_phase(index, rule, at);
        }
        self.index = self.table.rules().len();
        let observed = self.observed.take()?;
        let end = observed.end;
        if nothing_else && self.table.rules().len() == 1 {
            self.unreported.push(observed);
            return None;
        }
        Some(end)
    }

    fn open_phase(&self) -> Option<(usize, &'static PhaseRule)> {
        let rest = self.table.rules().iter().enumerate().skip(self.index);
        rest.into_iter().find(|(_, rule)| (rule.is_present)(&self.facts))
    }

    /// The phase that has not ended, where one is known.
    pub fn open(&self) -> Option<Open<'_>> {
        let (_, rule) = self.open_phase()?;
        Some(Open { name: rule.name, begin: self.begin, problem: self.problem.as_ref() })
    }

    /// A problem that the status does not show.
    pub fn problem(&self) -> Option<Problem> {
        let (_, rule) = self.open_phase()?;
        (rule.problem)(&self.facts)
    }

    /// The end of the last phase: the change ends no earlier.
    pub fn reached(&self) -> Timestamp {
        if self.index == 0 { self.begin } else { self.begin.minus(PHASE_GAP) }
    }

    pub fn take(&mut self) -> Vec<Phase> {
        std::mem::take(&mut self.unreported)
    }
}
