//! Runs one watch: asks what the machine says, reads lines, hands on notices.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    time::Duration,
};

use http_body_util::BodyExt as _;
use kube::{Client, client::Body};
use prometheus::{IntCounter, IntGauge};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{
    sync::{mpsc, watch as signal},
    time::{Instant, sleep, timeout, timeout_at},
};
use tracing::{debug, info, warn};

use super::{
    FromWatch,
    decode::{Decoder, Line},
    lines::Lines,
    recording::{Recorded, Tap},
    resolve::Resolved,
    state::{Ask, Fault, State, Step},
};
use crate::{
    metrics::Metrics,
    trace::{
        observation::{Notice, Observation, WatchId},
        time::Timestamp,
    },
};

/// Items of a page: small pages keep memory flat, whatever the objects' size.
const PAGE: u32 = 250;
/// A server ends a watch after this long; whoever is silent for [`MUTE_AFTER`] longer is mute.
const WATCH_SECONDS: u64 = 45;
const MUTE_AFTER: Duration = Duration::from_secs(5);
/// Of an answer's head, and of a page.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Of a body that is read whole.
const PAGE_BYTES_MAX: usize = 512 << 20;
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
    /// Told when the first list is complete.
    pub(super) synced: Box<dyn Fn() + Send + Sync>,
}

/// The kind's own metrics, looked up once.
pub(super) struct Counters {
    kind: String,
    metrics: Metrics,
    applied: IntCounter,
    deleted: IntCounter,
    listed: IntCounter,
    bookmarks: IntCounter,
    bytes: IntCounter,
    undecodable: IntCounter,
    last_event: IntGauge,
}

impl Counters {
    pub(super) fn new(metrics: &Metrics, kind: &str) -> Self {
        let events = |name| metrics.watch_events.with_label_values(&[kind, name]);
        Self {
            applied: events("applied"),
            deleted: events("deleted"),
            listed: events("listed"),
            bookmarks: events("bookmark"),
            bytes: metrics.watch_bytes.with_label_values(&[kind]),
            undecodable: metrics.undecodable.with_label_values(&[kind]),
            last_event: metrics.watch_last_event.with_label_values(&[kind]),
            kind: kind.to_owned(),
            metrics: metrics.clone(),
        }
    }
}

/// Why a watch is over for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Stopped,
    /// The server does not serve the kind, or not any more.
    NotServed,
}

