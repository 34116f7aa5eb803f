//! Half-open connections to the API server: open, and without data.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    control_plane::{Account, ControlPlane, shared, until},
    daemon::Daemon,
    export_support::names,
    live::SOON,
    proxy::{Connection, Proxy},
    scripted_receiver::Receiver,
};

/// The time within which a mute connection must be noticed.
const NOTICED: Duration = Duration::from_mins(1);

/// A daemon that reaches the API server through a proxy, and its spans.
struct Scene {
    plane: &'static ControlPlane,
    namespace: String,
    proxy: Proxy,
    receiver: Receiver,
    daemon: Daemon,
    _folder: tempfile::TempDir,
}

impl Scene {
    async fn begin(name: &str) -> Result<Self> {
        let plane = shared().await?;
        let namespace = plane.namespace(name).await?;
        let direct = plane.kubeconfig(&Account::Admin);
        let proxy = Proxy::before(&direct).await?;
        let folder = tempfile::tempdir()?;
        let kubeconfig = proxy.kubeconfig(&direct, folder.path())?;
        let receiver = Receiver::grpc([], None).await;
        // Two kinds without objects.
        let watch = ["ConfigMap", "ResourceQuota"].map(|kind| {
            format!("  - {{kind: {kind}, namespaces: [{namespace}], label_selector: ours=yes}}\n")
        });
        let configuration = format!("watch:\n{}", watch.concat());
        let otlp = format!("http://{}", receiver.address);
        let daemon = Daemon::run(&kubeconfig, &otlp, &configuration).await?;
        Ok(Self { plane, namespace, proxy, receiver, daemon, _folder: folder })
    }

    /// Past the proxy.
    async fn make(&self, kind: &str, name: &str, data: &str) -> Result<()> {
        let mut object = json!({
            "apiVersion": "v1",
            "kind": kind,
            "metadata": {
                "name": name,
                "namespace": self.namespace,
                "labels": { "ours": "yes" },
            },
        });
        if kind == "ConfigMap" {
            object["data"] = json!({ "text": data });
        }
        self.plane.apply(&object.to_string()).await?;
        Ok(())
    }

    /// The names of all spans, in the order they came.
    fn span_names(&self) -> Vec<String> {
        self.receiver.accepted().iter().flat_map(names).collect()
    }

    async fn until_exported(&self, spans: usize, time_max: Duration) -> Result<Vec<String>> {
        until(&format!("{spans} spans"), time_max, async || {
            let names = self.span_names();
            ensure!(names.len() >= spans, "{names:?}; its log: {}", self.daemon.log());
            Ok(names)
        })
        .await
    }

    /// Within a minute; later checks have no limit of their own.
    async fn is_noticed(&self, kind: &str, mute_since: Instant) -> Result<()> {
        until(&format!("{kind} to be noticed"), 2 * NOTICED, async || {
            ensure!(self.fell_mute(kind).await? > 0.5, "its log: {}", self.daemon.log());
            Ok(())
        })
        .await?;
        let took = mute_since.elapsed();
        ensure!(took <= NOTICED, "{kind}: {took:?}");
        Ok(())
    }

    async fn fell_mute(&self, kind: &str) -> Result<f64> {
        let failures =
            format!("spanlink_watch_failures_total{{kind=\"{kind}\",reason=\"timeout\"}}");
        self.daemon.metric(&failures).await
    }
}

const CONFIG_MAP: &str = "spanlink: create ConfigMap";
const QUOTA: &str = "spanlink: create ResourceQuota";

#[tokio::test]
async fn half_open_connections_are_noticed_within_a_minute_and_nothing_is_missed() -> Result<()> {
    let scene = Scene::begin("half-open").await?;
    scene.make("ConfigMap", "before", "").await?;
    scene.until_exported(1, SOON).await?;
    scene.proxy.connections().iter().for_each(|connection| connection.falls_mute());
    let mute_since = Instant::now();
    scene.make("ConfigMap", "during", "").await?;
    scene.make("ResourceQuota", "during", "").await?;
    for kind in ["ConfigMap", "ResourceQuota"] {
        scene.is_noticed(kind, mute_since).await?;
    }
    let mut names = scene.until_exported(3, SOON).await?;
    names.sort();
    assert_eq!(names, [CONFIG_MAP, CONFIG_MAP, QUOTA]);
    // It resumed without a list.
    let (_, metrics) = scene.daemon.get("/metrics").await?;
    assert!(!metrics.contains("spanlink_relists_total{"), "{metrics}");
    // And watches again.
    scene.make("ConfigMap", "after", "").await?;
    scene.until_exported(4, SOON).await?;
    Ok(())
}

#[tokio::test]
async fn one_kinds_mute_connection_holds_up_no_other() -> Result<()> {
    let scene = Scene::begin("one-mute").await?;
    let of_config_maps = the_connection_of_config_maps(&scene).await?;
    of_config_maps.falls_mute();
    let mute_since = Instant::now();
    scene.make("ConfigMap", "unheard", "").await?;
    scene.make("ResourceQuota", "received", "").await?;
    // Long before the mute one is noticed.
    let names = scene.until_exported(2, Duration::from_secs(30)).await?;
    assert_eq!(names, [CONFIG_MAP, QUOTA]);
    scene.is_noticed("ConfigMap", mute_since).await?;
    let names = scene.until_exported(3, SOON).await?;
    assert_eq!(names, [CONFIG_MAP, QUOTA, CONFIG_MAP]);
    assert!(scene.fell_mute("ResourceQuota").await? < 0.5);
    Ok(())
}

/// The content is encrypted; its length is not.
async fn the_connection_of_config_maps(scene: &Scene) -> Result<Arc<Connection>> {
    const LARGE: usize = 200_000;
    let connections = scene.proxy.connections();
    let before: Vec<u64> = connections.iter().map(|it| it.received()).collect();
    scene.make("ConfigMap", "large", &"x".repeat(LARGE)).await?;
    scene.until_exported(1, SOON).await?;
    let mut grown = connections
        .into_iter()
        .zip(before)
        .filter(|(connection, before)| connection.received() - before >= LARGE as u64);
    let (connection, _) = grown.next().context("nothing large came")?;
    ensure!(grown.next().is_none(), "it came twice");
    Ok(connection)
}
