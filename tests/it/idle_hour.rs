//! Watches of quiet kinds cost no lists: counted in the audit log of a real API server for an hour.

use std::{collections::BTreeMap, env, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::time::sleep;

use crate::{
    control_plane::{Account, ControlPlane, Options, own, to_stderr, until},
    daemon::Daemon,
    scene::deployment,
};

/// Another length of the run, in minutes. Watches last 45 to 53 seconds, so a few minutes show a fault
/// that every silent watch has; an hour also contains compactions of etcd, every five minutes.
const MINUTES_VARIABLE: &str = "IDLE_MINUTES";
const MINUTES_DEFAULT: u64 = 60;

/// Kinds that nothing changes, and kinds with heartbeats: their watches receive events.
const KINDS: [&str; 20] = [
    "ConfigMap",
    "ControllerRevision.apps",
    "CronJob.batch",
    "DaemonSet.apps",
    "Deployment.apps",
    "HorizontalPodAutoscaler.autoscaling",
    "Ingress.networking.k8s.io",
    "Job.batch",
    "LimitRange",
    "Namespace",
    "NetworkPolicy.networking.k8s.io",
    "Node",
    "PersistentVolumeClaim",
    "Pod",
    "PodDisruptionBudget.policy",
    "ReplicaSet.apps",
    "ResourceQuota",
    "Secret",
    "Service",
    "StatefulSet.apps",
];

/// What a request to the API server is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Purpose {
    /// A list that may return more than one object, streamed or in pages.
    List,
    /// A list of at most one object.
    ListOfOne,
    Read,
    Watch,
    Discovery,
}

impl Purpose {
    fn of(event: &Value) -> Self {
        let uri = event["requestURI"].as_str().unwrap_or_default();
        match event["verb"].as_str() {
            Some("watch") if uri.contains("sendInitialEvents=true") => Self::List,
            Some("watch") => Self::Watch,
            Some("list") if uri.ends_with("&limit=1") => Self::ListOfOne,
            Some("list") => Self::List,
            // Kinds are discovered at the paths /api and /apis.
            _ if event["objectRef"].is_null() => Self::Discovery,
            _ => Self::Read,
        }
    }
}

/// The answered requests of the daemon, in the order of the audit log.
fn requests(plane: &ControlPlane) -> Result<Vec<Value>> {
    let is_of_daemon = |event: &Value| {
        let user = event.pointer("/user/username");
        // A watch has an event at its start and another at its end.
        user == Some(&"system:serviceaccount:spanlink-system:spanlink".into())
            && (event["stage"] == "ResponseComplete" || event["stage"] == "Panic")
    };
    Ok(plane.audit_log()?.into_iter().filter(is_of_daemon).collect())
}

async fn start_daemon(plane: &ControlPlane) -> Result<Daemon> {
    let binding = ["create", "clusterrolebinding", "spanlink", "--clusterrole=cluster-admin"];
    let account = "--serviceaccount=spanlink-system:spanlink";
    plane.kubectl(&[&binding[..], &[account]].concat()).await?;
    // Kinds of a group may be installed at any time, so the daemon also watches what is installed.
    let kinds = KINDS.iter().chain(&["'*.example.com'"]);
    let watch = kinds.map(|kind| format!("  - {{kind: {kind}, events: false}}\n"));
    let watch = watch.collect::<Vec<_>>().concat();
    let kubeconfig = plane.kubeconfig(&Account::spanlink());
    // No span is exported: nothing listens at the discard port.
    Daemon::run(&kubeconfig, "http://127.0.0.1:9", &format!("watch:\n{watch}")).await
}

/// A Deployment with three Pods that run, and no change after that.
async fn deploy(plane: &ControlPlane) -> Result<()> {
    let namespace = plane.namespace("idle").await?;
    let mut object = deployment();
    object["metadata"]["namespace"] = namespace.as_str().into();
    object["spec"]["replicas"] = 3.into();
    let name = object["metadata"]["name"].as_str().context("a Deployment has a name")?.to_owned();
    plane.apply(&object.to_string()).await?;
    let name = format!("deployment/{name}");
    let wait = ["wait", "--for=condition=Available", "--timeout=2m", "-n", &namespace, &name];
    plane.kubectl(&wait).await?;
    Ok(())
}

#[tokio::test]
#[ignore = "takes an hour; see Build and test in CONTRIBUTING.md"]
async fn idle_cluster_with_twenty_watched_kinds_is_not_listed_again_for_an_hour() -> Result<()> {
    let minutes = match env::var(MINUTES_VARIABLE) {
        Ok(minutes) => minutes.parse().with_context(|| format!("{MINUTES_VARIABLE}={minutes}"))?,
        Err(_) => MINUTES_DEFAULT,
    };
    let plane = own(&Options::default().with_audit()).await?;
    let mut daemon = start_daemon(&plane).await?;
    deploy(&plane).await?;
    until("all convergences to end", Duration::from_mins(3), async || {
        let (_, metrics) = daemon.get("/metrics").await?;
        ensure!(metrics.contains("spanlink_convergences_closed_total"), "none has ended");
        Ok(())
    })
    .await?;

    let before = requests(&plane)?.len();
    for minute in 1..=minutes {
        sleep(Duration::from_mins(1)).await;
        ensure!(daemon.try_wait()?.is_none(), "the daemon ended: {}", daemon.log());
        let mut counts = BTreeMap::new();
        for request in requests(&plane)?.iter().skip(before) {
            let purpose = Purpose::of(request);
            ensure!(purpose != Purpose::List, "listed after {minute} min: {request:#}");
            *counts.entry(purpose).or_insert(0_u32) += 1;
        }
        if minute % 10 == 0 || minute == minutes {
            to_stderr(&format!("Requests within {minute} idle minutes: {counts:?}"));
        }
    }

    let (_, metrics) = daemon.get("/metrics").await?;
    let is_counted = |line: &&str| {
        line.starts_with("spanlink_watch_probes_total")
            || line.starts_with("spanlink_relists_total")
    };
    let counted: Vec<&str> = metrics.lines().filter(is_counted).collect();
    to_stderr(&counted.join("\n"));
    ensure!(counted.iter().any(|line| line.contains("probes_total")), "no watch was probed");
    ensure!(!counted.iter().any(|line| line.contains("relists_total")), "{counted:#?}");
    Ok(())
}
