//! Two independent daemons emit the same spans for the same changes.

use std::{collections::BTreeSet, fs, time::Duration};

use anyhow::{Context, Result, ensure};
use expect_test::expect;
use serde_json::{Value, json};

use crate::{
    alike::{self, Spans},
    control_plane::{Account, shared, until},
    daemon::Daemon,
    otlp_json,
    scene::{Scene, deployment, stamped, template},
};

/// Times of receipt refine the whole seconds of the API and date changes without a time. On a busy
/// machine, one process may receive an event later than the other.
const APART: Duration = Duration::from_secs(3);

/// All spans the daemon has printed.
fn spans(daemon: &Daemon) -> Result<Spans> {
    let printed = fs::read_to_string(daemon.path("spans.jsonl"))?;
    let mut spans = Vec::new();
    // The last line may be incomplete.
    for request in printed.lines().map_while(|line| serde_json::from_str::<Value>(line).ok()) {
        spans.extend(otlp_json::spans(&request)?);
    }
    let (spans, repeats) = alike::by_id(spans)?;
    assert_eq!(repeats, 0, "emitted twice");
    Ok(spans)
}

#[tokio::test]
async fn two_daemons_emit_the_same_ids_parents_links_and_attributes() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("twins").await?;
    let kinds = ["Deployment.apps", "ReplicaSet.apps", "CronJob.batch", "Job.batch", "Pod"];
    let watch = kinds.map(|kind| format!("  - {{kind: {kind}, namespaces: [{namespace}]}}\n"));
    let configuration = format!("watch:\n{}", watch.concat());
    let start = || {
        Daemon::start_with(&plane.kubeconfig(&Account::Admin), &configuration, |command, folder| {
            command.args(["--to", "json"]).stdout(fs::File::create(folder.join("spans.jsonl"))?);
            Ok(())
        })
    };
    let twins = [start()?, start()?];
    for twin in &twins {
        twin.ready().await?;
    }
    let scene = Scene::quiet_in(plane, namespace, &kinds).await?;

    // A rollout, another that supersedes it, a lost Pod, a CronJob run, and the deletion of all.
    let mut object = deployment();
    object["spec"]["replicas"] = json!(3);
    scene.apply(&object).await?;
    scene.settled().await?;
    scene.patch_image("web:2", Some('2')).await?;
    scene.patch_image("web:3", Some('3')).await?;
    scene.settled().await?;
    let pods = scene.kubectl(&["get", "pods", "-o", "name"]).await?;
    scene.kubectl(&["delete", pods.lines().next().context("no Pod")?]).await?;
    scene.settled().await?;
    scene.apply(&cron_job()).await?;
    scene.kubectl(&["create", "job", "run", "--from=cronjob/tick"]).await?;
    scene.settled().await?;
    scene.kubectl(&["delete", "deployment/web", "cronjob/tick"]).await?;
    for kind in ["Pod", "ReplicaSet", "Job"] {
        scene.when_there_are(kind, 0).await?;
    }

    let [one, other] = &twins;
    let (one, other) = until("both to export all spans", Duration::from_mins(2), async || {
        one.is_at_rest().await?;
        other.is_at_rest().await?;
        let spans = (spans(one)?, spans(other)?);
        for spans in [&spans.0, &spans.1] {
            let of = |name: &str| spans.values().filter(|span| &*span.name == name).count();
            let (made, gone) = (of("create Pod"), of("delete Pod"));
            ensure!(made == gone && made >= 8, "{gone} of {made} Pods are gone");
        }
        Ok(spans)
    })
    .await?;
    let (furthest, of) = alike::how_far_apart(&one, &other)?;
    assert!(furthest <= APART, "{furthest:?}: {of:#?}");
    // The comparison covered every kind of span.
    let names: BTreeSet<&str> = one.values().map(|span| &*span.name).collect();
    expect![[r#"
        {
            "create CronJob",
            "create Deployment",
            "create Job",
            "create Pod",
            "create ReplicaSet",
            "delete CronJob",
            "delete Deployment",
            "delete Job",
            "delete Pod",
            "delete ReplicaSet",
            "ready",
            "reconcile Deployment",
            "reconcile Job",
            "reconcile Pod",
            "run",
            "sandbox",
            "schedule",
            "start",
            "terminate",
            "update Deployment",
            "update ReplicaSet",
        }
    "#]]
    .assert_debug_eq(&names);
    Ok(())
}

/// A CronJob that runs on demand only.
pub(crate) fn cron_job() -> Value {
    let mut pod = template();
    pod["spec"]["restartPolicy"] = json!("Never");
    json!({
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": { "name": "tick", "annotations": stamped('4') },
        "spec": {
            "schedule": "0 0 1 1 *",
            "suspend": true,
            "jobTemplate": {
                "metadata": { "annotations": stamped('4') },
                "spec": { "template": pod },
            },
        },
    })
}
