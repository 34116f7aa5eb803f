//! Turns watch events and list items of every kind into observations, reading only what is needed.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    str,
    sync::Arc,
    time::Duration,
};

use serde::de::{IgnoredAny, MapAccess};
use serde_json::value::RawValue;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed, xxh3_128};

use super::{
    body, field,
    lenient::{Fields, Fill, fill, int, mended, pairs, text, time},
    remark, status,
};
use crate::{
    config::settings::WatchSettings,
    trace::{
        model::kubernetes_event::KubernetesEvent,
        model::{
            kind::is_event,
            object::{GroupKind, ObjectRef, Uid},
            observation::{Body, Deletion, Observation, StatusFacts},
            path::segments,
            time::Timestamp,
        },
    },
};

/// What is younger is news: the API server names seconds.
const SECOND: Duration = Duration::from_secs(1);

/// What a line of a watch says.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    Applied(Observation),
    Deleted(Observation),
    /// One of Kubernetes' Events; `None` where it is about nobody.
    Remarked {
        resource_version: u64,
        remark: Option<KubernetesEvent>,
    },
    /// An Event is kept no longer, which says nothing.
    Expired {
        resource_version: u64,
    },
    Bookmark {
        resource_version: u64,
        /// The list a watch began with is complete.
        ends_list: bool,
    },
    /// The server's word on why it ends the watch.
    Error(Box<ApiError>),
}

/// A `Status` the API server sent in the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiError {
    pub code: u16,
    pub message: String,
}

