//! Pods that are lost without a change of their owner: deleted by hand, evicted, preempted, on a node
//! that went. The one made in its place is a change of its own.

use anyhow::{Context, Result, ensure};
use expect_test::expect;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::{
    control_plane::{ControlPlane, Options, own, shared},
    scene::{ROLLOUT, Scene, deployment, workload},
};

/// A Deployment whose Pods request so many CPUs.
async fn rolled_out<'a>(plane: &'a ControlPlane, name: &str, cpus: u8) -> Result<Scene<'a>> {
    let mut object = deployment();
    let resources = json!({ "requests": { "cpu": cpus } });
    object["spec"]["template"]["spec"]["containers"][0]["resources"] = resources;
    Scene::rolled_out(plane, name, &ROLLOUT, &object).await
}

#[tokio::test]
async fn a_pod_deleted_by_hand_and_the_one_in_its_place_are_heads() -> Result<()> {
    let scene = rolled_out(shared().await?, "pod-deleted", 0).await?;
    let pod = scene.the_pod().await?;
    scene.kubectl(&["delete", "pod", &pod]).await?;
    expect![[r#"
        create Deployment web g1 -> converged  [context 1…]
          create ReplicaSet web-1 g1 -> converged
            create Pod web-1-a g1 -> converged
        delete Pod web-1-a g2 -> deleted  [owner, settled: create ReplicaSet web-1 g1]
        create Pod web-1-b g1 -> converged  [owner, settled: create ReplicaSet web-1 g1]  [replaced: delete Pod web-1-a g2]
    "#]]
    .assert_eq(&scene.tree().await?);
    Ok(())
}

#[tokio::test]
async fn of_two_pods_that_go_each_is_replaced_once_the_first_by_the_first() -> Result<()> {
    let scene = Scene::begin(shared().await?, "two-deleted", &ROLLOUT).await?;
    let mut object = deployment();
    object["spec"]["replicas"] = json!(2);
    scene.apply(&object).await?;
    scene.settled().await?;
    let lines = scene.recorder.lines()?;
    let is_new = |line: &&Value| line["type"] == "ADDED" && line["object"]["kind"] == "Pod";
    let pods = scene.api("v1", "Pod").await?;
    for pod in lines.iter().filter(is_new) {
        let name = pod["object"]["metadata"]["name"].as_str().context("no name")?;
        pods.delete(name, &DeleteParams::default()).await?;
    }
    let tree = scene.tree().await?;
    // The first may be replaced before the second goes.
    let (created, mut heads): (Vec<_>, Vec<_>) = tree
        .lines()
        .partition(|line| line.starts_with(' ') || line.starts_with("create Deployment"));
    heads.sort_unstable();
    expect![[r#"
        create Deployment web g1 -> converged  [context 1…]
          create ReplicaSet web-1 g1 -> converged
            create Pod web-1-a g1 -> converged
            create Pod web-1-b g1 -> converged
        create Pod web-1-c g1 -> converged  [owner, settled: create ReplicaSet web-1 g1]  [replaced: delete Pod web-1-a g2]
        create Pod web-1-d g1 -> converged  [owner, settled: create ReplicaSet web-1 g1]  [replaced: delete Pod web-1-b g2]
        delete Pod web-1-a g2 -> deleted  [owner, settled: create ReplicaSet web-1 g1]
        delete Pod web-1-b g2 -> deleted  [owner, settled: create ReplicaSet web-1 g1]
    "#]]
    .assert_eq(&[created, heads, vec![""]].concat().join("\n"));
    Ok(())
}

#[tokio::test]
async fn evicted_pod_has_a_reason_and_a_replacement() -> Result<()> {
    let scene = rolled_out(shared().await?, "evicted", 0).await?;
    let pod = scene.the_pod().await?;
    let eviction = json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": { "name": pod, "namespace": scene.namespace },
    });
    let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", scene.namespace);
    scene.kubectl_with_input(&["create", "--raw", &path, "-f", "-"], &eviction).await?;
    expect![[r#"
        create Deployment web g1 -> converged  [context 1…]
          create ReplicaSet web-1 g1 -> converged
            create Pod web-1-a g1 -> converged
        delete Pod web-1-a g2 -> deleted  EvictionByEvictionAPI  [owner, settled: create ReplicaSet web-1 g1]
        create Pod web-1-b g1 -> converged  [owner, settled: create ReplicaSet web-1 g1]  [replaced: delete Pod web-1-a g2]
    "#]]
    .assert_eq(&scene.tree().await?);
    Ok(())
}

#[tokio::test]
async fn failed_pod_is_replaced_without_a_deletion() -> Result<()> {
    let scene = rolled_out(shared().await?, "failed", 0).await?;
    scene.at_rest().await?;
    let lost = scene.the_pod().await?;
    // The status that a kubelet writes when it runs out of disk.
    let status = json!({ "status": { "phase": "Failed", "reason": "Evicted" } }).to_string();
    scene.kubectl(&["patch", "pod", &lost, "--subresource=status", "-p", &status]).await?;
    scene.when_there_are("Pod", 2).await?;
    expect![[r#"
        create Deployment web g1 -> converged  [context 1…]
          create ReplicaSet web-1 g1 -> converged
            create Pod web-1-a g1 -> converged
        create Pod web-1-b g1 -> converged  [owner, settled: create ReplicaSet web-1 g1]  [replaced: create Pod web-1-a g1]
    "#]]
    .assert_eq(&scene.tree().await?);
    Ok(())
}

/// On a control plane of its own: it fills a node.
#[tokio::test]
async fn preempted_pod_has_a_reason_and_a_replacement_once_there_is_room() -> Result<()> {
    let plane = own(&Options::default()).await?;
    // A node has 32.
    let scene = rolled_out(&plane, "preempted", 20).await?;
    let class = json!({
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": { "name": "urgent" },
        "value": 1000,
    });
    plane.apply(&class.to_string()).await?;
    let lost = scene.the_pod().await?;
    let container = json!({
        "name": "urgent",
        "image": "urgent:1",
        "resources": { "requests": { "cpu": 20 } },
    });
    let urgent = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "urgent" },
        "spec": {
            "priorityClassName": "urgent",
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
        },
    });
    scene.apply(&urgent).await?;
    scene
        .when("the one Pod to run in place of the other", |objects| {
            let phase = |pod: &str| objects.get(&format!("Pod/{pod}"))?["status"]["phase"].as_str();
            ensure!(phase("urgent") == Some("Running"), "urgent: {:?}", phase("urgent"));
            ensure!(phase(&lost).is_none(), "lost: {:?}", phase(&lost));
            Ok(())
        })
        .await?;
    scene.kubectl(&["delete", "pod", "urgent"]).await?;
    expect![[r#"
        create Deployment web g1 -> converged  [context 1…]
          create ReplicaSet web-1 g1 -> converged
            create Pod web-1-a g1 -> converged
        create Pod urgent g1 -> converged
        delete Pod web-1-a g2 -> deleted  PreemptionByScheduler  [owner, settled: create ReplicaSet web-1 g1]
        create Pod web-1-b g1 -> converged  [owner, settled: create ReplicaSet web-1 g1]  [replaced: delete Pod web-1-a g2]
        delete Pod urgent g2 -> deleted
    "#]]
    .assert_eq(&scene.tree().await?);
    Ok(())
}

/// On a control plane of its own: all tests share the nodes.
#[tokio::test]
async fn pod_of_a_lost_node_has_a_reason_and_a_replacement_on_another() -> Result<()> {
    let plane = own(&Options { nodes: 2, ..Options::default() }).await?;
    let scene = rolled_out(&plane, "node-lost", 0).await?;
    let lost = scene.the_pod().await?;
    let node = scene
        .when("the Pod's node", |objects| {
            let pod = objects.get(&format!("Pod/{lost}")).context("no Pod")?;
            Ok(pod["spec"]["nodeName"].as_str().context("no node")?.to_owned())
        })
        .await?;
    plane.kubectl(&["taint", "node", &node, "example.com/gone=yes:NoExecute"]).await?;
    scene
        .when("the Pod to go", |objects| {
            ensure!(!objects.contains_key(&format!("Pod/{lost}")), "it is there");
            Ok(())
        })
        .await?;
    expect![[r#"
        create Deployment web g1 -> converged  [context 1…]
          create ReplicaSet web-1 g1 -> converged
            create Pod web-1-a g1 -> converged
        delete Pod web-1-a g2 -> deleted  DeletionByTaintManager  [owner, settled: create ReplicaSet web-1 g1]
        create Pod web-1-b g1 -> converged  [owner, settled: create ReplicaSet web-1 g1]  [replaced: delete Pod web-1-a g2]
    "#]]
    .assert_eq(&scene.tree().await?);
    Ok(())
}

/// On a control plane of its own: it adds a node.
#[tokio::test]
async fn a_pod_for_a_node_that_came_is_a_head_and_in_place_of_none() -> Result<()> {
    let plane = own(&Options::default()).await?;
    let scene = Scene::begin(&plane, "node-came", &["DaemonSet.apps", "Pod"]).await?;
    let mut object = workload("DaemonSet");
    object["spec"].as_object_mut().context("no spec")?.remove("replicas");
    scene.apply(&object).await?;
    scene.settled().await?;
    plane.add_node("node-1").await?;
    scene.when_there_are("Pod", 2).await?;
    expect![[r#"
        create DaemonSet web g1 -> converged  [context 1…]
          create Pod web-1 g1 -> converged
        create Pod web-2 g1 -> converged  [owner, settled: create DaemonSet web g1]
    "#]]
    .assert_eq(&scene.tree().await?);
    Ok(())
}
