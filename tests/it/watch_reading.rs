//! Claims about unusual lines and objects, selectors, and kinds that are installed later.

use std::sync::{Arc, Mutex};

use serde_json::json;
use spanlink::{
    config::settings::Settings,
    trace::model::observation::WatchEvent,
    watch::recording::{Recording, RecordingWriter, Tap},
};

use crate::{
    scenarios::configured,
    scripted_api_server::{DEPLOYMENT, Kind, POD, ScriptedApiServer, WIDGET},
    watch_support::{Watching, kind, object},
};

const PODS: &str = "/api/v1/pods";

#[tokio::test]
async fn strange_lines_are_counted_and_the_next_is_read() {
    let mut server = ScriptedApiServer::start(&[POD]).await;
    let mut watching = Watching::start(&server, vec![kind("", "Pod")]);
    let mut lines = server.list(PODS, &[], 7).await.stream().await;
    lines.bytes(b"nonsense\n{\"type\":\"ADDED\",\"object\":{\"metadata\":{}}}\n").await;
    let half = vec![b'x'; 5 << 20];
    lines.bytes(&half).await;
    lines.bytes(&half).await;
    lines.bytes(b"\n").await;
    lines.send_event("ADDED", &object("a", 8)).await;
    watching.expect_messages(&["0 opened Pod", "0 lists", "0 reset 7", "0 applied a@8"]).await;
    assert_eq!(watching.metrics.undecodable_objects.with_label_values(&["Pod"]).get(), 3);
    watching.stop().await;
}

#[tokio::test]
async fn hostile_objects_harm_only_themselves() {
    let mut server = ScriptedApiServer::start(&[POD]).await;
    let mut watching = Watching::start(&server, vec![kind("", "Pod")]);
    let mut lines = server.list(PODS, &[], 7).await.stream().await;
    let hostile = [
        json!({"metadata": {"annotations": {"tracing.k8s.io/traceparent": "x".repeat(262_144)}}}),
        json!({"metadata": {"annotations": {"tracing.k8s.io/traceparent": "\0ff-\u{ff10}"}}}),
        json!({"status": {"observedGeneration": "one", "conditions": {"type": "Ready"}}}),
        json!({"status": {"conditions": [1, null, "x", {"type": "Ready"}, {"type": "Ready"},
            {"type": "Ready", "lastTransitionTime": "2026-99-99T99:99:99Z"}]}}),
        json!({"spec": {"blob": "x".repeat(1_500_000)}}),
        json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "h5",
            "uid": "uid-h5", "controller": true}]}}),
        json!({"metadata": {"creationTimestamp": "1970-01-01T00:00:00Z"}}),
    ];
    for (at, changes) in (0_u64..).zip(&hostile) {
        let mut object = object(&format!("h{at}"), 8 + at);
        for part in ["metadata", "spec", "status"] {
            if let Some(changes) = changes[part].as_object() {
                object[part].as_object_mut().unwrap().extend(changes.clone());
            }
        }
        lines.send_event("ADDED", &object).await;
    }
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let text = object("deep", 50).to_string().replace("{\"replicas\":1}", &deep);
    lines.bytes(format!("{{\"type\":\"ADDED\",\"object\":{text}}}\n").as_bytes()).await;
    let broken = object("broken", 51).to_string().into_bytes();
    let broken: Vec<u8> = broken.into_iter().map(|b| if b == b'R' { 0xff } else { b }).collect();
    lines.bytes(&[b"{\"type\":\"ADDED\",\"object\":", &broken[..], b"}\n"].concat()).await;
    lines.send_event("MODIFIED", &object("h0", 3)).await;
    lines.send_event("ADDED", &object("healthy", 60)).await;
    watching.expect_messages(&["0 opened Pod", "0 lists", "0 reset 7"]).await;
    for (at, _) in (0_u64..).zip(&hostile) {
        watching.expect_messages(&[&format!("0 applied h{at}@{}", 8 + at)]).await;
    }
    watching.expect_messages(&["0 applied deep@50", "0 applied broken@51"]).await;
    watching.expect_messages(&["0 applied h0@3", "0 applied healthy@60"]).await;
    assert_eq!(watching.metrics.undecodable_objects.with_label_values(&["Pod"]).get(), 0);
    watching.stop().await;
}

#[tokio::test]
async fn object_that_leaves_the_selector_is_not_deleted() {
    let mut server = ScriptedApiServer::start(&[POD]).await;
    let mut selected = kind("", "Pod");
    selected.label_selector = Some("a=b,c in (d)".into());
    let mut watching = Watching::start(&server, vec![selected]);
    let objects = [object("a", 5), object("b", 5), object("c", 5), object("d", 5)];
    let watch = server.list(PODS, &objects, 7).await;
    assert!(watch.query.ends_with("&labelSelector=a%3Db%2Cc%20in%20%28d%29"), "{}", watch.query);
    let mut lines = watch.stream().await;
    let pod = |name| format!("/api/v1/namespaces/shop/pods/{name}");
    lines.send_event("DELETED", &object("a", 8)).await;
    server.request(&pod("a")).await.answer(200, &object("a", 8).to_string()).await;
    lines.send_event("DELETED", &object("b", 9)).await;
    server.request(&pod("b")).await.refuse(404, "not found").await;
    lines.send_event("DELETED", &object("c", 10)).await;
    let mut another = object("c", 11);
    another["metadata"]["uid"] = json!("another");
    server.request(&pod("c")).await.answer(200, &another.to_string()).await;
    lines.send_event("DELETED", &object("d", 11)).await;
    drop(server.request(&pod("d")).await);
    lines.send_event("ADDED", &object("a", 12)).await;
    watching
        .expect_messages(&[
            "0 opened Pod",
            "0 lists",
            "0 listed a@5",
            "0 listed b@5",
            "0 listed c@5",
        ])
        .await;
    watching.expect_messages(&["0 listed d@5", "0 reset 7"]).await;
    watching.expect_messages(&["0 left selector uid-a@8"]).await;
    watching.expect_messages(&["0 deleted b@9", "0 deleted c@10", "0 deleted d@11"]).await;
    watching.expect_messages(&["0 applied a@12"]).await;
    watching.stop().await;
}

