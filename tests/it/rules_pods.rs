//! Rules about the phases of Pods, by hand-written histories.

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use spanlink::daemon::rules;

use crate::{
    phases::{Times, phases_of},
    scenarios::settings,
    written::{
        History, condition, going, is_true, kubelet_event, merged, object, owned, pod, status,
    },
};

fn time(second: u32) -> String {
    format!("2026-11-24T10:00:{second:02}Z")
}

fn waits() -> Value {
    json!({"waiting": {"reason": "ContainerCreating"}})
}

fn runs(since: u32) -> Value {
    json!({"running": {"startedAt": time(since)}})
}

fn ran(from: u32, to: u32) -> Value {
    json!({"terminated": {"exitCode": 0, "startedAt": time(from), "finishedAt": time(to)}})
}

/// Scheduled at 1, with a sandbox at 2; containers in these states.
fn at(containers: &[(&str, Value)]) -> Value {
    let containers: Vec<Value> =
        containers.iter().map(|(name, state)| json!({"name": name, "state": state})).collect();
    status(&json!({
        "phase": "Pending", "containerStatuses": containers,
        "conditions": [is_true("PodScheduled", 1), is_true("PodReadyToStartContainers", 2)],
    }))
}

/// Checks the phases that follow from Events, without the Events as span events.
fn has_phases_with_events(history: &History, expected: &Expect) {
    let configuration = "watch: [{kind: Pod, events: true}]\n";
    let mut spans = history.spans(&rules(&settings(configuration)), configuration);
    for span in &mut spans {
        span.events.clear();
    }
    expected.assert_eq(&phases_of(&spans, Times::Shown));
}

