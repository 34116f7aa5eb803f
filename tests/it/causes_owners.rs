//! Which owners cause changes: operators of custom resources, one controller of several owners, those
//! that adopt.

use anyhow::{Context, Result, ensure};
use expect_test::expect;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::{
    control_plane::{ControlPlane, shared},
    scene::{ROLLOUT, Scene, deployment, stamped, template, workload},
    widgets,
};

/// The field manager of the operator distinguishes its writes from those of people.
const OPERATOR: &str = "widget-operator";

/// A namespace with Widgets of its own, of which `kinds` are recorded beside.
async fn with_widgets<'a>(
    plane: &'a ControlPlane,
    name: &str,
    kinds: &[&str],
) -> Result<Scene<'a>> {
    let namespace = plane.namespace(name).await?;
    widgets::define(plane, &namespace).await?;
    let widget = format!("Widget.{namespace}.example.com");
    let kinds: Vec<&str> = kinds.iter().copied().chain([&*widget]).collect();
    Scene::begin_in(plane, namespace.clone(), &kinds).await
}

fn widget(scene: &Scene<'_>, name: &str, size: i64, stamp: char) -> Value {
    json!({
        "apiVersion": format!("{}.example.com/v1", scene.namespace),
        "kind": "Widget",
        "metadata": { "name": name, "annotations": stamped(stamp) },
        "spec": { "size": size },
    })
}

fn owned_by(widget: &DynamicObject, is_controller: bool) -> Value {
    let types = widget.types.clone().unwrap_or_default();
    json!({
        "apiVersion": types.api_version,
        "kind": types.kind,
        "name": widget.metadata.name,
        "uid": widget.metadata.uid,
        "controller": is_controller,
    })
}

/// The operator reports the Widget as ready.
async fn done(scene: &Scene<'_>, name: &str) -> Result<()> {
    let widgets = scene.api(&format!("{}.example.com/v1", scene.namespace), "Widget").await?;
    let generation = widgets.get(name).await?.metadata.generation;
    let ready = json!([{ "type": "Ready", "status": "True", "reason": "AsAsked" }]);
    let status = json!({ "observedGeneration": generation, "conditions": ready });
    let params = PatchParams { field_manager: Some(OPERATOR.to_owned()), ..PatchParams::default() };
    let patch = json!({ "status": status });
    widgets.patch_status(name, &params, &Patch::Merge(&patch)).await?;
    Ok(())
}

/// Waits for the Deployment alone: the Widget converges when its operator reports it.
async fn deployed(scene: &Scene<'_>) -> Result<()> {
    scene.kubectl(&["rollout", "status", "deployment/web"]).await?;
    Ok(())
}

