//! Claims about reading objects, strange ones above all.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    decode::{ApiError, DecodeError, Decoder, Line},
    lenient::mended,
};
use crate::{
    config::settings::{CarrierKey, ConvergesSettings, Settings, WatchSettings},
    trace::{
        model::kubernetes_event::KubernetesEvent,
        model::{
            object::{GroupKind, Uid},
            observation::{Observation, Terminated},
            time::Timestamp,
        },
    },
};

const AT: Timestamp = Timestamp::from_nanos(1);

fn decoder() -> Decoder {
    let key = |key: &str| CarrierKey { key: key.into(), ..CarrierKey::default() };
    let annotations = vec![key("tracing.k8s.io/traceparent"), key("example.com/traceparent")];
    decoder_with(|settings| settings.annotations = annotations)
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
    match decoder.line(line.as_bytes(), AT).unwrap() {
        Line::Applied(observation) => observation,
        other => panic!("{other:?}"),
    }
}

fn listed(decoder: &mut Decoder, text: &str) -> Observation {
    match decoder.item(text.as_bytes(), "apps/v1", "Deployment", AT).unwrap() {
        Line::Applied(observation) => observation,
        other => panic!("{other:?}"),
    }
}

fn read(changes: &Value) -> Observation {
    applied(&mut decoder(), &object(changes).to_string())
}

