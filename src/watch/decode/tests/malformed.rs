//! Claims about objects that are malformed, huge or deeply nested.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    ApiError, DecodeError, Decoded, RECEIVED_AT, applied, decoder, merge, object, read, repair,
};

#[test]
fn fields_of_wrong_types_are_absent() {
    let malformed = read(&json!({
        "metadata": {"generation": "three", "resourceVersion": 7, "labels": [1], "finalizers": {},
            "annotations": "none", "ownerReferences": "me", "deletionTimestamp": "yesterday",
            "creationTimestamp": "9999-99-99T99:99:99Z"},
        "spec": {"replicas": "two", "template": [[]], "updateStrategy": 3},
        "status": {"observedGeneration": "three", "conditions": {"type": "Ready"}, "replicas": 1.5,
            "containerStatuses": [7, {"name": []}], "loadBalancer": "none", "phase": 4},
    }));
    assert_eq!((malformed.generation, malformed.resource_version), (None, 0));
    assert_eq!(malformed.status.observed_generation, None);
    assert!(malformed.status.conditions.is_empty() && malformed.status.containers.is_empty());
    let body = malformed.body.unwrap();
    assert!(body.owners.is_empty() && body.deletion.is_none() && body.created.is_none());
    assert_eq!(body.spec.replicas, None);
}

#[test]
fn malformed_conditions_do_not_hide_valid_ones() {
    let conditions = json!({"status": {"conditions": [
        null, [], "Ready", {"type": 5}, {"type": "Ready", "status": true},
        {"type": "Ready", "status": "True", "lastTransitionTime": "2026-02-31T00:00:00Z",
         "observedGeneration": -4}]}});
    let conditions = read(&conditions).status.conditions;
    assert_eq!(conditions.len(), 2);
    assert_eq!((&*conditions[1].status, conditions[1].observed_generation), ("True", Some(-4)));
    assert_eq!(conditions[1].last_transition, None);
}

#[test]
fn ten_thousand_nested_levels_fail_no_object() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let maps = format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
    let text = object(&json!({
        "metadata": {"annotations": "@", "managedFields": "@", "labels": "@", "ownerReferences": "@"},
        "spec": {"a": "@", "template": "@", "replicas": 5}, "data": "@",
        "status": {"conditions": "@", "loadBalancer": "@", "phase": "@", "x": "@"}}))
    .to_string();
    for deep in [deep, maps] {
        let observation = applied(&mut decoder(), &text.replace("\"@\"", &deep));
        let body = observation.body.unwrap();
        assert_eq!(body.spec.replicas, Some(5));
        assert!(body.content.leaves.is_empty());
        assert_ne!(body.content.digest, [0; 16]);
        assert_eq!(observation.status.observed_generation, Some(3));
    }
}

#[test]
fn object_of_1_5_megabytes_is_read() {
    let observation = read(&json!({"spec": {"blob": "x".repeat(1_500_000)}}));
    assert!(observation.body.is_some());
}

#[test]
fn invalid_characters_are_repaired() {
    let text = object(&json!({"metadata": {"annotations": {"a": "@"}}})).to_string();
    for broken in [&b"\xff\xfe"[..], b"\0\x01", br"\ud800", br"\\\udfff\u0000", b"\xed\xa0\x80"] {
        let mut line = b"{\"type\":\"ADDED\",\"object\":".to_vec();
        let (head, tail) = text.split_once('@').unwrap();
        line.extend([head.as_bytes(), broken, tail.as_bytes(), b"}"].concat());
        let event = decoder().decode_event(&line, RECEIVED_AT).unwrap();
        assert!(matches!(event, Decoded::Applied(_)), "{broken:?}");
    }
    assert_eq!(repair("a\\\\ud800"), "a\\\\ud800");
}

#[test]
fn last_of_duplicate_keys_counts() {
    let text = r#"{"metadata":{"name":"a","name":"web","uid":"u"},"spec":{"replicas":1},
        "spec":{"replicas":2},"status":{"replicas":1,"replicas":2,
        "conditions":[{"type":"A"}],"conditions":[{"type":"B"}]}}"#;
    let observation = applied(&mut decoder(), text);
    assert_eq!(&*observation.object.name, "web");
    assert_eq!(observation.body.unwrap().spec.replicas, Some(2));
    assert_eq!(observation.status.replicas, Some(2));
    assert_eq!(observation.status.conditions.len(), 1);
}

#[test]
fn long_traceparent_is_truncated() {
    let key = "tracing.k8s.io/traceparent";
    let body = read(&json!({"metadata": {"annotations": {key: "é".repeat(131_072)}}})).body;
    let carrier = body.unwrap().carrier.unwrap();
    assert_eq!(carrier.traceparent.len(), 256);
}

