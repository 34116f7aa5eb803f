//! Two daemons that know nothing of each other tell the same of the same changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use expect_test::expect;
use serde_json::{Value, json};
use spanlink::trace::{
    span::{Role, Span, SpanEvent, SpanId},
    time::Timestamp,
};

use crate::{
    control_plane::{Account, shared, until},
    daemon::Daemon,
    otlp_json,
    scene::{Scene, deployment, stamped, template},
};

/// Times of receipt refine what the API says in whole seconds.
const APART: Duration = Duration::from_secs(1);
/// What depends on when something was received, as times do: so does what took longest.
fn is_by_receipt(key: &str) -> bool {
    key == "spanlink.time.source" || key.starts_with("spanlink.slowest.")
}

/// It is an event, or over a second a step: as it was received.
fn is_observing(span: &Span) -> bool {
    span.role == Role::Phase && &*span.name == "observe"
}

/// Everything that was printed, by id.
fn spans(daemon: &Daemon) -> Result<BTreeMap<SpanId, Span>> {
    let printed = fs::read_to_string(daemon.path("spans.jsonl"))?;
    let mut spans = BTreeMap::new();
    // The last line may be half written.
    for request in printed.lines().map_while(|line| serde_json::from_str::<Value>(line).ok()) {
        let told = otlp_json::spans(&request)?.into_iter();
        for span in told.filter(|span| !is_observing(span)) {
            let id = span.span_id;
            assert!(spans.insert(id, span).is_none(), "told twice: {id}");
        }
    }
    Ok(spans)
}

/// All but the times.
fn same(span: &Span) -> String {
    let attributes: BTreeMap<&str, String> = span
        .attributes
        .iter()
        .filter(|attribute| !is_by_receipt(&attribute.key))
        .map(|attribute| (&*attribute.key, format!("{:?}", attribute.value)))
        .collect();
    let event = |event: &SpanEvent| format!("{} {:?}", event.name, event.attributes);
    let events = span.events.iter().filter(|event| event.name != "observed");
    let events: Vec<String> = events.map(event).collect();
    format!(
        "{} {} in {} under {:?}, {:?}, {attributes:#?}, {:#?}, {events:#?}",
        span.service, span.name, span.trace_id, span.parent, span.status, span.links
    )
}

fn apart(a: Timestamp, b: Timestamp) -> Duration {
    a.since(b).max(b.since(a))
}

#[tokio::test]
async fn two_daemons_tell_the_same_ids_parents_links_and_attributes() -> Result<()> {
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
    let scene = Scene::begin_in(plane, namespace, &kinds).await?;

    // A rollout, one that supersedes it, a Pod that is lost, a run of a CronJob, the end of it all.
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
    let (one, other) = until("both to have told all", Duration::from_mins(1), async || {
        one.is_at_rest().await?;
        other.is_at_rest().await?;
        let told = (spans(one)?, spans(other)?);
        for spans in [&told.0, &told.1] {
            let of = |name: &str| spans.values().filter(|span| &*span.name == name).count();
            let (made, gone) = (of("create Pod"), of("delete Pod"));
            ensure!(made == gone && made >= 8, "{gone} of {made} Pods are gone");
        }
        Ok(told)
    })
    .await?;
    let ids = |spans: &BTreeMap<SpanId, Span>| spans.keys().copied().collect::<BTreeSet<_>>();
    assert_eq!(ids(&one), ids(&other));
    let mut furthest = Duration::ZERO;
    for (id, span) in &one {
        let twin = &other[id];
        assert_eq!(same(span), same(twin));
        furthest = furthest.max(apart(span.start, twin.start)).max(apart(span.end, twin.end));
    }
    assert!(furthest <= APART, "{furthest:?}");
    // It was worth comparing.
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

/// Runs when it is told to.
fn cron_job() -> Value {
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
