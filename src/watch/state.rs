//! What one watch asks for next, as a machine without IO: list, watch, 410, back off.

use std::time::Duration;

/// The next request to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// A watch that begins with a list
    /// ([streaming lists](https://kubernetes.io/docs/reference/using-api/api-concepts/#streaming-lists)).
    StreamList,
    /// A page of a list, for servers that do not stream them.
    Page {
        continue_token: Option<String>,
    },
    Watch {
        resource_version: u64,
    },
}

/// How a request went wrong, or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Answered with something else than 200.
    Refused { code: u16, retry_after: Option<Duration> },
    /// An `ERROR` line in the stream.
    InStream { code: u16 },
    /// A clean end.
    Ended { lived: Duration },
    /// No connection, or it broke.
    Broken,
    /// Silent for longer than a server is.
    Mute,
}

/// What to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Rest before the next request.
    pub(super) rest: Duration,
    /// The resourceVersion is of no use any more: everything is listed anew.
    pub(super) relists: bool,
    /// Nothing can be heard for a while, which is news.
    pub(super) is_interruption: bool,
    /// For metrics and logs.
    pub(super) reason: String,
}

const BACKOFF_MIN: Duration = Duration::from_millis(800);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Never asked for longer by a server.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(10);
/// A watch that ends sooner is not healthy.
const SHORT_LIFE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct State {
    phase: Phase,
    streams_lists: bool,
    failures: u32,
}

#[derive(Debug)]
enum Phase {
    Listing { continue_token: Option<String> },
    Watching { resource_version: u64 },
}

impl State {
    pub(super) fn new() -> Self {
        Self { phase: Phase::Listing { continue_token: None }, streams_lists: true, failures: 0 }
    }

    pub(super) fn ask(&self) -> Ask {
        match &self.phase {
            Phase::Listing { .. } if self.streams_lists => Ask::StreamList,
            Phase::Listing { continue_token } => {
                Ask::Page { continue_token: continue_token.clone() }
            }
            Phase::Watching { resource_version } => {
                Ask::Watch { resource_version: *resource_version }
            }
        }
    }

    pub(super) fn is_listing(&self) -> bool {
        matches!(self.phase, Phase::Listing { .. })
    }

    /// A page was read, and there are more.
    pub(super) fn goes_on(&mut self, continue_token: String) {
        self.failures = 0;
        self.phase = Phase::Listing { continue_token: Some(continue_token) };
    }

    /// Everything up to this resourceVersion has been read.
    pub(super) fn reached(&mut self, resource_version: u64) {
        self.failures = 0;
        self.phase = Phase::Watching { resource_version };
    }

    /// `chance`: between 0 and 1, so that many watches do not come back at once.
    pub(super) fn fault(&mut self, fault: &Fault, chance: f64) -> Step {
        let was_listing = self.is_listing();
        let reason = match fault {
            Fault::Refused { code, .. } | Fault::InStream { code } => code.to_string(),
            Fault::Ended { .. } => "ended".to_owned(),
            Fault::Broken => "broken".to_owned(),
            Fault::Mute => "mute".to_owned(),
        };
        if let Fault::Ended { lived } = fault {
            // Servers end watches all the time. An unfinished list has failed.
            if !was_listing {
                let rest = if *lived < SHORT_LIFE { SHORT_LIFE } else { Duration::ZERO };
                return Step { rest, relists: false, is_interruption: false, reason };
            }
        }
        let is_useless = match fault {
            // 410: too old. 400 and 500: garbage. 504: of a future that was lost.
            Fault::Refused { code, .. } | Fault::InStream { code } => {
                matches!(code, 400 | 410 | 500 | 504)
            }
            Fault::Ended { .. } | Fault::Broken | Fault::Mute => false,
        };
        let relists = is_useless && !was_listing;
        if let Fault::Refused { code: 400 | 403 | 422, .. } = fault
            && was_listing
            && self.streams_lists
        {
            // It may be the way of asking that is refused: the old way tells.
            self.streams_lists = false;
            return Step { rest: Duration::ZERO, relists, is_interruption: false, reason };
        }
        if relists || was_listing {
            self.phase = Phase::Listing { continue_token: None };
        }
        // Asked the old way and refused all the same: the next attempt may stream again.
        if was_listing && matches!(fault, Fault::Refused { code: 403, .. }) {
            self.streams_lists = true;
        }
        let asked = match fault {
            Fault::Refused { retry_after, .. } => *retry_after,
            Fault::InStream { .. } | Fault::Ended { .. } | Fault::Broken | Fault::Mute => None,
        };
        let own = self.backoff(chance);
        let rest = asked.map_or(own, |asked| asked.min(RETRY_AFTER_MAX).max(own));
        // A first 410 is no failure of anybody's: list at once.
        let rest = if relists && self.failures <= 1 { Duration::ZERO } else { rest };
        Step { rest, relists, is_interruption: true, reason }
    }

