//! Watch events in files: written as they come, secrets out; read back through the same decoder.
//!
//! A recording is JSON lines, one watch event a line: `at`, `watch`, `type` and the `object` as the
//! server sent it. A list is `LISTED` lines ended by one `LIST_END` with its `resourceVersion`.
//! Hand-written ones may be YAML with the same keys, one document an event.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{
    decode::{DecodeError, Decoder, Line},
    hide::Hider,
};
use crate::{
    config::settings::WatchSettings,
    trace::model::{
        object::GroupKind,
        observation::{WatchEvent, WatchId, WatchScope},
        time::Timestamp,
    },
};

/// A recording that was read, ready to be played.
#[derive(Debug)]
pub struct Recording {
    path: PathBuf,
    /// One event each, with the number of the line it began at.
    entries: Vec<(usize, String)>,
    watches: BTreeMap<String, RecordedWatch>,
}

/// One of a recording's watches.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedWatch {
    pub id: WatchId,
    pub watched: WatchScope,
    /// It has no list at all: it starts empty, what comes is new.
    pub starts_empty: bool,
}

/// Why a recording cannot be read; each names the file, and the line where there is one.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    #[error("cannot read the recording {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}:{line}: not an event of a recording: a JSON object with at, watch and type")]
    NotAnEvent { path: PathBuf, line: usize, source: serde_json::Error },
    #[error("{path}: neither JSON lines nor YAML documents")]
    NotYaml { path: PathBuf, source: Box<serde_saphyr::Error> },
    #[error("{path}:{line}: `at` is not an RFC 3339 time: {at:?}")]
    Time { path: PathBuf, line: usize, at: String },
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(default)]
    at: String,
    #[serde(default)]
    watch: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
    #[serde(default, rename = "resourceVersion")]
    resource_version: Option<Value>,
}

#[derive(Default, Deserialize)]
struct TypeMeta {
    #[serde(default, rename = "apiVersion")]
    api_version: String,
    #[serde(default)]
    kind: String,
}

impl Recording {
    /// Reads the whole of it, to know which kinds are watched before the first event.
    ///
    /// # Errors
    /// When the file cannot be read or is no recording.
    pub fn read(path: &Path) -> Result<Self, RecordingError> {
        let text = fs::read_to_string(path)
            .map_err(|source| RecordingError::Read { path: path.to_owned(), source })?;
        let entries = if text.trim_start().starts_with('{') {
            json_lines(&text)
        } else {
            yaml_documents(&text).map_err(|source| RecordingError::NotYaml {
                path: path.to_owned(),
                source: Box::new(source),
            })?
        };
        let mut recording = Self { path: path.to_owned(), entries, watches: BTreeMap::new() };
        recording.watches = recording.find_watches()?;
        Ok(recording)
    }

    /// Its watches, by the name of what they watch.
    pub fn watches(&self) -> impl Iterator<Item = (&str, &RecordedWatch)> {
        self.watches.iter().map(|(name, watch)| (name.as_str(), watch))
    }

    fn find_watches(&self) -> Result<BTreeMap<String, RecordedWatch>, RecordingError> {
        let mut kinds: BTreeMap<String, (Option<GroupKind>, bool)> = BTreeMap::new();
        for (line, text) in &self.entries {
            let entry = self.entry(*line, text)?;
            let (kind, has_list) = kinds.entry(entry.watch).or_default();
            *has_list |= matches!(entry.kind.as_str(), "LISTED" | "LIST_END");
            let is_event =
                matches!(entry.kind.as_str(), "ADDED" | "MODIFIED" | "DELETED" | "LISTED");
            if kind.is_none()
                && is_event
                && let Some(object) = entry.object
            {
                let of: TypeMeta = serde_json::from_str(object.get()).unwrap_or_default();
                if !of.kind.is_empty() {
                    *kind = Some(GroupKind::of(&of.api_version, &of.kind));
                }
            }
        }
        let known =
            kinds.into_iter().filter_map(|(name, (kind, has_list))| Some((name, kind?, has_list)));
        Ok((0_u32..)
            .zip(known)
            .map(|(id, (name, kind, has_list))| {
                let watched = WatchScope::of_recording(kind, None);
                (name, RecordedWatch { id: WatchId(id), watched, starts_empty: !has_list })
            })
            .collect())
    }

