//! Claims about watches that resume where an earlier run of the daemon stopped.

use std::time::Duration;

use spanlink::{
    config::settings::KindSettings,
    trace::model::{
        object::{GroupKind, ObjectRef, Uid},
        observation::{Filter, WatchId, WatchScope},
    },
    watch::Resume,
};

use crate::{
    scripted_api_server::{DEPLOYMENT, Kind, POD, Request, ScriptedApiServer, WIDGET},
    watch_support::{Watching, kind, object},
};

const PODS: &str = "/api/v1/pods";
const WIDGETS: &str = "/apis/example.com/v1/widgets";

fn resume(id: u32, api_version: &str, kind: &str, resource_version: u64) -> Resume {
    let kind = GroupKind::of(api_version, kind);
    let watched =
        WatchScope { kind, namespace: None, filter: Filter::Everything, has_status: true };
    Resume { id: WatchId(id), watched, resource_version, selected: Vec::new() }
}

fn of_pods(id: u32, namespace: Option<&str>, selectors: Option<&str>) -> Resume {
    let mut entry = resume(id, "v1", "Pod", 7);
    entry.watched.namespace = namespace.map(Into::into);
    entry.watched.filter =
        selectors.map_or(Filter::Everything, |query| Filter::Selectors(query.into()));
    entry
}

fn pods_in(namespaces: &[&str]) -> KindSettings {
    let mut pods = kind("", "Pod");
    pods.namespaces = namespaces.iter().map(|&namespace| namespace.into()).collect();
    pods
}

/// Watches Pods from resourceVersion 7, and has asked to.
async fn resuming_pods() -> (ScriptedApiServer, Watching, Request) {
    let mut server = ScriptedApiServer::start(&[POD]).await;
    let resume = vec![resume(4, "v1", "Pod", 7)];
    let mut watching = Watching::start_resuming(&server, vec![kind("", "Pod")], resume);
    watching.expect_messages(&["4 opened Pod"]).await;
    let watch = server.request(PODS).await;
    assert!(watch.watches_from(7), "{}", watch.query);
    (server, watching, watch)
}

/// Answers the list that has to follow, and hands back the watch after it: nothing else is asked.
async fn lists_anew(server: &mut ScriptedApiServer, watching: &mut Watching) -> Request {
    let list = server.request(PODS).await;
    assert!(!watching.is_synced("Pod"), "synced before the list");
    list.list(&[object("a", 5), object("b", 90)], 99).await;
    watching.becomes_synced("Pod").await;
    let watch = server.request(PODS).await;
    assert!(watch.watches_from(99), "{}", watch.query);
    watch
}

#[tokio::test]
async fn watch_resumes_from_its_resource_version_without_a_list() {
    let (mut server, mut watching, watch) = resuming_pods().await;
    let mut lines = watch.stream().await;
    lines.send_event("MODIFIED", &object("a", 8)).await;
    watching.expect_messages(&["4 resumed", "4 applied a@8"]).await;
    lines.bookmark(9).await;
    lines.end().await;
    let watch = server.request(PODS).await;
    assert!(watch.watches_from(9));
    watching.expect_messages(&["4 bookmark 9"]).await;
    watching.stop().await;
}

/// Events are dated until a bookmark ends the backlog, and again after each interruption.
#[tokio::test]
async fn events_of_a_backlog_are_dated_and_later_ones_are_not() {
    let (mut server, mut watching, watch) = resuming_pods().await;
    let created = |name: &str, version: u64| {
        let mut pod = object(name, version);
        pod["metadata"]["creationTimestamp"] = "2026-11-24T10:00:00Z".into();
        pod
    };
    let mut lines = watch.stream().await;
    lines.send_event("ADDED", &created("a", 8)).await;
    watching.expect_messages(&["4 resumed", "4 applied a@8 (dated)"]).await;
    lines.bookmark(9).await;
    lines.send_event("ADDED", &created("b", 10)).await;
    watching.expect_messages(&["4 bookmark 9", "4 applied b@10"]).await;
    lines.end().await;
    server.request(PODS).await.refuse(503, "unavailable").await;
    let mut lines = server.request(PODS).await.stream().await;
    lines.send_event("ADDED", &created("c", 11)).await;
    watching.expect_messages(&["4 interrupted", "4 resumed", "4 applied c@11 (dated)"]).await;
    lines.fail(410, "too old resource version").await;
    server.request(PODS).await.list(&[created("d", 12)], 99).await;
    watching
        .expect_messages(&["4 interrupted", "4 lists", "4 listed d@12 (dated)", "4 reset 99"])
        .await;
    watching.stop().await;
}

