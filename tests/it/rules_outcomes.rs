//! Rules about when a convergence ends, and how, by hand-written histories.

use expect_test::expect;
use serde_json::{Value, json};
use spanlink::{
    export::tree::{Style, render},
    trace::{model::span::Span, rules::Rules},
};

use crate::written::{
    History, built_in, condition, current, going, is_true, merged, object, owned, pod, status,
};

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    spans.iter().find(|span| &*span.name == name).unwrap()
}

/// When it ends, in tenths of seconds after the hour.
fn end(spans: &[Span], name: &str) -> String {
    let end = named(spans, name).end.to_string();
    end.trim_start_matches("2026-11-24T10:").to_owned()
}

fn set() -> Value {
    built_in("apps/v1", "ReplicaSet", &json!({"replicas": 1}))
}

fn available() -> Value {
    status(&json!({"observedGeneration": 1, "replicas": 1, "readyReplicas": 1,
        "availableReplicas": 1, "fullyLabeledReplicas": 1}))
}

fn ready(second: u32) -> Value {
    let conditions = ["PodScheduled", "PodReadyToStartContainers", "Ready"]
        .map(|condition| is_true(condition, second));
    status(&json!({"phase": "Running", "conditions": conditions}))
}

#[test]
fn owner_includes_late_events_of_its_children_and_no_later_changes() {
    let deployment = built_in("apps/v1", "Deployment", &json!({"replicas": 1}));
    let set = owned(&set(), &[(&deployment, true)]);
    let pod = owned(&pod(), &[(&set, true)]);
    let rolled_out = merged(
        &available(),
        &status(&json!({"updatedReplicas": 1, "conditions": [is_true("Available", 3)]})),
    );
    let done = |history: History| {
        history.later(3).modified(&set, &available()).modified(&deployment, &rolled_out)
    };
    let created = || History::default().added(&deployment).added(&set).added(&pod);
    let ends = |history: &History| {
        let spans = history.spans(&Rules::default(), "");
        ["create Pod", "create ReplicaSet", "reconcile Deployment"]
            .map(|name| format!("{name} {}\n", end(&spans, name)))
            .concat()
    };
    // Its phases last an instant each, also where they ended at once.
    let late = done(created()).late("MODIFIED", &merged(&pod, &ready(3)), 32);
    expect![[r#"
        create Pod 00:03.600006000Z
        create ReplicaSet 00:03.600006000Z
        reconcile Deployment 00:03.600006000Z
    "#]]
    .assert_eq(&ends(&late));
    let before = done(created()).late("MODIFIED", &merged(&pod, &ready(1)), 10);
    expect![[r#"
        create Pod 00:01.000006000Z
        create ReplicaSet 00:03.400000000Z
        reconcile Deployment 00:03.500000000Z
    "#]]
    .assert_eq(&ends(&before));
    let after = done(created()).later(1).modified(&pod, &ready(4));
    expect![[r#"
        create Pod 00:04.600006000Z
        create ReplicaSet 00:03.400000000Z
        reconcile Deployment 00:03.500000000Z
    "#]]
    .assert_eq(&ends(&after));
}

#[test]
fn alternating_status_is_not_progress() {
    let set = merged(&set(), &json!({"spec": {"replicas": 3}}));
    let reports = |ready: u8, available: u8| {
        status(&json!({"observedGeneration": 1, "replicas": 3, "readyReplicas": ready,
            "availableReplicas": available}))
    };
    // Two are ready for the first time after a quarter of an hour; all else was so before.
    let history = [(1, 1), (0, 0), (2, 0), (2, 1), (1, 1)].iter().fold(
        History::default().added(&set),
        |history, (ready, available)| {
            history.later(5 * 60).modified(&set, &reports(*ready, *available))
        },
    );
    let spans = history.spans(&Rules::default(), "");
    assert_eq!(end(&spans, "reconcile ReplicaSet"), "30:00.400000000Z");
}

#[test]
fn owner_converges_no_sooner_than_its_own_status() {
    let widget = object("Widget", "w");
    let pod = owned(&pod(), &[(&widget, true)]);
    let is_ready = status(&json!({"conditions": [{"type": "Ready", "status": "True"}]}));
    let history = History::default()
        .added(&widget)
        .added(&pod)
        .later(3)
        .modified(&widget, &is_ready)
        .late("MODIFIED", &merged(&pod, &ready(1)), 10);
    let spans = history.spans(&Rules::default(), "");
    assert_eq!(end(&spans, "reconcile Widget"), "00:03.300000000Z");
}

#[test]
fn a_span_has_32_conditions_at_most() {
    let widget = object("Widget", "w");
    let conditions: Vec<Value> = (0..40)
        .map(|number| condition(&format!("C{number}"), "False", "New", 5))
        .chain([is_true("Ready", 5)])
        .collect();
    let history = History::default()
        .added(&widget)
        .later(5)
        .modified(&widget, &status(&json!({"conditions": conditions})));
    let spans = history.spans(&Rules::default(), "");
    assert_eq!(named(&spans, "reconcile Widget").events.len(), 32);
}

#[test]
fn evidence_lost_within_the_settle_window_prevents_convergence() {
    let ingress = built_in("networking.k8s.io/v1", "Ingress", &json!({}));
    let address = |addresses: &Value| status(&json!({"loadBalancer": {"ingress": addresses}}));
    History::default()
        .added(&ingress)
        .modified(&ingress, &address(&json!([{"ip": "192.0.2.1"}])))
        .later(1)
        .modified(&ingress, &address(&json!([])))
        .becomes(expect![[r#"
            create Ingress shop/it g1 -> unknown
        "#]]);
}

#[test]
fn it_converged_late_when_it_became_current_and_stayed_so() {
    let failed = status(&json!({"observedGeneration": 1, "conditions":
        [condition("Progressing", "False", "ProgressDeadlineExceeded", 5)]}));
    let rolled_out = merged(
        &available(),
        &status(&json!({"updatedReplicas": 1, "conditions": [is_true("Available", 3)]})),
    );
    let deployment = built_in("apps/v1", "Deployment", &json!({"replicas": 1}));
    let history = History::default()
        .added(&deployment)
        .later(5)
        .modified(&deployment, &failed)
        .later(10)
        .modified(&deployment, &rolled_out)
        // Fell back.
        .modified(&deployment, &failed)
        .later(10)
        .modified(&deployment, &rolled_out)
        .later(1)
        .modified(&deployment, &rolled_out)
        .later(5)
        .added(&object("Widget", "w"));
    let spans = history.spans(&Rules::default(), "");
    assert_eq!(end(&spans, "late Deployment"), "00:25.500002000Z");
}

#[test]
fn it_converged_late_no_sooner_than_its_verdict_and_is_given_up_after_a_day() {
    let on_time = merged(&ready(1), &status(&json!({"conditions": [is_true("Ready", 59)]})));
    let news = |wait: u64| {
        let history = History::default().added(&pod()).later(wait).modified(&pod(), &on_time);
        history.later(5).added(&object("Widget", "w"))
    };
    let spans = news(902).spans(&Rules::default(), "");
    assert_eq!(named(&spans, "late Pod").start, named(&spans, "reconcile Pod").end);
    let tree = render(&news(25 * 3600).spans(&Rules::default(), ""), Style::STABLE);
    expect![[r#"
        create Widget shop/w g1 -> unknown
        create Pod shop/it g1 -> timed_out  no verdict before the deadline
    "#]]
    .assert_eq(&tree);
}

#[test]
fn current_object_has_converged_when_its_deletion_is_requested() {
    let widget = object("Widget", "w");
    let is_ready = status(&json!({"conditions": [{"type": "Ready", "status": "True"}]}));
    let gone = merged(
        &going(&widget, &["a.io/x"]),
        &json!({"metadata": {"generation": 2, "deletionTimestamp": "2026-11-24T10:00:05Z"}}),
    );
    let history = History::default()
        .added(&widget)
        .later(5)
        .event("MODIFIED", &widget)
        .event("MODIFIED", &widget)
        .event("MODIFIED", &widget)
        .event("MODIFIED", &widget)
        .event("MODIFIED", &widget)
        .modified(&widget, &is_ready)
        .later(1)
        .modified(&widget, &is_ready)
        .modified(&widget, &is_ready)
        // Written in the fifth second, received only now.
        .event("MODIFIED", &merged(&is_ready, &gone))
        .deleted(&gone);
    let spans = history.spans(&Rules::default(), "");
    assert_eq!(end(&spans, "reconcile Widget"), "00:05.000000000Z");
}

#[test]
fn conditions_changed_since_the_change_are_span_events_with_reasons() {
    let widget = object("Widget", "w");
    let reports = |conditions: &Value| {
        json!({"metadata": {"generation": 2}, "spec": {"size": 2}, "status":
            {"observedGeneration": 2, "conditions": conditions}})
    };
    let history = History::default()
        .listed("Widget", &[&merged(&widget, &current(1))])
        .later(10)
        .modified(
            &widget,
            &reports(&json!([
                is_true("Known", 1),
                condition("Quick", "False", "Soon", 10),
                condition("Ready", "False", "Asked", 10)
            ])),
        )
        .later(2)
        .modified(
            &widget,
            &reports(&json!([
                is_true("Known", 1),
                is_true("Quick", 10),
                condition("Ready", "False", "Waits", 10)
            ])),
        )
        .modified(
            &widget,
            &reports(&json!([is_true("Known", 1), is_true("Quick", 10), is_true("Ready", 12)])),
        );
    let spans = history.spans(&Rules::default(), "");
    let lines: Vec<String> = named(&spans, "reconcile Widget")
        .events
        .iter()
        .map(|event| {
            let of = |key: &str| crate::span_tree::find(&event.attributes, key).unwrap_or_default();
            format!("{} {} {} {}\n", event.name, of("type"), of("status"), of("reason"))
        })
        .collect();
    expect![[r#"
        condition Quick False Soon
        condition Ready False Asked
        waiting   Asked
        condition Quick True 
        waiting   Waits
        condition Ready False Waits
        condition Ready True 
    "#]]
    .assert_eq(&lines.concat());
}

#[test]
fn a_problem_older_than_the_news_of_it_waits_for_the_cause_to_be_decided() {
    let other = merged(&set(), &json!({"metadata": {"name": "other", "uid": "other"}}));
    let pod = owned(&pod(), &[(&set(), true)]);
    let unschedulable =
        status(&json!({"conditions": [condition("PodScheduled", "False", "Unschedulable", 0)]}));
    History::default()
        .added(&other)
        .later(20)
        .added(&merged(&pod, &unschedulable))
        .later(1)
        .deleted(&pod)
        .becomes(expect![[r#"
            create Pod shop/it g1 -> superseded
            └─ stuck Pod it  Unschedulable: Unschedulable!
            create ReplicaSet shop/other g1 -> timed_out  no verdict before the deadline
            delete Pod shop/it g1 -> deleted  supersedes g1
        "#]]);
}

#[test]
fn failed_job_ends_its_convergence() {
    let job = built_in("batch/v1", "Job", &json!({}));
    let pod = owned(&pod(), &[(&job, true)]);
    let failed = json!({"conditions": [condition("Failed", "True", "BackoffLimitExceeded", 3)]});
    History::default()
        .added(&job)
        .added(&pod)
        .later(3)
        .modified(&job, &status(&failed))
        .later(10)
        .deleted(&pod)
        .becomes(expect![[r#"
            create Job shop/it g1 -> failed  BackoffLimitExceeded: BackoffLimitExceeded!
            └─ create Pod it g1 -> superseded
            delete Pod shop/it g1 -> deleted  (owner settled)  supersedes g1
        "#]]);
}

#[test]
fn any_status_at_the_start_is_evidence() {
    let widget = object("Widget", "w");
    let is_ready = status(&json!({"conditions": [{"type": "Ready", "status": "True"}]}));
    let part = owned(&object("Part", "p"), &[(&widget, true)]);
    History::default()
        .listed("Widget", &[&merged(&widget, &is_ready)])
        .listed("Part", &[])
        .later(5)
        .added(&part)
        .modified(&part, &current(1))
        .becomes(expect![[r#"
            create Part shop/p g1 -> converged  (owner settled)
        "#]]);
}

#[test]
fn evidence_belongs_to_the_open_change_despite_metadata_changes() {
    let widget = object("Widget", "w");
    let is_ready = status(&json!({"conditions": [{"type": "Ready", "status": "True"}]}));
    let annotated = merged(&is_ready, &json!({"metadata": {"annotations": {"note": "1"}}}));
    History::default()
        .added(&widget)
        .later(1)
        .modified(&widget, &is_ready)
        .modified(&widget, &annotated)
        .later(1)
        .modified(&widget, &annotated)
        .becomes_with(
            "watch: [{kind: Widget.example.com, include_annotations: [note]}]",
            expect![[r#"
                create Widget shop/w g1 -> converged
                update Widget shop/w g1 -> converged  (metadata)  {metadata.annotations[note]}
            "#]],
        );
}

#[test]
fn phase_with_a_problem_counts_after_its_first_child() {
    let widget = merged(
        &object("Widget", "w"),
        &json!({"metadata": {"finalizers": ["foregroundDeletion", "a.io/x"]}}),
    );
    let part = owned(&object("Part", "p"), &[(&widget, true)]);
    let gone = |finalizers: &[&str]| going(&widget, finalizers);
    History::default()
        .listed("Widget", &[&widget])
        .listed("Part", &[&part])
        .later(1)
        .modified(&gone(&["foregroundDeletion", "a.io/x"]), &json!({"metadata": {"generation": 2}}))
        .later(1)
        .modified(&going(&part, &["b.io/y"]), &json!({"metadata": {"generation": 2}}))
        .later(5)
        .deleted(&going(&part, &["b.io/y"]))
        .later(20)
        .deleted(&gone(&["a.io/x"]))
        .has_phases(expect![[r#"
              delete Part p finalize 6.5s by b.io/y SomeFinalizersRemain (b.io/y) [finalizer removed b.io/y]
            delete Part p g2 waited for Part p finalize SomeFinalizersRemain
              reconcile Widget w finalize 26.6s by garbage-collector-controller SomeFinalizersRemain (a.io/x) [finalizer removed foregroundDeletion] [finalizer removed a.io/x]
            reconcile Widget w g2 waited for Widget w finalize SomeFinalizersRemain
        "#]]);
}

#[test]
fn failure_without_a_reason_is_named_after_its_condition() {
    let stalled = json!({"observedGeneration": 1, "conditions":
        [{"type": "Stalled", "status": "True"}]});
    let widget = object("Widget", "w");
    let spans = History::default()
        .added(&widget)
        .modified(&widget, &status(&stalled))
        .spans(&Rules::default(), "");
    let reconcile = named(&spans, "reconcile Widget");
    let of = |key: &str| crate::span_tree::find(&reconcile.attributes, key);
    assert_eq!(of("spanlink.outcome").as_deref(), Some("failed"));
    assert_eq!(of("error.type").as_deref(), Some("Stalled"));
    assert_eq!(of("spanlink.reason").as_deref(), Some("Stalled"));
}

#[test]
fn condition_without_a_time_from_before_the_change_has_not_changed() {
    let reports = |ready: &str| {
        json!({"conditions": [
            {"type": "Ready", "status": ready}, {"type": "Known", "status": "True"}]})
    };
    let widget = merged(&object("Widget", "w"), &status(&reports("False")));
    let newer = merged(&widget, &json!({"metadata": {"generation": 2}, "spec": {"size": 2}}));
    let spans = History::default()
        .listed("Widget", &[&widget])
        .later(5)
        .added(&newer)
        .later(1)
        .modified(&newer, &status(&reports("True")))
        .spans(&Rules::default(), "");
    let lines: Vec<String> = named(&spans, "reconcile Widget")
        .events
        .iter()
        .map(|event| {
            let of = |key: &str| crate::span_tree::find(&event.attributes, key).unwrap_or_default();
            format!("{} {}", of("type"), of("status"))
        })
        .collect();
    assert_eq!(lines, ["Ready True"]);
}

#[test]
fn waiting_condition_is_reported_despite_others_that_changed() {
    let turns = |history: History, number: u32| {
        let value = if number.is_multiple_of(2) { "True" } else { "False" };
        history.modified(
            &pod(),
            &status(&json!({"phase": "Pending", "conditions": [
            condition("Flaps", value, "Flaps", number / 10)]})),
        )
    };
    let waits = json!({"phase": "Pending", "containerStatuses": [{"name": "web",
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no"}}}]});
    let spans = (1..40)
        .fold(History::default().added(&pod()), turns)
        .modified(&pod(), &status(&waits))
        .later(30)
        .deleted(&pod())
        .spans(&Rules::default(), "");
    let events = &named(&spans, "reconcile Pod").events;
    assert_eq!(events.len(), 32);
    assert_eq!(events.iter().filter(|event| event.name == "waiting").count(), 1);
}

#[test]
fn object_of_a_kind_without_status_has_converged_when_it_stands_observed() {
    let template = object("Template", "canary");
    let created = |history: History| history.later(1).added(&template);
    created(History::default().without_status("Template")).becomes(expect![[r#"
        create Template shop/canary g1 -> converged
    "#]]);
    // Without the line, a status may still follow.
    created(History::default()).becomes(expect![[r#"
        create Template shop/canary g1 -> unknown
    "#]]);
}

#[test]
fn kind_without_status_subresource_whose_controller_writes_one_is_judged_by_it() {
    let (first, second) = (object("Workflow", "first"), object("Workflow", "second"));
    let at_work = status(&json!({"phase": "Running"}));
    History::default()
        .without_status("Workflow")
        .added(&first)
        .later(1)
        .modified(&first, &at_work)
        .later(30)
        .added(&second)
        .becomes(expect![[r#"
            create Workflow shop/second g1 -> unknown
            create Workflow shop/first g1 -> timed_out  Running: status.phase is Running
        "#]]);
}