#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("not JSON")]
    NotJson(#[source] serde_json::Error),
    #[error("an event of an unknown type")]
    UnknownType,
    /// Only decimal resourceVersions can be compared, so that events can be ordered.
    #[error("the resourceVersion is not a decimal number")]
    OpaqueResourceVersion,
    #[error("without {0}")]
    Without(&'static str),
}

/// Reads the events of one watch. Remembers of every object whether its body has been read.
#[derive(Debug)]
pub struct Decoder {
    /// What is to be read besides what is read of all.
    settings: Arc<WatchSettings>,
    /// By UID, a fingerprint of what was last read of the object; its lowest bit says in which
    /// list, or after which, that was.
    read: HashMap<u128, u64>,
    list: u64,
    /// Names that come again and again: namespaces, owners' kinds.
    names: Names,
    /// Reads when objects were written, too.
    dates: bool,
}

impl Decoder {
    pub fn new(settings: &Arc<WatchSettings>) -> Self {
        Self {
            settings: Arc::clone(settings),
            read: HashMap::new(),
            list: 0,
            names: Names::default(),
            dates: true,
        }
    }

    /// What comes next may have been written long before, as in a first list: it is dated, until
    /// something comes that was not.
    pub fn dates(&mut self) {
        self.dates = true;
    }

    /// Reads one line of a watch.
    ///
    /// # Errors
    /// When it is not JSON, of an unknown type, or an object without name or UID.
    pub fn line(&mut self, line: &[u8], at: Timestamp) -> Result<Line, DecodeError> {
        readable(line, |text| {
            let mut event = RawEvent::default();
            fill(text, &mut event).map_err(DecodeError::NotJson)?;
            event.object.meta.check_version()?;
            self.event_of(&event, at)
        })
    }

    /// Reads one item of a list, which may be silent about its own apiVersion and kind: `Applied` or
    /// `Remarked`.
    ///
    /// # Errors
    /// When it is not JSON, or an object without name or UID.
    pub fn item(
        &mut self,
        item: &[u8],
        api_version: &str,
        kind: &str,
        at: Timestamp,
    ) -> Result<Line, DecodeError> {
        readable(item, |text| {
            let mut wire = Wire::default();
            fill(text, &mut wire).map_err(DecodeError::NotJson)?;
            wire.meta.check_version()?;
            self.applied(&wire, (api_version, kind), at)
        })
    }

    /// Whether what Events say of a kind is wanted.
    pub(super) fn hears(&self, kind: &GroupKind) -> bool {
        self.settings.wants_events(&kind.group, &kind.kind)
    }

    fn written(&mut self, meta: &Meta<'_>, at: Timestamp) -> Option<Timestamp> {
        if !self.dates {
            return None;
        }
        let written = meta.written()?;
        self.dates = at.since(written) > SECOND;
        Some(written)
    }

    /// What the status says at the field by which configuration judges the kind.
    fn word(&self, kind: &GroupKind, status: &RawValue) -> Option<Box<str>> {
        let entry = self.settings.entry(&kind.group, &kind.kind)?;
        let path = segments(&entry.converges.as_ref()?.field);
        // All such paths begin in the status.
        field::word(status, path.get(1..)?)
    }

    /// The object is gone: should its UID come again, everything is read again.
    pub fn forget(&mut self, uid: &Uid) {
        self.read.remove(&key(uid));
    }

    /// What was not read since the last call is gone.
    pub fn list_ended(&mut self) {
        let list = self.list;
        self.read.retain(|_, read| *read & 1 == list);
        self.list ^= 1;
        self.dates = false;
    }

    fn event_of(&mut self, event: &RawEvent<'_>, at: Timestamp) -> Result<Line, DecodeError> {
        let wire = &event.object;
        Ok(match event.kind.and_then(text).as_deref() {
            Some("ADDED" | "MODIFIED") => {
                return self.applied(wire, ("", ""), at);
            }
            Some("DELETED") => {
                let (kind, api_version) = self.kind(wire, ("", ""));
                if is_event(&kind) {
                    return Ok(Line::Expired { resource_version: wire.meta.version() });
                }
                Line::Deleted(self.observe(wire, kind, &api_version, at, Reading::Whole)?)
            }
            Some("BOOKMARK") => {
                self.dates = false;
                Line::Bookmark {
                    resource_version: wire.meta.version(),
                    ends_list: wire.meta.annotations.is_some_and(ends_list),
                }
            }
            Some("ERROR") => Line::Error(Box::new(ApiError {
                code: wire
                    .content("code")
                    .and_then(int)
                    .and_then(|code| u16::try_from(code).ok())
                    .unwrap_or(0),
                message: wire
                    .content("message")
                    .and_then(text)
                    .map_or_else(String::new, Cow::into_owned),
            })),
            _ => return Err(DecodeError::UnknownType),
        })
    }

    fn applied(
        &mut self,
        wire: &Wire<'_>,
        list: (&str, &str),
        at: Timestamp,
    ) -> Result<Line, DecodeError> {
        let (kind, api_version) = self.kind(wire, list);
        if is_event(&kind) {
            let resource_version = wire.meta.version();
            return Ok(Line::Remarked { resource_version, remark: remark::read(wire, at) });
        }
        self.observe(wire, kind, &api_version, at, Reading::Only).map(Line::Applied)
    }

    /// Its own word counts, else its list's.
    fn kind<'de>(
        &mut self,
        wire: &Wire<'de>,
        (api_version, kind): (&'de str, &str),
    ) -> (GroupKind, Cow<'de, str>) {
        let api_version = named(wire.api_version).unwrap_or(Cow::Borrowed(api_version));
        let kind = named(wire.kind).unwrap_or(Cow::Borrowed(kind));
        let kind = GroupKind {
            group: self.names.shared(group_of(&api_version)),
            kind: self.names.shared(&kind),
        };
        (kind, api_version)
    }

    fn observe(
        &mut self,
        wire: &Wire<'_>,
        kind: GroupKind,
        api_version: &str,
        at: Timestamp,
        reading: Reading,
    ) -> Result<Observation, DecodeError> {
        let meta = &wire.meta;
        let (Some(uid), Some(name)) = (named(meta.uid), named(meta.name)) else {
            return Err(DecodeError::Without("name or UID"));
        };
        let uid = Uid::new(&uid);
        let news = match reading {
            Reading::Whole => true,
            Reading::Only => {
                let now = meta.fingerprint & !1 | self.list;
                self.read.insert(key(&uid), now).is_none_or(|before| before >> 1 != now >> 1)
            }
        };
        let body = news.then(|| {
            let read = body::read(wire, &kind, &self.settings, &mut self.names);
            Box::new(Body { api_version: api_version.into(), ..read })
        });
        let status = wire.status.map_or_else(StatusFacts::default, |raw| StatusFacts {
            word: self.word(&kind, raw),
            ..status::read(raw)
        });
        Ok(Observation {
            at,
            written: self.written(meta, at),
            object: ObjectRef {
                kind,
                namespace: named(meta.namespace).map(|namespace| self.names.shared(&namespace)),
                name: Arc::from(&*name),
                uid,
            },
            resource_version: meta.version(),
            generation: meta.generation.and_then(int),
            status_fingerprint: wire.status.map_or(0, |raw| xxh3_64(raw.get().as_bytes())),
            status,
            body,
        })
    }
}

/// The newest `time` of managedFields, without reading the fields: no other key is written so.
fn newest_time(managed_fields: &str) -> Option<Timestamp> {
    let rests = managed_fields.split("\"time\":\"").skip(1);
    let times = rests.filter_map(|rest| Some(rest.split_once('"')?.0));
    times.max().and_then(Timestamp::parse)
}

fn named(raw: Option<&RawValue>) -> Option<Cow<'_, str>> {
    raw.and_then(text).filter(|text| !text.is_empty())
}

