//! Follows an object from a change to its outcome.

use std::{borrow::Cow, time::Duration};

use serde::{Deserialize, Serialize};

use crate::trace::{
    model::{
        observation::StatusFacts,
        span::{Attribute, MAX_EVENTS, SpanEvent, Value},
        time::{Timestamp, refine},
    },
    readiness::{problem::Problem, status::Status},
    rules::Limits,
};

/// How a convergence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub enum Outcome {
    Converged,
    Failed,
    Superseded,
    Deleted,
    TimedOut,
    Paused,
    Unknown,
}

impl Outcome {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Converged => "converged",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
            Self::Deleted => "deleted",
            Self::TimedOut => "timed_out",
            Self::Paused => "paused",
            Self::Unknown => "unknown",
        }
    }
}

/// The end of a convergence.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Ended {
    pub outcome: Outcome,
    pub at: Timestamp,
    pub reason: Box<str>,
    pub message: Box<str>,
    /// It was held for the settle window: news of all it caused has come.
    pub settled: bool,
}

impl Ended {
    pub fn new(outcome: Outcome, at: Timestamp) -> Self {
        Self { outcome, at, reason: "".into(), message: "".into(), settled: false }
    }
}

/// How long a custom resource may stay without evidence.
const EVIDENCE_WAIT: Duration = Duration::from_mins(1);
/// How long a convergence is looked for that came after its verdict.
const LATE_WAIT: Duration = Duration::from_hours(24);
const CONDITION: &str = "condition";
const WAITING: &str = "waiting";
/// As many as a status is read for; more, of ever other names, are no conditions.
const MAX_CONDITIONS: usize = 64;

#[derive(Clone, Debug, Deserialize, Serialize)]
enum State {
    Waiting {
        unknown_since: Option<Timestamp>,
    },
    /// Current or paused, not yet for long enough.
    Held {
        since: Timestamp,
        seen: Timestamp,
        outcome: Outcome,
    },
    Over(Ended),
    /// After `failed` or `timed_out`: still looked at.
    Lingering {
        ended: Ended,
        held: Option<(Timestamp, Timestamp)>,
    },
}

/// An object's road from a change to its [`Outcome`].
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Convergence {
    state: State,
    begun: Timestamp,
    over_when_seen: bool,
    /// Of the object, or of what it caused.
    progressed: Timestamp,
    best: [i64; 4],
    status_fingerprint: u64,
    written_since: bool,
    trouble: Option<ActiveProblem>,
    /// What the conditions were, to see them turn.
    conditions: Vec<(Box<str>, Box<str>, Box<str>)>,
    events: Vec<SpanEvent>,
}

/// A problem that lasts.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ActiveProblem {
    pub problem: Problem,
    pub since: Timestamp,
    pub told: bool,
}

/// What followed from time or a status.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    Ended,
    Late { at: Timestamp },
}

