//! Writes down what is known, entry by entry, and reads it back: a restart goes on where it was.
//!
//! An entry is what is kept of one object, one watch, and so on: hundreds of bytes, in
//! [postcard](https://postcard.jamesmunns.com/wire-format). What can be found again by looking is not
//! written: timers, names, the Events that nobody has claimed (they are listed anew).

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::trace::{
    model::{
        object::Uid,
        observation::{WatchId, WatchScope},
        span::SpanId,
        time::Timestamp,
    },
    object::tracked::TrackedObject,
    rules::{Layout, Rules},
    state::pod_losses::PodLoss,
    tracer::{Tracer, Watch},
};

/// One more for every change of what is written: what an older version wrote is not read.
const FORMAT: u32 = 2;

/// One thing to write down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Bytes,
    /// `None`: it is known no more.
    pub value: Option<Bytes>,
}

/// Where a watch can go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumable {
    pub id: WatchId,
    pub watched: WatchScope,
    /// Everything up to it was delivered; 0: not even a list was.
    pub resource_version: u64,
}

/// Why what was written down is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    #[error("there is none")]
    Nothing,
    #[error("another version of spanlink wrote it")]
    Format,
    #[error("it is of another cluster")]
    Cluster,
    #[error("the configuration read other things of objects")]
    Reading,
    #[error("the layout of traces was another")]
    Layout,
    #[error("it cannot be read")]
    Unreadable,
}

#[derive(Debug, Deserialize, Serialize)]
enum Key {
    CheckpointHeader,
    Watch(WatchId),
    Object(Uid),
    /// Of one owner.
    Losses(Uid),
    Stuck(SpanId),
}

/// What must be the same for the rest to mean anything.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct CheckpointHeader {
    format: u32,
    cluster: Box<str>,
    layout: Layout,
    reading: u64,
}

/// What was last written down of what is not a [`crate::trace::state::dirty_map::DirtyMap`].
#[derive(Debug)]
pub(crate) struct CheckpointWriter {
    reading: u64,
    has_origin: bool,
    /// Fingerprints, as far as this run wrote them: most watches have said nothing new.
    watches: BTreeMap<WatchId, Option<u64>>,
}

impl Tracer {
    /// From now on it remembers what changes, for [`Self::checkpoint`]. `reading`: a fingerprint of
    /// the options by which objects are read; what was read by others cannot be compared.
    pub fn remember(&mut self, reading: u64) {
        self.objects.remember();
        self.losses.remember();
        self.stuck_told.remember();
        // Those of an earlier run are written down, too: one that is closed now has to go.
        let watches = self.watches.keys().map(|id| (*id, None)).collect();
        self.written = Some(CheckpointWriter { reading, has_origin: false, watches });
    }

    /// What was written down is lost: the next checkpoint is of everything.
    pub fn remember_all(&mut self) {
        self.objects.touch_all();
        self.losses.touch_all();
        self.stuck_told.touch_all();
        if let Some(written) = &mut self.written {
            written.has_origin = false;
            written.watches.clear();
        }
    }

    fn origin(&self, reading: u64) -> CheckpointHeader {
        let (cluster, layout) = (self.ids.cluster.clone(), self.ids.layout);
        CheckpointHeader { format: FORMAT, cluster, layout, reading }
    }

    /// Everything that has changed since the last call. With what was returned before, it is the
    /// whole state after all that was noticed: to be written together with the spans that followed.
    pub fn checkpoint(&mut self) -> Vec<Entry> {
        let Some(mut written) = self.written.take() else { return Vec::new() };
        let mut page = EntryBuffer::default();
        if !std::mem::replace(&mut written.has_origin, true) {
            page.write(&Key::CheckpointHeader, Some(&self.origin(written.reading)));
        }
        for uid in self.objects.take_touched() {
            let known = self.objects.get(&uid).map(Box::as_ref);
            page.write(&Key::Object(uid), known);
        }
        for uid in self.losses.take_touched() {
            let losses = self.losses.get(&uid);
            page.write(&Key::Losses(uid), losses);
        }
        for id in self.stuck_told.take_touched() {
            page.write(&Key::Stuck(id), self.stuck_told.get(&id));
        }
        written.watches.retain(|id, _| {
            let is_open = self.watches.contains_key(id);
            if !is_open {
                page.write::<Watch>(&Key::Watch(*id), None);
            }
            is_open
        });
        for (id, watch) in &self.watches {
            let fingerprint = Some(page.write(&Key::Watch(*id), Some(watch)));
            if written.watches.insert(*id, fingerprint) == Some(fingerprint) {
                page.take_back();
            }
        }
        self.written = Some(written);
        page.entries()
    }

