//! Decodes the events and list items of one watch, and reads each body only when it changed.

use std::{borrow::Cow, collections::HashMap, str, sync::Arc, time::Duration};

use serde_json::value::RawValue;
use tracing::{debug, warn};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed, xxh3_128};

use super::{
    body, carrier, field,
    health::HealthRules,
    json::{fields_of, group_of, integer, non_empty_text, read_object, repair, text},
    kubernetes_event, status,
    wire::{RawEvent, RawMetadata, RawObject},
};
use crate::{
    config::settings::{ConvergesSettings, WatchSettings},
    trace::model::{
        context::TraceContext,
        interner::Interner,
        kind::{is_built_in, is_event},
        kubernetes_event::KubernetesEvent,
        object::{GroupKind, ObjectRef, Uid},
        observation::{Body, Observation, StatusFacts},
        path::segments,
        time::Timestamp,
    },
};

/// An object written at most this long before it was received counts as new: the API server
/// writes whole seconds.
const NEW_WITHIN: Duration = Duration::from_secs(1);

/// The bit of a body's fingerprint that a status inverts.
const STATUS_BIT: u32 = 1;

/// A decoded watch event or list item.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoded {
    /// An `ADDED` or `MODIFIED` event, or a list item.
    Applied(Observation),
    Deleted(Observation),
    /// A Kubernetes Event. `event` is `None` when it does not identify the object it is about.
    KubernetesEvent {
        resource_version: u64,
        event: Option<KubernetesEvent>,
    },
    /// The API server deleted a Kubernetes Event, normally because its TTL ended.
    KubernetesEventExpired {
        resource_version: u64,
    },
    Bookmark {
        resource_version: u64,
        /// This bookmark completes the list that a watch with `sendInitialEvents` starts with.
        ends_list: bool,
    },
    /// The API server ends the watch with this error.
    Error(Box<ApiError>),
}

/// A Kubernetes `Status` sent as the object of an `ERROR` event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiError {
    /// The HTTP status code; 0 when absent.
    pub code: u16,
    pub message: String,
}

/// Why a watch event or list item cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("invalid JSON: {0}")]
    InvalidJson(serde_json::Error),
    #[error("unknown watch event type")]
    UnknownType,
    /// Only decimal resourceVersions can be compared, so that events can be ordered.
    #[error("the resourceVersion is not a decimal number")]
    OpaqueResourceVersion,
    #[error("missing {0}")]
    Missing(&'static str),
}

/// Decodes the events and list items of one watch.
///
/// Remembers a fingerprint of every object's body, so that an event which changes only the status
/// is decoded without the body.
#[derive(Debug)]
pub struct Decoder {
    /// Decides which optional parts of an object are read.
    settings: Arc<WatchSettings>,
    /// Keyed by UID hash, the fingerprint of the last body that was read. The lowest bit is the
    /// `list_parity` at that time.
    fingerprints: HashMap<u128, u64>,
    /// Flips at the end of each list, to find the objects that a list did not contain.
    list_parity: u64,
    /// Shares the names that occur in many objects: kinds, groups, namespaces.
    names: Interner,
    health: HealthRules,
    /// Whether observations carry the time of the object's last write.
    reads_write_times: bool,
    /// Whether opaque resourceVersions are read as 0 instead of refused.
    ignores_resource_versions: bool,
    /// Whether an invalid trace context was logged as a warning.
    has_warned_of_context: bool,
}

impl Decoder {
    pub fn new(settings: &Arc<WatchSettings>) -> Self {
        Self {
            settings: Arc::clone(settings),
            fingerprints: HashMap::new(),
            list_parity: 0,
            names: Interner::default(),
            health: HealthRules::default(),
            reads_write_times: true,
            ignores_resource_versions: false,
            has_warned_of_context: false,
        }
    }

    /// Accepts opaque resourceVersions, which are decoded as 0: the caller orders the events.
    pub fn ignore_resource_versions(&mut self) {
        self.ignores_resource_versions = true;
    }

    /// Announces a possible backlog: objects written long before they are received. Observations
    /// carry write times until a list ends, a bookmark arrives or a new object is received.
    pub fn begin_backlog(&mut self) {
        self.reads_write_times = true;
    }

    /// Decodes one line of a watch response.
    ///
    /// # Errors
    /// When the line is not JSON or has an unknown event type, or its object has an opaque
    /// resourceVersion, no name or no UID.
    pub fn decode_event(
        &mut self,
        line: &[u8],
        received_at: Timestamp,
    ) -> Result<Decoded, DecodeError> {
        with_valid_json(line, |text| {
            let mut event = RawEvent::default();
            read_object(text, &mut event).map_err(DecodeError::InvalidJson)?;
            self.check_resource_version(&event.object)?;
            self.read_event(&event, received_at)
        })
    }

