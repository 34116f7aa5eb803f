//! Plays a recording: reads its entries one at a time and decodes them into watch events.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, Read, Seek as _, SeekFrom, Take},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Deserialize;
use serde_json::Value;

use super::entry::{Entries, Entry, EntryError};
use crate::{
    config::settings::WatchSettings,
    trace::model::{
        object::GroupKind,
        observation::{Filter, Observation, WatchEvent, WatchId, WatchScope},
        time::Timestamp,
    },
    watch::decode::{DecodeError, Decoded, Decoder},
};

/// A recording whose watches are known, ready to be played.
///
/// The file is read twice, entry by entry: once to find the watches, because all of them have to be
/// opened before the first event, and once to play their events. No object is kept.
#[derive(Debug)]
pub struct Recording {
    path: PathBuf,
    file: File,
    /// The length when the watches were searched. A recording that is still being written is played
    /// up to here.
    length: u64,
    start: Option<Timestamp>,
    /// Only decimal resourceVersions can be compared, so that events can be ordered.
    has_opaque_resource_versions: bool,
    /// Keyed by the name of the watch.
    watches: BTreeMap<String, RecordedWatch>,
}

/// A watch of a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedWatch {
    pub id: WatchId,
    pub watched: WatchScope,
    /// The watch starts with events instead of a list: no object existed before them, and a list
    /// that follows them is a relist.
    pub starts_empty: bool,
}

/// Why a recording cannot be read. Every message names the file, and the line where there is one.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    #[error("cannot read the recording {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "cannot replay {path}: a recording is read twice, so it has to be a regular file; save it to one first"
    )]
    NotAFile { path: PathBuf },
    #[error(
        "{path}:{line}: invalid recording entry; expected a JSON object with at, watch and type"
    )]
    InvalidEntry { path: PathBuf, line: usize, source: serde_json::Error },
    #[error("{path}:{line}: neither a JSON line nor a YAML document")]
    InvalidYaml { path: PathBuf, line: usize, source: Box<serde_saphyr::Error> },
    #[error("{path}:{line}: invalid RFC 3339 time in `at`: {at:?}")]
    InvalidTime { path: PathBuf, line: usize, at: String },
}

/// The facts about a watch that the first pass finds.
#[derive(Default)]
struct FoundWatch {
    kind: Option<GroupKind>,
    /// `None` until an event or a part of a list is found.
    starts_empty: Option<bool>,
    /// Its first object or one of its lists has a resourceVersion that is not a decimal number.
    is_opaque: bool,
    /// `None` where the recording does not tell it.
    has_status: Option<bool>,
}

impl Recording {
    /// Opens a recording and finds its watches and its start.
    ///
    /// # Errors
    /// When the file cannot be read, is not a regular file, or is not a recording.
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        let failed = |source| RecordingError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(RecordingError::NotAFile { path: path.to_owned() });
        }
        let mut recording = Self {
            path: path.to_owned(),
            file,
            length: metadata.len(),
            start: None,
            has_opaque_resource_versions: false,
            watches: BTreeMap::new(),
        };
        recording.find_watches()?;
        Ok(recording)
    }

    /// The watches, with their names.
    pub fn watches(&self) -> impl Iterator<Item = (&str, &RecordedWatch)> {
        self.watches.iter().map(|(name, watch)| (name.as_str(), watch))
    }

    /// The time of the first entry; `None` when the recording is empty.
    pub fn start(&self) -> Option<Timestamp> {
        self.start
    }

    /// Whether a resourceVersion of the recording is not a decimal number, as behind a proxy of several
    /// clusters. Every event then has the number of its line as its resourceVersion.
    pub fn has_opaque_resource_versions(&self) -> bool {
        self.has_opaque_resource_versions
    }

    /// Decodes all events in the order of the file and passes each to `on_event`. Entries of unknown
    /// types are skipped, so that a recording may contain comments. An entry that cannot be decoded
    /// is passed to `on_skipped` with its line number, and skipped.
    ///
    /// # Errors
    /// When the file cannot be read, or an entry is malformed or has no time.
    pub fn play(
        &self,
        settings: &Arc<WatchSettings>,
        mut on_event: impl FnMut(WatchId, WatchEvent),
        mut on_skipped: impl FnMut(usize, DecodeError),
    ) -> Result<(), RecordingError> {
        let mut decoders: BTreeMap<WatchId, Decoder> =
            self.watches.values().map(|watch| (watch.id, Decoder::new(settings))).collect();
        if self.has_opaque_resource_versions {
            decoders.values_mut().for_each(Decoder::ignore_resource_versions);
        }
        self.for_each_entry(|line, text, entry| {
            let Some(watch) = self.watches.get(&entry.watch) else { return Ok(()) };
            let Some(decoder) = decoders.get_mut(&watch.id) else { return Ok(()) };
            let received_at = Timestamp::parse(&entry.at).ok_or_else(|| {
                let at = entry.at.clone();
                RecordingError::InvalidTime { path: self.path.clone(), line, at }
            })?;
            let number = self.has_opaque_resource_versions.then_some(line);
            match decode(decoder, entry, text, received_at, number) {
                Ok(Some(event)) => on_event(watch.id, event),
                Ok(None) => {}
                Err(error) => on_skipped(line, error),
            }
            Ok(())
        })
    }

    fn find_watches(&mut self) -> Result<(), RecordingError> {
        let mut found: BTreeMap<String, FoundWatch> = BTreeMap::new();
        let mut start = None;
        let mut is_first = true;
        self.for_each_entry(|_, _, entry| {
            if std::mem::take(&mut is_first) {
                start = Timestamp::parse(&entry.at);
            }
            if !found.contains_key(&entry.watch) {
                found.insert(entry.watch.clone(), FoundWatch::default());
            }
            if let Some(watch) = found.get_mut(&entry.watch) {
                watch.read(entry);
            }
            Ok(())
        })?;
        self.has_opaque_resource_versions = found.values().any(|watch| watch.is_opaque);
        let known = found.into_iter().filter_map(|(name, watch)| {
            let starts_empty = watch.starts_empty.unwrap_or(true);
            Some((name, watch.kind?, starts_empty, watch.has_status.unwrap_or(true)))
        });
        self.start = start;
        self.watches = (0_u32..)
            .zip(known)
            .map(|(id, (name, kind, starts_empty, has_status))| {
                let watched =
                    WatchScope { kind, namespace: None, filter: Filter::Unknown, has_status };
                (name, RecordedWatch { id: WatchId(id), watched, starts_empty })
            })
            .collect();
        Ok(())
    }

    fn for_each_entry(
        &self,
        mut on_entry: impl FnMut(usize, &str, &Entry<'_>) -> Result<(), RecordingError>,
    ) -> Result<(), RecordingError> {
        let path = || self.path.clone();
        let lines = self.lines().map_err(|source| RecordingError::Read { path: path(), source })?;
        let mut entries = Entries::new(lines);
        while let Some((line, text)) = entries.next().map_err(|error| match error {
            EntryError::Read(source) => RecordingError::Read { path: path(), source },
            EntryError::Yaml { line, source } => {
                RecordingError::InvalidYaml { path: path(), line, source }
            }
        })? {
            let entry: Entry<'_> = serde_json::from_str(&text)
                .map_err(|source| RecordingError::InvalidEntry { path: path(), line, source })?;
            on_entry(line, &text, &entry)?;
        }
        Ok(())
    }

    fn lines(&self) -> io::Result<BufReader<Take<&File>>> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(0))?;
        Ok(BufReader::new(file.take(self.length)))
    }
}

