//! Kubernetes Events become span events of the change they are about, and change nothing else.

use std::{collections::BTreeSet, fs, sync::Arc};

use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Value, json};
use spanlink::{
    daemon::rules,
    replay::{ReplayScope, Replayed, replay},
    trace::{model::span::Span, rules::Rules, spans::output::TraceMetric},
};

use crate::{
    scenarios::{configured, replayed, scenarios, settings},
    span_tree,
    written::{History, current, merged, object},
};

/// A Kubernetes Event about `about`, as events.k8s.io/v1 serves it.
pub(crate) fn event(name: &str, about: &Value, changes: &Value) -> Value {
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"name": name, "namespace": "shop", "uid": name},
        "regarding": {
            "apiVersion": about["apiVersion"], "kind": about["kind"],
            "name": about["metadata"]["name"], "uid": about["metadata"]["uid"],
        },
        "reason": name, "note": format!("{name} it."), "type": "Normal",
        "reportingController": "widget-controller", "eventTime": null,
        "deprecatedFirstTimestamp": "2026-11-24T10:00:00Z",
        "deprecatedLastTimestamp": "2026-11-24T10:00:00Z", "deprecatedCount": 1,
    });
    merged(&event, changes)
}

/// A Kubernetes Event that is reported `second` seconds after 10:00.
fn event_at(name: &str, about: &Value, second: u32) -> Value {
    let time = format!("2026-11-24T10:00:{second:02}Z");
    let times = json!({"deprecatedFirstTimestamp": time, "deprecatedLastTimestamp": time});
    event(name, about, &times)
}

/// One line for each span event that stands for a Kubernetes Event.
pub(crate) fn span_events(spans: &[Span]) -> String {
    let mut text = String::new();
    for span in spans {
        for event in span.events.iter().filter(|event| event.name == "event") {
            let of = |key: &str| span_tree::find(&event.attributes, key).unwrap_or_default();
            let after = event.at.since(span.start).as_secs_f64();
            let line = format!(
                "{} {}: {} {} x{} after {after:.1}s by {} {}: {}",
                span.name,
                span.object.name,
                of("type"),
                of("reason"),
                of("count"),
                of("component"),
                of("container"),
                of("message"),
            );
            text.extend([line.replace(" :", ":").as_str(), "\n"]);
        }
    }
    text
}

fn has_span_events(history: &History, configuration: &str, expected: &Expect) {
    let spans = history.spans(&rules(&settings(configuration)), configuration);
    assert!(spans.iter().all(|span| &*span.object.kind.kind != "Event"), "{spans:#?}");
    expected.assert_eq(&span_events(&spans));
}

