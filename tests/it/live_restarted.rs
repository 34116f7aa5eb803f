//! A daemon that is killed repeatedly exports the same spans as one that is not.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::{
    alike,
    control_plane::{shared, until},
    killed::{KilledDaemon, Memory},
    recorder::Objects,
    scene::{Scene, deployment, image_patch, workload},
    twins::cron_job,
};

const KINDS: [&str; 6] =
    ["Deployment.apps", "ReplicaSet.apps", "StatefulSet.apps", "CronJob.batch", "Job.batch", "Pod"];
/// Times of receipt refine the whole seconds of the API; the downtime comes on top.
const APART: Duration = Duration::from_secs(4);

fn pods_of(image: &str, objects: &Objects) -> usize {
    let pods = objects.values().filter(|object| object["kind"] == "Pod");
    pods.filter(|pod| pod["spec"]["containers"][0]["image"] == image).count()
}

#[tokio::test]
async fn killed_daemon_exports_the_same_spans() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("restarted").await?;
    let watch = KINDS.map(|kind| format!("  - {{kind: {kind}, namespaces: [{namespace}]}}\n"));
    let watch = format!("watch:\n{}", watch.concat());
    let left_alone = KilledDaemon::start(plane, &watch, Memory::Lost).await?;
    let mut killed = KilledDaemon::start(plane, &watch, Memory::Kept).await?;
    let scene = Scene::quiet_in(plane, namespace, &KINDS).await?;
    let a_pod_of = async |image: &str| {
        scene
            .when(&format!("a Pod of {image}"), |objects| {
                ensure!(pods_of(image, objects) > 0, "there is none");
                Ok(())
            })
            .await
    };

    // A rollout: before its Pods, between them, and while it settles.
    let mut object = deployment();
    object["spec"]["replicas"] = json!(3);
    scene.apply(&object).await?;
    killed.interrupt()?;
    scene.settled().await?;
    scene.patch_image("web:2", Some('2')).await?;
    a_pod_of("web:2").await?;
    killed.interrupt()?;
    scene.settled().await?;
    killed.interrupt()?;

    // One that supersedes another; six patches; a rollback; a scale in a rollout.
    scene.patch_image("web:3", Some('3')).await?;
    killed.interrupt()?;
    scene.patch_image("web:4", Some('4')).await?;
    scene.settled().await?;
    for patch in 5..11 {
        scene.patch(&image_patch(&format!("web:{patch}"))).await?;
        if patch == 7 {
            killed.interrupt()?;
        }
    }
    scene.settled().await?;
    scene.kubectl(&["rollout", "undo", "deployment/web"]).await?;
    killed.interrupt()?;
    scene.settled().await?;
    scene.patch_image("web:11", Some('5')).await?;
    scene.kubectl(&["scale", "deployment/web", "--replicas=2"]).await?;
    killed.interrupt()?;
    scene.settled().await?;

    // Pods that are lost; a StatefulSet's roll; runs of a CronJob.
    let pods = scene.kubectl(&["get", "pods", "-o", "name"]).await?;
    scene.kubectl(&["delete", pods.lines().next().context("no Pod")?]).await?;
    killed.interrupt()?;
    scene.settled().await?;
    let mut set = workload("StatefulSet");
    set["spec"]["replicas"] = json!(2);
    scene.apply(&set).await?;
    killed.interrupt()?;
    scene.settled().await?;
    let name = set["metadata"]["name"].as_str().context("it has a name")?;
    let patch = image_patch("web:2").to_string();
    scene.kubectl(&["patch", "statefulset", name, "-p", &patch]).await?;
    killed.interrupt()?;
    scene.settled().await?;
    scene.apply(&cron_job()).await?;
    scene.kubectl(&["create", "job", "run", "--from=cronjob/tick"]).await?;
    killed.interrupt()?;
    scene.settled().await?;

    // All of a rollout while it is down.
    killed.daemon.kill()?;
    scene.patch_image("web:12", Some('6')).await?;
    scene.settled().await?;
    killed.daemon.start_again()?;
    killed.daemon.ready().await?;

    // Deletions: in background, in foreground, and as orphans.
    scene.kubectl(&["delete", "deployment/web"]).await?;
    killed.interrupt()?;
    scene.kubectl(&["delete", "statefulset", name, "--cascade=foreground"]).await?;
    killed.interrupt()?;
    scene.kubectl(&["delete", "cronjob/tick"]).await?;
    for kind in ["Pod", "ReplicaSet", "Job"] {
        scene.when_there_are(kind, 0).await?;
    }

    let compare_spans = async || {
        let (one, _) = left_alone.spans()?;
        let (other, _) = killed.spans()?;
        let of = |name: &str| one.values().filter(|span| &*span.name == name).count();
        let (made, gone) = (of("create Pod"), of("delete Pod"));
        ensure!(made == gone && made >= 20, "{gone} of {made} Pods are gone");
        alike::how_far_apart(&one, &other)
            .with_context(|| format!("its log: {}", killed.daemon.log()))?;
        Ok((one, other))
    };
    let (one, other) =
        until("both to export the same spans", Duration::from_mins(2), compare_spans).await?;
    let (apart, of) = alike::how_far_apart(&one, &other)?;
    assert!(apart <= APART, "{apart:?}: {of:#?}\n{:#?}", other[&of.span_id]);
    Ok(())
}
