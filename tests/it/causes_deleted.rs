//! Objects that are deleted with their owner or Namespace, that outlive it, and that are cleaned up.

use anyhow::{Context, Result};
use expect_test::expect;
use serde_json::json;

use crate::{
    causes::rolled_out,
    control_plane::shared,
    scene::{ROLLOUT, Scene, deployment, stamped, traceparent},
};

#[tokio::test]
async fn a_deployment_deleted_in_background_is_one_trace_with_all_it_owned() -> Result<()> {
    let scene = rolled_out("background").await?;
    scene.kubectl(&["delete", "deployment", "web", "--cascade=background"]).await?;
    expect![[r#"
        create Deployment web g1 -> converged  [context 1…]
          create ReplicaSet web-1 g1 -> converged
            create Pod web-1-a g1 -> converged
        delete Deployment web g1 -> deleted
          delete ReplicaSet web-1 g1 -> deleted
            delete Pod web-1-a g2 -> deleted
    "#]]
    .assert_eq(&scene.tree().await?);
    Ok(())
}

#[tokio::test]
async fn a_stamp_right_before_the_deletion_is_the_deletions_own() -> Result<()> {
    let scene = rolled_out("stamped-deletion").await?;
    scene.at_rest().await?;
    let annotation = format!("tracing.k8s.io/traceparent={}", traceparent('2'));
    scene.kubectl(&["annotate", "--overwrite", "deployment/web", &annotation]).await?;
    scene.kubectl(&["delete", "deployment", "web", "--cascade=foreground"]).await?;
    expect![[r#"
        create Deployment web g1 -> converged  [context 1…]
          create ReplicaSet web-1 g1 -> converged
            create Pod web-1-a g1 -> converged
        update Deployment web g2 -> converged  [context 2…]  (metadata)
        delete Deployment web g3 -> deleted  [context 2…]
          delete ReplicaSet web-1 g2 -> deleted
            delete Pod web-1-a g2 -> deleted
    "#]]
    .assert_eq(&scene.tree().await?);
    Ok(())
}

#[tokio::test]
async fn a_deployment_deleted_in_foreground_is_one_trace_with_all_it_owned() -> Result<()> {
    let scene = rolled_out("foreground").await?;
    scene.kubectl(&["delete", "deployment", "web", "--cascade=foreground"]).await?;
    expect![[r#"
        create Deployment web g1 -> converged  [context 1…]
          create ReplicaSet web-1 g1 -> converged
            create Pod web-1-a g1 -> converged
        delete Deployment web g2 -> deleted
          delete ReplicaSet web-1 g2 -> deleted
            delete Pod web-1-a g2 -> deleted
    "#]]
    .assert_eq(&scene.tree().await?);
    Ok(())
}

#[tokio::test]
async fn orphans_of_a_deployment_are_adopted_by_the_next_without_a_change() -> Result<()> {
    let scene = rolled_out("orphan").await?;
    scene.kubectl(&["delete", "deployment", "web", "--cascade=orphan"]).await?;
    let mut next = deployment();
    next["metadata"]["annotations"] = stamped('2');
    scene.apply(&next).await?;
    expect![[r#"
        create Deployment web g1 -> converged  [context 1…]
          create ReplicaSet web-1 g1 -> converged
            create Pod web-1-a g1 -> converged
        delete Deployment web g2 -> deleted
        create Deployment web g1 -> converged  [context 2…]
    "#]]
    .assert_eq(&scene.tree().await?);
    Ok(())
}

#[tokio::test]
async fn two_deployments_of_the_same_name_have_a_trace_each() -> Result<()> {
    let scene = rolled_out("same-name").await?;
    scene.kubectl(&["delete", "deployment", "web"]).await?;
    scene.settled().await?;
    let mut next = deployment();
    next["metadata"]["annotations"] = stamped('2');
    scene.apply(&next).await?;
    expect![[r#"
        create Deployment web g1 -> converged  [context 1…]
          create ReplicaSet web-1 g1 -> converged
            create Pod web-1-a g1 -> converged
        delete Deployment web g1 -> deleted
          delete ReplicaSet web-1 g1 -> deleted
            delete Pod web-1-a g2 -> deleted
        create Deployment web g1 -> converged  [context 2…]
          create ReplicaSet web-1 g1 -> converged
            create Pod web-1-b g1 -> converged
    "#]]
    .assert_eq(&scene.tree().await?);
    Ok(())
}

#[tokio::test]
async fn a_namespace_takes_all_with_it_in_one_trace() -> Result<()> {
    let scene = rolled_out("namespace-deleted").await?;
    scene.plane.kubectl(&["delete", "namespace", &scene.namespace]).await?;
    let tree = scene.tree().await?;
    let (created, deleted) = tree.split_once("delete Namespace").context("no deletion")?;
    expect![[r#"
        create Deployment web g1 -> converged  [context 1…]
          create ReplicaSet web-1 g1 -> converged
            create Pod web-1-a g1 -> converged
    "#]]
    .assert_eq(created);
    // Kinds are deleted in any order: an object deleted after its owner is below that, else below the
    // Namespace.
    let mut lines: Vec<&str> = deleted.lines().skip(1).collect();
    for (above, line) in deleted.lines().zip(&lines) {
        let is_deeper = depth(line) > depth(above);
        let owner = if line.contains("Pod") { "ReplicaSet" } else { "Deployment" };
        assert!(!is_deeper || depth(line) == 1 || above.contains(owner), "{tree}");
    }
    lines.sort_by_key(|line| line.trim());
    let deleted: String = lines.iter().flat_map(|line| [line.trim(), "\n"]).collect();
    expect![[r#"
        delete Deployment web g1 -> deleted
        delete Pod web-1-a g2 -> deleted
        delete ReplicaSet web-1 g1 -> deleted
    "#]]
    .assert_eq(&deleted);
    Ok(())
}

fn depth(line: &str) -> usize {
    (line.len() - line.trim_start().len()) / 2
}

#[tokio::test]
async fn replicasets_beyond_the_history_limit_go_under_the_newest_change() -> Result<()> {
    let scene = Scene::begin(shared().await?, "cleaned-up", &ROLLOUT).await?;
    let mut object = deployment();
    object["spec"]["revisionHistoryLimit"] = json!(1);
    scene.apply(&object).await?;
    scene.settled().await?;
    for (image, stamp) in [("web:2", '2'), ("web:3", '3'), ("web:4", '4')] {
        scene.patch_image(image, Some(stamp)).await?;
        scene.settled().await?;
        // The cleaning up comes after the rollout, and is to come before the next.
        scene.when_there_are("ReplicaSet", 2).await?;
    }
    expect![[r#"
        create Deployment web g1 -> converged  [context 1…]
          create ReplicaSet web-1 g1 -> converged
            create Pod web-1-a g1 -> converged
        update Deployment web g2 -> converged  [context 2…]  {spec.template.spec.containers[web].image by kubectl-patch}
          create ReplicaSet web-2 g1 -> converged
            create Pod web-2-a g1 -> converged
          update ReplicaSet web-1 g2 -> converged  {spec.replicas by kube-controller-manager}
            delete Pod web-1-a g2 -> deleted
        update Deployment web g3 -> converged  [context 3…]  {spec.template.spec.containers[web].image by kubectl-patch}
          create ReplicaSet web-3 g1 -> converged
            create Pod web-3-a g1 -> converged
          update ReplicaSet web-2 g2 -> converged  {spec.replicas by kube-controller-manager}
            delete Pod web-2-a g2 -> deleted
          delete ReplicaSet web-1 g2 -> deleted
        update Deployment web g4 -> converged  [context 4…]  {spec.template.spec.containers[web].image by kubectl-patch}
          create ReplicaSet web-4 g1 -> converged
            create Pod web-4-a g1 -> converged
          update ReplicaSet web-3 g2 -> converged  {spec.replicas by kube-controller-manager}
            delete Pod web-3-a g2 -> deleted
          delete ReplicaSet web-2 g2 -> deleted
    "#]]
    .assert_eq(&scene.tree().await?);
    Ok(())
}