impl Reader {
    pub(super) async fn run(mut self) -> Over {
        let mut state = State::new();
        let mut is_interrupted = false;
        let mut lists = 0_u32;
        let mut stopped = self.stop.clone();
        loop {
            let listing = state.is_listing();
            let fault = tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => return Over::Stopped,
                fault = self.attempt(&mut state, &mut is_interrupted) => fault,
            };
            if listing && !state.is_listing() {
                lists += 1;
                if lists == 1 {
                    (self.synced)();
                }
            }
            let Err(fault) = fault else { continue };
            if fault == (Fault::Refused { code: 404, retry_after: None }) {
                return Over::NotServed;
            }
            let step = state.fault(&fault, unit());
            self.count(&fault, &step, lists);
            if step.is_interruption && !is_interrupted {
                is_interrupted = true;
                let at = (self.clock)();
                if !self.say(vec![Notice::Interrupted { at }]).await {
                    return Over::Stopped;
                }
            }
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => return Over::Stopped,
                () = sleep(step.rest) => {}
            }
        }
    }

    fn count(&self, fault: &Fault, step: &Step, lists: u32) {
        let kind = &self.counters.kind;
        if step.relists && lists > 0 {
            self.counters.metrics.relists.with_label_values(&[kind, &step.reason]).inc();
            info!(%kind, reason = step.reason, "Listing anew.");
        }
        match fault {
            Fault::Ended { .. } => debug!(%kind, "The server ended the watch."),
            Fault::Refused { .. } | Fault::InStream { .. } | Fault::Broken | Fault::Mute => {
                let reason = step.reason.as_str();
                self.counters.metrics.watch_failures.with_label_values(&[kind, reason]).inc();
                let hint = match fault {
                    Fault::Refused { code: 401, .. } => "The account's token is not accepted.",
                    Fault::Refused { code: 403, .. } => {
                        "The account may not list and watch this kind; RBAC has to allow it."
                    }
                    _ => "Trying again.",
                };
                if !step.relists {
                    warn!(%kind, reason, wait = ?step.rest, "Cannot watch. {hint}");
                }
            }
        }
    }

    async fn attempt(&mut self, state: &mut State, is_interrupted: &mut bool) -> Result<(), Fault> {
        match state.ask() {
            Ask::Page { continue_token } => self.page(state, continue_token).await,
            Ask::StreamList => {
                let query = "watch=1&allowWatchBookmarks=true&sendInitialEvents=true\
                     &resourceVersionMatch=NotOlderThan&resourceVersion=0";
                self.watch(state, query, is_interrupted).await
            }
            Ask::Watch { resource_version } => {
                let query =
                    format!("watch=1&allowWatchBookmarks=true&resourceVersion={resource_version}");
                self.watch(state, &query, is_interrupted).await
            }
        }
    }

    async fn send(&self, query: &str, identity: bool) -> Result<http::Response<Body>, Fault> {
        let path = self.resolved.path(self.namespace.as_deref());
        let mut uri = format!("{path}?{query}");
        if let Some(selectors) = &self.selectors {
            uri.push('&');
            uri.push_str(selectors);
        }
        let mut request = http::Request::get(uri).header(http::header::ACCEPT, "application/json");
        if identity {
            // A compressed watch is one gzip member an event, which decoders read as silence.
            request = request.header(http::header::ACCEPT_ENCODING, "identity");
        }
        let request = request.body(Body::empty()).map_err(|error| {
            warn!(%error, "A selector makes no request.");
            Fault::Broken
        })?;
        let answer = timeout(ANSWER_TIMEOUT, self.client.send(request)).await;
        let answer = match answer {
            Err(_elapsed) => return Err(Fault::Mute),
            Ok(Err(error)) => {
                debug!(%error, "No answer.");
                return Err(Fault::Broken);
            }
            Ok(Ok(answer)) => answer,
        };
        if answer.status().is_success() {
            return Ok(answer);
        }
        let retry_after = answer
            .headers()
            .get(http::header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        Err(Fault::Refused { code: answer.status().as_u16(), retry_after })
    }

    async fn watch(
        &mut self,
        state: &mut State,
        query: &str,
        is_interrupted: &mut bool,
    ) -> Result<(), Fault> {
        let begun = Instant::now();
        let spread = u64::from(self.id.0 % 8);
        let query = format!("{query}&timeoutSeconds={}", WATCH_SECONDS + spread);
        let answer = self.send(&query, true).await?;
        let mut body = answer.into_body();
        let mut lines = Lines::default();
        let mut listing = state.is_listing();
        if listing {
            self.decoder.list_began();
        } else if *is_interrupted {
            *is_interrupted = false;
            let at = (self.clock)();
            self.say(vec![Notice::Resumed { at }]).await;
        }
        // A streaming list may be long, and is never silent for as long as this.
        let silence = Duration::from_secs(WATCH_SECONDS + spread) + MUTE_AFTER;
        let ends = begun + silence;
        loop {
            let limit = if listing { Instant::now() + silence } else { ends };
            let frame = match timeout_at(limit, body.frame()).await {
                Err(_elapsed) => return Err(Fault::Mute),
                Ok(None) => return Err(Fault::Ended { lived: begun.elapsed() }),
                Ok(Some(Err(error))) => {
                    debug!(%error, "The connection broke.");
                    return Err(Fault::Broken);
                }
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(chunk) = frame.into_data() else { continue };
            let at = (self.clock)();
            self.counters.bytes.inc_by(chunk.len() as u64);
            self.counters.last_event.set(at.nanos() / 1_000_000_000);
            let mut said = Vec::new();
            let mut fault = None;
            lines.feed(&chunk, |line| match line {
                Ok(line) if fault.is_none() => {
                    fault = self.line(line, at, state, &mut listing, &mut said).err();
                }
                Ok(_) => {}
                Err(_too_long) => self.undecodable(&"a line of more than 8 MiB"),
            });
            if self.selectors.is_some() {
                self.drop_those_that_only_left(&mut said).await;
            }
            if !listing {
                *is_interrupted &= state.is_listing();
            }
            while !said.is_empty() {
                let rest = said.split_off(said.len().min(NOTICES_MAX));
                if !self.say(std::mem::replace(&mut said, rest)).await {
                    return Ok(());
                }
            }
            if let Some(fault) = fault {
                return Err(fault);
            }
        }
    }

    fn line(
        &mut self,
        line: &[u8],
        at: Timestamp,
        state: &mut State,
        listing: &mut bool,
        said: &mut Vec<Notice>,
    ) -> Result<(), Fault> {
        if let Some(tap) = &self.tap {
            record_line(tap, &self.resolved.name(), line, at, *listing);
        }
        match self.decoder.line(line, at) {
            Ok(Line::Applied(now)) if *listing => {
                self.counters.listed.inc();
                said.push(Notice::Listed(now));
            }
            Ok(Line::Applied(now)) => {
                self.counters.applied.inc();
                state.reached(now.resource_version);
                said.push(Notice::Applied(now));
            }
            // Gone while it was being listed: the list does not have it any more.
            Ok(Line::Deleted(_)) if *listing => {}
            Ok(Line::Deleted(now)) => {
                self.counters.deleted.inc();
                state.reached(now.resource_version);
                said.push(Notice::Deleted(now));
            }
            Ok(Line::Bookmark { resource_version, initial_events_end }) => {
                self.counters.bookmarks.inc();
                if *listing && initial_events_end {
                    *listing = false;
                    self.list_ended(resource_version, at, state, said);
                } else if !*listing {
                    state.reached(resource_version);
                    said.push(Notice::Bookmark { at, resource_version });
                }
            }
            Ok(Line::Error(error)) => return Err(Fault::InStream { code: error.code }),
            Err(error) => self.undecodable(&error),
        }
        Ok(())
    }

    fn list_ended(
        &mut self,
        resource_version: u64,
        at: Timestamp,
        state: &mut State,
        said: &mut Vec<Notice>,
    ) {
        if let Some(tap) = &self.tap {
            tap(&self.resolved.name(), at, Recorded::ListEnd { resource_version });
        }
        self.decoder.list_ended();
        state.reached(resource_version);
        said.push(Notice::Reset { at, resource_version });
        (self.synced)();
    }

    /// One page of a list, read whole and given up at once.
    async fn page(&mut self, state: &mut State, token: Option<String>) -> Result<(), Fault> {
        let mut query = format!("limit={PAGE}");
        match &token {
            Some(token) => {
                query.push_str("&continue=");
                query.push_str(&percent_encoded(token));
            }
            None => self.decoder.list_began(),
        }
        let answer = self.send(&query, false).await?;
        let body = http_body_util::Limited::new(answer.into_body(), PAGE_BYTES_MAX).collect();
        let bytes = match timeout(ANSWER_TIMEOUT, body).await {
            Err(_elapsed) => return Err(Fault::Mute),
            Ok(Err(_)) => return Err(Fault::Broken),
            Ok(Ok(body)) => body.to_bytes(),
        };
        let at = (self.clock)();
        self.counters.bytes.inc_by(bytes.len() as u64);
        let page: Page<'_> = serde_json::from_slice(&bytes).map_err(|error| {
            self.undecodable(&error);
            Fault::Broken
        })?;
        let mut said = Vec::new();
        for item in page.items {
            if let Some(tap) = &self.tap {
                record_item(tap, &self.resolved, item, at);
            }
            let (api_version, kind) = (self.resolved.api_version(), &self.resolved.kind.kind);
            match self.decoder.item(item.get().as_bytes(), &api_version, kind, at) {
                Ok(now) => {
                    self.counters.listed.inc();
                    said.push(Notice::Listed(now));
                }
                Err(error) => self.undecodable(&error),
            }
        }
        let version = page.metadata.resource_version.parse();
        match page.metadata.continue_token.filter(|token| !token.is_empty()) {
            Some(token) => state.goes_on(token),
            None => match version {
                Ok(version) => self.list_ended(version, at, state, &mut said),
                Err(_not_a_number) => return Err(Fault::Broken),
            },
        }
        self.say(said).await;
        Ok(())
    }

    fn undecodable(&self, error: &dyn std::fmt::Display) {
        self.counters.undecodable.inc();
        warn!(kind = %self.counters.kind, %error, "Skipping what cannot be read.");
    }

    /// Under a selector, leaving looks like being deleted. One GET by name decides: 404 or another
    /// UID is a deletion, and so is no answer.
    async fn drop_those_that_only_left(&self, said: &mut Vec<Notice>) {
        let mut kept = Vec::with_capacity(said.len());
        for notice in said.drain(..) {
            if let Notice::Deleted(now) = &notice
                && self.is_still_there(now).await
            {
                continue;
            }
            kept.push(notice);
        }
        *said = kept;
    }

    async fn is_still_there(&self, now: &Observation) -> bool {
        let path = self.resolved.path(now.object.namespace.as_deref());
        let Ok(request) =
            http::Request::get(format!("{path}/{}", now.object.name)).body(Vec::new())
        else {
            return false;
        };
        let asked = timeout(ANSWER_TIMEOUT, self.client.request::<Identified>(request)).await;
        matches!(asked, Ok(Ok(found)) if found.metadata.uid == now.object.uid.to_string())
    }

    /// Waits while the loop has no room. Whether anybody listens.
    async fn say(&self, notices: Vec<Notice>) -> bool {
        notices.is_empty() || self.out.send(FromWatch::Said(self.id, notices)).await.is_ok()
    }
}