/// Of an apiVersion; empty for the core group.
pub(super) fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// How much is wanted of an object.
#[derive(Clone, Copy)]
enum Reading {
    /// The body where it is news.
    Only,
    /// The last word on it: always the body.
    Whole,
}

fn key(uid: &Uid) -> u128 {
    match uid {
        Uid::Uuid(bits) => *bits,
        Uid::Text(text) => xxh3_128(text.as_bytes()),
    }
}

fn ends_list(annotations: &RawValue) -> bool {
    pairs(annotations).iter().any(|(key, value)| {
        key == "k8s.io/initial-events-end" && text(value).is_some_and(|text| text == "true")
    })
}

/// Hands the text over, and what can be made of it where it is no JSON.
fn readable<T>(
    bytes: &[u8],
    mut read: impl FnMut(&str) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    let text = str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed);
    match read(&text) {
        Err(DecodeError::NotJson(error)) => match read(&mended(&text)) {
            Err(DecodeError::NotJson(_)) => Err(DecodeError::NotJson(error)),
            mended => mended,
        },
        read => read,
    }
}

/// A watch event as text.
#[derive(Default)]
struct RawEvent<'de> {
    kind: Option<&'de RawValue>,
    object: Wire<'de>,
}

impl<'de> Fields<'de> for RawEvent<'de> {
    fn field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "type" => self.kind = Some(map.next_value()?),
            "object" => {
                self.object = Wire::default();
                map.next_value_seed(Fill(&mut self.object))?;
            }
            _ => {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// An object as text, taken apart once.
#[derive(Default)]
pub(super) struct Wire<'de> {
    api_version: Option<&'de RawValue>,
    kind: Option<&'de RawValue>,
    pub(super) meta: Meta<'de>,
    pub(super) status: Option<&'de RawValue>,
    /// `spec`, `data` and the like: everything that is neither type, metadata nor status.
    pub(super) content: Vec<(Box<str>, &'de RawValue)>,
}

impl<'de> Wire<'de> {
    pub(super) fn content(&self, key: &str) -> Option<&'de RawValue> {
        self.content.iter().rev().find(|(name, _)| &**name == key).map(|(_, value)| *value)
    }
}

impl<'de> Fields<'de> for Wire<'de> {
    fn field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "metadata" => return map.next_value_seed(Fill(&mut self.meta)),
            "status" => self.status = Some(map.next_value()?),
            "kind" => self.kind = Some(map.next_value()?),
            _ => {
                let value: &RawValue = map.next_value()?;
                self.meta.differs_with(key, value);
                if key == "apiVersion" {
                    self.api_version = Some(value);
                } else {
                    self.content.push((key.into(), value));
                }
            }
        }
        Ok(())
    }
}

