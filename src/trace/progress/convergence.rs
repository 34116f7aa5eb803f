//! The way of one object from a change to its outcome (`docs/model.md`, Outcomes).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::trace::{
    model::{
        observation::StatusFacts,
        span::SpanEvent,
        time::{Timestamp, refine},
    },
    progress::{
        evidence::{Before, EvidenceLog, Progress, ProgressLog, Weighed},
        outcome::{Ended, Outcome},
        status_events::{ActiveProblem, Since, StatusEvents},
    },
    readiness::{judgement::Judgement, problem::Problem, status::Status},
    rules::Limits,
};

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
    /// Current or failed by evidence that may be from before the change: it counts when it has stood
    /// for a while after the first status since the change.
    Standing {
        seen: Timestamp,
        /// As it ends when the evidence has stood long enough.
        ended: Ended,
    },
    /// The controller has paused: it continues by itself, or when a person lets it.
    OnHold {
        since: Timestamp,
        seen: Timestamp,
    },
    /// Ended for good.
    Over(Ended),
    /// Ended as `failed`, `timed_out` or `unknown`; a late convergence may follow.
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
    progress: ProgressLog,
    evidence: EvidenceLog,
    status_events: StatusEvents,
}

/// How a convergence proceeds with a status, or as time passes.
#[derive(Clone, Debug, PartialEq)]
pub enum Transition {
    /// It has its outcome.
    Ended,
    /// It has become Current after it had timed out.
    Late { at: Timestamp },
}

impl Convergence {
    pub fn begin(at: Timestamp, seen: Timestamp, before: Before) -> Self {
        Self {
            state: State::Waiting { unknown_since: None },
            started: at,
            ended_when_observed: false,
            last_progress: seen,
            progress: ProgressLog::default(),
            evidence: EvidenceLog::new(before),
            status_events: StatusEvents::default(),
        }
    }

    /// The convergence of a change that had ended when it was observed.
    pub fn over(outcome: Outcome, at: Timestamp) -> Self {
        let mut convergence = Self::begin(at, at, Before::default());
        convergence.state = State::Over(Ended::new(outcome, at));
        convergence.ended_when_observed = true;
        convergence
    }

    /// The status that began it is the first one after `fingerprint`.
    pub(crate) fn wait_since(&mut self, fingerprint: u64) {
        self.evidence.wait_since(fingerprint);
    }

    /// Whether it had ended when the change was observed.
    pub fn had_ended_when_observed(&self) -> bool {
        self.ended_when_observed
    }

    pub fn ended(&self) -> Option<&Ended> {
        match &self.state {
            State::Over(ended) | State::Lingering { ended, .. } => Some(ended),
            State::Waiting { .. }
            | State::Held { .. }
            | State::Standing { .. }
            | State::OnHold { .. } => None,
        }
    }

    pub fn is_open(&self) -> bool {
        self.ended().is_none()
    }

    /// Whether it has ended without a convergence, and may converge late.
    pub fn is_lingering(&self) -> bool {
        matches!(self.state, State::Lingering { .. })
    }

