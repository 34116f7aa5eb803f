//! Workloads that replace their Pods by themselves, and those that begin again by the clock.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use expect_test::expect;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::{
    control_plane::{shared, until},
    scene::{Scene, image_patch, stamped, template, workload},
};

#[tokio::test]
async fn statefulset_replaces_its_pods_in_turn_down_to_its_partition() -> Result<()> {
    let scene = Scene::begin(shared().await?, "statefulset", &["StatefulSet.apps", "Pod"]).await?;
    let mut object = workload("StatefulSet");
    object["spec"]["replicas"] = json!(2);
    object["spec"]["serviceName"] = json!("web");
    scene.apply(&object).await?;
    scene.settled().await?;
    let mut patch = image_patch("web:2");
    patch["metadata"] = json!({ "annotations": stamped('2') });
    scene.kubectl(&["patch", "statefulset", "web", "-p", &patch.to_string()]).await?;
    scene.settled().await?;
    let mut patch = image_patch("web:3");
    patch["metadata"] = json!({ "annotations": stamped('3') });
    patch["spec"]["updateStrategy"] = json!({ "rollingUpdate": { "partition": 1 } });
    scene.kubectl(&["patch", "statefulset", "web", "-p", &patch.to_string()]).await?;
    expect![[r#"
        create StatefulSet web g1 -> converged  [context 1…]
          create Pod web-0 g1 -> converged
          create Pod web-1 g1 -> converged
        update StatefulSet web g2 -> converged  [context 2…]  {spec.template.spec.containers[web].image by kubectl-patch}
          delete Pod web-1 g2 -> deleted
          create Pod web-1 g1 -> converged
          delete Pod web-0 g2 -> deleted
          create Pod web-0 g1 -> converged
        update StatefulSet web g3 -> converged  [context 3…]  {spec.template.spec.containers[web].image, spec.updateStrategy.rollingUpdate.partition by kubectl-patch}
          delete Pod web-1 g2 -> deleted
          create Pod web-1 g1 -> converged
    "#]]
    .assert_eq(&scene.tree().await?);
    Ok(())
}

#[tokio::test]
async fn a_statefulset_on_delete_leaves_it_to_a_person_whose_deletes_are_heads() -> Result<()> {
    let scene = Scene::begin(shared().await?, "on-delete", &["StatefulSet.apps", "Pod"]).await?;
    let mut object = workload("StatefulSet");
    object["spec"]["serviceName"] = json!("web");
    object["spec"]["updateStrategy"] = json!({ "type": "OnDelete" });
    scene.apply(&object).await?;
    scene.settled().await?;
    let mut patch = image_patch("web:2");
    patch["metadata"] = json!({ "annotations": stamped('2') });
    scene.kubectl(&["patch", "statefulset", "web", "-p", &patch.to_string()]).await?;
    scene.settled().await?;
    scene.kubectl(&["delete", "pod", "web-0"]).await?;
    scene.when_a_pod_of("web:2", "is there", |_| true).await?;
    expect![[r#"
        create StatefulSet web g1 -> converged  [context 1…]
          create Pod web-0 g1 -> converged
        update StatefulSet web g2 -> converged  [context 2…]  {spec.template.spec.containers[web].image by kubectl-patch}
        delete Pod web-0 g2 -> deleted  [owner, settled: update StatefulSet web g2]
        create Pod web-0 g1 -> converged  [owner, settled: update StatefulSet web g2]  [replaced: delete Pod web-0 g2]
    "#]]
    .assert_eq(&scene.tree().await?);
    Ok(())
}

#[tokio::test]
async fn a_daemonset_replaces_its_pods_under_the_update() -> Result<()> {
    let scene = Scene::begin(shared().await?, "daemonset", &["DaemonSet.apps", "Pod"]).await?;
    let mut object = workload("DaemonSet");
    let spec = object["spec"].as_object_mut().context("no spec")?;
    spec.remove("replicas");
    scene.apply(&object).await?;
    scene.settled().await?;
    let mut patch = image_patch("web:2");
    patch["metadata"] = json!({ "annotations": stamped('2') });
    scene.kubectl(&["patch", "daemonset", "web", "-p", &patch.to_string()]).await?;
    expect![[r#"
        create DaemonSet web g1 -> converged  [context 1…]
          create Pod web-1 g1 -> converged
        update DaemonSet web g2 -> converged  [context 2…]  {spec.template.spec.containers[web].image by kubectl-patch}
          delete Pod web-1 g2 -> deleted
          create Pod web-2 g1 -> converged
    "#]]
    .assert_eq(&scene.tree().await?);
    Ok(())
}

#[tokio::test]
async fn each_run_of_a_cronjob_is_a_head_and_so_is_its_end_beyond_the_history_limit() -> Result<()>
{
    let kinds = ["CronJob.batch", "Job.batch", "Pod"];
    let scene = Scene::begin(shared().await?, "cronjob", &kinds).await?;
    let mut pod = template();
    pod["spec"]["restartPolicy"] = json!("Never");
    let object = json!({
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": { "name": "tick", "annotations": stamped('1') },
        "spec": {
            "schedule": "* * * * *",
            "successfulJobsHistoryLimit": 1,
            "jobTemplate": {
                "metadata": { "annotations": stamped('1') },
                "spec": { "template": pod },
            },
        },
    });
    // The second run comes at the next minute's begin: the first is to be over by then.
    until("the first half of a minute", Duration::from_mins(1), async || {
        let second = jiff::Timestamp::now().as_second() % 60;
        ensure!(second < 30, "it is second {second}");
        Ok(())
    })
    .await?;
    scene.apply(&object).await?;
    // The first run at once, for that of this minute seems to have been missed.
    let last = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(1);
    let status = json!({ "status": { "lastScheduleTime": last.strftime("%FT%TZ").to_string() } });
    let jobs = scene.api("batch/v1", "CronJob").await?;
    jobs.patch_status("tick", &PatchParams::default(), &Patch::Merge(&status)).await?;
    scene.when_there_are("Job", 1).await?;
    scene.when_there_are("Job", 2).await?;
    scene.when_there_are("Job", 1).await?;
    let suspend = json!({ "spec": { "suspend": true } }).to_string();
    scene.kubectl(&["patch", "cronjob", "tick", "-p", &suspend]).await?;
    expect![[r#"
        create CronJob tick g1 -> converged  [context 1…]
        create Job tick-1 g1 -> converged  [inherited 1…]  [owner, settled: create CronJob tick g1]
          create Pod tick-1-a g1 -> converged
        create Job tick-2 g1 -> converged  [inherited 1…]  [owner, settled: create CronJob tick g1]
          create Pod tick-2-a g1 -> converged
        delete Job tick-1 g1 -> deleted  [owner, settled: create CronJob tick g1]
          delete Pod tick-1-a g2 -> deleted
        update CronJob tick g2 -> converged  [context 1…, stale]  {spec.suspend by kubectl-patch}
    "#]]
    .assert_eq(&scene.tree().await?);
    Ok(())
}

#[tokio::test]
async fn second_pod_of_a_job_is_caused_by_the_job() -> Result<()> {
    let scene = Scene::begin(shared().await?, "failing", &["Job.batch", "Pod"]).await?;
    let mut pod = template();
    pod["metadata"]["labels"]["spanlink.test/behaviour"] = json!("failing-job");
    pod["spec"]["restartPolicy"] = json!("Never");
    let object = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": { "name": "web", "annotations": stamped('1') },
        "spec": { "backoffLimit": 1, "template": pod },
    });
    scene.apply(&object).await?;
    expect![[r#"
        create Job web g1 -> failed  BackoffLimitExceeded  [context 1…]
          create Pod web-1 g1 -> failed  Error
          create Pod web-2 g1 -> failed  Error
    "#]]
    .assert_eq(&scene.tree().await?);
    Ok(())
}
