//! Runs one watch: asks what the machine says, reads lines, hands on notices.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use kube::{Client, client::Body};
use serde::Deserialize;
use tokio::{
    sync::{mpsc, watch as signal},
    time::{Instant, sleep, timeout, timeout_at},
};
use tracing::{debug, info, warn};

use super::{
    FromWatch,
    chance::chance,
    counters::Counters,
    decode::{ApiError, DecodeError, Decoder, Line},
    lines::Lines,
    listing::Listing,
    page::Page,
    recording::{Recorded, Tap, record_item, record_line},
    resolve::{Resolved, percent_encoded},
    state::{Ask, Fault, State, Step},
};
use crate::trace::{
    observation::{Notice, Observation, WatchId},
    remark::Remark,
    time::Timestamp,
};

/// Items of a page: a list goes on from there when a request fails.
const PAGE: u32 = 250;
/// A server ends a watch after this long, give or take; whoever is silent for [`MUTE_AFTER`] longer
/// is mute. Together less than a minute.
const WATCH_SECONDS: f64 = 45.0;
const MUTE_AFTER: Duration = Duration::from_secs(5);
/// Of the first watch from an earlier run's resourceVersion. Readiness waits for a sign that it is
/// not too old, and where nothing happens a server gives one only as a watch ends: a bookmark two
/// seconds before, or the end itself.
const DOUBTED_SECONDS: f64 = 3.0;
/// Of a watch that begins with a list, which is left for a plain one as soon as the list is over.
const LIST_SECONDS: u64 = 1800;
/// Of an answer's head, and of the next bytes of a list.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Of the answer of a server that refuses.
const REFUSAL_BYTES_MAX: usize = 64 << 10;
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
    pub(super) out: mpsc::Sender<FromWatch>,
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
struct Unheard;

