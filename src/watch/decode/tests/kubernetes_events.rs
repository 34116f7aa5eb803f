//! Claims about decoding Kubernetes Events.

use serde_json::{Value, json};

use super::{Decoded, KubernetesEvent, RECEIVED_AT, decoder, merge};
use crate::trace::model::{
    object::{GroupKind, Uid},
    time::Timestamp,
};

fn kubernetes_event(event: &Value) -> Option<KubernetesEvent> {
    let line = json!({"type": "ADDED", "object": event}).to_string();
    match decoder().decode_event(line.as_bytes(), RECEIVED_AT).unwrap() {
        Decoded::KubernetesEvent { resource_version: 9, event } => event,
        other => panic!("{other:?}"),
    }
}

#[test]
fn both_event_apis_decode_to_the_same_kubernetes_event() {
    let about = json!({"apiVersion": "v1", "kind": "Pod", "name": "web", "namespace": "shop",
        "uid": "pod", "fieldPath": "spec.initContainers{setup}"});
    let metadata = json!({"name": "web.1", "uid": "event", "resourceVersion": "9"});
    let old = json!({"apiVersion": "v1", "kind": "Event", "metadata": metadata,
        "involvedObject": about, "reason": "Pulled", "message": "It is there.",
        "source": {"component": "kubelet"}, "reportingComponent": "", "type": "Normal",
        "firstTimestamp": "2026-11-24T10:00:00Z", "lastTimestamp": "2026-11-24T10:00:09Z",
        "eventTime": null, "count": 3});
    let new = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": metadata,
        "regarding": about, "reason": "Pulled", "note": "It is there.", "type": "Normal",
        "reportingController": "kubelet", "eventTime": "2026-11-24T10:00:00.000000Z",
        "series": {"count": 3, "lastObservedTime": "2026-11-24T10:00:09.000000Z"}});
    let mixed = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": metadata,
        "regarding": about, "reason": "Pulled", "note": "It is there.", "type": "Normal",
        "deprecatedSource": {"component": "kubelet"}, "deprecatedCount": 3, "eventTime": null,
        "deprecatedFirstTimestamp": "2026-11-24T10:00:00Z",
        "deprecatedLastTimestamp": "2026-11-24T10:00:09Z"});
    let event = kubernetes_event(&old).unwrap();
    assert_eq!(event.about, Uid::new("pod"));
    assert_eq!(event.kind, GroupKind::new("", "Pod"));
    assert_eq!((&*event.container, &*event.component), ("setup", "kubelet"));
    assert_eq!((&*event.message, event.count), ("It is there.", 3));
    assert_eq!(event.first, Timestamp::parse("2026-11-24T10:00:00Z").unwrap());
    assert_eq!(event.last, Timestamp::parse("2026-11-24T10:00:09Z").unwrap());
    assert_eq!(Some(&event), kubernetes_event(&new).as_ref());
    assert_eq!(Some(&event), kubernetes_event(&mixed).as_ref());
    // The API server's clock is that of changes; the clock of the reporting component may be behind.
    let mut behind = old.clone();
    behind["metadata"]["creationTimestamp"] = json!("2026-11-24T10:01:00Z");
    let behind = kubernetes_event(&behind).unwrap();
    assert_eq!((behind.first, behind.last), (behind.last, behind.first));
    assert_eq!(behind.first, Timestamp::parse("2026-11-24T10:01:00Z").unwrap());
}

#[test]
fn long_kubernetes_event_is_truncated_and_one_without_an_object_is_ignored() {
    let event = |changes: Value| {
        let mut event = json!({"apiVersion": "v1", "kind": "Event",
            "metadata": {"name": "e", "uid": "event", "resourceVersion": "9"}});
        merge(&mut event, &changes);
        kubernetes_event(&event)
    };
    let regarding = json!({"kind": "Pod", "uid": "pod"});
    assert_eq!(event(json!({})), None);
    assert_eq!(event(json!({"regarding": 7, "count": "x"})), None);
    assert_eq!(event(json!({"regarding": {"kind": "Pod"}})), None);
    let event = event(json!({"regarding": regarding, "note": "x".repeat(5000), "type": 7,
        "reason": ["x"], "series": {"count": -7}, "eventTime": "soon"}));
    let event = event.unwrap();
    assert_eq!((event.message.len(), event.count, event.first), (256, 1, RECEIVED_AT));
}
