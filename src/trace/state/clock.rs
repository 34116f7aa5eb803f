//! Holds time back while nothing can be heard, and dates what comes late.
//!
//! After a restart, or while the API server is away, the absence of news means nothing: no settle
//! window and no deadline is over before the watches have caught up. What they catch up with was
//! received long after it was written, and counts as of then.

use std::{collections::BTreeMap, time::Duration};

use crate::trace::{
    model::{
        observation::{Observation, WatchId},
        time::Timestamp,
    },
    tracer::{Tracer, Watch, WatchState},
};

/// Once something is heard again, the last of the watches is waited for this long.
const CATCHES_UP: Duration = Duration::from_secs(30);
/// What an API server remembers: after that there is no backlog to come.
const REMEMBERS: Duration = Duration::from_mins(5);
/// To the end of the second that the API server names.
const SECOND: Duration = Duration::from_nanos(999_999_999);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeadlineClock {
    Running,
    /// Until then at most, or until every watch has caught up.
    Paused {
        until: Timestamp,
        /// A watch is connected again.
        hears: bool,
    },
}

/// When what was written, by resourceVersion: over all kinds, what has a higher one was no earlier.
///
/// Of a write that tells no time (a deletion has no manager) the ones before it tell the earliest.
#[derive(Debug, Default)]
pub(crate) struct WriteTimes(BTreeMap<u64, Timestamp>);

/// The oldest are forgotten first.
const MAX_DATES: usize = 4096;

impl WriteTimes {
    fn note(&mut self, version: u64, at: Timestamp) {
        if self.of(version).is_some_and(|known| known >= at) {
            return;
        }
        let later = self.0.range(version..).take_while(|(_, known)| **known <= at);
        let told_by_this: Vec<u64> = later.map(|(version, _)| *version).collect();
        for version in told_by_this {
            self.0.remove(&version);
        }
        self.0.insert(version, at);
        if self.0.len() > MAX_DATES {
            self.0.pop_first();
        }
    }

    /// No earlier than this, and not by much later where much is going on.
    fn of(&self, version: u64) -> Option<Timestamp> {
        self.0.range(..=version).next_back().map(|(_, at)| *at)
    }
}

impl WatchState {
    /// Since when it is as it is.
    pub(crate) fn since(self) -> Timestamp {
        match self {
            Self::Disconnected { since }
            | Self::Live { since }
            | Self::CatchingUp { heard: since } => since,
        }
    }
}

impl Watch {
    fn is_live(&self) -> bool {
        matches!(self.state, WatchState::Live { .. })
    }

    pub(crate) fn is_away(&self) -> bool {
        matches!(self.state, WatchState::Disconnected { .. })
    }
}

impl Tracer {
    /// Nothing is heard from any of its watches.
    pub(crate) fn lose_all(&mut self, at: Timestamp) {
        for watch in self.watches.values_mut() {
            watch.state = WatchState::Disconnected { since: at };
        }
        self.listens(at);
    }

    /// A watch was lost, or is back.
    pub(crate) fn listens(&mut self, at: Timestamp) {
        let hears = !self.watches.values().all(Watch::is_away);
        match self.pace {
            DeadlineClock::Running if !hears => {
                self.pace = DeadlineClock::Paused { until: at.plus(REMEMBERS), hears };
                for watch in self.watches.values() {
                    self.dates.note(watch.delivered, watch.heard);
                }
            }
            DeadlineClock::Paused { hears: false, .. } if hears => {
                self.pace = DeadlineClock::Paused { until: at.plus(CATCHES_UP), hears };
            }
            // Lost again before it had caught up.
            DeadlineClock::Paused { hears: true, .. } if !hears => {
                self.pace = DeadlineClock::Paused { until: at.plus(REMEMBERS), hears };
            }
            DeadlineClock::Running | DeadlineClock::Paused { .. } => {}
        }
    }

    /// What it says now is news.
    pub(crate) fn caught_up(&mut self, id: WatchId, at: Timestamp) {
        if let Some(watch) = self.watches.get_mut(&id)
            && matches!(watch.state, WatchState::CatchingUp { .. })
        {
            watch.state = WatchState::Live { since: at };
        }
    }

    /// Whether nothing is over yet, however late it is.
    pub(crate) fn stands_still(&mut self, now: Timestamp) -> bool {
        let DeadlineClock::Paused { until, .. } = self.pace else { return false };
        let goes_on = now >= until || self.watches.values().all(Watch::is_live);
        if goes_on {
            self.pace = DeadlineClock::Running;
            self.dates = WriteTimes::default();
        }
        !goes_on
    }

    /// When what is due at `at` can be over.
    pub(crate) fn not_before(&self, at: Timestamp) -> Timestamp {
        let DeadlineClock::Paused { until, .. } = self.pace else { return at };
        let caught_up = self.watches.values().map(|watch| match watch.state {
            WatchState::Disconnected { .. } => until,
            WatchState::CatchingUp { heard } => heard.plus(self.rules.owner_wait).min(until),
            WatchState::Live { since } => since,
        });
        caught_up.fold(at, Timestamp::max)
    }

    /// What comes as a backlog counts as received when it was written, as far as that is known; what
    /// was due for its object by then has happened before.
    pub(crate) fn date(&mut self, id: WatchId, now: &mut Observation) {
        if self.pace == DeadlineClock::Running || self.watches.get(&id).is_none_or(Watch::is_live) {
            return;
        }
        let Some(written) = now.written else { return };
        let version = now.resource_version;
        self.dates.note(version, written.plus(SECOND));
        let Some(at) = self.dates.of(version) else { return };
        // The API server's clock may be ahead of ours.
        let (at, not_before) = (at.min(now.at), at.minus(SECOND).min(now.at));
        let uid = &now.object.uid;
        while let Some(timer) = self.objects.get(uid).and_then(|known| known.timer)
            && timer <= not_before
        {
            self.timers.remove(&(timer, uid.clone()));
            self.ring(uid, timer);
        }
        if at == now.at {
            self.caught_up(id, now.at);
        } else {
            now.at = at;
            if let Some(watch) = self.watches.get_mut(&id) {
                watch.heard = at;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_nanos(second * 1_000_000_000)
    }

    #[test]
    fn what_tells_no_time_was_no_earlier_than_what_was_written_before() {
        let mut dates = WriteTimes::default();
        assert_eq!(dates.of(5), None);
        for (version, at) in [(10, 1), (30, 3), (20, 2), (40, 3)] {
            dates.note(version, second(at));
        }
        let told: Vec<_> = [9, 10, 15, 20, 29, 30, 99].map(|version| dates.of(version)).into();
        let expected = [None, Some(1), Some(1), Some(2), Some(2), Some(3), Some(3)];
        assert_eq!(told, expected.map(|at| at.map(second)));
    }

    #[test]
    fn a_later_time_of_an_earlier_write_holds_for_all_that_came_after() {
        let mut dates = WriteTimes::default();
        for (version, at) in [(10, 1), (20, 2), (30, 4), (15, 3)] {
            dates.note(version, second(at));
        }
        let told = [10, 15, 20, 30].map(|version| dates.of(version));
        assert_eq!(told, [1, 3, 3, 4].map(|at| Some(second(at))));
        assert_eq!(dates.0.len(), 3);
    }

    #[test]
    fn dates_are_bounded() {
        let mut dates = WriteTimes::default();
        (0..10_000).for_each(|version| {
            dates.note(version, second(i64::try_from(version).unwrap_or(0)));
        });
        assert_eq!(dates.0.len(), MAX_DATES);
        assert_eq!(dates.of(9_999), Some(second(9_999)));
    }
}