#[tokio::test]
async fn changes_by_an_operator_join_the_trace_of_its_resource_and_those_by_a_person_do_not()
-> Result<()> {
    let scene = with_widgets(shared().await?, "operator", &ROLLOUT).await?;
    let widgets = scene.api(&format!("{}.example.com/v1", scene.namespace), "Widget").await?;
    let deployments = scene.api("apps/v1", "Deployment").await?;

    scene.apply(&widget(&scene, "w", 1, '1')).await?;
    let mut object = deployment();
    object["metadata"] = json!({
        "name": "web",
        "ownerReferences": [owned_by(&widgets.get("w").await?, true)],
    });
    let params = PostParams { field_manager: Some(OPERATOR.to_owned()), ..PostParams::default() };
    deployments.create(&params, &serde_json::from_value(object)?).await?;
    deployed(&scene).await?;
    done(&scene, "w").await?;
    scene.settled().await?;
    // Which of two Pods that became ready in the same second is deleted, would be chance.
    let kept = "controller.kubernetes.io/pod-deletion-cost=1";
    scene.kubectl(&["annotate", "pod", &scene.the_pod().await?, kept]).await?;

    scene.apply(&widget(&scene, "w", 2, '2')).await?;
    let params = PatchParams { field_manager: Some(OPERATOR.to_owned()), ..PatchParams::default() };
    let patch = json!({ "spec": { "replicas": 2 } });
    deployments.patch("web", &params, &Patch::Merge(&patch)).await?;
    deployed(&scene).await?;
    done(&scene, "w").await?;
    scene.settled().await?;

    scene.kubectl(&["scale", "deployment/web", "--replicas=1"]).await?;
    scene.settled().await?;

    scene.kubectl(&["delete", &format!("widgets.{}.example.com", scene.namespace), "w"]).await?;
    expect![[r#"
        create Widget w g1 -> converged  [context 1…]
          create Deployment web g1 -> converged
            create ReplicaSet web-1 g1 -> converged
              create Pod web-1-a g1 -> converged
        update Widget w g2 -> converged  [context 2…]  {spec.size by kubectl-client-side-apply}
          update Deployment web g2 -> converged  {spec.replicas by widget-operator}
            update ReplicaSet web-1 g2 -> converged  {spec.replicas by kube-controller-manager}
              create Pod web-1-b g1 -> converged
        update Deployment web g3 -> converged  [owner, settled: update Widget w g2]  {spec.replicas by kubectl/scale}
          update ReplicaSet web-1 g3 -> converged  {spec.replicas by kube-controller-manager}
            delete Pod web-1-b g2 -> deleted
        delete Widget w g2 -> deleted
          delete Deployment web g3 -> deleted
            delete ReplicaSet web-1 g3 -> deleted
              delete Pod web-1-a g2 -> deleted
    "#]]
    .assert_eq(&scene.tree().await?);
    Ok(())
}

#[tokio::test]
async fn of_several_owners_the_controller_is_the_cause_and_no_other() -> Result<()> {
    let scene = with_widgets(shared().await?, "several", &["Service"]).await?;
    let resource = format!("widgets.{}.example.com", scene.namespace);
    let widgets = scene.api(&format!("{}.example.com/v1", scene.namespace), "Widget").await?;
    for (name, stamp) in [("a", '1'), ("b", '2')] {
        scene.apply(&widget(&scene, name, 1, stamp)).await?;
    }
    let service = |name: &str, owners: &[Value]| {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": name, "ownerReferences": owners },
            "spec": { "ports": [{ "port": 80 }] },
        })
    };
    let (a, b) = (widgets.get("a").await?, widgets.get("b").await?);
    scene.apply(&service("of-both", &[owned_by(&a, false), owned_by(&b, true)])).await?;
    scene.apply(&service("of-none", &[owned_by(&a, false)])).await?;
    for name in ["a", "b"] {
        done(&scene, name).await?;
    }
    scene.settled().await?;
    // Takes with it what has no other owner.
    scene.kubectl(&["delete", &resource, "a"]).await?;
    scene
        .when("the first Service to go", |objects| {
            ensure!(!objects.contains_key("Service/of-none"), "it is there");
            let other = objects.get("Service/of-both").context("both went")?;
            let owners = other["metadata"]["ownerReferences"].as_array().map_or(0, Vec::len);
            ensure!(owners == 1, "the other has {owners} owners");
            Ok(())
        })
        .await?;
    scene.kubectl(&["delete", &resource, "b"]).await?;
    expect![[r#"
        create Widget a g1 -> converged  [context 1…]
        create Widget b g1 -> converged  [context 2…]
          create Service of-both -> converged
        create Service of-none -> converged  [owner: create Widget a g1]
        delete Widget a g1 -> deleted
          delete Service of-none -> deleted
        delete Widget b g1 -> deleted
          delete Service of-both -> deleted
    "#]]
    .assert_eq(&scene.tree().await?);
    Ok(())
}

/// A Pod without an owner, and a ReplicaSet that selects it.
async fn adopted(name: &str) -> Result<Scene<'static>> {
    let scene = Scene::begin(shared().await?, name, &ROLLOUT).await?;
    let mut pod = template();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!("stray");
    scene.apply(&pod).await?;
    scene.settled().await?;
    scene.apply(&workload("ReplicaSet")).await?;
    scene.settled().await?;
    Ok(scene)
}

#[tokio::test]
async fn adopted_pod_is_deleted_by_its_new_owner() -> Result<()> {
    let scene = adopted("adopted").await?;
    // A scale of zero leaves the field out, so that no manager owns it.
    scene.kubectl(&["scale", "replicaset/web", "--replicas=0"]).await?;
    expect![[r#"
        create Pod stray g1 -> converged
        create ReplicaSet web g1 -> converged  [context 1…]
        update ReplicaSet web g2 -> converged  [context 1…, stale]  {spec.replicas}
          delete Pod stray g2 -> deleted
    "#]]
    .assert_eq(&scene.tree().await?);
    Ok(())
}

#[tokio::test]
async fn an_orphaned_pod_has_no_owner_to_name() -> Result<()> {
    let scene = adopted("orphaned").await?;
    scene.kubectl(&["delete", "replicaset", "web", "--cascade=orphan"]).await?;
    scene.settled().await?;
    scene.kubectl(&["delete", "pod", "stray"]).await?;
    expect![[r#"
        create Pod stray g1 -> converged
        create ReplicaSet web g1 -> converged  [context 1…]
        delete ReplicaSet web g2 -> deleted
        delete Pod stray g2 -> deleted
    "#]]
    .assert_eq(&scene.tree().await?);
    Ok(())
}
