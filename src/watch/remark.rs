//! Reads Kubernetes' Events, of either API: one storage, two shapes.
//!
//! [core/v1](https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/) has
//! `involvedObject` and `count`, events.k8s.io/v1 `regarding` and `series`; each carries the other's
//! fields under other names.

use serde_json::value::RawValue;

use super::{
    body::{Pair, find, find_text},
    decode::Wire,
    lenient::{boxed, cut, int, pairs, text, time},
};
use crate::trace::{
    model::kubernetes_event::KubernetesEvent,
    model::{
        object::{GroupKind, Uid},
        time::Timestamp,
    },
};

const MAX_MESSAGE: usize = 256;
const MAX_WORD: usize = 128;

/// `None`: it does not say whom it is about.
pub(super) fn read(wire: &Wire<'_>, at: Timestamp) -> Option<KubernetesEvent> {
    let of = |keys: &[&str]| keys.iter().find_map(|key| wire.content(key));
    let regarding = pairs(of(&["regarding", "involvedObject"])?);
    let api_version = find_text(&regarding, "apiVersion").unwrap_or_default();
    let series = of(&["series"]).map(pairs).unwrap_or_default();
    let created = wire.meta.created.and_then(time);
    let said = |keys: &[&str]| of(keys).and_then(time);
    let first =
        said(&["deprecatedFirstTimestamp", "firstTimestamp"]).or_else(|| said(&["eventTime"]));
    let last = find(&series, "lastObservedTime")
        .and_then(time)
        .max(said(&["deprecatedLastTimestamp", "lastTimestamp"]))
        .max(first)
        .max(created);
    let count = find(&series, "count").or_else(|| of(&["deprecatedCount", "count"])).and_then(int);
    Some(KubernetesEvent {
        at,
        uid: Uid::new(&wire.meta.uid.and_then(text)?),
        resource_version: wire.meta.version(),
        kind: GroupKind::of(&api_version, &find_text(&regarding, "kind")?),
        about: Uid::new(&find_text(&regarding, "uid")?),
        container: container(&regarding),
        severity: word(of(&["type"])),
        reason: word(of(&["reason"])),
        message: of(&["note", "message"])
            .and_then(text)
            .map(|text| cut(&text, MAX_MESSAGE))
            .unwrap_or_default(),
        component: component(wire),
        count: count.unwrap_or(1).max(1),
        // By the API server's clock, which is that of changes too; reporters have their own.
        first: created.or(first).unwrap_or(at),
        last: last.unwrap_or(at),
    })
}

/// The newer name of who reports, or the older; either may be there and empty.
fn component(wire: &Wire<'_>) -> Box<str> {
    let source = |key| find(&wire.content(key).map(pairs).unwrap_or_default(), "component");
    let said = [
        wire.content("reportingController"),
        wire.content("reportingComponent"),
        source("deprecatedSource"),
        source("source"),
    ];
    said.into_iter().map(word).find(|word| !word.is_empty()).unwrap_or_default()
}

/// Of `spec.containers{web}`.
fn container(regarding: &[Pair<'_>]) -> Box<str> {
    let path = find(regarding, "fieldPath").and_then(boxed).unwrap_or_default();
    let inside = path.split_once('{').and_then(|(_, rest)| rest.strip_suffix('}'));
    inside.map(|name| cut(name, MAX_WORD)).unwrap_or_default()
}

fn word(raw: Option<&RawValue>) -> Box<str> {
    raw.and_then(text).map(|text| cut(&text, MAX_WORD)).unwrap_or_default()
}
