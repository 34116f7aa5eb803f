//! The span events that statuses make: conditions that changed and problems that began.

use std::{borrow::Cow, time::Duration};

use serde::{Deserialize, Serialize};

use crate::trace::{
    model::{
        observation::StatusFacts,
        span::{Attribute, MAX_EVENTS, SpanEvent, Value},
        time::{Timestamp, refine},
    },
    readiness::{
        judgement::Urgency,
        problem::{Blocker, Problem},
    },
    rules::Limits,
};

/// Name of the span event for a condition that changed.
const CONDITION: &str = "condition";
/// Name of the span event for a problem that began.
const WAITING: &str = "waiting";
/// Conditions compared from one status to the next: as many as are read of a status. Further ones
/// are ignored.
const MAX_CONDITIONS: usize = 64;
/// Problems remembered of one convergence after they were over.
const MAX_PAST_PROBLEMS: usize = 8;

/// A problem that the object has.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ActiveProblem {
    pub problem: Problem,
    pub since: Timestamp,
    /// It has a stuck span.
    pub reported: bool,
}

/// What an object waits for is a problem after this time.
const PATIENCE: Duration = Duration::from_mins(1);

impl ActiveProblem {
    /// When it has lasted long enough to be reported; `None`: never.
    pub fn reportable_at(&self, limits: &Limits) -> Option<Timestamp> {
        let patience = match self.problem.urgency {
            Urgency::Failure => Duration::ZERO,
            Urgency::Waiting => PATIENCE,
            Urgency::Working => return None,
        };
        Some(self.since.plus(limits.stuck_after.max(patience)))
    }
}

/// The observed states of one convergence, as span events.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct StatusEvents {
    pub(super) active_problem: Option<ActiveProblem>,
    /// Problems that can come back: controllers go to and fro between trying and failing.
    past_problems: Vec<ActiveProblem>,
    /// Kind, status and reason of the conditions at the last status.
    conditions: Vec<(Box<str>, Box<str>, Box<str>)>,
    events: Vec<SpanEvent>,
}

/// The times that a status is compared with.
#[derive(Clone, Copy)]
pub(super) struct Since {
    pub(super) started: Timestamp,
    /// A status was written after the change.
    pub(super) written: bool,
    pub(super) seen: Timestamp,
}

impl StatusEvents {
    pub(super) fn record(&mut self, facts: &StatusFacts, problem: Option<Problem>, since: Since) {
        self.record_conditions(facts, since);
        self.record_problem(facts, problem, since);
    }

    pub(super) fn take(&mut self) -> Vec<SpanEvent> {
        std::mem::take(&mut self.events)
    }

    /// What is open: the problem, else the reason of a condition.
    pub(super) fn open(&self) -> Option<(Box<str>, Box<str>)> {
        let problem = self.active_problem.as_ref().map(|active| &active.problem);
        problem.map(|problem| (problem.reason.clone(), problem.message.clone()))
    }

    /// The reason of the first deciding condition that is not True.
    pub(super) fn open_condition(&self) -> Option<&str> {
        const DECIDING: [&str; 6] =
            ["Ready", "Synced", "Available", "Accepted", "Programmed", "Progressing"];
        let open = |kind: &&str| {
            let is_open = |(of, status, reason): &&(Box<str>, Box<str>, Box<str>)| {
                **of == **kind && &**status != "True" && !reason.is_empty()
            };
            self.conditions.iter().find(is_open).map(|(_, _, reason)| &**reason)
        };
        DECIDING.iter().find_map(open)
    }

