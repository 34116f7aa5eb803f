//! Kubernetes Events are watched where configuration asks for them, once, and by either API.

use std::{
    collections::BTreeSet,
    fs,
    sync::{Arc, Mutex},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use spanlink::{
    config::settings::KindSettings,
    watch::recording::{RecordingWriter, Tap},
};

use crate::{
    control_plane::{Account, ControlPlane, Jaeger, shared, until},
    daemon::Daemon,
    kubernetes_events::{event, span_events},
    live::{SOON, beside, deployment, is_phase, stamp, tag},
    recorder::Recorder,
    scenarios::configured,
    scripted_api_server::{DEPLOYMENT, EVENT, Kind, NODE, POD, ScriptedApiServer, WIDGET},
    scripted_receiver::Receiver,
    watch_support::{Watching, kind, object as watched},
    written::merged,
};

fn with_events(settings: KindSettings) -> KindSettings {
    KindSettings { events: true, ..settings }
}

const PODS: &str = "/api/v1/pods";
const EVENTS: &str = "/apis/events.k8s.io/v1/events";

fn of_pod(name: &str, version: u64) -> Value {
    let about = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name,
        "uid": format!("uid-{name}")}});
    event("Scheduled", &about, &json!({"metadata": {"resourceVersion": version.to_string()}}))
}

#[tokio::test]
async fn kubernetes_events_are_watched_once_for_all_kinds_and_their_updates_are_read() {
    let mut server = ScriptedApiServer::start(&[POD, DEPLOYMENT, EVENT]).await;
    let mut deployments = with_events(kind("apps", "Deployment"));
    deployments.namespaces = vec!["shop".into()];
    let kinds = vec![with_events(kind("", "Pod")), deployments];
    let mut watching = Watching::start(&server, kinds);
    watching.expect_messages(&["0 opened Pod", "1 opened Deployment.apps of shop"]).await;
    watching.expect_messages(&["2 opened Event.events.k8s.io"]).await;
    let mut about_deployment = of_pod("web", 6);
    about_deployment["regarding"]["kind"] = json!("ReplicaSet");
    let mut lines =
        server.list(EVENTS, &[of_pod("a", 5), about_deployment], 7).await.stream().await;
    lines.send_event("MODIFIED", &merged(&of_pod("a", 8), &json!({"deprecatedCount": 3}))).await;
    lines.send_event("DELETED", &of_pod("a", 9)).await;
    lines.bookmark(10).await;
    let messages = [
        "2 lists",
        "2 Scheduled of uid-a x1",
        "2 reset 7",
        "2 Scheduled of uid-a x3",
        "2 bookmark 10",
    ];
    watching.expect_messages(&messages).await;
    // The watch resumes after the last event of any type.
    lines.end().await;
    let resumed = server.request(EVENTS).await;
    assert!(resumed.watches_from(10), "{}", resumed.query);
    watching.stop().await;
}

#[tokio::test]
async fn kubernetes_events_are_watched_in_configured_namespaces_only() {
    let mut server = ScriptedApiServer::start(&[POD, DEPLOYMENT, EVENT]).await;
    let in_namespaces = |settings: KindSettings, of: &[&str]| KindSettings {
        namespaces: of.iter().map(|name| (*name).to_owned()).collect(),
        ..settings
    };
    let kinds = vec![
        in_namespaces(with_events(kind("", "Pod")), &["pay", "shop"]),
        in_namespaces(with_events(kind("apps", "Deployment")), &["shop"]),
    ];
    let mut watching = Watching::start(&server, kinds);
    let messages = watching.until(|message| message.ends_with("Event.events.k8s.io of shop")).await;
    let events: Vec<_> = messages.iter().filter(|message| message.contains("Event")).collect();
    assert_eq!(
        events,
        ["3 opened Event.events.k8s.io of pay", "4 opened Event.events.k8s.io of shop"]
    );
    server.request("/apis/events.k8s.io/v1/namespaces/pay/events").await;
    watching.stop().await;
}

#[tokio::test]
async fn kinds_installed_later_open_no_second_watch_of_kubernetes_events() {
    let mut server = ScriptedApiServer::start(&[POD, EVENT]).await;
    let kinds = vec![with_events(kind("", "Pod")), with_events(kind("example.com", "*"))];
    let mut watching = Watching::start(&server, kinds);
    watching.expect_messages(&["0 opened Pod", "1 opened Event.events.k8s.io"]).await;
    server.serves(&[POD, EVENT, WIDGET]);
    watching.expect_messages(&["2 opened Widget.example.com"]).await;
    server.request("/apis/example.com/v1/widgets").await;
    watching.stop().await;
}

#[tokio::test]
async fn kubernetes_events_about_cluster_scoped_kinds_are_watched_in_the_default_namespace() {
    let mut server = ScriptedApiServer::start(&[NODE, POD, EVENT]).await;
    let mut watching =
        Watching::start(&server, vec![with_events(kind("", "Node")), kind("", "Pod")]);
    watching.expect_messages(&["0 opened Node", "1 opened Pod"]).await;
    watching.expect_messages(&["2 opened Event.events.k8s.io of default"]).await;
    server.request("/apis/events.k8s.io/v1/namespaces/default/events").await;
    watching.stop().await;
}

