//! State that the checkpoint restores after a restart.

use std::collections::BTreeSet;

use expect_test::expect;
use serde_json::json;
use spanlink::{
    export::tree::{Style, render},
    trace::{rules::Rules, tracer::Tracer},
};

use crate::{
    late::{Daemon, pod_of, ready, replica_set, written_in},
    written::{
        self, annotated, built_in, condition, going, is_true, merged, object, owned, status,
    },
};

/// Phases that ended during the downtime end at the time of the write, not of the restart.
#[test]
fn a_stuck_pod_that_became_ready_during_the_downtime_is_dated_by_its_status() {
    let set = replica_set();
    let pod = pod_of(&set, "a", 0);
    let unschedulable =
        status(&json!({"conditions": [condition("PodScheduled", "False", "Unschedulable", 1)]}));
    let runs = status(&json!({"phase": "Running", "conditions": [is_true("Ready", 40)]}));
    let history = written::History::default()
        .added(&set)
        .added(&pod)
        .later(1)
        .modified(&pod, &unschedulable)
        .later(40)
        .event("MODIFIED", &merged(&written_in(&pod, 40), &runs));
    let mut daemon = Daemon::of(&history);
    daemon.process_next(3);
    daemon.is_not_there(5.0, 2000.0);
    daemon.expect_no_spans();
    daemon.resumes("Pod", 2000.0);
    daemon.catches_up(1, 2000.0);
    daemon.bookmark("Pod", 2000.0);
    daemon.resumes("ReplicaSet", 2000.0);
    daemon.bookmark("ReplicaSet", 2000.0);
    daemon.is_at(2000.0);
    daemon.expect_spans(expect![[r#"
        stuck Pod a : 11.3 to 11.3
        ready a : 0.2 to 41.0
        create Pod a converged: 0.2 to 41.0
        observe it : 0.1 to 900.2
        reconcile ReplicaSet it timed_out: 0.1 to 900.2
    "#]]);
}

#[test]
fn a_relist_after_a_restart_dates_changes_and_reports_deletions() {
    let (widget, gone) = (object("Widget", "w"), object("Widget", "gone"));
    let changed = merged(&written_in(&widget, 100), &ready("False"));
    let created = json!({"metadata": {"creationTimestamp": "2026-11-24T10:10:00Z"}});
    let fresh = merged(&written_in(&object("Widget", "new"), 600), &created);
    let history = written::History::default()
        .listed("Widget", &[])
        .added(&widget)
        .added(&gone)
        .later(1)
        .modified(&widget, &ready("True"))
        .modified(&gone, &ready("True"))
        .later(598)
        .listed("Widget", &[&fresh, &changed]);
    let mut daemon = Daemon::of(&history);
    daemon.process_next(5);
    daemon.is_not_there(2.0, 590.0);
    assert!(daemon.run.tracer.has_listed());
    // The resourceVersion has expired, and the list takes 30 seconds.
    daemon.resumes("Widget", 590.0);
    daemon.loses("Widget", 590.0);
    daemon.lists("Widget", 590.1);
    daemon.is_at(599.9);
    daemon.catches_up(1, 600.0);
    // An object absent from an incomplete list is not deleted.
    daemon.is_at(620.0);
    daemon.expect_no_spans();
    daemon.catches_up(1, 620.0);
    daemon.expect_spans(expect![[r#"
        reconcile Widget w converged: 0.1 to 1.3
    "#]]);
    daemon.catches_up(1, 630.0);
    daemon.is_at(630.0);
    daemon.expect_spans(expect![[r#"
        reconcile Widget gone converged: 0.2 to 1.4
        delete Widget gone deleted: 630.0 to 630.0
        reconcile Widget w : 601.0 to 601.0
    "#]]);
}

#[test]
fn the_tracer_has_listed_once_every_list_is_complete() {
    let history = written::History::default()
        .listed("Widget", &[&object("Widget", "w")])
        .listed("Part", &[&object("Part", "p")]);
    let mut daemon = Daemon::of(&history);
    daemon.process_next(2);
    assert!(!daemon.run.tracer.has_listed());
    daemon.process_next(2);
    assert!(daemon.run.tracer.has_listed());
    assert!(!Tracer::new(Rules::default(), "").has_listed());
}

#[test]
fn a_pod_lost_before_a_restart_is_replaced_after_it() {
    let set = replica_set();
    let done = status(&json!({"observedGeneration": 1, "replicas": 1, "fullyLabeledReplicas": 1,
        "readyReplicas": 1, "availableReplicas": 1}));
    let history = written::History::default()
        .added(&set)
        .added(&pod_of(&set, "a", 0))
        .modified(&set, &done)
        .later(60)
        .deleted(&pod_of(&set, "a", 0))
        .later(10)
        .added(&pod_of(&set, "b", 70));
    let mut daemon = Daemon::of(&history);
    daemon.process_next(4);
    daemon.is_not_there(62.0, 70.0);
    daemon.resumes("ReplicaSet", 70.0);
    daemon.resumes("Pod", 70.0);
    daemon.process_next(1);
    expect![[r#"
        create ReplicaSet shop/it g1 -> converged
        └─ create Pod a g1 -> superseded
        delete Pod shop/a g1 -> deleted  (owner settled)  supersedes g1
        create Pod shop/b g1 -> timed_out  no verdict before the deadline  (owner settled)  replaces a
    "#]].assert_eq(&render(&daemon.end(), Style::STABLE));
}

#[test]
fn a_stuck_span_is_emitted_once_across_a_restart() {
    let set = built_in("apps/v1", "ReplicaSet", &json!({"replicas": 2}));
    let unschedulable =
        status(&json!({"conditions": [condition("PodScheduled", "False", "Unschedulable", 1)]}));
    let history = written::History::default()
        .added(&set)
        .added(&pod_of(&set, "a", 0))
        .added(&pod_of(&set, "b", 0))
        .later(1)
        .modified(&pod_of(&set, "a", 0), &unschedulable)
        .later(60)
        .modified(&pod_of(&set, "b", 0), &unschedulable);
    let mut daemon = Daemon::of(&history);
    daemon.process_next(4);
    daemon.is_not_there(20.0, 30.0);
    daemon.expect_spans(expect![[r#"
        stuck Pod a : 11.4 to 11.4
    "#]]);
    daemon.resumes("ReplicaSet", 30.0);
    daemon.resumes("Pod", 30.0);
    daemon.process_next(1);
    daemon.is_at(200.0);
    daemon.expect_no_spans();
}

#[test]
fn a_deletion_with_its_namespace_after_a_restart_is_caused_by_the_namespace() {
    let namespace = |uid: &str| {
        let metadata = json!({"name": "shop", "namespace": null, "uid": uid});
        merged(&built_in("v1", "Namespace", &json!({})), &json!({ "metadata": metadata }))
    };
    let widget = object("Widget", "w");
    let going_namespace = merged(&namespace("second"), &status(&json!({"phase": "Terminating"})));
    let active = status(&json!({"phase": "Active"}));
    // The second Namespace has the name of the first, which is deleted.
    let history = written::History::default()
        .added(&namespace("first"))
        .deleted(&namespace("first"))
        .event("ADDED", &merged(&namespace("second"), &active))
        .added(&widget)
        .modified(&widget, &ready("True"))
        .added(&object("Widget", "shop"))
        .later(60)
        .event("MODIFIED", &going(&going_namespace, &["kubernetes"]))
        .deleted(&widget)
        .deleted(&going_namespace);
    // The checkpoint has no order, so a wrong lookup by name would fail only sometimes.
    let lines: BTreeSet<String> = std::iter::repeat_with(|| {
        let mut daemon = Daemon::of(&history);
        daemon.process_next(6);
        daemon.is_not_there(30.0, 40.0);
        daemon.resumes("Namespace", 40.0);
        daemon.resumes("Widget", 40.0);
        daemon.is_at(50.0);
        daemon.run.spans.clear();
        daemon.process_next(3);
        render(&daemon.end(), Style::STABLE)
    })
    .take(8)
    .collect();
    expect![[r#"
        delete Namespace shop -> deleted
        └─ delete Widget w g1 -> deleted
        create Widget shop/shop g1 -> unknown
    "#]]
    .assert_eq(&lines.into_iter().collect::<String>());
}

#[test]
fn an_object_that_waits_for_its_owner_finds_it_after_a_restart() {
    let widget = object("Widget", "w");
    let second = json!({"metadata": {"generation": 2}, "spec": {"size": 2},
        "status": {"observedGeneration": 1}});
    let second = merged(&annotated(&widget, '2'), &second);
    let part = owned(&object("Part", "p"), &[(&widget, true)]);
    let part = merged(&part, &json!({"metadata": {"creationTimestamp": "2026-11-24T10:01:00Z"}}));
    let history = written::History::default()
        .added(&widget)
        .modified(&widget, &merged(&ready("True"), &status(&json!({"observedGeneration": 1}))))
        .later(60)
        .added(&part)
        .late("MODIFIED", &written_in(&second, 60), 600);
    let mut daemon = Daemon::of(&history);
    daemon.process_next(3);
    daemon.is_not_there(60.4, 90.0);
    daemon.expect_spans(expect![[r#"
        observe w : 0.1 to 0.2
        reconcile Widget w converged: 0.1 to 0.2
    "#]]);
    daemon.resumes("Part", 90.0);
    daemon.resumes("Widget", 90.0);
    daemon.catches_up(1, 90.0);
    expect![[r#"
        update Widget shop/w g2 -> timed_out  no verdict before the deadline  [context 22222222…]  {spec.size}
        └─ create Part p g1 -> unknown
    "#]].assert_eq(&render(&daemon.end(), Style::STABLE));
}

/// The name of a referenced object is looked up without reading the referring one again.
#[test]
fn a_deletion_after_a_restart_links_to_the_change_of_a_referenced_object() {
    let cluster = object("Cluster", "c");
    let machine = merged(&object("Machine", "m"), &json!({"spec": {"clusterName": "c"}}));
    let second = json!({"metadata": {"generation": 2}, "spec": {"size": 2}});
    let second = merged(&ready("False"), &second);
    let history = written::History::default()
        .added(&cluster)
        .added(&machine)
        .modified(&cluster, &ready("True"))
        .modified(&machine, &ready("True"))
        .later(60)
        .modified(&cluster, &second)
        .later(1)
        .event("DELETED", &machine);
    let configuration = "
causes:
  references:
    - {kind: Machine.example.com, field: spec.clusterName, to: Cluster.example.com}
";
    let mut daemon = Daemon::configured(&Rules::default(), configuration, &history);
    daemon.process_next(5);
    daemon.is_not_there(60.5, 61.0);
    daemon.process_next(1);
    daemon.is_at(2000.0);
    let text = render(&daemon.end(), Style::STABLE);
    let deletion = text.lines().find(|line| line.starts_with("delete Machine"));
    assert_eq!(
        deletion,
        Some("delete Machine shop/m g1 -> deleted  [reference Cluster c g2]"),
        "{text}"
    );
}
