//! The way of one object from a change to its outcome (`docs/model.md`, Outcomes).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::trace::{
    model::{
        observation::StatusFacts,
        span::SpanEvent,
        time::{Timestamp, refine},
    },
    progress::status_events::{ActiveProblem, Since, StatusEvents},
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
    /// It held for the settle window, so events of everything it caused have arrived.
    pub settled: bool,
}

impl Ended {
    pub fn new(outcome: Outcome, at: Timestamp) -> Self {
        Self { outcome, at, reason: "".into(), message: "".into(), settled: false }
    }
}

/// How long a custom resource may stay without evidence.
const EVIDENCE_WAIT: Duration = Duration::from_mins(1);
/// How long a late convergence, after `failed` or `timed_out`, is waited for.
const LATE_WAIT: Duration = Duration::from_hours(24);
#[derive(Clone, Debug, Deserialize, Serialize)]
enum State {
    Waiting {
        unknown_since: Option<Timestamp>,
    },
    /// Current or paused, but not yet for the settle window.
    Held {
        since: Timestamp,
        seen: Timestamp,
        outcome: Outcome,
    },
    /// Ended for good.
    Over(Ended),
    /// Ended as `failed` or `timed_out`; a late convergence may follow.
    Lingering {
        ended: Ended,
        held: Option<(Timestamp, Timestamp)>,
    },
}

/// Follows an object from a change to its [`Outcome`].
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Convergence {
    state: State,
    started: Timestamp,
    ended_when_observed: bool,
    /// The last progress of the object, or of the changes it caused.
    last_progress: Timestamp,
    /// The highest value of each progress counter.
    best: [i64; 4],
    status_fingerprint: u64,
    written_since: bool,
    status_events: StatusEvents,
}

/// What follows from a status, or from the time.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    Ended,
    Late { at: Timestamp },
}

impl Convergence {
    pub fn begin(at: Timestamp, seen: Timestamp, status_fingerprint: u64) -> Self {
        Self {
            state: State::Waiting { unknown_since: None },
            started: at,
            ended_when_observed: false,
            last_progress: seen,
            best: [0; 4],
            status_fingerprint,
            written_since: false,
            status_events: StatusEvents::default(),
        }
    }

    /// The convergence of a change that had ended when it was observed.
    pub fn over(outcome: Outcome, at: Timestamp) -> Self {
        let mut convergence = Self::begin(at, at, 0);
        convergence.state = State::Over(Ended::new(outcome, at));
        convergence.ended_when_observed = true;
        convergence
    }

    /// The status that began it is the first one after `fingerprint`.
    pub(crate) fn wait_since(&mut self, fingerprint: u64) {
        self.status_fingerprint = fingerprint;
    }

    /// Whether it had ended when the change was observed.
    pub fn had_ended_when_observed(&self) -> bool {
        self.ended_when_observed
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

    /// Whether it has failed or timed out, and may converge late.
    pub fn is_lingering(&self) -> bool {
        matches!(self.state, State::Lingering { .. })
    }

    /// Whether the controller is still at work: neither ended nor Current nor paused.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting { .. })
    }

    /// Whether it is Current or paused, but not yet for the settle window.
    pub fn is_held(&self) -> bool {
        matches!(self.state, State::Held { .. })
    }

    /// Since when it is Current, while the settle window lasts.
    pub fn current_since(&self) -> Option<Timestamp> {
        match &self.state {
            State::Held { since, outcome: Outcome::Converged, .. } => Some(*since),
            State::Held { .. }
            | State::Waiting { .. }
            | State::Over(_)
            | State::Lingering { .. } => None,
        }
    }

    /// A change that this one waited for became Current at `at`, by an event of another watch. If that
    /// is at most `apart` later than this one, only the order of the two watches differs: this one was
    /// Current no earlier.
    pub fn delay_until(&mut self, at: Timestamp, apart: Duration) {
        if let State::Held { since, outcome: Outcome::Converged, .. } = &mut self.state
            && at <= since.plus(apart)
        {
            *since = at.max(*since);
        }
    }

