//! Reads Kubernetes Events in the shape of either API.
//!
//! [core/v1](https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/) has
//! `involvedObject` and `count`; events.k8s.io/v1 has `regarding` and `series`. Both APIs serve the
//! same stored objects, and each carries the fields of the other under deprecated names.

use serde_json::value::RawValue;

use super::{
    json::{RawField, boxed_text, fields_of, find, find_text, integer, text, timestamp, truncate},
    wire::RawObject,
};
use crate::trace::model::{
    kubernetes_event::KubernetesEvent,
    object::{GroupKind, Uid},
    time::Timestamp,
};

/// Longer messages are truncated to this many characters.
const MAX_MESSAGE: usize = 256;
/// Longer reasons, types, component and container names are truncated to this many characters.
const MAX_NAME: usize = 128;

/// `None` when the Event does not identify the object it is about by kind and UID, or has no UID
/// itself.
pub(super) fn read(object: &RawObject<'_>, received_at: Timestamp) -> Option<KubernetesEvent> {
    let first_of = |keys: &[&str]| keys.iter().find_map(|key| object.content_field(key));
    let regarding = fields_of(first_of(&["regarding", "involvedObject"])?);
    let api_version = find_text(&regarding, "apiVersion").unwrap_or_default();
    let series = first_of(&["series"]).map(fields_of).unwrap_or_default();
    let created = object.metadata.creation_timestamp.and_then(timestamp);
    let time_of = |keys: &[&str]| first_of(keys).and_then(timestamp);
    let first = time_of(&["deprecatedFirstTimestamp", "firstTimestamp"])
        .or_else(|| time_of(&["eventTime"]));
    let last = find(&series, "lastObservedTime")
        .and_then(timestamp)
        .max(time_of(&["deprecatedLastTimestamp", "lastTimestamp"]))
        .max(first)
        .max(created);
    let count = find(&series, "count")
        .or_else(|| first_of(&["deprecatedCount", "count"]))
        .and_then(integer);
    Some(KubernetesEvent {
        at: received_at,
        uid: Uid::new(&object.metadata.uid.and_then(text)?),
        resource_version: object.metadata.resource_version(),
        kind: GroupKind::of(&api_version, &find_text(&regarding, "kind")?),
        about: Uid::new(&find_text(&regarding, "uid")?),
        container: container(&regarding),
        severity: short_text(first_of(&["type"])),
        reason: short_text(first_of(&["reason"])),
        message: first_of(&["note", "message"])
            .and_then(text)
            .map(|text| truncate(&text, MAX_MESSAGE))
            .unwrap_or_default(),
        component: component(object),
        count: count.unwrap_or(1).max(1),
        // The creation time is by the API server's clock, as are the times of changes. The other
        // times are by the clock of the reporting component.
        first: created.or(first).unwrap_or(received_at),
        last: last.unwrap_or(received_at),
    })
}

/// The reporting component. Either API may write its own field and leave the other empty.
fn component(object: &RawObject<'_>) -> Box<str> {
    let component_of = |key| {
        let source = object.content_field(key).map(fields_of).unwrap_or_default();
        find(&source, "component")
    };
    let candidates = [
        object.content_field("reportingController"),
        object.content_field("reportingComponent"),
        component_of("deprecatedSource"),
        component_of("source"),
    ];
    candidates.into_iter().map(short_text).find(|name| !name.is_empty()).unwrap_or_default()
}

/// The container name in a field path such as `spec.containers{web}`; empty for other paths.
fn container(regarding: &[RawField<'_>]) -> Box<str> {
    let path = find(regarding, "fieldPath").and_then(boxed_text).unwrap_or_default();
    let inside = path.split_once('{').and_then(|(_, rest)| rest.strip_suffix('}'));
    inside.map(|name| truncate(name, MAX_NAME)).unwrap_or_default()
}

fn short_text(raw: Option<&RawValue>) -> Box<str> {
    raw.and_then(text).map(|text| truncate(&text, MAX_NAME)).unwrap_or_default()
}