#[derive(Deserialize)]
struct Page<'a> {
    metadata: PageMetadata,
    #[serde(borrow, default)]
    items: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct PageMetadata {
    #[serde(rename = "resourceVersion")]
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

#[derive(Deserialize)]
struct RawEvent<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

fn record_line(tap: &Tap, watch: &str, line: &[u8], at: Timestamp, listing: bool) {
    let Ok(event) = serde_json::from_slice::<RawEvent<'_>>(line) else { return };
    let kind = match event.kind {
        "ADDED" | "MODIFIED" if listing => "LISTED",
        "BOOKMARK" | "DELETED" if listing => return,
        kind => kind,
    };
    tap(watch, at, Recorded::Event { kind, object: event.object.get().as_bytes() });
}

/// Items are silent about their kind; a recording is not.
fn record_item(tap: &Tap, resolved: &Resolved, item: &RawValue, at: Timestamp) {
    let rest = item.get().trim_start().strip_prefix('{').unwrap_or_default();
    let comma = if rest.trim_start().starts_with('}') { "" } else { "," };
    let (api_version, kind) = (resolved.api_version(), &resolved.kind.kind);
    let object = format!("{{\"apiVersion\":\"{api_version}\",\"kind\":\"{kind}\"{comma}{rest}");
    tap(&resolved.name(), at, Recorded::Event { kind: "LISTED", object: object.as_bytes() });
}

/// For a query parameter.
pub(super) fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            for digit in [byte >> 4, byte & 15] {
                encoded.extend(char::from_digit(digit.into(), 16).map(|d| d.to_ascii_uppercase()));
            }
        }
    }
    encoded
}

/// Between 0 and 1; jitter needs no better source.
fn unit() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(random >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}