/// What ends a request.
enum End {
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
        self.say(vec![Notice::Interrupted { at }]).await
    }

    async fn has_contact(&mut self) -> Result<(), Unheard> {
        if let Some(reason) = self.warned.take() {
            info!(kind = %self.counters.kind, reason, "Watching again.");
        }
        let was = std::mem::replace(&mut self.contact, Contact::Present);
        if was == Contact::Lost {
            self.decoder.dates();
        }
        let at = (self.clock)();
        match self.state.ask() {
            Ask::StreamList | Ask::Page { continue_token: None } => {
                self.say(vec![Notice::Lists { at }]).await
            }
            Ask::Watch { .. } if was == Contact::Lost => {
                self.say(vec![Notice::Resumed { at }]).await
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

    async fn send(&self, query: &str, compression: Compression) -> Result<Body, Fault> {
        let path = self.resolved.path(self.namespace.as_deref());
        let mut uri = format!("{path}?{query}");
        if let Some(selectors) = &self.selectors {
            uri.push('&');
            uri.push_str(selectors);
        }
        let mut request = http::Request::get(uri).header(http::header::ACCEPT, "application/json");
        if compression == Compression::None {
            request = request.header(http::header::ACCEPT_ENCODING, "identity");
        }
        let request = request.body(Body::empty()).map_err(|error| {
            warn!(%error, "A selector makes no request.");
            Fault::Broken
        })?;
        let answer = match timeout(ANSWER_TIMEOUT, self.client.send(request)).await {
            Err(_elapsed) => return Err(Fault::Mute),
            Ok(Err(error)) => {
                debug!(kind = self.counters.kind, %error, "No answer.");
                return Err(Fault::Broken);
            }
            Ok(Ok(answer)) => answer,
        };
        if answer.status().is_success() {
            return Ok(answer.into_body());
        }
        let retry_after = answer
            .headers()
            .get(http::header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let code = answer.status().as_u16();
        Err(Fault::Refused { code, message: message(answer.into_body()).await, retry_after })
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

    /// `Some` at the end of the list, or of all hope.
    fn list_line(
        &mut self,
        line: &[u8],
        at: Timestamp,
        said: &mut Vec<Notice>,
    ) -> Option<Result<(), Fault>> {
        let read = self.decoder.line(line, at);
        if let Some(tap) = self.tap.as_ref().filter(|_| self.is_wanted(&read)) {
            record_line(tap, &self.name(), line, at, true);
        }
        match read {
            Ok(Line::Applied(now)) => {
                self.counters.listed.inc();
                self.listing.read_object();
                said.push(Notice::Listed(now));
            }
            Ok(Line::Remarked { remark, .. }) => {
                self.counters.listed.inc();
                said.extend(self.heard(remark));
            }
            Ok(Line::Bookmark { resource_version, ends_list: true }) if resource_version != 0 => {
                self.list_ended(resource_version, at, said);
                return Some(Ok(()));
            }
            Ok(Line::Error(error)) => return Some(Err(in_stream(*error))),
            // In a list nothing is deleted, and nothing is marked but its end.
            Ok(Line::Deleted(_) | Line::Expired { .. } | Line::Bookmark { .. }) => {
                return Some(Err(Fault::NotAList));
            }
            Err(error) => self.undecodable(&error),
        }
        None
    }

    fn watch_line(
        &mut self,
        line: &[u8],
        at: Timestamp,
        said: &mut Vec<Notice>,
        heard: &mut bool,
    ) -> Option<Result<(), Fault>> {
        let read = self.decoder.line(line, at);
        if let Some(tap) = self.tap.as_ref().filter(|_| self.is_wanted(&read)) {
            record_line(tap, &self.name(), line, at, false);
        }
        match read {
            Ok(Line::Remarked { resource_version, remark }) => {
                self.counters.applied.inc();
                self.state.reached(resource_version);
                said.extend(self.heard(remark));
            }
            Ok(Line::Expired { resource_version }) => {
                self.counters.deleted.inc();
                self.state.reached(resource_version);
            }
            Ok(Line::Applied(now)) => {
                self.counters.applied.inc();
                self.state.reached(now.resource_version);
                said.push(Notice::Applied(now));
            }
            Ok(Line::Deleted(now)) => {
                self.counters.deleted.inc();
                self.state.reached(now.resource_version);
                if self.selectors.is_none() {
                    self.decoder.forget(&now.object.uid);
                }
                said.push(Notice::Deleted(now));
            }
            Ok(Line::Bookmark { resource_version, .. }) => {
                self.counters.bookmarks.inc();
                self.state.reached(resource_version);
                self.state.heard_bookmark();
                if resource_version != 0 {
                    said.push(Notice::Bookmark { at, resource_version });
                }
            }
            Ok(Line::Error(error)) => return Some(Err(in_stream(*error))),
            Err(error) => self.undecodable(&error),
        }
        *heard = true;
        None
    }

    /// What an Event says of a kind for which that is wanted.
    fn heard(&self, remark: Option<Remark>) -> Option<Notice> {
        remark.filter(|remark| self.decoder.hears(&remark.kind)).map(Notice::Remarked)
    }

    /// Recorded is everything but Events about kinds for which they are not wanted.
    fn is_wanted(&self, read: &Result<Line, DecodeError>) -> bool {
        match read {
            Ok(Line::Remarked { remark, .. }) => {
                remark.as_ref().is_some_and(|remark| self.decoder.hears(&remark.kind))
            }
            Ok(Line::Expired { .. }) => false,
            Ok(Line::Applied(_) | Line::Deleted(_) | Line::Bookmark { .. } | Line::Error(_))
            | Err(_) => true,
        }
    }

    fn list_ended(&mut self, resource_version: u64, at: Timestamp, said: &mut Vec<Notice>) {
        if let Some(tap) = &self.tap {
            tap(&self.name(), at, Recorded::ListEnd { resource_version });
        }
        self.decoder.list_ended();
        self.listing.ended();
        self.state.listed(resource_version);
        said.push(Notice::Reset { at, resource_version });
    }

    /// Reads one page of a list, item by item.
    async fn page(&mut self, token: Option<String>) -> Result<(), End> {
        let mut query = format!("limit={PAGE}");
        if let Some(token) = &token {
            query.push_str("&continue=");
            query.push_str(&percent_encoded(token));
        }
        let mut body = self.send(&query, Compression::Any).await?;
        self.has_contact().await?;
        let (api_version, kind) =
            (self.resolved.api_version(), self.resolved.kind.kind.to_string());
        let mut page = Page::default();
        let mut said = Vec::new();
        while let Some(chunk) = next_chunk(&mut body, Instant::now() + ANSWER_TIMEOUT).await? {
            let at = (self.clock)();
            self.counters.received(chunk.len(), at);
            page.feed(&chunk, |item| {
                let Ok(item) = item else { return self.undecodable(&"an item over 8 MiB") };
                let read = self.decoder.item(item, &api_version, &kind, at);
                if let Some(tap) = self.tap.as_ref().filter(|_| self.is_wanted(&read)) {
                    record_item(tap, &self.name(), (&api_version, &kind), item, at);
                }
                match read {
                    Ok(Line::Applied(now)) => {
                        self.counters.listed.inc();
                        self.listing.read_object();
                        said.push(Notice::Listed(now));
                    }
                    Ok(Line::Remarked { remark, .. }) => {
                        self.counters.listed.inc();
                        said.extend(self.heard(remark));
                    }
                    Ok(
                        Line::Deleted(_)
                        | Line::Expired { .. }
                        | Line::Bookmark { .. }
                        | Line::Error(_),
                    ) => {}
                    Err(error) => self.undecodable(&error),
                }
            });
            self.say(std::mem::take(&mut said)).await?;
        }
        let end: PageEnd = serde_json::from_slice(page.rest()).map_err(|error| {
            warn!(%kind, %error, "A page of a list cannot be read.");
            Fault::Broken
        })?;
        match end.metadata.continue_token.filter(|token| !token.is_empty()) {
            Some(token) => self.state.goes_on(token),
            None => match end.metadata.resource_version.parse() {
                Ok(version) => self.list_ended(version, (self.clock)(), &mut said),
                Err(_not_a_number) => return Err(Fault::Broken.into()),
            },
        }
        Ok(self.say(said).await?)
    }

    /// As recordings name it.
    fn name(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.resolved.name()),
            None => self.resolved.name(),
        }
    }

    fn undecodable(&self, error: &dyn std::fmt::Display) {
        self.counters.undecodable.inc();
        warn!(kind = %self.counters.kind, %error, "Skipping what cannot be read.");
    }

    /// Under a selector, leaving looks like being deleted. One GET by name decides: 404 or another
    /// UID is a deletion, and so is no answer.
    async fn drop_those_that_only_left(&mut self, said: &mut Vec<Notice>) {
        let mut kept = Vec::with_capacity(said.len());
        for notice in said.drain(..) {
            if let Notice::Deleted(now) = &notice {
                if self.is_still_there(now).await {
                    continue;
                }
                self.decoder.forget(&now.object.uid);
            }
            kept.push(notice);
        }
        *said = kept;
    }

    async fn is_still_there(&self, now: &Observation) -> bool {
        let path = self.resolved.path(now.object.namespace.as_deref());
        let name = percent_encoded(&now.object.name);
        let Ok(request) = http::Request::get(format!("{path}/{name}")).body(Vec::new()) else {
            return false;
        };
        let asked = timeout(ANSWER_TIMEOUT, self.client.request::<Identified>(request)).await;
        matches!(asked, Ok(Ok(found)) if found.metadata.uid == now.object.uid.to_string())
    }

    /// Waits while the loop has no room.
    async fn say(&self, mut notices: Vec<Notice>) -> Result<(), Unheard> {
        while !notices.is_empty() {
            let rest = notices.split_off(notices.len().min(NOTICES_MAX));
            let now = std::mem::replace(&mut notices, rest);
            self.out.send(FromWatch::Said(self.id, now)).await.map_err(|_closed| Unheard)?;
        }
        Ok(())
    }
}

fn in_stream(error: ApiError) -> Fault {
    Fault::InStream { code: error.code, message: error.message }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Compression {
    Any,
    /// A compressed watch is one gzip member an event, which decoders read as silence.
    None,
}

async fn next_chunk(body: &mut Body, limit: Instant) -> Result<Option<Bytes>, Fault> {
    loop {
        match timeout_at(limit, body.frame()).await {
            Err(_elapsed) => return Err(Fault::Mute),
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => {
                debug!(%error, "The connection broke.");
                return Err(Fault::Broken);
            }
            Ok(Some(Ok(frame))) => {
                if let Ok(chunk) = frame.into_data() {
                    return Ok(Some(chunk));
                }
            }
        }
    }
}

/// What a server says when it refuses; nothing where it does not say it soon and shortly.
async fn message(body: Body) -> String {
    #[derive(Deserialize)]
    struct Status {
        message: String,
    }
    let body = http_body_util::Limited::new(body, REFUSAL_BYTES_MAX).collect();
    let Ok(Ok(body)) = timeout(MUTE_AFTER, body).await else { return String::new() };
    serde_json::from_slice(&body.to_bytes()).map_or_else(|_| String::new(), |s: Status| s.message)
}

#[derive(Deserialize)]
struct PageEnd {
    metadata: PageMetadata,
}

#[derive(Deserialize)]
struct PageMetadata {
    #[serde(default, rename = "resourceVersion")]
    resource_version: String,
    #[serde(rename = "continue")]
    continue_token: Option<String>,
}

#[derive(Deserialize)]
struct Identified {
    metadata: IdentifiedMetadata,
}

#[derive(Deserialize)]
struct IdentifiedMetadata {
    #[serde(default)]
    uid: String,
}
