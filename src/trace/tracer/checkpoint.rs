//! Writes the state down, entry by entry, and restores it: a restart resumes where it stopped.
//!
//! An entry is the state of one object, one watch, and so on: hundreds of bytes, in
//! [postcard](https://postcard.jamesmunns.com/wire-format). Whatever can be derived is not written:
//! indices, timers, names; nor are unclaimed Kubernetes Events, which are listed again.

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::trace::{
    model::{
        id::Layout,
        object::{ObjectRef, Uid},
        observation::{Filter, WatchId, WatchScope},
        span::SpanId,
        time::Timestamp,
    },
    object::tracked::TrackedObject,
    rules::Rules,
    state::{checkpoint_writer::CheckpointWriter, pod_losses::PodLoss, watches::Watch},
    tracer::Tracer,
};

/// Increased with every change of the format: an older format is not read.
const FORMAT: u32 = 6;

/// One entry of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Bytes,
    /// `None`: the entry is removed.
    pub value: Option<Bytes>,
}

/// Where a watch can resume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumePoint {
    pub id: WatchId,
    pub scope: WatchScope,
    /// Everything up to it was delivered; 0 where no list was complete.
    pub resource_version: u64,
    /// The objects that match the selectors of the watch; none for a watch without selectors. An
    /// object that is absent from a list may only have left them.
    pub selected: Vec<ObjectRef>,
}

/// Why a checkpoint cannot be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    #[error("no checkpoint")]
    Nothing,
    #[error("written by an incompatible version of spanlink")]
    Format,
    #[error("belongs to another cluster")]
    Cluster,
    #[error("the watched fields changed in the configuration")]
    Reading,
    #[error("the trace layout changed")]
    Layout,
    #[error("unreadable")]
    Unreadable,
}

#[derive(Debug, Deserialize, Serialize)]
enum Key {
    Header,
    Watch(WatchId),
    Object(Uid),
    /// The Pod losses of one owner.
    Losses(Uid),
    Stuck(SpanId),
}

/// The other entries mean something only under the same header.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct CheckpointHeader {
    format: u32,
    cluster: Box<str>,
    layout: Layout,
    reading: u64,
}

impl Tracer {
    /// Records what changes from now on, for [`Self::checkpoint`]. `reading` is a fingerprint of the
    /// options by which objects are read: the results of other options cannot be compared.
    pub fn start_checkpoints(&mut self, reading: u64) {
        self.state.objects.start_recording();
        self.state.losses.0.start_recording();
        self.state.reported_problems.table.start_recording();
        // Watches of an earlier run have entries: those that are closed have to be removed.
        let watches = self.state.watches.iter().map(|(id, _)| (id, None)).collect();
        self.checkpoint = Some(CheckpointWriter { reading, has_header: false, watches });
    }

    /// The stored checkpoint is lost: the next one holds everything.
    pub fn rewrite_checkpoint(&mut self) {
        self.state.objects.mark_all();
        self.state.losses.0.mark_all();
        self.state.reported_problems.table.mark_all();
        if let Some(writer) = &mut self.checkpoint {
            writer.has_header = false;
            writer.watches.clear();
        }
    }

    fn header(&self, reading: u64) -> CheckpointHeader {
        let (cluster, layout) = (self.ids.cluster.clone(), self.ids.layout);
        CheckpointHeader { format: FORMAT, cluster, layout, reading }
    }

    /// Everything that has changed since the last call. Together with what earlier calls returned it
    /// is the whole state, to be stored in one transaction with the spans that followed.
    pub fn checkpoint(&mut self) -> Vec<Entry> {
        let Some(mut writer) = self.checkpoint.take() else { return Vec::new() };
        let mut buffer = EntryBuffer::default();
        if !std::mem::replace(&mut writer.has_header, true) {
            buffer.write(&Key::Header, Some(&self.header(writer.reading)));
        }
        for (uid, object) in self.state.objects.take_dirty() {
            buffer.write(&Key::Object(uid), object);
        }
        for uid in self.state.losses.0.take_dirty() {
            let losses = self.state.losses.0.get(&uid);
            buffer.write(&Key::Losses(uid), losses);
        }
        for id in self.state.reported_problems.table.take_dirty() {
            buffer.write(&Key::Stuck(id), self.state.reported_problems.table.get(&id));
        }
        writer.watches.retain(|id, _| {
            let is_open = self.state.watches.get(*id).is_some();
            if !is_open {
                buffer.write::<Watch>(&Key::Watch(*id), None);
            }
            is_open
        });
        for (id, watch) in self.state.watches.iter() {
            let fingerprint = Some(buffer.write(&Key::Watch(id), Some(watch)));
            if writer.watches.insert(id, fingerprint) == Some(fingerprint) {
                buffer.take_back();
            }
        }
        self.checkpoint = Some(writer);
        buffer.entries()
    }

    /// Where its watches can resume.
    pub fn resume_points(&self) -> impl Iterator<Item = ResumePoint> {
        self.state.watches.iter().map(|(id, watch)| ResumePoint {
            id,
            scope: watch.scope.clone(),
            resource_version: watch.delivered,
            selected: match watch.scope.filter {
                Filter::Selectors(_) => self.existing_objects_of(id),
                Filter::Everything | Filter::Unknown => Vec::new(),
            },
        })
    }

    fn existing_objects_of(&self, id: WatchId) -> Vec<ObjectRef> {
        let objects = self.state.objects.of_watch(id).filter(|object| object.gone.is_none());
        objects.map(|object| object.reference.clone()).collect()
    }
}

