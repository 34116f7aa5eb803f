//! Pauses deadlines while no watch can deliver events, and dates the events of a backlog.
//!
//! After a restart, or while the API server is away, the absence of events means nothing: no settle
//! window and no deadline passes before the watches have caught up. The events they catch up with
//! were written long before they are received, and count from when they were written.

use std::{collections::BTreeMap, time::Duration};

use crate::trace::{
    model::{observation::Observation, time::Timestamp},
    state::watches::{WatchState, Watches},
};

/// Once a watch is connected again, the last one is waited for this long.
const CATCH_UP_MAX: Duration = Duration::from_secs(30);
/// How long an API server keeps the history of a watch: later there is no backlog.
const WATCH_HISTORY: Duration = Duration::from_mins(5);
/// The time to the end of the second that the API server names.
pub(crate) const SECOND: Duration = Duration::from_nanos(999_999_999);
/// Write times kept; the oldest are forgotten first.
const MAX_WRITE_TIMES: usize = 4096;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Running,
    /// Until then, or until every watch has caught up.
    Paused {
        until: Timestamp,
        /// A watch is connected again.
        is_connected: bool,
    },
}

#[derive(Debug, Default)]
pub(crate) struct DeadlineClock {
    state: State,
    write_times: WriteTimes,
}

impl DeadlineClock {
    /// A watch was disconnected, or is connected again.
    pub(crate) fn update(&mut self, watches: &Watches, at: Timestamp) {
        let connects = !watches.are_all_disconnected();
        match self.state {
            State::Running if !connects => {
                self.state =
                    State::Paused { until: at.plus(WATCH_HISTORY), is_connected: connects };
                for watch in watches.values() {
                    self.write_times.record(watch.delivered, watch.last_event);
                }
            }
            State::Paused { is_connected: false, .. } if connects => {
                self.state = State::Paused { until: at.plus(CATCH_UP_MAX), is_connected: connects };
            }
            // Disconnected again before it had caught up.
            State::Paused { is_connected: true, .. } if !connects => {
                self.state =
                    State::Paused { until: at.plus(WATCH_HISTORY), is_connected: connects };
            }
            State::Running | State::Paused { .. } => {}
        }
    }

    /// Whether no deadline passes at `now`. Resumes once the watches have caught up.
    pub(crate) fn is_paused(&mut self, watches: &Watches, now: Timestamp) -> bool {
        let State::Paused { until, .. } = self.state else { return false };
        let resumes = now >= until || watches.are_all_live();
        if resumes {
            *self = Self::default();
        }
        !resumes
    }

    /// When a deadline at `at` passes. `quiet`: a backlog that pauses for this long is over.
    pub(crate) fn earliest_deadline(
        &self,
        at: Timestamp,
        watches: &Watches,
        quiet: Duration,
    ) -> Timestamp {
        let State::Paused { until, .. } = self.state else { return at };
        let caught_up = watches.values().map(|watch| match watch.state {
            WatchState::Disconnected { .. } => until,
            WatchState::CatchingUp { last_event } => last_event.plus(quiet).min(until),
            WatchState::Live { since } => since,
        });
        caught_up.fold(at, Timestamp::max)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.state == State::Running
    }

    /// When a received observation was written at the earliest, as far as that is known.
    pub(crate) fn written_at(&mut self, observation: &Observation) -> Option<Timestamp> {
        let version = observation.resource_version;
        self.write_times.record(version, observation.written?.plus(SECOND));
        self.write_times.of(version)
    }
}

/// When resourceVersions were written: over all kinds, a higher one was not written earlier.
///
/// A write without a time (a deletion has no field manager) was made no earlier than those before it.
#[derive(Debug, Default)]
struct WriteTimes(BTreeMap<u64, Timestamp>);

impl WriteTimes {
    fn record(&mut self, version: u64, at: Timestamp) {
        if self.of(version).is_some_and(|known| known >= at) {
            return;
        }
        let implied = self.0.range(version..).take_while(|(_, known)| **known <= at);
        let implied: Vec<u64> = implied.map(|(version, _)| *version).collect();
        for version in implied {
            self.0.remove(&version);
        }
        self.0.insert(version, at);
        if self.0.len() > MAX_WRITE_TIMES {
            self.0.pop_first();
        }
    }

    /// A lower bound, and a close one where much is written.
    fn of(&self, version: u64) -> Option<Timestamp> {
        self.0.range(..=version).next_back().map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_nanos(second * 1_000_000_000)
    }

    #[test]
    fn write_without_a_time_is_dated_by_the_writes_before_it() {
        let mut times = WriteTimes::default();
        assert_eq!(times.of(5), None);
        for (version, at) in [(10, 1), (30, 3), (20, 2), (40, 3)] {
            times.record(version, second(at));
        }
        let dated: Vec<_> = [9, 10, 15, 20, 29, 30, 99].map(|version| times.of(version)).into();
        let expected = [None, Some(1), Some(1), Some(2), Some(2), Some(3), Some(3)];
        assert_eq!(dated, expected.map(|at| at.map(second)));
    }

    #[test]
    fn later_time_of_an_earlier_write_holds_for_all_later_writes() {
        let mut times = WriteTimes::default();
        for (version, at) in [(10, 1), (20, 2), (30, 4), (15, 3)] {
            times.record(version, second(at));
        }
        let dated = [10, 15, 20, 30].map(|version| times.of(version));
        assert_eq!(dated, [1, 3, 3, 4].map(|at| Some(second(at))));
        assert_eq!(times.0.len(), 3);
    }

    #[test]
    fn write_times_are_bounded() {
        let mut times = WriteTimes::default();
        (0..10_000).for_each(|version| {
            times.record(version, second(i64::try_from(version).unwrap_or(0)));
        });
        assert_eq!(times.0.len(), MAX_WRITE_TIMES);
        assert_eq!(times.of(9_999), Some(second(9_999)));
    }
}