    fn backoff(&mut self, chance: f64) -> Duration {
        let doubled = BACKOFF_MIN.saturating_mul(1 << self.failures.min(6)).min(BACKOFF_MAX);
        self.failures += 1;
        // Between half of it and all of it.
        doubled.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watching() -> State {
        let mut state = State::new();
        state.reached(7);
        state
    }

    #[test]
    fn a_410_in_the_stream_or_as_a_status_lists_anew_at_once() {
        for fault in [
            Fault::InStream { code: 410 },
            Fault::Refused { code: 410, retry_after: None },
            Fault::Refused { code: 504, retry_after: None },
        ] {
            let mut state = watching();
            let step = state.fault(&fault, 1.0);
            assert!(step.relists && step.rest.is_zero(), "{fault:?}: {step:?}");
            assert_eq!(state.ask(), Ask::StreamList);
        }
    }

    #[test]
    fn a_busy_server_is_left_alone_for_as_long_as_it_asks_and_the_resource_version_is_kept() {
        let mut state = watching();
        let retry_after = Some(Duration::from_secs(7));
        let step = state.fault(&Fault::Refused { code: 429, retry_after }, 0.0);
        assert_eq!((step.rest, step.relists), (Duration::from_secs(7), false));
        assert_eq!(state.ask(), Ask::Watch { resource_version: 7 });
    }

    #[test]
    fn failures_back_off_from_under_a_second_to_half_a_minute_and_success_forgets_them() {
        let mut state = watching();
        let rests: Vec<u128> =
            (0..8).map(|_| state.fault(&Fault::Broken, 1.0).rest.as_millis()).collect();
        assert_eq!(rests, [800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
        state.reached(8);
        assert_eq!(state.fault(&Fault::Broken, 1.0).rest, BACKOFF_MIN);
    }

    #[test]
    fn a_watch_that_ends_at_once_is_no_hot_loop() {
        let mut state = watching();
        let at_once = state.fault(&Fault::Ended { lived: Duration::ZERO }, 0.0);
        assert_eq!(at_once.rest, SHORT_LIFE);
        let later = state.fault(&Fault::Ended { lived: Duration::from_secs(50) }, 0.0);
        assert!(later.rest.is_zero() && !later.is_interruption);
    }

    #[test]
    fn a_server_that_refuses_streaming_lists_is_asked_for_pages() {
        let mut state = State::new();
        let step = state.fault(&Fault::Refused { code: 422, retry_after: None }, 0.0);
        assert!(step.rest.is_zero());
        assert_eq!(state.ask(), Ask::Page { continue_token: None });
        state.goes_on("next".to_owned());
        assert_eq!(state.ask(), Ask::Page { continue_token: Some("next".to_owned()) });
        // The token has expired: from the beginning.
        state.fault(&Fault::Refused { code: 410, retry_after: None }, 0.0);
        assert_eq!(state.ask(), Ask::Page { continue_token: None });
    }

    #[test]
    fn who_may_not_list_is_asked_again_later_and_never_in_a_hot_loop() {
        let mut state = State::new();
        let forbidden = Fault::Refused { code: 403, retry_after: None };
        let rests: Vec<bool> =
            (0..6).map(|_| state.fault(&forbidden, 0.5).rest.is_zero()).collect();
        assert_eq!(rests, [true, false, true, false, true, false]);
    }
}
