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
    Refused { code: u16, message: String, retry_after: Option<Duration> },
    /// An `ERROR` line in the stream.
    InStream { code: u16, message: String },
    /// A clean end. `heard`: of an event or a bookmark.
    Ended { lived: Duration, heard: bool },
    /// The server has not understood that a list was asked for.
    NotAList,
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
/// A watch that ends sooner is not healthy: requests are at least this far apart.
const SHORT_LIFE: Duration = Duration::from_secs(1);
/// A healthy watch that lives this long has said something: servers send a bookmark in the end.
const LONG_LIFE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct State {
    phase: Phase,
    lists: Lists,
    /// In a row. Only what a watch says ends it: a list that is always followed by a refusal would
    /// otherwise be asked for without end.
    failures: u32,
    /// This server sends bookmarks, so silence means something.
    sends_bookmarks: bool,
}

#[derive(Debug)]
enum Phase {
    Listing { continue_token: Option<String> },
    Watching { resource_version: u64 },
}

/// How lists are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lists {
    Streamed,
    /// In pages, this time.
    Paged,
    /// In pages: the server has said that it does not stream them.
    AlwaysPaged,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Listing { continue_token: None },
            lists: Lists::Streamed,
            failures: 0,
            sends_bookmarks: false,
        }
    }

    pub(super) fn ask(&self) -> Ask {
        match (&self.phase, self.lists) {
            (Phase::Listing { .. }, Lists::Streamed) => Ask::StreamList,
            (Phase::Listing { continue_token }, Lists::Paged | Lists::AlwaysPaged) => {
                Ask::Page { continue_token: continue_token.clone() }
            }
            (Phase::Watching { resource_version }, _) => {
                Ask::Watch { resource_version: *resource_version }
            }
        }
    }

    pub(super) fn is_listing(&self) -> bool {
        matches!(self.phase, Phase::Listing { .. })
    }

    /// A page was read, and there are more.
    pub(super) fn goes_on(&mut self, continue_token: String) {
        self.phase = Phase::Listing { continue_token: Some(continue_token) };
    }

    /// The list is complete.
    pub(super) fn listed(&mut self, resource_version: u64) {
        if self.lists == Lists::Paged {
            self.lists = Lists::Streamed;
        }
        self.phase = Phase::Watching { resource_version };
    }

    /// The watch has said everything up to this resourceVersion; 0: it was unreadable.
    pub(super) fn reached(&mut self, resource_version: u64) {
        self.failures = 0;
        // A watch from 0 begins with what is there now, as if it were new.
        if resource_version != 0 {
            self.phase = Phase::Watching { resource_version };
        }
    }

    pub(super) fn heard_bookmark(&mut self) {
        self.sends_bookmarks = true;
    }

    /// `chance`: between 0 and 1, so that many watches do not come back at once.
    pub(super) fn fault(&mut self, fault: &Fault, chance: f64) -> Step {
        let reason = match fault {
            Fault::Refused { code, .. } | Fault::InStream { code, .. } => code.to_string(),
            Fault::Ended { .. } => "ended".to_owned(),
            Fault::NotAList => "not_a_list".to_owned(),
            Fault::Broken => "broken".to_owned(),
            Fault::Mute => "mute".to_owned(),
        };
        match &self.phase {
            Phase::Listing { .. } => self.list_failed(fault, chance, reason),
            Phase::Watching { .. } => self.watch_failed(fault, chance, reason),
        }
    }

    fn list_failed(&mut self, fault: &Fault, chance: f64, reason: String) -> Step {
        let had_streamed = self.lists == Lists::Streamed;
        let refused = match fault {
            Fault::Refused { code, .. } => Some(*code),
            _ => None,
        };
        match refused {
            // An expired token, or one of a server that was replaced: from the beginning.
            Some(400 | 410) => self.phase = Phase::Listing { continue_token: None },
            // Asked both ways and forbidden both: the next attempt may stream again.
            Some(403) if self.lists == Lists::Paged => self.lists = Lists::Streamed,
            _ => {}
        }
        if had_streamed {
            // It may be the way of asking that is refused: the old way tells.
            match (refused, fault) {
                (Some(400 | 422), _) => self.lists = Lists::AlwaysPaged,
                (Some(403), _) | (None, Fault::Ended { .. } | Fault::NotAList) => {
                    self.lists = Lists::Paged;
                }
                _ => {}
            }
            if self.lists != Lists::Streamed {
                let rest = Duration::ZERO;
                return Step { rest, relists: false, is_interruption: false, reason };
            }
        }
        let rest = self.rest(fault, chance);
        Step { rest, relists: false, is_interruption: true, reason }
    }

    fn watch_failed(&mut self, fault: &Fault, chance: f64, reason: String) -> Step {
        if let Fault::Ended { lived, heard } = *fault {
            // Of a lost future there is nothing to tell, not even a bookmark.
            if self.sends_bookmarks && !heard && lived >= LONG_LIFE {
                return self.relist(fault, chance, "silent".to_owned());
            }
            // Servers end watches all the time.
            let rest = if lived < SHORT_LIFE {
                let rest = if heard { Duration::ZERO } else { self.backoff(chance) };
                rest.max(SHORT_LIFE)
            } else {
                self.failures = 0;
                Duration::ZERO
            };
            let is_interruption = rest > 2 * SHORT_LIFE;
            return Step { rest, relists: false, is_interruption, reason };
        }
        let is_useless = match fault {
            Fault::Refused { code, message, .. } | Fault::InStream { code, message } => {
                is_useless(*code, message)
            }
            Fault::Ended { .. } | Fault::NotAList | Fault::Broken | Fault::Mute => false,
        };
        if is_useless {
            return self.relist(fault, chance, reason);
        }
        let rest = self.rest(fault, chance);
        Step { rest, relists: false, is_interruption: true, reason }
    }

    fn relist(&mut self, fault: &Fault, chance: f64, reason: String) -> Step {
        let is_first = self.failures == 0;
        let rest = self.rest(fault, chance);
        self.phase = Phase::Listing { continue_token: None };
        // A first 410 is no failure of anybody's: list at once.
        let rest = if is_first { Duration::ZERO } else { rest };
        Step { rest, relists: true, is_interruption: true, reason }
    }

    /// What the server asks for, but never less than our own patience.
    fn rest(&mut self, fault: &Fault, chance: f64) -> Duration {
        let own = self.backoff(chance);
        match fault {
            Fault::Refused { retry_after: Some(asked), .. } => {
                (*asked).min(RETRY_AFTER_MAX).max(own)
            }
            _ => own,
        }
    }

    fn backoff(&mut self, chance: f64) -> Duration {
        let doubled = BACKOFF_MIN.saturating_mul(1 << self.failures.min(6));
        self.failures += 1;
        doubled.mul_f64(1.0 + chance.clamp(0.0, 1.0) / 4.0).min(BACKOFF_MAX)
    }
}

