//! Rules about what names another object: fields, and autoscalers.

use expect_test::expect;
use serde_json::{Value, json};

use crate::{
    rules_owners::deployment,
    written::{History, current, merged, object},
};

#[test]
fn a_field_that_names_another_object_links_to_its_change_in_flight() {
    let cluster = object("Cluster", "c");
    let mut by_name = object("Machine", "by-name");
    by_name["spec"] = json!({"clusterName": "c"});
    let mut by_reference = object("Machine", "by-reference");
    by_reference["spec"] =
        json!({"clusterRef": {"apiVersion": "example.com/v1", "kind": "Cluster", "name": "c"}});
    let configuration = "
causes:
  references:
    - {kind: Machine.example.com, field: spec.clusterName, to: Cluster.example.com}
    - {kind: Machine.example.com, field: spec.clusterRef}
";
    let history = |steps: History| steps.added(&by_name).added(&by_reference);
    history(History::default().added(&cluster)).becomes_with(
        configuration,
        expect![[r#"
        create Cluster shop/c g1 -> unknown
        create Machine shop/by-name g1 -> unknown  [reference Cluster c g1]
        create Machine shop/by-reference g1 -> unknown  [reference Cluster c g1]
    "#]],
    );
    // Nothing in flight there any more.
    history(History::default().added(&cluster).modified(&cluster, &current(1))).becomes_with(
        configuration,
        expect![[r#"
            create Cluster shop/c g1 -> converged
            create Machine shop/by-name g1 -> unknown
            create Machine shop/by-reference g1 -> unknown
        "#]],
    );
}

#[test]
fn reference_is_linked_no_longer_than_a_cause() {
    let cluster = object("Cluster", "c");
    let machine = |name: &str, minute: u64| {
        let created = format!("2026-11-24T10:{minute:02}:00Z");
        merged(
            &object("Machine", name),
            &json!({"metadata": {"creationTimestamp": created}, "spec": {"clusterName": "c"}}),
        )
    };
    History::default()
        .added(&cluster)
        .later(10 * 60)
        .added(&machine("soon", 10))
        .later(10 * 60)
        .added(&machine("late", 20))
        .becomes_with(
            "
causes:
  references:
    - {kind: Machine.example.com, field: spec.clusterName, to: Cluster.example.com}
",
            expect![[r#"
                create Cluster shop/c g1 -> unknown
                create Machine shop/soon g1 -> unknown  [reference Cluster c g1]
                create Machine shop/late g1 -> unknown
            "#]],
        );
}

fn autoscaler(desired: i64) -> Value {
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": "shop", "uid": "hpa", "generation": 1,
            "creationTimestamp": "2026-11-24T10:00:00Z"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
        "status": {"desiredReplicas": desired},
    })
}

/// The status that its controller writes after `/scale`.
fn rescaled(desired: i64) -> Value {
    let at = json!({"status": {"lastScaleTime": "2026-11-24T10:00:00Z"}});
    merged(&autoscaler(desired), &at)
}

fn scaled_by_hand(replicas: i64, generation: i64) -> Value {
    let mut deployment = deployment(replicas, generation);
    deployment["metadata"]["managedFields"][1]["manager"] = json!("kubectl");
    deployment
}

#[test]
fn scaled_target_links_to_its_autoscaler_in_any_order_of_events() {
    let created = || History::default().added(&deployment(1, 1)).added(&autoscaler(1));
    created()
        .event("MODIFIED", &deployment(3, 2))
        .event("MODIFIED", &rescaled(3))
        .becomes(expect![[r#"
            create Deployment shop/web g1 -> superseded
            create HorizontalPodAutoscaler shop/web g1 -> timed_out  no verdict before the deadline
            update Deployment shop/web g2 -> timed_out  no verdict before the deadline  supersedes g1  [reference HorizontalPodAutoscaler web g1]  {spec.replicas by kube-controller-manager}
        "#]]);
    created()
        .late("MODIFIED", &rescaled(3), 4)
        .late("MODIFIED", &deployment(3, 2), 3)
        .becomes(expect![[r#"
            create Deployment shop/web g1 -> superseded
            create HorizontalPodAutoscaler shop/web g1 -> timed_out  no verdict before the deadline
            update Deployment shop/web g2 -> timed_out  no verdict before the deadline  supersedes g1  [reference HorizontalPodAutoscaler web g1]  {spec.replicas by kube-controller-manager}
        "#]]);
    // Both are received a minute later: a scale has no other time.
    created()
        .later(60)
        .late("MODIFIED", &deployment(3, 2), 3)
        .late("MODIFIED", &rescaled(3), 4)
        .becomes(expect![[r#"
            create Deployment shop/web g1 -> superseded
            create HorizontalPodAutoscaler shop/web g1 -> timed_out  no verdict before the deadline
            update Deployment shop/web g2 -> timed_out  no verdict before the deadline  supersedes g1  [reference HorizontalPodAutoscaler web g1]  {spec.replicas by kube-controller-manager}
        "#]]);
    // Its status does not agree.
    created()
        .event("MODIFIED", &deployment(5, 2))
        .event("MODIFIED", &rescaled(3))
        .becomes(expect![[r#"
            create Deployment shop/web g1 -> superseded
            create HorizontalPodAutoscaler shop/web g1 -> timed_out  no verdict before the deadline
            update Deployment shop/web g2 -> timed_out  no verdict before the deadline  supersedes g1  {spec.replicas by kube-controller-manager}
        "#]]);
}

#[test]
fn scaling_by_a_person_does_not_link_to_the_autoscaler() {
    // It has never scaled.
    History::default()
        .added(&deployment(1, 1))
        .added(&autoscaler(1))
        .event("MODIFIED", &scaled_by_hand(3, 2))
        .event("MODIFIED", &autoscaler(3))
        .becomes(expect![[r#"
            create Deployment shop/web g1 -> superseded
            create HorizontalPodAutoscaler shop/web g1 -> timed_out  no verdict before the deadline
            update Deployment shop/web g2 -> timed_out  no verdict before the deadline  supersedes g1  {spec.replicas by kubectl}
        "#]]);
    // It has scaled a moment before.
    History::default()
        .added(&deployment(1, 1))
        .added(&autoscaler(1))
        .event("MODIFIED", &deployment(3, 2))
        .event("MODIFIED", &rescaled(3))
        .later(1)
        .event("MODIFIED", &scaled_by_hand(4, 3))
        .event("MODIFIED", &rescaled(4))
        .becomes(expect![[r#"
            create Deployment shop/web g1 -> superseded
            create HorizontalPodAutoscaler shop/web g1 -> timed_out  no verdict before the deadline
            update Deployment shop/web g2 -> superseded  supersedes g1  [reference HorizontalPodAutoscaler web g1]  {spec.replicas by kube-controller-manager}
            update Deployment shop/web g3 -> timed_out  no verdict before the deadline  supersedes g2  {spec.replicas by kubectl}
        "#]]);
    // It had scaled before anybody looked.
    let edited = json!({"metadata": {"generation": 2}, "spec": {"maxReplicas": 9}});
    History::default()
        .listed("HorizontalPodAutoscaler", &[&rescaled(1)])
        .added(&deployment(1, 1))
        .modified(&rescaled(1), &edited)
        .event("MODIFIED", &scaled_by_hand(3, 2))
        .modified(&rescaled(3), &edited)
        .becomes(expect![[r#"
            create Deployment shop/web g1 -> superseded
            update HorizontalPodAutoscaler shop/web g2 -> timed_out  no verdict before the deadline  {spec.maxReplicas}
            update Deployment shop/web g2 -> timed_out  no verdict before the deadline  supersedes g1  {spec.replicas by kubectl}
        "#]]);
}

#[test]
fn later_change_of_an_autoscaler_is_not_linked() {
    let edited =
        merged(&rescaled(3), &json!({"metadata": {"generation": 2}, "spec": {"maxReplicas": 9}}));
    History::default()
        .added(&deployment(1, 1))
        .added(&autoscaler(1))
        .event("MODIFIED", &deployment(3, 2))
        .event("MODIFIED", &rescaled(3))
        .event("MODIFIED", &edited)
        .modified(&edited, &json!({"status": {"currentReplicas": 3}}))
        .becomes(expect![[r#"
            create Deployment shop/web g1 -> superseded
            create HorizontalPodAutoscaler shop/web g1 -> superseded
            update Deployment shop/web g2 -> timed_out  no verdict before the deadline  supersedes g1  [reference HorizontalPodAutoscaler web g1]  {spec.replicas by kube-controller-manager}
            update HorizontalPodAutoscaler shop/web g2 -> timed_out  no verdict before the deadline  supersedes g1  {spec.maxReplicas}
        "#]]);
}