impl Convergence {
    pub fn begin(at: Timestamp, seen: Timestamp, status_fingerprint: u64) -> Self {
        Self {
            state: State::Waiting { unknown_since: None },
            begun: at,
            over_when_seen: false,
            progressed: seen,
            best: [0; 4],
            status_fingerprint,
            written_since: false,
            trouble: None,
            conditions: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Of a change that is over when it is seen.
    pub fn over(outcome: Outcome, at: Timestamp) -> Self {
        let mut convergence = Self::begin(at, at, 0);
        convergence.state = State::Over(Ended::new(outcome, at));
        convergence.over_when_seen = true;
        convergence
    }

    /// There was nothing to wait for.
    pub fn was_over_when_seen(&self) -> bool {
        self.over_when_seen
    }

    pub fn ended(&self) -> Option<&Ended> {
        match &self.state {
            State::Over(ended) | State::Lingering { ended, .. } => Some(ended),
            State::Waiting { .. } | State::Held { .. } => None,
        }
    }

    pub fn is_open(&self) -> bool {
        self.ended().is_none()
    }

    /// Over, and looked at all the same: what it waited for may still come.
    pub fn is_lingering(&self) -> bool {
        matches!(self.state, State::Lingering { .. })
    }

    /// Neither over nor Current, nor paused: whoever acts on the object is not done.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting { .. })
    }

    /// Current, or paused, and not yet for long enough.
    pub fn is_held(&self) -> bool {
        matches!(self.state, State::Held { .. })
    }

    /// Since when it is Current, not yet for long enough.
    pub fn current_since(&self) -> Option<Timestamp> {
        match &self.state {
            State::Held { since, outcome: Outcome::Converged, .. } => Some(*since),
            State::Held { .. }
            | State::Waiting { .. }
            | State::Over(_)
            | State::Lingering { .. } => None,
        }
    }

    /// What it waited for was Current at `at`, by news of another watch: no more than `apart` later,
    /// it was the later news, and not the later of the two.
    pub fn waited_until(&mut self, at: Timestamp, apart: Duration) {
        if let State::Held { since, outcome: Outcome::Converged, .. } = &mut self.state
            && at <= since.plus(apart)
        {
            *since = at.max(*since);
        }
    }

    /// Nothing will come of it any more.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over(_))
    }

    /// The reason of what is not as it should be, by the conditions last seen.
    pub fn open_condition(&self) -> Option<(Timestamp, &str)> {
        const DECIDING: [&str; 6] =
            ["Ready", "Synced", "Available", "Accepted", "Programmed", "Progressing"];
        let open = |kind: &&str| {
            let is_open = |(of, status, reason): &&(Box<str>, Box<str>, Box<str>)| {
                **of == **kind && &**status != "True" && !reason.is_empty()
            };
            self.conditions.iter().find(is_open).map(|(_, _, reason)| &**reason)
        };
        Some((self.begun, DECIDING.iter().find_map(open)?))
    }

    pub fn trouble_mut(&mut self) -> Option<&mut ActiveProblem> {
        self.trouble.as_mut()
    }

    pub fn trouble(&self) -> Option<&ActiveProblem> {
        self.trouble.as_ref()
    }

    pub fn take_events(&mut self) -> Vec<SpanEvent> {
        std::mem::take(&mut self.events)
    }

    /// Whether a status was written after the change, this one included.
    pub fn note_status(&mut self, fingerprint: u64) -> bool {
        self.written_since |= fingerprint != self.status_fingerprint;
        self.written_since
    }

    /// Something the change caused has begun.
    pub fn note_progress(&mut self, at: Timestamp) {
        self.progressed = self.progressed.max(at);
    }

    /// The time its outcome will have, if it ended now by being overtaken.
    fn settled(&self) -> Option<(Outcome, Timestamp)> {
        match &self.state {
            State::Held { since, outcome, .. } => Some((*outcome, *since)),
            State::Waiting { .. } | State::Over(_) | State::Lingering { .. } => None,
        }
    }

