//! Decides which request a watch makes next: a state machine without IO for lists, watches, probes
//! and backoff.

use std::time::Duration;

/// The next request to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// A watch that begins with a list
    /// ([streaming lists](https://kubernetes.io/docs/reference/using-api/api-concepts/#streaming-lists)).
    StreamList,
    /// One page of a list, for servers that do not support streaming lists.
    Page {
        continue_token: Option<String>,
    },
    Watch {
        resource_version: u64,
    },
    /// An exact read of at most one object, which checks that the resourceVersion still belongs to
    /// the server's history.
    Probe {
        resource_version: u64,
    },
}

/// How a request failed or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WatchFailure {
    /// The server answered with another status than 200.
    Refused { code: u16, message: String, retry_after: Option<Duration> },
    /// The stream contained an `ERROR` event.
    InStream { code: u16, message: String },
    /// The server ended the watch.
    Ended { lived: Duration, progress: Progress },
    /// The server ignored the request for a streaming list.
    StreamingListUnsupported,
    /// The connection could not be opened, or it broke.
    Connection,
    /// The server sent nothing for longer than it may.
    Timeout,
    /// A resourceVersion is not a decimal number, so events cannot be ordered.
    OpaqueResourceVersion,
    /// A probe found another history than the one that was watched.
    HistoryChanged { reason: &'static str },
}

/// What a watch received with a newer resourceVersion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Progress {
    #[default]
    None,
    /// Bookmarks only. They prove nothing: a restored store reaches newer resourceVersions as well.
    Bookmark,
    Event,
}

/// How to recover from a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recovery {
    /// Wait before the next request.
    pub(super) wait: Duration,
    /// The resourceVersion cannot be used any longer: the next request is a list.
    pub(super) relists: bool,
    /// No events can arrive for a while, which the trace has to take into account.
    pub(super) is_interruption: bool,
    /// The value of the label `reason` of metrics, and of log lines.
    pub(super) reason: String,
}

pub(super) const BACKOFF_MIN: Duration = Duration::from_millis(800);
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// A longer `Retry-After` is cut to this.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_mins(10);
/// Wait before a kind with opaque resourceVersions is tried again: only another server helps.
pub(super) const OPAQUE_WAIT: Duration = Duration::from_mins(5);
/// A healthy watch lives at least this long, so requests are at least this far apart.
pub(super) const SHORT_LIFE: Duration = Duration::from_secs(1);
/// A watch that lived this long without an event is probed.
pub(super) const LONG_LIFE: Duration = Duration::from_secs(30);
/// Watches in a row that end at once and without an event, until their resourceVersion is given up.
/// For a kind without a watch cache (Events), a server does not always report a resourceVersion that
/// is too old, but only [ends the watch](https://github.com/kubernetes/kubernetes/issues/104171).
const EMPTY_WATCHES_MAX: u32 = 2;

#[derive(Debug)]
pub(super) struct Machine {
    phase: Phase,
    list_mode: ListMode,
    /// Failures in a row. Only an event or a bookmark resets them: a list that is always followed by
    /// a refusal would otherwise be repeated without a wait.
    failures: u32,
    /// Watches in a row that ended at once and without an event.
    empty_watches: u32,
    /// The last watch received no event; the resourceVersion is checked before the next one.
    needs_probe: bool,
    basis: SyncBasis,
}

/// Why the watch counts as synced, or why it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SyncBasis {
    /// No list is complete yet.
    None,
    /// The resourceVersion is from an earlier run, and the server has not confirmed it. An answer
    /// with status 200 confirms nothing: a resourceVersion that is too old is refused
    /// [in the stream](https://github.com/kubernetes/kubernetes/issues/35068), by the first line.
    Resumed,
    /// The server accepted a resourceVersion from an earlier run, but has not sent an event yet.
    Accepted,
    /// A list is complete, or an event arrived after the resourceVersion.
    Synced,
}

#[derive(Debug)]
enum Phase {
    Listing { continue_token: Option<String> },
    Watching { resource_version: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ListMode {
    Streamed,
    /// The current list is read in pages, the next one is streamed again.
    Paged,
    /// The server does not support streaming lists.
    AlwaysPaged,
}

impl Machine {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Listing { continue_token: None },
            list_mode: ListMode::Streamed,
            failures: 0,
            empty_watches: 0,
            needs_probe: false,
            basis: SyncBasis::None,
        }
    }

    /// Resumes where an earlier run stopped.
    pub(super) fn resumed(resource_version: u64) -> Self {
        Self {
            phase: Phase::Watching { resource_version },
            basis: SyncBasis::Resumed,
            ..Self::new()
        }
    }

