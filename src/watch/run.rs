//! Runs one watch: makes the requests that the machine decides on, and recovers from failures.

use std::time::Duration;

use tokio::time::sleep;
use tracing::{debug, warn};

use super::{
    machine::{Recovery, Request, WatchFailure},
    reader::{End, Reader},
    request::{ANSWER_TIMEOUT, MUTE_AFTER},
};

/// Seconds after which the server shall end a watch, with up to [`WATCH_JITTER_SECONDS`] more. A
/// server sends bookmarks every minute and two seconds before the end, so a watch of any length can
/// be without one; these end soon enough for a dead connection to be noticed within a minute.
const WATCH_SECONDS: f64 = 45.0;
const WATCH_JITTER_SECONDS: f64 = 8.0;
/// Length of the first watch from the resourceVersion of an earlier run. Readiness waits for a sign
/// that the server accepts it: an event, a bookmark two seconds before the end, or the end.
const RESUMED_WATCH_SECONDS: f64 = 3.0;
/// Length of a watch that begins with a list; a plain watch replaces it when the list is complete.
const LIST_SECONDS: u64 = 1800;

/// Why a watch is over.
pub(super) enum WatchEnd {
    Stopped,
    /// The server answered 404: it may no longer serve the kind, or may not be ready.
    NotFound(Box<Reader>),
}

impl Reader {
    pub(super) async fn run(mut self: Box<Self>) -> WatchEnd {
        let mut stopped = self.stop.clone();
        loop {
            let end = tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => return WatchEnd::Stopped,
                end = self.attempt() => end,
            };
            self.report_synced();
            let failure = match end {
                Ok(()) => continue,
                Err(End::ReceiverClosed) => return WatchEnd::Stopped,
                Err(End::Failed(failure)) => failure,
            };
            let recovery = self.machine.fail(&failure, fastrand::f64());
            self.list_span.fail(&recovery.reason);
            self.count_failure(&failure, &recovery);
            if self.record_loss(recovery.is_interruption).await.is_err() {
                return WatchEnd::Stopped;
            }
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => return WatchEnd::Stopped,
                () = sleep(recovery.wait) => {}
            }
            if matches!(failure, WatchFailure::Refused { code: 404, .. }) {
                return WatchEnd::NotFound(self);
            }
        }
    }

    async fn attempt(&mut self) -> Result<(), End> {
        if self.machine.is_listing() {
            self.list_span.begin(&self.counters.kind, self.session.namespace.as_deref());
        }
        match self.machine.next_request() {
            Request::Page { continue_token } => self.read_page(continue_token).await,
            Request::StreamList => {
                // Without a resourceVersion the server lists the newest state, not a cached one.
                let query = format!(
                    "watch=1&allowWatchBookmarks=true&sendInitialEvents=true\
                     &resourceVersionMatch=NotOlderThan&timeoutSeconds={LIST_SECONDS}"
                );
                self.read_watch(&query, ANSWER_TIMEOUT).await
            }
            Request::Watch { resource_version } => {
                let seconds = if self.machine.is_synced() {
                    WATCH_SECONDS + WATCH_JITTER_SECONDS * fastrand::f64()
                } else {
                    RESUMED_WATCH_SECONDS
                };
                let life = Duration::from_secs_f64(seconds);
                let query = format!(
                    "watch=1&allowWatchBookmarks=true&resourceVersion={resource_version}\
                     &timeoutSeconds={}",
                    life.as_secs()
                );
                self.read_watch(&query, life + MUTE_AFTER).await
            }
            Request::Probe { resource_version } => self.probe(resource_version).await,
        }
    }

    async fn probe(&mut self, resource_version: u64) -> Result<(), End> {
        let result = self.session.probe(self.last_write.as_ref(), resource_version).await;
        let name = match &result {
            Ok(result) => result.name(),
            Err(WatchFailure::HistoryChanged { reason }) => reason,
            Err(_) => "failed",
        };
        self.counters.count_probe(name);
        result?;
        self.machine.pass_probe();
        Ok(())
    }

    fn count_failure(&mut self, failure: &WatchFailure, recovery: &Recovery) {
        let (kind, reason) = (&self.counters.kind, recovery.reason.as_str());
        if recovery.relists {
            self.counters.count_relist(reason);
            self.list_span.set_reason(reason);
            // A resourceVersion expires in normal operation; a restored etcd is an incident.
            if matches!(failure, WatchFailure::HistoryChanged { .. }) {
                warn!(%kind, reason, "The history of the API server changed; relisting.");
            } else {
                debug!(%kind, reason, "Relisting.");
            }
        }
        let message = match failure {
            WatchFailure::Ended { .. } => return debug!(%kind, "The server ended the watch."),
            WatchFailure::Refused { message, .. } | WatchFailure::InStream { message, .. } => {
                message
            }
            WatchFailure::StreamingListUnsupported
            | WatchFailure::Connection
            | WatchFailure::Timeout
            | WatchFailure::OpaqueResourceVersion
            | WatchFailure::HistoryChanged { .. } => "",
        };
        self.counters.count_failure(reason);
        if recovery.relists || !recovery.is_interruption {
            return;
        }
        let hint = match failure {
            WatchFailure::Refused { code: 401, .. } => {
                "Watch failed: the API server rejects the token of the account; retrying."
            }
            WatchFailure::Refused { code: 403, .. } => {
                "Watch forbidden: the account needs list and watch on this resource; retrying."
            }
            WatchFailure::OpaqueResourceVersion => {
                "The kind is not watched: its resourceVersions are not decimal numbers, so its \
                 events cannot be ordered."
            }
            _ => "Watch failed; retrying.",
        };
        if self.warned.as_deref() == Some(reason) {
            debug!(%kind, reason, message, wait = ?recovery.wait, "Watch still failing.");
        } else {
            warn!(%kind, reason, message, wait = ?recovery.wait, "{hint}");
            self.warned = Some(reason.to_owned());
        }
    }
}