    /// Whether nothing can follow any more, not even a late convergence.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over(_))
    }

    /// The start of the convergence and the reason of the first deciding condition that is not True.
    pub fn open_condition(&self) -> Option<(Timestamp, &str)> {
        Some((self.started, self.status_events.open_condition()?))
    }

    pub fn active_problem_mut(&mut self) -> Option<&mut ActiveProblem> {
        self.status_events.active_problem.as_mut()
    }

    pub fn active_problem(&self) -> Option<&ActiveProblem> {
        self.status_events.active_problem.as_ref()
    }

    pub fn take_events(&mut self) -> Vec<SpanEvent> {
        self.status_events.take()
    }

    /// Records a status. Returns whether one was written after the change.
    pub fn record_status(&mut self, fingerprint: u64) -> bool {
        self.written_since |= fingerprint != self.status_fingerprint;
        self.written_since
    }

    /// Records progress: the change caused another one, or a deletion advanced.
    pub fn record_progress(&mut self, at: Timestamp) {
        self.last_progress = self.last_progress.max(at);
    }

    /// The outcome and end it would have if a newer change overtook it now.
    fn settled(&self) -> Option<(Outcome, Timestamp)> {
        match &self.state {
            State::Held { since, outcome, .. } => Some((*outcome, *since)),
            State::Waiting { .. } | State::Over(_) | State::Lingering { .. } => None,
        }
    }

    /// Takes in the verdict about a status that was received at `seen`.
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
            let since = Since { started: self.started, written: self.written_since, seen };
            self.status_events.record(facts, problem, since);
            if progress.iter().zip(self.best).any(|(now, best)| *now > best) {
                self.last_progress = seen;
                for (best, now) in self.best.iter_mut().zip(progress) {
                    *best = now.max(*best);
                }
            }
        }
        let held_since = |since: Option<Timestamp>| refine(since, seen).max(self.started);
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
            // It was Current for less than the settle window.
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

    /// When [`Self::expire`] has something to do, or a problem is to be reported. `is_decided`: the
    /// cause is known, so that a problem can be reported.
    pub fn deadline(&self, limits: &Limits, is_decided: bool) -> Option<Timestamp> {
        let verdict = match &self.state {
            State::Waiting { unknown_since } => {
                let timeout = self.last_progress.plus(limits.deadline);
                unknown_since.map_or(timeout, |since| since.plus(EVIDENCE_WAIT).min(timeout))
            }
            State::Held { seen, .. } => seen.plus(limits.settle),
            State::Over(_) => return None,
            State::Lingering { held: Some((_, seen)), .. } => {
                return Some(seen.plus(limits.settle));
            }
            State::Lingering { ended, held: None } => return Some(ended.at.plus(LATE_WAIT)),
        };
        let stuck = self.active_problem().filter(|problem| is_decided && !problem.reported);
        Some(stuck.map_or(verdict, |t| t.since.plus(limits.stuck_after).min(verdict)))
    }

    /// Time has advanced to `now`.
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
            State::Waiting { .. } if self.last_progress.plus(limits.deadline) <= now => {
                let at = self.last_progress.plus(limits.deadline);
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

    /// A newer change came at `at`: it ends as converged where it was Current, else as superseded.
    /// Returns whether it ended by that.
    pub fn overtake(&mut self, at: Timestamp) -> bool {
        if let State::Lingering { ended, .. } = &self.state {
            self.state = State::Over(ended.clone());
            return false;
        }
        if self.is_over() {
            return false;
        }
        let (outcome, end) = self.settled().unwrap_or((Outcome::Superseded, at));
        self.state = State::Over(Ended::new(outcome, end.min(at).max(self.started)));
        true
    }

    /// Ends it in any state.
    pub fn end(&mut self, outcome: Outcome, at: Timestamp) {
        self.state = State::Over(Ended::new(outcome, at.max(self.started)));
    }
}