    /// A status was observed at `seen` and judged.
    pub fn observe(
        &mut self,
        verdict: &Status,
        facts: &StatusFacts,
        problem: Option<Problem>,
        progress: [i64; 4],
        seen: Timestamp,
    ) -> Option<News> {
        if self.is_over() {
            return None;
        }
        if self.is_open() {
            self.note_events(facts, seen);
            self.note_trouble(facts, problem, seen);
            if progress.iter().zip(self.best).any(|(now, best)| *now > best) {
                self.progressed = seen;
                for (best, now) in self.best.iter_mut().zip(progress) {
                    *best = now.max(*best);
                }
            }
        }
        let held_since = |since: Option<Timestamp>| refine(since, seen).max(self.begun);
        let held = |since: Option<Timestamp>, outcome| State::Held {
            since: held_since(since),
            seen,
            outcome,
        };
        match (&mut self.state, verdict) {
            (State::Held { outcome: Outcome::Converged, .. }, Status::Current { .. })
            | (State::Held { outcome: Outcome::Paused, .. }, Status::Paused)
            | (State::Over(_), _) => {}
            (State::Waiting { .. } | State::Held { .. }, Status::Current { since }) => {
                self.state = held(*since, Outcome::Converged);
            }
            (State::Waiting { .. } | State::Held { .. }, Status::Paused) => {
                self.state = held(None, Outcome::Paused);
            }
            (
                State::Waiting { .. } | State::Held { .. },
                Status::Failed { reason, message, since },
            ) => {
                let ended = Ended {
                    reason: reason.clone(),
                    message: message.clone(),
                    ..Ended::new(Outcome::Failed, held_since(*since))
                };
                self.state = State::Lingering { ended, held: None };
                return Some(News::Ended);
            }
            (State::Waiting { unknown_since }, Status::Unknown) => {
                unknown_since.get_or_insert(seen);
            }
            (State::Waiting { unknown_since }, Status::InProgress) => *unknown_since = None,
            // Fell back within the settle window.
            (State::Held { .. }, Status::InProgress) => {
                self.state = State::Waiting { unknown_since: None };
            }
            (State::Held { .. }, Status::Unknown) => {
                self.state = State::Waiting { unknown_since: Some(seen) };
            }
            (State::Lingering { held, ended }, Status::Current { since }) => {
                held.get_or_insert((refine(*since, seen).max(ended.at), seen));
            }
            (State::Lingering { held, .. }, _) => *held = None,
        }
        None
    }

    /// When [`Self::expire`] has something to do.
    /// `may_tell`: a cause is known, so that a problem can be told.
    pub fn deadline(&self, limits: &Limits, may_tell: bool) -> Option<Timestamp> {
        let verdict = match &self.state {
            State::Waiting { unknown_since } => {
                let timeout = self.progressed.plus(limits.deadline);
                unknown_since.map_or(timeout, |since| since.plus(EVIDENCE_WAIT).min(timeout))
            }
            State::Held { seen, .. } => seen.plus(limits.settle),
            State::Over(_) => return None,
            State::Lingering { held: Some((_, seen)), .. } => {
                return Some(seen.plus(limits.settle));
            }
            State::Lingering { ended, held: None } => return Some(ended.at.plus(LATE_WAIT)),
        };
        let stuck = self.trouble.as_ref().filter(|trouble| may_tell && !trouble.told);
        Some(stuck.map_or(verdict, |t| t.since.plus(limits.stuck_after).min(verdict)))
    }

    /// Time has come to `now`.
    pub fn expire(&mut self, now: Timestamp, limits: &Limits) -> Option<News> {
        match &mut self.state {
            State::Held { since, seen, outcome } if seen.plus(limits.settle) <= now => {
                let ended = Ended { settled: true, ..Ended::new(*outcome, *since) };
                self.state = State::Over(ended);
                Some(News::Ended)
            }
            State::Waiting { unknown_since: Some(since) } if since.plus(EVIDENCE_WAIT) <= now => {
                let at = since.plus(EVIDENCE_WAIT);
                self.state = State::Over(Ended::new(Outcome::Unknown, at));
                Some(News::Ended)
            }
            State::Waiting { .. } if self.progressed.plus(limits.deadline) <= now => {
                let at = self.progressed.plus(limits.deadline);
                let ended = Ended { reason: "timeout".into(), ..Ended::new(Outcome::TimedOut, at) };
                self.state = State::Lingering { ended, held: None };
                Some(News::Ended)
            }
            State::Lingering { ended, held: Some((since, seen)) }
                if seen.plus(limits.settle) <= now =>
            {
                let at = *since;
                self.state = State::Over(ended.clone());
                Some(News::Late { at })
            }
            State::Lingering { ended, held: None } if ended.at.plus(LATE_WAIT) <= now => {
                self.state = State::Over(ended.clone());
                None
            }
            State::Waiting { .. }
            | State::Held { .. }
            | State::Lingering { .. }
            | State::Over(_) => None,
        }
    }