#[tokio::test]
async fn resource_version_refused_with_a_status_leads_to_one_list() {
    let (mut server, mut watching, watch) = resuming_pods().await;
    watch.refuse(410, "too old resource version: 7 (99)").await;
    let _watch = lists_anew(&mut server, &mut watching).await;
    watching.expect_messages(&["4 lists", "4 listed a@5", "4 listed b@90", "4 reset 99"]).await;
    assert_eq!(watching.metrics.relists.with_label_values(&["Pod", "410"]).get(), 1);
    watching.stop().await;
}

#[tokio::test]
async fn resource_version_refused_in_the_stream_leads_to_one_list() {
    let (mut server, mut watching, watch) = resuming_pods().await;
    watch.stream().await.fail(410, "too old resource version: 7 (99)").await;
    let _watch = lists_anew(&mut server, &mut watching).await;
    watching.expect_messages(&["4 resumed", "4 interrupted"]).await;
    watching.expect_messages(&["4 lists", "4 listed a@5", "4 listed b@90", "4 reset 99"]).await;
    assert_eq!(watching.metrics.relists.with_label_values(&["Pod", "410"]).get(), 1);
    watching.stop().await;
}

#[tokio::test]
async fn watch_that_ends_twice_without_an_event_leads_to_one_list() {
    let (mut server, mut watching, watch) = resuming_pods().await;
    watch.stream().await.end().await;
    let watch = server.request(PODS).await;
    assert!(watch.watches_from(7));
    watch.stream().await.end().await;
    let _watch = lists_anew(&mut server, &mut watching).await;
    watching.expect_messages(&["4 resumed", "4 interrupted"]).await;
    watching.expect_messages(&["4 lists", "4 listed a@5", "4 listed b@90", "4 reset 99"]).await;
    watching.stop().await;
}

#[tokio::test]
async fn watch_is_synced_by_its_first_event_and_not_by_the_answer() {
    let (_server, mut watching, watch) = resuming_pods().await;
    let mut lines = watch.stream().await;
    watching.expect_messages(&["4 resumed"]).await;
    assert!(!watching.is_synced("Pod"));
    lines.bookmark(8).await;
    watching.becomes_synced("Pod").await;
    watching.expect_messages(&["4 bookmark 8"]).await;
    watching.stop().await;
}

#[tokio::test]
async fn watch_without_an_event_is_short_and_synced_at_its_end() {
    let (mut server, mut watching, watch) = resuming_pods().await;
    let asked = Duration::from_secs(watch.timeout());
    assert!(asked < Duration::from_secs(5), "{asked:?}");
    let lines = watch.stream().await;
    watching.expect_messages(&["4 resumed"]).await;
    tokio::time::pause();
    tokio::time::advance(asked).await;
    tokio::time::resume();
    assert!(!watching.is_synced("Pod"));
    lines.end().await;
    watching.becomes_synced("Pod").await;
    let watch = server.request(PODS).await;
    assert!(watch.watches_from(7) && watch.timeout() >= 40, "{}", watch.query);
    watching.stop().await;
}

