//! Every written generation has exactly one span. The test compares with its own record of writes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use serde_json::json;

use crate::{
    control_plane::{Account, ControlPlane, Options, shared, to_stderr, until},
    daemon::Daemon,
    killed::{KilledDaemon, Memory},
    scripted_receiver::{Receiver, Reply},
};

/// UID and generation.
type Generation = (String, i64);

/// The exported spans: how many per generation, and how many generations before it were missed.
#[derive(Debug, Default)]
struct Counted {
    times: BTreeMap<Generation, usize>,
    missed: BTreeMap<Generation, i64>,
    /// How many spans were exported again.
    repeats: usize,
}

fn count(receiver: &Receiver) -> Counted {
    let mut counted = Counted::default();
    let mut known = HashMap::new();
    for got in receiver.accepted() {
        let scopes = got.request.resource_spans.into_iter().flat_map(|r| r.scope_spans);
        for span in scopes.flat_map(|scope| scope.spans) {
            if let Some(before) = known.insert(span.span_id.clone(), span.clone()) {
                assert_eq!(before, span, "a repeat must be identical");
                counted.repeats += 1;
                continue;
            }
            let text = |key: &str| {
                let value = span.attributes.iter().find(|a| a.key == key)?.value.clone()?.value?;
                Some(match value {
                    Any::StringValue(text) => text,
                    Any::IntValue(int) => int.to_string(),
                    _ => return None,
                })
            };
            let (Some(uid), Some(generation)) =
                (text("k8s.object.uid"), text("spanlink.generation"))
            else {
                continue;
            };
            let is_of_writer = text("k8s.object.kind").as_deref() == Some("Deployment");
            if !is_of_writer || text("spanlink.verb").as_deref() == Some("delete") {
                continue;
            }
            let key = (uid, generation.parse().unwrap());
            *counted.times.entry(key.clone()).or_default() += 1;
            if let Some(missed) = text("spanlink.change.missed_generations") {
                counted.missed.insert(key, missed.parse().unwrap());
            }
        }
    }
    counted
}

/// Creates Deployments without replicas and updates each several times, at irregular intervals.
async fn write(
    plane: &ControlPlane,
    namespace: &str,
    objects: usize,
    updates: usize,
) -> Result<BTreeSet<Generation>> {
    let api: Api<Deployment> = Api::namespaced(plane.client().await?, namespace);
    let one = async |number: usize| -> Result<Vec<Generation>> {
        let name = format!("web-{number}");
        let object: Deployment = serde_json::from_value(json!({
            "metadata": { "name": name },
            "spec": {
                "replicas": 0,
                "selector": { "matchLabels": { "app": name } },
                "template": {
                    "metadata": { "labels": { "app": name } },
                    "spec": { "containers": [{ "name": "web", "image": "web:0" }] },
                },
            },
        }))?;
        let created = until("a create", Duration::from_mins(1), async || {
            match api.create(&PostParams::default(), &object).await {
                Ok(created) => Ok(created),
                // The response to an earlier attempt was lost.
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(api.get(&name).await?),
                Err(error) => Err(error.into()),
            }
        })
        .await?;
        let mut written = vec![generation_of(&created)?];
        for update in 1..=updates {
            tokio::time::sleep(Duration::from_millis((number * 37 + update * 101) as u64 % 400))
                .await;
            let image = json!([{ "name": "web", "image": format!("web:{update}") }]);
            let patch = json!({ "spec": { "template": { "spec": { "containers": image } } } });
            let patched = until("a patch", Duration::from_mins(1), async || {
                Ok(api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?)
            })
            .await?;
            written.push(generation_of(&patched)?);
        }
        Ok(written)
    };
    let all = futures::future::try_join_all((0..objects).map(one)).await?;
    Ok(all.into_iter().flatten().collect())
}

fn generation_of(object: &Deployment) -> Result<Generation> {
    let uid = object.metadata.uid.clone().context("no uid")?;
    Ok((uid, object.metadata.generation.context("no generation")?))
}

/// Waits until every generation has a span or is marked as missed, then checks that no span is a
/// duplicate or of an unwritten generation. Returns how many generations were missed.
async fn settle(receiver: &Receiver, written: &BTreeSet<Generation>) -> Result<usize> {
    let missing = until("every generation to be exported", Duration::from_mins(2), async || {
        let counted = count(receiver);
        let missing: BTreeSet<&Generation> =
            written.iter().filter(|generation| !counted.times.contains_key(*generation)).collect();
        for (uid, generation) in &missing {
            // A generation overwritten before it was observed is marked as missed by the next one.
            let marked = counted.missed.iter().any(|((of, at), missed)| {
                of == uid && generation < at && *generation >= at - missed
            });
            ensure!(marked, "{} missing, {uid} {generation} not marked", missing.len());
        }
        Ok(missing.len())
    })
    .await?;
    let counted = count(receiver);
    let doubled: Vec<_> = counted.times.iter().filter(|(_, times)| **times > 1).collect();
    let spurious: Vec<_> =
        counted.times.keys().filter(|counted| !written.contains(*counted)).collect();
    assert!(doubled.is_empty(), "exported twice: {doubled:?}");
    assert!(spurious.is_empty(), "never written: {spurious:?}");
    Ok(missing)
}

