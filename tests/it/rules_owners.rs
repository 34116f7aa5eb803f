//! Rules about owners that recorded histories seldom show.

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use spanlink::trace::{model::span::Value as SpanValue, rules::Rules};

use crate::written::{History, current, going, merged, object, owned};

#[test]
fn an_owner_that_is_no_controller_is_linked_and_causes_nothing() {
    let owner = object("Widget", "w");
    let part = owned(&object("Part", "p"), &[(&owner, false)]);
    History::default().added(&owner).added(&part).becomes(expect![[r#"
        create Widget shop/w g1 -> unknown
        create Part shop/p g1 -> unknown  [owner Widget w g1]
    "#]]);
}

#[test]
fn what_has_several_owners_is_garbage_with_the_last_of_them() {
    let (one, other) = (object("Widget", "one"), object("Widget", "other"));
    let part = owned(&object("Part", "p"), &[(&one, false), (&other, false)]);
    History::default()
        .added(&one)
        .added(&other)
        .added(&part)
        .deleted(&one)
        .deleted(&other)
        .deleted(&part)
        .becomes(expect![[r#"
            create Widget shop/one g1 -> superseded
            create Widget shop/other g1 -> superseded
            create Part shop/p g1 -> superseded  [owner Widget one g1]
            delete Widget shop/one g1 -> deleted  supersedes g1
            delete Widget shop/other g1 -> deleted  supersedes g1
            └─ delete Part p g1 -> deleted  supersedes g1
        "#]]);
    // One owner is left: it was not the garbage collector.
    History::default().added(&one).added(&other).added(&part).deleted(&one).deleted(&part).becomes(
        expect![[r#"
            create Widget shop/one g1 -> superseded
            create Widget shop/other g1 -> unknown
            create Part shop/p g1 -> superseded  [owner Widget one g1]
            delete Widget shop/one g1 -> deleted  supersedes g1
            delete Part shop/p g1 -> deleted  [owner Widget one g1]  supersedes g1
        "#]],
    );
}

#[test]
fn an_owner_of_a_kind_nobody_watches_is_named() {
    let part = owned(&object("Part", "p"), &[(&object("Unwatched", "u"), true)]);
    let spans = History::default().added(&part).spans(&Rules::default(), "");
    let head = spans.first().unwrap();
    assert!(head.is_head() && head.links.is_empty());
    let name = head.attribute("spanlink.owner.name");
    assert_eq!(name, Some(&SpanValue::Text("u".into())));
    assert_eq!(head.attribute("spanlink.owner.span_id"), None);
}

#[test]
fn a_cluster_scoped_owner_causes_what_it_makes_in_namespaces() {
    let mut owner = object("Tenant", "t");
    owner["metadata"].as_object_mut().unwrap().remove("namespace");
    let part = owned(&object("Part", "p"), &[(&owner, true)]);
    History::default().added(&owner).added(&part).becomes(expect![[r#"
        create Tenant t g1 -> unknown
        └─ create Part p g1 -> unknown
    "#]]);
}

#[test]
fn an_owner_cycle_ends_in_heads() {
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
fn an_object_adopted_later_follows_its_new_owner() {
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
fn what_a_relist_shows_first_follows_from_what_was_in_flight_when_it_was_made() {
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
        .say("MODIFIED", &stepped)
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
fn an_update_that_a_relist_shows_follows_from_what_was_in_flight_when_it_was_made() {
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
        .say("MODIFIED", &step(&owner, "kubectl", 5))
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
fn in_whatever_order_lists_come_what_they_show_is_one_chain() {
    let made = |object: &Value| {
        let created = json!({"metadata": {"creationTimestamp": "2026-11-24T10:01:00Z"}});
        merged(object, &created)
    };
    let widget = made(&object("Widget", "w"));
    let part = made(&owned(&object("Part", "p"), &[(&widget, true)]));
    let piece = made(&owned(&object("Piece", "q"), &[(&part, true)]));
    let kinds = [("Widget", &widget), ("Part", &part), ("Piece", &piece)];
    let told = |order: [usize; 3]| {
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
        assert_eq!(told(order), ["create Widget", "delete Widget"], "{order:?}");
    }
}

#[test]
fn an_owner_known_from_the_start_is_settled_only_if_it_was_current_there() {
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
fn what_a_person_changes_of_an_operators_object_is_a_head() {
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
        .say("MODIFIED", &by("operator", 2))
        .say("MODIFIED", &by("kubectl-edit", 3))
        .becomes(expect![[r#"
            create Widget shop/w g1 -> unknown
            ├─ create Part p g1 -> superseded
            └─ update Part p g2 -> superseded  supersedes g1  {spec.size by operator}
            update Part shop/p g3 -> unknown  [owner Widget w g1]  supersedes g2  {spec.size by kubectl-edit}
        "#]]);
}

#[test]
fn what_a_person_changes_of_an_operators_lists_is_a_head_whatever_tells_their_items_apart() {
    let lists = [
        // By name, as paths are.
        ("env", r#"{"name":"it"}"#, json!({"name": "it", "value": 1})),
        // Named, and told apart by something else.
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
            .say("MODIFIED", &by("operator", 2))
            .say("MODIFIED", &by("kubectl-edit", 3))
            .spans(&Rules::default(), "");
        let updates = spans.iter().filter(|span| &*span.name == "update Part");
        let told: Vec<_> = updates
            .map(|span| (span.attribute("spanlink.change.manager").cloned(), span.is_head()))
            .collect();
        let manager = |name: &str| Some(SpanValue::Text(name.into()));
        let expected = [(manager("operator"), false), (manager("kubectl-edit"), true)];
        assert_eq!(told, expected, "{list} by {keys}");
    }
}

#[test]
fn what_becomes_of_an_owner_reference_after_a_change_does_not_matter_to_it() {
    let step = |object: &Value, generation: i64| {
        let step = json!({"metadata": {"generation": generation}, "spec": {"size": generation}});
        merged(object, &step)
    };
    let (owner, other) = (&object("Widget", "w"), &object("Widget", "other"));
    let part = |owners: &[(&Value, bool)]| owned(&object("Part", "p"), owners);
    let stepped = || {
        let begun = History::default().added(owner).added(other).added(&part(&[(owner, true)]));
        begun.later(1).say("MODIFIED", &step(&part(&[(owner, true)]), 2))
    };
    let becomes = |after: &[(&Value, bool)]| {
        stepped()
            .say("MODIFIED", &step(&part(after), 2))
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
        .say("MODIFIED", &step(other, 2))
        .say("MODIFIED", &step(&part(&[(other, true)]), 3))
        .say("MODIFIED", &step(&part(&[]), 3))
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
fn an_owner_whose_deadline_has_passed_causes_nothing_unless_it_goes_on() {
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
fn an_owner_with_a_longer_deadline_of_its_own_is_a_cause_for_longer() {
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

#[test]
fn what_is_done_before_a_settled_owner_can_go_follows_from_its_deletion() {
    let owner = merged(&object("Widget", "w"), &current(1));
    let part = owned(&object("Part", "p"), &[(&owner, true)]);
    let ready = merged(&part, &current(1));
    let cleanup = owned(&object("Part", "cleanup"), &[(&owner, true)]);
    let going = going(&owner, &["example.com/cleanup"]);
    History::default()
        .added(&object("Widget", "w"))
        .modified(&owner, &json!({}))
        .added(&part)
        .modified(&ready, &json!({}))
        .later(5)
        .modified(&going, &json!({"metadata": {"generation": 2}}))
        .modified(&ready, &json!({"metadata": {"generation": 2}, "spec": {"size": 0}}))
        .added(&cleanup)
        .deleted(&merged(&going, &json!({"metadata": {"generation": 2}})))
        .becomes(expect![[r#"
            delete Widget shop/w g2 -> deleted
            ├─ create Part cleanup g1 -> unknown
            └─ update Part p g2 -> timed_out  no verdict before the deadline  {spec.size}
            create Widget shop/w g1 -> converged
            create Part shop/p g1 -> converged  (owner settled)
        "#]]);
}

#[test]
fn what_an_operator_does_before_its_object_can_go_follows_from_its_deletion_whatever_was_open() {
    let owner = object("Widget", "w");
    let part = owned(&object("Part", "p"), &[(&owner, true)]);
    let cleanup = owned(&object("Part", "cleanup"), &[(&owner, true)]);
    let going =
        merged(&going(&owner, &["example.com/cleanup"]), &json!({"metadata": {"generation": 2}}));
    History::default()
        .added(&owner)
        .added(&part)
        .later(5)
        .say("MODIFIED", &going)
        .modified(&part, &json!({"metadata": {"generation": 2}, "spec": {"size": 0}}))
        .added(&cleanup)
        .deleted(&going)
        .becomes(expect![[r#"
            delete Widget shop/w g2 -> deleted  supersedes g1
            ├─ create Part cleanup g1 -> unknown
            └─ update Part p g2 -> unknown  supersedes g1  {spec.size}
            create Widget shop/w g1 -> superseded
            └─ create Part p g1 -> superseded
        "#]]);
    // A Deployment that goes makes nothing: what comes now was made before.
    let web = deployment(1, 1);
    let set = owned(&object("ReplicaSet", "web"), &[(&web, true)]);
    let going = json!({"metadata": {"generation": 2, "deletionTimestamp": "2026-11-24T10:00:00Z"}});
    History::default()
        .added(&web)
        .modified(&web, &going)
        .added(&merged(&set, &json!({"apiVersion": "apps/v1"})))
        .becomes(expect![[r#"
            create Deployment shop/web g1 -> superseded
            └─ create ReplicaSet web g1 -> timed_out  no verdict before the deadline
            delete Deployment shop/web g2 -> timed_out  no verdict before the deadline  supersedes g1
        "#]]);
}

#[test]
fn what_an_owner_does_is_waited_for_again_after_the_store_went_back() {
    let owner = |generation: i64| {
        let step = json!({"metadata": {"generation": generation}, "spec": {"size": generation}});
        merged(&object("Widget", "w"), &step)
    };
    let part = owned(&object("Part", "p"), &[(&owner(1), true)]);
    History::default()
        .added(&owner(1))
        .later(60)
        .say("MODIFIED", &owner(2))
        .say("MODIFIED", &owner(3))
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

#[test]
fn a_delete_waits_for_news_of_its_namespace() {
    let mut namespace = object("Namespace", "shop");
    namespace["apiVersion"] = json!("v1");
    namespace["metadata"].as_object_mut().unwrap().remove("namespace");
    let going = json!({"metadata": {"deletionTimestamp": "2026-11-24T10:00:00Z"}});
    let bare = object("Widget", "bare");
    // The Namespace was deleted before, and its watch is late.
    History::default()
        .added(&namespace)
        .added(&bare)
        .later(1)
        .deleted(&bare)
        .late("MODIFIED", &merged(&namespace, &going), 11)
        .becomes(expect![[r#"
            create Namespace shop -> superseded
            create Widget shop/bare g1 -> superseded
            delete Namespace shop -> timed_out  no verdict before the deadline  supersedes
            └─ delete Widget bare g1 -> deleted  supersedes g1
        "#]]);
}

#[test]
fn what_went_with_a_namespace_went_with_that_also_where_the_next_has_its_name() {
    let namespace = |uid: &str, second: u32| {
        let mut namespace = object("Namespace", "shop");
        namespace["apiVersion"] = json!("v1");
        namespace["metadata"].as_object_mut().unwrap().remove("namespace");
        let created = format!("2026-11-24T10:00:{second:02}Z");
        merged(&namespace, &json!({"metadata": {"uid": uid, "creationTimestamp": created}}))
    };
    let (old, new) = (namespace("old", 0), namespace("new", 7));
    let of = |name: &str, second: u32| {
        let created = format!("2026-11-24T10:00:{second:02}Z");
        merged(&object("Widget", name), &json!({"metadata": {"creationTimestamp": created}}))
    };
    // The watch of Widgets is behind.
    History::default()
        .added(&old)
        .added(&of("old", 0))
        .later(5)
        .say("MODIFIED", &going(&old, &["kubernetes"]))
        .later(1)
        .deleted(&old)
        .added(&new)
        .late("DELETED", &of("old", 0), 54)
        .added(&of("new", 7))
        .deleted(&of("new", 7))
        .becomes(expect![[r#"
            delete Namespace shop -> deleted  supersedes
            └─ delete Widget old g1 -> deleted  supersedes g1
            create Namespace shop -> superseded
            create Widget shop/old g1 -> superseded
            delete Widget shop/new g1 -> deleted  supersedes g1
            create Namespace shop -> timed_out  no verdict before the deadline
            create Widget shop/new g1 -> superseded
        "#]]);
}
