//! Claims about failing servers: a watch relists only when it must, and loses no event.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::{
    scripted_api_server::{DEPLOYMENT, POD, Request, ScriptedApiServer, WIDGET},
    watch_support::{Watching, kind, object},
};

const PODS: &str = "/api/v1/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/deployments";

/// A watch of Pods that has listed one at resourceVersion 7.
async fn watching_pods() -> (ScriptedApiServer, Watching, Request) {
    let mut server = ScriptedApiServer::start(&[POD]).await;
    let mut watching = Watching::start(&server, vec![kind("", "Pod")]);
    let watch = server.list(PODS, &[object("a", 5)], 7).await;
    watching.expect_messages(&["0 opened Pod", "0 lists", "0 listed a@5", "0 reset 7"]).await;
    (server, watching, watch)
}

#[tokio::test]
async fn clean_end_resumes_from_the_last_bookmark_without_a_message() {
    let (mut server, mut watching, watch) = watching_pods().await;
    let mut lines = watch.stream().await;
    lines.send_event("MODIFIED", &object("a", 8)).await;
    lines.bookmark(9).await;
    watching.expect_messages(&["0 applied a@8 (status)", "0 bookmark 9"]).await;
    lines.end().await;
    let watch = server.request(PODS).await;
    assert!(watch.watches_from(9));
    let mut lines = watch.stream().await;
    lines.send_event("DELETED", &object("a", 10)).await;
    watching.expect_messages(&["0 deleted a@10"]).await;
    watching.stop().await;
}

#[tokio::test]
async fn watches_request_no_compression_and_end_within_a_minute() {
    let (_server, watching, watch) = watching_pods().await;
    assert!(watch.head.to_lowercase().contains("accept-encoding: identity"), "{}", watch.head);
    assert!((40..55).contains(&watch.timeout()));
    assert!(watch.query.contains("allowWatchBookmarks=true"));
    watching.stop().await;
}

#[tokio::test]
async fn a_410_in_the_stream_leads_to_a_relist() {
    let (mut server, mut watching, watch) = watching_pods().await;
    watch.stream().await.fail(410, "too old resource version: 7 (99)").await;
    let _watch = server.list(PODS, &[object("a", 5), object("b", 90)], 99).await;
    watching
        .expect_messages(&[
            "0 interrupted",
            "0 lists",
            "0 listed a@5 (status)",
            "0 listed b@90",
            "0 reset 99",
        ])
        .await;
    let relists = watching.metrics.relists.with_label_values(&["Pod", "410"]);
    assert_eq!(relists.get(), 1);
    watching.stop().await;
}

#[tokio::test]
async fn a_410_as_a_status_and_a_lost_future_lead_to_relists() {
    let (mut server, mut watching, watch) = watching_pods().await;
    watch.refuse(410, "gone").await;
    let watch = server.list(PODS, &[], 3).await;
    watching.expect_messages(&["0 interrupted", "0 lists", "0 reset 3"]).await;
    watch.refuse(504, "Too large resource version: 3, current: 2").await;
    let _watch = server.list(PODS, &[], 4).await;
    watching.expect_messages(&["0 interrupted", "0 lists", "0 reset 4"]).await;
    watching.stop().await;
}

#[tokio::test]
async fn busy_server_is_left_alone_and_the_resource_version_is_kept() {
    let (mut server, mut watching, watch) = watching_pods().await;
    let since = Instant::now();
    watch.answer_with(429, "Retry-After: 2\r\n", "{}").await;
    let watch = server.request(PODS).await;
    assert!(since.elapsed() >= Duration::from_secs(2));
    assert!(watch.watches_from(7));
    let _lines = watch.stream().await;
    watching.expect_messages(&["0 interrupted", "0 resumed"]).await;
    watching.stop().await;
}

#[tokio::test]
async fn refusals_and_broken_connections_interrupt_once_and_keep_the_resource_version() {
    let (mut server, mut watching, watch) = watching_pods().await;
    watch.refuse(503, "unavailable").await;
    drop(server.request(PODS).await);
    let watch = server.request(PODS).await;
    assert!(watch.watches_from(7));
    let mut lines = watch.stream().await;
    lines.bookmark(8).await;
    watching.expect_messages(&["0 interrupted", "0 resumed", "0 bookmark 8"]).await;
    lines.bytes(b"{\"type\":\"MODIFIED\",\"obj").await;
    drop(lines);
    let watch = server.request(PODS).await;
    assert!(watch.watches_from(8));
    let _lines = watch.stream().await;
    watching.expect_messages(&["0 interrupted", "0 resumed"]).await;
    let failures =
        |reason| watching.metrics.watch_failures.with_label_values(&["Pod", reason]).get();
    assert_eq!((failures("503"), failures("connection")), (1, 2));
    watching.stop().await;
}