/// Restores a tracer from the entries of a checkpoint, in any order.
#[derive(Debug)]
pub struct CheckpointReader {
    tracer: Tracer,
    expected: CheckpointHeader,
    header: Option<CheckpointHeader>,
    is_unreadable: bool,
}

impl CheckpointReader {
    /// `cluster` and `reading` as for [`Tracer::new`] and [`Tracer::start_checkpoints`].
    pub fn new(rules: Rules, cluster: &str, reading: u64) -> Self {
        let tracer = Tracer::new(rules, cluster);
        let expected = tracer.header(reading);
        Self { tracer, expected, header: None, is_unreadable: false }
    }

    pub fn entry(&mut self, key: &[u8], value: &[u8]) {
        self.is_unreadable |= self.read(key, value).is_none();
    }

    fn read(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match postcard::from_bytes(key).ok()? {
            Key::Header => self.header = Some(read(value)?),
            Key::Watch(id) => self.tracer.state.watches.restore(id, read(value)?),
            Key::Object(uid) => {
                let object: Box<TrackedObject> = read(value)?;
                if *object.uid() == uid {
                    self.tracer.state.objects.restore(object);
                }
            }
            Key::Losses(uid) => {
                drop(self.tracer.state.losses.0.insert(uid, read::<Vec<PodLoss>>(value)?));
            }
            Key::Stuck(id) => {
                self.tracer.state.reported_problems.restore(id, read::<Timestamp>(value)?);
            }
        }
        Some(())
    }

    /// No deadline passes before the watches have caught up.
    ///
    /// # Errors
    /// When the entries are not a checkpoint that this tracer can resume from.
    pub fn finish(self, now: Timestamp) -> Result<Tracer, RestoreError> {
        let Some(header) = self.header else {
            return Err(if self.is_unreadable {
                RestoreError::Unreadable
            } else {
                RestoreError::Nothing
            });
        };
        let expected = self.expected;
        if header.format != expected.format {
            return Err(RestoreError::Format);
        }
        if header.cluster != expected.cluster {
            return Err(RestoreError::Cluster);
        }
        if header.layout != expected.layout {
            return Err(RestoreError::Layout);
        }
        if header.reading != expected.reading {
            return Err(RestoreError::Reading);
        }
        if self.is_unreadable {
            return Err(RestoreError::Unreadable);
        }
        let mut tracer = self.tracer;
        tracer.state.objects.finish_restoring();
        // Objects that were created while no watch was open are new.
        tracer.began = tracer.state.watches.values().map(|watch| watch.last_event).max();
        tracer.state.watches.disconnect_all(now);
        tracer.state.clock.update(&tracer.state.watches, now);
        Ok(tracer)
    }
}

/// Holds the entries of one checkpoint in one piece of memory.
#[derive(Debug, Default)]
struct EntryBuffer {
    bytes: Vec<u8>,
    /// The end of each key, and of its value.
    ends: Vec<(usize, Option<usize>)>,
}

impl EntryBuffer {
    /// Returns a fingerprint of the value.
    fn write<T: Serialize>(&mut self, key: &Key, value: Option<&T>) -> u64 {
        let key_end = self.append(key);
        let value_end = value.map(|value| self.append(value));
        self.ends.push((key_end, value_end));
        self.bytes.get(key_end..).map_or(0, xxhash_rust::xxh3::xxh3_64)
    }

    fn append<T: Serialize>(&mut self, value: &T) -> usize {
        postcard::to_io(value, &mut self.bytes).expect("every kept sequence has a known length");
        self.bytes.len()
    }

    /// Removes the last entry.
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
    use std::sync::Arc;

    use super::*;
    use crate::trace::model::{
        object::{GroupKind, ObjectRef},
        observation::{Filter, Observation, StatusFacts, WatchEvent},
    };

    const AT: Timestamp = Timestamp::from_nanos(1);

    fn recording_tracer() -> Tracer {
        let mut tracer = Tracer::new(Rules::default(), "");
        tracer.start_checkpoints(0);
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
    fn restored_objects_share_their_names() {
        let mut tracer = recording_tracer();
        let kind = GroupKind::new("apps", "Deployment");
        let scope = WatchScope { kind, namespace: None, filter: Filter::Everything };
        tracer.open_empty(WatchId(0), scope, AT);
        tracer.process(WatchId(0), named("a"));
        tracer.process(WatchId(0), named("b"));
        let mut restoring = CheckpointReader::new(Rules::default(), "", 0);
        for entry in tracer.checkpoint() {
            restoring.entry(&entry.key, &entry.value.unwrap());
        }
        let tracer = restoring.finish(AT).unwrap();
        let of = |uid: &str| &tracer.state.objects.get(&Uid::new(uid)).unwrap().reference;
        assert!(Arc::ptr_eq(&of("a").kind.kind, &of("b").kind.kind));
        assert_eq!(
            of("a").namespace.as_ref().map(Arc::as_ptr),
            of("b").namespace.as_ref().map(Arc::as_ptr)
        );
    }

    #[test]
    fn forgotten_problem_is_removed_from_the_checkpoint() {
        let mut tracer = recording_tracer();
        let id = SpanId(1);
        tracer.state.reported_problems.insert(id, AT);
        let stuck = |entries: Vec<Entry>| entries.into_iter().find(|entry| entry.key[0] == 4);
        assert_eq!(stuck(tracer.checkpoint()).map(|entry| entry.value.is_some()), Some(true));
        tracer.state.reported_problems.table.remove(&id);
        assert_eq!(stuck(tracer.checkpoint()).map(|entry| entry.value), Some(None));
    }
}
