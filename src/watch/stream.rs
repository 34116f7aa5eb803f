//! Reads a watch, line by line.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    decode::{DecodeError, Decoded},
    lines::Lines,
    machine::{Progress, WatchFailure},
    probe::LastWrite,
    reader::{End, Reader, failure_in_stream},
    recording::record_line,
    request::{Compression, MUTE_AFTER, next_chunk},
};
use crate::trace::model::{observation::WatchEvent, time::Timestamp};

impl Reader {
    /// Reads a watch to its end, or a streaming list to the end of the list.
    pub(super) async fn read_watch(
        &mut self,
        query: &str,
        time_limit: Duration,
    ) -> Result<(), End> {
        let requested = Instant::now();
        let mut body = self.session.send(query, Compression::None).await?;
        let answered = Instant::now();
        self.record_answer().await?;
        let is_list = self.machine.is_listing();
        let mut lines = Lines::default();
        let mut events = Vec::new();
        let mut progress = Progress::None;
        loop {
            let soon = Instant::now() + if is_list { time_limit } else { MUTE_AFTER };
            // While a full queue held this reader up, the server may have waited too: its backlog
            // is still read.
            let limit = (requested + time_limit).max(soon);
            let chunk = match next_chunk(&mut body, limit).await {
                Ok(Some(chunk)) => chunk,
                end => {
                    let lived = answered.elapsed();
                    self.machine.record_life(lived);
                    return Err(end
                        .err()
                        .unwrap_or(WatchFailure::Ended { lived, progress })
                        .into());
                }
            };
            let at = (self.clock)();
            self.counters.count_bytes(chunk.len(), at);
            let mut end = None;
            lines.feed(&chunk, |line| match line {
                _ if end.is_some() => {}
                Ok(line) if is_list => end = self.read_list_line(line, at, &mut events),
                Ok(line) => end = self.read_line(line, at, &mut events, &mut progress),
                Err(_too_long) => self.count_undecodable(&"a line of more than 8 MiB"),
            });
            if self.selection.is_some() && !is_list {
                self.mark_selector_exits(&mut events).await;
            }
            if matches!(end, Some(Ok(()))) {
                self.add_exits_of_list(&mut events).await;
            }
            self.emit(std::mem::take(&mut events)).await?;
            self.report_synced();
            match end {
                Some(Ok(())) => return Ok(()),
                Some(Err(failure)) => return Err(failure.into()),
                None => {}
            }
        }
    }

    /// Adds the event of one line. `Some` where the line ends the watch.
    fn read_line(
        &mut self,
        line: &[u8],
        at: Timestamp,
        events: &mut Vec<WatchEvent>,
        progress: &mut Progress,
    ) -> Option<Result<(), WatchFailure>> {
        let decoded = self.decoder.decode_event(line, at);
        self.count_health_rule_failures();
        if let Some(tap) = self.tap.as_ref().filter(|_| self.is_recorded(&decoded)) {
            record_line(tap, &self.recording_name(), line, at, false);
        }
        match decoded {
            Ok(Decoded::KubernetesEvent { resource_version, event }) => {
                self.counters.applied.inc();
                self.advance(resource_version, Progress::Event, progress);
                events.extend(self.wanted_event(event));
            }
            Ok(Decoded::KubernetesEventExpired { resource_version }) => {
                self.counters.deleted.inc();
                self.advance(resource_version, Progress::Event, progress);
            }
            Ok(Decoded::Applied(observation)) => {
                self.counters.applied.inc();
                self.advance(observation.resource_version, Progress::Event, progress);
                self.record_object(&observation);
                events.push(WatchEvent::Applied(observation));
            }
            Ok(Decoded::Deleted(observation)) => {
                self.counters.deleted.inc();
                self.advance(observation.resource_version, Progress::Event, progress);
                LastWrite::record(&mut self.last_write, &observation, true);
                self.decoder.forget(&observation.object.uid);
                events.push(WatchEvent::Deleted(observation));
            }
            Ok(Decoded::Bookmark { resource_version, .. }) => {
                self.counters.bookmarks.inc();
                self.advance(resource_version, Progress::Bookmark, progress);
                if resource_version != 0 {
                    events.push(WatchEvent::Bookmark { at, resource_version });
                }
            }
            Ok(Decoded::Error(error)) => return Some(Err(failure_in_stream(*error))),
            Err(DecodeError::OpaqueResourceVersion) => {
                return Some(Err(WatchFailure::OpaqueResourceVersion));
            }
            Err(error) => {
                *progress = Progress::Event;
                self.count_undecodable(&error);
            }
        }
        None
    }

    fn advance(&mut self, resource_version: u64, received: Progress, progress: &mut Progress) {
        if self.machine.advance(resource_version) {
            *progress = received.max(*progress);
        }
    }

    /// Replaces the deletion of an object that still exists by [`WatchEvent::LeftSelector`].
    async fn mark_selector_exits(&mut self, events: &mut [WatchEvent]) {
        for event in events {
            let WatchEvent::Deleted(observation) = &*event else { continue };
            let (at, uid) = (observation.at, observation.object.uid.clone());
            let resource_version = observation.resource_version;
            let has_left = self.session.has_left_selector(observation).await;
            if let Some(selection) = &mut self.selection {
                selection.remove(&uid);
            }
            if has_left {
                self.forget_last_write(&uid.to_string());
                *event = WatchEvent::LeftSelector { at, uid, resource_version };
            }
        }
    }

    /// The watch no longer learns of the object's writes, so probes cannot compare it.
    pub(super) fn forget_last_write(&mut self, uid: &str) {
        if self.last_write.as_ref().is_some_and(|last| last.is_of(uid)) {
            self.last_write = None;
        }
    }
}
