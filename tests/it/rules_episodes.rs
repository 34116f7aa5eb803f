//! Claims about episodes: work that no change of the spec began (`docs/causes.md`, Episodes).

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use spanlink::{
    export::tree::{Style, render},
    trace::{model::span::Role, rules::Rules},
};

use crate::{
    late::Daemon,
    written::{History, annotated, built_in, current, merged, object, owned, status},
};

fn widget() -> Value {
    annotated(&object("Widget", "w"), '1')
}

/// A Widget whose controller is at work, or has failed.
fn ready(value: &str, reason: &str, second: u32) -> Value {
    let at = format!("2026-11-24T10:00:{second:02}Z");
    status(&json!({"observedGeneration": 1, "conditions": [
        {"type": "Ready", "status": value, "reason": reason, "lastTransitionTime": at}]}))
}

fn working(second: u32) -> Value {
    ready("False", "Renewing", second)
}

fn failing(second: u32) -> Value {
    let at = format!("2026-11-24T10:00:{second:02}Z");
    status(&json!({"observedGeneration": 1, "conditions": [
        {"type": "Stalled", "status": "True", "reason": "Broken", "message": "It broke.",
         "lastTransitionTime": at}]}))
}

fn part(name: &str) -> Value {
    owned(&object("Part", name), &[(&widget(), true)])
}

/// Created and Current, ten seconds before what follows.
fn at_rest() -> History {
    History::default()
        .listed("Part", &[])
        .added(&widget())
        .modified(&widget(), &current(1))
        .later(10)
}