    fn entry<'a>(&self, line: usize, text: &'a str) -> Result<Entry<'a>, RecordingError> {
        serde_json::from_str(text).map_err(|source| RecordingError::NotAnEvent {
            path: self.path.clone(),
            line,
            source,
        })
    }

    /// What its watches said, in the order of the file. Unknown types are passed over, so that
    /// recordings can carry notes; what cannot be decoded is told to `skipped` and passed over too.
    ///
    /// # Errors
    /// When a line has no time.
    pub fn play(
        &self,
        settings: &Arc<WatchSettings>,
        mut each: impl FnMut(WatchId, WatchEvent),
        mut skipped: impl FnMut(usize, DecodeError),
    ) -> Result<(), RecordingError> {
        let mut players: BTreeMap<&str, Player> =
            self.watches.keys().map(|name| (name.as_str(), Player::new(settings))).collect();
        for (line, text) in &self.entries {
            let entry = self.entry(*line, text)?;
            let Some(watch) = self.watches.get(&entry.watch) else { continue };
            let Some(player) = players.get_mut(entry.watch.as_str()) else { continue };
            let at = Timestamp::parse(&entry.at).ok_or_else(|| RecordingError::Time {
                path: self.path.clone(),
                line: *line,
                at: entry.at.clone(),
            })?;
            match player.play(&entry, text, at) {
                Ok(Some(notice)) => each(watch.id, notice),
                Ok(None) => {}
                Err(error) => skipped(*line, error),
            }
        }
        Ok(())
    }

    /// The time of its first event.
    pub fn begin(&self) -> Option<Timestamp> {
        let (line, text) = self.entries.first()?;
        Timestamp::parse(&self.entry(*line, text).ok()?.at)
    }
}

struct Player {
    decoder: Decoder,
}

impl Player {
    fn new(settings: &Arc<WatchSettings>) -> Self {
        Self { decoder: Decoder::new(settings) }
    }

    fn play(
        &mut self,
        entry: &Entry<'_>,
        text: &str,
        at: Timestamp,
    ) -> Result<Option<WatchEvent>, DecodeError> {
        // Whether it was a backlog, a recording does not say.
        self.decoder.dates();
        Ok(match entry.kind.as_str() {
            "LISTED" => {
                let object = entry.object.ok_or(DecodeError::Without("object"))?;
                match self.decoder.item(object.get().as_bytes(), "", "", at)? {
                    Line::Remarked { remark, .. } => remark.map(WatchEvent::KubernetesEvent),
                    Line::Applied(now) => Some(WatchEvent::ListItem(now)),
                    Line::Deleted(_)
                    | Line::Expired { .. }
                    | Line::Bookmark { .. }
                    | Line::Error(_) => None,
                }
            }
            "LIST_END" => {
                self.decoder.list_ended();
                let version = entry.resource_version.as_ref();
                let resource_version = version
                    .and_then(|version| match version {
                        Value::String(text) => text.parse().ok(),
                        other => other.as_u64(),
                    })
                    .ok_or(DecodeError::Without("a resourceVersion that is a number"))?;
                Some(WatchEvent::ListCompleted { at, resource_version })
            }
            "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" => {
                match self.decoder.line(text.as_bytes(), at)? {
                    Line::Applied(now) => Some(WatchEvent::Applied(now)),
                    Line::Deleted(now) => Some(WatchEvent::Deleted(now)),
                    Line::Bookmark { resource_version, .. } => {
                        Some(WatchEvent::Bookmark { at, resource_version })
                    }
                    Line::Remarked { remark, .. } => remark.map(WatchEvent::KubernetesEvent),
                    Line::Expired { .. } | Line::Error(_) => None,
                }
            }
            _ => None,
        })
    }
}