#[tokio::test]
async fn server_in_trouble_does_not_cost_the_resource_version() {
    let (mut server, mut watching, watch) = resuming_pods().await;
    watch.refuse(503, "unavailable").await;
    let watch = server.request(PODS).await;
    assert!(watch.watches_from(7) && !watching.is_synced("Pod"));
    let mut lines = watch.stream().await;
    lines.bookmark(8).await;
    watching.becomes_synced("Pod").await;
    watching.expect_messages(&["4 resumed", "4 bookmark 8"]).await;
    watching.stop().await;
}

#[tokio::test]
async fn only_a_watch_of_the_same_selection_is_resumed_and_the_others_are_closed() {
    let mut server = ScriptedApiServer::start(&[POD, DEPLOYMENT]).await;
    let mut selected = pods_in(&["shop"]);
    selected.label_selector = Some("a=b".into());
    let of_shop = |id, selectors| of_pods(id, Some("shop"), selectors);
    let resume = vec![
        of_shop(3, None),
        of_shop(5, Some("labelSelector=a%3Dc")),
        of_pods(1, None, Some("labelSelector=a%3Db")),
        of_shop(2, Some("labelSelector=a%3Db")),
        of_shop(9, Some("labelSelector=a%3Db")),
    ];
    let kinds = vec![selected, kind("apps", "Deployment")];
    let mut watching = Watching::start_resuming(&server, kinds, resume);
    watching.expect_messages(&["2 opened Pod of shop", "10 opened Deployment.apps"]).await;
    watching.expect_messages(&["3 closed", "5 closed", "1 closed", "9 closed"]).await;
    let watch = server.request("/api/v1/namespaces/shop/pods").await;
    assert!(watch.watches_from(7) && watch.query.ends_with("&labelSelector=a%3Db"));
    let deployments = server.request("/apis/apps/v1/deployments").await;
    assert!(deployments.lists());
    watching.stop().await;
}

#[tokio::test]
async fn each_namespace_of_a_kind_resumes_from_its_own_resource_version() {
    let mut server = ScriptedApiServer::start(&[POD]).await;
    let mut of_bank = of_pods(0, Some("bank"), None);
    of_bank.resource_version = 9;
    let resume = vec![of_bank, of_pods(1, Some("shop"), None)];
    let kinds = vec![pods_in(&["shop", "bank", "depot"])];
    let mut watching = Watching::start_resuming(&server, kinds, resume);
    watching
        .expect_messages(&["1 opened Pod of shop", "0 opened Pod of bank", "2 opened Pod of depot"])
        .await;
    let of_shop = server.request("/api/v1/namespaces/shop/pods").await;
    let of_bank = server.request("/api/v1/namespaces/bank/pods").await;
    let of_depot = server.request("/api/v1/namespaces/depot/pods").await;
    assert!(of_shop.watches_from(7) && of_bank.watches_from(9) && of_depot.lists());
    watching.stop().await;
}

#[tokio::test]
async fn watch_without_a_delivered_event_lists_under_its_old_id() {
    let mut server = ScriptedApiServer::start(&[POD]).await;
    let resume = vec![resume(4, "v1", "Pod", 0)];
    let mut watching = Watching::start_resuming(&server, vec![kind("", "Pod")], resume);
    let _watch = server.list(PODS, &[object("a", 5)], 7).await;
    watching.expect_messages(&["4 opened Pod", "4 lists", "4 listed a@5", "4 reset 7"]).await;
    watching.stop().await;
}

#[tokio::test]
async fn kind_not_served_at_the_start_is_closed_and_listed_once_it_is_served() {
    let mut server = ScriptedApiServer::start(&[POD]).await;
    let resume = vec![resume(4, "example.com/v1", "Widget", 7)];
    let kinds = vec![kind("example.com", "Widget")];
    let mut watching = Watching::start_resuming(&server, kinds, resume);
    watching.expect_messages(&["4 closed"]).await;
    server.serves(&[POD, WIDGET]);
    let _watch = server.list(WIDGETS, &[], 8).await;
    watching.expect_messages(&["5 opened Widget.example.com", "5 lists", "5 reset 8"]).await;
    watching.stop().await;
}

