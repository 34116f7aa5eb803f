//! Tells a Pod's way in steps: scheduled, sandboxed, initialised, started, ready (contract: §2).
//!
//! From its conditions and container statuses alone
//! ([Pod lifecycle](https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-conditions)).
//! Conditions can come together, late, or not at all: a step is told once its end is known, from the
//! end of the last one that was; what was never seen is left out, never guessed.

use std::time::Duration;

use super::{
    converge::refine,
    observation::StatusFacts,
    status::{Problem, condition},
    time::Timestamp,
};

/// A step that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    pub name: &'static str,
    /// Of one init container; empty for the Pod as a whole.
    pub container: Box<str>,
    pub actor: Actor,
    pub begin: Timestamp,
    pub end: Timestamp,
    /// What held it up, also where it went on in the end.
    pub problem: Option<Problem>,
}

/// Who does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// The one that the Pod names.
    Scheduler,
    Kubelet,
}

struct Step {
    name: &'static str,
    actor: Actor,
    /// When it has ended, by a status seen then.
    end: fn(&StatusFacts, Timestamp) -> Option<Timestamp>,
}

const STEPS: [Step; 5] = [
    Step {
        name: "schedule",
        actor: Actor::Scheduler,
        end: |s, seen| is_true(s, "PodScheduled", seen),
    },
    Step {
        name: "sandbox",
        actor: Actor::Kubelet,
        end: |s, seen| is_true(s, "PodReadyToStartContainers", seen),
    },
    Step { name: "init", actor: Actor::Kubelet, end: initialized },
    Step { name: "start", actor: Actor::Kubelet, end: started },
    Step { name: "ready", actor: Actor::Kubelet, end: |s, seen| is_true(s, "Ready", seen) },
];

/// Touching siblings hide each other in Jaeger's critical path.
const BETWEEN: Duration = Duration::from_micros(1);
/// Jaeger warns of a span without a duration.
const SHORTEST: Duration = Duration::from_micros(2);

/// How far a Pod has come.
#[derive(Clone, Debug)]
pub struct Road {
    /// The step that is not over.
    at: usize,
    begin: Timestamp,
    problem: Option<Problem>,
    has_init_containers: bool,
    /// Ended, and not told yet: nothing is before the cause is decided.
    untold: Vec<Phase>,
}

impl Road {
    pub fn begin(at: Timestamp) -> Self {
        Self { at: 0, begin: at, problem: None, has_init_containers: false, untold: Vec::new() }
    }

    pub fn observe(&mut self, status: &StatusFacts, problem: Option<&Problem>, seen: Timestamp) {
        for (at, step) in STEPS.iter().enumerate().skip(self.at) {
            let Some(end) = (step.end)(status, seen) else { continue };
            let begin = self.begin;
            self.ends(at, step, end);
            if step.name == "init" {
                self.init_containers(status, begin, seen);
            }
        }
        self.has_init_containers |= status.containers.iter().any(|container| container.init);
        if let Some(problem) = problem {
            self.problem.get_or_insert_with(|| problem.clone());
        }
    }

    fn ends(&mut self, at: usize, step: &Step, end: Timestamp) {
        let end = end.max(self.begin.plus(SHORTEST));
        self.untold.push(Phase {
            name: step.name,
            container: Box::default(),
            actor: step.actor,
            begin: self.begin,
            end,
            problem: self.problem.take(),
        });
        self.at = at + 1;
        self.begin = end.plus(BETWEEN);
    }

    /// One after the other, within the step that has just ended.
    fn init_containers(&mut self, status: &StatusFacts, begin: Timestamp, seen: Timestamp) {
        let Some(within) = self.untold.last().map(|phase| phase.end) else { return };
        let mut begin = begin;
        for container in status.containers.iter().filter(|container| container.init) {
            let Some(terminated) = &container.terminated else { continue };
            let end = refine(terminated.finished, seen).min(within);
            if end < begin.plus(SHORTEST) {
                continue;
            }
            self.untold.push(Phase {
                name: "init",
                container: container.name.clone(),
                actor: Actor::Kubelet,
                begin,
                end,
                problem: None,
            });
            begin = end.plus(BETWEEN);
        }
    }

