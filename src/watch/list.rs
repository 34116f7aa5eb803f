//! Reads lists: the beginning of a watch, or page by page.

use serde::Deserialize;
use tokio::time::Instant;
use tracing::warn;

use super::{
    decode::{DecodeError, Decoded},
    machine::WatchFailure,
    page::Page,
    reader::{End, Reader, failure_in_stream},
    recording::{Recorded, record_item, record_line},
    request::{ANSWER_TIMEOUT, Compression, next_chunk},
    resolve::percent_encoded,
    selector_exit::ABSENT_READS_MAX,
};
use crate::trace::model::{observation::WatchEvent, time::Timestamp};

/// Items of a page. After a failed request the list continues with the page that failed.
const PAGE_ITEMS: u32 = 250;

impl Reader {
    /// Adds the event of one line of a streaming list. `Some` at the end of the list or after a
    /// failure.
    pub(super) fn read_list_line(
        &mut self,
        line: &[u8],
        at: Timestamp,
        events: &mut Vec<WatchEvent>,
    ) -> Option<Result<(), WatchFailure>> {
        let decoded = self.decoder.decode_event(line, at);
        self.count_health_rule_failures();
        if let Some(tap) = self.tap.as_ref().filter(|_| self.is_recorded(&decoded)) {
            record_line(tap, &self.recording_name(), line, at, true);
        }
        let line = match decoded {
            Ok(line) => line,
            Err(DecodeError::OpaqueResourceVersion) => {
                return Some(Err(WatchFailure::OpaqueResourceVersion));
            }
            Err(error) => {
                self.count_undecodable(&error);
                return None;
            }
        };
        match self.add_item(line, events)? {
            Decoded::Bookmark { resource_version, ends_list: true } if resource_version != 0 => {
                self.complete_list(resource_version, at, events);
                Some(Ok(()))
            }
            Decoded::Error(error) => Some(Err(failure_in_stream(*error))),
            // A streaming list has neither deletions nor bookmarks before its end.
            _ => Some(Err(WatchFailure::StreamingListUnsupported)),
        }
    }

    /// Adds the event of a list item. Returns a line that is not one.
    fn add_item(&mut self, line: Decoded, events: &mut Vec<WatchEvent>) -> Option<Decoded> {
        match line {
            Decoded::Applied(observation) => {
                self.list_span.count_object();
                self.record_object(&observation);
                events.push(WatchEvent::ListItem(observation));
            }
            Decoded::KubernetesEvent { event, .. } => events.extend(self.wanted_event(event)),
            other => return Some(other),
        }
        self.counters.listed.inc();
        None
    }

    fn complete_list(
        &mut self,
        resource_version: u64,
        at: Timestamp,
        events: &mut Vec<WatchEvent>,
    ) {
        if let Some(tap) = &self.tap {
            tap(&self.recording_name(), at, Recorded::ListEnd { resource_version });
        }
        self.decoder.end_list();
        self.list_span.end();
        self.machine.complete_list(resource_version);
        events.push(WatchEvent::ListCompleted { at, resource_version });
    }

    /// Inserts before the end of a relist what happened to the objects that only left the selectors:
    /// the trace takes every other absent object for deleted.
    pub(super) async fn add_exits_of_list(&mut self, events: &mut Vec<WatchEvent>) {
        let Some(selection) = &mut self.selection else { return };
        let Some(&WatchEvent::ListCompleted { at, resource_version }) = events.last() else {
            return;
        };
        let absent = self.session.find_exits(selection, at, resource_version).await;
        if absent.unverified > 0 {
            self.counters.count_failure("selector_exit_unverified");
            let (kind, objects) = (&self.counters.kind, absent.unverified);
            warn!(
                %kind, objects, max = ABSENT_READS_MAX,
                "Objects absent from a list count as deleted; some may only have left the selectors."
            );
        }
        for uid in &absent.uids {
            self.forget_last_write(&uid.to_string());
        }
        let end = events.len().saturating_sub(1);
        events.splice(end..end, absent.events);
    }

    /// Reads one page of a list, item by item.
    pub(super) async fn read_page(&mut self, continue_token: Option<String>) -> Result<(), End> {
        let mut query = format!("limit={PAGE_ITEMS}");
        if let Some(token) = &continue_token {
            query.push_str("&continue=");
            query.push_str(&percent_encoded(token));
        }
        let mut body = self.session.send(&query, Compression::Any).await?;
        self.record_answer().await?;
        let resolved = &self.session.resolved;
        let (api_version, kind) = (resolved.api_version(), resolved.kind.kind.to_string());
        let mut page = Page::default();
        let mut events = Vec::new();
        let mut is_opaque = false;
        while let Some(chunk) = next_chunk(&mut body, Instant::now() + ANSWER_TIMEOUT).await? {
            let at = (self.clock)();
            self.counters.count_bytes(chunk.len(), at);
            page.feed(&chunk, |item| {
                let Ok(item) = item else {
                    return self.count_undecodable(&"an item of more than 8 MiB");
                };
                let decoded = self.decoder.decode_item(item, &api_version, &kind, at);
                self.count_health_rule_failures();
                if let Some(tap) = self.tap.as_ref().filter(|_| self.is_recorded(&decoded)) {
                    record_item(tap, &self.recording_name(), (&api_version, &kind), item, at);
                }
                match decoded {
                    Ok(line) => drop(self.add_item(line, &mut events)),
                    Err(DecodeError::OpaqueResourceVersion) => is_opaque = true,
                    Err(error) => self.count_undecodable(&error),
                }
            });
            if is_opaque {
                return Err(WatchFailure::OpaqueResourceVersion.into());
            }
            self.emit(std::mem::take(&mut events)).await?;
        }
        let end: PageEnd = serde_json::from_slice(page.rest()).map_err(|error| {
            warn!(%kind, %error, "Failed to parse a list page.");
            WatchFailure::Connection
        })?;
        match end.metadata.continue_token.filter(|token| !token.is_empty()) {
            Some(token) => self.machine.continue_list(token),
            None => match end.metadata.resource_version.parse() {
                Ok(version) => {
                    self.complete_list(version, (self.clock)(), &mut events);
                    self.add_exits_of_list(&mut events).await;
                }
                Err(_opaque) => return Err(WatchFailure::OpaqueResourceVersion.into()),
            },
        }
        Ok(self.emit(events).await?)
    }
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
