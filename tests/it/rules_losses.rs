//! Rules about losses: which Pod is made in place of which.

use expect_test::expect;
use serde_json::{Value, json};

use crate::written::{History, current, merged, object, owned};

fn pod(name: &str, owner: &Value) -> Value {
    let mut pod = owned(&object("Pod", name), &[(owner, true)]);
    pod["apiVersion"] = json!("v1");
    pod
}

#[test]
fn each_loss_has_one_replacement_and_the_oldest_comes_first() {
    let set = object("Set", "s");
    let ready = json!({
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    });
    let (a, b) = (&pod("a", &set), &pod("b", &set));
    // b fails first and is deleted last; c replaces it all the same.
    History::default()
        .added(&set)
        .added(a)
        .added(b)
        .modified(a, &ready)
        .modified(b, &ready)
        .modified(&set, &current(1))
        .modified(b, &json!({"status": {"phase": "Failed", "reason": "Evicted"}}))
        .deleted(a)
        .added(&pod("c", &set))
        .added(&pod("d", &set))
        .added(&pod("e", &set))
        .deleted(b)
        .becomes(expect![[r#"
            create Set shop/s g1 -> converged
            ├─ create Pod a g1 -> converged
            └─ create Pod b g1 -> failed  Evicted
            delete Pod shop/a g1 -> deleted  (owner settled)
            create Pod shop/c g1 -> timed_out  no verdict before the deadline  (owner settled)  replaces b
            create Pod shop/d g1 -> timed_out  no verdict before the deadline  (owner settled)  replaces a
            create Pod shop/e g1 -> timed_out  no verdict before the deadline  (owner settled)
            delete Pod shop/b g1 -> deleted  (owner settled)
        "#]]);
}

#[test]
fn loss_replaced_while_its_owner_was_in_flight_is_not_replaced_again() {
    let set = object("Set", "s");
    let (a, b) = (pod("a", &set), pod("b", &set));
    let evicted = json!({"status": {"conditions": [
        {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]}});
    History::default()
        .added(&set)
        .added(&a)
        .added(&b)
        .modified(&a, &evicted)
        .deleted(&merged(&a, &evicted))
        .added(&pod("instead-of-a", &set))
        .modified(&set, &current(1))
        .later(60)
        .deleted(&b)
        // Not everything that is made is made in place of a Pod.
        .added(&owned(&object("Part", "p"), &[(&set, true)]))
        .added(&pod("instead-of-b", &set))
        .becomes(expect![[r#"
            create Part shop/p g1 -> unknown  (owner settled)
            create Pod shop/instead-of-b g1 -> timed_out  no verdict before the deadline  (owner settled)  replaces b
            create Set shop/s g1 -> converged
            ├─ create Pod a g1 -> superseded
            ├─ create Pod b g1 -> superseded
            └─ create Pod instead-of-a g1 -> timed_out  no verdict before the deadline
            delete Pod shop/a g1 -> deleted  EvictionByEvictionAPI  [owner Set s g1]  supersedes g1
            delete Pod shop/b g1 -> deleted  (owner settled)  supersedes g1
        "#]]);
}

#[test]
fn replacement_in_a_statefulset_is_matched_by_name() {
    let mut set = object("StatefulSet", "s");
    set["apiVersion"] = json!("apps/v1");
    let replicas = 3;
    let done = json!({"spec": {"replicas": replicas}, "status": {
        "observedGeneration": 1, "replicas": replicas, "readyReplicas": replicas,
        "availableReplicas": replicas, "updatedReplicas": replicas, "currentReplicas": replicas,
        "updateRevision": "A", "currentRevision": "A"}});
    let set = merged(&set, &done);
    let of = |name: &str, uid: &str| merged(&pod(name, &set), &json!({"metadata": {"uid": uid}}));
    let (first, second, third) = (of("s-0", "0"), of("s-1", "1"), of("s-2", "2"));
    History::default()
        .listed("StatefulSet", &[&set])
        .listed("Pod", &[&first, &second, &third])
        .deleted(&third)
        .deleted(&second)
        .deleted(&first)
        .added(&of("s-0", "3"))
        .added(&of("s-1", "4"))
        .added(&of("s-2", "5"))
        .becomes(expect![[r#"
            delete Pod shop/s-2 g1 -> deleted  (owner settled)
            delete Pod shop/s-1 g1 -> deleted  (owner settled)
            delete Pod shop/s-0 g1 -> deleted  (owner settled)
            create Pod shop/s-0 g1 -> timed_out  no verdict before the deadline  (owner settled)  replaces s-0
            create Pod shop/s-1 g1 -> timed_out  no verdict before the deadline  (owner settled)  replaces s-1
            create Pod shop/s-2 g1 -> timed_out  no verdict before the deadline  (owner settled)  replaces s-2
        "#]]);
}

#[test]
fn replacement_is_not_matched_while_the_owner_is_in_flight() {
    let set = object("Set", "s");
    let (lost, next) = (pod("lost", &set), pod("next", &set));
    // It existed at the start and was not Current: its work is unknown.
    History::default()
        .listed("Set", &[&set])
        .listed("Pod", &[&lost])
        .deleted(&lost)
        .added(&next)
        .becomes(expect![[r#"
            delete Pod shop/lost g1 -> deleted
            create Pod shop/next g1 -> timed_out  no verdict before the deadline
        "#]]);
    History::default()
        .listed("Set", &[&merged(&set, &current(1))])
        .listed("Pod", &[&lost])
        .deleted(&lost)
        .added(&next)
        .becomes(expect![[r#"
            delete Pod shop/lost g1 -> deleted  (owner settled)
            create Pod shop/next g1 -> timed_out  no verdict before the deadline  (owner settled)  replaces lost
        "#]]);
}
