//! Claims about resizes, of Pods in place and of claims: they are not done at once.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use crate::written::{History, built_in, condition, is_true, merged, pod, status};

/// A running Pod of a size, with further conditions.
fn sized(generation: i64, observed: i64, cpu: &str, conditions: &[Value]) -> Value {
    let mut all = vec![is_true("PodScheduled", 0), is_true("Ready", 1)];
    all.extend_from_slice(conditions);
    let container = json!({"name": "web", "resources": {"requests": {"cpu": cpu}}});
    let state = json!({"running": {"startedAt": "2026-11-24T10:00:00Z"}});
    merged(
        &pod(),
        &json!({
            "metadata": {"generation": generation},
            "spec": {"containers": [container]},
            "status": {"phase": "Running", "observedGeneration": observed, "conditions": all,
                "containerStatuses": [{"name": "web", "ready": true, "state": state}]},
        }),
    )
}

fn running() -> History {
    History::default().listed("Pod", &[&sized(1, 1, "1", &[])]).later(30)
}

#[test]
fn resize_of_a_pod_is_done_when_the_kubelet_has_finished_it() {
    let history = running()
        .event("MODIFIED", &sized(2, 1, "2", &[]))
        .event("MODIFIED", &sized(2, 2, "2", &[is_true("PodResizeInProgress", 30)]))
        .later(14)
        .event("MODIFIED", &sized(2, 2, "2", &[]));
    history.has_phases(expect![[r#"
          reconcile Pod it resize 14.1s by kubelet
        reconcile Pod it g2 waited for Pod it resize [observed]
    "#]]);
}

#[test]
fn resize_that_the_node_can_never_grant_is_stuck() {
    let infeasible = [condition("PodResizePending", "True", "Infeasible", 30)];
    let history = || {
        running()
            .event("MODIFIED", &sized(2, 1, "100", &[]))
            .event("MODIFIED", &sized(2, 2, "100", &infeasible))
            .later(60)
    };
    history().becomes(expect![[r#"
        update Pod shop/it g2 -> timed_out  Infeasible: Infeasible!  {spec.containers[web].resources.requests.cpu}
        └─ stuck Pod it  Infeasible: Infeasible!
    "#]]);
    // A smaller size is asked for.
    history()
        .event("MODIFIED", &sized(3, 2, "2", &infeasible))
        .event("MODIFIED", &sized(3, 3, "2", &[]))
        .becomes(expect![[r#"
            update Pod shop/it g2 -> superseded  {spec.containers[web].resources.requests.cpu}
            └─ stuck Pod it  Infeasible: Infeasible!
            update Pod shop/it g3 -> converged  supersedes g2  {spec.containers[web].resources.requests.cpu}
        "#]]);
}

#[test]
fn resize_that_waits_for_room_is_neither_stuck_nor_done() {
    let deferred = condition("PodResizePending", "True", "Deferred", 30);
    running()
        .event("MODIFIED", &sized(2, 2, "4", &[deferred]))
        .later(60)
        .event("MODIFIED", &sized(2, 2, "4", &[is_true("PodResizeInProgress", 50)]))
        .later(2)
        .event("MODIFIED", &sized(2, 2, "4", &[]))
        .becomes(expect![[r#"
            update Pod shop/it g2 -> converged  {spec.containers[web].resources.requests.cpu}
        "#]]);
}

#[test]
fn resize_that_the_kubelet_cannot_carry_out_is_stuck() {
    let error = condition("PodResizeInProgress", "True", "Error", 30);
    running()
        .event("MODIFIED", &sized(2, 2, "4", &[error]))
        .later(60)
        .event("MODIFIED", &sized(2, 2, "4", &[]))
        .becomes(expect![[r#"
            update Pod shop/it g2 -> converged  {spec.containers[web].resources.requests.cpu}
            └─ stuck Pod it  Error: Error!
        "#]]);
}

fn claim(size: &str) -> Value {
    built_in("v1", "PersistentVolumeClaim", &json!({"resources": {"requests": {"storage": size}}}))
}

/// A bound claim of this capacity.
fn bound(capacity: &str, more: &Value) -> Value {
    status(&merged(&json!({"phase": "Bound", "capacity": {"storage": capacity}}), more))
}

#[test]
fn resize_of_a_claim_is_done_when_its_file_system_has_grown() {
    let state = |state: &str| json!({"allocatedResourceStatuses": {"storage": state}});
    let with = |kind: &str| json!({ "conditions": [is_true(kind, 31)] });
    let history = || {
        History::default()
            .listed("PersistentVolumeClaim", &[&merged(&claim("1Gi"), &bound("1Gi", &json!({})))])
            .later(30)
            // The resizer has not reported anything yet.
            .modified(&claim("2Gi"), &bound("1Gi", &json!({})))
            .later(5)
            .modified(&claim("2Gi"), &bound("1Gi", &with("Resizing")))
            .later(5)
            .modified(&claim("2Gi"), &bound("1Gi", &with("FileSystemResizePending")))
            .later(5)
            .modified(&claim("2Gi"), &bound("1Gi", &state("NodeResizeInProgress")))
            .later(5)
            .modified(&claim("2Gi"), &bound("2Gi", &json!({})))
    };
    history().becomes(expect![[r#"
        update PersistentVolumeClaim shop/it -> converged  {spec.resources.requests.storage}
    "#]]);
    history().has_phases(expect![[r#"
          reconcile PersistentVolumeClaim it resize 20.4s by persistentvolume-controller
        reconcile PersistentVolumeClaim it waited for PersistentVolumeClaim it resize
    "#]]);
}

#[test]
fn claim_that_cannot_be_resized_is_stuck() {
    let refused = json!({
        "allocatedResourceStatuses": {"storage": "ControllerResizeInfeasible"},
        "conditions": [condition("ControllerResizeError", "True", "VolumeResizeFailed", 31)],
    });
    let tried = json!({
        "conditions": [condition("NodeResizeError", "True", "NoSpaceLeft", 31), is_true("Resizing", 31)],
    });
    let becomes = |more: &Value, expected: Expect| {
        History::default()
            .listed("PersistentVolumeClaim", &[&merged(&claim("1Gi"), &bound("1Gi", &json!({})))])
            .later(30)
            .modified(&claim("9Ti"), &bound("1Gi", more))
            .later(60)
            .becomes(expected);
    };
    becomes(
        &refused,
        expect![[r#"
            update PersistentVolumeClaim shop/it -> timed_out  ControllerResizeInfeasible: VolumeResizeFailed!  {spec.resources.requests.storage}
            └─ stuck PersistentVolumeClaim it  ControllerResizeInfeasible: VolumeResizeFailed!
        "#]],
    );
    becomes(
        &tried,
        expect![[r#"
            update PersistentVolumeClaim shop/it -> timed_out  NoSpaceLeft: NoSpaceLeft!  {spec.resources.requests.storage}
            └─ stuck PersistentVolumeClaim it  NoSpaceLeft: NoSpaceLeft!
        "#]],
    );
}

#[test]
fn claim_of_a_larger_volume_than_asked_for_is_done() {
    History::default()
        .added(&claim("1500M"))
        .modified(&claim("1500M"), &bound("2Gi", &json!({})))
        .modified(&claim("1800M"), &bound("2Gi", &json!({})))
        .becomes(expect![[r#"
            create PersistentVolumeClaim shop/it -> converged
            update PersistentVolumeClaim shop/it -> converged  {spec.resources.requests.storage}
        "#]]);
}
