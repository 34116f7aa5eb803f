//! Runs one watch: asks what the machine says, reads lines, hands on notices.

use std::time::Duration;

use kube::Client;
use tokio::{
    sync::{mpsc, watch as signal},
    time::{Instant, sleep},
};
use tracing::{debug, info, warn};

use super::{
    WatchMessage,
    chance::chance,
    counters::Counters,
    decode::{ApiError, DecodeError, Decoded, Decoder},
    lines::Lines,
    listing::Listing,
    recording::{Tap, record_line},
    request::{ANSWER_TIMEOUT, Compression, MUTE_AFTER, next_chunk},
    resolve::Resolved,
    state::{Ask, Fault, State, Step},
};
use crate::trace::{
    model::kubernetes_event::KubernetesEvent,
    model::{
        observation::{WatchEvent, WatchId},
        time::Timestamp,
    },
};

/// A server ends a watch after this long, give or take; whoever is silent for [`MUTE_AFTER`] longer
/// is mute. Together less than a minute.
const WATCH_SECONDS: f64 = 45.0;
/// Of the first watch from an earlier run's resourceVersion. Readiness waits for a sign that it is
/// not too old, and where nothing happens a server gives one only as a watch ends: a bookmark two
/// seconds before, or the end itself.
const DOUBTED_SECONDS: f64 = 3.0;
/// Of a watch that begins with a list, which is left for a plain one as soon as the list is over.
const LIST_SECONDS: u64 = 1800;
/// Notices handed on at once.
const NOTICES_MAX: usize = 256;

/// What one watch is to read, and where it goes.
pub(super) struct Reader {
    pub(super) client: Client,
    pub(super) id: WatchId,
    pub(super) resolved: Resolved,
    pub(super) namespace: Option<String>,
    /// Encoded query parameters, without the leading `&`.
    pub(super) selectors: Option<String>,
    pub(super) decoder: Decoder,
    pub(super) counters: Counters,
    pub(super) clock: fn() -> Timestamp,
    pub(super) tap: Option<Tap>,
    pub(super) out: mpsc::Sender<WatchMessage>,
    pub(super) stop: signal::Receiver<bool>,
    /// Told once, when the first list is complete or has turned out not to be needed.
    pub(super) synced: Box<dyn Fn() + Send + Sync>,
    pub(super) state: State,
    pub(super) listing: Listing,
    pub(super) contact: Contact,
    /// `synced` was told.
    pub(super) is_synced: bool,
    /// What was last warned of, until it is over: said once, not at every attempt.
    pub(super) warned: Option<String>,
}

/// Whether anything can be heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contact {
    /// From the start of a watch that begins with a list, and after each answer.
    Present,
    /// The connection ended, as connections do: news only when the next does not come at once.
    Between { since: Timestamp },
    /// Told, or nothing was heard since an earlier run.
    Lost,
}

/// Why a watch is over.
pub(super) enum Over {
    Stopped,
    /// 404: perhaps the kind is served no more, perhaps the server is not ready.
    NotFound(Box<Reader>),
}

/// Nobody listens any more.
pub(super) struct Unheard;

