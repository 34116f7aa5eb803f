//! Claims about changes that a relist shows, and about restored stores.

use expect_test::expect;
use serde_json::{Value, json};
use spanlink::trace::rules::Rules;

use crate::written::{History, current, merged, object, owned};

#[test]
fn object_first_shown_by_a_relist_follows_from_the_change_in_flight_at_its_creation() {
    let owner = object("Widget", "w");
    let stepped = merged(
        &owner,
        &json!({"metadata": {"generation": 2, "managedFields": [
            {"manager": "kubectl", "operation": "Update", "time": "2026-11-24T10:00:05Z",
             "fieldsV1": {"f:spec": {"f:size": {}}}}]}, "spec": {"size": 2}}),
    );
    let part = |name: &str, second: u32| {
        let created = format!("2026-11-24T10:00:{second:02}Z");
        merged(
            &owned(&object("Part", name), &[(&owner, true)]),
            &json!({"metadata": {"creationTimestamp": created}}),
        )
    };
    // The watch of Parts is away while both are made; the Widget is dealt with in between.
    History::default()
        .listed("Part", &[])
        .listed("Widget", &[])
        .added(&owner)
        .modified(&owner, &current(1))
        .later(5)
        .event("MODIFIED", &stepped)
        .later(5)
        .modified(&stepped, &current(2))
        .later(5)
        .listed("Part", &[&part("before", 3), &part("early", 6), &part("long-after", 15)])
        .becomes(expect![[r#"
            create Widget shop/w g1 -> converged
            └─ create Part before g1 -> unknown
            update Widget shop/w g2 -> converged  {spec.size by kubectl}
            └─ create Part early g1 -> unknown
            create Part shop/long-after g1 -> unknown  (owner settled)
        "#]]);
}

#[test]
fn update_shown_by_a_relist_follows_from_the_change_in_flight_at_its_time() {
    let step = |object: &Value, manager: &str, second: u32| {
        let time = format!("2026-11-24T10:00:{second:02}Z");
        let metadata = json!({"generation": 2, "managedFields": [
            {"manager": manager, "operation": "Update", "time": time,
             "fieldsV1": {"f:spec": {"f:size": {}}}}]});
        merged(object, &json!({"metadata": metadata, "spec": {"size": 2}}))
    };
    let owner = object("Widget", "w");
    let part = owned(&object("Part", "p"), &[(&owner, true)]);
    // Dealt with, and noted once more after the Widget was.
    History::default()
        .added(&owner)
        .added(&part)
        .modified(&part, &current(1))
        .modified(&owner, &current(1))
        .later(5)
        .event("MODIFIED", &step(&owner, "kubectl", 5))
        .later(2)
        .modified(&step(&owner, "kubectl", 5), &current(2))
        .later(5)
        .listed("Part", &[&merged(&step(&part, "operator", 6), &current(2))])
        .becomes(expect![[r#"
            create Widget shop/w g1 -> converged
            └─ create Part p g1 -> converged
            update Widget shop/w g2 -> converged  {spec.size by kubectl}
            └─ update Part p g2 -> converged  {spec.size by operator}
        "#]]);
}

#[test]
fn order_of_relists_does_not_change_the_chain() {
    let made = |object: &Value| {
        let created = json!({"metadata": {"creationTimestamp": "2026-11-24T10:01:00Z"}});
        merged(object, &created)
    };
    let widget = made(&object("Widget", "w"));
    let part = made(&owned(&object("Part", "p"), &[(&widget, true)]));
    let piece = made(&owned(&object("Piece", "q"), &[(&part, true)]));
    let kinds = [("Widget", &widget), ("Part", &part), ("Piece", &piece)];
    let spans_in = |order: [usize; 3]| {
        let history = kinds.iter().fold(History::default(), |h, (kind, _)| h.listed(kind, &[]));
        let list = |history: History, all: bool| {
            let lists = order.iter().filter_map(|at| kinds.get(*at));
            lists.fold(history.later(120), |history, (kind, object)| {
                history.listed(kind, if all { std::slice::from_ref(object) } else { &[] })
            })
        };
        let spans = list(list(history, true), false).spans(&Rules::default(), "");
        let heads = spans.iter().filter(|span| span.is_head());
        heads.map(|head| head.name.to_string()).collect::<Vec<_>>()
    };
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        assert_eq!(spans_in(order), ["create Widget", "delete Widget"], "{order:?}");
    }
}

#[test]
fn owner_is_waited_for_again_after_the_store_was_restored() {
    let owner = |generation: i64| {
        let step = json!({"metadata": {"generation": generation}, "spec": {"size": generation}});
        merged(&object("Widget", "w"), &step)
    };
    let part = owned(&object("Part", "p"), &[(&owner(1), true)]);
    History::default()
        .added(&owner(1))
        .later(60)
        .event("MODIFIED", &owner(2))
        .event("MODIFIED", &owner(3))
        // Restored, and the Part is seen before the second that made it.
        .late("MODIFIED", &merged(&owner(1), &current(1)), 10)
        .late("ADDED", &part, 12)
        .late("MODIFIED", &merged(&owner(2), &json!({"status": current(1)["status"]})), 11)
        .becomes(expect![[r#"
            create Widget shop/w g1 -> unknown
            update Widget shop/w g2 -> superseded  {spec.size}
            update Widget shop/w g3 -> superseded  supersedes g2  {spec.size}
            update Widget shop/w g1 -> converged  supersedes g3  (rewound)  {spec.size}
            update Widget shop/w g2 -> timed_out  no verdict before the deadline  {spec.size}
            └─ create Part p g1 -> unknown
        "#]]);
}
