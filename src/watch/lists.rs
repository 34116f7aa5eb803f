//! Reads lists: as a watch begins with one, or page by page.

use serde::Deserialize;
use tokio::time::Instant;
use tracing::warn;

use super::{
    decode::Decoded,
    page::Page,
    recording::{Recorded, record_item, record_line},
    request::{ANSWER_TIMEOUT, Compression, next_chunk},
    resolve::percent_encoded,
    state::Fault,
    stream::{End, Reader, in_stream},
};
use crate::trace::model::{observation::WatchEvent, time::Timestamp};

/// Items of a page: a list goes on from there when a request fails.
const PAGE: u32 = 250;

impl Reader {
    /// `Some` at the end of the list, or of all hope.
    pub(super) fn list_line(
        &mut self,
        line: &[u8],
        at: Timestamp,
        said: &mut Vec<WatchEvent>,
    ) -> Option<Result<(), Fault>> {
        let read = self.decoder.decode_event(line, at);
        if let Some(tap) = self.tap.as_ref().filter(|_| self.is_wanted(&read)) {
            record_line(tap, &self.name(), line, at, true);
        }
        let line = match read {
            Ok(line) => line,
            Err(error) => {
                self.undecodable(&error);
                return None;
            }
        };
        match self.item(line, said)? {
            Decoded::Bookmark { resource_version, ends_list: true } if resource_version != 0 => {
                self.list_ended(resource_version, at, said);
                Some(Ok(()))
            }
            Decoded::Error(error) => Some(Err(in_stream(*error))),
            // In a list nothing is deleted, and nothing is marked but its end.
            _ => Some(Err(Fault::NotAList)),
        }
    }

    /// Says an item of a list. Gives back what is none.
    fn item(&mut self, line: Decoded, said: &mut Vec<WatchEvent>) -> Option<Decoded> {
        match line {
            Decoded::Applied(now) => {
                self.listing.read_object();
                said.push(WatchEvent::ListItem(now));
            }
            Decoded::KubernetesEvent { event, .. } => said.extend(self.heard(event)),
            other => return Some(other),
        }
        self.counters.listed.inc();
        None
    }

    fn list_ended(&mut self, resource_version: u64, at: Timestamp, said: &mut Vec<WatchEvent>) {
        if let Some(tap) = &self.tap {
            tap(&self.name(), at, Recorded::ListEnd { resource_version });
        }
        self.decoder.end_list();
        self.listing.ended();
        self.state.listed(resource_version);
        said.push(WatchEvent::ListCompleted { at, resource_version });
    }

    /// Reads one page of a list, item by item.
    pub(super) async fn page(&mut self, token: Option<String>) -> Result<(), End> {
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
                let read = self.decoder.decode_item(item, &api_version, &kind, at);
                if let Some(tap) = self.tap.as_ref().filter(|_| self.is_wanted(&read)) {
                    record_item(tap, &self.name(), (&api_version, &kind), item, at);
                }
                match read {
                    Ok(line) => drop(self.item(line, &mut said)),
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