    /// A newer generation or the deletion came at `at`: converged where it was Current, else
    /// superseded. Whether it ended by that.
    pub fn overtake(&mut self, at: Timestamp) -> bool {
        if let State::Lingering { ended, .. } = &self.state {
            self.state = State::Over(ended.clone());
            return false;
        }
        if self.is_over() {
            return false;
        }
        let (outcome, end) = self.settled().unwrap_or((Outcome::Superseded, at));
        self.state = State::Over(Ended::new(outcome, end.min(at).max(self.begun)));
        true
    }

    /// Ends it, whatever it was.
    pub fn end(&mut self, outcome: Outcome, at: Timestamp) {
        self.state = State::Over(Ended::new(outcome, at.max(self.begun)));
    }

    /// Conditions that turned since the last look: each a span event.
    fn note_events(&mut self, facts: &StatusFacts, seen: Timestamp) {
        for condition in &facts.conditions {
            let now = (&condition.kind, &condition.status, &condition.reason);
            let is_full = self.conditions.len() >= MAX_CONDITIONS;
            let before = self.conditions.iter_mut().find(|(kind, ..)| *kind == condition.kind);
            let turned = refine(condition.last_transition, seen);
            let at = match before {
                Some((_, status, reason)) if (&*status, &*reason) == (now.1, now.2) => continue,
                Some((_, status, reason)) => {
                    // That it has another reason now is news as well; the API gives it no time.
                    let at = if *status == *now.1 { seen } else { turned.max(self.begun) };
                    *status = now.1.clone();
                    *reason = now.2.clone();
                    at
                }
                None if is_full => continue,
                None => {
                    self.conditions.push((now.0.clone(), now.1.clone(), now.2.clone()));
                    // Without a time, all that is known of it is whether it was there before.
                    if condition.last_transition.is_none() && !self.written_since {
                        continue;
                    }
                    turned
                }
            };
            // What was so before the change is not news.
            if at >= self.begun {
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

    fn note_trouble(&mut self, facts: &StatusFacts, problem: Option<Problem>, seen: Timestamp) {
        let lasts = |lasting: &Problem| match &problem {
            // There it is again.
            Some(now) if now.reason == lasting.reason && now.container == lasting.container => true,
            Some(_) | None => !lasting.is_over(facts),
        };
        self.trouble.take_if(|trouble| !lasts(&trouble.problem));
        let Some(problem) = problem else { return };
        if let Some(known) = &mut self.trouble
            && known.problem.reason == problem.reason
        {
            // What remains may be less than it was. How a container could not be started is said
            // best the first time.
            if known.problem.blocks == problem.blocks && problem.container.is_empty() {
                known.problem.message = problem.message;
            }
            return;
        }
        let since = refine(problem.since, seen).max(self.begun);
        // That it waited says more than one more condition that turned; that it did so again does not.
        if self.events.len() >= MAX_EVENTS && !self.has_told(&problem.reason) {
            make_room(&mut self.events);
        }
        self.push_event(
            WAITING,
            since,
            [
                ("reason", &problem.reason),
                ("container", &problem.container),
                ("message", &problem.message),
            ],
        );
        self.trouble = Some(ActiveProblem { problem, since, told: false });
    }

    fn has_told(&self, reason: &str) -> bool {
        let is_it = |of: &Attribute| matches!(&of.value, Value::Text(text) if **text == *reason);
        let mut waits = self.events.iter().filter(|event| event.name == WAITING);
        waits.any(|event| event.attributes.iter().any(|of| of.key == "reason" && is_it(of)))
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

/// For one event that says more than a condition that turned, by leaving out the last of those.
pub(crate) fn make_room(events: &mut Vec<SpanEvent>) -> bool {
    let last = events.iter().rposition(|event| event.name == CONDITION);
    last.map(|last| events.remove(last)).is_some()
}