#[tokio::test]
async fn core_api_is_watched_where_events_k8s_io_is_not_served() {
    let mut server = ScriptedApiServer::start(&[POD, Kind { group: "", ..EVENT }]).await;
    let mut watching = Watching::start(&server, vec![with_events(kind("", "Pod"))]);
    watching.expect_messages(&["0 opened Pod", "1 opened Event"]).await;
    server.request("/api/v1/events").await;
    watching.stop().await;
}

#[tokio::test]
async fn without_the_events_option_no_kubernetes_event_is_watched() {
    let mut server = ScriptedApiServer::start(&[POD, EVENT]).await;
    let mut watching = Watching::start(&server, vec![kind("", "Pod")]);
    watching.expect_messages(&["0 opened Pod"]).await;
    let mut lines = server.list(PODS, &[], 7).await.stream().await;
    lines.bookmark(8).await;
    watching.expect_messages(&["0 lists", "0 reset 7", "0 bookmark 8"]).await;
    watching.stop().await;
}

#[tokio::test]
async fn forbidden_watch_of_kubernetes_events_does_not_affect_other_kinds() {
    let mut server = ScriptedApiServer::start(&[POD, EVENT]).await;
    let mut watching = Watching::start(&server, vec![with_events(kind("", "Pod"))]);
    watching.expect_messages(&["0 opened Pod", "1 opened Event.events.k8s.io"]).await;
    let mut lines = server.list(PODS, &[watched("a", 5)], 7).await.stream().await;
    watching.expect_messages(&["0 lists", "0 listed a@5", "0 reset 7"]).await;
    // A streaming list and a paged list, as for other kinds.
    server.request(EVENTS).await.refuse(403, "events is forbidden").await;
    server.request(EVENTS).await.refuse(403, "events is forbidden").await;
    watching.expect_messages(&["1 interrupted"]).await;
    lines.send_event("ADDED", &watched("b", 8)).await;
    watching.expect_messages(&["0 applied b@8"]).await;
    server.list(EVENTS, &[of_pod("b", 9)], 9).await;
    watching.expect_messages(&["1 lists", "1 Scheduled of uid-b x1", "1 reset 9"]).await;
    watching.stop().await;
}

#[tokio::test]
async fn recording_has_only_kubernetes_events_about_configured_kinds() {
    let mut server = ScriptedApiServer::start(&[POD, DEPLOYMENT, EVENT]).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let writer = RecordingWriter::new(file.reopen().unwrap(), &configured(""));
    let writer = Arc::new(Mutex::new(writer));
    let tap: Tap = Arc::new(move |watch, at, line| {
        writer.lock().unwrap().write(watch, at, line).unwrap();
    });
    let kinds = vec![with_events(kind("", "Pod")), kind("apps", "Deployment")];
    let mut watching = Watching::start_tapped(&server, kinds, Some(tap));
    let mut other = of_pod("web", 6);
    other["regarding"]["kind"] = json!("Deployment");
    other["regarding"]["apiVersion"] = json!("apps/v1");
    other["note"] = json!("not configured");
    let listed = [of_pod("a", 5), other.clone()];
    let mut lines = server.list(EVENTS, &listed, 7).await.stream().await;
    lines.send_event("ADDED", &other).await;
    lines.send_event("DELETED", &of_pod("b", 8)).await;
    lines.send_event("MODIFIED", &of_pod("a", 9)).await;
    watching.until(|message| message == "2 reset 7").await;
    watching.until(|message| message == "2 Scheduled of uid-a x1").await;
    watching.stop().await;
    let text = fs::read_to_string(file.path()).unwrap();
    let kinds: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|line| json!([line["watch"], line["type"]]))
        .collect();
    let name = "events.events.k8s.io";
    assert_eq!(
        kinds,
        [json!([name, "LISTED"]), json!([name, "LIST_END"]), json!([name, "MODIFIED"])]
    );
    assert!(!text.contains("not configured"), "{text}");
}

/// The Kubernetes Events in Jaeger about the objects of a namespace: span name, reason, component.
async fn events_in_jaeger(jaeger: &Jaeger, namespace: &str) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for service in ["deployment-controller", "replicaset-controller", "pod-lifecycle"] {
        for trace in jaeger.find(service, &[("k8s.namespace.name", namespace)]).await? {
            for span in trace["spans"].as_array().context("no spans")? {
                let name = span["operationName"].as_str().unwrap_or_default();
                assert!(!name.ends_with(" Event"), "{span:#}");
                for log in span["logs"].as_array().into_iter().flatten() {
                    let of = |key: &str| tag(&json!({ "tags": log["fields"] }), key);
                    if of("event") == "event" && !is_phase(span) {
                        let (reason, by) = (of("reason"), of("component"));
                        found.insert(format!("{name}: {reason} by {by}"));
                    }
                }
            }
        }
    }
    Ok(found)
}