    /// Adds a span event for each condition that changed since the last status.
    fn record_conditions(&mut self, facts: &StatusFacts, since: Since) {
        for condition in &facts.conditions {
            let now = (&condition.kind, &condition.status, &condition.reason);
            let is_full = self.conditions.len() >= MAX_CONDITIONS;
            let before = self.conditions.iter_mut().find(|(kind, ..)| *kind == condition.kind);
            let turned = refine(condition.last_transition, since.seen);
            let at = match before {
                Some((_, status, reason)) if (&*status, &*reason) == (now.1, now.2) => continue,
                Some((_, status, reason)) => {
                    // The API has no time for a changed reason.
                    let at = if *status == *now.1 { since.seen } else { turned.max(since.started) };
                    *status = now.1.clone();
                    *reason = now.2.clone();
                    at
                }
                None if is_full => continue,
                None => {
                    self.conditions.push((now.0.clone(), now.1.clone(), now.2.clone()));
                    // A condition without a time may have existed before the change.
                    if condition.last_transition.is_none() && !since.written {
                        continue;
                    }
                    turned
                }
            };
            // A condition from before the change is not an event of it.
            if at >= since.started {
                self.push_event(
                    CONDITION,
                    at,
                    [
                        ("type", &condition.kind),
                        ("status", &condition.status),
                        ("reason", &condition.reason),
                    ],
                );
            }
        }
    }

    fn record_problem(&mut self, facts: &StatusFacts, problem: Option<Problem>, since: Since) {
        let lasts = |lasting: &Problem| match &problem {
            // The same problem again.
            Some(now) if now.reason == lasting.reason && now.container == lasting.container => true,
            Some(_) | None => !lasting.is_over(facts),
        };
        let over = self.active_problem.take_if(|active| !lasts(&active.problem));
        self.past_problems.extend(over.filter(|over| {
            over.problem.blocks == Blocker::Verdict && self.past_problems.len() < MAX_PAST_PROBLEMS
        }));
        let Some(problem) = problem else { return };
        let is_again = |past: &ActiveProblem| past.problem.reason == problem.reason;
        if let Some(index) = self.past_problems.iter().position(is_again) {
            let past = self.past_problems.swap_remove(index);
            self.active_problem = Some(ActiveProblem { problem, ..past });
            return;
        }
        if let Some(active) = &mut self.active_problem
            && active.problem.reason == problem.reason
        {
            // The message of a condition can become shorter as its problem is resolved. The first
            // message of a container describes its failure best.
            if active.problem.blocks == problem.blocks && problem.container.is_empty() {
                active.problem.message = problem.message;
            }
            return;
        }
        let begin = refine(problem.since, since.seen).max(since.started);
        // A new problem is worth more than one more changed condition, a repeated one is not.
        if self.events.len() >= MAX_EVENTS && !self.has_event_about(&problem.reason) {
            make_room(&mut self.events);
        }
        if problem.urgency != Urgency::Working {
            self.push_event(
                WAITING,
                begin,
                [
                    ("reason", &problem.reason),
                    ("container", &problem.container),
                    ("message", &problem.message),
                ],
            );
        }
        self.active_problem = Some(ActiveProblem { problem, since: begin, reported: false });
    }

    fn has_event_about(&self, reason: &str) -> bool {
        let is_reason =
            |of: &Attribute| matches!(&of.value, Value::Text(text) if **text == *reason);
        let mut waits = self.events.iter().filter(|event| event.name == WAITING);
        waits.any(|event| event.attributes.iter().any(|of| of.key == "reason" && is_reason(of)))
    }

    fn push_event<const N: usize>(
        &mut self,
        name: &'static str,
        at: Timestamp,
        attributes: [(&'static str, &str); N],
    ) {
        if self.events.len() >= MAX_EVENTS {
            return;
        }
        let attributes = attributes
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| Attribute {
                key: Cow::Borrowed(key),
                value: Value::Text(value.into()),
            })
            .collect();
        self.events.push(SpanEvent { at, name: name.into(), attributes });
    }
}

/// Makes room for an event that is worth more than a changed condition, by removing the last of
/// those. Returns whether there was one.
pub(crate) fn make_room(events: &mut Vec<SpanEvent>) -> bool {
    let last = events.iter().rposition(|event| event.name == CONDITION);
    last.map(|last| events.remove(last)).is_some()
}
