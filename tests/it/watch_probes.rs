//! Silent watches are probed with reads of one object, and listed again only after etcd was restored.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    scripted_api_server::{POD, Request, ScriptedApiServer},
    watch_support::{Watching, kind, object},
};

const PODS: &str = "/api/v1/pods";
const POD_A: &str = "/api/v1/namespaces/shop/pods/a";
const PODS_OF_SHOP: &str = "/api/v1/namespaces/shop/pods";

/// A watch of Pods that has listed Pod `a` at resourceVersion 7, and whose first watch ended after 50
/// seconds with bookmarks that bring nothing new.
async fn silent_watch() -> (ScriptedApiServer, Watching) {
    let mut server = ScriptedApiServer::start(&[POD]).await;
    let mut watching = Watching::start(&server, vec![kind("", "Pod")]);
    let watch = server.list(PODS, &[object("a", 5)], 7).await;
    watching.expect_messages(&["0 opened Pod", "0 lists", "0 listed a@5", "0 reset 7"]).await;
    let mut lines = watch.stream().await;
    lines.bookmark(7).await;
    watching.expect_messages(&["0 bookmark 7"]).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(44)).await;
    tokio::time::resume();
    lines.end().await;
    (server, watching)
}

async fn answer_list(request: Request, items: &[Value]) {
    let query = &request.query;
    assert!(query.contains("resourceVersionMatch=Exact&resourceVersion=7"), "{query}");
    assert!(query.contains("fieldSelector=metadata.name%3Da&limit=1"), "{query}");
    let list = json!({"kind": "PodList", "metadata": {"resourceVersion": "7"}, "items": items});
    request.answer(200, &list.to_string()).await;
}

fn probes(watching: &Watching, result: &str) -> u64 {
    watching.metrics.watch_probes.with_label_values(&["Pod", result]).get()
}

#[tokio::test]
async fn silent_watch_of_unchanged_history_continues_without_a_list() {
    let (mut server, watching) = silent_watch().await;
    server.request(POD_A).await.answer(200, &object("a", 5).to_string()).await;
    answer_list(server.request(PODS_OF_SHOP).await, &[object("a", 5)]).await;
    assert!(server.request(PODS).await.watches_from(7));
    assert_eq!(probes(&watching, "unchanged"), 1);
    watching.stop().await;
}

#[tokio::test]
async fn compacted_resource_version_of_an_unchanged_object_continues_without_a_list() {
    let (mut server, watching) = silent_watch().await;
    server.request(POD_A).await.answer(200, &object("a", 5).to_string()).await;
    server.request(PODS_OF_SHOP).await.refuse(410, "compacted").await;
    assert!(server.request(PODS).await.watches_from(7));
    assert_eq!(probes(&watching, "compacted"), 1);
    watching.stop().await;
}

/// The API server kept running while etcd was restored: its caches answer the exact read.
#[tokio::test]
async fn object_at_an_older_resource_version_leads_to_a_relist() {
    let (mut server, mut watching) = silent_watch().await;
    server.request(POD_A).await.answer(200, &object("a", 4).to_string()).await;
    let _watch = server.list(PODS, &[object("a", 4)], 6).await;
    watching
        .expect_messages(&["0 interrupted", "0 lists", "0 listed a@4 (status)", "0 reset 6"])
        .await;
    assert_eq!(probes(&watching, "object_differs"), 1);
    watching.stop().await;
}

/// The API server was restarted after etcd was restored: the resourceVersion is in the future.
#[tokio::test]
async fn resource_version_in_the_future_leads_to_a_list() {
    let (mut server, mut watching) = silent_watch().await;
    server.request(POD_A).await.answer(200, &object("a", 5).to_string()).await;
    let exact = server.request(PODS_OF_SHOP).await;
    exact.refuse(504, "Timeout: Too large resource version: 7, current: 6").await;
    let _watch = server.list(PODS, &[object("a", 5)], 6).await;
    watching
        .expect_messages(&["0 interrupted", "0 lists", "0 listed a@5 (status)", "0 reset 6"])
        .await;
    assert_eq!(probes(&watching, "future_resource_version"), 1);
    watching.stop().await;
}

/// The restored etcd has caught up with the resourceVersion by other writes.
#[tokio::test]
async fn object_that_differs_at_the_resource_version_leads_to_a_list() {
    let (mut server, mut watching) = silent_watch().await;
    server.request(POD_A).await.answer(200, &object("a", 9).to_string()).await;
    answer_list(server.request(PODS_OF_SHOP).await, &[object("a", 6)]).await;
    let _watch = server.list(PODS, &[object("a", 9)], 9).await;
    watching
        .expect_messages(&["0 interrupted", "0 lists", "0 listed a@9 (status)", "0 reset 9"])
        .await;
    watching.stop().await;
}

#[tokio::test]
async fn probe_without_an_answer_leads_to_no_relist() {
    let (mut server, mut watching) = silent_watch().await;
    server.request(POD_A).await.refuse(503, "unavailable").await;
    let watch = server.request(PODS).await;
    assert!(watch.watches_from(7), "{}", watch.query);
    watching.expect_messages(&["0 interrupted"]).await;
    assert_eq!(probes(&watching, "failed"), 1);
    watching.stop().await;
}