#[test]
fn work_without_a_change_is_a_head_and_causes_what_the_controller_makes() {
    at_rest()
        .modified(&widget(), &working(10))
        .added(&part("p"))
        .later(1)
        .modified(&widget(), &ready("True", "Ready", 11))
        .becomes(expect![[r#"
            create Widget shop/w g1 -> converged  [context 11111111…]
            reconcile Widget shop/w -> converged  Renewing  (owner settled)
            └─ create Part p g1 -> unknown
        "#]]);
}

#[test]
fn what_a_controller_makes_before_its_status_says_so_is_below_the_episode() {
    at_rest()
        .added(&part("before"))
        .added(&object("Part", "unrelated"))
        .modified(&widget(), &working(10))
        .later(1)
        .modified(&widget(), &ready("True", "Ready", 11))
        .becomes(expect![[r#"
            create Part shop/unrelated g1 -> unknown
            create Widget shop/w g1 -> converged  [context 11111111…]
            reconcile Widget shop/w -> converged  Renewing  (owner settled)
            └─ create Part before g1 -> unknown
        "#]]);
    at_rest()
        .added(&part("long-before"))
        .later(1)
        .modified(&widget(), &working(11))
        .later(4)
        .modified(&widget(), &ready("True", "Ready", 15))
        .becomes(expect![[r#"
            create Part shop/long-before g1 -> unknown  (owner settled)
            create Widget shop/w g1 -> converged  [context 11111111…]
            reconcile Widget shop/w -> converged  Renewing  (owner settled)
        "#]]);
}

#[test]
fn episode_that_lasts_or_fails_has_spans_and_one_that_flaps_has_none() {
    let ends = |seconds: u64, end: Value, expected: Expect| {
        at_rest()
            .modified(&widget(), &working(10))
            .later(seconds)
            .modified(&widget(), &end)
            .later(60)
            .becomes(expected);
    };
    ends(
        1,
        ready("True", "Ready", 11),
        expect![[r#"
        create Widget shop/w g1 -> converged  [context 11111111…]
    "#]],
    );
    ends(
        3,
        ready("True", "Ready", 13),
        expect![[r#"
        create Widget shop/w g1 -> converged  [context 11111111…]
        reconcile Widget shop/w -> converged  Renewing  (owner settled)
    "#]],
    );
    ends(
        1,
        failing(11),
        expect![[r#"
        create Widget shop/w g1 -> converged  [context 11111111…]
        reconcile Widget shop/w -> failed  Broken: It broke.  (owner settled)
    "#]],
    );
    // It never ends.
    at_rest().modified(&widget(), &working(10)).becomes(expect![[r#"
        create Widget shop/w g1 -> converged  [context 11111111…]
        reconcile Widget shop/w -> timed_out  Renewing: condition Ready is False  (owner settled)
    "#]]);
}

#[test]
fn change_of_the_spec_supersedes_an_episode() {
    let second = json!({"metadata": {"generation": 2}, "spec": {"size": 2}});
    at_rest()
        .modified(&widget(), &working(10))
        .added(&part("p"))
        .modified(&widget(), &merged(&working(10), &second))
        .later(3)
        .modified(&widget(), &merged(&second, &current(2)))
        .becomes(expect![[r#"
            create Widget shop/w g1 -> converged  [context 11111111…]
            reconcile Widget shop/w -> superseded  Renewing  (owner settled)
            └─ create Part p g1 -> unknown
            update Widget shop/w g2 -> converged  [context 11111111… stale]  supersedes  {spec.size}
        "#]]);
}

#[test]
fn status_that_leaves_current_while_a_change_is_in_flight_begins_no_episode() {
    let second = json!({"metadata": {"generation": 2}, "spec": {"size": 2}});
    at_rest()
        .modified(&widget(), &merged(&working(10), &second))
        .added(&part("p"))
        .later(3)
        .modified(&widget(), &merged(&second, &current(2)))
        .becomes(expect![[r#"
            create Widget shop/w g1 -> converged  [context 11111111…]
            update Widget shop/w g2 -> converged  [context 11111111… stale]  {spec.size}
            └─ create Part p g1 -> unknown
        "#]]);
}

#[test]
fn built_in_kinds_and_kinds_configured_so_have_no_episodes() {
    at_rest()
        .modified(&widget(), &working(10))
        .added(&part("p"))
        .later(5)
        .modified(&widget(), &ready("True", "Ready", 15))
        .becomes_with(
            "watch: [{kind: Widget.example.com, episodes: false}, {kind: Part.example.com}]",
            expect![[r#"
                create Part shop/p g1 -> unknown  (owner settled)
                create Widget shop/w g1 -> converged  [context 11111111…]
            "#]],
        );
    let claim = built_in("v1", "PersistentVolumeClaim", &json!({}));
    let claimed = || {
        History::default()
            .added(&claim)
            .modified(&claim, &status(&json!({"phase": "Bound"})))
            .later(10)
            .modified(&claim, &status(&json!({"phase": "Pending"})))
            .later(9)
    };
    claimed().becomes(expect![[r#"
        create PersistentVolumeClaim shop/it -> converged
    "#]]);
    claimed().becomes_with("watch: [{kind: PersistentVolumeClaim, episodes: true}]", expect![[r#"
        create PersistentVolumeClaim shop/it -> converged
        reconcile PersistentVolumeClaim shop/it -> timed_out  no verdict before the deadline  (owner settled)
    "#]]);
}

/// A controller that writes the spec of its own object in an episode.
#[test]
fn own_write_in_an_episode_is_a_part_of_it() {
    let managed = |generation: i64, state: &Value| {
        let managers = json!([
            {"manager": "operator", "operation": "Update", "time": "2026-11-24T10:00:00Z",
             "fieldsV1": {"f:spec": {"f:serial": {}}}},
            {"manager": "operator", "operation": "Update", "time": "2026-11-24T10:00:00Z",
             "subresource": "status", "fieldsV1": {"f:status": {"f:observedGeneration": {}}}},
        ]);
        let spec = json!({"metadata": {"generation": generation, "managedFields": managers},
            "spec": {"serial": generation}});
        merged(&merged(&widget(), &spec), state)
    };
    let renewed =
        merged(&ready("True", "Ready", 13), &json!({"status": {"observedGeneration": 2}}));
    at_rest()
        .event("MODIFIED", &managed(1, &working(10)))
        .event("MODIFIED", &managed(2, &working(10)))
        .added(&part("p"))
        .later(3)
        .event("MODIFIED", &managed(2, &renewed))
        .becomes(expect![[r#"
            create Widget shop/w g1 -> converged  [context 11111111…]
            reconcile Widget shop/w -> converged  Renewing  (owner settled)
            ├─ create Part p g1 -> unknown
            └─ update Widget w g2 -> converged  {spec.serial by operator}
        "#]]);
}

#[test]
fn episode_links_to_the_change_of_what_its_object_names() {
    let reference = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let rollout = merged(
        &object("Rollout", "web"),
        &json!({"apiVersion": "argoproj.io/v1alpha1", "spec": {"workloadRef": reference}}),
    );
    let web = merged(&object("Deployment", "web"), &json!({"apiVersion": "apps/v1"}));
    let image = json!({"metadata": {"generation": 2}, "spec": {"image": 2}});
    let phase = |state: &Value, phase: &str| merged(state, &json!({"status": {"phase": phase}}));
    History::default()
        .added(&web)
        .added(&rollout)
        .modified(&rollout, &phase(&current(1), "Healthy"))
        .later(10)
        .modified(&web, &image)
        .modified(&rollout, &phase(&working(10), "Progressing"))
        .later(5)
        .modified(&rollout, &phase(&ready("True", "Ready", 15), "Healthy"))
        .becomes(expect![[r#"
            create Deployment shop/web g1 -> superseded
            create Rollout shop/web g1 -> converged
            update Deployment shop/web g2 -> timed_out  no verdict before the deadline  supersedes g1  {spec.image}
            reconcile Rollout shop/web -> converged  Progressing  (owner settled)  [reference Deployment web g2]
        "#]]);
}

#[test]
fn deletion_just_before_an_episode_is_not_caused_by_it() {
    let certificate = merged(
        &object("Certificate", "web"),
        &json!({"apiVersion": "cert-manager.io/v1", "spec": {"secretName": "web-tls"}}),
    );
    let annotation = json!({"annotations": {"cert-manager.io/certificate-name": "web"}});
    let secret =
        merged(&object("Secret", "web-tls"), &json!({"apiVersion": "v1", "metadata": annotation}));
    let again = merged(&secret, &json!({"metadata": {"uid": "again"}}));
    History::default()
        .added(&certificate)
        .added(&secret)
        .modified(&certificate, &current(1))
        .later(10)
        .deleted(&secret)
        .modified(&certificate, &working(10))
        .added(&again)
        .later(1)
        .modified(&certificate, &ready("True", "Ready", 11))
        .becomes(expect![[r#"
            create Certificate shop/web g1 -> converged
            └─ create Secret web-tls -> converged
            delete Secret shop/web-tls -> deleted  (owner settled)
            reconcile Certificate shop/web -> converged  Renewing  (owner settled)  [reference Secret web-tls]
            └─ create Secret web-tls -> converged
        "#]]);
}

#[test]
fn episode_is_resumed_after_a_restart() {
    let history = at_rest()
        .modified(&widget(), &working(10))
        .added(&part("p"))
        .later(5)
        .modified(&widget(), &ready("True", "Ready", 15));
    let mut daemon = Daemon::of(&history);
    daemon.process_next(4);
    daemon.is_not_there(10.4, 10.45);
    daemon.resumes("Widget", 10.45);
    daemon.resumes("Part", 10.45);
    daemon.process_next(2);
    daemon.is_at(100.0);
    expect![[r#"
        create Widget shop/w g1 -> converged  [context 11111111…]
        reconcile Widget shop/w -> converged  Renewing  (owner settled)
        └─ create Part p g1 -> unknown
    "#]]
    .assert_eq(&render(&daemon.end(), Style::STABLE));
}

#[test]
fn ids_of_an_episode_follow_from_its_first_status() {
    let history = |seconds| {
        at_rest()
            .modified(&widget(), &working(10))
            .later(seconds)
            .modified(&widget(), &ready("True", "Ready", 15))
            .later(20)
            .modified(&widget(), &working(40))
            .later(9)
            .modified(&widget(), &ready("True", "Ready", 50))
    };
    let heads = |seconds| {
        let spans = history(seconds).spans(&Rules::default(), "");
        let heads = spans.into_iter().filter(|span| &*span.name == "reconcile Widget");
        let heads = heads.filter(|span| span.role == Role::Change);
        heads.map(|span| (span.trace_id, span.span_id)).collect::<Vec<_>>()
    };
    let (one, other) = (heads(5), heads(6));
    assert_eq!(one.len(), 2);
    assert_ne!(one[0], one[1]);
    assert_eq!(one[0], other[0]);
}
