//! Values are exported where configuration allows it; redacted fields export neither values nor names.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Value, json};
use spanlink::{
    config::settings::WatchSettings,
    daemon::rules,
    trace::{
        model::{span::Span, time::Timestamp},
        rules::Rules,
        tracer::Tracer,
    },
    watch::recording::{Recorded, Recording, RecordingWriter},
};

use crate::{
    control_plane::{shared, until},
    live::{SOON, beside, deployment, stamp, tag},
    recorder::Recorder,
    scenarios::{configured, replayed, settings},
    span_tree::attribute,
    written::{History, going, merged, object},
};

/// One line for each change: the names of its changed fields, then the exported values.
fn disclosed(spans: &[Span]) -> String {
    let mut text = String::new();
    for span in spans.iter().filter(|span| attribute(span, "spanlink.change.scope").is_some()) {
        let of = |name: &str| attribute(span, &format!("spanlink.change.{name}"));
        let fields = of("fields").unwrap_or_default();
        let by = of("manager").map_or_else(String::new, |by| format!(" by {by}"));
        let values = of("values").map_or_else(String::new, |values| format!(" [{values}]"));
        text.extend([format!("{}: {{{fields}{by}}}{values}", span.name), "\n".to_owned()]);
    }
    text
}

fn check(history: &History, configuration: &str, expected: &Expect) {
    let spans = history.spans(&rules(&settings(configuration)), configuration);
    expected.assert_eq(&disclosed(&spans));
}

fn widget(generation: i64, changes: &Value) -> Value {
    let of = json!({
        "metadata": {"generation": generation},
        "spec": {
            "size": 1, "on": true, "note": "short", "nothing": null, "words": ["a", "b"],
            "parts": [{"name": "door", "image": "door:1"}, {"name": "roof", "image": "roof:1"}],
        },
    });
    merged(&merged(&object("Widget", "w"), &of), changes)
}

