//! Claims about causes further up: an operator works on objects two owners below its own.

use expect_test::expect;
use serde_json::{Value, json};

use crate::written::{History, annotated, built_in, current, merged, object, owned};

/// An object that was Current and asks for something else, which its controller has not observed.
fn asks(object: &Value, spec: &Value) -> Value {
    let asked = json!({"metadata": {"generation": 2}, "spec": spec});
    merged(&merged(object, &current(1)), &asked)
}

fn replica_set(rollout: &Value) -> Value {
    let set = built_in("apps/v1", "ReplicaSet", &json!({"replicas": 2}));
    owned(&set, &[(rollout, true)])
}

fn filled(set: &Value) -> Value {
    let status = json!({"observedGeneration": 1, "replicas": 2, "fullyLabeledReplicas": 2,
        "readyReplicas": 2, "availableReplicas": 2});
    merged(set, &json!({ "status": status }))
}

fn pod(name: &str, owner: &Value) -> Value {
    let pod = merged(&object("Pod", name), &json!({"apiVersion": "v1"}));
    merged(&owned(&pod, &[(owner, true)]), &running())
}

fn running() -> Value {
    json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}})
}

fn evicted(pod: &Value, reason: &str) -> Value {
    let conditions = json!([
        {"type": "Ready", "status": "True"},
        {"type": "DisruptionTarget", "status": "True", "reason": reason},
    ]);
    let deletion = json!({"deletionTimestamp": "2026-11-24T10:01:30Z",
        "deletionGracePeriodSeconds": 30, "generation": 2});
    merged(pod, &json!({"metadata": deletion, "status": {"conditions": conditions}}))
}

/// A Rollout, a ReplicaSet below it and two Pods below that: all at rest.
fn at_rest(rollout: &Value) -> (History, Value) {
    let set = filled(&replica_set(rollout));
    let history = History::default()
        .listed("Rollout", &[&merged(rollout, &current(1))])
        .listed("ReplicaSet", &[&set])
        .listed("Pod", &[&pod("a", &set), &pod("b", &set)])
        .later(60);
    (history, set)
}