    /// The outcome has come: the step that is open ends with it.
    pub fn end(&mut self, at: Timestamp) {
        let is_there = |step: &Step| step.name != "init" || self.has_init_containers;
        let open = STEPS.iter().enumerate().skip(self.at).find(|(_, step)| is_there(step));
        if let Some((index, step)) = open {
            self.ends(index, step, at);
        }
        self.at = STEPS.len();
    }

    /// Before this, nothing of it ends.
    pub fn reached(&self) -> Timestamp {
        self.begin
    }

    pub fn take(&mut self) -> Vec<Phase> {
        std::mem::take(&mut self.untold)
    }
}

fn is_true(status: &StatusFacts, kind: &str, seen: Timestamp) -> Option<Timestamp> {
    let condition = condition(status, kind).filter(|condition| &*condition.status == "True")?;
    Some(refine(condition.last_transition, seen))
}

/// Only of Pods that have init containers: of others the condition says nothing.
fn initialized(status: &StatusFacts, seen: Timestamp) -> Option<Timestamp> {
    let has_any = status.containers.iter().any(|container| container.init);
    is_true(status, "Initialized", seen).filter(|_| has_any)
}

/// All containers have run, whatever became of them.
fn started(status: &StatusFacts, seen: Timestamp) -> Option<Timestamp> {
    let mut containers = status.containers.iter().filter(|container| !container.init).peekable();
    containers.peek()?;
    let mut last = None;
    for container in containers {
        if container.running_since.is_none() && container.terminated.is_none() {
            return None;
        }
        last = last.max(container.running_since);
    }
    Some(refine(last, seen))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::observation::{Condition, Container, Terminated};

    fn at(second: u32) -> Timestamp {
        Timestamp::parse(&format!("2026-11-24T10:00:{second:02}.5Z")).unwrap()
    }

    fn conditions(kinds: &[(&str, u32)]) -> Vec<Condition> {
        let condition = |(kind, second): &(&str, u32)| Condition {
            kind: (*kind).into(),
            status: "True".into(),
            last_transition: Some(at(*second).whole_second()),
            ..Condition::default()
        };
        kinds.iter().map(condition).collect()
    }

    fn told(road: &mut Road) -> Vec<String> {
        let line = |phase: Phase| {
            let seconds = phase.end.since(phase.begin).as_secs_f64().round();
            let problem = phase.problem.map(|problem| format!(" {}", problem.reason));
            format!("{}{} {seconds}s{}", phase.name, phase.container, problem.unwrap_or_default())
        };
        road.take().into_iter().map(line).collect()
    }

    #[test]
    fn steps_seen_at_once_are_told_apart_and_init_containers_within_theirs() {
        let mut road = Road::begin(at(0));
        let init = |name: &str, finished| Container {
            name: name.into(),
            init: true,
            terminated: Some(Terminated { finished: Some(at(finished)), ..Terminated::default() }),
            ..Container::default()
        };
        let web = Container {
            name: "web".into(),
            running_since: Some(at(9).whole_second()),
            ..Container::default()
        };
        let status = StatusFacts {
            conditions: conditions(&[("PodScheduled", 2), ("Initialized", 8), ("Ready", 12)]),
            containers: vec![init("a", 4), init("b", 7), web],
            ..StatusFacts::default()
        };
        road.observe(&status, None, at(30));
        // Nobody said when the sandbox was there.
        assert_eq!(
            told(&mut road),
            ["schedule 2s", "init 6s", "inita 2s", "initb 3s", "start 1s", "ready 3s"]
        );
        road.end(at(40));
        assert_eq!(told(&mut road), [""; 0]);
    }

    #[test]
    fn what_holds_a_step_up_is_its_own_and_an_open_step_ends_with_the_outcome() {
        let mut road = Road::begin(at(0));
        let unschedulable = Problem {
            reason: "Unschedulable".into(),
            message: "no node fits".into(),
            container: Box::default(),
            since: None,
        };
        road.observe(&StatusFacts::default(), Some(&unschedulable), at(1));
        let scheduled = StatusFacts {
            conditions: conditions(&[("PodScheduled", 9)]),
            ..StatusFacts::default()
        };
        road.observe(&scheduled, None, at(9));
        assert_eq!(told(&mut road), ["schedule 9s Unschedulable"]);
        road.end(at(20));
        assert_eq!(told(&mut road), ["sandbox 11s"]);
    }
}
