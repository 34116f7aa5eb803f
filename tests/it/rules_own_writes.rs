//! Claims about writes of the spec by the object's own controller (`docs/causes.md`, The controller's
//! own write).

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use spanlink::export::tree::{Style, render};

use crate::{
    late::Daemon,
    written::{History, annotated, merged, object, owned},
};

/// A Widget of this generation, whose size a person wrote and whose default a controller.
fn widget(generation: i64, size: i64, default: Option<i64>) -> Value {
    let spec = json!({"metadata": {"generation": generation}, "spec": {"size": size}});
    let widget = merged(&annotated(&object("Widget", "w"), '1'), &spec);
    match default {
        Some(default) => merged(&widget, &json!({"spec": {"default": default}})),
        None => widget,
    }
}

/// An entry of managedFields at a second after 10:00.
fn entry(manager: &str, second: u32, fields: &Value) -> Value {
    json!({"manager": manager, "operation": "Update", "time": format!("2026-11-24T10:00:{second:02}Z"),
        "fieldsV1": fields})
}

fn by_person(second: u32) -> Value {
    entry("kubectl", second, &json!({"f:spec": {"f:size": {}}}))
}

fn default_by(manager: &str, second: u32) -> Value {
    entry(manager, second, &json!({"f:spec": {"f:default": {}}}))
}

fn status_by(manager: &str) -> Value {
    let fields = json!({"f:status": {"f:observedGeneration": {}}});
    merged(&entry(manager, 0, &fields), &json!({"subresource": "status"}))
}

fn managed(object: &Value, entries: &[Value]) -> Value {
    merged(object, &json!({"metadata": {"managedFields": entries}}))
}

fn ready(object: &Value, status: &str) -> Value {
    let generation = &object["metadata"]["generation"];
    let status = json!({"observedGeneration": generation,
        "conditions": [{"type": "Ready", "status": status}]});
    merged(object, &json!({ "status": status }))
}