impl FoundWatch {
    fn read(&mut self, entry: &Entry<'_>) {
        self.has_status = entry.has_status.or(self.has_status);
        self.is_opaque |= entry.resource_version.as_ref().is_some_and(is_opaque);
        if self.starts_empty.is_none() && entry.is_part_of_list() {
            self.starts_empty = Some(false);
        } else if self.starts_empty.is_none() && entry.is_event() {
            self.starts_empty = Some(true);
        }
        if self.kind.is_none()
            && (entry.is_event() || entry.is_part_of_list())
            && let Some(object) = entry.object
        {
            let object: ObjectHeader = serde_json::from_str(object.get()).unwrap_or_default();
            self.is_opaque |= is_opaque(&object.metadata.resource_version);
            if !object.kind.is_empty() {
                self.kind = Some(GroupKind::of(&object.api_version, &object.kind));
            }
        }
    }
}

#[derive(Default, Deserialize)]
struct ObjectHeader {
    #[serde(default, rename = "apiVersion")]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: HeaderMetadata,
}

#[derive(Default, Deserialize)]
struct HeaderMetadata {
    #[serde(default, rename = "resourceVersion")]
    resource_version: Value,
}

/// Hand-written recordings may have numbers instead of strings.
fn is_opaque(resource_version: &Value) -> bool {
    let text = resource_version.as_str().unwrap_or_default();
    !text.is_empty() && text.parse::<u64>().is_err()
}

/// `None` for an entry that is not an event, and for a Kubernetes Event that was deleted. `number`
/// replaces the resourceVersion.
fn decode(
    decoder: &mut Decoder,
    entry: &Entry<'_>,
    text: &str,
    received_at: Timestamp,
    number: Option<usize>,
) -> Result<Option<WatchEvent>, DecodeError> {
    let number = number.and_then(|line| u64::try_from(line).ok());
    let numbered = |observation: Observation| match number {
        Some(resource_version) => Observation { resource_version, ..observation },
        None => observation,
    };
    // A recording does not mark where a backlog starts, so every event may belong to one.
    decoder.begin_backlog();
    let event = match entry.kind.as_str() {
        "LISTED" => {
            let object = entry.object.ok_or(DecodeError::Missing("object"))?;
            match decoder.decode_item(object.get().as_bytes(), "", "", received_at)? {
                Decoded::Applied(observation) => {
                    return Ok(Some(WatchEvent::ListItem(numbered(observation))));
                }
                event => event,
            }
        }
        "LIST_END" => {
            decoder.end_list();
            let resource_version = number
                .or_else(|| entry.resource_version())
                .ok_or(DecodeError::Missing("a numeric resourceVersion"))?;
            return Ok(Some(WatchEvent::ListCompleted { at: received_at, resource_version }));
        }
        _ if entry.is_event() => decoder.decode_event(text.as_bytes(), received_at)?,
        _ => return Ok(None),
    };
    Ok(match event {
        Decoded::Applied(observation) => Some(WatchEvent::Applied(numbered(observation))),
        Decoded::Deleted(observation) => Some(WatchEvent::Deleted(numbered(observation))),
        Decoded::Bookmark { resource_version, .. } => {
            let resource_version = number.unwrap_or(resource_version);
            Some(WatchEvent::Bookmark { at: received_at, resource_version })
        }
        Decoded::KubernetesEvent { event, .. } => event.map(WatchEvent::KubernetesEvent),
        Decoded::KubernetesEventExpired { .. } | Decoded::Error(_) => None,
    })
}
