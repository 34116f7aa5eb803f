//! The state of one watch, and how its events reach the trace.

use tokio::sync::{mpsc, watch as signal};
use tracing::{info, warn};

use super::{
    counters::Counters,
    decode::{ApiError, DecodeError, Decoded, Decoder},
    list_span::ListSpan,
    machine::{Machine, Request, WatchFailure},
    message::WatchMessage,
    probe::LastWrite,
    recording::{Recorded, Tap},
    request::Session,
    selector_exit::Selection,
};
use crate::trace::model::{
    kind::is_built_in,
    kubernetes_event::KubernetesEvent,
    observation::{Observation, WatchEvent, WatchId},
    time::Timestamp,
};

/// Watch events in one message to the trace.
const EVENTS_MAX: usize = 256;

/// Reads one watch.
pub(super) struct Reader {
    pub(super) session: Session,
    pub(super) id: WatchId,
    pub(super) decoder: Decoder,
    pub(super) counters: Counters,
    pub(super) clock: fn() -> Timestamp,
    pub(super) tap: Option<Tap>,
    pub(super) out: mpsc::Sender<WatchMessage>,
    pub(super) stop: signal::Receiver<bool>,
    /// Called once, when the first list is complete or has turned out not to be needed.
    pub(super) synced: Box<dyn Fn() + Send + Sync>,
    pub(super) machine: Machine,
    pub(super) list_span: ListSpan,
    pub(super) link: Link,
    /// Whether `synced` was called.
    pub(super) is_synced: bool,
    /// The reason of the last warning, until the watch recovers: later failures for the same reason
    /// are not logged again.
    pub(super) warned: Option<String>,
    /// The state that a probe compares with the server's.
    pub(super) last_write: Option<LastWrite>,
    /// The objects in the selection; `None` for a watch without selectors.
    pub(super) selection: Option<Selection>,
}

/// Whether events can arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// The server answered, or the first list is under way.
    Connected,
    /// The server ended the watch; the trace is notified only where the next one does not follow at
    /// once.
    Reconnecting { since: Timestamp },
    /// The trace was notified, or nothing has arrived since an earlier run.
    Interrupted,
}

/// The trace has stopped to receive.
pub(super) struct ReceiverClosed;

/// Why a request ended.
pub(super) enum End {
    Failed(WatchFailure),
    ReceiverClosed,
}

impl From<WatchFailure> for End {
    fn from(failure: WatchFailure) -> Self {
        Self::Failed(failure)
    }
}

impl From<ReceiverClosed> for End {
    fn from(_: ReceiverClosed) -> Self {
        Self::ReceiverClosed
    }
}

impl Reader {
    /// Sends events to the trace; waits while its queue is full.
    pub(super) async fn emit(&self, mut events: Vec<WatchEvent>) -> Result<(), ReceiverClosed> {
        while !events.is_empty() {
            let rest = events.split_off(events.len().min(EVENTS_MAX));
            let events_sent = std::mem::replace(&mut events, rest);
            let message = WatchMessage::Events(self.id, events_sent);
            self.out.send(message).await.map_err(|_closed| ReceiverClosed)?;
        }
        Ok(())
    }

    /// Records that the server answered.
    pub(super) async fn record_answer(&mut self) -> Result<(), ReceiverClosed> {
        if let Some(reason) = self.warned.take() {
            info!(kind = %self.counters.kind, reason, "Watch recovered.");
        }
        let before = std::mem::replace(&mut self.link, Link::Connected);
        if before == Link::Interrupted {
            self.decoder.begin_backlog();
        }
        let at = (self.clock)();
        match self.machine.next_request() {
            Request::StreamList | Request::Page { continue_token: None } => {
                if let Some(selection) = &mut self.selection {
                    selection.begin_list();
                }
                self.emit(vec![WatchEvent::ListStarted { at }]).await
            }
            Request::Watch { .. } if before == Link::Interrupted => {
                self.emit(vec![WatchEvent::Resumed { at }]).await
            }
            // The trace receives nothing newer than the list until its end.
            Request::Watch { .. } | Request::Page { .. } | Request::Probe { .. } => Ok(()),
        }
    }

    pub(super) async fn record_loss(
        &mut self,
        is_interruption: bool,
    ) -> Result<(), ReceiverClosed> {
        let now = (self.clock)();
        let at = match (self.link, is_interruption) {
            (Link::Interrupted, _) | (Link::Reconnecting { .. }, false) => return Ok(()),
            (Link::Connected, false) => {
                self.link = Link::Reconnecting { since: now };
                return Ok(());
            }
            (Link::Connected, true) => now,
            (Link::Reconnecting { since }, true) => since,
        };
        self.link = Link::Interrupted;
        self.emit(vec![WatchEvent::Interrupted { at }]).await
    }

    pub(super) fn report_synced(&mut self) {
        if self.machine.is_synced() && !self.is_synced {
            self.is_synced = true;
            (self.synced)();
        }
    }

    /// Records an object that exists and matches the selectors.
    pub(super) fn record_object(&mut self, observation: &Observation) {
        LastWrite::record(&mut self.last_write, observation, false);
        if let Some(selection) = &mut self.selection {
            selection.record(&observation.object);
        }
    }

    /// A Kubernetes Event, where the configuration wants those of its kind.
    pub(super) fn wanted_event(&self, event: Option<KubernetesEvent>) -> Option<WatchEvent> {
        event
            .filter(|event| self.decoder.includes_events_of(&event.kind))
            .map(WatchEvent::KubernetesEvent)
    }

    /// Whether a recording takes the line: all but unwanted Kubernetes Events.
    pub(super) fn is_recorded(&self, line: &Result<Decoded, DecodeError>) -> bool {
        match line {
            Ok(Decoded::KubernetesEvent { event, .. }) => {
                event.as_ref().is_some_and(|event| self.decoder.includes_events_of(&event.kind))
            }
            Ok(Decoded::KubernetesEventExpired { .. }) => false,
            Ok(
                Decoded::Applied(_)
                | Decoded::Deleted(_)
                | Decoded::Bookmark { .. }
                | Decoded::Error(_),
            )
            | Err(_) => true,
        }
    }

    /// The name of the watch in recordings.
    pub(super) fn recording_name(&self) -> String {
        let plural = self.session.resolved.name();
        match &self.session.namespace {
            Some(namespace) => format!("{namespace}/{plural}"),
            None => plural,
        }
    }

    /// Records what a replay has to know about a kind that is not built in.
    pub(super) fn record_kind(&self) {
        let Some(tap) = &self.tap else { return };
        let resolved = &self.session.resolved;
        if is_built_in(&resolved.kind) {
            return;
        }
        let recorded = Recorded::Kind {
            api_version: &resolved.api_version(),
            kind: &resolved.kind.kind,
            has_status: resolved.has_status,
        };
        tap(&self.recording_name(), (self.clock)(), recorded);
    }

    pub(super) fn count_health_rule_failures(&mut self) {
        let failures = self.decoder.take_health_rule_failures();
        if failures > 0 {
            self.counters.health_rule_failures.inc_by(failures);
        }
    }

    pub(super) fn count_undecodable(&self, error: &dyn std::fmt::Display) {
        self.counters.undecodable.inc();
        warn!(kind = %self.counters.kind, %error, "Skipping an undecodable object.");
    }
}

pub(super) fn failure_in_stream(error: ApiError) -> WatchFailure {
    WatchFailure::InStream { code: error.code, message: error.message }
}