#[derive(Default)]
pub(super) struct Meta<'de> {
    pub(super) uid: Option<&'de RawValue>,
    name: Option<&'de RawValue>,
    namespace: Option<&'de RawValue>,
    resource_version: Option<&'de RawValue>,
    generation: Option<&'de RawValue>,
    pub(super) created: Option<&'de RawValue>,
    deleted: Option<&'de RawValue>,
    grace: Option<&'de RawValue>,
    pub(super) finalizers: Option<&'de RawValue>,
    pub(super) owners: Option<&'de RawValue>,
    pub(super) annotations: Option<&'de RawValue>,
    pub(super) labels: Option<&'de RawValue>,
    pub(super) managed_fields: Option<&'de RawValue>,
    /// Over the text of all that makes a body.
    fingerprint: u64,
}

impl Meta<'_> {
    pub(super) fn version(&self) -> u64 {
        self.resource_version.and_then(text).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    fn check_version(&self) -> Result<(), DecodeError> {
        let version = self.resource_version.and_then(text).filter(|text| !text.is_empty());
        let is_opaque = version.is_some_and(|text| text.parse::<u64>().is_err());
        if is_opaque { Err(DecodeError::OpaqueResourceVersion) } else { Ok(()) }
    }

    pub(super) fn deletion(&self) -> Option<Deletion> {
        let timestamp = self.deleted.and_then(time)?;
        Some(Deletion { timestamp, grace_seconds: self.grace.and_then(int).unwrap_or(0) })
    }

    /// By managedFields, else as a deletion was asked for, or creation: deletions have no manager.
    fn written(&self) -> Option<Timestamp> {
        let fields = self.managed_fields.and_then(|fields| newest_time(fields.get()));
        let created = self.created.and_then(time);
        let asked = self.deletion().map(Deletion::asked);
        fields.max(created).max(asked)
    }

    /// xxh3 links each text to all before it: in a server's output the order does not change.
    fn differs_with(&mut self, key: &str, value: &RawValue) {
        let key = xxh3_64_with_seed(key.as_bytes(), self.fingerprint);
        self.fingerprint = xxh3_64_with_seed(value.get().as_bytes(), key);
    }
}

impl<'de> Fields<'de> for Meta<'de> {
    fn field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        let value: &'de RawValue = map.next_value()?;
        let place = match key {
            "resourceVersion" => &mut self.resource_version,
            "generation" => &mut self.generation,
            "managedFields" => &mut self.managed_fields,
            _ => {
                self.differs_with(key, value);
                match key {
                    "uid" => &mut self.uid,
                    "name" => &mut self.name,
                    "namespace" => &mut self.namespace,
                    "creationTimestamp" => &mut self.created,
                    "deletionTimestamp" => &mut self.deleted,
                    "deletionGracePeriodSeconds" => &mut self.grace,
                    "finalizers" => &mut self.finalizers,
                    "ownerReferences" => &mut self.owners,
                    "annotations" => &mut self.annotations,
                    "labels" => &mut self.labels,
                    _ => return Ok(()),
                }
            }
        };
        *place = Some(value);
        Ok(())
    }
}

/// Gives equal names one place in memory.
#[derive(Debug, Default)]
pub(super) struct Names(HashSet<Arc<str>>);

/// More names than any cluster has namespaces worth sharing: then it begins anew.
const MAX_NAMES: usize = 4096;

impl Names {
    pub(super) fn shared(&mut self, name: &str) -> Arc<str> {
        if let Some(shared) = self.0.get(name) {
            return Arc::clone(shared);
        }
        if self.0.len() >= MAX_NAMES {
            self.0.clear();
        }
        let shared = Arc::from(name);
        self.0.insert(Arc::clone(&shared));
        shared
    }
}