#[test]
fn the_word_at_a_configured_field_is_read_and_nothing_else_there() {
    let at = |field: &str, status: &Value| {
        let mut decoder = decoder_with(|settings| {
            settings.kinds[0].converges =
                Some(ConvergesSettings { field: field.into(), ..ConvergesSettings::default() });
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

fn remarked(event: &Value) -> Option<KubernetesEvent> {
    let line = json!({"type": "ADDED", "object": event}).to_string();
    match decoder().line(line.as_bytes(), AT).unwrap() {
        Line::Remarked { resource_version: 9, remark } => remark,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_event_of_either_shape_says_the_same() {
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
    let remark = remarked(&old).unwrap();
    assert_eq!(remark.about, Uid::new("pod"));
    assert_eq!(remark.kind, GroupKind::new("", "Pod"));
    assert_eq!((&*remark.container, &*remark.component), ("setup", "kubelet"));
    assert_eq!((&*remark.message, remark.count), ("It is there.", 3));
    assert_eq!(remark.first, Timestamp::parse("2026-11-24T10:00:00Z").unwrap());
    assert_eq!(remark.last, Timestamp::parse("2026-11-24T10:00:09Z").unwrap());
    assert_eq!(Some(&remark), remarked(&new).as_ref());
    assert_eq!(Some(&remark), remarked(&mixed).as_ref());
    // The clock of the API server is that of changes; the reporter's may be behind.
    let mut behind = old.clone();
    behind["metadata"]["creationTimestamp"] = json!("2026-11-24T10:01:00Z");
    let behind = remarked(&behind).unwrap();
    assert_eq!((behind.first, behind.last), (behind.last, behind.first));
    assert_eq!(behind.first, Timestamp::parse("2026-11-24T10:01:00Z").unwrap());
}

#[test]
fn an_event_is_cut_and_one_about_nobody_says_nothing() {
    let event = |changes: Value| {
        let mut event = json!({"apiVersion": "v1", "kind": "Event",
            "metadata": {"name": "e", "uid": "event", "resourceVersion": "9"}});
        merge(&mut event, &changes);
        remarked(&event)
    };
    let about = json!({"kind": "Pod", "uid": "pod"});
    assert_eq!(event(json!({})), None);
    assert_eq!(event(json!({"regarding": 7, "count": "x"})), None);
    assert_eq!(event(json!({"regarding": {"kind": "Pod"}})), None);
    let remark = event(json!({"regarding": about, "note": "x".repeat(5000), "type": 7,
        "reason": ["x"], "series": {"count": -7}, "eventTime": "soon"}));
    let remark = remark.unwrap();
    assert_eq!((remark.message.len(), remark.count, remark.first), (256, 1, AT));
}

#[test]
fn body_is_read_when_something_but_status_differs() {
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
fn deleted_object_comes_with_its_body_and_a_forgotten_one_is_read_again() {
    let mut decoder = decoder();
    let text = object(&json!({})).to_string();
    applied(&mut decoder, &text);
    let line = format!("{{\"type\":\"DELETED\",\"object\":{text}}}");
    let Line::Deleted(deleted) = decoder.line(line.as_bytes(), AT).unwrap() else {
        panic!("not deleted")
    };
    assert!(deleted.body.is_some());
    assert!(applied(&mut decoder, &text).body.is_none(), "it may only have left a selector");
    decoder.forget(&Uid::new("u1"));
    assert!(applied(&mut decoder, &text).body.is_some());
}

#[test]
fn objects_absent_from_a_list_are_forgotten() {
    let mut decoder = decoder();
    let named = |uid| object(&json!({"metadata": {"uid": uid}})).to_string();
    listed(&mut decoder, &named("a"));
    applied(&mut decoder, &named("b"));
    decoder.list_ended();
    assert!(listed(&mut decoder, &named("a")).body.is_none());
    decoder.list_ended();
    assert!(applied(&mut decoder, &named("a")).body.is_none());
    assert!(applied(&mut decoder, &named("b")).body.is_some());
}

#[test]
fn what_a_resumed_watch_read_before_its_first_list_is_forgotten_with_the_second_at_the_latest() {
    let mut decoder = decoder();
    let named = |uid| object(&json!({"metadata": {"uid": uid}})).to_string();
    for uid in ["a", "b"] {
        assert!(applied(&mut decoder, &named(uid)).body.is_some());
    }
    for _ in 0..2 {
        assert!(listed(&mut decoder, &named("a")).body.is_none());
        decoder.list_ended();
    }
    assert!(applied(&mut decoder, &named("a")).body.is_none());
    assert!(applied(&mut decoder, &named("b")).body.is_some());
}

fn at(time: &str) -> Timestamp {
    Timestamp::parse(&format!("2026-11-24T{time}Z")).unwrap()
}

/// When it was written, read at eleven.
fn written(decoder: &mut Decoder, metadata: &Value) -> Option<Timestamp> {
    let object = object(&json!({ "metadata": metadata }));
    let line = json!({"type": "MODIFIED", "object": object}).to_string();
    match decoder.line(line.as_bytes(), at("11:00:00")).unwrap() {
        Line::Applied(now) => now.written,
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn what_was_written_last_of_an_object_is_when_it_was_written() {
    let mut decoder = decoder();
    let by = |time: &str| json!({"manager": "m", "time": format!("2026-11-24T{time}Z")});
    let managers = json!([by("10:02:00"), by("10:05:00"), {"manager": "n"}, by("10:03:00")]);
    let going = |time: &str| {
        json!({"managedFields": managers, "deletionGracePeriodSeconds": 30,
            "deletionTimestamp": format!("2026-11-24T{time}Z")})
    };
    let cases = [
        (json!({}), "10:00:00"),
        (json!({ "managedFields": managers }), "10:05:00"),
        (going("10:06:00"), "10:05:30"),
        (going("10:04:00"), "10:05:00"),
    ];
    for (metadata, expected) in cases {
        assert_eq!(written(&mut decoder, &metadata), Some(at(expected)), "{metadata}");
    }
    assert_eq!(written(&mut decoder, &json!({"creationTimestamp": null})), None);
}

#[test]
fn what_may_be_a_backlog_is_dated_until_a_list_ends_a_bookmark_or_news() {
    let old = json!({});
    let mut decoder = decoder();
    let mut is_dated = |end: &mut dyn FnMut(&mut Decoder)| {
        decoder.dates();
        assert!(written(&mut decoder, &old).is_some() && written(&mut decoder, &old).is_some());
        end(&mut decoder);
        written(&mut decoder, &old).is_some()
    };
    let created = |time: &str| json!({"creationTimestamp": format!("2026-11-24T{time}Z")});
    let bookmark = br#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}"#;
    assert!(!is_dated(&mut Decoder::list_ended));
    assert!(!is_dated(&mut |decoder| drop(decoder.line(bookmark, AT).unwrap())));
    assert!(!is_dated(&mut |decoder| assert!(written(decoder, &created("10:59:59")).is_some())));
    assert!(is_dated(&mut |decoder| assert!(written(decoder, &created("10:59:58")).is_some())));
    let mut first = self::decoder();
    assert!(written(&mut first, &old).is_some());
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
fn bodies_carry_what_links_and_changes_are_made_from() {
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
        "initContainerStatuses": [{"name": "i", "ready": true, "started": false}],
        "containerStatuses": [{"name": "c", "restartCount": 4,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "x".repeat(999)}},
            "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}}}]}}));
    let containers = applied(&mut decoder, &pod.to_string()).status.containers;
    assert!(containers[0].init && containers[0].ready);
    let (reason, message) = containers[1].waiting.clone().unwrap();
    assert_eq!((&*reason, message.len(), containers[1].restarts), ("CrashLoopBackOff", 256, 4));
    let terminated = Terminated { exit_code: 1, reason: "Error".into(), ..Terminated::default() };
    assert_eq!(containers[1].last_terminated, Some(terminated));
}

#[test]
fn fields_of_wrong_types_are_absent() {
    let strange = read(&json!({
        "metadata": {"generation": "three", "resourceVersion": 7, "labels": [1], "finalizers": {},
            "annotations": "none", "ownerReferences": "me", "deletionTimestamp": "yesterday",
            "creationTimestamp": "9999-99-99T99:99:99Z"},
        "spec": {"replicas": "two", "template": [[]], "updateStrategy": 3},
        "status": {"observedGeneration": "3", "conditions": {"type": "Ready"}, "replicas": 1.5,
            "containerStatuses": [7, {"name": []}], "loadBalancer": "none", "phase": 4},
    }));
    assert_eq!((strange.generation, strange.resource_version), (None, 0));
    assert_eq!(strange.status.observed_generation, None);
    assert!(strange.status.conditions.is_empty() && strange.status.containers.is_empty());
    let body = strange.body.unwrap();
    assert!(body.owners.is_empty() && body.deletion.is_none() && body.created.is_none());
    assert_eq!(body.spec.replicas, None);
}

#[test]
fn strange_conditions_leave_the_good_ones() {
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
fn ten_thousand_levels_fail_nothing_wherever_they_are() {
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
fn object_of_a_megabyte_and_a_half_is_read() {
    let observation = read(&json!({"spec": {"blob": "x".repeat(1_500_000)}}));
    assert!(observation.body.is_some());
}

#[test]
fn broken_text_is_mended() {
    let text = object(&json!({"metadata": {"annotations": {"a": "@"}}})).to_string();
    for broken in [&b"\xff\xfe"[..], b"\0\x01", br"\ud800", br"\\\udfff\u0000", b"\xed\xa0\x80"] {
        let mut line = b"{\"type\":\"ADDED\",\"object\":".to_vec();
        let (head, tail) = text.split_once('@').unwrap();
        line.extend([head.as_bytes(), broken, tail.as_bytes(), b"}"].concat());
        let event = decoder().line(&line, AT).unwrap();
        assert!(matches!(event, Line::Applied(_)), "{broken:?}");
    }
    assert_eq!(mended("a\\\\ud800"), "a\\\\ud800");
}

#[test]
fn duplicate_keys_count_once_and_the_last_wins() {
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
fn annotations_of_a_quarter_megabyte_are_cut() {
    let key = "tracing.k8s.io/traceparent";
    let body = read(&json!({"metadata": {"annotations": {key: "é".repeat(131_072)}}})).body;
    let carrier = body.unwrap().carrier.unwrap();
    assert_eq!(carrier.traceparent.len(), 256);
}

#[test]
fn thousand_owners_are_not_all_read() {
    let owner = json!({"apiVersion": "v1", "kind": "K", "name": "n", "uid": "u"});
    let owners = vec![owner; 1000];
    let body = read(&json!({"metadata": {"ownerReferences": owners}})).body.unwrap();
    assert_eq!(body.owners.len(), 64);
}

#[test]
fn only_a_nameless_object_or_no_json_is_undecodable() {
    let mut decoder = decoder();
    let mut read = |line: &str| decoder.line(line.as_bytes(), AT);
    let nameless = r#"{"type":"ADDED","object":{"metadata":{"name":"a"}}}"#;
    assert!(matches!(read(nameless), Err(DecodeError::Without(_))));
    let wrong = r#"{"type":"ADDED","object":{"metadata":[{"name":"a","uid":"u"}]}}"#;
    assert!(matches!(read(wrong), Err(DecodeError::Without(_))));
    for text in ["", "{", "[1", r#"{"type":"ADDED","object":{"metadata":"#] {
        assert!(matches!(read(text), Err(DecodeError::NotJson(_))), "{text}");
    }
}

#[test]
fn bookmarks_and_errors_are_told_apart() {
    let mut decoder = decoder();
    let mut read = |line: &str| decoder.line(line.as_bytes(), AT).unwrap();
    let bookmark = r#"{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":
        "9","creationTimestamp":null@},"spec":{"containers":null},"status":{}}}"#;
    let plain = Line::Bookmark { resource_version: 9, ends_list: false };
    assert_eq!(read(&bookmark.replace('@', "")), plain);
    let end = bookmark.replace('@', r#","annotations":{"k8s.io/initial-events-end":"true"}"#);
    assert_eq!(read(&end), Line::Bookmark { resource_version: 9, ends_list: true });
    let error = r#"{"type":"ERROR","object":{"kind":"Status","message":"old","code":410}}"#;
    let gone = ApiError { code: 410, message: "old".into() };
    assert_eq!(read(error), Line::Error(Box::new(gone)));
    let note = decoder.line(br#"{"type":"NOTE","object":{}}"#, AT);
    assert!(matches!(note, Err(DecodeError::UnknownType)));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut decoder = decoder();
        drop(decoder.line(&bytes, AT));
        drop(decoder.item(&bytes, "apps/v1", "Deployment", AT));
    }

    #[test]
    fn no_json_in_any_place_makes_an_object_fail(
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
        prop_assert!(decoder().item(object.to_string().as_bytes(), "apps/v1", "Deployment", AT).is_ok());
    }

    #[test]
    fn json_cut_anywhere_never_panics(at in 0_usize..400, with in any::<u8>()) {
        let text = object(&json!({"status": {"conditions": [{"type": "Ready"}]}})).to_string();
        let mut bytes = format!("{{\"type\":\"ADDED\",\"object\":{text}}}").into_bytes();
        let at = at.min(bytes.len() - 1);
        bytes[at] = with;
        drop(decoder().line(&bytes, AT));
        drop(decoder().line(&bytes[..at], AT));
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
