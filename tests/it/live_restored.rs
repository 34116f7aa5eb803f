//! The watches when etcd is restored from a backup: a watch from a resourceVersion of the lost future
//! receives neither events nor an error.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    control_plane::{Component, ControlPlane, Options, own, to_stderr, until},
    watch_support::{Watching, kind},
};

/// Two watches of up to 53 seconds, and a busy machine.
const NOTICED: Duration = Duration::from_mins(3);

/// How the API server meets a restored etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ApiServer {
    Restarted,
    /// Its caches still have the lost future.
    LeftRunning,
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Stops etcd for the time of `change`.
async fn while_stopped(plane: &ControlPlane, change: impl FnOnce() -> Result<()>) -> Result<()> {
    plane.kill(Component::Etcd);
    change()?;
    plane.restart(Component::Etcd).await?;
    let client = plane.client().await?;
    // Beside the watched namespace.
    let maps: Api<ConfigMap> = Api::namespaced(client, "kube-system");
    until("the API server to write again", NOTICED, async || {
        let metadata = ObjectMeta { generate_name: Some("other-".into()), ..ObjectMeta::default() };
        let map = ConfigMap { metadata, ..ConfigMap::default() };
        maps.create(&PostParams::default(), &map).await?;
        Ok(())
    })
    .await
}

/// Probes by result, and relists by reason.
fn counts(watching: &Watching) -> Result<String> {
    let text = String::from_utf8(watching.metrics.text()?)?;
    let is_counted = |line: &&str| {
        line.starts_with("spanlink_watch_probes") || line.starts_with("spanlink_relists")
    };
    Ok(text.lines().filter(is_counted).collect::<Vec<_>>().join("\n"))
}

async fn restored_etcd_leads_to_a_list(api_server: ApiServer) -> Result<()> {
    let plane = own(&Options::api_server_only()).await?;
    let maps: Api<ConfigMap> = Api::namespaced(plane.client().await?, "default");
    let create = async |name: &str| {
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let map = ConfigMap { metadata, ..ConfigMap::default() };
        maps.create(&PostParams::default(), &map).await.map(drop)
    };
    create("kept").await?;
    let mut watched = kind("", "ConfigMap");
    watched.namespaces = vec!["default".to_owned()];
    let mut watching = Watching::start_at(plane.client().await?, vec![watched], None);
    let listed = watching.until(|event| event.contains("reset")).await;
    let kept = listed.iter().find(|event| event.contains("listed kept@")).context("no list")?;
    let kept = kept.split(' ').find(|word| word.starts_with("kept@")).context("no version")?;

    let backup = plane.folder().join("backup");
    while_stopped(&plane, || copy(&plane.etcd_data(), &backup)).await?;
    let patch = Patch::Merge(json!({ "data": { "text": "of the lost future" } }));
    maps.patch("kept", &PatchParams::default(), &patch).await?;
    create("lost").await?;
    watching.until(|event| event.contains("applied lost@")).await;

    if api_server == ApiServer::Restarted {
        plane.kill_api_server();
    }
    let restored = Instant::now();
    plane.kill(Component::Etcd);
    fs::remove_dir_all(plane.etcd_data())?;
    copy(&backup, &plane.etcd_data())?;
    plane.restart(Component::Etcd).await?;
    if api_server == ApiServer::Restarted {
        plane.restart_api_server().await?;
    }
    let mut events = watching.until(|event| event.contains("reset")).await;
    let noticed = restored.elapsed();
    ensure!(noticed < NOTICED, "{noticed:?}: {events:#?}");
    to_stderr(&format!("{api_server:?}: listed after {noticed:?}: {}", counts(&watching)?));
    if api_server == ApiServer::LeftRunning {
        // It serves lists from its caches, which still contain the lost future.
        plane.kill_api_server();
        plane.restart_api_server().await?;
        events = watching.until(|event| event.contains("reset")).await;
    }
    ensure!(events.iter().any(|event| event.contains(kept)), "no {kept}: {events:#?}");
    ensure!(!events.iter().any(|event| event.contains("lost@")), "{events:#?}");

    // It continues from the restored history.
    create("after").await?;
    watching.until(|event| event.contains("applied after@")).await;
    watching.stop().await;
    Ok(())
}

#[tokio::test]
async fn restored_etcd_under_a_restarted_api_server_leads_to_a_list() -> Result<()> {
    restored_etcd_leads_to_a_list(ApiServer::Restarted).await
}

#[tokio::test]
async fn restored_etcd_under_a_running_api_server_leads_to_a_list() -> Result<()> {
    restored_etcd_leads_to_a_list(ApiServer::LeftRunning).await
}
