//! Deployments whose number of replicas changes, by a person or an autoscaler: a change of its own,
//! which carries on the origin of the rollout it interrupts.

use std::time::Duration;

use anyhow::{Context, Result};
use expect_test::expect;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::{
    control_plane::{shared, until},
    scene::{Scene, deployment},
};

const KINDS: [&str; 4] =
    ["Deployment.apps", "ReplicaSet.apps", "Pod", "HorizontalPodAutoscaler.autoscaling"];

/// A Deployment whose rollouts last seconds, so that kubectl can interrupt one.
async fn rolled_out(name: &str) -> Result<Scene<'static>> {
    let mut object = deployment();
    object["spec"]["minReadySeconds"] = json!(6);
    Scene::rolled_out(shared().await?, name, &KINDS, &object).await
}

/// An autoscaler that requests a metric that is not served.
async fn autoscaler(scene: &Scene<'_>) -> Result<()> {
    let target = json!({ "type": "Utilization", "averageUtilization": 50 });
    let object = json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": "web" },
        "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" },
            "minReplicas": 1,
            "maxReplicas": 4,
            "metrics": [{ "type": "Resource", "resource": { "name": "cpu", "target": target } }],
        },
    });
    scene.apply(&object).await?;
    // From then on its controller writes the same status again, which is not a change.
    scene
        .when("the autoscaler to find no metrics", |objects| {
            let object = objects.get("HorizontalPodAutoscaler/web").context("no autoscaler")?;
            let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
            let mut conditions = conditions.filter(|it| it["type"] == "ScalingActive");
            conditions.next().context("no such condition")?;
            Ok(())
        })
        .await
}

/// Stands in for the autoscaler's controller, which without a metrics API writes conditions alone.
/// Writes what that writes, in its order, by its name: `/scale`, then its own status.
async fn rescale(scene: &Scene<'_>, replicas: i32) -> Result<()> {
    let deployments = scene.api("apps/v1", "Deployment").await?;
    let autoscalers = scene.api("autoscaling/v2", "HorizontalPodAutoscaler").await?;
    let params = PostParams {
        field_manager: Some("kube-controller-manager".to_owned()),
        ..PostParams::default()
    };
    let retried = Duration::from_secs(30);
    // Both controllers may have written in between.
    until("the scale to be written", retried, async || {
        let mut scale = deployments.get_scale("web").await?;
        scale.spec.get_or_insert_default().replicas = Some(replicas);
        deployments.replace_scale("web", &params, &scale).await?;
        Ok(())
    })
    .await?;
    until("the status to be written", retried, async || {
        let mut object = autoscalers.get("web").await?;
        let status: &mut Value = &mut object.data["status"];
        status["desiredReplicas"] = json!(replicas);
        status["lastScaleTime"] = json!(jiff::Timestamp::now().strftime("%FT%TZ").to_string());
        autoscalers.replace_status("web", &params, &object).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn scaled_by_a_person_during_a_rollout_the_origin_is_carried_on() -> Result<()> {
    let scene = rolled_out("scaled").await?;
    scene.patch_image("web:2", Some('2')).await?;
    scene.when_there_are("ReplicaSet", 2).await?;
    scene.kubectl(&["scale", "deployment/web", "--replicas=2"]).await?;
    expect![[r#"
        create Deployment web g1 -> converged  [context 1…]
          create ReplicaSet web-1 g1 -> converged
            create Pod web-1-a g1 -> converged
        update Deployment web g2 -> superseded  [context 2…]  {spec.template.spec.containers[web].image by kubectl-patch}
          create ReplicaSet web-2 g1 -> superseded
            create Pod web-2-a g1 -> converged
        update Deployment web g3 -> converged  [context 2…, stale]  [supersedes: update Deployment web g2]  [origin 2…]  {spec.replicas by kubectl/scale}
          update ReplicaSet web-2 g2 -> converged  [supersedes: create ReplicaSet web-2 g1]  {spec.replicas by kube-controller-manager}
            create Pod web-2-b g1 -> converged
          update ReplicaSet web-1 g2 -> converged  {spec.replicas by kube-controller-manager}
            delete Pod web-1-a g2 -> deleted
    "#]]
    .assert_eq(&scene.tree().await?);
    Ok(())
}

#[tokio::test]
async fn scaled_by_a_person_a_settled_deployment_has_a_stale_context_and_no_origin() -> Result<()> {
    let scene = rolled_out("scaled-settled").await?;
    scene.kubectl(&["scale", "deployment/web", "--replicas=2"]).await?;
    expect![[r#"
        create Deployment web g1 -> converged  [context 1…]
          create ReplicaSet web-1 g1 -> converged
            create Pod web-1-a g1 -> converged
        update Deployment web g2 -> converged  [context 1…, stale]  {spec.replicas by kubectl/scale}
          update ReplicaSet web-1 g2 -> converged  {spec.replicas by kube-controller-manager}
            create Pod web-1-b g1 -> converged
    "#]]
    .assert_eq(&scene.tree().await?);
    Ok(())
}

#[tokio::test]
async fn scaled_by_an_autoscaler_during_a_rollout_the_origin_is_carried_on() -> Result<()> {
    let scene = rolled_out("autoscaled").await?;
    autoscaler(&scene).await?;
    scene.patch_image("web:2", Some('2')).await?;
    scene.when_there_are("ReplicaSet", 2).await?;
    rescale(&scene, 2).await?;
    expect![[r#"
        create Deployment web g1 -> converged  [context 1…]
          create ReplicaSet web-1 g1 -> converged
            create Pod web-1-a g1 -> converged
        create HorizontalPodAutoscaler web g1 -> converged
        update Deployment web g2 -> superseded  [context 2…]  {spec.template.spec.containers[web].image by kubectl-patch}
          create ReplicaSet web-2 g1 -> superseded
            create Pod web-2-a g1 -> converged
        update Deployment web g3 -> converged  [context 2…, stale]  [supersedes: update Deployment web g2]  [reference: create HorizontalPodAutoscaler web g1]  [origin 2…]  {spec.replicas by kube-controller-manager/scale}
          update ReplicaSet web-2 g2 -> converged  [supersedes: create ReplicaSet web-2 g1]  {spec.replicas by kube-controller-manager}
            create Pod web-2-b g1 -> converged
          update ReplicaSet web-1 g2 -> converged  {spec.replicas by kube-controller-manager}
            delete Pod web-1-a g2 -> deleted
    "#]]
    .assert_eq(&scene.tree().await?);
    Ok(())
}

#[tokio::test]
async fn scaled_by_an_autoscaler_a_settled_deployment_refers_to_that() -> Result<()> {
    let scene = rolled_out("autoscaled-settled").await?;
    autoscaler(&scene).await?;
    rescale(&scene, 2).await?;
    expect![[r#"
        create Deployment web g1 -> converged  [context 1…]
          create ReplicaSet web-1 g1 -> converged
            create Pod web-1-a g1 -> converged
        create HorizontalPodAutoscaler web g1 -> converged
        update Deployment web g2 -> converged  [context 1…, stale]  [reference: create HorizontalPodAutoscaler web g1]  {spec.replicas by kube-controller-manager/scale}
          update ReplicaSet web-1 g2 -> converged  {spec.replicas by kube-controller-manager}
            create Pod web-1-b g1 -> converged
    "#]]
    .assert_eq(&scene.tree().await?);
    Ok(())
}
