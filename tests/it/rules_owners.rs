//! Claims about owners as causes.

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use spanlink::trace::{model::span::Value as SpanValue, rules::Rules};

use crate::written::{History, current, merged, object, owned};

#[test]
fn owner_that_is_not_the_controller_is_linked_and_causes_nothing() {
    let owner = object("Widget", "w");
    let part = owned(&object("Part", "p"), &[(&owner, false)]);
    History::default().added(&owner).added(&part).becomes(expect![[r#"
        create Widget shop/w g1 -> unknown
        create Part shop/p g1 -> unknown  [owner Widget w g1]
    "#]]);
}

#[test]
fn owner_of_an_unwatched_kind_is_named() {
    let part = owned(&object("Part", "p"), &[(&object("Unwatched", "u"), true)]);
    let spans = History::default().added(&part).spans(&Rules::default(), "");
    let head = spans.first().unwrap();
    assert!(head.is_head() && head.links.is_empty());
    let name = head.attribute("spanlink.owner.name");
    assert_eq!(name, Some(&SpanValue::Text("u".into())));
    assert_eq!(head.attribute("spanlink.owner.span_id"), None);
}

#[test]
fn cluster_scoped_owner_causes_its_children_in_namespaces() {
    let mut owner = object("Tenant", "t");
    owner["metadata"].as_object_mut().unwrap().remove("namespace");
    let part = owned(&object("Part", "p"), &[(&owner, true)]);
    History::default().added(&owner).added(&part).becomes(expect![[r#"
        create Tenant t g1 -> unknown
        └─ create Part p g1 -> unknown
    "#]]);
}

#[test]
fn owner_cycle_ends_in_heads() {
    let (a, b) = (object("Ring", "a"), object("Ring", "b"));
    let (a, b) = (owned(&a, &[(&b, true)]), owned(&b, &[(&a, true)]));
    let mut history = History::default().added(&a).added(&b);
    for generation in 2..=24 {
        for (one, of) in [(&a, "a"), (&b, "b")] {
            let step =
                json!({"metadata": {"generation": generation}, "spec": {"step": [of, generation]}});
            history = history.modified(one, &step);
        }
    }
    let spans = history.spans(&Rules::default(), "");
    let heads = spans.iter().filter(|span| span.is_head()).count();
    assert!(heads > 2, "no chain is deeper than sixteen: {heads}");
    let changes =
        spans.iter().filter(|span| span.role == spanlink::trace::model::span::Role::Change);
    assert_eq!(changes.count(), 48);
}

#[test]
fn object_adopted_later_follows_its_new_owner() {
    let owner = object("Widget", "w");
    let part = object("Part", "p");
    let adopted = owned(&part, &[(&owner, true)]);
    History::default()
        .added(&part)
        .modified(&part, &current(1))
        .added(&owner)
        .modified(&adopted, &current(1))
        .modified(
            &merged(&adopted, &current(1)),
            &json!({"metadata": {"generation": 2}, "spec": {"size": 2}}),
        )
        .becomes(expect![[r#"
            create Part shop/p g1 -> converged
            create Widget shop/w g1 -> unknown
            └─ update Part p g2 -> timed_out  no verdict before the deadline  {spec.size}
        "#]]);
}

pub(crate) fn deployment(replicas: i64, generation: i64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "web", "generation": generation,
            "creationTimestamp": "2026-11-24T10:00:00Z",
            "managedFields": [
                {"manager": "kubectl", "operation": "Update", "time": "2026-11-24T10:00:00Z",
                 "fieldsV1": {"f:spec": {"f:template": {}}}},
                {"manager": "kube-controller-manager", "operation": "Update", "subresource": "scale",
                 "fieldsV1": {"f:spec": {"f:replicas": {}}}},
            ],
        },
        "spec": {"replicas": replicas, "template": {"spec": {}}},
    })
}

#[test]
fn owner_of_the_first_list_is_settled_only_if_it_was_current() {
    let made_under = |status: &Value, expected: Expect| {
        let owner = merged(&object("Widget", "w"), status);
        let part = owned(&object("Part", "p"), &[(&owner, true)]);
        History::default()
            .listed("Widget", &[&owner])
            .listed("Part", &[])
            .added(&part)
            .becomes(expected);
    };
    made_under(
        &current(1),
        expect![[r#"
            create Part shop/p g1 -> unknown  (owner settled)
        "#]],
    );
    made_under(
        &json!({"status": {"observedGeneration": 0}}),
        expect![[r#"
            create Part shop/p g1 -> unknown
        "#]],
    );
}

#[test]
fn change_by_a_person_of_an_operators_object_is_a_head() {
    let owner = object("Widget", "w");
    let part = owned(&object("Part", "p"), &[(&owner, true)]);
    let references = format!("k:{{\"uid\":{}}}", owner["metadata"]["uid"]);
    let by = |manager: &str, generation: i64| {
        merged(
            &part,
            &json!({
                "metadata": {"generation": generation, "managedFields": [
                    {"manager": "operator", "operation": "Update", "time": "2026-11-24T10:00:00Z",
                     "fieldsV1": {"f:metadata": {"f:ownerReferences": {&references: {}}}}},
                    {"manager": manager, "operation": "Update", "time": "2026-11-24T10:00:01Z",
                     "fieldsV1": {"f:spec": {"f:size": {}}}},
                ]},
                "spec": {"size": generation},
            }),
        )
    };
    History::default()
        .added(&owner)
        .added(&by("operator", 1))
        .event("MODIFIED", &by("operator", 2))
        .event("MODIFIED", &by("kubectl-edit", 3))
        .becomes(expect![[r#"
            create Widget shop/w g1 -> unknown
            ├─ create Part p g1 -> superseded
            └─ update Part p g2 -> superseded  supersedes g1  {spec.size by operator}
            update Part shop/p g3 -> unknown  [owner Widget w g1]  supersedes g2  {spec.size by kubectl-edit}
        "#]]);
}

#[test]
fn change_by_a_person_of_an_operators_list_is_a_head_for_every_kind_of_list_key() {
    let lists = [
        // Identified by name, as in paths.
        ("env", r#"{"name":"it"}"#, json!({"name": "it", "value": 1})),
        // Items with names that are identified by another key.
        ("volumeMounts", r#"{"mountPath":"/it"}"#, json!({"name": "it", "mountPath": "/it"})),
        (
            "ports",
            r#"{"containerPort":80,"protocol":"TCP"}"#,
            json!({"name": "http", "containerPort": 80, "protocol": "TCP"}),
        ),
        (
            "ports",
            r#"{"port":80,"protocol":"TCP"}"#,
            json!({"name": "http", "port": 80, "protocol": "TCP"}),
        ),
        // Not named at all.
        ("ports", r#"{"port":80,"protocol":"TCP"}"#, json!({"port": 80, "protocol": "TCP"})),
        ("hostAliases", r#"{"ip":"10.0.0.1"}"#, json!({"ip": "10.0.0.1"})),
        (
            "topologySpreadConstraints",
            r#"{"topologyKey":"zone","whenUnsatisfiable":"DoNotSchedule"}"#,
            json!({"topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}),
        ),
    ];
    let owner = object("Widget", "w");
    let part = owned(&object("Part", "p"), &[(&owner, true)]);
    let references = format!("k:{{\"uid\":{}}}", owner["metadata"]["uid"]);
    for (list, keys, item) in lists {
        let by = |manager: &str, generation: i64| {
            let fields = json!({format!("f:{list}"): {format!("k:{keys}"): {"f:edited": {}}}});
            let item = merged(&item, &json!({"edited": generation}));
            merged(
                &part,
                &json!({
                    "metadata": {"generation": generation, "managedFields": [
                        {"manager": "operator", "operation": "Update", "time": "2026-11-24T10:00:00Z",
                         "fieldsV1": {"f:metadata": {"f:ownerReferences": {&references: {}}}}},
                        {"manager": manager, "operation": "Update", "time": "2026-11-24T10:00:01Z",
                         "fieldsV1": {"f:spec": fields}},
                    ]},
                    "spec": {list: [item]},
                }),
            )
        };
        let spans = History::default()
            .added(&owner)
            .added(&by("operator", 1))
            .event("MODIFIED", &by("operator", 2))
            .event("MODIFIED", &by("kubectl-edit", 3))
            .spans(&Rules::default(), "");
        let updates = spans.iter().filter(|span| &*span.name == "update Part");
        let causes: Vec<_> = updates
            .map(|span| (span.attribute("spanlink.change.manager").cloned(), span.is_head()))
            .collect();
        let manager = |name: &str| Some(SpanValue::Text(name.into()));
        let expected = [(manager("operator"), false), (manager("kubectl-edit"), true)];
        assert_eq!(causes, expected, "{list} by {keys}");
    }
}

#[test]
fn owner_reference_at_the_time_of_the_change_decides() {
    let step = |object: &Value, generation: i64| {
        let step = json!({"metadata": {"generation": generation}, "spec": {"size": generation}});
        merged(object, &step)
    };
    let (owner, other) = (&object("Widget", "w"), &object("Widget", "other"));
    let part = |owners: &[(&Value, bool)]| owned(&object("Part", "p"), owners);
    let stepped = || {
        let created = History::default().added(owner).added(other).added(&part(&[(owner, true)]));
        created.later(1).event("MODIFIED", &step(&part(&[(owner, true)]), 2))
    };
    let becomes = |after: &[(&Value, bool)]| {
        stepped()
            .event("MODIFIED", &step(&part(after), 2))
            // Only now there is news of the owner.
            .late("MODIFIED", &step(owner, 2), 12)
            .becomes(expect![[r#"
                create Widget shop/w g1 -> superseded
                └─ create Part p g1 -> superseded
                create Widget shop/other g1 -> unknown
                update Widget shop/w g2 -> unknown  supersedes g1  {spec.size}
                └─ update Part p g2 -> unknown  supersedes g1  {spec.size}
            "#]]);
    };
    becomes(&[(owner, true)]);
    becomes(&[(owner, false)]);
    becomes(&[(other, true)]);
    becomes(&[]);
    // Taken and changed in one: by its new owner.
    stepped()
        .late("MODIFIED", &step(owner, 2), 12)
        .event("MODIFIED", &step(other, 2))
        .event("MODIFIED", &step(&part(&[(other, true)]), 3))
        .event("MODIFIED", &step(&part(&[]), 3))
        .becomes(expect![[r#"
            create Widget shop/w g1 -> superseded
            └─ create Part p g1 -> superseded
            create Widget shop/other g1 -> superseded
            update Widget shop/w g2 -> unknown  supersedes g1  {spec.size}
            └─ update Part p g2 -> superseded  supersedes g1  {spec.size}
            update Widget shop/other g2 -> unknown  supersedes g1  {spec.size}
            └─ update Part p g3 -> unknown  supersedes g2  {spec.size}
        "#]]);
}

#[test]
fn owner_past_its_deadline_causes_nothing_without_progress() {
    let owner = object("Widget", "w");
    let part = |name: &str, minute: u64| {
        let created = format!("2026-11-24T10:{minute:02}:00Z");
        merged(
            &owned(&object("Part", name), &[(&owner, true)]),
            &json!({"metadata": {"creationTimestamp": created}}),
        )
    };
    let late = History::default().added(&owner).later(16 * 60).added(&part("late", 16));
    late.becomes(expect![[r#"
        create Widget shop/w g1 -> unknown
        create Part shop/late g1 -> unknown  (owner settled)
    "#]]);
    // A slow roll keeps its parts.
    History::default()
        .added(&owner)
        .later(10 * 60)
        .added(&part("slow", 10))
        .later(10 * 60)
        .added(&part("slower", 20))
        .becomes(expect![[r#"
            create Widget shop/w g1 -> unknown
            ├─ create Part slow g1 -> unknown
            └─ create Part slower g1 -> unknown
        "#]]);
}

#[test]
fn owner_with_a_longer_deadline_is_a_cause_for_longer() {
    let of_an_hour = json!({"spec": {"progressDeadlineSeconds": 3600}});
    let owner = merged(&deployment(1, 1), &of_an_hour);
    let set = merged(
        &owned(&object("ReplicaSet", "web"), &[(&owner, true)]),
        &json!({"apiVersion": "apps/v1", "metadata": {"creationTimestamp": "2026-11-24T10:30:00Z"}}),
    );
    History::default().added(&owner).later(30 * 60).added(&set).becomes(expect![[r#"
        create Deployment shop/web g1 -> timed_out  no verdict before the deadline
        └─ create ReplicaSet web g1 -> timed_out  no verdict before the deadline
    "#]]);
}
