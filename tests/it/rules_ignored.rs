//! Claims about changes that the configuration or an annotation ignores.

use std::collections::HashSet;

use expect_test::expect;
use serde_json::{Value, json};
use spanlink::trace::{
    model::object::GroupKind,
    rules::{Ignore, KindRules, Rules},
};

use crate::{
    rules_contexts::{deployment, origins},
    written::{History, merged, object, owned},
};

/// Rules under which changes of a Deployment's replicas are ignored.
fn ignoring_replicas() -> Rules {
    let ignore = Ignore { fields: vec!["spec.replicas".into()], managers: Vec::new() };
    let of_kind = KindRules { ignore, ..KindRules::default() };
    let kinds = [(GroupKind::new("apps", "Deployment"), of_kind)].into();
    Rules { kinds, ..Rules::default() }
}

#[test]
fn change_of_more_than_the_ignored_fields_is_reported() {
    let history = History::default()
        .added(&deployment(1, "a", 1))
        .event("MODIFIED", &deployment(2, "a", 2))
        .event("MODIFIED", &deployment(3, "b", 3));
    expect![[r#"
        create Deployment g1 of none
        update Deployment g3 of none
    "#]]
    .assert_eq(&origins(&history, &ignoring_replicas()));
}

#[test]
fn ignored_field_hides_no_other_change() {
    let widget = |generation: i64, spec: Value| {
        let generation = json!({"metadata": {"generation": generation}, "spec": spec});
        merged(&object("Widget", "w"), &generation)
    };
    let many = |value: i64| -> Value {
        (0..40)
            .map(|at| (format!("of{at}"), json!(value)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let has_update = |before: Value, after: Value| {
        let history =
            History::default().added(&widget(1, before)).event("MODIFIED", &widget(2, after));
        let configuration =
            "watch: [{kind: Widget.example.com, ignore: {fields: [spec.many, spec.replicas]}}]";
        let rules = spanlink::daemon::rules(&crate::scenarios::settings(configuration));
        let spans = history.spans(&rules, configuration);
        spans.iter().any(|span| &*span.name == "update Widget")
    };
    // More fields than a span names.
    assert!(!has_update(json!({"many": many(1), "size": 1}), json!({"many": many(2), "size": 1})));
    assert!(has_update(json!({"many": many(1), "size": 1}), json!({"many": many(2), "size": 2})));
    // Removed from where something else changed.
    assert!(has_update(json!({"replicas": 1, "size": 1}), json!({"replicas": 2})));
    assert!(has_update(json!({"many": {"a": 1, "b": 1}, "size": 1}), json!({"many": {"b": 1}})));
    assert!(!has_update(json!({"many": {"a": 1, "b": 1}}), json!({"many": {"b": 2}})));
    assert!(!has_update(json!({"size": 1}), json!({"replicas": 2, "size": 1})));
}

#[test]
fn ignored_changes_are_not_linked() {
    let rules = ignoring_replicas();
    let web = |generation, image, replicas| {
        let metadata = json!({"metadata": {"managedFields": [
            {"manager": "kubectl", "operation": "Update", "time": "2026-11-24T10:00:00Z",
             "fieldsV1": {"f:spec": {}}}]}});
        merged(&deployment(generation, image, replicas), &metadata)
    };
    let set = |generation: i64, replicas: i64, manager: &str| {
        let of = owned(&object("ReplicaSet", "web"), &[(&web(1, "a", 1), true)]);
        let references = format!("k:{{\"uid\":{}}}", web(1, "a", 1)["metadata"]["uid"]);
        merged(
            &of,
            &json!({
                "apiVersion": "apps/v1",
                "metadata": {"generation": generation, "managedFields": [
                    {"manager": "controller", "operation": "Update", "time": "2026-11-24T10:00:00Z",
                     "fieldsV1": {"f:metadata": {"f:ownerReferences": {references: {}}}}},
                    {"manager": manager, "operation": "Update", "time": "2026-11-24T10:00:00Z",
                     "fieldsV1": {"f:spec": {"f:replicas": {}}}}]},
                "spec": {"replicas": replicas, "template": {"spec": {"image": "a"}}},
            }),
        )
    };
    let done = json!({"status": {
        "observedGeneration": 1, "replicas": 1, "readyReplicas": 1, "availableReplicas": 1,
        "updatedReplicas": 1, "fullyLabeledReplicas": 1,
        "conditions": [{"type": "Available", "status": "True"}],
    }});
    let spans = History::default()
        .added(&web(1, "a", 1))
        .added(&set(1, 1, "controller"))
        .modified(&set(1, 1, "controller"), &done)
        .modified(&web(1, "a", 1), &done)
        .later(20)
        .event("MODIFIED", &web(2, "a", 3))
        .event("MODIFIED", &set(2, 3, "controller"))
        // A change by a person, and a change that follows from an exported one.
        .event("MODIFIED", &set(3, 4, "kubectl"))
        .event("MODIFIED", &web(3, "b", 3))
        .event("MODIFIED", &set(4, 2, "controller"))
        .spans(&rules, "");
    let exported: HashSet<_> = spans.iter().map(|span| span.span_id).collect();
    let links: Vec<_> = spans.iter().flat_map(|span| &span.links).collect();
    assert!(links.iter().all(|link| exported.contains(&link.span_id)), "{links:?}");
    assert!(!links.is_empty());
}

#[test]
fn objects_in_an_ignored_namespace_are_ignored() {
    let mut namespace = object("Namespace", "shop");
    namespace["apiVersion"] = json!("v1");
    namespace["metadata"].as_object_mut().unwrap().remove("namespace");
    let off = json!({"metadata": {"annotations": {"spanlink.io/ignore": "true"}}});
    History::default()
        .listed("Namespace", &[&merged(&namespace, &off)])
        .listed("Widget", &[])
        .added(&object("Widget", "w"))
        .deleted(&object("Widget", "w"))
        .becomes(expect![[""]]);
}