    /// Where its watches can go on.
    pub fn resumable(&self) -> impl Iterator<Item = Resumable> {
        self.watches.iter().map(|(id, watch)| Resumable {
            id: *id,
            watched: watch.watched.clone(),
            resource_version: watch.delivered,
        })
    }
}

/// A tracer on its way back, entry by entry, in any order.
#[derive(Debug)]
pub struct CheckpointReader {
    tracer: Tracer,
    expected: CheckpointHeader,
    origin: Option<CheckpointHeader>,
    is_unreadable: bool,
}

impl CheckpointReader {
    /// `cluster` and `reading` as for [`Tracer::new`] and [`Tracer::remember`].
    pub fn new(rules: Rules, cluster: &str, reading: u64) -> Self {
        let tracer = Tracer::new(rules, cluster);
        let expected = tracer.origin(reading);
        Self { tracer, expected, origin: None, is_unreadable: false }
    }

    pub fn entry(&mut self, key: &[u8], value: &[u8]) {
        self.is_unreadable |= self.read(key, value).is_none();
    }

    fn read(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match postcard::from_bytes(key).ok()? {
            Key::CheckpointHeader => self.origin = Some(read(value)?),
            Key::Watch(id) => drop(self.tracer.watches.insert(id, read(value)?)),
            Key::Object(uid) => {
                let mut known: Box<TrackedObject> = read(value)?;
                known.share_names(&mut self.tracer.names);
                self.tracer.objects.insert(uid, known);
            }
            Key::Losses(uid) => drop(self.tracer.losses.insert(uid, read::<Vec<PodLoss>>(value)?)),
            Key::Stuck(id) => drop(self.tracer.stuck_told.insert(id, read::<Timestamp>(value)?)),
        }
        Some(())
    }

    /// Nothing is over before its watches have caught up.
    ///
    /// # Errors
    /// When what was read is nothing to go on from.
    pub fn finish(self, now: Timestamp) -> Result<Tracer, RestoreError> {
        let Some(origin) = self.origin else {
            return Err(if self.is_unreadable {
                RestoreError::Unreadable
            } else {
                RestoreError::Nothing
            });
        };
        let expected = self.expected;
        if origin.format != expected.format {
            return Err(RestoreError::Format);
        }
        if origin.cluster != expected.cluster {
            return Err(RestoreError::Cluster);
        }
        if origin.layout != expected.layout {
            return Err(RestoreError::Layout);
        }
        if origin.reading != expected.reading {
            return Err(RestoreError::Reading);
        }
        if self.is_unreadable {
            return Err(RestoreError::Unreadable);
        }
        let mut tracer = self.tracer;
        tracer.find_again();
        tracer.lose_all(now);
        Ok(tracer)
    }
}

impl Tracer {
    /// What is not written down.
    fn find_again(&mut self) {
        for known in self.objects.values() {
            let uid = &known.object.uid;
            self.timers.extend(known.timer.map(|timer| (timer, uid.clone())));
            if !known.object.kind.is("", "Namespace") {
                continue;
            }
            // A name may have come again: who is there has it, not who is gone.
            let other = self.namespaces.get(&known.object.name);
            let other = other.and_then(|uid| self.objects.get(uid));
            if other.is_none_or(|other| other.resource_version < known.resource_version) {
                self.namespaces.insert(Arc::clone(&known.object.name), uid.clone());
            }
        }
    }
}