fn only_deployments(namespace: &str) -> String {
    let kinds = ["Deployment.apps", "ReplicaSet.apps"];
    let entries = kinds.map(|kind| format!("  - {{kind: {kind}, namespaces: [{namespace}]}}\n"));
    format!("watch:\n{}", entries.concat())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_generation_of_200_deployments_updated_five_times_has_one_span() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("oracle").await?;
    let receiver = Receiver::grpc([], None).await;
    let otlp = format!("http://{}", receiver.address);
    let kubeconfig = plane.kubeconfig(&Account::Admin);
    let _daemon = Daemon::run(&kubeconfig, &otlp, &only_deployments(&namespace)).await?;
    let written = write(plane, &namespace, 200, 5).await?;
    assert_eq!(written.len(), 1200);
    assert_eq!(settle(&receiver, &written).await?, 0, "missing");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_generation_has_one_span_though_the_daemon_is_killed_repeatedly() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("killed").await?;
    let mut daemon =
        KilledDaemon::start(plane, &only_deployments(&namespace), Memory::Kept).await?;
    let writing = write(plane, &namespace, 60, 40);
    let mut kills = 0;
    let written = {
        tokio::pin!(writing);
        loop {
            // Kills before the watches open, while they catch up, and later.
            let moment = tokio::time::sleep(Duration::from_millis(137 * (1 + kills % 7)));
            tokio::select! {
                written = &mut writing => break written?,
                () = moment => {}
            }
            daemon.interrupt()?;
            kills += 1;
        }
    };
    assert!(kills >= 10, "{kills}");
    assert_eq!(written.len(), 60 * 41);
    let missing = settle(&daemon.receiver, &written).await?;
    let log = daemon.daemon.log();
    // A busy API server may rebuild its watch cache, and then answers 410 Gone.
    let has_forgotten = relists(&log).any(|reason| reason == "410");
    assert!(missing == 0 || has_forgotten, "{missing} missing after {kills} kills: {log}");
    let repeats = count(&daemon.receiver).repeats;
    to_stderr(&format!("Killed {kills} times, {repeats} spans came again, {missing} missing."));
    // New changes are still exported.
    let fresh = write(plane, &namespace, 61, 0).await?;
    let fresh: BTreeSet<Generation> = fresh.union(&written).cloned().collect();
    assert_eq!(settle(&daemon.receiver, &fresh).await?, missing, "missing");
    Ok(())
}

/// The log lines about relists.
fn relists(log: &str) -> impl Iterator<Item = String> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines
        .filter(|line| line["message"] == "Relisting.")
        .filter_map(|line| line["reason"].as_str().map(str::to_owned))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_api_server_and_an_unavailable_collector_lose_no_generation_unmarked() -> Result<()>
{
    let plane = ControlPlane::start(&Options::default(), &to_stderr).await?;
    let namespace = plane.namespace("faults").await?;
    // The collector rejects requests for a minute; each rejection asks for a delay of ten seconds.
    let away = || Reply::Grpc(tonic::Code::Unavailable, Some(Duration::from_secs(10)));
    let receiver = Receiver::grpc([(); 6].map(|()| away()), None).await;
    let otlp = format!("http://{}", receiver.address);
    let kubeconfig = plane.kubeconfig(&Account::Admin);
    let daemon = Daemon::run(&kubeconfig, &otlp, &only_deployments(&namespace)).await?;
    let fault = async {
        receiver.requests(1).await;
        plane.kill_api_server();
        plane.restart_api_server().await
    };
    let (written, faulted) = tokio::join!(write(&plane, &namespace, 40, 8), fault);
    faulted?;
    plane.compact().await?;
    let written = written?;
    let missing = settle(&receiver, &written).await?;
    to_stderr(&format!(
        "{missing} of {} generations were overwritten unseen, each marked",
        written.len()
    ));
    // The faults took effect.
    let relists = async || -> Result<()> {
        let (_, text) = daemon.get("/metrics").await?;
        ensure!(text.contains("spanlink_relists_total{"), "no relist");
        ensure!(text.contains("spanlink_export_failures_total{"), "no failed export");
        Ok(())
    };
    until("relists to be counted", Duration::from_mins(1), relists).await?;
    // New changes are still exported.
    let fresh = write(&plane, &namespace, 41, 0).await?;
    let fresh: BTreeSet<Generation> = fresh.union(&written).cloned().collect();
    settle(&receiver, &fresh).await?;
    Ok(())
}