/// The rule for Kubernetes Events, from the comment in the shipped manifest.
fn shipped_rule() -> Result<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/rbac.yaml");
    let text = fs::read_to_string(path)?;
    let mut rules = text.lines().filter_map(|line| line.strip_prefix("#   - "));
    let rule = rules.find(|rule| rule.contains("events")).context("no rule for events")?;
    Ok(serde_saphyr::from_str(rule)?)
}

/// Grants a rule in a namespace to the account that has no other permission.
async fn allow(plane: &ControlPlane, namespace: &str, name: &str, what: &Value) -> Result<()> {
    let metadata = json!({ "name": name, "namespace": namespace });
    let group = "rbac.authorization.k8s.io";
    let version = format!("{group}/v1");
    let role = json!({
        "apiVersion": version, "kind": "Role", "metadata": metadata, "rules": [what],
    });
    let binding = json!({
        "apiVersion": version, "kind": "RoleBinding", "metadata": metadata,
        "roleRef": { "apiGroup": group, "kind": "Role", "name": name },
        "subjects": [{ "apiGroup": group, "kind": "User", "name": "nobody" }],
    });
    plane.apply(&role.to_string()).await?;
    plane.apply(&binding.to_string()).await?;
    Ok(())
}

#[tokio::test]
async fn daemon_works_without_rbac_for_kubernetes_events_and_reads_them_once_it_is_granted()
-> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("forbidden").await?;
    let pods = json!({ "apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"] });
    allow(plane, &namespace, "pods", &pods).await?;
    // The API server applies the permission after a moment.
    until("the permission to apply", SOON, async || {
        let may = ["auth", "can-i", "watch", "pods", "-n", &*namespace, "--as=nobody"];
        plane.kubectl(&may).await
    })
    .await?;
    let receiver = Receiver::grpc([], None).await;
    let otlp = format!("http://{}", receiver.address);
    let configuration =
        format!("watch: [{{kind: Pod, namespaces: [{namespace}], events: true}}]\n");
    let daemon = Daemon::start(&plane.kubeconfig(&Account::Unprivileged), &otlp, &configuration)?;
    let reaches = async |metric: &str, least: f64| {
        until(metric, SOON, async || {
            let value = daemon.metric(metric).await?;
            ensure!(value >= least, "{value}; its log: {}", daemon.log());
            Ok(())
        })
        .await
    };
    reaches("spanlink_watch_synced{kind=\"Pod\"}", 1.0).await?;
    reaches("spanlink_watch_failures_total{kind=\"Event.events.k8s.io\",reason=\"403\"}", 2.0)
        .await?;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p", "namespace": namespace },
        "spec": { "containers": [{ "name": "web", "image": "web:1" }] },
    });
    plane.apply(&pod.to_string()).await?;
    let converged = "spanlink_convergences_closed_total{outcome=\"converged\"}";
    reaches(converged, 1.0).await?;
    let log = daemon.log();
    let warnings = log.lines().filter(|line| line.contains("Watch forbidden")).count();
    assert_eq!(warnings, 1, "{log}");
    assert!(log.contains("Event.events.k8s.io"), "{log}");

    allow(plane, &namespace, "events", &shipped_rule()?).await?;
    daemon.ready().await
}

#[tokio::test]
async fn rollout_in_jaeger_has_the_kubernetes_events_of_controllers_and_scheduler() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("kubernetes-events").await?;
    let kinds = ["Deployment.apps", "ReplicaSet.apps", "Pod"];
    let entry = |kind| format!("  - {{kind: {kind}, namespaces: [{namespace}], events: true}}\n");
    let configuration = format!("watch:\n{}", kinds.map(entry).concat());
    let daemon = beside(plane, &configuration).await?;
    let synced = daemon.metric("spanlink_watch_synced{kind=\"Event.events.k8s.io\"}").await?;
    assert!((synced - 1.0).abs() < f64::EPSILON, "ready before Events were listed: {synced}");
    let recorder = Recorder::begin_with(plane, &namespace, &kinds, &configuration).await?;
    plane.apply(&deployment(&namespace, &stamp(), 2, &json!({}))).await?;
    let expected = [
        "create Pod: Scheduled by default-scheduler",
        "create ReplicaSet: SuccessfulCreate by replicaset-controller",
        "reconcile Deployment: ScalingReplicaSet by deployment-controller",
    ];
    let jaeger = plane.jaeger()?;
    until("the Kubernetes Events", SOON, async || {
        let found = events_in_jaeger(&jaeger, &namespace).await?;
        ensure!(expected.iter().all(|one| found.contains(*one)), "{found:#?}");
        Ok(())
    })
    .await?;
    // The recording has them too, and a replay reports them.
    until("the Kubernetes Events to be recorded", SOON, async || {
        let text = span_events(&recorder.spans());
        for reason in ["Scheduled", "SuccessfulCreate", "ScalingReplicaSet"] {
            ensure!(text.contains(reason), "{text}");
        }
        Ok(())
    })
    .await
}