#[test]
fn restart_of_the_object_above_evicts_the_pods_of_a_replicaset_at_rest() {
    let rollout = object("Rollout", "r");
    let restart = asks(&rollout, &json!({"restartAt": "2026-11-24T10:01:00Z"}));
    let (history, set) = at_rest(&rollout);
    let (a, b) = (pod("a", &set), pod("b", &set));
    history
        .event("MODIFIED", &annotated(&restart, '1'))
        .event("MODIFIED", &evicted(&a, "EvictionByEvictionAPI"))
        .added(&pod("c", &set))
        .deleted(&evicted(&a, "EvictionByEvictionAPI"))
        .later(5)
        // The Eviction API may be switched off: the operator deletes then.
        .deleted(&b)
        .added(&pod("d", &set))
        .later(5)
        .event("MODIFIED", &merged(&annotated(&restart, '1'), &current(2)))
        .later(60)
        .deleted(&pod("c", &set))
        .added(&pod("e", &set))
        .becomes(expect![[r#"
            create Pod shop/e g1 -> converged  (owner settled)  replaces c
            update Rollout shop/r g2 -> converged  [context 11111111…]  {spec.restartAt}
            ├─ create Pod c g1 -> converged  replaces a
            ├─ create Pod d g1 -> converged  replaces b
            ├─ delete Pod a g2 -> deleted  EvictionByEvictionAPI
            └─ delete Pod b g1 -> deleted
            delete Pod shop/c g1 -> deleted  (owner settled)
        "#]]);
}

#[test]
fn lost_pod_is_not_the_doing_of_a_restart_above() {
    let rollout = object("Rollout", "r");
    let restart = asks(&rollout, &json!({"restartAt": "2026-11-24T10:01:00Z"}));
    let (history, set) = at_rest(&rollout);
    let a = pod("a", &set);
    history
        .event("MODIFIED", &restart)
        .event("MODIFIED", &evicted(&a, "DeletionByTaintManager"))
        .added(&pod("c", &set))
        .deleted(&evicted(&a, "DeletionByTaintManager"))
        .becomes(expect![[r#"
            create Pod shop/c g1 -> converged  (owner settled)  replaces a
            update Rollout shop/r g2 -> timed_out  no verdict before the deadline  {spec.restartAt}
            delete Pod shop/a g2 -> deleted  DeletionByTaintManager  (owner settled)
        "#]]);
}

#[test]
fn pod_that_is_deleted_or_drained_during_another_change_above_is_a_head() {
    let rollout = object("Rollout", "r");
    let image = asks(&rollout, &json!({"template": {"image": "web:2"}}));
    let (history, set) = at_rest(&rollout);
    let (a, b) = (pod("a", &set), pod("b", &set));
    history
        .event("MODIFIED", &image)
        .event("MODIFIED", &evicted(&a, "EvictionByEvictionAPI"))
        .deleted(&evicted(&a, "EvictionByEvictionAPI"))
        .deleted(&b)
        .becomes(expect![[r#"
            update Rollout shop/r g2 -> timed_out  no verdict before the deadline  {spec.template.image}
            delete Pod shop/a g2 -> deleted  EvictionByEvictionAPI  (owner settled)
            delete Pod shop/b g1 -> deleted  (owner settled)
        "#]]);
}

#[test]
fn restart_of_a_built_in_workload_above_deletes_no_pods() {
    let deployment = built_in("apps/v1", "Deployment", &json!({"replicas": 2}));
    let restart = asks(&deployment, &json!({"restartAt": "now"}));
    let set = filled(&replica_set(&deployment));
    History::default()
        .listed("Deployment", &[&deployment])
        .listed("ReplicaSet", &[&set])
        .listed("Pod", &[&pod("a", &set)])
        .later(60)
        .event("MODIFIED", &restart)
        .event("MODIFIED", &evicted(&pod("a", &set), "EvictionByEvictionAPI"))
        .deleted(&pod("a", &set))
        .becomes(expect![[r#"
            update Deployment shop/it g2 -> timed_out  no verdict before the deadline  {spec.restartAt}
            delete Pod shop/a g2 -> deleted  EvictionByEvictionAPI  (owner settled)
        "#]]);
}

#[test]
fn operator_deletes_the_pods_of_a_set_that_leaves_it_to_others() {
    let cluster = object("Cluster", "c");
    let upgrade = asks(&cluster, &json!({"version": "9.1"}));
    let set = built_in("apps/v1", "StatefulSet", &json!({"updateStrategy": {"type": "OnDelete"}}));
    let observed = json!({"status": {"observedGeneration": 1, "replicas": 1, "readyReplicas": 1}});
    let set = merged(&owned(&set, &[(&cluster, true)]), &observed);
    let old = pod("c-0", &set);
    let new = merged(&old, &json!({"metadata": {"uid": "new"}}));
    History::default()
        .listed("Cluster", &[&merged(&cluster, &current(1))])
        .listed("StatefulSet", &[&set])
        .listed("Pod", &[&old])
        .later(60)
        .event("MODIFIED", &upgrade)
        .deleted(&old)
        .added(&new)
        .later(5)
        .event("MODIFIED", &merged(&upgrade, &current(2)))
        .becomes(expect![[r#"
            update Cluster shop/c g2 -> converged  {spec.version}
            ├─ create Pod c-0 g1 -> converged  replaces c-0
            └─ delete Pod c-0 g1 -> deleted
        "#]]);
}

#[test]
fn objects_made_below_a_custom_resource_at_rest_follow_from_the_change_above() {
    let cluster = object("Cluster", "c");
    let pool = owned(&object("Pool", "p"), &[(&cluster, true)]);
    let upgrade = asks(&cluster, &json!({"version": "9.1"}));
    let machine = |name: &str| owned(&object("Machine", name), &[(&pool, true)]);
    History::default()
        .listed("Cluster", &[&merged(&cluster, &current(1))])
        .listed("Pool", &[&merged(&pool, &current(1))])
        .listed("Machine", &[&merged(&machine("m1"), &current(1))])
        .later(60)
        .event("MODIFIED", &upgrade)
        .added(&machine("m2"))
        .event("MODIFIED", &merged(&machine("m2"), &current(1)))
        .deleted(&machine("m1"))
        .later(5)
        .event("MODIFIED", &merged(&upgrade, &current(2)))
        .later(60)
        .added(&machine("m3"))
        .event("MODIFIED", &merged(&machine("m3"), &current(1)))
        .becomes(expect![[r#"
            create Machine shop/m3 g1 -> converged  (owner settled)
            update Cluster shop/c g2 -> converged  {spec.version}
            ├─ create Machine m2 g1 -> converged
            └─ delete Machine m1 g1 -> deleted
        "#]]);
}

#[test]
fn cause_above_is_found_although_its_watch_is_slower() {
    let rollout = object("Rollout", "r");
    let restart = asks(&rollout, &json!({"restartAt": "2026-11-24T10:01:00Z"}));
    let (history, set) = at_rest(&rollout);
    let a = evicted(&pod("a", &set), "EvictionByEvictionAPI");
    // The Rollout was written before the Pod, and arrives after it.
    history.later(1).event("MODIFIED", &a).late("MODIFIED", &restart, 610).deleted(&a).becomes(
        expect![[r#"
            update Rollout shop/r g2 -> timed_out  no verdict before the deadline  {spec.restartAt}
            └─ delete Pod a g2 -> deleted  EvictionByEvictionAPI
        "#]],
    );
}