    pub(super) fn next_request(&self) -> Request {
        match (&self.phase, self.list_mode) {
            (Phase::Listing { .. }, ListMode::Streamed) => Request::StreamList,
            (Phase::Listing { continue_token }, ListMode::Paged | ListMode::AlwaysPaged) => {
                Request::Page { continue_token: continue_token.clone() }
            }
            (&Phase::Watching { resource_version }, _) if self.needs_probe => {
                Request::Probe { resource_version }
            }
            (&Phase::Watching { resource_version }, _) => Request::Watch { resource_version },
        }
    }

    pub(super) fn is_listing(&self) -> bool {
        matches!(self.phase, Phase::Listing { .. })
    }

    pub(super) fn is_synced(&self) -> bool {
        match self.basis {
            SyncBasis::None | SyncBasis::Resumed => false,
            SyncBasis::Accepted | SyncBasis::Synced => true,
        }
    }

    /// Continues the list after one of its pages.
    pub(super) fn continue_list(&mut self, continue_token: String) {
        self.phase = Phase::Listing { continue_token: Some(continue_token) };
    }

    pub(super) fn complete_list(&mut self, resource_version: u64) {
        if self.list_mode == ListMode::Paged {
            self.list_mode = ListMode::Streamed;
        }
        self.phase = Phase::Watching { resource_version };
        self.basis = SyncBasis::Synced;
        self.needs_probe = false;
    }

    /// Records that all events up to this resourceVersion were received; 0 where an event has none.
    /// Returns whether the resourceVersion is newer than before.
    pub(super) fn advance(&mut self, resource_version: u64) -> bool {
        self.failures = 0;
        self.empty_watches = 0;
        self.basis = SyncBasis::Synced;
        let before = match self.phase {
            Phase::Watching { resource_version } => resource_version,
            Phase::Listing { .. } => 0,
        };
        // A watch from 0 would begin with every existing object as if it were new.
        if resource_version != 0 {
            self.phase = Phase::Watching { resource_version };
        }
        resource_version != before
    }

    /// Records that the resourceVersion passed a probe, or that no probe was possible.
    pub(super) fn pass_probe(&mut self) {
        self.needs_probe = false;
    }

    /// Records that a watch ended which was open for this long after the answer. A server refuses a
    /// resourceVersion at once, so one that was open for a while was accepted.
    pub(super) fn record_life(&mut self, lived: Duration) {
        if self.basis == SyncBasis::Resumed && !self.is_listing() && lived >= SHORT_LIFE {
            self.basis = SyncBasis::Accepted;
        }
    }

    /// `jitter`: between 0 and 1, so that many watches do not reconnect at once.
    pub(super) fn fail(&mut self, failure: &WatchFailure, jitter: f64) -> Recovery {
        let reason = match failure {
            WatchFailure::Refused { code, .. } | WatchFailure::InStream { code, .. } => {
                code.to_string()
            }
            WatchFailure::Ended { .. } => "ended".to_owned(),
            WatchFailure::StreamingListUnsupported => "streaming_list_unsupported".to_owned(),
            WatchFailure::Connection => "connection".to_owned(),
            WatchFailure::Timeout => "timeout".to_owned(),
            WatchFailure::OpaqueResourceVersion => {
                self.phase = Phase::Listing { continue_token: None };
                return Recovery {
                    wait: OPAQUE_WAIT.mul_f64(1.0 + jitter / 4.0),
                    relists: false,
                    is_interruption: true,
                    reason: "opaque_resource_version".to_owned(),
                };
            }
            WatchFailure::HistoryChanged { reason } => (*reason).to_owned(),
        };
        // A probe that gets no answer is not repeated: the watch fails or succeeds for itself.
        self.needs_probe = false;
        match &self.phase {
            Phase::Listing { .. } => self.fail_list(failure, jitter, reason),
            Phase::Watching { .. } => self.fail_watch(failure, jitter, reason),
        }
    }

