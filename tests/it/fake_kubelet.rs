//! The fake kubelet and the controllers behave as on a real cluster: states of Pods, rollouts and Jobs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::control_plane::{shared, until};

const SOON: Duration = Duration::from_mins(2);
const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test]
async fn a_deployment_becomes_ready_on_the_fake_kubelet() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("rollout").await?;
    plane.apply(&deployment(&namespace, "web", None)).await?;
    let deployments: Api<Deployment> = Api::namespaced(plane.client().await?, &namespace);
    until("two replicas to be available", SOON, async || {
        let status = deployments.get("web").await?.status.unwrap_or_default();
        ensure!(status.available_replicas == Some(2), "its status is {status:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_traceparent_annotation_is_copied_to_the_replicaset() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("annotated").await?;
    plane.apply(&deployment(&namespace, "web", None)).await?;
    let sets: Api<ReplicaSet> = Api::namespaced(plane.client().await?, &namespace);
    let annotations = until("a ReplicaSet", SOON, async || {
        let sets = sets.list(&ListParams::default()).await?;
        let set = sets.items.into_iter().next().context("there is none")?;
        set.metadata.annotations.context("it has no annotations")
    })
    .await?;
    assert_eq!(annotations.get("traceparent").map(String::as_str), Some(TRACEPARENT));
    Ok(())
}

#[tokio::test]
async fn a_pod_passes_through_its_states_as_under_a_real_kubelet() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("pod").await?;
    plane.apply(&pod(&namespace, None)).await?;
    let pods = Api::namespaced(plane.client().await?, &namespace);
    let pod = pod_when(&pods, "/status/conditions/*Ready/status", "True").await?;
    assert_eq!(at(&pod, "/status/phase"), "Running");
    assert_eq!(at(&pod, "/status/observedGeneration"), 1);
    assert_eq!(at(&pod, "/status/hostIP"), "192.0.2.1");
    assert_eq!(at(&pod, "/status/initContainerStatuses/0/state/terminated/reason"), "Completed");
    plane.kubectl(&["-n", &namespace, "delete", "pod", "app", "--wait=false"]).await?;
    gone(&pods).await
}

#[tokio::test]
async fn image_pull_back_off_follows_from_its_stage() -> Result<()> {
    let pod = waiting("image-pull-back-off", "ImagePullBackOff").await?;
    assert_eq!(at(&pod, "/status/phase"), "Pending");
    assert_eq!(condition(&pod, "Initialized")["status"], "True");
    assert_eq!(condition(&pod, "Ready")["status"], "False");
    assert_eq!(condition(&pod, "Ready")["reason"], "ContainersNotReady");
    assert_eq!(condition(&pod, "Ready")["message"], "containers with unready status: [app]");
    let message = at(&pod, "/status/containerStatuses/0/state/waiting/message");
    assert!(
        message.as_str().is_some_and(|text| text.starts_with("Back-off pulling image \"app:1\""))
    );
    Ok(())
}

#[tokio::test]
async fn an_image_is_pulled_again_after_its_back_off() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("pull").await?;
    plane.apply(&pod(&namespace, Some("image-pull-back-off"))).await?;
    let pods = Api::namespaced(plane.client().await?, &namespace);
    for reason in ["ErrImagePull", "ImagePullBackOff", "ErrImagePull", "ImagePullBackOff"] {
        pod_when(&pods, "/status/containerStatuses/0/state/waiting/reason", reason).await?;
    }
    Ok(())
}

#[tokio::test]
async fn crash_loop_back_off_follows_from_its_stage() -> Result<()> {
    let pod = waiting("crash-loop-back-off", "CrashLoopBackOff").await?;
    assert_eq!(at(&pod, "/status/phase"), "Running");
    assert_eq!(condition(&pod, "Ready")["status"], "False");
    let container = at(&pod, "/status/containerStatuses/0");
    assert_eq!(container["restartCount"], 1);
    assert_eq!(container["lastState"]["terminated"]["exitCode"], 1);
    assert_eq!(container["lastState"]["terminated"]["reason"], "Error");
    Ok(())
}

#[tokio::test]
async fn a_crashing_container_is_restarted_after_its_back_off() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("crash").await?;
    plane.apply(&pod(&namespace, Some("crash-loop-back-off"))).await?;
    let pods = Api::namespaced(plane.client().await?, &namespace);
    let pod = pod_when(&pods, "/status/containerStatuses/0/restartCount", 2).await?;
    assert_eq!(at(&pod, "/status/containerStatuses/0/lastState/terminated/exitCode"), 1);
    Ok(())
}

#[tokio::test]
async fn create_container_config_error_follows_from_its_stage() -> Result<()> {
    let pod = waiting("create-container-config-error", "CreateContainerConfigError").await?;
    assert_eq!(at(&pod, "/status/phase"), "Pending");
    let message = at(&pod, "/status/containerStatuses/0/state/waiting/message");
    assert_eq!(message, r#"configmap "missing" not found"#);
    Ok(())
}

#[tokio::test]
async fn a_pod_that_never_becomes_ready_runs() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("unready").await?;
    plane.apply(&pod(&namespace, Some("never-ready"))).await?;
    let pods = Api::namespaced(plane.client().await?, &namespace);
    let pod = pod_when(&pods, "/status/phase", "Running").await?;
    assert_eq!(condition(&pod, "Ready")["status"], "False");
    assert_eq!(at(&pod, "/status/containerStatuses/0/ready"), false);
    assert_eq!(at(&pod, "/status/containerStatuses/0/started"), true);
    Ok(())
}

