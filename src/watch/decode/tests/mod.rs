//! Claims about decoding objects, malformed ones above all.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    decoder::{ApiError, DecodeError, Decoded, Decoder},
    json::repair,
};
use crate::{
    config::settings::{
        CarrierSettings, ConvergesSettings, Settings, StatusFieldSettings, WatchSettings,
    },
    trace::model::{
        kubernetes_event::KubernetesEvent,
        object::{GroupKind, Uid},
        observation::{Observation, Terminated},
        time::Timestamp,
    },
};

mod kubernetes_events;
mod malformed;

const RECEIVED_AT: Timestamp = Timestamp::from_nanos(1);

fn decoder() -> Decoder {
    let keys = ["tracing.k8s.io/traceparent", "example.com/traceparent"];
    let carriers = keys.into_iter().map(CarrierSettings::annotation).collect();
    decoder_with(|settings| settings.carriers = carriers)
}

fn decoder_with(adjust: impl FnOnce(&mut WatchSettings)) -> Decoder {
    let mut settings = Settings::load(None, []).unwrap().watch;
    adjust(&mut settings);
    Decoder::new(&Arc::new(settings))
}

fn object(changes: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "resourceVersion": "7",
            "generation": 3, "creationTimestamp": "2026-11-24T10:00:00Z"},
        "spec": {"replicas": 2}, "status": {"observedGeneration": 3, "replicas": 2},
    });
    merge(&mut object, changes);
    object
}