#[tokio::test]
async fn kind_in_another_version_is_relisted_and_a_removed_kind_is_closed() {
    const MOVED: Kind = Kind { version: "v2", ..WIDGET };
    let mut server = ScriptedApiServer::start(&[WIDGET]).await;
    let resume = vec![resume(4, "example.com/v1", "Widget", 7)];
    let kinds = vec![kind("example.com", "Widget")];
    let mut watching = Watching::start_resuming(&server, kinds, resume);
    let watch = server.request(WIDGETS).await;
    server.serves(&[MOVED]);
    watch.answer(404, "404 page not found").await;
    let watch = server.list("/apis/example.com/v2/widgets", &[], 8).await;
    watching.expect_messages(&["4 opened Widget.example.com", "4 lists", "4 reset 8"]).await;
    server.serves(&[]);
    watch.answer(404, "404 page not found").await;
    watching.expect_messages(&["4 interrupted", "4 closed"]).await;
    watching.stop().await;
}

/// A Pod that matched the selectors when an earlier run stopped.
fn selected_pod(name: &str) -> ObjectRef {
    let (kind, uid) = (GroupKind::of("v1", "Pod"), Uid::new(&format!("uid-{name}")));
    ObjectRef { kind, namespace: Some("shop".into()), name: name.into(), uid }
}

#[tokio::test]
async fn relist_after_a_restart_reports_exits_of_objects_selected_before_it() {
    for resource_version in [7, 0] {
        let mut server = ScriptedApiServer::start(&[POD]).await;
        let mut selected = kind("", "Pod");
        selected.label_selector = Some("a=b".into());
        let mut resume = of_pods(4, None, Some("labelSelector=a%3Db"));
        resume.resource_version = resource_version;
        resume.selected = ["left", "deleted", "recreated", "stays"].map(selected_pod).to_vec();
        let mut watching = Watching::start_resuming(&server, vec![selected], vec![resume]);
        watching.expect_messages(&["4 opened Pod"]).await;
        if resource_version != 0 {
            let watch = server.request(PODS).await;
            watch.refuse(410, "too old resource version: 7 (99)").await;
        }
        server.request(PODS).await.list(&[object("stays", 5)], 99).await;
        // Sorted by name; an object with another UID is another object.
        let pod = |name| format!("/api/v1/namespaces/shop/pods/{name}");
        server.request(&pod("deleted")).await.refuse(404, "not found").await;
        server.request(&pod("left")).await.answer(200, &object("left", 80).to_string()).await;
        let mut recreated = object("recreated", 80);
        recreated["metadata"]["uid"] = "another".into();
        server.request(&pod("recreated")).await.answer(200, &recreated.to_string()).await;
        watching.expect_messages(&["4 lists", "4 listed stays@5"]).await;
        watching.expect_messages(&["4 left selector uid-left@99", "4 reset 99"]).await;
        watching.stop().await;
    }
}

#[tokio::test]
async fn exit_after_a_restart_of_an_object_selected_before_it_is_no_deletion() {
    let mut server = ScriptedApiServer::start(&[POD]).await;
    let mut selected = kind("", "Pod");
    selected.label_selector = Some("a=b".into());
    let mut resume = of_pods(4, None, Some("labelSelector=a%3Db"));
    resume.selected = vec![selected_pod("left")];
    let mut watching = Watching::start_resuming(&server, vec![selected], vec![resume]);
    let mut lines = server.request(PODS).await.stream().await;
    lines.send_event("DELETED", &object("left", 8)).await;
    let read = server.request("/api/v1/namespaces/shop/pods/left").await;
    read.answer(200, &object("left", 8).to_string()).await;
    watching.expect_messages(&["4 opened Pod", "4 resumed", "4 left selector uid-left@8"]).await;
    watching.stop().await;
}