#[tokio::test]
async fn unknown_built_in_kind_is_refused_with_the_nearest_kind() {
    let server = ScriptedApiServer::start(&[POD, DEPLOYMENT]).await;
    for (group, wrong, right) in
        [("apps", "Deploymnet", "Deployment.apps"), ("", "Deployment", "Deployment.apps")]
    {
        let watching = Watching::start(&server, vec![kind(group, wrong)]);
        let error = watching.task.await.unwrap().unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.ends_with(&format!("did you mean {right}?")), "{source}");
    }
}

#[tokio::test]
async fn kinds_of_a_group_are_watched_when_they_are_installed_and_each_only_once() {
    const GADGET: Kind = Kind { name: "Gadget", plural: "gadgets", ..WIDGET };
    const REPORT: Kind = Kind { name: "Report", plural: "reports", verbs: &["create"], ..WIDGET };
    let mut server = ScriptedApiServer::start(&[POD]).await;
    let kinds = vec![kind("example.com", "*"), kind("example.com", "Widget"), kind("", "Pod")];
    let mut watching = Watching::start(&server, kinds);
    watching.expect_messages(&["0 opened Pod"]).await;
    server.serves(&[POD, WIDGET, GADGET, REPORT]);
    watching.expect_messages(&["1 opened Widget.example.com", "2 opened Gadget.example.com"]).await;
    let _widgets = server.request("/apis/example.com/v1/widgets").await;
    let _gadgets = server.request("/apis/example.com/v1/gadgets").await;
    watching.stop().await;
}

#[tokio::test]
async fn recording_read_back_has_the_same_events() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("recording.jsonl");
    let file = std::fs::File::create(&path).unwrap();
    let writer = Arc::new(Mutex::new(RecordingWriter::new(file, &configured(""))));
    let tap: Tap = Arc::new(move |watch, at, line| {
        writer.lock().unwrap().write(watch, at, line).unwrap();
    });
    let mut server = ScriptedApiServer::start(&[POD]).await;
    let mut selected = kind("", "Pod");
    selected.namespaces = vec!["shop".into()];
    let mut watching = Watching::start_tapped(&server, vec![selected], Some(tap));
    let mut secretive = object("a", 5);
    let last_applied = json!({"kubectl.kubernetes.io/last-applied-configuration": "canary"});
    secretive["metadata"]["annotations"] = last_applied.clone();
    secretive["spec"]["template"] = json!({"metadata": {"annotations": last_applied},
        "spec": {"containers": [{"name": "c", "env": [{"name": "PASSWORD", "value": "canary"}]}]}});
    let watch = server.list("/api/v1/namespaces/shop/pods", &[secretive], 7).await;
    let mut lines = watch.stream().await;
    lines.send_event("MODIFIED", &object("a", 8)).await;
    let mut finished = object("a", 9);
    finished["status"] = json!({"phase": "Succeeded"});
    lines.send_event("MODIFIED", &finished).await;
    lines.bookmark(10).await;
    lines.send_event("DELETED", &object("a", 11)).await;
    watching
        .expect_messages(&[
            "0 opened Pod of shop",
            "0 lists",
            "0 listed a@5",
            "0 reset 7",
            "0 applied a@8",
        ])
        .await;
    watching.expect_messages(&["0 applied a@9 (status)", "0 bookmark 10", "0 deleted a@11"]).await;
    watching.stop().await;

    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("canary"), "{text}");
    let recording = Recording::open(&path).unwrap();
    let (name, watch) = recording.watches().next().unwrap();
    assert_eq!((name, watch.watched.kind.to_string().as_str()), ("shop/pods", "Pod"));
    let mut played = Vec::new();
    let settings = Arc::new(Settings::load(None, []).unwrap().watch);
    recording
        .play(&settings, |_, event| played.push(event), |line, error| panic!("{line}: {error}"))
        .unwrap();
    let [WatchEvent::ListItem(_), WatchEvent::ListCompleted { resource_version: 7, .. }, rest @ ..] =
        &played[..]
    else {
        panic!("{played:?}")
    };
    let [WatchEvent::Applied(b), WatchEvent::Applied(c), rest @ ..] = rest else {
        panic!("{rest:?}")
    };
    assert!(b.body.is_some() && c.body.is_none());
    assert_eq!(c.status.phase.as_deref(), Some("Succeeded"));
    assert!(matches!(
        rest,
        [WatchEvent::Bookmark { resource_version: 10, .. }, WatchEvent::Deleted(_)]
    ));
}