#[test]
fn repeated_kubernetes_event_is_one_span_event_with_its_count() {
    let widget = object("Widget", "w");
    let series = |count: i64, second: u32| {
        let time = format!("2026-11-24T10:00:{second:02}.000000Z");
        json!({"series": {"count": count, "lastObservedTime": time}})
    };
    let counted = json!({
        "deprecatedCount": 4, "deprecatedLastTimestamp": "2026-11-24T10:00:04Z",
        "note": "Fourth time.",
    });
    let waits = event("Waits", &widget, &json!({"type": "Warning"}));
    let of_container = json!({"regarding": {"fieldPath": "spec.containers{web}"}});
    let history = History::default()
        .added(&widget)
        .added(&event("Made", &widget, &of_container))
        .added(&waits)
        .added(&event("Tries", &widget, &json!({})))
        .later(2)
        .modified(&event("Tries", &widget, &json!({})), &series(2, 2))
        .later(2)
        .modified(&waits, &counted)
        .modified(&event("Tries", &widget, &json!({})), &series(7, 4))
        // The API server deletes Kubernetes Events after an hour; their deletion is ignored.
        .deleted(&waits)
        .modified(&widget, &current(1));
    has_span_events(
        &history,
        "",
        &expect![[r#"
        reconcile Widget w: Normal Made x1 after 0.1s by widget-controller web: Made it.
        reconcile Widget w: Warning Waits x4 after 0.2s by widget-controller: Fourth time.
        reconcile Widget w: Normal Tries x7 after 0.3s by widget-controller: Tries it.
    "#]],
    );
}

#[test]
fn events_of_the_core_api_become_the_same_span_events() {
    let widget = object("Widget", "w");
    let old = json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": "e", "namespace": "shop", "uid": "e"},
        "involvedObject": {
            "apiVersion": "example.com/v1", "kind": "Widget", "name": "w", "uid": "Widget-w",
        },
        "reason": "Made", "message": "Made it.", "type": "Normal", "count": 1,
        "source": {"component": "widget-controller"},
        "firstTimestamp": "2026-11-24T10:00:00Z", "lastTimestamp": "2026-11-24T10:00:00Z",
    });
    let history = History::default().added(&widget).added(&old).modified(&widget, &current(1));
    has_span_events(
        &history,
        "",
        &expect![[r#"
        reconcile Widget w: Normal Made x1 after 0.1s by widget-controller: Made it.
    "#]],
    );
}

#[test]
fn kubernetes_event_received_before_two_changes_is_on_one_of_them() {
    let widget = object("Widget", "w");
    let other = object("Widget", "other");
    let second = json!({"metadata": {"generation": 2}, "spec": {"size": 2}});
    let history = History::default()
        .added(&other)
        .event("MODIFIED", &other)
        .added(&event("Made", &widget, &json!({})))
        .late("ADDED", &widget, 1)
        .late("MODIFIED", &merged(&widget, &second), 2);
    let spans = history.spans(&Rules::default(), "");
    assert_eq!(span_events(&spans).lines().count(), 1, "{}", span_events(&spans));
}

#[test]
fn kubernetes_event_after_a_metadata_change_is_on_the_open_spec_change() {
    let widget = object("Widget", "w");
    let note = json!({"metadata": {"annotations": {"note": "1"}}});
    let history = History::default()
        .added(&widget)
        .later(1)
        .modified(&widget, &note)
        .later(1)
        .added(&event_at("Made", &widget, 2));
    has_span_events(
        &history,
        "watch: [{kind: Widget.example.com, events: true, include_annotations: [note]}]",
        &expect![[r#"
            reconcile Widget w: Normal Made x1 after 2.2s by widget-controller: Made it.
        "#]],
    );
}

#[test]
fn kubernetes_events_from_before_a_change_are_neither_reported_nor_counted() {
    let widget = object("Widget", "w");
    let grown = merged(&widget, &current(1));
    let grown = merged(&grown, &json!({"metadata": {"generation": 2}, "spec": {"size": 2}}));
    let early = event("Early", &widget, &json!({"deprecatedCount": 5}));
    let again = json!({"deprecatedCount": 7, "deprecatedLastTimestamp": "2026-11-24T10:00:31Z"});
    let history = History::default()
        .listed("Widget", &[&merged(&widget, &current(1))])
        .listed("Event", &[&early, &event_at("Old", &widget, 1)])
        .later(30)
        .event("MODIFIED", &grown)
        // A relist repeats all of them.
        .listed("Event", &[&early, &event_at("Old", &widget, 1), &event_at("New", &widget, 30)])
        .event("MODIFIED", &merged(&early, &again))
        .modified(&grown, &current(2));
    has_span_events(
        &history,
        "",
        &expect![[r#"
            reconcile Widget w: Normal New x1 after 0.3s by widget-controller: New it.
            reconcile Widget w: Normal Early x1 after 0.5s by widget-controller: Early it.
        "#]],
    );
}

#[test]
fn kubernetes_event_about_a_deletion_is_on_the_delete_span() {
    let mut pod = object("Pod", "p");
    pod["apiVersion"] = json!("v1");
    let deletion = json!({"metadata": {
        "generation": 2, "deletionTimestamp": "2026-11-24T10:00:11Z",
        "deletionGracePeriodSeconds": 1,
    }});
    let history = History::default()
        .added(&pod)
        .added(&event_at("Scheduled", &pod, 0))
        .later(10)
        .modified(&pod, &deletion)
        .added(&event_at("Killing", &pod, 10))
        .later(1)
        .deleted(&merged(&pod, &deletion))
        // The delete span has ended.
        .added(&event_at("Late", &pod, 11));
    has_span_events(
        &history,
        "",
        &expect![[r#"
        reconcile Pod p: Normal Scheduled x1 after 0.1s by widget-controller: Scheduled it.
        reconcile Pod p: Normal Killing x1 after 0.1s by widget-controller: Killing it.
    "#]],
    );
}

#[test]
fn kubernetes_event_received_before_its_change_is_on_that_change() {
    let widget = object("Widget", "w");
    let grown = merged(&widget, &current(1));
    let grown = merged(&grown, &json!({"metadata": {"generation": 2}, "spec": {"size": 2}}));
    let history = History::default()
        .late("ADDED", &event_at("Made", &widget, 0), 2)
        .late("ADDED", &widget, 1)
        .modified(&widget, &current(1))
        .later(20)
        .added(&event_at("Ago", &widget, 19))
        .later(1)
        // In the second of the change but before it; then after it, about another object and this one.
        .added(&event_at("Just", &widget, 21))
        .late("ADDED", &event_at("Elsewhere", &object("Widget", "other"), 21), 999)
        .late("ADDED", &event_at("Grows", &widget, 21), 999)
        .event("MODIFIED", &grown)
        .modified(&grown, &current(2));
    has_span_events(
        &history,
        "",
        &expect![[r#"
            reconcile Widget w: Normal Made x1 after 0.0s by widget-controller: Made it.
            reconcile Widget w: Normal Grows x1 after 0.0s by widget-controller: Grows it.
        "#]],
    );
}

#[test]
fn object_found_by_a_relist_has_its_earlier_kubernetes_events() {
    let widget = object("Widget", "w");
    let history = History::default()
        .listed("Widget", &[])
        .added(&event_at("Made", &widget, 0))
        // Its resourceVersion is that of its last write.
        .listed("Widget", &[&widget])
        .modified(&widget, &current(1));
    has_span_events(
        &history,
        "",
        &expect![[r#"
        reconcile Widget w: Normal Made x1 after 0.0s by widget-controller: Made it.
    "#]],
    );
}

#[test]
fn kinds_without_the_events_option_have_no_span_events() {
    let (widget, gadget) = (object("Widget", "w"), object("Gadget", "g"));
    let mut history = History::default();
    for object in [&widget, &gadget] {
        let name = object["kind"].as_str().unwrap();
        history = history.added(object).added(&event(&format!("Of{name}"), object, &json!({})));
        history = history.modified(object, &current(1));
    }
    let configuration = "watch:
  - {kind: \"*.example.com\"}
  - {kind: Gadget.example.com, events: true}
";
    let spans = configured_spans(&history, configuration);
    expect![[r#"
        reconcile Gadget g: Normal OfGadget x1 after 0.1s by widget-controller: OfGadget it.
    "#]]
    .assert_eq(&span_events(&spans));
}

/// The spans of the configured kinds, as with `replay --config`.
fn configured_spans(history: &History, configuration: &str) -> Vec<Span> {
    let file = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
    fs::write(file.path(), history.text()).unwrap();
    let settings = settings(configuration);
    let mut spans = Vec::new();
    let watch = Arc::new(settings.watch.clone());
    let on_replayed = |replayed: Replayed<'_>| spans.extend(replayed.output.spans);
    replay(file.path(), rules(&settings), &watch, ReplayScope::Configured, on_replayed).unwrap();
    spans
}

#[test]
fn span_has_at_most_32_events_and_keeps_its_conditions() {
    let widget = object("Widget", "w");
    let mut history = History::default().added(&widget);
    for number in 0..40 {
        history = history.added(&event(&format!("Number{number}"), &widget, &json!({})));
    }
    let spans = history.modified(&widget, &current(1)).spans(&Rules::default(), "");
    let events = spans.iter().map(|span| span.events.len()).collect::<Vec<_>>();
    assert_eq!(events.iter().sum::<usize>(), 32, "{events:?}");
    assert!(spans.iter().any(|span| span.events.iter().any(|event| event.name == "condition")));
}

/// The spans without the span events that stand for Kubernetes Events.
fn without_kubernetes_events(mut spans: Vec<Span>) -> Vec<Span> {
    for span in &mut spans {
        span.events.retain(|event| event.name != "event");
    }
    spans
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Kubernetes Events of any content at any time only add span events, at most one each.
    #[test]
    fn kubernetes_events_change_nothing_but_span_events(
        scenario in prop::sample::select(scenarios()),
        events in prop::collection::vec(
            (any::<prop::sample::Index>(), 0_u8..6, 1_i64..5, any::<bool>(), any::<bool>()), 1..60,
        ),
    ) {
        let text = fs::read_to_string(scenario.join("history.jsonl")).unwrap();
        let mut lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let plain = replayed(&scenario.join("history.jsonl"), &Rules::default(), &configured(""));
        for (place, number, count, is_old, is_listed) in events {
            let at = place.index(lines.len());
            let about = lines[at]["object"].clone();
            if about["metadata"]["uid"].is_null() {
                continue;
            }
            let time = lines[at]["at"].as_str().unwrap().to_owned();
            let mut event = event(&format!("Reason{number}"), &about, &json!({
                "deprecatedCount": count, "deprecatedLastTimestamp": time,
                "deprecatedFirstTimestamp": time,
            }));
            event["metadata"]["resourceVersion"] = about["metadata"]["resourceVersion"].clone();
            if is_old {
                event["metadata"]["creationTimestamp"] = json!("2020-01-01T00:00:00Z");
            }
            let kind = if is_listed { "LISTED" } else { "MODIFIED" };
            let watch = "events.events.k8s.io";
            lines.insert(
                at + 1,
                json!({"at": time, "watch": watch, "type": kind, "object": event}),
            );
        }
        let text = lines.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
        let file = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
        fs::write(file.path(), text).unwrap();
        let spans = replayed(file.path(), &Rules::default(), &configured(""));
        for span in &spans {
            prop_assert!(span.events.len() <= 32);
            prop_assert!(span.events.is_sorted_by_key(|event| event.at), "{:?}", span);
            let inside = span.events.iter().all(|e| span.start <= e.at && e.at <= span.end);
            prop_assert!(inside, "{:?}", span);
            let from_events: Vec<_> = span.events.iter().filter(|event| event.name == "event").collect();
            let of = |event: &&spanlink::trace::model::span::SpanEvent| {
                span_tree::find(&event.attributes, "reason")
            };
            let distinct: BTreeSet<_> = from_events.iter().map(of).collect();
            prop_assert_eq!(distinct.len(), from_events.len());
        }
        prop_assert_eq!(without_kubernetes_events(spans), plain);
    }
}

/// The metrics that a replay counts.
fn metrics_of(text: &str) -> Vec<TraceMetric> {
    let file = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
    fs::write(file.path(), text).unwrap();
    let mut metrics = Vec::new();
    let on_replayed = |replayed: Replayed<'_>| metrics.extend(replayed.output.metrics);
    replay(file.path(), Rules::default(), &configured(""), ReplayScope::Everything, on_replayed)
        .unwrap();
    metrics
}

#[test]
fn no_decision_waits_for_the_watch_of_kubernetes_events() {
    // The decision about a delete waits for the watches of all kinds.
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios/namespace-deleted");
    let plain = fs::read_to_string(format!("{folder}/history.jsonl")).unwrap();
    let first: Value = serde_json::from_str(plain.lines().next().unwrap()).unwrap();
    let event = event("Reason", &object("Widget", "w"), &json!({}));
    let listed = json!({
        "at": first["at"], "watch": "events.events.k8s.io", "type": "LISTED", "object": event,
    });
    let end = json!({
        "at": first["at"], "watch": "events.events.k8s.io", "type": "LIST_END",
        "resourceVersion": "1",
    });
    assert_eq!(metrics_of(&format!("{listed}\n{end}\n{plain}")), metrics_of(&plain));
}
