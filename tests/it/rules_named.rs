//! The attribute that names the rule which gave a change its cause.

use serde_json::{Value, json};
use spanlink::trace::{
    model::span::{Role, Span},
    rules::Rules,
};

use crate::{
    scenarios::{scenarios, spans_of},
    span_tree::attribute,
    written::{History, annotated, merged, object, owned},
};

fn deployment(generation: i64, image: &str, digit: char) -> Value {
    let mut web = object("Deployment", "web");
    web["apiVersion"] = json!("apps/v1");
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"image": image}});
    let spec = json!({"replicas": generation, "template": template});
    annotated(&merged(&web, &json!({"metadata": {"generation": generation}, "spec": spec})), digit)
}

fn replicaset(name: &str, image: &str, digit: char) -> Value {
    let labels = json!({"app": "web", "pod-template-hash": name});
    let template = json!({"metadata": {"labels": labels}, "spec": {"image": image}});
    let named = json!({
        "apiVersion": "apps/v1",
        "metadata": {"name": name, "uid": name, "generation": 1},
        "spec": {"replicas": 1, "template": template},
    });
    let set = merged(&object("ReplicaSet", name), &named);
    annotated(&owned(&set, &[(&deployment(1, "a", '1'), true)]), digit)
}

/// The rule of an object's change, with a mark where it was ambiguous.
fn rule(spans: &[Span], name: &str) -> String {
    let mut changes = spans.iter().filter(|span| span.role == Role::Change);
    let change = changes.find(|span| *span.object.name == *name).unwrap();
    let rule = attribute(change, "spanlink.cause.rule").unwrap_or_else(|| "none".to_owned());
    match attribute(change, "spanlink.cause.ambiguous") {
        Some(_) => format!("{rule}, ambiguous"),
        None => rule,
    }
}

#[test]
fn rule_is_named_and_is_ambiguous_where_two_changes_in_flight_fit_alike() {
    let spans = History::default()
        .added(&deployment(1, "a", '1'))
        .event("MODIFIED", &deployment(2, "b", '2'))
        .event("MODIFIED", &deployment(3, "b", '3'))
        .event("MODIFIED", &deployment(4, "c", '4'))
        .added(&replicaset("one-agrees-in-both", "b", '2'))
        .added(&replicaset("two-agree-in-template", "b", '9'))
        .added(&replicaset("one-agrees-in-context", "d", '4'))
        .added(&replicaset("none-agrees", "d", '9'))
        .spans(&Rules::default(), "");
    assert_eq!(rule(&spans, "one-agrees-in-both"), "template");
    assert_eq!(rule(&spans, "two-agree-in-template"), "template, ambiguous");
    assert_eq!(rule(&spans, "one-agrees-in-context"), "context");
    assert_eq!(rule(&spans, "none-agrees"), "newest, ambiguous");
    assert_eq!(rule(&spans, "web"), "none");
}

#[test]
fn every_caused_change_of_the_recordings_names_its_rule_and_no_head_does() {
    for scenario in scenarios() {
        let spans = spans_of(&scenario, &Rules::default());
        for span in spans.iter().filter(|span| span.role == Role::Change) {
            let is_named = span.attribute("spanlink.cause.rule").is_some();
            assert_eq!(is_named, span.parent.is_some(), "{}: {span:?}", scenario.display());
        }
    }
}