    /// Whether the controller is still at work: neither ended nor Current nor paused.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting { .. } | State::Standing { .. } | State::OnHold { .. })
    }

    /// Whether it is Current or paused, but not yet for the settle window.
    pub fn is_held(&self) -> bool {
        matches!(self.state, State::Held { .. })
    }

    /// Whether it has ended, and well.
    pub fn has_converged(&self) -> bool {
        self.ended().is_some_and(|ended| ended.outcome == Outcome::Converged)
    }

    /// Since when it is Current, while the settle window lasts.
    pub fn current_since(&self) -> Option<Timestamp> {
        match &self.state {
            State::Held { since, outcome: Outcome::Converged, .. } => Some(*since),
            State::Held { .. }
            | State::Waiting { .. }
            | State::Standing { .. }
            | State::OnHold { .. }
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
    pub fn record_status(&mut self, fingerprint: u64, seen: Timestamp) -> bool {
        self.evidence.record_status(fingerprint, seen)
    }

    /// Whether a verdict counts for this change at once, or its evidence may be from before.
    pub fn weigh(&mut self, judgement: &Judgement) -> bool {
        self.evidence.weigh(judgement)
    }

    /// Records progress: the change caused another one, or a deletion advanced.
    pub fn record_progress(&mut self, at: Timestamp) {
        self.last_progress = self.last_progress.max(at);
    }

    /// The outcome and end it would have if a newer change overtook it now.
    fn settled(&self) -> Option<(Outcome, Timestamp)> {
        match &self.state {
            State::Held { since, outcome, .. } => Some((*outcome, *since)),
            State::Waiting { .. }
            | State::Standing { .. }
            | State::OnHold { .. }
            | State::Over(_)
            | State::Lingering { .. } => None,
        }
    }

    /// Takes in the verdict about a status that was received at `seen`.
    pub fn observe(
        &mut self,
        verdict: Weighed<'_>,
        facts: &StatusFacts,
        problem: Option<Problem>,
        progress: Progress,
        seen: Timestamp,
    ) -> Option<Transition> {
        if self.is_over() {
            return None;
        }
        if self.is_open() {
            let since =
                Since { started: self.started, written: self.evidence.written.is_some(), seen };
            self.status_events.record(facts, problem, since);
            if self.progress.record(progress) {
                self.last_progress = seen;
            }
        }
        if !verdict.stands && self.is_open() {
            self.stand(verdict.judgement, seen);
            return None;
        }
        let verdict = &verdict.judgement.status;
        let held_since = |since: Option<Timestamp>| refine(since, seen).max(self.started);
        let held = |since: Option<Timestamp>, outcome| State::Held {
            since: held_since(since),
            seen,
            outcome,
        };
        match (&mut self.state, verdict) {
            (State::Held { outcome: Outcome::Converged, .. }, Status::Current { .. })
            | (State::Held { outcome: Outcome::Paused, .. }, Status::Paused)
            | (State::OnHold { .. }, Status::OnHold)
            | (State::Over(_), _) => {}
            (
                State::Waiting { .. }
                | State::Held { .. }
                | State::Standing { .. }
                | State::OnHold { .. },
                Status::Current { since },
            ) => {
                self.state = held(*since, Outcome::Converged);
            }
            (
                State::Waiting { .. }
                | State::Held { .. }
                | State::Standing { .. }
                | State::OnHold { .. },
                Status::Paused,
            ) => {
                self.state = held(None, Outcome::Paused);
            }
            (
                State::Waiting { .. }
                | State::Held { .. }
                | State::Standing { .. }
                | State::OnHold { .. },
                Status::Failed { reason, message, since },
            ) => {
                let ended = Ended {
                    reason: reason.clone(),
                    message: message.clone(),
                    ..Ended::new(Outcome::Failed, held_since(*since))
                };
                self.state = State::Lingering { ended, held: None };
                return Some(Transition::Ended);
            }
            (State::Waiting { unknown_since }, Status::Unknown) => {
                unknown_since.get_or_insert(seen);
            }
            (State::Waiting { unknown_since }, Status::InProgress) => *unknown_since = None,
            (
                State::Waiting { .. } | State::Held { .. } | State::Standing { .. },
                Status::OnHold,
            ) => {
                self.state = State::OnHold { since: seen, seen };
            }
            // It was Current for less than the settle window.
            (
                State::Held { .. } | State::Standing { .. } | State::OnHold { .. },
                Status::InProgress,
            ) => {
                self.state = State::Waiting { unknown_since: None };
            }
            (
                State::Held { .. } | State::Standing { .. } | State::OnHold { .. },
                Status::Unknown,
            ) => {
                self.state = State::Waiting { unknown_since: Some(seen) };
            }
            (State::Lingering { held, ended }, Status::Current { since }) => {
                held.get_or_insert((refine(*since, seen).max(ended.at), seen));
            }
            (State::Lingering { held, .. }, _) => *held = None,
        }
        None
    }

    /// The evidence may be from before the change: it has to stand for a while.
    fn stand(&mut self, judgement: &Judgement, seen: Timestamp) {
        let failure = match &judgement.status {
            Status::Failed { reason, message, .. } => Some((reason.clone(), message.clone())),
            Status::Current { .. }
            | Status::InProgress
            | Status::Paused
            | Status::OnHold
            | Status::Unknown => None,
        };
        let outcome = if failure.is_some() { Outcome::Failed } else { Outcome::Converged };
        let (reason, message) = failure.unwrap_or_default();
        // Either it stands already, or it is Current by better evidence, which is not gone.
        let is_known = match &self.state {
            State::Standing { ended, .. } => ended.outcome == outcome,
            State::Held { outcome: held, .. } => *held == outcome,
            State::Waiting { .. }
            | State::OnHold { .. }
            | State::Over(_)
            | State::Lingering { .. } => false,
        };
        if is_known {
            return;
        }
        let at = self.evidence.written.unwrap_or(seen).max(self.started);
        let settled = outcome == Outcome::Converged;
        let is_thin = settled && judgement.is_thin;
        let ended = Ended { outcome, at, reason, message, settled, is_thin };
        self.state = State::Standing { seen, ended };
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
            State::OnHold { seen, .. } => seen.plus(limits.deadline),
            State::Standing { seen, .. } => seen.plus(limits.evidence.max(limits.settle)),
            State::Over(_) => return None,
            State::Lingering { held: Some((_, seen)), .. } => {
                return Some(seen.plus(limits.settle));
            }
            State::Lingering { ended, held: None } => return Some(ended.at.plus(LATE_WAIT)),
        };
        let stuck = self.active_problem().filter(|problem| is_decided && !problem.reported);
        let stuck = stuck.and_then(|active| active.reportable_at(limits));
        Some(stuck.map_or(verdict, |at| at.min(verdict)))
    }

    /// Time has advanced to `now`.
    pub fn expire(&mut self, now: Timestamp, limits: &Limits) -> Option<Transition> {
        match &mut self.state {
            State::Held { since, seen, outcome } if seen.plus(limits.settle) <= now => {
                let ended = Ended { settled: true, ..Ended::new(*outcome, *since) };
                self.state = State::Over(ended);
                Some(Transition::Ended)
            }
            State::Waiting { unknown_since: Some(since) } if since.plus(EVIDENCE_WAIT) <= now => {
                let ended = Ended::new(Outcome::Unknown, since.plus(EVIDENCE_WAIT));
                self.state = State::Lingering { ended, held: None };
                Some(Transition::Ended)
            }
            State::Standing { seen, ended }
                if seen.plus(limits.evidence.max(limits.settle)) <= now =>
            {
                let ended = ended.clone();
                self.state = if ended.outcome == Outcome::Failed {
                    State::Lingering { ended, held: None }
                } else {
                    State::Over(ended)
                };
                Some(Transition::Ended)
            }
            State::OnHold { since, seen } if seen.plus(limits.deadline) <= now => {
                let ended = Ended::new(Outcome::Paused, *since);
                self.state = State::Lingering { ended, held: None };
                Some(Transition::Ended)
            }
            State::Waiting { .. } if self.last_progress.plus(limits.deadline) <= now => {
                let at = self.last_progress.plus(limits.deadline);
                let (reason, message) =
                    self.status_events.open().unwrap_or_else(|| ("timeout".into(), "".into()));
                let ended = Ended { reason, message, ..Ended::new(Outcome::TimedOut, at) };
                self.state = State::Lingering { ended, held: None };
                Some(Transition::Ended)
            }
            State::Lingering { ended, held: Some((since, seen)) }
                if seen.plus(limits.settle) <= now =>
            {
                let at = *since;
                self.state = State::Over(ended.clone());
                Some(Transition::Late { at })
            }
            State::Lingering { ended, held: None } if ended.at.plus(LATE_WAIT) <= now => {
                self.state = State::Over(ended.clone());
                None
            }
            State::Waiting { .. }
            | State::Held { .. }
            | State::Standing { .. }
            | State::OnHold { .. }
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