#[tokio::test]
async fn mute_server_is_noticed_within_a_minute() {
    let (mut server, mut watching, watch) = watching_pods().await;
    let mut lines = watch.stream().await;
    lines.bookmark(8).await;
    watching.expect_messages(&["0 bookmark 8"]).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(59)).await;
    tokio::time::resume();
    watching.expect_messages(&["0 interrupted"]).await;
    let watch = server.request(PODS).await;
    assert!(watch.watches_from(8));
    let _lines = watch.stream().await;
    watching.expect_messages(&["0 resumed"]).await;
    watching.stop().await;
}

#[tokio::test]
async fn kind_that_fails_disturbs_no_other() {
    let mut server = ScriptedApiServer::start(&[POD, DEPLOYMENT]).await;
    let kinds = vec![kind("", "Pod"), kind("apps", "Deployment")];
    let mut watching = Watching::start(&server, kinds);
    watching.expect_messages(&["0 opened Pod", "1 opened Deployment.apps"]).await;
    for _ in 0..2 {
        // The streaming list, then the old way.
        server.request(PODS).await.refuse(403, "forbidden").await;
    }
    watching.expect_messages(&["0 interrupted"]).await;
    let watch = server.list(DEPLOYMENTS, &[], 7).await;
    watching.expect_messages(&["1 lists", "1 reset 7"]).await;
    let mut lines = watch.stream().await;
    lines.send_event("ADDED", &object("web", 8)).await;
    watching.expect_messages(&["1 applied web@8"]).await;
    let _watch = server.list(PODS, &[], 9).await;
    watching.expect_messages(&["0 lists", "0 reset 9"]).await;
    watching.stop().await;
}

#[tokio::test]
async fn server_without_streaming_lists_is_read_in_pages_and_an_expired_list_restarts() {
    let mut server = ScriptedApiServer::start(&[POD]).await;
    let mut watching = Watching::start(&server, vec![kind("", "Pod")]);
    server.request(PODS).await.refuse(422, "sendInitialEvents is forbidden").await;
    let page = |names: &[&str], token: &str| {
        let mut items: Vec<_> = names.iter().map(|name| object(name, 5)).collect();
        for item in &mut items {
            item.as_object_mut().unwrap().retain(|key, _| key != "kind" && key != "apiVersion");
        }
        json!({"kind": "PodList", "items": items,
            "metadata": {"resourceVersion": "7", "continue": token}})
        .to_string()
    };
    let first = server.request(PODS).await;
    assert_eq!(first.query, "limit=250");
    first.answer(200, &page(&["a", "b"], "to=ken")).await;
    let second = server.request(PODS).await;
    assert_eq!(second.query, "limit=250&continue=to%3Dken");
    second.refuse(410, "The provided continue parameter is too old").await;
    server.request(PODS).await.answer(200, &page(&["a"], "next")).await;
    // A failure, after which the list continues.
    server.request(PODS).await.refuse(503, "unavailable").await;
    let last = server.request(PODS).await;
    assert_eq!(last.query, "limit=250&continue=next");
    last.answer(200, &page(&["c"], "")).await;
    watching
        .expect_messages(&[
            "0 opened Pod",
            "0 lists",
            "0 listed a@5",
            "0 listed b@5",
            "0 interrupted",
            "0 lists",
        ])
        .await;
    watching
        .expect_messages(&["0 listed a@5 (status)", "0 interrupted", "0 listed c@5", "0 reset 7"])
        .await;
    assert!(server.request(PODS).await.watches_from(7));
    watching.stop().await;
}

#[tokio::test]
async fn kind_not_found_is_retried_until_it_is_no_longer_served() {
    let mut server = ScriptedApiServer::start(&[WIDGET]).await;
    let mut watching = Watching::start(&server, vec![kind("example.com", "Widget")]);
    let path = "/apis/example.com/v1/widgets";
    let watch = server.list(path, &[], 7).await;
    watching.expect_messages(&["0 opened Widget.example.com", "0 lists", "0 reset 7"]).await;
    watch.answer(404, "404 page not found").await;
    let watch = server.request(path).await;
    assert!(watch.watches_from(7));
    watching.expect_messages(&["0 interrupted"]).await;
    server.serves(&[]);
    watch.answer(404, "404 page not found").await;
    watching.expect_messages(&["0 closed"]).await;
    server.serves(&[WIDGET]);
    let _watch = server.list(path, &[], 8).await;
    watching.expect_messages(&["1 opened Widget.example.com", "1 lists", "1 reset 8"]).await;
    watching.stop().await;
}
