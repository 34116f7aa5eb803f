//! Rules about what a watch covers: objects that existed before, selections, overlapping watches,
//! relists, and the bound of an object's changes.

use expect_test::expect;
use serde_json::{Value, json};
use spanlink::trace::{
    model::{object::Uid, observation::WatchEvent},
    rules::Rules,
    spans::output::{Bound, TraceMetric},
};

use crate::{
    late::{Daemon, at},
    rules_owners::deployment,
    written::{History, annotated, current, merged, object, owned},
};

fn created(object: &Value, time: &str) -> Value {
    merged(object, &json!({"metadata": {"creationTimestamp": time}}))
}

#[test]
fn object_older_than_its_watch_that_enters_the_selection_is_not_created() {
    let widget = created(&object("Widget", "w"), "2026-10-01T10:00:00Z");
    let widget = merged(&widget, &current(7));
    let history = || History::default().listed("Widget", &[]).later(5).added(&widget);
    history().becomes(expect![""]);
    let changed = json!({"metadata": {"generation": 8}, "spec": {"size": 2}});
    history().later(5).modified(&widget, &changed).becomes(expect![[r#"
        update Widget shop/w g8 -> timed_out  no verdict before the deadline  {spec.size}
    "#]]);
    // Also where a relist shows it.
    History::default()
        .listed("Widget", &[])
        .later(5)
        .listed("Widget", &[&widget])
        .becomes(expect![""]);
}

#[test]
fn custom_resource_younger_than_the_start_is_created_though_its_kind_is_listed_later() {
    let gadget = merged(&object("Gadget", "g"), &current(1));
    let old = created(&object("Widget", "old"), "2026-11-24T09:59:00Z");
    let new = created(&object("Widget", "new"), "2026-11-24T10:00:30Z");
    History::default().added(&gadget).later(60).listed("Widget", &[&old, &new]).becomes(expect![[
        r#"
            create Gadget shop/g g1 -> converged
            create Widget shop/new g1 -> unknown
        "#
    ]]);
}

#[test]
fn list_of_one_watch_deletes_no_object_of_another_watch_that_overlaps() {
    let widget = merged(&object("Widget", "w"), &current(1));
    let changed = merged(&widget, &json!({"status": {"note": "changed"}}));
    // The other watch repeats resourceVersion 12 between the item and the end of the list.
    History::default()
        .listed("Widget", &[&widget])
        .later(1)
        .event("LISTED", &changed)
        .late("MODIFIED", &changed, 12)
        .by_watch("shop/widgets")
        .listed("Widget", &[])
        .becomes(expect![""]);
}

#[test]
fn object_that_leaves_the_selection_is_forgotten_and_a_later_list_deletes_it_not() {
    let widget = object("Widget", "w");
    let history =
        History::default().listed("Widget", &[]).added(&widget).later(60).listed("Widget", &[]);
    let mut daemon = Daemon::of(&history);
    daemon.process_next(2);
    let (id, _) = daemon.watch("Widget");
    daemon.is_at(5.0);
    let uid = Uid::new("Widget-w");
    daemon.process(id, WatchEvent::LeftSelector { at: at(5.0), uid, resource_version: 9 });
    daemon.process_next(1);
    daemon.is_at(2000.0);
    daemon.expect_spans(expect![[r#"
        reconcile Widget w unknown: 0.1 to 5.0
    "#]]);
}

#[test]
fn relisted_child_of_a_missed_generation_follows_from_the_change_that_stands_for_it() {
    let image = |image: &str| json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": image}]}}}});
    let first = merged(&annotated(&deployment(1, 1), '1'), &image("web:1"));
    let first = merged(
        &first,
        &json!({"status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1,
            "readyReplicas": 1, "availableReplicas": 1, "conditions": [
                {"type": "Available", "status": "True"},
                {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]}}),
    );
    // Written after the ReplicaSet was made.
    let fourth = merged(
        &merged(&annotated(&deployment(1, 4), '4'), &image("web:4")),
        &json!({"metadata": {"managedFields": [
            {"manager": "kubectl", "operation": "Update", "time": "2026-11-24T10:00:50Z",
             "fieldsV1": {"f:spec": {"f:template": {}}}}]}}),
    );
    let set = |name: &str, digit: char, version: &str| {
        let set = owned(&object("ReplicaSet", name), &[(&first, true)]);
        let set = merged(&annotated(&set, digit), &image(version));
        merged(&set, &json!({"apiVersion": "apps/v1"}))
    };
    let old = set("old", '1', "web:1");
    let missed = created(&set("missed", '3', "web:3"), "2026-11-24T10:00:40Z");
    History::default()
        .listed("Deployment", &[])
        .listed("ReplicaSet", &[])
        .added(&first)
        .added(&old)
        .later(60)
        .listed("Deployment", &[&fourth])
        .listed("ReplicaSet", &[&old, &missed])
        .becomes(expect![[r#"
            create Deployment shop/web g1 -> converged  [context 11111111…]
            create ReplicaSet shop/old g1 -> timed_out  no verdict before the deadline  [inherited 11111111…]  (owner settled)
            update Deployment shop/web g4 -> timed_out  no verdict before the deadline  [context 44444444…]  missed 2  {spec.template.spec.containers[web].image by kubectl}
            └─ create ReplicaSet missed g1 -> timed_out  no verdict before the deadline
        "#]]);
}

/// A thousand annotations of a Widget that never becomes Current: the oldest ones end early.
#[test]
fn changes_kept_of_one_object_are_bounded_and_counted() {
    let widget = object("Widget", "w");
    let mut history = History::default().added(&widget);
    for number in 0..1000 {
        let note = json!({"metadata": {"annotations": {"example.com/note": number.to_string()}},
            "status": {"conditions": [{"type": "Ready", "status": "False"}]}});
        history = history.modified(&widget, &note);
    }
    let configuration = "
watch: [{kind: Widget.example.com, include_annotations: [example.com/note]}]
";
    let mut daemon = Daemon::configured(&Rules::default(), configuration, &history);
    let (mut reached, mut largest) = (0, 0);
    for (id, event) in daemon.next(1001) {
        let output = daemon.run.tracer.process(id, event);
        let bounds = output.metrics.iter();
        reached += bounds
            .filter(|of| matches!(of, TraceMetric::BoundReached { bound: Bound::Changes }))
            .count();
        let entries = daemon.run.tracer.checkpoint();
        let sizes = entries.iter().filter_map(|entry| Some(entry.value.as_ref()?.len()));
        largest = largest.max(sizes.max().unwrap_or(0));
    }
    assert!(reached > 900, "the bound was reached {reached} times");
    assert!(largest < 32 * 1024, "the checkpoint of one object has {largest} bytes");
}