/// What is written at once stands in one piece of memory, whatever its parts.
#[derive(Debug, Default)]
struct EntryBuffer {
    bytes: Vec<u8>,
    /// Where each key ends, and its value.
    ends: Vec<(usize, Option<usize>)>,
}

impl EntryBuffer {
    /// A fingerprint of the value.
    fn write<T: Serialize>(&mut self, key: &Key, value: Option<&T>) -> u64 {
        let key_end = self.append(key);
        let value_end = value.map(|value| self.append(value));
        self.ends.push((key_end, value_end));
        self.bytes.get(key_end..).map_or(0, xxhash_rust::xxh3::xxh3_64)
    }

    fn append<T: Serialize>(&mut self, value: &T) -> usize {
        postcard::to_io(value, &mut self.bytes).expect("all that is kept knows how long it is");
        self.bytes.len()
    }

    /// What was written last.
    fn take_back(&mut self) {
        self.ends.pop();
        let end = self.ends.last().map_or(0, |(key, value)| value.unwrap_or(*key));
        self.bytes.truncate(end);
    }

    fn entries(self) -> Vec<Entry> {
        let bytes = Bytes::from(self.bytes);
        let mut begin = 0;
        let entry = |(key_end, value_end): (usize, Option<usize>)| {
            let key = bytes.slice(begin..key_end);
            let value = value_end.map(|end| bytes.slice(key_end..end));
            begin = value_end.unwrap_or(key_end);
            Entry { key, value }
        };
        self.ends.into_iter().map(entry).collect()
    }
}

fn read<T: DeserializeOwned>(value: &[u8]) -> Option<T> {
    postcard::from_bytes(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::model::{
        object::{GroupKind, ObjectRef},
        observation::{Observation, StatusFacts, WatchEvent},
    };

    const AT: Timestamp = Timestamp::from_nanos(1);

    fn remembering() -> Tracer {
        let mut tracer = Tracer::new(Rules::default(), "");
        tracer.remember(0);
        tracer
    }

    fn named(name: &str) -> WatchEvent {
        WatchEvent::Applied(Observation {
            at: AT,
            written: None,
            object: ObjectRef {
                kind: GroupKind::new("apps", "Deployment"),
                namespace: Some("shop".into()),
                name: name.into(),
                uid: Uid::new(name),
            },
            resource_version: 1,
            generation: Some(1),
            status_fingerprint: 0,
            status: StatusFacts::default(),
            body: Some(Box::default()),
        })
    }

    #[test]
    fn objects_that_were_read_back_share_their_words() {
        let mut tracer = remembering();
        let kind = GroupKind::new("apps", "Deployment");
        let watched = WatchScope { kind, namespace: None, selectors: None };
        tracer.open_empty(WatchId(0), watched, AT);
        tracer.notice(WatchId(0), named("a"));
        tracer.notice(WatchId(0), named("b"));
        let mut restoring = CheckpointReader::new(Rules::default(), "", 0);
        for entry in tracer.checkpoint() {
            restoring.entry(&entry.key, &entry.value.unwrap());
        }
        let tracer = restoring.finish(AT).unwrap();
        let of = |uid: &str| &tracer.objects[&Uid::new(uid)].object;
        assert!(Arc::ptr_eq(&of("a").kind.kind, &of("b").kind.kind));
        assert_eq!(
            of("a").namespace.as_ref().map(Arc::as_ptr),
            of("b").namespace.as_ref().map(Arc::as_ptr)
        );
    }

    #[test]
    fn what_is_no_longer_remembered_as_stuck_is_written_as_gone() {
        let mut tracer = remembering();
        let id = SpanId(1);
        tracer.stuck_told.insert(id, AT);
        let stuck = |entries: Vec<Entry>| entries.into_iter().find(|entry| entry.key[0] == 4);
        assert_eq!(stuck(tracer.checkpoint()).map(|entry| entry.value.is_some()), Some(true));
        tracer.stuck_told.remove(&id);
        assert_eq!(stuck(tracer.checkpoint()).map(|entry| entry.value), Some(None));
    }
}