#[test]
fn a_pull_ends_with_the_last_image_once_all_containers_run() {
    let history = History::default()
        .added(&pod())
        .later(2)
        .modified(&pod(), &at(&[("a", waits()), ("b", waits()), ("c", waits())]))
        .added(&kubelet_event("Pulling", "containers", "a", 2))
        .added(&kubelet_event("Pulling", "containers", "b", 2))
        .added(&kubelet_event("Pulling", "containers", "c", 2))
        .later(5)
        .added(&kubelet_event("Pulled", "containers", "a", 7))
        // The first runs, the others are pulled.
        .modified(&pod(), &at(&[("a", runs(7)), ("b", waits()), ("c", waits())]))
        .later(5)
        .added(&kubelet_event("Pulled", "containers", "b", 12))
        // Received last, and written before.
        .added(&kubelet_event("Pulled", "containers", "c", 10))
        .later(8)
        .modified(&pod(), &at(&[("a", runs(7)), ("b", runs(13)), ("c", runs(20))]));
    has_phases_with_events(
        &history,
        &expect![[r#"
          reconcile Pod it schedule 1.9s by default-scheduler
          reconcile Pod it sandbox 0.2s by kubelet
          reconcile Pod it pull 10.6s by kubelet
          reconcile Pod it start 8.2s by kubelet
          reconcile Pod it ready 881.2s by kubelet timeout
        reconcile Pod it g1 waited for Pod it ready timeout
    "#]],
    );
}

#[test]
fn pull_ends_before_the_containers_start_in_any_order_of_events() {
    let history = History::default()
        .added(&pod())
        .later(2)
        .modified(&pod(), &at(&[("web", waits())]))
        .added(&kubelet_event("Pulling", "containers", "web", 2))
        .later(8)
        // Both are of the same second.
        .added(&kubelet_event("Pulled", "containers", "web", 10))
        .later(2)
        .modified(&pod(), &at(&[("web", runs(10))]));
    has_phases_with_events(
        &history,
        &expect![[r#"
          reconcile Pod it schedule 1.9s by default-scheduler
          reconcile Pod it sandbox 0.2s by kubelet
          reconcile Pod it pull 7.8s by kubelet
          reconcile Pod it start 0.0s by kubelet
          reconcile Pod it ready 892.2s by kubelet timeout
        reconcile Pod it g1 waited for Pod it ready timeout
    "#]],
    );
}

#[test]
fn present_images_are_not_pulled_and_init_images_are_pulled_within_their_phase() {
    let of = |init: &Value, web: &Value| {
        let init = json!({"initContainerStatuses": [{"name": "first", "state": init}]});
        merged(&at(&[("web", web.clone())]), &status(&init))
    };
    let initialized = merged(
        &of(&ran(3, 6), &runs(8)),
        &status(&json!({"conditions":
            [is_true("PodScheduled", 1), is_true("PodReadyToStartContainers", 2), is_true("Initialized", 6)]})),
    );
    let history = History::default()
        .added(&pod())
        .later(2)
        .modified(&pod(), &of(&waits(), &waits()))
        .added(&kubelet_event("Pulling", "initContainers", "first", 2))
        .added(&kubelet_event("Pulled", "initContainers", "first", 3))
        .later(5)
        // The image is present: no Event reports a pull.
        .added(&kubelet_event("Pulled", "containers", "web", 7))
        .later(3)
        .modified(&pod(), &initialized);
    has_phases_with_events(
        &history,
        &expect![[r#"
          reconcile Pod it schedule 1.9s by default-scheduler
          reconcile Pod it sandbox 0.2s by kubelet
          reconcile Pod it init 3.8s by kubelet
          init it init first 3.8s by kubelet
          reconcile Pod it start 2.0s by kubelet
          reconcile Pod it ready 902.6s by kubelet timeout
        reconcile Pod it g1 waited for Pod it ready timeout
    "#]],
    );
}

#[test]
fn a_container_has_started_when_it_first_ran_and_a_pod_with_the_last_of_them() {
    let last = |name: &str, state: &Value, last: &Value| json!({"name": name, "state": state, "lastState": last});
    let no_start = json!({"terminated": {"exitCode": 1}});
    let containers = [
        last("a", &runs(9), &ran(4, 5)),
        last("b", &ran(10, 11), &ran(6, 7)),
        last("c", &runs(5), &no_start),
    ];
    let ran_all = merged(&at(&[]), &status(&json!({"containerStatuses": containers})));
    History::default()
        .added(&pod())
        .later(3)
        .modified(&pod(), &at(&[("a", waits()), ("b", waits()), ("c", waits())]))
        .later(12)
        .modified(&pod(), &ran_all)
        .has_phases(expect![[r#"
              reconcile Pod it schedule 0.9s by default-scheduler
              reconcile Pod it sandbox 2.0s by kubelet
              reconcile Pod it start 3.0s by kubelet
              reconcile Pod it ready 897.2s by kubelet timeout
            reconcile Pod it g1 waited for Pod it ready timeout
        "#]]);
}

#[test]
fn a_pod_has_terminated_with_the_last_of_its_containers() {
    let held = |containers: &[(&str, Value)]| {
        merged(&going(&pod(), &["example.com/keep"]), &at(containers))
    };
    History::default()
        .listed("Pod", &[&merged(&pod(), &at(&[("a", runs(0)), ("b", runs(0))]))])
        .later(1)
        .event("MODIFIED", &held(&[("a", runs(0)), ("b", runs(0))]))
        .later(4)
        .event("MODIFIED", &held(&[("a", ran(0, 5)), ("b", runs(0))]))
        .later(4)
        .event("MODIFIED", &held(&[("a", ran(0, 5)), ("b", ran(0, 9))]))
        .later(5)
        .event("DELETED", &held(&[("a", ran(0, 5)), ("b", ran(0, 9))]))
        .has_phases(expect![[r#"
              reconcile Pod it terminate 8.4s by kubelet
              reconcile Pod it finalize 5.1s by example.com/keep SomeFinalizersRemain (example.com/keep) [finalizer removed example.com/keep]
            reconcile Pod it g1 waited for Pod it terminate
        "#]]);
}

#[test]
fn finalizers_of_an_unbound_pod_are_its_only_phase() {
    let gated =
        status(&json!({"conditions": [condition("PodScheduled", "False", "SchedulingGated", 0)]}));
    let held = merged(&going(&pod(), &["example.com/keep"]), &gated);
    let history = History::default()
        .listed("Pod", &[&merged(&pod(), &gated)])
        .later(1)
        .event("MODIFIED", &held)
        .later(30)
        .event("DELETED", &held);
    history.has_phases(expect![[r#"
          reconcile Pod it finalize 30.3s by example.com/keep SomeFinalizersRemain (example.com/keep) [finalizer removed example.com/keep]
        reconcile Pod it g1 waited for Pod it finalize SomeFinalizersRemain
    "#]]);
}

#[test]
fn finalizers_removed_before_the_containers_end_are_not_a_phase() {
    let running = merged(&pod(), &at(&[("web", runs(0))]));
    let over = merged(&pod(), &at(&[("web", ran(0, 9))]));
    History::default()
        .listed("Pod", &[&running])
        .later(1)
        .event("MODIFIED", &going(&running, &["example.com/keep"]))
        .later(3)
        .event("MODIFIED", &going(&running, &[]))
        .later(5)
        .event("MODIFIED", &going(&over, &[]))
        .later(1)
        .event("DELETED", &going(&over, &[]))
        .has_phases(expect![[r#"
              reconcile Pod it terminate 9.5s by kubelet [finalizer removed example.com/keep]
            reconcile Pod it g1 waited for Pod it terminate
        "#]]);
}

/// Over at once, with two init containers, by the API's second.
fn at_once(scheduled: u32, initialized: u32) -> Value {
    let over = |name: &str| json!({"name": name, "state": ran(initialized, initialized)});
    status(&json!({
        "phase": "Pending", "initContainerStatuses": [over("a"), over("b")],
        "conditions": [is_true("PodScheduled", scheduled), is_true("Initialized", initialized)],
    }))
}

#[test]
fn init_containers_of_one_second_have_phases_as_far_as_time_allows() {
    let seen_late = |scheduled: u32, initialized: u32| {
        let history = History::default().added(&pod()).later(9);
        history.modified(&pod(), &at_once(scheduled, initialized))
    };
    seen_late(1, 4).has_phases(expect![[r#"
          reconcile Pod it schedule 0.9s by default-scheduler
          reconcile Pod it init 3.0s by kubelet
          init it init a 3.0s by kubelet
          init it init b 0.0s by kubelet
          reconcile Pod it start 905.2s by kubelet timeout
        reconcile Pod it g1 waited for Pod it start timeout
    "#]]);
    seen_late(4, 4).has_phases(expect![[r#"
          reconcile Pod it schedule 3.9s by default-scheduler
          reconcile Pod it init 0.0s by kubelet
          init it init a 0.0s by kubelet
          reconcile Pod it start 905.2s by kubelet timeout
        reconcile Pod it g1 waited for Pod it start timeout
    "#]]);
}

#[test]
fn init_containers_that_ran_before_the_change_are_left_out() {
    let set = object("Widget", "w");
    let pod = owned(&pod(), &[(&set, true)]);
    History::default().added(&set).later(9).added(&merged(&pod, &at_once(0, 0))).has_phases(
        expect![[r#"
              create Pod it schedule 0.0s by default-scheduler
              create Pod it init 0.0s by kubelet
            reconcile Widget w g1 waited for Pod it start
              create Pod it start 909.1s by kubelet timeout
            create Pod it g1 waited for Pod it start timeout
        "#]],
    );
}
