//! Rules about how long changes are known, by hand-written histories.

use expect_test::expect;
use serde_json::{Value, json};
use spanlink::trace::{
    model::{observation::WatchEvent, span::Value as SpanValue},
    rules::Rules,
};

use crate::written::{History, annotated, built_in, current, going, merged, object, owned, status};

fn of_generation(generation: i64) -> Value {
    json!({"metadata": {"generation": generation}, "spec": {"size": generation}})
}

#[test]
fn change_in_flight_is_a_cause_however_long_it_takes() {
    let widget = object("Widget", "w");
    let second = merged(&annotated(&widget, '2'), &of_generation(2));
    let part = annotated(&owned(&object("Part", "p"), &[(&widget, true)]), '1');
    History::default()
        .added(&annotated(&widget, '1'))
        .later(1)
        .event("MODIFIED", &second)
        .later(150)
        .added(&part)
        .modified(&part, &current(1))
        .later(1)
        .modified(&second, &current(2))
        .becomes(expect![[r#"
            create Widget shop/w g1 -> superseded  [context 11111111…]
            └─ create Part p g1 -> converged
            update Widget shop/w g2 -> unknown  [context 22222222…]  supersedes g1  {spec.size}
        "#]]);
}

#[test]
fn of_very_many_changes_the_oldest_are_forgotten() {
    let widget = object("Widget", "w");
    let stamped = |generation: i64, digit: char| {
        merged(&annotated(&widget, digit), &of_generation(generation))
    };
    let history = (2..100).fold(History::default().added(&widget), |history, generation| {
        history.event("MODIFIED", &stamped(generation, '1'))
    });
    let part = annotated(&owned(&object("Part", "p"), &[(&widget, true)]), '2');
    let spans = history
        .event("MODIFIED", &stamped(100, '2'))
        .event("MODIFIED", &stamped(101, '3'))
        .event("MODIFIED", &stamped(102, '3'))
        .event("MODIFIED", &stamped(103, '3'))
        .added(&part)
        .spans(&Rules::default(), "");
    let of = |span: &spanlink::trace::model::span::Span, key: &str| {
        crate::span_tree::attribute(span, key)
    };
    let part = spans.iter().find(|span| &*span.name == "create Part").unwrap();
    assert_eq!(of(part, "spanlink.owner.generation").as_deref(), Some("100"));
}

#[test]
fn settled_owner_is_named_by_its_last_change_of_the_spec() {
    let set = built_in("apps/v1", "ReplicaSet", &json!({"replicas": 0}));
    let counted = |generation: i64| {
        json!({"metadata": {"generation": generation},
            "status": {"observedGeneration": generation, "replicas": 0}})
    };
    let noted = merged(&counted(2), &json!({"metadata": {"annotations": {"note": "1"}}}));
    let pod = owned(&built_in("v1", "Pod", &json!({})), &[(&set, true)]);
    let spans = History::default()
        .added(&set)
        .modified(&set, &counted(1))
        .later(5)
        .modified(&set, &noted)
        .later(300)
        .added(&merged(&pod, &json!({"metadata": {"creationTimestamp": "2026-11-24T10:05:05Z"}})))
        .spans(&Rules::default(), "");
    let pod = spans.iter().find(|span| &*span.name == "create Pod").unwrap();
    let generation = crate::span_tree::attribute(pod, "spanlink.owner.generation");
    assert_eq!((generation.as_deref(), pod.links.len()), (Some("1"), 1));
}

#[test]
fn metadata_changes_do_not_evict_the_last_change_of_the_spec() {
    let web = built_in("apps/v1", "Deployment", &json!({"replicas": 0}));
    let noted = |generation: i64| {
        json!({"metadata": {"generation": generation, "annotations": {"note": generation.to_string()}},
            "status": {"observedGeneration": generation, "replicas": 0,
                "conditions": [{"type": "Available", "status": "True"}]}})
    };
    let set = owned(&built_in("apps/v1", "ReplicaSet", &json!({})), &[(&web, true)]);
    let mut history = History::default().added(&web);
    for generation in 1..=20 {
        history = history.modified(&web, &noted(generation));
    }
    let made = json!({"metadata": {"creationTimestamp": "2026-11-24T10:00:02Z"}});
    let spans = history.added(&merged(&set, &made)).spans(&Rules::default(), "");
    let set = spans.iter().find(|span| &*span.name == "create ReplicaSet").unwrap();
    let generation = crate::span_tree::attribute(set, "spanlink.owner.generation");
    assert_eq!((generation.as_deref(), set.links.len()), (Some("1"), 1));
}

#[test]
fn deleted_object_has_one_deletion_despite_later_events() {
    let widget = object("Widget", "w");
    let gone = merged(&going(&widget, &[]), &json!({"metadata": {"generation": 2}}));
    History::default()
        .added(&widget)
        .deleted(&widget)
        .event("MODIFIED", &gone)
        .deleted(&gone)
        .later(120)
        .deleted(&gone)
        .becomes(expect![[r#"
            create Widget shop/w g1 -> superseded
            delete Widget shop/w g1 -> deleted  supersedes g1
        "#]]);
}

#[test]
fn metadata_change_keeps_the_evidence_of_an_open_convergence() {
    let widget = object("Widget", "w");
    let reports =
        |value: &str| status(&json!({"conditions": [{"type": "Ready", "status": value}]}));
    let note = json!({"metadata": {"annotations": {"note": "1"}}});
    let annotated = |value: &str| merged(&reports(value), &note);
    History::default()
        .added(&widget)
        .later(1)
        .modified(&widget, &reports("False"))
        .modified(&widget, &annotated("False"))
        .later(1)
        .modified(&widget, &annotated("False"))
        .later(120)
        .modified(&widget, &annotated("True"))
        .becomes_with(
            "watch: [{kind: Widget.example.com, include_annotations: [note]}]",
            expect![[r#"
                create Widget shop/w g1 -> converged
                └─ update Widget w g1 -> converged  (metadata)  {metadata.annotations[note]}
            "#]],
        );
}

/// Events of watches, with an interruption after so many: the watch relists, or continues the list
/// that it was reading.
fn interrupted_after(history: &History, events: usize, lists_anew: bool) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("history.jsonl"), history.text()).unwrap();
    let mut history = crate::disorder::read(folder.path());
    let (id, before) = history.events[events - 1].clone();
    let at = before.at();
    let lists = lists_anew.then_some(WatchEvent::ListStarted { at });
    let between = std::iter::once(WatchEvent::Interrupted { at }).chain(lists);
    history.events.splice(events..events, between.map(|event| (id, event)));
    let (spans, _) = history.replay(&Rules::default());
    spans.iter().map(|span| format!("{} {}", span.name, span.object.name)).collect()
}

#[test]
fn object_of_an_interrupted_list_is_deleted_by_the_next_complete_list() {
    let (one, other) = (object("Widget", "one"), object("Widget", "other"));
    // The first list; a second, of which both are read; another, in which one is left.
    let history = History::default()
        .listed("Widget", &[&one, &other])
        .event("LISTED", &one)
        .event("LISTED", &other)
        .listed("Widget", &[&one]);
    assert_eq!(interrupted_after(&history, 5, true), ["delete Widget other"]);
}

#[test]
fn objects_of_the_first_pages_stay_when_a_list_is_continued() {
    let (one, other) = (object("Widget", "one"), object("Widget", "other"));
    let history = History::default()
        .listed("Widget", &[&one, &other])
        .event("LISTED", &one)
        .listed("Widget", &[&other]);
    assert_eq!(interrupted_after(&history, 4, false), Vec::<String>::new());
}

#[test]
fn kind_served_in_another_version_is_reported_in_that_version() {
    let widget = object("Widget", "w");
    let step = json!({"metadata": {"generation": 2}, "spec": {"size": 2}});
    let spans = History::default()
        .added(&widget)
        .modified(&widget, &json!({"apiVersion": "example.com/v2"}))
        .modified(&merged(&widget, &step), &json!({"apiVersion": "example.com/v2"}))
        .spans(&Rules::default(), "");
    let versions = spans.iter().filter_map(|span| span.attribute("k8s.object.api_version"));
    let of = |version: &str| SpanValue::Text(format!("example.com/{version}").into());
    assert!(versions.eq(&[of("v1"), of("v2")]));
}
