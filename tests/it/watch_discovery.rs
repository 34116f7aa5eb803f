//! Kinds that are installed later are discovered by watches of `CustomResourceDefinition` and
//! `APIService`, and by polls that become rare.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    scripted_api_server::{Lines, POD, Request, ScriptedApiServer, WIDGET},
    watch_support::{Watching, kind},
};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const API_SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const WIDGETS: &str = "/apis/example.com/v1/widgets";

/// Shorter than the interval of polls after some minutes, and longer than a busy machine needs.
const LONG_BEFORE_THE_NEXT_POLL: Duration = Duration::from_mins(1);

fn definition(resource_version: u64) -> Value {
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {
        "name": "widgets.example.com", "uid": "d", "resourceVersion": resource_version.to_string()}})
}

async fn answer_empty_list(request: Request) {
    let list = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
        "metadata": {"resourceVersion": "7"}, "items": []});
    request.answer(200, &list.to_string()).await;
}

/// The watch of the definitions, after their list.
async fn watch_definitions(server: &mut ScriptedApiServer) -> Lines {
    answer_empty_list(server.request(DEFINITIONS).await).await;
    let watch = server.request(DEFINITIONS).await;
    assert!(watch.head.contains("PartialObjectMetadata"), "{}", watch.head);
    assert!(watch.query.contains("watch=true"), "{}", watch.query);
    watch.stream().await
}

/// Time passes until polls are rare, as after an hour without changes.
async fn pass_an_hour() {
    pass_minutes(60).await;
}

async fn pass_minutes(minutes: u32) {
    for _ in 0..minutes {
        tokio::time::pause();
        tokio::time::advance(Duration::from_mins(1)).await;
        tokio::time::resume();
        // Answers come from another task, through sockets.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn installed_kind_is_discovered_at_once_by_the_watch_of_definitions() {
    let mut server = ScriptedApiServer::start(&[POD]).await;
    let mut watching = Watching::start(&server, vec![kind("example.com", "Widget")]);
    let mut lines = watch_definitions(&mut server).await;
    // Polls are minutes apart by then, and the watch is not at its end yet.
    pass_minutes(4).await;
    let before = server.discoveries();
    let begun = Instant::now();
    server.serves(&[POD, WIDGET]);
    lines.send_event("ADDED", &definition(8)).await;
    let _watch = server.list(WIDGETS, &[], 8).await;
    watching.expect_messages(&["0 opened Widget.example.com", "0 lists", "0 reset 8"]).await;
    assert!(begun.elapsed() < LONG_BEFORE_THE_NEXT_POLL, "{:?}", begun.elapsed());
    assert!(server.discoveries() > before);
    watching.stop().await;
}

#[tokio::test]
async fn polls_become_rare_while_no_kind_is_installed() {
    let mut server = ScriptedApiServer::start(&[POD]).await;
    let watching = Watching::start(&server, vec![kind("example.com", "Widget")]);
    let _lines = watch_definitions(&mut server).await;
    answer_empty_list(server.request(API_SERVICES).await).await;
    pass_an_hour().await;
    // Some at short intervals at first, then one in about five minutes.
    let in_first_hour = server.discoveries();
    pass_an_hour().await;
    let in_second_hour = server.discoveries() - in_first_hour;
    assert!((5..=14).contains(&in_second_hour), "{in_first_hour}, then {in_second_hour}");
    watching.stop().await;
}

#[tokio::test]
async fn kind_is_discovered_by_a_poll_where_watching_definitions_is_forbidden() {
    let mut server = ScriptedApiServer::start(&[POD]).await;
    let mut watching = Watching::start(&server, vec![kind("example.com", "Widget")]);
    for path in [DEFINITIONS, API_SERVICES] {
        server.request(path).await.refuse(403, "forbidden").await;
    }
    server.serves(&[POD, WIDGET]);
    let _watch = server.list(WIDGETS, &[], 8).await;
    watching.expect_messages(&["0 opened Widget.example.com", "0 lists", "0 reset 8"]).await;
    watching.stop().await;
}

#[tokio::test]
async fn kinds_are_not_discovered_again_where_all_are_served() {
    let mut server = ScriptedApiServer::start(&[POD]).await;
    let watching = Watching::start(&server, vec![kind("", "Pod")]);
    let _watch = server.list("/api/v1/pods", &[], 7).await;
    pass_an_hour().await;
    assert_eq!(server.discoveries(), 1);
    drop(watching);
}