/// What ends a request.
pub(super) enum End {
    Fault(Fault),
    Unheard,
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Unheard> for End {
    fn from(_: Unheard) -> Self {
        Self::Unheard
    }
}

impl Reader {
    pub(super) async fn run(mut self: Box<Self>) -> Over {
        let mut stopped = self.stop.clone();
        loop {
            let end = tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => return Over::Stopped,
                end = self.attempt() => end,
            };
            self.tell_synced();
            let fault = match end {
                Ok(()) => continue,
                Err(End::Unheard) => return Over::Stopped,
                Err(End::Fault(fault)) => fault,
            };
            let step = self.state.fault(&fault, chance());
            self.listing.failed(&step.reason);
            self.count(&fault, &step);
            if self.lost_contact(step.is_interruption).await.is_err() {
                return Over::Stopped;
            }
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => return Over::Stopped,
                () = sleep(step.rest) => {}
            }
            if matches!(fault, Fault::Refused { code: 404, .. }) {
                return Over::NotFound(self);
            }
        }
    }

    fn count(&mut self, fault: &Fault, step: &Step) {
        let (kind, reason) = (&self.counters.kind, step.reason.as_str());
        if step.relists {
            self.counters.relists(reason);
            self.listing.is_for(reason);
            info!(%kind, reason, "Listing anew.");
        }
        let message = match fault {
            Fault::Ended { .. } => return debug!(%kind, "The server ended the watch."),
            Fault::Refused { message, .. } | Fault::InStream { message, .. } => message,
            Fault::NotAList | Fault::Broken | Fault::Mute => "",
        };
        self.counters.fails(reason);
        let hint = match fault {
            Fault::Refused { code: 401, .. } => "The account's token is not accepted.",
            Fault::Refused { code: 403, .. } => {
                "The account may not list and watch this kind; RBAC has to allow it."
            }
            _ => "Trying again.",
        };
        if step.relists || !step.is_interruption {
            return;
        }
        if self.warned.as_deref() == Some(reason) {
            debug!(%kind, reason, message, wait = ?step.rest, "Still cannot watch.");
        } else {
            warn!(%kind, reason, message, wait = ?step.rest, "Cannot watch. {hint}");
            self.warned = Some(reason.to_owned());
        }
    }

    async fn lost_contact(&mut self, is_interruption: bool) -> Result<(), Unheard> {
        let now = (self.clock)();
        match (self.contact, is_interruption) {
            (Contact::Lost, _) | (Contact::Between { .. }, false) => Ok(()),
            (Contact::Present, false) => {
                self.contact = Contact::Between { since: now };
                Ok(())
            }
            (Contact::Present, true) => self.tell_interrupted(now).await,
            (Contact::Between { since }, true) => self.tell_interrupted(since).await,
        }
    }

    async fn tell_interrupted(&mut self, at: Timestamp) -> Result<(), Unheard> {
        self.contact = Contact::Lost;
        self.say(vec![WatchEvent::Interrupted { at }]).await
    }

    pub(super) async fn has_contact(&mut self) -> Result<(), Unheard> {
        if let Some(reason) = self.warned.take() {
            info!(kind = %self.counters.kind, reason, "Watching again.");
        }
        let was = std::mem::replace(&mut self.contact, Contact::Present);
        if was == Contact::Lost {
            self.decoder.begin_backlog();
        }
        let at = (self.clock)();
        match self.state.ask() {
            Ask::StreamList | Ask::Page { continue_token: None } => {
                self.say(vec![WatchEvent::ListStarted { at }]).await
            }
            Ask::Watch { .. } if was == Contact::Lost => {
                self.say(vec![WatchEvent::Resumed { at }]).await
            }
            // Going on with a list is no news: until its end nothing newer is heard.
            Ask::Watch { .. } | Ask::Page { .. } => Ok(()),
        }
    }

    fn tell_synced(&mut self) {
        if self.state.is_synced() && !self.is_synced {
            self.is_synced = true;
            (self.synced)();
        }
    }

    async fn attempt(&mut self) -> Result<(), End> {
        if self.state.is_listing() {
            self.listing.begin(&self.counters.kind, self.namespace.as_deref());
        }
        match self.state.ask() {
            Ask::Page { continue_token } => self.page(continue_token).await,
            Ask::StreamList => {
                // Without a resourceVersion: what is there now, not what some cache remembers.
                let query = format!(
                    "watch=1&allowWatchBookmarks=true&sendInitialEvents=true\
                     &resourceVersionMatch=NotOlderThan&timeoutSeconds={LIST_SECONDS}"
                );
                self.watch(&query, ANSWER_TIMEOUT).await
            }
            Ask::Watch { resource_version } => {
                let seconds = if self.state.is_synced() {
                    WATCH_SECONDS + 8.0 * chance()
                } else {
                    DOUBTED_SECONDS
                };
                let life = Duration::from_secs_f64(seconds);
                let query = format!(
                    "watch=1&allowWatchBookmarks=true&resourceVersion={resource_version}\
                     &timeoutSeconds={}",
                    life.as_secs()
                );
                self.watch(&query, life + MUTE_AFTER).await
            }
        }
    }

    /// Reads a watch to its end, or a streaming list to the end of the list.
    async fn watch(&mut self, query: &str, patience: Duration) -> Result<(), End> {
        let begun = Instant::now();
        let mut body = self.send(query, Compression::None).await?;
        let answered = Instant::now();
        self.has_contact().await?;
        let lists = self.state.is_listing();
        let mut lines = Lines::default();
        let mut said = Vec::new();
        let mut heard = false;
        loop {
            let soon = Instant::now() + if lists { patience } else { MUTE_AFTER };
            // After a rest at a full queue the server may have been patient, and is heard out.
            let limit = (begun + patience).max(soon);
            let chunk = match next_chunk(&mut body, limit).await {
                Ok(Some(chunk)) => chunk,
                over => {
                    let lived = answered.elapsed();
                    self.state.was_open(lived);
                    return Err(over.err().unwrap_or(Fault::Ended { lived, heard }).into());
                }
            };
            let at = (self.clock)();
            self.counters.received(chunk.len(), at);
            let mut end = None;
            lines.feed(&chunk, |line| match line {
                _ if end.is_some() => {}
                Ok(line) if lists => end = self.list_line(line, at, &mut said),
                Ok(line) => end = self.watch_line(line, at, &mut said, &mut heard),
                Err(_too_long) => self.undecodable(&"a line of more than 8 MiB"),
            });
            if self.selectors.is_some() && !lists {
                self.drop_those_that_only_left(&mut said).await;
            }
            self.say(std::mem::take(&mut said)).await?;
            self.tell_synced();
            match end {
                Some(Ok(())) => return Ok(()),
                Some(Err(fault)) => return Err(fault.into()),
                None => {}
            }
        }
    }

    fn watch_line(
        &mut self,
        line: &[u8],
        at: Timestamp,
        said: &mut Vec<WatchEvent>,
        heard: &mut bool,
    ) -> Option<Result<(), Fault>> {
        let read = self.decoder.decode_event(line, at);
        if let Some(tap) = self.tap.as_ref().filter(|_| self.is_wanted(&read)) {
            record_line(tap, &self.name(), line, at, false);
        }
        match read {
            Ok(Decoded::KubernetesEvent { resource_version, event }) => {
                self.counters.applied.inc();
                self.state.reached(resource_version);
                said.extend(self.heard(event));
            }
            Ok(Decoded::KubernetesEventExpired { resource_version }) => {
                self.counters.deleted.inc();
                self.state.reached(resource_version);
            }
            Ok(Decoded::Applied(now)) => {
                self.counters.applied.inc();
                self.state.reached(now.resource_version);
                said.push(WatchEvent::Applied(now));
            }
            Ok(Decoded::Deleted(now)) => {
                self.counters.deleted.inc();
                self.state.reached(now.resource_version);
                if self.selectors.is_none() {
                    self.decoder.forget(&now.object.uid);
                }
                said.push(WatchEvent::Deleted(now));
            }
            Ok(Decoded::Bookmark { resource_version, .. }) => {
                self.counters.bookmarks.inc();
                self.state.reached(resource_version);
                self.state.heard_bookmark();
                if resource_version != 0 {
                    said.push(WatchEvent::Bookmark { at, resource_version });
                }
            }
            Ok(Decoded::Error(error)) => return Some(Err(in_stream(*error))),
            Err(error) => self.undecodable(&error),
        }
        *heard = true;
        None
    }

    /// What an Event says of a kind for which that is wanted.
    pub(super) fn heard(&self, remark: Option<KubernetesEvent>) -> Option<WatchEvent> {
        remark
            .filter(|remark| self.decoder.includes_events_of(&remark.kind))
            .map(WatchEvent::KubernetesEvent)
    }

    /// Recorded is everything but Events about kinds for which they are not wanted.
    pub(super) fn is_wanted(&self, read: &Result<Decoded, DecodeError>) -> bool {
        match read {
            Ok(Decoded::KubernetesEvent { event, .. }) => {
                event.as_ref().is_some_and(|remark| self.decoder.includes_events_of(&remark.kind))
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

    /// As recordings name it.
    pub(super) fn name(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.resolved.name()),
            None => self.resolved.name(),
        }
    }

    pub(super) fn undecodable(&self, error: &dyn std::fmt::Display) {
        self.counters.undecodable.inc();
        warn!(kind = %self.counters.kind, %error, "Skipping what cannot be read.");
    }

    /// Waits while the loop has no room.
    pub(super) async fn say(&self, mut notices: Vec<WatchEvent>) -> Result<(), Unheard> {
        while !notices.is_empty() {
            let rest = notices.split_off(notices.len().min(NOTICES_MAX));
            let now = std::mem::replace(&mut notices, rest);
            self.out.send(WatchMessage::Events(self.id, now)).await.map_err(|_closed| Unheard)?;
        }
        Ok(())
    }
}

pub(super) fn in_stream(error: ApiError) -> Fault {
    Fault::InStream { code: error.code, message: error.message }
}
