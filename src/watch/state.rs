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
/// Watches that end at once and without a word, in a row, until their resourceVersion is given up.
/// Of a kind it does not cache (Events), a server does not always say that it is too old, but only
/// [ends the watch](https://github.com/kubernetes/kubernetes/issues/104171).
const SILENCES_MAX: u32 = 2;

#[derive(Debug)]
pub(super) struct State {
    phase: Phase,
    lists: Lists,
    /// In a row. Only what a watch says ends it: a list that is always followed by a refusal would
    /// otherwise be asked for without end.
    failures: u32,
    /// Watches in a row that ended at once and without a word.
    silences: u32,
    /// This server sends bookmarks, so silence means something.
    sends_bookmarks: bool,
    ground: Ground,
}

/// What the watch stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ground {
    /// Nothing: there was no list yet.
    Unlisted,
    /// An earlier run's resourceVersion, of which this server has said nothing yet. That it answers
    /// 200 means nothing: one that is too old is refused
    /// [in the stream](https://github.com/kubernetes/kubernetes/issues/35068), by its first line.
    Resumed,
    /// An earlier run's resourceVersion, from which the server watches. Nothing has come yet, nor
    /// would it where the resourceVersion is of a future that was lost.
    Accepted,
    /// A complete list, or a resourceVersion from which something has come.
    Firm,
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
            silences: 0,
            sends_bookmarks: false,
            ground: Ground::Unlisted,
        }
    }

    /// Goes on where an earlier run has come to.
    pub(super) fn resumed(resource_version: u64) -> Self {
        Self { phase: Phase::Watching { resource_version }, ground: Ground::Resumed, ..Self::new() }
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

    /// There was a list, or none is needed.
    pub(super) fn is_synced(&self) -> bool {
        match self.ground {
            Ground::Unlisted | Ground::Resumed => false,
            Ground::Accepted | Ground::Firm => true,
        }
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
        self.ground = Ground::Firm;
    }

    /// The watch has said everything up to this resourceVersion; 0: it was unreadable.
    pub(super) fn reached(&mut self, resource_version: u64) {
        self.failures = 0;
        self.silences = 0;
        self.ground = Ground::Firm;
        // A watch from 0 begins with what is there now, as if it were new.
        if resource_version != 0 {
            self.phase = Phase::Watching { resource_version };
        }
    }

    pub(super) fn heard_bookmark(&mut self) {
        self.sends_bookmarks = true;
    }

    /// A watch is over that was open for this long after the answer, whatever ended it. Who refuses
    /// a resourceVersion does so at once.
    pub(super) fn was_open(&mut self, lived: Duration) {
        if self.ground == Ground::Resumed && !self.is_listing() && lived >= SHORT_LIFE {
            self.ground = Ground::Accepted;
        }
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
            self.silences = if heard || lived >= SHORT_LIFE { 0 } else { self.silences + 1 };
            // Of a lost future there is nothing to tell, not even a bookmark. Whether this server
            // sends any, a resumed watch does not know: it would rather list once too often.
            let expects_word = self.sends_bookmarks || self.ground == Ground::Accepted;
            let is_of_no_future = expects_word && !heard && lived >= LONG_LIFE;
            if is_of_no_future || self.silences >= SILENCES_MAX {
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
        self.silences = 0;
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

    fn ended(millis: u64, heard: bool) -> Fault {
        Fault::Ended { lived: Duration::from_millis(millis), heard }
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
        assert_eq!(state.fault(&ended(5, false), 0.0).rest, SHORT_LIFE);
        assert_eq!(state.fault(&ended(5, true), 0.0).rest, SHORT_LIFE);
        let later = state.fault(&ended(50_000, true), 0.0);
        assert!(later.rest.is_zero() && !later.is_interruption);
    }

    #[test]
    fn a_watch_that_ends_at_once_and_without_a_word_twice_in_a_row_lists_anew() {
        let mut state = watching();
        for between in [ended(5, true), ended(5_000, false)] {
            assert!(!state.fault(&ended(5, false), 0.0).relists);
            assert!(!state.fault(&between, 0.0).relists);
        }
        assert!(!state.fault(&ended(5, false), 0.0).relists);
        state.reached(8);
        assert!(!state.fault(&ended(5, false), 0.0).relists);
        let step = state.fault(&ended(5, false), 0.0);
        assert!(step.relists && step.reason == "silent" && step.rest > SHORT_LIFE, "{step:?}");
    }

    #[test]
    fn a_resumed_watch_is_synced_by_its_first_word_or_by_staying_open() {
        let mut heard = State::resumed(7);
        assert_eq!(heard.ask(), Ask::Watch { resource_version: 7 });
        assert!(!heard.is_synced());
        heard.reached(8);
        assert!(heard.is_synced());
        let mut quiet = State::resumed(7);
        quiet.was_open(Duration::from_millis(5));
        assert!(!quiet.is_synced());
        quiet.was_open(SHORT_LIFE);
        assert!(quiet.is_synced());
    }

    #[test]
    fn a_resumed_watch_that_is_refused_is_synced_when_it_has_listed() {
        for fault in [Fault::InStream { code: 410, message: String::new() }, refused(410, "")] {
            let mut state = State::resumed(7);
            let step = state.fault(&fault, 1.0);
            assert!(step.relists && step.rest.is_zero() && step.reason == "410", "{step:?}");
            assert_eq!(state.ask(), Ask::StreamList);
            // The list, however long it takes.
            state.was_open(LONG_LIFE);
            assert!(!state.is_synced());
            state.listed(99);
            assert!(state.is_synced());
        }
    }

    #[test]
    fn servers_in_trouble_do_not_cost_a_resumed_watch_its_resource_version() {
        let mut state = State::resumed(7);
        for fault in [refused(503, ""), refused(404, ""), Fault::Broken, Fault::Mute] {
            assert!(!state.fault(&fault, 0.0).relists);
            assert_eq!(state.ask(), Ask::Watch { resource_version: 7 });
            assert!(!state.is_synced());
        }
    }

    #[test]
    fn a_resumed_watch_that_never_hears_anything_lists_anew_once() {
        let mut state = State::resumed(7);
        for seconds in [3, 45] {
            state.was_open(Duration::from_secs(seconds));
            let step = state.fault(&ended(seconds * 1000, false), 0.0);
            assert_eq!(step.relists, seconds == 45);
        }
        state.listed(5);
        assert!(!state.fault(&ended(45_000, false), 0.0).relists);
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
