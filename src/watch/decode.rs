//! Reads watch events and list items into observations: one decoder for all kinds.
//!
//! Most events bring a new status and nothing else. The text of everything else is compared by a
//! fingerprint with what was read last; where it is the same, it is not read again.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_128};

use super::{
    body::read_body,
    lenient::{boxed, each_field, int, text},
    status::read_status,
};
use crate::trace::{
    object::{GroupKind, ObjectRef, Uid},
    observation::{Observation, StatusFacts},
    time::Timestamp,
};

/// What a line of a watch says.
#[derive(Debug)]
pub enum Line {
    /// `ADDED` or `MODIFIED`.
    Applied(Observation),
    Deleted(Observation),
    Bookmark {
        resource_version: u64,
        /// The last of a streaming list
        /// ([streaming lists](https://kubernetes.io/docs/reference/using-api/api-concepts/#streaming-lists)).
        initial_events_end: bool,
    },
    Error(Box<ApiError>),
}

/// A `Status` the API server sent in the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiError {
    pub code: u16,
    pub reason: String,
    pub message: String,
}

/// Why something is no observation. An object's fields never are: they are absent then.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("not a watch event")]
    NotAnEvent(#[source] serde_json::Error),
    #[error("unknown watch event type {0:?}")]
    UnknownType(Box<str>),
    #[error("not an object in JSON")]
    NotJson(#[source] serde_json::Error),
    #[error("an object without {0}")]
    Without(&'static str),
}

/// Decodes what one watch says.
#[derive(Debug)]
pub struct Decoder {
    annotations: Vec<String>,
    /// By a hash of the UID.
    known: HashMap<u128, Known>,
    round: u32,
}

#[derive(Debug)]
struct Known {
    /// Of everything but status, managedFields, resourceVersion and generation.
    fingerprint: u64,
    round: u32,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

impl Decoder {
    /// `annotations`: keys that may hold a trace context, the first that is there counts.
    pub fn new(annotations: &[String]) -> Self {
        Self { annotations: annotations.to_vec(), known: HashMap::new(), round: 0 }
    }

    /// One line of a watch.
    ///
    /// # Errors
    /// When it is no watch event, or its object has no identity.
    pub fn line(&mut self, line: &[u8], at: Timestamp) -> Result<Line, DecodeError> {
        let event: Event<'_> = serde_json::from_slice(line).map_err(DecodeError::NotAnEvent)?;
        match event.kind {
            "ADDED" | "MODIFIED" => {
                self.object(event.object, None, at).map(|(now, _)| Line::Applied(now))
            }
            "DELETED" => {
                let (now, uid) = self.object(event.object, None, at)?;
                self.known.remove(&uid);
                Ok(Line::Deleted(now))
            }
            "BOOKMARK" => Ok(bookmark(event.object)),
            "ERROR" => Ok(Line::Error(Box::new(api_error(event.object)))),
            other => Err(DecodeError::UnknownType(other.into())),
        }
    }

    /// One item of a list, which is silent about its own apiVersion and kind.
    ///
    /// # Errors
    /// When it is not JSON, or has no identity.
    pub fn item(
        &mut self,
        item: &[u8],
        api_version: &str,
        kind: &str,
        at: Timestamp,
    ) -> Result<Observation, DecodeError> {
        let raw: &RawValue = serde_json::from_slice(item).map_err(DecodeError::NotJson)?;
        self.object(raw, Some((api_version, kind)), at).map(|(now, _)| now)
    }

    pub fn list_began(&mut self) {
        self.round += 1;
    }

    /// Forgets what was not in the list.
    pub fn list_ended(&mut self) {
        let round = self.round;
        self.known.retain(|_, known| known.round == round);
    }

    fn object(
        &mut self,
        raw: &RawValue,
        type_meta: Option<(&str, &str)>,
        at: Timestamp,
    ) -> Result<(Observation, u128), DecodeError> {
        let top = Top::read(raw);
        let metadata = Metadata::read(top.metadata.ok_or(DecodeError::Without("metadata"))?);
        let uid_text = metadata.uid.as_deref().ok_or(DecodeError::Without("metadata.uid"))?;
        let name = metadata.name.as_deref().ok_or(DecodeError::Without("metadata.name"))?;
        let resource_version = metadata
            .resource_version
            .ok_or(DecodeError::Without("a metadata.resourceVersion that is a number"))?;
        let api_version =
            top.api_version.as_deref().or_else(|| type_meta.map(|(v, _)| v)).unwrap_or_default();
        let kind = top.kind.as_deref().or_else(|| type_meta.map(|(_, k)| k)).unwrap_or_default();
        let kind = GroupKind::of(api_version, kind);

        let mut fingerprint = Xxh3::new();
        fingerprint.update(&top.fingerprint.to_le_bytes());
        fingerprint.update(&metadata.fingerprint.to_le_bytes());
        let fingerprint = fingerprint.digest();
        let uid = xxh3_128(uid_text.as_bytes());
        let known = Known { fingerprint, round: self.round };
        let before = self.known.insert(uid, known);
        let is_same = before.is_some_and(|before| before.fingerprint == fingerprint);
        let body =
            (!is_same).then(|| Box::new(read_body(raw, &kind, api_version, &self.annotations)));

        let observation = Observation {
            at,
            object: ObjectRef {
                kind,
                namespace: metadata.namespace.as_deref().map(Into::into),
                name: name.into(),
                uid: Uid::new(uid_text),
            },
            resource_version,
            generation: metadata.generation,
            status_fingerprint: top.status.map_or(0, |status| xxh3_64(status.get().as_bytes())),
            status: top.status.map_or_else(StatusFacts::default, read_status),
            body,
        };
        Ok((observation, uid))
    }
}

/// The top level of an object.
#[derive(Default)]
struct Top<'a> {
    api_version: Option<Box<str>>,
    kind: Option<Box<str>>,
    metadata: Option<&'a RawValue>,
    status: Option<&'a RawValue>,
    fingerprint: u64,
}

impl<'a> Top<'a> {
    fn read(raw: &'a RawValue) -> Self {
        let mut top = Self::default();
        let mut fingerprint = Xxh3::new();
        each_field(raw.get(), |key, value| match key {
            "apiVersion" => top.api_version = boxed(value),
            "kind" => top.kind = boxed(value),
            "metadata" => top.metadata = Some(value),
            "status" => top.status = Some(value),
            _ => {
                fingerprint.update(key.as_bytes());
                fingerprint.update(value.get().as_bytes());
            }
        });
        top.fingerprint = fingerprint.digest();
        top
    }
}

#[derive(Default)]
struct Metadata {
    name: Option<Box<str>>,
    namespace: Option<Box<str>>,
    uid: Option<Box<str>>,
    resource_version: Option<u64>,
    generation: Option<i64>,
    fingerprint: u64,
}

impl Metadata {
    fn read(raw: &RawValue) -> Self {
        let mut metadata = Self::default();
        let mut fingerprint = Xxh3::new();
        each_field(raw.get(), |key, value| {
            match key {
                "name" => metadata.name = boxed(value).filter(|name| !name.is_empty()),
                "namespace" => metadata.namespace = boxed(value).filter(|name| !name.is_empty()),
                "uid" => metadata.uid = boxed(value).filter(|uid| !uid.is_empty()),
                "resourceVersion" => {
                    metadata.resource_version = resource_version(value);
                    return;
                }
                "generation" => {
                    metadata.generation = int(value);
                    return;
                }
                "managedFields" => return,
                _ => {}
            }
            fingerprint.update(key.as_bytes());
            fingerprint.update(value.get().as_bytes());
        });
        metadata.fingerprint = fingerprint.digest();
        metadata
    }
}

/// Comparable as numbers, since Kubernetes 1.35 by promise
/// ([KEP-5504](https://github.com/kubernetes/enhancements/issues/5504)).
fn resource_version(raw: &RawValue) -> Option<u64> {
    text(raw)?.parse().ok()
}

fn bookmark(raw: &RawValue) -> Line {
    let mut at = 0;
    let mut initial_events_end = false;
    each_field(raw.get(), |key, value| {
        if key == "metadata" {
            each_field(value.get(), |key, value| match key {
                "resourceVersion" => at = resource_version(value).unwrap_or(0),
                "annotations" => each_field(value.get(), |key, value| {
                    initial_events_end |= key == "k8s.io/initial-events-end"
                        && text(value).is_some_and(|text| text == "true");
                }),
                _ => {}
            });
        }
    });
    Line::Bookmark { resource_version: at, initial_events_end }
}

fn api_error(raw: &RawValue) -> ApiError {
    let mut error = ApiError::default();
    each_field(raw.get(), |key, value| match key {
        "code" => error.code = int(value).and_then(|code| code.try_into().ok()).unwrap_or(0),
        "reason" => error.reason = text(value).unwrap_or_default().into_owned(),
        "message" => error.message = text(value).unwrap_or_default().into_owned(),
        _ => {}
    });
    error
}
