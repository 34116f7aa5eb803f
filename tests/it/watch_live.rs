//! The watches against a real API server that is killed and comes back.

use anyhow::Result;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};

use crate::{
    control_plane::{ControlPlane, Options, to_stderr},
    watch_support::{Watching, kind},
};

#[tokio::test]
async fn api_server_that_restarts_costs_one_list_and_no_change() -> Result<()> {
    let plane = ControlPlane::start(&Options::api_server_only().with_audit(), &to_stderr).await?;
    let maps: Api<ConfigMap> = Api::namespaced(plane.client().await?, "default");
    let elsewhere: Api<ConfigMap> = Api::namespaced(plane.client().await?, "kube-system");
    let create_in = async |maps: &Api<ConfigMap>, name: &str| {
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let map = ConfigMap { metadata, ..ConfigMap::default() };
        maps.create(&PostParams::default(), &map).await.map(drop)
    };
    let create = async |name: &str| create_in(&maps, name).await;
    create("first").await?;
    let mut watched = kind("", "ConfigMap");
    watched.namespaces = vec!["default".to_owned()];
    let mut watching = Watching::start_at(plane.client().await?, vec![watched], None);
    let listed = watching.until(|message| message.contains("reset")).await;
    assert!(listed.iter().any(|message| message.contains("listed first@")), "{listed:?}");
    create("second").await?;
    watching.until(|message| message.contains("applied second@")).await;

    // The store changes without events for the watch: its resourceVersion becomes too old.
    create_in(&elsewhere, "unheard").await?;
    plane.kill_api_server();
    watching.until(|message| message == "0 interrupted").await;
    plane.restart_api_server().await?;
    create("third").await?;
    let again = watching.until(|message| message.contains(" third@")).await;
    if again.iter().any(|message| message.contains("listed third@")) {
        watching.until(|message| message.contains("reset")).await;
    }
    // Connected, refused as too old, and relisting.
    let count = |what: &str| again.iter().filter(|message| message.ends_with(what)).count();
    assert_eq!(count(" lists"), 1, "{again:?}");
    assert_eq!(count(" resumed"), count(" interrupted"), "{again:?}");

    let uris: Vec<String> = plane
        .audit_log()?
        .iter()
        .filter(|event| event["stage"] == "ResponseComplete" || event["stage"] == "ResponseStarted")
        .filter(|event| event.pointer("/responseStatus/code") == Some(&200.into()))
        .filter_map(|event| event["requestURI"].as_str().map(str::to_owned))
        .filter(|uri| uri.contains("/namespaces/default/configmaps?"))
        .collect();
    assert!(uris.iter().any(|uri| uri.contains("sendInitialEvents=true")), "{uris:#?}");
    assert!(!uris.iter().any(|uri| uri.contains("limit=")), "{uris:#?}");
    let gone = watching.metrics.relists.with_label_values(&["ConfigMap", "410"]).get();
    assert_eq!(gone, 1, "{again:?}");
    watching.stop().await;
    Ok(())
}