#[test]
fn update_exports_values_of_allowed_fields_that_changed_and_create_exports_all_of_them() {
    let configuration = "watch:
  - kind: Widget.example.com
    values: [spec.size, spec.on, spec.nothing, spec.words, 'spec.parts[*].image']
";
    let parts = json!([{"name": "door", "image": "door:2"}, {"name": "roof", "image": "roof:1"}]);
    let changes = json!({"spec": {"size": 2, "note": "secret", "words": ["c"], "parts": parts}});
    let history = History::default()
        .added(&widget(1, &json!({})))
        .event("MODIFIED", &widget(2, &changes))
        .event("MODIFIED", &widget(3, &merged(&changes, &json!({"spec": {"on": false}}))))
        .event("MODIFIED", &going(&widget(3, &changes), &["a.io/x"]))
        .deleted(&widget(3, &changes));
    check(
        &history,
        configuration,
        &expect![[r#"
        create Widget: {} [spec.on=true, spec.parts[door].image=door:1, spec.parts[roof].image=roof:1, spec.size=1]
        update Widget: {spec.note, spec.parts[door].image, spec.size, spec.words} [spec.parts[door].image=door:2, spec.size=2]
        update Widget: {spec.on} [spec.on=false]
        delete Widget: {}
    "#]],
    );
    check(
        &history,
        "",
        &expect![[r#"
        create Widget: {}
        update Widget: {spec.note, spec.parts[door].image, spec.size, spec.words}
        update Widget: {spec.on}
        delete Widget: {}
    "#]],
    );
}

#[test]
fn long_value_is_truncated_and_copies_of_the_whole_object_are_never_exported() {
    let configuration = "watch:
  - kind: Widget.example.com
    values: [spec, metadata.annotations, metadata.labels]
    include_labels: [team]
    include_annotations: [kubectl.kubernetes.io/last-applied-configuration]
";
    let last_applied = json!({"kubectl.kubernetes.io/last-applied-configuration": "canary"});
    let copies = json!({
        "metadata": {"annotations": last_applied, "labels": {"team": "red"}},
        "spec": {
            "note": "ä".repeat(300), "parts": [],
            "template": {"metadata": {"annotations": last_applied}},
        },
    });
    let history = History::default().added(&widget(1, &copies));
    let spans = history.spans(&rules(&settings(configuration)), configuration);
    let text = disclosed(&spans);
    assert!(!text.contains("canary"), "{text}");
    assert_eq!(text.matches('ä').count(), 256, "{text}");
    assert!(text.contains("metadata.labels[team]=red"), "{text}");
}

#[test]
fn at_most_32_fields_are_exported_with_their_values() {
    let configuration = "watch: [{kind: Widget.example.com, values: [spec]}]\n";
    let many = |value: u8| {
        let fields = (0..40).map(|number| (format!("f{number}"), json!(value)));
        json!({"spec": fields.collect::<serde_json::Map<_, _>>()})
    };
    let history =
        History::default().added(&widget(1, &many(1))).event("MODIFIED", &widget(2, &many(2)));
    let spans = history.spans(&rules(&settings(configuration)), configuration);
    let count =
        |span: &Span, key: &str| attribute(span, key).map_or(0, |all| all.split(", ").count());
    let counted = |span: &Span| {
        (count(span, "spanlink.change.fields"), count(span, "spanlink.change.values"))
    };
    let of = |name: &str| spans.iter().find(|span| &*span.name == name).map(counted);
    assert_eq!(of("create Widget"), Some((0, 32)));
    assert_eq!(of("update Widget"), Some((32, 32)));
}

#[test]
fn values_of_secrets_are_never_exported() {
    let configuration = "watch: [{kind: Secret, values: [data, stringData, type]}]\n";
    let secret = |password: &str| {
        let mut secret = object("Secret", "s");
        secret["apiVersion"] = json!("v1");
        merged(&secret, &json!({"type": "Opaque", "data": {"password": password}}))
    };
    let history =
        History::default().added(&secret("canary")).event("MODIFIED", &secret("canary-2"));
    check(
        &history,
        configuration,
        &expect![[r#"
        create Secret: {}
        update Secret: {data.password}
    "#]],
    );
}

#[test]
fn redacted_field_is_exported_as_its_configured_path_with_its_field_manager() {
    let configuration = "redact: ['spec.parts[*].env', spec.credentials]
watch:
  - kind: Widget.example.com
    values: [spec]
    redact: [spec.credentials.deeper, 'metadata.labels[team]']
    include_labels: [team]
";
    let secrets = |size: i64, value: &str| {
        let env = json!([{"name": format!("NAME_{value}"), "value": value}, {"name": "OTHER"}]);
        json!({
            "metadata": {
                "labels": {"team": value},
                "managedFields": [{
                    "manager": "a-person", "operation": "Update", "time": "2026-11-24T10:00:00Z",
                    "fieldsV1": {"f:spec": {"f:credentials": {"f:user": {}, "f:password": {}}}},
                }],
            },
            "spec": {
                "size": size,
                "credentials": {"user": value, "password": value, "deeper": {"still": value}},
                "parts": [{"name": "door", "image": "door:1", "env": env}],
            },
        })
    };
    let history = History::default()
        .added(&widget(1, &secrets(1, "canary-1")))
        .event("MODIFIED", &widget(2, &secrets(1, "canary-2")))
        .event("MODIFIED", &widget(3, &secrets(2, "canary-2")));
    check(
        &history,
        configuration,
        &expect![[r#"
        create Widget: { by a-person} [spec.note=short, spec.on=true, spec.parts[door].image=door:1, spec.parts[door].name=door, spec.size=1]
        update Widget: {spec.credentials, spec.parts[*].env, metadata.labels[team] by a-person}
        update Widget: {spec.size} [spec.size=2]
    "#]],
    );
}

/// Redacts every place in which [`with_secrets`] puts a secret.
const REDACTED: &str = "redact: [data, spec.secret, 'spec.parts[*].env', 'spec.list[*]',
  'spec.mounts[door]', 'metadata.annotations[example.com/secret]']
watch:
  - {kind: Widget.example.com, values: [spec, data, metadata.annotations],
     include_annotations: [example.com/secret]}
  - {kind: Secret, values: [data], redact: [stringData]}
";

fn with_secrets(kind: &str, at: &[String]) -> Value {
    let [data, secret, annotation, listed, name, value] = at else { unreachable!("six of them") };
    let last_applied = json!({"data": {"k": data}, "spec": {"secret": secret}}).to_string();
    let copied = json!({"kubectl.kubernetes.io/last-applied-configuration": last_applied});
    let annotations = merged(&copied, &json!({"example.com/secret": annotation}));
    let item = |name: &str| format!("k:{{\"name\":\"{name}\"}}");
    let changes = json!({
        "metadata": {"annotations": annotations, "managedFields": [{
            "manager": "m", "operation": "Update", "time": "2026-11-24T10:00:00Z",
            "fieldsV1": {
                "f:data": {format!("f:{data}"): {}},
                "f:spec": {
                    "f:secret": {format!("f:{secret}"): {}},
                    "f:list": {format!("v:\"{listed}\""): {}, ".": {}},
                    "f:parts": {item("door"): {"f:env": {item(name): {"f:value": {}}}}},
                    // The field set identifies the item by another field than the path does.
                    "f:mounts": {format!("k:{{\"mountPath\":\"{name}\"}}"): {".": {}}},
                },
            },
        }]},
        "data": {data: data},
        "spec": {
            "secret": {secret: {"deep": [secret]}},
            "list": [listed, {"name": listed}],
            "parts": [{"name": "door", "env": [{"name": name, "value": value}]}],
            "mounts": [{"name": "door", "mountPath": name}],
            "template": {"metadata": {"annotations": copied},
                "spec": {"containers": [{"name": "web", "env": []}]}},
        },
    });
    let mut object = object(kind, "w");
    if kind == "Secret" {
        object["apiVersion"] = json!("v1");
        object["stringData"] = json!({value: value});
    }
    merged(&object, &changes)
}

/// The recording that `spanlink record` writes.
fn recorded(objects: &[(&str, Value)], settings: &Arc<WatchSettings>) -> String {
    let mut text = Vec::new();
    let mut writer = RecordingWriter::new(&mut text, settings);
    for (at, (kind, object)) in (1_i64..).zip(objects) {
        let at = Timestamp::from_nanos(at * 1_000_000_000);
        let object = object.to_string();
        let line = Recorded::Event { kind, object: object.as_bytes() };
        writer.write("widgets", at, line).unwrap();
    }
    String::from_utf8(text).unwrap()
}

/// Everything that the checkpoint contains after any event, as text.
fn checkpoint_text(recording: &Path, rules: Rules, settings: &Arc<WatchSettings>) -> String {
    let recording = Recording::open(recording).unwrap();
    let mut tracer = Tracer::new(rules, "");
    tracer.start_checkpoints(0);
    for (_, watch) in recording.watches() {
        tracer.open_empty(watch.id, watch.watched.clone(), recording.start().unwrap());
    }
    let mut kept = String::new();
    let on_event = |id, event| {
        tracer.process(id, event);
        for entry in tracer.checkpoint() {
            let parts = [Some(entry.key), entry.value].into_iter().flatten();
            kept.extend(parts.map(|part| String::from_utf8_lossy(&part).into_owned()));
        }
    };
    recording.play(settings, on_event, |line, error| unreachable!("{line}: {error}")).unwrap();
    kept
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Secrets occur neither as values nor as names in spans, checkpoints, recordings and the
    /// replays of recordings.
    #[test]
    fn secrets_are_never_exported_recorded_or_stored(
        before in prop::collection::vec("canary[a-z]{3}", 6),
        after in prop::collection::vec("canary[a-z]{3}", 6),
        kind in prop::sample::select(vec!["Widget", "Secret"]),
    ) {
        let version_of = |generation: i64, secrets: &[String]| {
            let version = json!({"metadata": {
                "generation": generation, "resourceVersion": generation.to_string(),
            }});
            merged(&with_secrets(kind, secrets), &version)
        };
        let (one, two) = (version_of(1, &before), version_of(2, &after));
        let history = History::default().added(&one).event("MODIFIED", &two).deleted(&two);
        let spans = history.spans(&rules(&settings(REDACTED)), REDACTED);
        let text = format!("{spans:?}");
        prop_assert!(!text.contains("canary"), "{}", text);
        let changed = disclosed(&spans);
        prop_assert!(before[0] == after[0] || changed.contains("{data"), "{}", changed);
        let plain = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
        fs::write(plain.path(), history.text()).unwrap();
        let kept = checkpoint_text(plain.path(), rules(&settings(REDACTED)), &configured(REDACTED));
        prop_assert!(kept.contains("shop") && !kept.contains("canary"), "{}", kept);

        let objects = [("ADDED", one), ("MODIFIED", two.clone()), ("DELETED", two)];
        let text = recorded(&objects, &configured(REDACTED));
        prop_assert!(!text.contains("canary"), "{}", text);
        let file = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
        fs::write(file.path(), text).unwrap();
        let replayed = replayed(file.path(), &rules(&settings(REDACTED)), &configured(REDACTED));
        prop_assert_eq!(replayed.len(), spans.len());
        let has_changed = disclosed(&replayed).contains("{data");
        prop_assert!(before[0] == after[0] || has_changed);
    }
}

#[tokio::test]
async fn jaeger_and_recordings_have_allowed_values_and_no_redacted_ones() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("disclosed").await?;
    let data = tempfile::tempdir()?;
    let configuration = format!(
        "data_dir: {}\nsettle: 500ms\nredact: ['spec.template.spec.containers[*].env', data]\nwatch:\n  \
         - {{kind: Deployment.apps, namespaces: [{namespace}], \
         values: [spec.replicas, 'spec.template.spec.containers[*].image']}}\n  \
         - {{kind: ConfigMap, namespaces: [{namespace}], values: [data]}}\n",
        data.path().display()
    );
    let kinds = ["Deployment.apps", "ConfigMap"];
    let recorder = Recorder::begin_with(plane, &namespace, &kinds, &configuration).await?;
    let _daemon = beside(plane, &configuration).await?;
    let mut object: Value = serde_json::from_str(&deployment(&namespace, &stamp(), 1, &json!({})))?;
    let env = json!([{"name": "CANARY_NAME", "value": "canary-value"}]);
    object["spec"]["template"]["spec"]["containers"][0]["env"] = env;
    plane.apply(&object.to_string()).await?;
    object["spec"]["replicas"] = json!(2);
    object["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:2");
    object["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] = json!("canary-2");
    plane.apply(&object.to_string()).await?;
    let map = |value: &str| {
        let metadata = json!({"name": "m", "namespace": namespace});
        let data = json!({"canary-key": value});
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    };
    plane.apply(&map("canary-3").to_string()).await?;
    plane.apply(&map("canary-4").to_string()).await?;

    let jaeger = plane.jaeger()?;
    let text = until("all changes", SOON, async || {
        let mut text = BTreeMap::new();
        for service in ["deployment-controller", "spanlink"] {
            for trace in jaeger.find(service, &[("k8s.namespace.name", &namespace)]).await? {
                ensure!(!trace.to_string().to_lowercase().contains("canary"), "{trace:#}");
                for span in trace["spans"].as_array().context("no spans")? {
                    let (fields, values) =
                        (tag(span, "spanlink.change.fields"), tag(span, "spanlink.change.values"));
                    let name = span["operationName"].as_str().unwrap_or_default().to_owned();
                    if name.starts_with("create") || name.starts_with("update") {
                        text.insert(name, format!("{fields} {values}"));
                    }
                }
            }
        }
        let is_there = |name: &str| text.contains_key(name);
        ensure!(is_there("update Deployment") && is_there("update ConfigMap"), "{text:#?}");
        Ok(text)
    })
    .await?;
    expect![[r#"
        {
            "create ConfigMap": " ",
            "create Deployment": " [\"spec.replicas=1\",\"spec.template.spec.containers[web].image=web:1\"]",
            "update ConfigMap": "[\"data\"] ",
            "update Deployment": "[\"spec.replicas\",\"spec.template.spec.containers[*].env\",\"spec.template.spec.containers[web].image\"] [\"spec.replicas=2\",\"spec.template.spec.containers[web].image=web:2\"]",
        }
    "#]].assert_debug_eq(&text);
    let text = until("all changes to be recorded", SOON, async || {
        let lines = recorder.lines()?;
        let updated = lines
            .iter()
            .any(|line| line["object"]["kind"] == "ConfigMap" && line["type"] == "MODIFIED");
        ensure!(updated, "not yet");
        Ok(serde_json::to_string(&lines)?)
    })
    .await?;
    assert!(!text.to_lowercase().contains("canary"), "{text}");
    assert!(text.contains("\"env\":\"hidden:"), "{text}");
    let kept = fs::read(data.path().join("spanlink.redb"))?;
    let kept = String::from_utf8_lossy(&kept).to_lowercase();
    assert!(kept.contains(&namespace) && !kept.contains("canary"));
    Ok(())
}
