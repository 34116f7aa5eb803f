//! Which context and which change an object of a rollout follows from, on the real control plane.
//!
//! All exported spans are compared with the changes of each test: every change, the change it stands
//! under, every link and where that leads.

use anyhow::Result;
use expect_test::expect;
use serde_json::{Value, json};

use crate::{
    control_plane::shared,
    scene::{ROLLOUT, Scene, deployment, image_patch, stamped, traceparent},
};

pub(crate) async fn rolled_out(name: &str) -> Result<Scene<'static>> {
    Scene::rolled_out(shared().await?, name, &ROLLOUT, &deployment()).await
}

#[tokio::test]
async fn a_rollout_is_one_trace_under_the_change_that_was_stamped() -> Result<()> {
    let scene = rolled_out("rolling-update").await?;
    scene.patch_image("web:2", Some('2')).await?;
    expect![[r#"
        create Deployment web g1 -> converged  [context 1…]
          create ReplicaSet web-1 g1 -> converged
            create Pod web-1-a g1 -> converged
        update Deployment web g2 -> converged  [context 2…]  {spec.template.spec.containers[web].image by kubectl-patch}
          create ReplicaSet web-2 g1 -> converged
            create Pod web-2-a g1 -> converged
          update ReplicaSet web-1 g2 -> converged  {spec.replicas by kube-controller-manager}
            delete Pod web-1-a g2 -> deleted
    "#]]
    .assert_eq(&scene.tree().await?);
    Ok(())
}

#[tokio::test]
async fn update_with_an_old_context_is_stale_and_has_no_origin() -> Result<()> {
    let scene = rolled_out("stale").await?;
    scene.kubectl(&["set", "image", "deployment/web", "web=web:2"]).await?;
    expect![[r#"
        create Deployment web g1 -> converged  [context 1…]
          create ReplicaSet web-1 g1 -> converged
            create Pod web-1-a g1 -> converged
        update Deployment web g2 -> converged  [context 1…, stale]  {spec.template.spec.containers[web].image by kubectl-set}
          create ReplicaSet web-2 g1 -> converged
            create Pod web-2-a g1 -> converged
          update ReplicaSet web-1 g2 -> converged  {spec.replicas by kube-controller-manager}
            delete Pod web-1-a g2 -> deleted
    "#]]
    .assert_eq(&scene.tree().await?);
    Ok(())
}

#[tokio::test]
async fn an_undone_rollout_revives_its_context_and_a_restart_finds_it_stale() -> Result<()> {
    let scene = rolled_out("undo").await?;
    scene.patch_image("web:2", Some('2')).await?;
    scene.settled().await?;
    scene.kubectl(&["rollout", "undo", "deployment/web"]).await?;
    scene.settled().await?;
    scene.kubectl(&["rollout", "restart", "deployment/web"]).await?;
    expect![[r#"
        create Deployment web g1 -> converged  [context 1…]
          create ReplicaSet web-1 g1 -> converged
            create Pod web-1-a g1 -> converged
        update Deployment web g2 -> converged  [context 2…]  {spec.template.spec.containers[web].image by kubectl-patch}
          create ReplicaSet web-2 g1 -> converged
            create Pod web-2-a g1 -> converged
          update ReplicaSet web-1 g2 -> converged  {spec.replicas by kube-controller-manager}
            delete Pod web-1-a g2 -> deleted
        update Deployment web g3 -> converged  [context 1…, revived]  {spec.template.spec.containers[web].image by kubectl}
          update ReplicaSet web-1 g3 -> converged  {spec.replicas by kube-controller-manager}
            create Pod web-1-b g1 -> converged
          update ReplicaSet web-2 g2 -> converged  {spec.replicas by kube-controller-manager}
            delete Pod web-2-a g2 -> deleted
        update Deployment web g4 -> converged  [context 1…, stale]  {spec.template.metadata.annotations[kubectl.kubernetes.io/restartedAt] by kubectl-rollout}
          create ReplicaSet web-3 g1 -> converged
            create Pod web-3-a g1 -> converged
          update ReplicaSet web-1 g4 -> converged  {spec.replicas by kube-controller-manager}
            delete Pod web-1-b g2 -> deleted
    "#]]
    .assert_eq(&scene.tree().await?);
    Ok(())
}

#[tokio::test]
async fn a_restart_that_was_stamped_before_has_a_fresh_context() -> Result<()> {
    let scene = rolled_out("restart").await?;
    scene.at_rest().await?;
    let annotation = format!("tracing.k8s.io/traceparent={}", traceparent('2'));
    scene.kubectl(&["annotate", "--overwrite", "deployment/web", &annotation]).await?;
    scene.kubectl(&["rollout", "restart", "deployment/web"]).await?;
    expect![[r#"
        create Deployment web g1 -> converged  [context 1…]
          create ReplicaSet web-1 g1 -> converged
            create Pod web-1-a g1 -> converged
        update Deployment web g2 -> converged  [context 2…]  (metadata)
        update Deployment web g3 -> converged  [context 2…]  {spec.template.metadata.annotations[kubectl.kubernetes.io/restartedAt] by kubectl-rollout}
          create ReplicaSet web-2 g1 -> converged
            create Pod web-2-a g1 -> converged
          update ReplicaSet web-1 g2 -> converged  {spec.replicas by kube-controller-manager}
            delete Pod web-1-a g2 -> deleted
    "#]]
    .assert_eq(&scene.tree().await?);
    Ok(())
}

#[tokio::test]
async fn a_stamp_right_after_the_image_joins_the_rollout() -> Result<()> {
    let scene = Scene::begin(shared().await?, "joined", &ROLLOUT).await?;
    let mut object = deployment();
    // Else the rollout may be over before the second request.
    object["spec"]["minReadySeconds"] = json!(3);
    scene.apply(&object).await?;
    scene.settled().await?;
    scene.kubectl(&["set", "image", "deployment/web", "web=web:2"]).await?;
    scene.when_there_are("ReplicaSet", 2).await?;
    scene.patch(&json!({ "metadata": { "annotations": stamped('2') } })).await?;
    expect![[r#"
        create Deployment web g1 -> converged  [context 1…]
          create ReplicaSet web-1 g1 -> converged
            create Pod web-1-a g1 -> converged
        update Deployment web g2 -> converged  [context 1…, stale]  [context 2…, joined]  {spec.template.spec.containers[web].image by kubectl-set}
          create ReplicaSet web-2 g1 -> converged
            create Pod web-2-a g1 -> converged
          update Deployment web g3 -> converged  [context 2…, joined]  [origin 2…]  (metadata)
          update ReplicaSet web-1 g2 -> converged  {spec.replicas by kube-controller-manager}
            delete Pod web-1-a g2 -> deleted
    "#]]
    .assert_eq(&scene.tree().await?);
    Ok(())
}

#[tokio::test]
async fn a_stamp_right_before_the_image_is_the_rollouts_own() -> Result<()> {
    let scene = rolled_out("before").await?;
    scene.at_rest().await?;
    let annotation = format!("tracing.k8s.io/traceparent={}", traceparent('2'));
    scene.kubectl(&["annotate", "--overwrite", "deployment/web", &annotation]).await?;
    scene.kubectl(&["set", "image", "deployment/web", "web=web:2"]).await?;
    expect![[r#"
        create Deployment web g1 -> converged  [context 1…]
          create ReplicaSet web-1 g1 -> converged
            create Pod web-1-a g1 -> converged
        update Deployment web g2 -> converged  [context 2…]  (metadata)
        update Deployment web g3 -> converged  [context 2…]  {spec.template.spec.containers[web].image by kubectl-set}
          create ReplicaSet web-2 g1 -> converged
            create Pod web-2-a g1 -> converged
          update ReplicaSet web-1 g2 -> converged  {spec.replicas by kube-controller-manager}
            delete Pod web-1-a g2 -> deleted
    "#]]
    .assert_eq(&scene.tree().await?);
    Ok(())
}

#[tokio::test]
async fn two_quick_updates_keep_their_own_children_and_the_second_supersedes() -> Result<()> {
    let scene = rolled_out("superseded").await?;
    // The first would never end.
    let behaviour = json!({ "labels": { "spanlink.test/behaviour": "never-ready" } });
    scene.patch(&update("web:2", '2', &behaviour)).await?;
    scene.when_a_pod_of("web:2", "runs", |pod| pod["status"]["phase"] == "Running").await?;
    let behaviour = json!({ "labels": { "spanlink.test/behaviour": null } });
    scene.patch(&update("web:3", '3', &behaviour)).await?;
    expect![[r#"
        create Deployment web g1 -> converged  [context 1…]
          create ReplicaSet web-1 g1 -> converged
            create Pod web-1-a g1 -> converged
        update Deployment web g2 -> superseded  [context 2…]  {spec.template.metadata.labels[spanlink.test/behaviour], spec.template.spec.containers[web].image by a-test}
          create ReplicaSet web-2 g1 -> superseded
            create Pod web-2-a g1 -> superseded
        update Deployment web g3 -> converged  [context 3…]  [supersedes: update Deployment web g2]  {spec.template.metadata.labels, spec.template.spec.containers[web].image by a-test}
          create ReplicaSet web-3 g1 -> converged
          update ReplicaSet web-2 g2 -> converged  [supersedes: create ReplicaSet web-2 g1]  {spec.replicas by kube-controller-manager}
            delete Pod web-2-a g2 -> deleted  [supersedes: create Pod web-2-a g1]
          update ReplicaSet web-3 g2 -> converged  {spec.replicas by kube-controller-manager}
            create Pod web-3-a g1 -> converged
          update ReplicaSet web-1 g2 -> converged  {spec.replicas by kube-controller-manager}
            delete Pod web-1-a g2 -> deleted
    "#]]
    .assert_eq(&scene.tree().await?);
    Ok(())
}

#[tokio::test]
async fn resumed_rollout_links_to_contexts_of_paused_changes() -> Result<()> {
    let scene = rolled_out("paused").await?;
    scene.kubectl(&["rollout", "pause", "deployment/web"]).await?;
    scene.observed().await?;
    scene.patch_image("web:2", Some('2')).await?;
    scene.observed().await?;
    scene.kubectl(&["rollout", "resume", "deployment/web"]).await?;
    expect![[r#"
        create Deployment web g1 -> converged  [context 1…]
          create ReplicaSet web-1 g1 -> converged
            create Pod web-1-a g1 -> converged
        update Deployment web g2 -> paused  [context 1…, stale]  {spec.paused by kubectl-rollout}
        update Deployment web g3 -> paused  [context 2…]  {spec.template.spec.containers[web].image by kubectl-patch}
        update Deployment web g4 -> converged  [context 2…, stale]  [context 2…]  {spec}
          create ReplicaSet web-2 g1 -> converged
            create Pod web-2-a g1 -> converged
          update ReplicaSet web-1 g2 -> converged  {spec.replicas by kube-controller-manager}
            delete Pod web-1-a g2 -> deleted
    "#]]
    .assert_eq(&scene.tree().await?);
    Ok(())
}

/// An image, a stamp, and what else the template has.
fn update(image: &str, stamp: char, template_metadata: &Value) -> Value {
    let mut patch = image_patch(image);
    patch["metadata"] = json!({ "annotations": stamped(stamp) });
    patch["spec"]["template"]["metadata"] = template_metadata.clone();
    patch
}
