//! Claims about deletions: garbage collection, finalizers, Namespaces.

use expect_test::expect;
use serde_json::json;

use crate::{
    rules_owners::deployment,
    written::{History, current, going, merged, object, owned},
};

#[test]
fn object_with_several_owners_is_garbage_once_the_last_is_deleted() {
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
fn work_before_a_settled_owner_is_gone_follows_from_its_deletion() {
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
fn work_of_an_operator_before_its_object_is_gone_follows_from_the_deletion() {
    let owner = object("Widget", "w");
    let part = owned(&object("Part", "p"), &[(&owner, true)]);
    let cleanup = owned(&object("Part", "cleanup"), &[(&owner, true)]);
    let going =
        merged(&going(&owner, &["example.com/cleanup"]), &json!({"metadata": {"generation": 2}}));
    History::default()
        .added(&owner)
        .added(&part)
        .later(5)
        .event("MODIFIED", &going)
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
    // A Deployment under deletion creates nothing: the object was created before.
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
fn deletion_waits_for_the_news_of_its_namespace() {
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
fn deletion_with_a_namespace_follows_from_it_though_the_name_is_used_again() {
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
        .event("MODIFIED", &going(&old, &["kubernetes"]))
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
