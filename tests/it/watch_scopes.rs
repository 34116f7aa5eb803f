//! Which watches are opened, which of them readiness waits for, and what ends them.

use std::sync::Arc;

use serde_json::json;
use spanlink::watch::{WatchError, recording::Tap};

use crate::{
    scripted_api_server::{DEPLOYMENT, EVENT, POD, ScriptedApiServer, WIDGET},
    watch_support::{Watching, kind, object},
};

const PODS: &str = "/api/v1/pods";

#[tokio::test]
async fn entries_of_one_kind_with_different_selectors_are_all_watched() {
    let mut server = ScriptedApiServer::start(&[POD]).await;
    let entries = ["app=a", "app=b", "app=b"].map(|selector| {
        let mut entry = kind("", "Pod");
        entry.label_selector = Some(selector.into());
        entry
    });
    let mut watching = Watching::start(&server, entries.to_vec());
    watching.expect_messages(&["0 opened Pod", "1 opened Pod"]).await;
    let (first, second) = (server.request(PODS).await, server.request(PODS).await);
    let mut queries = [first.query, second.query];
    queries.sort();
    assert!(queries[0].ends_with("app%3Da") && queries[1].ends_with("app%3Db"), "{queries:?}");
    watching.stop().await;
}

#[tokio::test]
async fn watch_without_selectors_includes_those_with_selectors() {
    let server = ScriptedApiServer::start(&[POD, DEPLOYMENT]).await;
    let mut selected = kind("", "Pod");
    selected.label_selector = Some("app=a".into());
    let kinds = vec![kind("", "Pod"), selected, kind("apps", "Deployment")];
    let mut watching = Watching::start(&server, kinds);
    watching.expect_messages(&["0 opened Pod", "1 opened Deployment.apps"]).await;
    watching.stop().await;
}

#[tokio::test]
async fn readiness_names_each_watch_and_the_metric_waits_for_all_of_a_kind() {
    let mut server = ScriptedApiServer::start(&[POD]).await;
    let mut pods = kind("", "Pod");
    pods.namespaces = vec!["shop".into(), "bank".into()];
    let mut watching = Watching::start(&server, vec![pods]);
    let metric = watching.metrics.watch_synced.clone();
    let _shop = server.list("/api/v1/namespaces/shop/pods", &[], 7).await;
    watching.becomes_synced("Pod in namespace shop").await;
    assert!(!watching.is_synced("Pod in namespace bank"));
    assert_eq!(metric.with_label_values(&["Pod"]).get(), 0);
    let _bank = server.list("/api/v1/namespaces/bank/pods", &[], 7).await;
    watching.becomes_synced("Pod in namespace bank").await;
    assert_eq!(metric.with_label_values(&["Pod"]).get(), 1);
    watching.until(|event| event == "1 reset 7" || event == "0 reset 7").await;
    drop(watching);
}

#[tokio::test]
async fn watches_of_kubernetes_events_never_hold_up_readiness() {
    let mut server = ScriptedApiServer::start(&[POD, EVENT]).await;
    let mut pods = kind("", "Pod");
    pods.events = true;
    let mut watching = Watching::start(&server, vec![pods]);
    let _pods = server.list(PODS, &[], 7).await;
    watching.becomes_synced("Pod").await;
    assert_eq!(watching.registered(), ["Pod"]);
    drop(watching);
}

#[tokio::test]
async fn kind_that_is_removed_before_its_first_list_no_longer_holds_up_readiness() {
    let mut server = ScriptedApiServer::start(&[WIDGET]).await;
    let mut watching = Watching::start(&server, vec![kind("example.com", "Widget")]);
    let list = server.request("/apis/example.com/v1/widgets").await;
    server.serves(&[]);
    list.answer(404, "404 page not found").await;
    watching.becomes_synced("Widget.example.com").await;
    drop(watching);
}

#[tokio::test]
async fn panic_in_a_watch_ends_the_watches_with_its_kind() {
    let mut server = ScriptedApiServer::start(&[POD]).await;
    let tap: Tap = Arc::new(|_, _, _| panic!("injected"));
    let watching = Watching::start_tapped(&server, vec![kind("", "Pod")], Some(tap));
    server.request(PODS).await.list(&[object("a", 5)], 7).await;
    let error = watching.task.await.unwrap().unwrap_err();
    assert!(matches!(&error, WatchError::Panic { kind, .. } if kind == "Pod"), "{error:?}");
}

#[tokio::test]
async fn kind_with_opaque_resource_versions_is_refused_and_others_are_watched() {
    let mut server = ScriptedApiServer::start(&[POD, DEPLOYMENT]).await;
    let mut watching = Watching::start(&server, vec![kind("", "Pod"), kind("apps", "Deployment")]);
    watching.expect_messages(&["0 opened Pod", "1 opened Deployment.apps"]).await;
    let mut opaque = object("a", 5);
    opaque["metadata"]["resourceVersion"] = json!("5-x");
    let mut lines = server.request(PODS).await.stream().await;
    lines.send_event("ADDED", &opaque).await;
    watching.expect_messages(&["0 lists", "0 interrupted"]).await;
    let reason =
        watching.metrics.watch_failures.with_label_values(&["Pod", "opaque_resource_version"]);
    assert_eq!(reason.get(), 1);
    let _watch = server.list("/apis/apps/v1/deployments", &[], 7).await;
    watching.expect_messages(&["1 lists", "1 reset 7"]).await;
    watching.stop().await;
}

#[tokio::test]
async fn relist_under_a_selector_reports_exits_before_its_end() {
    let mut server = ScriptedApiServer::start(&[POD]).await;
    let mut selected = kind("", "Pod");
    selected.label_selector = Some("a=b".into());
    let mut watching = Watching::start(&server, vec![selected]);
    let objects = [object("a", 5), object("b", 5), object("c", 5)];
    let watch = server.list(PODS, &objects, 7).await;
    watch.refuse(410, "gone").await;
    server.request(PODS).await.list(&[object("c", 5)], 99).await;
    let pod = |name| format!("/api/v1/namespaces/shop/pods/{name}");
    server.request(&pod("a")).await.answer(200, &object("a", 80).to_string()).await;
    server.request(&pod("b")).await.refuse(404, "not found").await;
    watching.until(|event| event == "0 reset 7").await;
    watching.expect_messages(&["0 interrupted", "0 lists", "0 listed c@5 (status)"]).await;
    watching.expect_messages(&["0 left selector uid-a@99", "0 reset 99"]).await;
    watching.stop().await;
}