    fn fail_list(&mut self, failure: &WatchFailure, jitter: f64, reason: String) -> Recovery {
        let was_streamed = self.list_mode == ListMode::Streamed;
        let refused = match failure {
            WatchFailure::Refused { code, .. } => Some(*code),
            _ => None,
        };
        match refused {
            // The continue token expired, or belongs to a server that was replaced.
            Some(400 | 410) => self.phase = Phase::Listing { continue_token: None },
            // Both ways to list are forbidden: the next attempt may stream again.
            Some(403) if self.list_mode == ListMode::Paged => self.list_mode = ListMode::Streamed,
            _ => {}
        }
        if was_streamed {
            // The server may refuse only the streaming list: a list in pages decides.
            match (refused, failure) {
                (Some(400 | 422), _) => self.list_mode = ListMode::AlwaysPaged,
                (Some(403), _)
                | (None, WatchFailure::Ended { .. } | WatchFailure::StreamingListUnsupported) => {
                    self.list_mode = ListMode::Paged;
                }
                _ => {}
            }
            if self.list_mode != ListMode::Streamed {
                let wait = Duration::ZERO;
                return Recovery { wait, relists: false, is_interruption: false, reason };
            }
        }
        let wait = self.wait_after(failure, jitter);
        Recovery { wait, relists: false, is_interruption: true, reason }
    }

    fn fail_watch(&mut self, failure: &WatchFailure, jitter: f64, reason: String) -> Recovery {
        if let WatchFailure::Ended { lived, progress } = *failure {
            return self.end_watch(lived, progress, jitter, reason);
        }
        let is_invalid = match failure {
            WatchFailure::Refused { code, message, .. }
            | WatchFailure::InStream { code, message } => {
                invalidates_resource_version(*code, message)
            }
            WatchFailure::HistoryChanged { .. } => true,
            WatchFailure::Ended { .. }
            | WatchFailure::StreamingListUnsupported
            | WatchFailure::Connection
            | WatchFailure::Timeout
            | WatchFailure::OpaqueResourceVersion => false,
        };
        if is_invalid {
            return self.relist(failure, jitter, reason);
        }
        let wait = self.wait_after(failure, jitter);
        Recovery { wait, relists: false, is_interruption: true, reason }
    }

    /// Servers end watches all the time: usually the next one follows at once.
    fn end_watch(
        &mut self,
        lived: Duration,
        progress: Progress,
        jitter: f64,
        reason: String,
    ) -> Recovery {
        let advanced = progress > Progress::None;
        self.empty_watches =
            if advanced || lived >= SHORT_LIFE { 0 } else { self.empty_watches + 1 };
        if self.empty_watches >= EMPTY_WATCHES_MAX {
            let ended = WatchFailure::Ended { lived, progress };
            return self.relist(&ended, jitter, "no_events".to_owned());
        }
        // A resourceVersion of a lost future (etcd was restored) yields no events, exactly as a kind
        // that does not change.
        self.needs_probe = progress < Progress::Event && lived >= LONG_LIFE;
        let wait = if lived < SHORT_LIFE {
            let wait = if advanced { Duration::ZERO } else { self.back_off(jitter) };
            wait.max(SHORT_LIFE)
        } else {
            self.failures = 0;
            Duration::ZERO
        };
        let is_interruption = wait > 2 * SHORT_LIFE;
        Recovery { wait, relists: false, is_interruption, reason }
    }

    fn relist(&mut self, failure: &WatchFailure, jitter: f64, reason: String) -> Recovery {
        let is_first = self.failures == 0;
        let wait = self.wait_after(failure, jitter);
        self.phase = Phase::Listing { continue_token: None };
        self.empty_watches = 0;
        // A single 410 is part of normal operation.
        let wait = if is_first { Duration::ZERO } else { wait };
        Recovery { wait, relists: true, is_interruption: true, reason }
    }

    /// The longer of the backoff and of what the server asks for.
    fn wait_after(&mut self, failure: &WatchFailure, jitter: f64) -> Duration {
        let backoff = self.back_off(jitter);
        match failure {
            WatchFailure::Refused { retry_after: Some(retry_after), .. } => {
                (*retry_after).min(RETRY_AFTER_MAX).max(backoff)
            }
            _ => backoff,
        }
    }

    fn back_off(&mut self, jitter: f64) -> Duration {
        let doubled = BACKOFF_MIN.saturating_mul(1 << self.failures.min(6));
        self.failures += 1;
        doubled.mul_f64(1.0 + jitter.clamp(0.0, 1.0) / 4.0).min(BACKOFF_MAX)
    }
}

/// 410: the resourceVersion is too old. 400: it is malformed. 500 and 504 only where the message is
/// about the resourceVersion: it is malformed, or of a future that was lost.
pub(super) fn invalidates_resource_version(code: u16, message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    match code {
        400 | 410 => true,
        500 | 504 => ["resource version", "resourceversion", "future revision"]
            .iter()
            .any(|words| message.contains(words)),
        _ => false,
    }
}
