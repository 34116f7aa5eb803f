//! Every request to the API server has a time limit: a server that accepts connections and never
//! answers is noticed.

use std::time::Duration;

use spanlink::{config::settings::KindSettings, watch::WatchError};

use crate::{
    scripted_api_server::{POD, Request, ScriptedApiServer, WIDGET},
    watch_support::{Watching, kind, object},
};

const PODS: &str = "/api/v1/pods";
const POD_A: &str = "/api/v1/namespaces/shop/pods/a";
const PODS_OF_SHOP: &str = "/api/v1/namespaces/shop/pods";

/// Longer than an answer may take.
const TOO_LONG: Duration = Duration::from_secs(31);

/// Time passes while a request has no answer.
async fn pass(duration: Duration) {
    tokio::time::pause();
    tokio::time::advance(duration).await;
    tokio::time::resume();
}

fn timeouts(watching: &Watching) -> u64 {
    watching.metrics.watch_failures.with_label_values(&["Pod", "timeout"]).get()
}

fn pods_with_label() -> KindSettings {
    let mut pods = kind("", "Pod");
    pods.label_selector = Some("a=b".into());
    pods
}

/// A watch of Pods that has listed Pod `a`, and its watch request.
async fn watching_pod_a(pods: KindSettings) -> (ScriptedApiServer, Watching, Request) {
    let mut server = ScriptedApiServer::start(&[POD]).await;
    let mut watching = Watching::start(&server, vec![pods]);
    let watch = server.list(PODS, &[object("a", 5)], 7).await;
    watching.expect_messages(&["0 opened Pod", "0 lists", "0 listed a@5", "0 reset 7"]).await;
    (server, watching, watch)
}

#[tokio::test]
async fn first_discovery_without_an_answer_fails_the_watches() {
    let mut server = ScriptedApiServer::start(&[POD]).await;
    server.take_over_discovery();
    let watching = Watching::start(&server, vec![kind("", "Pod")]);
    let _unanswered = server.request("/apis").await;
    pass(TOO_LONG).await;
    let error = watching.task.await.unwrap().unwrap_err();
    assert!(matches!(error, WatchError::Discovery(_)), "{error:?}");
    let source = std::error::Error::source(&error).map(ToString::to_string);
    assert_eq!(source.as_deref(), Some("the API server did not answer within 30 s"));
}

#[tokio::test]
async fn later_discovery_without_an_answer_holds_up_no_watch() {
    let widgets = "/apis/example.com/v1/widgets";
    let mut server = ScriptedApiServer::start(&[POD, WIDGET]).await;
    let kinds = vec![kind("", "Pod"), kind("example.com", "Widget")];
    let mut watching = Watching::start(&server, kinds);
    let of_pods = server.list(PODS, &[], 7).await;
    let of_widgets = server.list(widgets, &[], 7).await;
    watching.until(|event| event == "1 reset 7").await;
    server.take_over_discovery();
    // The kind may be gone, which discovery would show.
    of_widgets.answer(404, "404 page not found").await;
    watching.until(|event| event == "1 interrupted").await;
    let _unanswered = server.request("/apis").await;
    let mut lines = of_pods.stream().await;
    lines.send_event("ADDED", &object("b", 8)).await;
    watching.expect_messages(&["0 applied b@8"]).await;
    pass(TOO_LONG).await;
    // What is served is unknown, so the watch of the kind is repeated.
    assert!(server.request(widgets).await.watches_from(7));
    drop(watching);
}

#[tokio::test]
async fn list_without_an_answer_is_requested_again() {
    let mut server = ScriptedApiServer::start(&[POD]).await;
    let mut watching = Watching::start(&server, vec![kind("", "Pod")]);
    watching.expect_messages(&["0 opened Pod"]).await;
    let _unanswered = server.request(PODS).await;
    pass(TOO_LONG).await;
    watching.expect_messages(&["0 interrupted"]).await;
    assert_eq!(timeouts(&watching), 1);
    let _watch = server.list(PODS, &[], 7).await;
    watching.expect_messages(&["0 lists", "0 reset 7"]).await;
    watching.stop().await;
}

#[tokio::test]
async fn list_that_stops_in_the_middle_is_requested_again() {
    let mut server = ScriptedApiServer::start(&[POD]).await;
    let mut watching = Watching::start(&server, vec![kind("", "Pod")]);
    let mut lines = server.request(PODS).await.stream().await;
    lines.send_event("ADDED", &object("a", 5)).await;
    watching.expect_messages(&["0 opened Pod", "0 lists", "0 listed a@5"]).await;
    pass(TOO_LONG).await;
    watching.expect_messages(&["0 interrupted"]).await;
    let _watch = server.list(PODS, &[], 7).await;
    watching.expect_messages(&["0 lists", "0 reset 7"]).await;
    watching.stop().await;
}

#[tokio::test]
async fn page_of_a_list_without_an_answer_is_requested_again() {
    let mut server = ScriptedApiServer::start(&[POD]).await;
    let mut watching = Watching::start(&server, vec![kind("", "Pod")]);
    server.request(PODS).await.refuse(422, "sendInitialEvents is forbidden").await;
    let unanswered = server.request(PODS).await;
    assert_eq!(unanswered.query, "limit=250");
    watching.expect_messages(&["0 opened Pod"]).await;
    pass(TOO_LONG).await;
    watching.expect_messages(&["0 interrupted"]).await;
    assert_eq!(server.request(PODS).await.query, "limit=250");
    watching.stop().await;
}

#[tokio::test]
async fn watch_without_an_answer_is_requested_again() {
    let (mut server, mut watching, _unanswered) = watching_pod_a(kind("", "Pod")).await;
    pass(TOO_LONG).await;
    watching.expect_messages(&["0 interrupted"]).await;
    assert_eq!(timeouts(&watching), 1);
    assert!(server.request(PODS).await.watches_from(7));
    watching.stop().await;
}

/// A probe reads an object, and then the same object at a resourceVersion.
#[tokio::test]
async fn probe_without_an_answer_is_followed_by_the_watch() {
    for is_first_answered in [false, true] {
        let (mut server, mut watching, watch) = watching_pod_a(kind("", "Pod")).await;
        let mut lines = watch.stream().await;
        lines.bookmark(7).await;
        watching.expect_messages(&["0 bookmark 7"]).await;
        pass(Duration::from_secs(44)).await;
        lines.end().await;
        let mut unanswered = server.request(POD_A).await;
        if is_first_answered {
            unanswered.answer(200, &object("a", 5).to_string()).await;
            unanswered = server.request(PODS_OF_SHOP).await;
        }
        pass(TOO_LONG).await;
        watching.expect_messages(&["0 interrupted"]).await;
        assert!(server.request(PODS).await.watches_from(7));
        assert_eq!(timeouts(&watching), 1);
        drop(unanswered);
        watching.stop().await;
    }
}

#[tokio::test]
async fn read_without_an_answer_of_an_object_that_left_the_selectors_counts_as_its_deletion() {
    let (mut server, mut watching, watch) = watching_pod_a(pods_with_label()).await;
    let mut lines = watch.stream().await;
    lines.send_event("DELETED", &object("a", 8)).await;
    let _unanswered = server.request(POD_A).await;
    pass(TOO_LONG).await;
    watching.expect_messages(&["0 deleted a@8"]).await;
    watching.stop().await;
}
