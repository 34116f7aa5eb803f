//! Malformed annotations and objects: spans are emitted, no link is, and nothing panics.

use std::sync::Arc;

use expect_test::expect;
use proptest::prelude::*;
use serde_json::{Value, json};
use spanlink::{
    config::settings::Settings,
    trace::{
        model::{
            object::GroupKind,
            observation::{Filter, WatchEvent, WatchId, WatchScope},
            span::Span,
            time::Timestamp,
        },
        rules::Rules,
        tracer::Tracer,
    },
    watch::decode::{Decoded, Decoder},
};

const KEY: &str = "tracing.k8s.io/traceparent";
const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The spans of the events of one watch of Deployments that starts empty.
fn spans_of(lines: &[String]) -> Vec<Span> {
    let at = Timestamp::parse("2026-11-24T10:00:00.5Z").unwrap();
    let mut decoder = Decoder::new(&Arc::new(Settings::load(None, []).unwrap().watch));
    let mut tracer = Tracer::new(Rules::default(), "");
    let watched = WatchScope {
        kind: GroupKind::new("apps", "Deployment"),
        namespace: None,
        filter: Filter::Everything,
        has_status: true,
    };
    tracer.open_empty(WatchId(0), watched, at);
    let mut spans = Vec::new();
    for line in lines {
        let event = match decoder.decode_event(line.as_bytes(), at) {
            Ok(Decoded::Applied(observation)) => WatchEvent::Applied(observation),
            Ok(Decoded::Deleted(observation)) => WatchEvent::Deleted(observation),
            Ok(Decoded::Bookmark { resource_version, .. }) => {
                WatchEvent::Bookmark { at, resource_version }
            }
            Ok(
                Decoded::KubernetesEvent { .. }
                | Decoded::KubernetesEventExpired { .. }
                | Decoded::Error(_),
            )
            | Err(_) => continue,
        };
        spans.extend(tracer.process(WatchId(0), event).spans);
    }
    while !tracer.is_settled()
        && let Some(due) = tracer.next_deadline()
    {
        spans.extend(tracer.expire(due).spans);
    }
    spans
}

fn deployment(annotation: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "web",
            "namespace": "shop",
            "uid": "7f0b1c9e-5b2c-4d5a-9a55-0c1f0b3ed0aa",
            "resourceVersion": "10",
            "generation": 1,
            "creationTimestamp": "2026-11-24T10:00:00Z",
            "annotations": { KEY: annotation },
        },
        "spec": { "replicas": 0 },
        "status": {},
    })
}

fn added(object: &Value) -> String {
    format!("{{\"type\":\"ADDED\",\"object\":{object}}}")
}

#[test]
fn valid_annotation_is_a_link() {
    let spans = spans_of(&[added(&deployment(&json!(GOOD)))]);
    assert_eq!(spans[0].links.len(), 1);
}

#[test]
fn invalid_annotation_is_not_a_link_and_its_span_is_emitted() {
    let long = "0".repeat(256 << 10);
    let invalid: Vec<Value> = vec![
        json!(""),
        json!("00-1-1-01"),
        json!("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        json!("00-00000000000000000000000000000000-00f067aa0ba902b7-01"),
        json!("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"),
        json!("00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01"),
        json!("00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        json!(format!("{GOOD}-")),
        json!(format!(" {GOOD}")),
        json!(format!("{GOOD}\u{0}")),
        json!(format!("{GOOD}{long}")),
        json!("０0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        json!(long),
        json!(7),
        json!(null),
        json!({ "traceparent": GOOD }),
        json!([GOOD]),
    ];
    for annotation in invalid {
        let spans = spans_of(&[added(&deployment(&annotation))]);
        let text = annotation.to_string();
        assert_eq!(spans[0].name.as_ref(), "create Deployment", "{}", text.len());
        assert!(spans[0].links.is_empty(), "{text:.60}");
    }
}

#[test]
fn malformed_objects_are_reported_as_far_as_they_can_be_decoded() {
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let mut lines = Vec::new();
    for (number, status) in [
        json!({ "observedGeneration": "seven", "conditions": "none" }),
        json!({ "observedGeneration": -1, "conditions": [1, null, {}, { "type": 5 }, { "type": "Ready", "status": true }] }),
        json!({ "observedGeneration": 99, "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": "yesterday" }] }),
        json!([]),
        json!("status"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut object = deployment(&json!(GOOD));
        object["metadata"]["uid"] = json!(format!("uid-{number}"));
        object["metadata"]["ownerReferences"] = json!([
            { "apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": format!("uid-{number}"), "controller": true },
            { "kind": 5 },
            "text",
        ]);
        object["status"] = status;
        lines.push(added(&object));
        lines.push(added(&object).replace("\"replicas\":0", &format!("\"replicas\":{deep}")));
    }
    lines.push("{\"type\":\"ADDED\",\"object\":{}}".to_owned());
    lines.push("{\"type\":\"ADDED\",\"object\":[]}".to_owned());
    lines.push("not json".to_owned());
    let creates =
        spans_of(&lines).iter().filter(|s| s.name.as_ref() == "create Deployment").count();
    expect!["5"].assert_eq(&creates.to_string());
}

/// Arbitrary small JSON values.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("[a-zA-Z]{1,12}", inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_line_causes_a_panic(line in "\\PC{0,200}") {
        spans_of(&[line]);
    }

    #[test]
    fn any_object_closes_every_convergence_once(
        steps in prop::collection::vec(
            (1..5_i64, any_json(), any_json(), any_json(), prop::bool::ANY), 1..8,
        ),
    ) {
        let mut lines = Vec::new();
        for (number, (generation, spec, status, owners, deleted)) in steps.into_iter().enumerate() {
            let mut object = deployment(&json!(GOOD));
            object["metadata"]["generation"] = json!(generation);
            object["metadata"]["resourceVersion"] = json!((10 + number).to_string());
            object["metadata"]["ownerReferences"] = owners;
            object["spec"] = spec;
            object["status"] = status;
            let kind = if deleted { "DELETED" } else { "MODIFIED" };
            lines.push(format!("{{\"type\":\"{kind}\",\"object\":{object}}}"));
        }
        let spans = spans_of(&lines);
        let ids: std::collections::HashSet<_> = spans.iter().map(|span| span.span_id).collect();
        prop_assert_eq!(ids.len(), spans.len());
        for span in &spans {
            prop_assert!(span.start < span.end);
        }
    }
}