#[tokio::test]
async fn kwoks_own_stages_can_be_chosen() -> Result<()> {
    let plane = shared().await?;
    for behaviour in ["fast", "general"] {
        let namespace = plane.namespace(behaviour).await?;
        plane.apply(&pod(&namespace, Some(behaviour))).await?;
        let pods = Api::namespaced(plane.client().await?, &namespace);
        let pod = pod_when(&pods, "/status/conditions/*Ready/status", "True").await?;
        // Our stages report the observed generation, kwok's do not.
        assert_eq!(at(&pod, "/status/observedGeneration"), Value::Null, "{behaviour}");
        // `general` waits for all of it.
        let grace = "--grace-period=1";
        plane.kubectl(&["-n", &namespace, "delete", "pod", "app", "--wait=false", grace]).await?;
        gone(&pods).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_job_completes_and_another_fails() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("job").await?;
    plane.apply(&job(&namespace, "good", "default")).await?;
    plane.apply(&job(&namespace, "bad", "failing-job")).await?;
    for (name, condition) in [("good", "complete"), ("bad", "failed")] {
        let wait = format!("--for=condition={condition}");
        let job = format!("job/{name}");
        plane.kubectl(&["-n", &namespace, "wait", &wait, &job, "--timeout=2m"]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn job_runs_as_long_as_its_annotation_requests() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("long").await?;
    let mut job: Value = serde_json::from_str(&job(&namespace, "long", "default"))?;
    let annotations = json!({ "spanlink.test/runs-for": "3s" });
    job["spec"]["template"]["metadata"]["annotations"] = annotations;
    plane.apply(&job.to_string()).await?;
    let pods: Api<Pod> = Api::namespaced(plane.client().await?, &namespace);
    let ended = until("the Job's Pod to end", SOON, async || {
        let pod = pods.list(&ListParams::default()).await?.items.into_iter().next();
        let pod = serde_json::to_value(pod.context("there is none")?)?;
        ensure!(at(&pod, "/status/phase") == "Succeeded", "its status is {:#}", pod["status"]);
        Ok(at(&pod, "/status/containerStatuses/0/state/terminated"))
    })
    .await?;
    let time = |name: &str| ended[name].as_str().unwrap_or_default().parse::<jiff::Timestamp>();
    let ran = time("finishedAt")?.duration_since(time("startedAt")?);
    // Half a second without it; a busy machine may be late.
    assert!((2..=30).contains(&ran.as_secs()), "it ran {ran:?}");
    Ok(())
}

/// A Pod of this behaviour, once its container waits for this reason.
async fn waiting(behaviour: &str, reason: &str) -> Result<Value> {
    let plane = shared().await?;
    let namespace = plane.namespace(behaviour).await?;
    plane.apply(&pod(&namespace, Some(behaviour))).await?;
    let pods = Api::namespaced(plane.client().await?, &namespace);
    pod_when(&pods, "/status/containerStatuses/0/state/waiting/reason", reason).await
}

/// The Pod `app` once it has this value there; `*Ready` in a path is the condition of that type.
async fn pod_when(pods: &Api<Pod>, path: &str, value: impl Into<Value>) -> Result<Value> {
    let value = value.into();
    until(&format!("{path} to be {value}"), SOON, async || {
        let pod = serde_json::to_value(pods.get("app").await?)?;
        let found = match path.strip_prefix("/status/conditions/*Ready") {
            Some(rest) => condition(&pod, "Ready").pointer(rest).cloned().unwrap_or_default(),
            None => at(&pod, path),
        };
        ensure!(found == value, "its status is {:#}", pod["status"]);
        Ok(pod)
    })
    .await
}

async fn gone(pods: &Api<Pod>) -> Result<()> {
    until("the Pod to be gone", SOON, async || {
        let left = pods.get_opt("app").await?;
        ensure!(left.is_none(), "it is {left:?}");
        Ok(())
    })
    .await
}

fn at(object: &Value, path: &str) -> Value {
    object.pointer(path).cloned().unwrap_or_default()
}

fn condition(object: &Value, kind: &str) -> Value {
    let conditions = at(object, "/status/conditions");
    let mut conditions = conditions.as_array().into_iter().flatten();
    conditions.find(|condition| condition["type"] == kind).cloned().unwrap_or_default()
}

fn deployment(namespace: &str, name: &str, behaviour: Option<&str>) -> String {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "annotations": { "traceparent": TRACEPARENT },
        },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": labels(name, behaviour) },
                "spec": { "containers": [{ "name": "app", "image": "app:1" }] },
            },
        },
    })
    .to_string()
}

fn pod(namespace: &str, behaviour: Option<&str>) -> String {
    let init = json!([{ "name": "init", "image": "init:1" }]);
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "app", "namespace": namespace, "labels": labels("app", behaviour) },
        "spec": {
            "initContainers": if behaviour.is_none() { init } else { Value::Null },
            "containers": [{ "name": "app", "image": "app:1" }],
        },
    })
    .to_string()
}

fn job(namespace: &str, name: &str, behaviour: &str) -> String {
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": { "name": name, "namespace": namespace },
        "spec": {
            "backoffLimit": 0,
            "template": {
                "metadata": { "labels": labels(name, Some(behaviour)) },
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [{ "name": "app", "image": "app:1" }],
                },
            },
        },
    })
    .to_string()
}

fn labels(app: &str, behaviour: Option<&str>) -> Value {
    match behaviour {
        Some(behaviour) => json!({ "app": app, "spanlink.test/behaviour": behaviour }),
        None => json!({ "app": app }),
    }
}