fn part(name: &str, maker: &str) -> Value {
    let part = owned(&object("Part", name), &[(&object("Widget", "w"), true)]);
    let reference = json!({"f:metadata": {"f:ownerReferences": {r#"k:{"uid":"Widget-w"}"#: {}}}});
    managed(&part, &[entry(maker, 0, &reference)])
}

/// A controller with a status writes a default into the spec while the change of a person is in
/// flight.
fn defaulted(writer: &str, status: &[Value]) -> History {
    let first = managed(&widget(1, 1, None), &[&[by_person(0)], status].concat());
    let second =
        managed(&widget(2, 1, Some(5)), &[&[by_person(0), default_by(writer, 0)], status].concat());
    History::default()
        .added(&managed(&widget(1, 1, None), &[by_person(0)]))
        .event("MODIFIED", &ready(&first, "False"))
        .event("MODIFIED", &merged(&second, &json!({"status": ready(&first, "False")["status"]})))
        .added(&part("p", "operator"))
        .event("MODIFIED", &ready(&second, "True"))
}

#[test]
fn own_write_is_below_the_change_in_flight_and_supersedes_nothing() {
    defaulted("operator", &[status_by("operator")]).becomes(expect![[r#"
        create Widget shop/w g1 -> converged  [context 11111111…]
        ├─ update Widget w g2 -> converged  {spec.default by operator}
        └─ create Part p g1 -> unknown
    "#]]);
}

#[test]
fn write_of_another_manager_supersedes() {
    defaulted("autoscaler", &[status_by("operator")]).becomes(expect![[r#"
        create Widget shop/w g1 -> superseded  [context 11111111…]
        update Widget shop/w g2 -> converged  [context 11111111… stale]  supersedes g1  {spec.default by autoscaler}
        └─ create Part p g1 -> unknown
    "#]]);
    // Which of two writers of the status is the controller is open.
    defaulted("operator", &[status_by("operator"), status_by("other")]).becomes(expect![[r#"
        create Widget shop/w g1 -> superseded  [context 11111111…]
        update Widget shop/w g2 -> converged  [context 11111111… stale]  supersedes g1  {spec.default by operator}
        └─ create Part p g1 -> unknown
    "#]]);
    // A person who writes spec and status.
    defaulted("kubectl-edit", &[status_by("kubectl-edit")]).becomes(expect![[r#"
        create Widget shop/w g1 -> superseded  [context 11111111…]
        update Widget shop/w g2 -> converged  [context 11111111… stale]  supersedes g1  {spec.default by kubectl-edit}
        └─ create Part p g1 -> unknown
    "#]]);
}

/// The controller writes before there is a status.
fn early(then: impl Fn(History, &Value) -> History) -> History {
    let second = managed(&widget(2, 1, Some(5)), &[by_person(0), default_by("operator", 0)]);
    let history = History::default()
        .added(&managed(&widget(1, 1, None), &[by_person(0)]))
        .event("MODIFIED", &second);
    then(history, &second)
}

fn with_status_by(object: &Value, writer: &str, status: &str) -> Value {
    let entries = [by_person(0), default_by("operator", 0), status_by(writer)];
    ready(&managed(object, &entries), status)
}

#[test]
fn early_own_write_is_shown_by_the_first_status() {
    let as_written_by = |writer: &'static str, expected: Expect| {
        early(|history, second| {
            history
                .event("MODIFIED", &with_status_by(second, writer, "False"))
                .later(5)
                .event("MODIFIED", &with_status_by(second, writer, "True"))
        })
        .becomes(expected);
    };
    as_written_by(
        "operator",
        expect![[r#"
        create Widget shop/w g1 -> converged  [context 11111111…]
        └─ update Widget w g2 -> converged  {spec.default by operator}
    "#]],
    );
    as_written_by(
        "another",
        expect![[r#"
        create Widget shop/w g1 -> superseded  [context 11111111…]
        update Widget shop/w g2 -> converged  [context 11111111… stale]  supersedes g1  [context 11111111…]  {spec.default by operator}
    "#]],
    );
}

#[test]
fn early_own_write_is_shown_by_a_child() {
    let as_made_by = |maker: &'static str, expected: Expect| {
        early(|history, second| {
            history
                .added(&part("p", maker))
                .later(5)
                .event("MODIFIED", &with_status_by(second, "operator", "True"))
        })
        .becomes(expected);
    };
    as_made_by(
        "operator",
        expect![[r#"
        create Widget shop/w g1 -> converged  [context 11111111…]
        ├─ update Widget w g2 -> converged  {spec.default by operator}
        └─ create Part p g1 -> unknown
    "#]],
    );
    as_made_by(
        "another",
        expect![[r#"
        create Widget shop/w g1 -> superseded  [context 11111111…]
        update Widget shop/w g2 -> converged  [context 11111111… stale]  supersedes g1  [context 11111111…]  {spec.default by operator}
        └─ create Part p g1 -> unknown
    "#]],
    );
}

#[test]
fn early_write_without_evidence_supersedes() {
    early(|history, second| {
        history.later(5).event("MODIFIED", &with_status_by(second, "operator", "True"))
    })
    .becomes(expect![[r#"
        create Widget shop/w g1 -> superseded  [context 11111111…]
        update Widget shop/w g2 -> converged  [context 11111111… stale]  supersedes g1  [context 11111111…]  {spec.default by operator}
    "#]]);
}

#[test]
fn early_write_is_settled_before_the_next_change() {
    early(|history, second| {
        let third = merged(second, &json!({"metadata": {"generation": 3}, "spec": {"size": 3}}));
        let third = managed(&third, &[default_by("operator", 0), by_person(0)]);
        history
            .added(&part("p", "operator"))
            .event("MODIFIED", &third)
            .later(5)
            .event("MODIFIED", &ready(&third, "True"))
    })
    .becomes(expect![[r#"
        create Widget shop/w g1 -> superseded  [context 11111111…]
        ├─ update Widget w g2 -> converged  {spec.default by operator}
        └─ create Part p g1 -> unknown
        update Widget shop/w g3 -> converged  [context 11111111… stale]  supersedes g1  [context 11111111…]  {spec.size by kubectl}
    "#]]);
}

#[test]
fn own_write_with_nothing_in_flight_is_a_head() {
    let status = status_by("operator");
    let first = ready(&managed(&widget(1, 1, None), &[by_person(0), status.clone()]), "True");
    let second =
        managed(&widget(2, 1, Some(5)), &[by_person(0), default_by("operator", 9), status]);
    History::default()
        .added(&managed(&widget(1, 1, None), &[by_person(0)]))
        .event("MODIFIED", &first)
        .later(9)
        .event("MODIFIED", &merged(&second, &json!({"status": first["status"]})))
        .event("MODIFIED", &ready(&second, "True"))
        .becomes(expect![[r#"
            create Widget shop/w g1 -> converged  [context 11111111…]
            update Widget shop/w g2 -> converged  [context 11111111… stale]  {spec.default by operator}
        "#]]);
}

#[test]
fn removal_in_the_second_of_a_persons_change_is_the_controllers() {
    let status = status_by("operator");
    let first = managed(&widget(1, 1, Some(0)), &[by_person(0), status.clone()]);
    // A label in its last write makes its entry new.
    let labels = entry("operator", 0, &json!({"f:metadata": {"f:labels": {"f:revision": {}}}}));
    let second = managed(&widget(2, 1, None), &[by_person(0), labels, status]);
    let unsettled = json!({"status": ready(&first, "False")["status"]});
    History::default()
        .added(&managed(&widget(1, 1, Some(0)), &[by_person(0)]))
        .event("MODIFIED", &merged(&first, &unsettled))
        .event("MODIFIED", &merged(&second, &unsettled))
        .event("MODIFIED", &ready(&second, "True"))
        .becomes(expect![[r#"
            create Widget shop/w g1 -> converged  [context 11111111…]
            └─ update Widget w g2 -> converged  {spec by operator}
        "#]]);
}

#[test]
fn children_of_an_own_write_are_below_the_persons_change_whose_template_it_completed() {
    let status = status_by("operator");
    let template = |image: &str, default: bool| {
        let pod =
            if default { json!({"image": image, "resources": 1}) } else { json!({"image": image}) };
        json!({"spec": {"template": {"spec": pod}}})
    };
    let size = |generation: i64, default: Option<i64>, image: &str, manager: &str| {
        let widget = widget(generation, generation, default);
        let widget = merged(&widget, &template(image, default.is_some()));
        let by = entry(
            manager,
            0,
            &json!({"f:spec": {"f:default": {}, "f:size": {}, "f:template": {}}}),
        );
        let unsettled = json!({"status": ready(&object("Widget", "w"), "False")["status"]});
        merged(&managed(&widget, &[by, status.clone()]), &unsettled)
    };
    let set = |name: &str, image: &str| merged(&part(name, "operator"), &template(image, true));
    History::default()
        .added(&managed(&size(1, None, "a", "kubectl"), &[by_person(0)]))
        .event("MODIFIED", &size(2, None, "b", "kubectl"))
        .event("MODIFIED", &size(3, Some(1), "b", "operator"))
        .event("MODIFIED", &size(4, None, "c", "kubectl"))
        .added(&set("of-b", "b"))
        .becomes(expect![[r#"
            create Widget shop/w g1 -> superseded  [context 11111111…]
            update Widget shop/w g2 -> superseded  [context 11111111… stale]  supersedes g1  {spec.size, spec.template.spec.image by kubectl}
            ├─ update Widget w g3 -> converged  {spec.default, spec.size, spec.template.spec.resources by operator}
            └─ create Part of-b g1 -> unknown
            update Widget shop/w g4 -> timed_out  Ready: condition Ready is False  [context 11111111… stale]  supersedes g2  {spec.size, spec.template.spec.image by kubectl}
        "#]]);
}

#[test]
fn own_write_is_resumed_after_a_restart() {
    let second = managed(&widget(2, 1, Some(5)), &[by_person(0), default_by("operator", 0)]);
    let history = History::default()
        .added(&managed(&widget(1, 1, None), &[by_person(0)]))
        .event("MODIFIED", &second)
        .event("MODIFIED", &with_status_by(&second, "operator", "False"))
        .later(5)
        .event("MODIFIED", &with_status_by(&second, "operator", "True"));
    let mut daemon = Daemon::of(&history);
    daemon.process_next(2);
    daemon.is_not_there(0.3, 0.35);
    daemon.resumes("Widget", 0.35);
    daemon.process_next(2);
    daemon.is_at(100.0);
    expect![[r#"
        create Widget shop/w g1 -> converged  [context 11111111…]
        └─ update Widget w g2 -> converged  {spec.default by operator}
    "#]]
    .assert_eq(&render(&daemon.end(), Style::STABLE));
}