#[test]
fn at_most_64_owners_are_read() {
    let owner = json!({"apiVersion": "v1", "kind": "K", "name": "n", "uid": "u"});
    let owners = vec![owner; 1000];
    let body = read(&json!({"metadata": {"ownerReferences": owners}})).body.unwrap();
    assert_eq!(body.owners.len(), 64);
}

#[test]
fn only_invalid_json_and_objects_without_name_or_uid_are_undecodable() {
    let mut decoder = decoder();
    let mut read = |line: &str| decoder.decode_event(line.as_bytes(), RECEIVED_AT);
    let nameless = r#"{"type":"ADDED","object":{"metadata":{"name":"a"}}}"#;
    assert!(matches!(read(nameless), Err(DecodeError::Missing(_))));
    let wrong = r#"{"type":"ADDED","object":{"metadata":[{"name":"a","uid":"u"}]}}"#;
    assert!(matches!(read(wrong), Err(DecodeError::Missing(_))));
    for text in ["", "{", "[1", r#"{"type":"ADDED","object":{"metadata":"#] {
        assert!(matches!(read(text), Err(DecodeError::InvalidJson(_))), "{text}");
    }
}

#[test]
fn bookmarks_errors_and_unknown_types_are_distinguished() {
    let mut decoder = decoder();
    let mut read = |line: &str| decoder.decode_event(line.as_bytes(), RECEIVED_AT).unwrap();
    let bookmark = r#"{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":
        "9","creationTimestamp":null@},"spec":{"containers":null},"status":{}}}"#;
    let plain = Decoded::Bookmark { resource_version: 9, ends_list: false };
    assert_eq!(read(&bookmark.replace('@', "")), plain);
    let end = bookmark.replace('@', r#","annotations":{"k8s.io/initial-events-end":"true"}"#);
    assert_eq!(read(&end), Decoded::Bookmark { resource_version: 9, ends_list: true });
    let error = r#"{"type":"ERROR","object":{"kind":"Status","message":"old","code":410}}"#;
    let gone = ApiError { code: 410, message: "old".into() };
    assert_eq!(read(error), Decoded::Error(Box::new(gone)));
    let note = decoder.decode_event(br#"{"type":"NOTE","object":{}}"#, RECEIVED_AT);
    assert!(matches!(note, Err(DecodeError::UnknownType)));
}

proptest! {
    #[test]
    fn no_bytes_cause_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut decoder = decoder();
        drop(decoder.decode_event(&bytes, RECEIVED_AT));
        drop(decoder.decode_item(&bytes, "apps/v1", "Deployment", RECEIVED_AT));
    }

    #[test]
    fn no_value_of_any_field_fails_an_object(
        place in prop::sample::select(vec![
            "/metadata/generation", "/metadata/labels", "/metadata/annotations", "/spec/replicas",
            "/metadata/ownerReferences", "/metadata/deletionTimestamp", "/spec", "/status",
            "/status/conditions", "/status/containerStatuses", "/spec/template",
            "/metadata/managedFields", "/metadata/namespace", "/apiVersion", "/data"]),
        value in json_value(),
    ) {
        let mut changes = value;
        for key in place.split('/').skip(1).collect::<Vec<_>>().into_iter().rev() {
            changes = json!({key: changes});
        }
        let text = object(&json!({"spec": {"template": null}, "data": null})).to_string();
        let mut object: Value = serde_json::from_str(&text).unwrap();
        merge(&mut object, &changes);
        prop_assert!(decoder().decode_item(object.to_string().as_bytes(), "apps/v1", "Deployment", RECEIVED_AT).is_ok());
    }

    #[test]
    fn truncated_or_altered_json_never_panics(at in 0_usize..400, with in any::<u8>()) {
        let text = object(&json!({"status": {"conditions": [{"type": "Ready"}]}})).to_string();
        let mut bytes = format!("{{\"type\":\"ADDED\",\"object\":{text}}}").into_bytes();
        let at = at.min(bytes.len() - 1);
        bytes[at] = with;
        drop(decoder().decode_event(&bytes, RECEIVED_AT));
        drop(decoder().decode_event(&bytes[..at], RECEIVED_AT));
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        let key = prop_oneof![
            ".{0,3}".boxed(),
            prop::sample::select(vec!["type", "name", "metadata", "annotations", "state", "uid"])
                .prop_map(str::to_owned)
                .boxed()
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((key, inner), 0..5)
                .prop_map(|fields| fields.into_iter().collect::<Value>()),
        ]
    })
}