/// 410: too old. 400: never was one. 500 and 504 only where it is the resourceVersion they
/// complain of: garbage, or of a future that was lost.
fn is_useless(code: u16, message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    match code {
        400 | 410 => true,
        500 | 504 => ["resource version", "resourceversion"].iter().any(|w| message.contains(w)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watching() -> State {
        let mut state = State::new();
        state.listed(6);
        state.reached(7);
        state
    }

    fn refused(code: u16, message: &str) -> Fault {
        Fault::Refused { code, message: message.to_owned(), retry_after: None }
    }

    #[test]
    fn a_410_in_the_stream_or_as_a_status_lists_anew_at_once() {
        for fault in [
            Fault::InStream { code: 410, message: String::new() },
            refused(410, ""),
            refused(400, ""),
            refused(500, "Invalid resource version"),
            refused(504, "Too large resource version: 9, current: 7"),
        ] {
            let mut state = watching();
            let step = state.fault(&fault, 1.0);
            assert!(step.relists && step.rest.is_zero(), "{fault:?}: {step:?}");
            assert_eq!(state.ask(), Ask::StreamList);
        }
    }

    #[test]
    fn a_list_always_followed_by_410_is_no_hot_loop() {
        let mut state = watching();
        let rests: Vec<u128> = (0..4)
            .map(|_| {
                let step = state.fault(&refused(410, ""), 0.0);
                state.listed(9);
                step.rest.as_millis()
            })
            .collect();
        assert_eq!(rests, [0, 1600, 3200, 6400]);
    }

    #[test]
    fn servers_in_trouble_do_not_cost_the_resource_version() {
        for code in [403, 404, 429, 500, 502, 503, 504] {
            let mut state = watching();
            let step = state.fault(&refused(code, "etcdserver: request timed out"), 0.0);
            assert_eq!((step.rest, step.relists), (BACKOFF_MIN, false), "{code}");
            assert_eq!(state.ask(), Ask::Watch { resource_version: 7 });
        }
    }

    #[test]
    fn a_busy_server_is_left_alone_for_as_long_as_it_asks() {
        let mut state = watching();
        let mut asked = |seconds| {
            let retry_after = Some(Duration::from_secs(seconds));
            state
                .fault(&Fault::Refused { code: 429, message: String::new(), retry_after }, 0.0)
                .rest
        };
        assert_eq!(asked(7), Duration::from_secs(7));
        assert_eq!(asked(86_400), RETRY_AFTER_MAX);
        assert_eq!(asked(0), Duration::from_millis(3200));
        assert_eq!(state.ask(), Ask::Watch { resource_version: 7 });
    }

    #[test]
    fn failures_back_off_from_under_a_second_to_half_a_minute_and_success_forgets_them() {
        let mut state = watching();
        let rests: Vec<u128> =
            (0..8).map(|_| state.fault(&Fault::Broken, 0.0).rest.as_millis()).collect();
        assert_eq!(rests, [800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
        assert_eq!(state.fault(&Fault::Broken, 1.0).rest, BACKOFF_MAX);
        state.reached(8);
        assert_eq!(state.fault(&Fault::Broken, 1.0).rest, Duration::from_secs(1));
    }

    #[test]
    fn a_watch_that_ends_at_once_is_no_hot_loop() {
        let mut state = watching();
        let mut ended = |millis, heard| {
            state.fault(&Fault::Ended { lived: Duration::from_millis(millis), heard }, 0.0)
        };
        let rests: Vec<u128> = (0..3).map(|_| ended(5, false).rest.as_millis()).collect();
        assert_eq!(rests, [1000, 1600, 3200]);
        assert_eq!(ended(5, true).rest, SHORT_LIFE);
        let later = ended(50_000, true);
        assert!(later.rest.is_zero() && !later.is_interruption);
    }

    #[test]
    fn a_watch_without_even_a_bookmark_lists_anew_where_bookmarks_are_sent() {
        let silent = Fault::Ended { lived: Duration::from_secs(50), heard: false };
        let mut state = watching();
        assert!(!state.fault(&silent, 0.0).relists);
        state.heard_bookmark();
        let step = state.fault(&silent, 0.0);
        assert!(step.relists && step.reason == "silent");
    }

    #[test]
    fn a_server_that_refuses_streaming_lists_is_asked_for_pages_ever_after() {
        let mut state = State::new();
        let step = state.fault(&refused(422, "sendInitialEvents is forbidden"), 0.0);
        assert!(step.rest.is_zero());
        assert_eq!(state.ask(), Ask::Page { continue_token: None });
        state.listed(7);
        state.fault(&refused(410, ""), 0.0);
        assert_eq!(state.ask(), Ask::Page { continue_token: None });
    }

    #[test]
    fn a_streaming_list_that_ends_before_its_end_is_read_in_pages_this_time() {
        for fault in [Fault::Ended { lived: SHORT_LIFE, heard: true }, Fault::NotAList] {
            let mut state = State::new();
            assert!(state.fault(&fault, 0.0).rest.is_zero());
            assert_eq!(state.ask(), Ask::Page { continue_token: None });
            state.listed(7);
            state.fault(&refused(410, ""), 0.0);
            assert_eq!(state.ask(), Ask::StreamList);
        }
    }

    #[test]
    fn an_expired_token_begins_the_list_again_and_trouble_does_not() {
        let mut state = State::new();
        state.fault(&refused(422, ""), 0.0);
        state.goes_on("next".to_owned());
        let goes_on = Ask::Page { continue_token: Some("next".to_owned()) };
        for fault in [refused(503, ""), refused(429, ""), Fault::Broken, Fault::Mute] {
            state.fault(&fault, 0.0);
            assert_eq!(state.ask(), goes_on);
        }
        let step = state.fault(&refused(410, ""), 0.0);
        assert!(!step.rest.is_zero());
        assert_eq!(state.ask(), Ask::Page { continue_token: None });
    }

    #[test]
    fn who_may_not_list_is_asked_again_later_and_never_in_a_hot_loop() {
        let mut state = State::new();
        let rests: Vec<bool> =
            (0..6).map(|_| state.fault(&refused(403, ""), 0.5).rest.is_zero()).collect();
        assert_eq!(rests, [true, false, true, false, true, false]);
    }

    #[test]
    fn an_unreadable_resource_version_is_never_watched_from() {
        let mut state = watching();
        state.reached(0);
        assert_eq!(state.ask(), Ask::Watch { resource_version: 7 });
    }
}
