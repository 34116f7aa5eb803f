//! Which context and which change an object follows from, on the real control plane.

use std::time::Duration;

use anyhow::{Result, ensure};
use expect_test::expect;
use serde_json::json;

use crate::{
    control_plane::{ControlPlane, Options, shared, to_stderr, until},
    recorder::Recorder,
};

const ROLLOUT: [&str; 3] = ["Deployment.apps", "ReplicaSet.apps", "Pod"];

fn traceparent(digit: char) -> String {
    let trace: String = std::iter::repeat_n(digit, 32).collect();
    format!("00-{trace}-00f067aa0ba902b7-01")
}

async fn create(plane: &ControlPlane, namespace: &str) -> Result<()> {
    let object = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "web",
            "namespace": namespace,
            "annotations": { "tracing.k8s.io/traceparent": traceparent('1') },
        },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{ "name": "web", "image": "web:1" }],
                },
            },
        },
    });
    plane.apply(&object.to_string()).await?;
    settled(plane, namespace).await
}

/// Rolled out, and Pods that are to go are gone.
async fn settled(plane: &ControlPlane, namespace: &str) -> Result<()> {
    plane.kubectl(&["-n", namespace, "rollout", "status", "deployment/web"]).await?;
    until("old Pods to be gone", Duration::from_secs(30), async || {
        let pods = plane.kubectl(&["-n", namespace, "get", "pods", "-o", "name"]).await?;
        ensure!(pods.lines().count() == 1, "{pods}");
        Ok(())
    })
    .await
}

/// The lines of heads, and nothing below them.
fn heads(told: &str) -> String {
    let heads = told.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_alphabetic()));
    heads.flat_map(|line| [line, "\n"]).collect()
}

#[tokio::test]
async fn contexts_are_fresh_stale_revived_or_joined_by_what_was_stamped() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("contexts").await?;
    let recorder = Recorder::begin(plane, &namespace, &ROLLOUT).await?;
    let kubectl = async |arguments: &[&str]| -> Result<()> {
        let arguments = [&["-n", &namespace], arguments].concat();
        plane.kubectl(&arguments).await?;
        settled(plane, &namespace).await
    };
    create(plane, &namespace).await?;
    // No new stamp.
    kubectl(&["set", "image", "deployment/web", "web=web:2"]).await?;
    let stamped = json!({
        "metadata": { "annotations": { "tracing.k8s.io/traceparent": traceparent('2') } },
        "spec": { "template": { "spec": { "containers": [{ "name": "web", "image": "web:3" }] } } },
    });
    kubectl(&["patch", "deployment", "web", "-p", &stamped.to_string()]).await?;
    kubectl(&["rollout", "undo", "deployment/web"]).await?;
    // Two requests, one after the other.
    let annotation = format!("tracing.k8s.io/traceparent={}", traceparent('3'));
    plane.kubectl(&["-n", &namespace, "set", "image", "deployment/web", "web=web:4"]).await?;
    kubectl(&["annotate", "--overwrite", "deployment/web", &annotation]).await?;
    let told = recorder.told().await?;
    expect![[r#"
        create Deployment web g1 -> converged  [context 11111111…]
        update Deployment web g2 -> converged  [context 11111111… stale]  {spec.template.spec.containers[web].image by kubectl-set}
        update Deployment web g3 -> converged  [context 22222222…]  {spec.template.spec.containers[web].image by kubectl-patch}
        update Deployment web g4 -> converged  [context 11111111… revived]  {spec.template.spec.containers[web].image by kubectl}
        update Deployment web g5 -> converged  [context 11111111… stale]  [context 33333333… joined]  {spec.template.spec.containers[web].image by kubectl-set}
    "#]].assert_eq(&heads(&told));
    Ok(())
}

#[tokio::test]
async fn of_two_quick_updates_the_first_is_superseded() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("quick").await?;
    let recorder = Recorder::begin(plane, &namespace, &ROLLOUT).await?;
    create(plane, &namespace).await?;
    for image in ["web=web:2", "web=web:3"] {
        plane.kubectl(&["-n", &namespace, "set", "image", "deployment/web", image]).await?;
    }
    settled(plane, &namespace).await?;
    let told = recorder.told().await?;
    expect![[r#"
        create Deployment web g1 -> converged  [context 11111111…]
        update Deployment web g2 -> superseded  [context 11111111… stale]  {spec.template.spec.containers[web].image by kubectl-set}
        update Deployment web g3 -> converged  [context 11111111… stale]  supersedes g2  {spec.template.spec.containers[web].image by kubectl-set}
    "#]].assert_eq(&heads(&told));
    Ok(())
}

/// On a control plane of its own: nodes are everybody's.
#[tokio::test]
async fn a_pod_replaced_because_its_node_went_is_a_head_with_a_settled_owner() -> Result<()> {
    let plane =
        ControlPlane::start(&Options { nodes: 2, ..Options::default() }, &to_stderr).await?;
    let namespace = plane.namespace("nodes").await?;
    let recorder = Recorder::begin(&plane, &namespace, &ROLLOUT).await?;
    create(&plane, &namespace).await?;
    let path = "jsonpath={.items[*].spec.nodeName}";
    let on = async || plane.kubectl(&["-n", &namespace, "get", "pods", "-o", path]).await;
    let lost = on().await?;
    plane.kubectl(&["taint", "node", &lost, "example.com/gone=yes:NoExecute"]).await?;
    until("the Pod elsewhere", Duration::from_secs(30), async || {
        let now = on().await?;
        ensure!(!now.is_empty() && !now.contains(&lost), "on {now:?}");
        Ok(())
    })
    .await?;
    settled(&plane, &namespace).await?;
    expect![[r#"
        create Deployment web g1 -> converged  [context 11111111…]
        delete Pod web-2 g2 -> deleted  DeletionByTaintManager  (owner settled)
        create Pod web-3 g1 -> converged  (owner settled)  replaces web-2 
    "#]]
    .assert_eq(&heads(&recorder.told().await?));
    Ok(())
}