    /// Decodes one item of a list into `Applied` or `KubernetesEvent`. Items of a typed list omit
    /// their apiVersion and kind; `api_version` and `kind` are those of the list's items.
    ///
    /// # Errors
    /// When the item is not JSON, or has an opaque resourceVersion, no name or no UID.
    pub fn decode_item(
        &mut self,
        item: &[u8],
        api_version: &str,
        kind: &str,
        received_at: Timestamp,
    ) -> Result<Decoded, DecodeError> {
        with_valid_json(item, |text| {
            let mut object = RawObject::default();
            read_object(text, &mut object).map_err(DecodeError::InvalidJson)?;
            self.check_resource_version(&object)?;
            self.read_applied(&object, (api_version, kind), received_at)
        })
    }

    /// Whether Kubernetes Events about objects of `kind` are configured.
    pub(in crate::watch) fn includes_events_of(&self, kind: &GroupKind) -> bool {
        self.settings.wants_events(&kind.group, &kind.kind)
    }

    /// Forgets a deleted object, so that its body is read again if its UID reappears.
    pub fn forget(&mut self, uid: &Uid) {
        self.fingerprints.remove(&uid_hash(uid));
        self.health.forget(uid_hash(uid));
    }

    /// How many evaluations of health rules have failed since the last call.
    pub(in crate::watch) fn take_health_rule_failures(&mut self) -> u64 {
        self.health.take_failures()
    }

    /// Ends a list: forgets the objects that neither it nor an event since the last list contained.
    pub fn end_list(&mut self) {
        let parity = self.list_parity;
        self.fingerprints.retain(|_, fingerprint| *fingerprint & 1 == parity);
        self.health.retain(|uid| self.fingerprints.contains_key(uid));
        self.list_parity ^= 1;
        self.reads_write_times = false;
    }

    fn read_event(
        &mut self,
        event: &RawEvent<'_>,
        received_at: Timestamp,
    ) -> Result<Decoded, DecodeError> {
        let object = &event.object;
        let resource_version = object.metadata.resource_version();
        Ok(match event.kind.and_then(text).as_deref() {
            Some("ADDED" | "MODIFIED") => {
                return self.read_applied(object, ("", ""), received_at);
            }
            Some("DELETED") => {
                let (kind, api_version) = self.kind_of(object, ("", ""));
                if is_event(&kind) {
                    return Ok(Decoded::KubernetesEventExpired { resource_version });
                }
                // The last state of the object: its body is read even when it did not change.
                let observation =
                    self.observe(object, kind, &api_version, received_at, |_, _| true);
                Decoded::Deleted(observation?)
            }
            Some("BOOKMARK") => {
                self.reads_write_times = false;
                let ends_list = object.metadata.annotations.is_some_and(is_end_of_list);
                Decoded::Bookmark { resource_version, ends_list }
            }
            Some("ERROR") => Decoded::Error(Box::new(read_error(object))),
            _ => return Err(DecodeError::UnknownType),
        })
    }

    fn read_applied(
        &mut self,
        object: &RawObject<'_>,
        of_list: (&str, &str),
        received_at: Timestamp,
    ) -> Result<Decoded, DecodeError> {
        let (kind, api_version) = self.kind_of(object, of_list);
        if is_event(&kind) {
            let resource_version = object.metadata.resource_version();
            let event = kubernetes_event::read(object, received_at);
            return Ok(Decoded::KubernetesEvent { resource_version, event });
        }
        let observation =
            self.observe(object, kind, &api_version, received_at, Self::record_fingerprint);
        observation.map(Decoded::Applied)
    }

    /// The object's own kind and apiVersion, or those of its list where it has none.
    fn kind_of<'de>(
        &mut self,
        object: &RawObject<'de>,
        (api_version, kind): (&'de str, &str),
    ) -> (GroupKind, Cow<'de, str>) {
        let api_version =
            object.api_version.and_then(non_empty_text).unwrap_or(Cow::Borrowed(api_version));
        let kind = object.kind.and_then(non_empty_text).unwrap_or(Cow::Borrowed(kind));
        let kind = GroupKind {
            group: self.names.intern(group_of(&api_version)),
            kind: self.names.intern(&kind),
        };
        (kind, api_version)
    }