fn json_lines(text: &str) -> Vec<(usize, String)> {
    (1..)
        .zip(text.lines())
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| (number, line.to_owned()))
        .collect()
}

fn yaml_documents(text: &str) -> Result<Vec<(usize, String)>, serde_saphyr::Error> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)?;
    let mut starts = vec![1];
    starts.extend((2..).zip(text.lines()).filter(|(_, l)| l.starts_with("---")).map(|(n, _)| n));
    let line = |document: usize| starts.get(document).copied().unwrap_or(1);
    // `type` has to come before `object`, as the API server writes it.
    let ordered = |document: Value| -> String {
        let Value::Object(mut fields) = document else { return document.to_string() };
        let object = fields.remove("object");
        let mut text = Value::Object(fields).to_string();
        if let Some(object) = object {
            text.pop();
            write!(text, ",\"object\":{object}}}").ok();
        }
        text
    };
    Ok((0..).zip(documents).map(|(at, document)| (line(at), ordered(document))).collect())
}

/// Writes a recording. Secrets stay out.
#[derive(Debug)]
pub struct RecordingWriter<W> {
    out: W,
    hider: Hider,
}

/// What a line of a recording is about.
#[derive(Clone, Copy, Debug)]
pub enum Recorded<'a> {
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK`, `ERROR` or `LISTED`, and the object in JSON.
    Event {
        kind: &'a str,
        object: &'a [u8],
    },
    ListEnd {
        resource_version: u64,
    },
}

impl<W: Write> RecordingWriter<W> {
    /// `settings`: what is to be redacted.
    pub fn new(out: W, settings: &Arc<WatchSettings>) -> Self {
        Self { out, hider: Hider::new(settings) }
    }

    /// # Errors
    /// When it cannot be written. What is not JSON is left out.
    pub fn write(&mut self, watch: &str, at: Timestamp, line: Recorded<'_>) -> io::Result<()> {
        let line = match line {
            Recorded::ListEnd { resource_version } => json!({
                "at": at.to_string(),
                "watch": watch,
                "type": "LIST_END",
                "resourceVersion": resource_version.to_string(),
            })
            .to_string(),
            Recorded::Event { kind, object } => {
                let Ok(mut object) = serde_json::from_slice(object) else { return Ok(()) };
                self.hider.hide(&mut object);
                format!(
                    "{{\"at\":\"{at}\",\"watch\":{},\"type\":\"{kind}\",\"object\":{object}}}",
                    Value::from(watch)
                )
            }
        };
        self.out.write_all(line.as_bytes())?;
        self.out.write_all(b"\n")
    }

    /// # Errors
    /// When it cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Shared by whoever taps the watches.
pub type Tap = Arc<dyn Fn(&str, Timestamp, Recorded<'_>) + Send + Sync>;

#[derive(Deserialize)]
struct RawEvent<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

pub(super) fn record_line(tap: &Tap, watch: &str, line: &[u8], at: Timestamp, in_list: bool) {
    let Ok(event) = serde_json::from_slice::<RawEvent<'_>>(line) else { return };
    let kind = match event.kind {
        "ADDED" | "MODIFIED" if in_list => "LISTED",
        "BOOKMARK" if in_list => return,
        kind => kind,
    };
    tap(watch, at, Recorded::Event { kind, object: event.object.get().as_bytes() });
}

/// Items may be silent about their kind; a recording is not. Where one is not, its own word is the
/// last and counts.
pub(super) fn record_item(
    tap: &Tap,
    watch: &str,
    (api_version, kind): (&str, &str),
    item: &[u8],
    at: Timestamp,
) {
    let Some(rest) = item.trim_ascii_start().strip_prefix(b"{") else { return };
    let comma = if rest.trim_ascii_start().starts_with(b"}") { "" } else { "," };
    let head = format!("{{\"apiVersion\":\"{api_version}\",\"kind\":\"{kind}\"{comma}");
    let object = [head.as_bytes(), rest].concat();
    tap(watch, at, Recorded::Event { kind: "LISTED", object: &object });
}
