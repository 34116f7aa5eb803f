//! Claims about the phases of deletions: containers, finalizers.

use expect_test::expect;
use serde_json::json;
use spanlink::trace::rules::Rules;

use crate::written::{History, built_in, current, going, is_true, merged, object, pod, status};

#[test]
fn remaining_finalizer_is_a_problem_and_its_removal_after_the_deadline_is_late() {
    let part =
        merged(&object("Part", "p"), &json!({"metadata": {"finalizers": ["a.io/x", "b.io/y"]}}));
    let gone = going(&part, &["a.io/x", "b.io/y"]);
    let history = History::default()
        .added(&part)
        .modified(&part, &current(1))
        .later(5)
        .modified(&gone, &json!({"metadata": {"generation": 2}}))
        .later(30)
        .modified(&going(&part, &["b.io/y"]), &json!({"metadata": {"generation": 2}}))
        .later(16 * 60)
        .deleted(&going(&part, &["b.io/y"]));
    let spans = history.spans(&Rules::default(), "");
    let tree = spanlink::export::tree::render(&spans, spanlink::export::tree::Style::STABLE);
    expect![[r#"
        delete Part shop/p g2 -> timed_out  SomeFinalizersRemain: b.io/y
        ├─ stuck Part p  SomeFinalizersRemain: a.io/x, b.io/y
        └─ late Part p -> deleted
        create Part shop/p g1 -> converged
    "#]]
    .assert_eq(&tree);
    history.has_phases(expect![[r#"
          reconcile Part p observe 0.1s by part-controller
        reconcile Part p g1 waited for Part p observe
          reconcile Part p finalize 935.4s by b.io/y SomeFinalizersRemain (b.io/y) [finalizer removed a.io/x]
        reconcile Part p g2 waited for Part p finalize SomeFinalizersRemain
    "#]]);
}

#[test]
fn finalizers_are_a_phase_of_a_pod_only_after_its_containers_ended() {
    let dead = |name: &str| {
        let run = json!({"exitCode": 0, "finishedAt": "2026-11-24T10:00:09Z"});
        json!({"name": name, "state": {"terminated": run}})
    };
    let bound = merged(&pod(), &status(&json!({"conditions": [is_true("PodScheduled", 0)]})));
    let over = status(&json!({"phase": "Succeeded", "containerStatuses": [dead("web")]}));
    let held = merged(&going(&pod(), &["batch.kubernetes.io/job-tracking"]), &over);
    History::default()
        .added(&pod())
        .later(1)
        .event("MODIFIED", &going(&bound, &["batch.kubernetes.io/job-tracking"]))
        .later(8)
        .event("MODIFIED", &held)
        .later(5)
        .event("DELETED", &held)
        .has_phases(expect![[r#"
              reconcile Pod it schedule 0.9s by default-scheduler
            reconcile Pod it g1 waited for Pod it schedule
              reconcile Pod it terminate 8.3s by kubelet
              reconcile Pod it finalize 5.1s by job-controller SomeFinalizersRemain (batch.kubernetes.io/job-tracking) [finalizer removed batch.kubernetes.io/job-tracking]
            reconcile Pod it g1 waited for Pod it terminate
        "#]]);
    History::default()
        .added(&pod())
        .later(1)
        .event("MODIFIED", &going(&bound, &[]))
        .later(8)
        .event("DELETED", &merged(&going(&pod(), &[]), &over))
        .has_phases(expect![[r#"
              reconcile Pod it schedule 0.9s by default-scheduler
            reconcile Pod it g1 waited for Pod it schedule
              reconcile Pod it terminate 8.3s by kubelet
            reconcile Pod it g1 waited for Pod it terminate
        "#]]);
}

#[test]
fn object_observed_again_after_its_deletion_ends_with_the_next_deletion() {
    let widget = object("Widget", "w");
    let other = json!({"metadata": {"generation": 2}, "spec": {"size": 2}});
    History::default()
        .added(&widget)
        .deleted(&widget)
        .modified(&widget, &other)
        .later(5)
        .deleted(&merged(&widget, &other))
        .becomes(expect![[r#"
            create Widget shop/w g1 -> superseded
            delete Widget shop/w g1 -> deleted  supersedes g1
            update Widget shop/w g2 -> superseded  {spec.size}
        "#]]);
}

#[test]
fn object_that_exists_again_after_its_deletion_began_was_restored() {
    let widget = object("Widget", "w");
    let gone = going(&widget, &["a.io/x"]);
    History::default()
        .added(&widget)
        .modified(&gone, &json!({"metadata": {"generation": 2}}))
        .modified(&widget, &current(1))
        .modified(&gone, &json!({"metadata": {"generation": 2}}))
        .deleted(&gone)
        .becomes(expect![[r#"
            create Widget shop/w g1 -> superseded
            delete Widget shop/w g2 -> superseded  supersedes g1
            update Widget shop/w g1 -> converged  supersedes g2  (rewound)
            delete Widget shop/w g2 -> deleted
        "#]]);
}

#[test]
fn finalizers_are_removed_by_their_controllers_the_first_one_next() {
    let gone_with = |finalizers: &[&str]| {
        let map = built_in("v1", "ConfigMap", &json!({}));
        let had = merged(&map, &json!({"metadata": {"finalizers": finalizers}}));
        let going = going(&map, finalizers);
        History::default().added(&had).later(1).event("MODIFIED", &going).later(3).deleted(&going)
    };
    let lines: Vec<String> = [
        &["foregroundDeletion"][..],
        &["orphan"],
        &["kubernetes"],
        &["batch.kubernetes.io/job-tracking"],
        &["kubernetes.io/pvc-protection"],
        &["kubernetes.io/pv-protection"],
        &["example.com/first", "example.com/last"],
    ]
    .iter()
    .map(|finalizers| {
        let spans = gone_with(finalizers).spans(&Rules::default(), "");
        let step = spans.iter().find(|span| &*span.name == "finalize").unwrap();
        let of = |key: &str| crate::span_tree::attribute(step, key).unwrap_or_default();
        format!("{finalizers:?} by {} {}\n", of("spanlink.phase.actor"), of("error.type"))
    })
    .collect();
    expect![[r#"
        ["foregroundDeletion"] by garbage-collector-controller 
        ["orphan"] by garbage-collector-controller 
        ["kubernetes"] by namespace-controller 
        ["batch.kubernetes.io/job-tracking"] by job-controller SomeFinalizersRemain
        ["kubernetes.io/pvc-protection"] by persistentvolumeclaim-protection-controller SomeFinalizersRemain
        ["kubernetes.io/pv-protection"] by persistentvolume-protection-controller SomeFinalizersRemain
        ["example.com/first", "example.com/last"] by example.com/first SomeFinalizersRemain
    "#]].assert_eq(&lines.concat());
}

#[test]
fn finalizer_removed_from_an_object_that_stays_is_not_an_event() {
    let part = merged(&object("Part", "p"), &json!({"metadata": {"finalizers": ["a.io/x"]}}));
    let without = json!({"metadata": {"finalizers": []}});
    History::default()
        .added(&part)
        .later(1)
        .modified(&part, &without)
        .later(1)
        .modified(&part, &merged(&without, &current(1)))
        .has_phases(expect![[r#"
              reconcile Part p observe 2.2s by part-controller
            reconcile Part p g1 waited for Part p observe
        "#]]);
}