    /// `needs_body` decides whether the body is read.
    fn observe(
        &mut self,
        object: &RawObject<'_>,
        kind: GroupKind,
        api_version: &str,
        received_at: Timestamp,
        needs_body: impl FnOnce(&mut Self, (&Uid, u64)) -> bool,
    ) -> Result<Observation, DecodeError> {
        let metadata = &object.metadata;
        let (Some(uid), Some(name)) =
            (metadata.uid.and_then(non_empty_text), metadata.name.and_then(non_empty_text))
        else {
            return Err(DecodeError::Missing("name or UID"));
        };
        let uid = Uid::new(&uid);
        let namespace = metadata.namespace.and_then(non_empty_text);
        // The first status of a custom resource shows which field manager its controller is.
        let has_status = u64::from(object.status.is_some() && !is_built_in(&kind));
        let carried = carrier::status_fingerprint(object, &self.settings);
        let fingerprint = metadata.fingerprint ^ (has_status << STATUS_BIT) ^ carried;
        let has_body = needs_body(self, (&uid, fingerprint));
        let reference = ObjectRef {
            kind,
            namespace: namespace.map(|namespace| self.names.intern(&namespace)),
            name: Arc::from(&*name),
            uid,
        };
        let body = has_body.then(|| self.read_body(object, &reference, api_version));
        let spec = object.content_field("spec");
        let status_fingerprint = object.status.map_or(0, |raw| xxh3_64(raw.get().as_bytes()));
        let mut status = object.status.map_or_else(StatusFacts::default, |raw| StatusFacts {
            word: self.configured_status(&reference.kind, raw),
            ..status::read(raw, &reference.kind, spec)
        });
        // The generation is not part of the fingerprint, and a rule may compare it.
        let text = xxh3_64_with_seed(
            &[metadata.fingerprint.to_le_bytes(), status_fingerprint.to_le_bytes()].concat(),
            metadata.generation.and_then(integer).unwrap_or(0).unsigned_abs(),
        );
        let fingerprint = (api_version, uid_hash(&reference.uid), text);
        status.verdict = self.health.verdict(&self.settings, object, &reference, fingerprint);
        if status.verdict.is_some()
            && self.health.ignores_observed_generation(&reference.kind, api_version)
        {
            status.observed_generation = None;
        }
        Ok(Observation {
            at: received_at,
            written: self.written_at(metadata, received_at),
            object: reference,
            resource_version: metadata.resource_version(),
            generation: metadata.generation.and_then(integer),
            status_fingerprint,
            status,
            body,
        })
    }

    /// Stores the fingerprint of a body and returns whether it differs from the last one.
    fn record_fingerprint(&mut self, (uid, fingerprint): (&Uid, u64)) -> bool {
        let current = fingerprint & !1 | self.list_parity;
        let last = self.fingerprints.insert(uid_hash(uid), current);
        last.is_none_or(|last| last >> 1 != current >> 1)
    }

    fn read_body(
        &mut self,
        object: &RawObject<'_>,
        reference: &ObjectRef,
        api_version: &str,
    ) -> Box<Body> {
        let body =
            body::read(object, &reference.kind, api_version, &self.settings, &mut self.names);
        if let Some(carrier) = &body.carrier
            && let Err(error) = TraceContext::parse(carrier)
        {
            let annotation = &*carrier.key;
            // A watch has one kind, and a broken tool may annotate every object of it.
            if self.has_warned_of_context {
                debug!(object = %reference, annotation, %error, "Ignoring an invalid trace context.");
            } else {
                self.has_warned_of_context = true;
                warn!(
                    object = %reference, annotation, %error,
                    "Ignoring an invalid trace context; others of this kind are logged at debug level."
                );
            }
        }
        Box::new(body)
    }

    /// The value of the status field that configuration judges the kind by.
    fn configured_status(&self, kind: &GroupKind, status: &RawValue) -> Option<Box<str>> {
        let entry = self.settings.entry(&kind.group, &kind.kind)?;
        let Some(ConvergesSettings::Field(rule)) = &entry.converges else { return None };
        let path = segments(&rule.field);
        // The configuration accepts only paths that begin with `status`.
        field::scalar_at(status, path.get(1..)?)
    }

    fn written_at(
        &mut self,
        metadata: &RawMetadata<'_>,
        received_at: Timestamp,
    ) -> Option<Timestamp> {
        if !self.reads_write_times {
            return None;
        }
        let written_at = metadata.written_at()?;
        self.reads_write_times = received_at.since(written_at) > NEW_WITHIN;
        Some(written_at)
    }

    fn check_resource_version(&self, object: &RawObject<'_>) -> Result<(), DecodeError> {
        if !self.ignores_resource_versions && object.metadata.has_opaque_resource_version() {
            return Err(DecodeError::OpaqueResourceVersion);
        }
        Ok(())
    }
}

fn uid_hash(uid: &Uid) -> u128 {
    match uid {
        Uid::Uuid(bits) => *bits,
        Uid::Text(text) => xxh3_128(text.as_bytes()),
    }
}

fn is_end_of_list(annotations: &RawValue) -> bool {
    fields_of(annotations).iter().any(|(key, value)| {
        key == "k8s.io/initial-events-end" && text(value).is_some_and(|text| text == "true")
    })
}

fn read_error(status: &RawObject<'_>) -> ApiError {
    let code = status.content_field("code").and_then(integer);
    let message = status.content_field("message").and_then(text);
    ApiError {
        code: code.and_then(|code| u16::try_from(code).ok()).unwrap_or(0),
        message: message.map_or_else(String::new, Cow::into_owned),
    }
}

/// Calls `decode` with the text, and once more with the repaired text if it is not valid JSON.
fn with_valid_json<T>(
    bytes: &[u8],
    mut decode: impl FnMut(&str) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    let text = str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed);
    match decode(&text) {
        Err(DecodeError::InvalidJson(error)) => match decode(&repair(&text)) {
            // The position in the error is that of the text as received.
            Err(DecodeError::InvalidJson(_)) => Err(DecodeError::InvalidJson(error)),
            repaired => repaired,
        },
        decoded => decoded,
    }
}