fn merge(to: &mut Value, from: &Value) {
    match (to, from) {
        (Value::Object(to), Value::Object(from)) => {
            for (key, value) in from {
                merge(to.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (to, from) => *to = from.clone(),
    }
}

fn applied(decoder: &mut Decoder, text: &str) -> Observation {
    let line = format!("{{\"type\":\"MODIFIED\",\"object\":{text}}}\n");
    match decoder.decode_event(line.as_bytes(), RECEIVED_AT).unwrap() {
        Decoded::Applied(observation) => observation,
        other => panic!("{other:?}"),
    }
}

fn listed(decoder: &mut Decoder, text: &str) -> Observation {
    match decoder.decode_item(text.as_bytes(), "apps/v1", "Deployment", RECEIVED_AT).unwrap() {
        Decoded::Applied(observation) => observation,
        other => panic!("{other:?}"),
    }
}

fn read(changes: &Value) -> Observation {
    applied(&mut decoder(), &object(changes).to_string())
}

#[test]
fn configured_status_field_is_read_when_it_is_a_scalar() {
    let at = |field: &str, status: &Value| {
        let mut decoder = decoder_with(|settings| {
            settings.kinds[0].converges = Some(ConvergesSettings::Field(StatusFieldSettings {
                field: field.into(),
                ..StatusFieldSettings::default()
            }));
        });
        let object = object(&json!({"status": status}));
        applied(&mut decoder, &object.to_string()).status.word.map(String::from)
    };
    let status = json!({"health": {"status": "Healthy", "ok": true, "n": 3, "no": null},
        "conditions": [7, {"type": "A", "status": "False"}, {"type": "B", "status": "True"}],
        "by": {"example.com/x": "y"}, "long": "x".repeat(300)});
    for (field, expected) in [
        ("status.health.status", Some("Healthy")),
        ("status.health.ok", Some("true")),
        ("status.health.n", Some("3")),
        ("status.health.no", None),
        ("status.health", None),
        ("status.conditions", None),
        ("status.conditions[B].status", Some("True")),
        ("status.conditions[C].status", None),
        ("status.by[example.com/x]", Some("y")),
        ("status.health.status.deeper", None),
        ("status.nothing.there", None),
    ] {
        assert_eq!(at(field, &status).as_deref(), expected, "{field}");
    }
    assert_eq!(at("status.long", &status).unwrap().len(), 256);
}

#[test]
fn body_is_read_when_anything_but_the_status_changed() {
    let mut decoder = decoder();
    let mut has_body =
        |changes: Value| applied(&mut decoder, &object(&changes).to_string()).body.is_some();
    assert!(has_body(json!({})));
    assert!(!has_body(json!({"status": {"replicas": 1}})));
    assert!(!has_body(json!({"metadata": {"resourceVersion": "8", "generation": 4}})));
    assert!(!has_body(json!({"metadata": {"managedFields": [{"manager": "m"}]}})));
    assert!(has_body(json!({"spec": {"replicas": 3}})));
    assert!(has_body(json!({"metadata": {"labels": {"a": "b"}}})));
    assert!(has_body(json!({"metadata": {"annotations": {"a": "b"}}})));
}

#[test]
fn deletion_has_a_body_and_a_forgotten_object_is_read_again() {
    let mut decoder = decoder();
    let text = object(&json!({})).to_string();
    applied(&mut decoder, &text);
    let line = format!("{{\"type\":\"DELETED\",\"object\":{text}}}");
    let Decoded::Deleted(deleted) = decoder.decode_event(line.as_bytes(), RECEIVED_AT).unwrap()
    else {
        panic!("not deleted")
    };
    assert!(deleted.body.is_some());
    assert!(
        applied(&mut decoder, &text).body.is_none(),
        "a deletion may only be an exit from a selector"
    );
    decoder.forget(&Uid::new("u1"));
    assert!(applied(&mut decoder, &text).body.is_some());
}

#[test]
fn objects_absent_from_a_list_are_forgotten() {
    let mut decoder = decoder();
    let named = |uid| object(&json!({"metadata": {"uid": uid}})).to_string();
    listed(&mut decoder, &named("a"));
    applied(&mut decoder, &named("b"));
    decoder.end_list();
    assert!(listed(&mut decoder, &named("a")).body.is_none());
    decoder.end_list();
    assert!(applied(&mut decoder, &named("a")).body.is_none());
    assert!(applied(&mut decoder, &named("b")).body.is_some());
}

#[test]
fn objects_of_a_resumed_watch_that_two_lists_do_not_contain_are_forgotten() {
    let mut decoder = decoder();
    let named = |uid| object(&json!({"metadata": {"uid": uid}})).to_string();
    for uid in ["a", "b"] {
        assert!(applied(&mut decoder, &named(uid)).body.is_some());
    }
    for _ in 0..2 {
        assert!(listed(&mut decoder, &named("a")).body.is_none());
        decoder.end_list();
    }
    assert!(applied(&mut decoder, &named("a")).body.is_none());
    assert!(applied(&mut decoder, &named("b")).body.is_some());
}

fn at(time: &str) -> Timestamp {
    Timestamp::parse(&format!("2026-11-24T{time}Z")).unwrap()
}

/// The write time of an object that is received at 11:00.
fn written_at(decoder: &mut Decoder, metadata: &Value) -> Option<Timestamp> {
    let object = object(&json!({ "metadata": metadata }));
    let line = json!({"type": "MODIFIED", "object": object}).to_string();
    match decoder.decode_event(line.as_bytes(), at("11:00:00")).unwrap() {
        Decoded::Applied(observation) => observation.written,
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn write_time_is_the_latest_of_managed_fields_creation_and_deletion_request() {
    let mut decoder = decoder();
    let by = |time: &str| json!({"manager": "m", "time": format!("2026-11-24T{time}Z")});
    let managers = json!([by("10:02:00"), by("10:05:00"), {"manager": "n"}, by("10:03:00")]);
    let deleting = |time: &str| {
        json!({"managedFields": managers, "deletionGracePeriodSeconds": 30,
            "deletionTimestamp": format!("2026-11-24T{time}Z")})
    };
    let cases = [
        (json!({}), "10:00:00"),
        (json!({ "managedFields": managers }), "10:05:00"),
        (deleting("10:06:00"), "10:05:30"),
        (deleting("10:04:00"), "10:05:00"),
    ];
    for (metadata, expected) in cases {
        assert_eq!(written_at(&mut decoder, &metadata), Some(at(expected)), "{metadata}");
    }
    assert_eq!(written_at(&mut decoder, &json!({"creationTimestamp": null})), None);
}

#[test]
fn write_times_are_read_until_a_list_ends_a_bookmark_arrives_or_an_object_is_new() {
    let old = json!({});
    let mut decoder = decoder();
    let mut has_write_time = |end: &mut dyn FnMut(&mut Decoder)| {
        decoder.begin_backlog();
        assert!(
            written_at(&mut decoder, &old).is_some() && written_at(&mut decoder, &old).is_some()
        );
        end(&mut decoder);
        written_at(&mut decoder, &old).is_some()
    };
    let created = |time: &str| json!({"creationTimestamp": format!("2026-11-24T{time}Z")});
    let bookmark = br#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}"#;
    assert!(!has_write_time(&mut Decoder::end_list));
    assert!(!has_write_time(&mut |decoder| drop(
        decoder.decode_event(bookmark, RECEIVED_AT).unwrap()
    )));
    assert!(!has_write_time(&mut |decoder| assert!(
        written_at(decoder, &created("10:59:59")).is_some()
    )));
    assert!(has_write_time(&mut |decoder| assert!(
        written_at(decoder, &created("10:59:58")).is_some()
    )));
    let mut first = self::decoder();
    assert!(written_at(&mut first, &old).is_some());
}

#[test]
fn list_item_gets_its_kind_from_its_list() {
    let mut item = object(&json!({}));
    item.as_object_mut().unwrap().retain(|key, _| key != "apiVersion" && key != "kind");
    let item = listed(&mut decoder(), &item.to_string());
    assert_eq!(item.object.kind, GroupKind::new("apps", "Deployment"));
    assert_eq!(&*item.body.unwrap().api_version, "apps/v1");
}

#[test]
fn body_has_contexts_owners_deletion_and_content() {
    let observation = read(&json!({
        "metadata": {
            "annotations": {"example.com/traceparent": "00-a", "example.com/tracestate": "k=v"},
            "labels": {"controller-revision-hash": "h"},
            "finalizers": ["f"], "deletionTimestamp": "2026-11-24T10:00:30Z",
            "deletionGracePeriodSeconds": 30,
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "o", "uid": "u",
                 "controller": true}, "nonsense", {"kind": 7}],
            "managedFields": [{"manager": "m"}],
        },
        "spec": {"template": {"metadata": {"annotations": {"example.com/traceparent": "00-b"}}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}},
    }));
    let body = observation.body.unwrap();
    let carrier = body.carrier.unwrap();
    assert_eq!((&*carrier.traceparent, carrier.tracestate.as_deref()), ("00-a", Some("k=v")));
    assert_eq!(body.template_carriers, ["00-b".into()]);
    assert_eq!(body.deletion.unwrap().grace_seconds, 30);
    assert_eq!(body.owners.len(), 1);
    assert!(body.owners[0].controller);
    assert_eq!((body.spec.replicas, body.spec.partition), (Some(2), Some(2)));
    assert_eq!(&*body.managed_fields, r#"[{"manager":"m"}]"#);
    assert_eq!(body.revision.controller_revision_hash.as_deref(), Some("h"));
    assert!(body.content.leaves.iter().any(|leaf| &*leaf.path == "spec.replicas"));
}

#[test]
fn container_states_are_read() {
    let mut decoder = decoder();
    let pod = object(&json!({"status": {
        "initContainerStatuses": [{"name": "i", "ready": true}],
        "containerStatuses": [{"name": "c",
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "x".repeat(999)}},
            "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}}}]}}));
    let containers = applied(&mut decoder, &pod.to_string()).status.containers;
    assert!(containers[0].init && containers[0].ready);
    let (reason, message) = containers[1].waiting.clone().unwrap();
    assert_eq!((&*reason, message.len()), ("CrashLoopBackOff", 256));
    let terminated = Terminated { exit_code: 1, reason: "Error".into(), ..Terminated::default() };
    assert_eq!(containers[1].last_terminated, Some(terminated));
}
