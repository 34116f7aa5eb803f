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

/// Touching siblings hide each other in Jaeger's critical path.
const BETWEEN: Duration = Duration::from_micros(1);
/// Jaeger warns of a span without a duration.
const SHORTEST: Duration = Duration::from_micros(2);
/// Being observed is worth a span of its own when it took longer.
const SOON_OBSERVED: Duration = Duration::from_secs(1);

/// How far a change has come.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PhaseTracker {
    table: PhaseTable,
    /// The step that is not over.
    at: usize,
    begin: Timestamp,
    problem: Option<Problem>,
    events: Vec<SpanEvent>,
    learnt: PhaseFacts,
    /// Soon observed: a step of its own only if nothing else comes of the change.
    observed: Option<Phase>,
    /// Ended, and not told yet: nothing is before the cause is decided.
    untold: Vec<Phase>,
}

/// An open step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Open<'a> {
    pub name: &'static str,
    pub begin: Timestamp,
    pub problem: Option<&'a Problem>,
}

impl PhaseTracker {
    /// `None`: nothing is known of how such a change is dealt with.
    /// `status`: as it was when the change was made.
    pub fn begin(
        kind: &GroupKind,
        verb: Verb,
        at: Timestamp,
        status: &StatusFacts,
    ) -> Option<Self> {
        Some(Self {
            table: PhaseTable::of(kind, verb)?,
            at: 0,
            begin: at,
            problem: None,
            events: Vec::new(),
            learnt: PhaseFacts::before(kind, status),
            observed: None,
            untold: Vec::new(),
        })
    }

    /// Whether something happened within the step.
    pub fn observe(&mut self, look: &PhaseInput<'_>) -> bool {
        let room = MAX_EVENTS - self.events.len().min(MAX_EVENTS);
        let happened = self.learnt.learn(look);
        let is_news = !happened.is_empty();
        self.events.extend(happened.into_iter().take(room));
        for (at, step) in self.table.steps().iter().enumerate().skip(self.at) {
            if let Some(begin) = (step.begin)(look).filter(|_| at == self.at) {
                self.begin = self.begin.max(begin);
            }
            if !(step.is_there)(&self.learnt) {
                continue;
            }
            let Some(end) = (step.end)(look, &self.learnt) else { continue };
            let begin = self.begin;
            self.ends(at, step, end);
            if step.has_containers {
                self.init_containers(look, begin);
            }
        }
        if let Some(problem) = look.problem.cloned().or_else(|| self.problem()) {
            self.problem = Some(problem);
        }
        is_news
    }

    /// What Kubernetes' Events say that no status does.
    pub fn hear(&mut self, remark: &KubernetesEvent) {
        self.learnt.hear(remark);
    }

    fn ends(&mut self, at: usize, step: &PhaseRule, end: Timestamp) {
        let end = end.max(self.begin.plus(SHORTEST));
        let phase = Phase {
            name: step.name.into(),
            container: Box::default(),
            actor: (step.actor)(&self.learnt),
            begin: self.begin,
            end,
            problem: self.problem.take(),
            events: std::mem::take(&mut self.events),
        };
        self.at = at + 1;
        self.begin = end.plus(BETWEEN);
        if step.name == phase_tables::OBSERVE && phase.end.since(phase.begin) <= SOON_OBSERVED {
            self.observed = Some(phase);
        } else {
            self.untold.push(phase);
        }
    }

    /// One after the other, within the step that has just ended; the API's seconds may be the same
    /// for several of them.
    fn init_containers(&mut self, look: &PhaseInput<'_>, begin: Timestamp) {
        let Some(within) = self.untold.last().map(|phase| phase.end) else { return };
        let mut begin = begin;
        let containers = phase_tables::init_containers(look);
        let mut left = containers.len();
        for (container, end) in containers {
            left -= 1;
            let for_others = (SHORTEST + BETWEEN) * u32::try_from(left).unwrap_or(0);
            let end = end.min(within.minus(for_others)).max(begin.plus(SHORTEST));
            if end > within {
                return;
            }
            self.untold.push(Phase {
                name: phase_tables::INIT.into(),
                container,
                actor: Actor::Kubelet,
                begin,
                end,
                problem: None,
                events: Vec::new(),
            });
            begin = end.plus(BETWEEN);
        }
    }

    /// The change was made no earlier: nor were its steps, which are told only now.
    pub fn not_before(&mut self, at: Timestamp) {
        self.untold.retain(|phase| phase.container.is_empty() || phase.begin >= at);
        let mut earliest = at;
        let phases = self.observed.iter_mut().chain(&mut self.untold);
        for phase in phases.filter(|phase| phase.container.is_empty()) {
            phase.begin = phase.begin.max(earliest);
            phase.end = phase.end.max(phase.begin.plus(SHORTEST));
            earliest = phase.end.plus(BETWEEN);
        }
        self.begin = self.begin.max(earliest);
    }

    /// The outcome has come: the step that is open ends with it, and with its error.
    /// `nothing_else`: being observed is all that came of the change. Returns when it was observed,
    /// where that is worth no step.
    pub fn end(
        &mut self,
        at: Timestamp,
        failure: Option<Problem>,
        nothing_else: bool,
    ) -> Option<Timestamp> {
        let is_worth_it = |(_, step): &(usize, &PhaseRule)| {
            step.name != phase_tables::OBSERVE || at.since(self.begin) > SOON_OBSERVED
        };
        if let Some((index, step)) = self.open_step().filter(is_worth_it) {
            if step.name == phase_tables::FINALIZE && failure.is_none() {
                // With the last of them the object is gone.
                self.events.extend(self.learnt.finalized(at));
            }
            self.problem = self.problem.take().or(failure);
            self.ends(index, step, at);
        }
        self.at = self.table.steps().len();
        let observed = self.observed.take()?;
        let end = observed.end;
        if nothing_else && self.table.steps().len() == 1 {
            self.untold.push(observed);
            return None;
        }
        Some(end)
    }

    fn open_step(&self) -> Option<(usize, &'static PhaseRule)> {
        let rest = self.table.steps().iter().enumerate().skip(self.at);
        rest.into_iter().find(|(_, step)| (step.is_there)(&self.learnt))
    }

    /// What it waits for, where that is known.
    pub fn open(&self) -> Option<Open<'_>> {
        let (_, step) = self.open_step()?;
        Some(Open { name: step.name, begin: self.begin, problem: self.problem.as_ref() })
    }

    /// What holds it up besides what a status says.
    pub fn problem(&self) -> Option<Problem> {
        let (_, step) = self.open_step()?;
        (step.problem)(&self.learnt)
    }

    /// Before this, the change does not end.
    pub fn reached(&self) -> Timestamp {
        if self.at == 0 { self.begin } else { self.begin.minus(BETWEEN) }
    }

    pub fn take(&mut self) -> Vec<Phase> {
        std::mem::take(&mut self.untold)
    }
}
