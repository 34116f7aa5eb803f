//! Kubernetes' Events are told with the change they are about, and change nothing else.

use std::{
    collections::BTreeSet,
    fs,
    sync::{Arc, Mutex},
};

use anyhow::{Context as _, Result, ensure};
use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Value, json};
use spanlink::{
    config::settings::KindSettings,
    daemon::rules,
    replay::{Take, replay},
    trace::{
        model::span::Span,
        rules::Rules,
        spans::output::{Output, TraceMetric},
    },
    watch::recording::{RecordingWriter, Tap},
};

use crate::{
    control_plane::{Account, ControlPlane, Jaeger, shared, until},
    daemon::Daemon,
    live::{SOON, beside, deployment, is_phase, stamp, tag},
    recorder::Recorder,
    scenarios::{configured, replayed, scenarios, settings},
    scripted_api_server::{DEPLOYMENT, EVENT, Kind, NODE, POD, ScriptedApiServer, WIDGET},
    scripted_receiver::Receiver,
    told,
    watch_support::{Watching, kind, object as watched},
    written::{History, current, merged, object},
};

/// As events.k8s.io/v1 has it.
fn event(name: &str, about: &Value, changes: &Value) -> Value {
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"name": name, "namespace": "shop", "uid": name},
        "regarding": {
            "apiVersion": about["apiVersion"], "kind": about["kind"],
            "name": about["metadata"]["name"], "uid": about["metadata"]["uid"],
        },
        "reason": name, "note": format!("{name} it."), "type": "Normal",
        "reportingController": "widget-controller", "eventTime": null,
        "deprecatedFirstTimestamp": "2026-11-24T10:00:00Z",
        "deprecatedLastTimestamp": "2026-11-24T10:00:00Z", "deprecatedCount": 1,
    });
    merged(&event, changes)
}

/// Said that many seconds after the first change.
fn said(name: &str, about: &Value, second: u32) -> Value {
    let time = format!("2026-11-24T10:00:{second:02}Z");
    let times = json!({"deprecatedFirstTimestamp": time, "deprecatedLastTimestamp": time});
    event(name, about, &times)
}

/// What each span has of Events.
fn remarks(spans: &[Span]) -> String {
    let mut text = String::new();
    for span in spans {
        for event in span.events.iter().filter(|event| event.name == "event") {
            let of = |key: &str| told::find(&event.attributes, key).unwrap_or_default();
            let after = event.at.since(span.start).as_secs_f64();
            let line = format!(
                "{} {}: {} {} x{} after {after:.1}s by {} {}: {}",
                span.name,
                span.object.name,
                of("type"),
                of("reason"),
                of("count"),
                of("component"),
                of("container"),
                of("message"),
            );
            text.extend([line.replace(" :", ":").as_str(), "\n"]);
        }
    }
    text
}

fn has_remarks(history: &History, configuration: &str, expected: &Expect) {
    let spans = history.spans(&rules(&settings(configuration)), configuration);
    assert!(spans.iter().all(|span| &*span.object.kind.kind != "Event"), "{spans:#?}");
    expected.assert_eq(&remarks(&spans));
}

#[test]
fn an_event_is_one_span_event_however_often_it_is_counted_up() {
    let widget = object("Widget", "w");
    let series = |count: i64, second: u32| {
        let time = format!("2026-11-24T10:00:{second:02}.000000Z");
        json!({"series": {"count": count, "lastObservedTime": time}})
    };
    let counted = json!({
        "deprecatedCount": 4, "deprecatedLastTimestamp": "2026-11-24T10:00:04Z",
        "note": "Fourth time.",
    });
    let waits = event("Waits", &widget, &json!({"type": "Warning"}));
    let of_container = json!({"regarding": {"fieldPath": "spec.containers{web}"}});
    let history = History::default()
        .added(&widget)
        .added(&event("Made", &widget, &of_container))
        .added(&waits)
        .added(&event("Tries", &widget, &json!({})))
        .later(2)
        .modified(&event("Tries", &widget, &json!({})), &series(2, 2))
        .later(2)
        .modified(&waits, &counted)
        .modified(&event("Tries", &widget, &json!({})), &series(7, 4))
        // They are kept for an hour; that they go says nothing.
        .deleted(&waits)
        .modified(&widget, &current(1));
    has_remarks(
        &history,
        "",
        &expect![[r#"
        reconcile Widget w: Normal Made x1 after 0.1s by widget-controller web: Made it.
        reconcile Widget w: Warning Waits x4 after 0.2s by widget-controller: Fourth time.
        reconcile Widget w: Normal Tries x7 after 0.3s by widget-controller: Tries it.
    "#]],
    );
}

#[test]
fn the_older_api_says_the_same() {
    let widget = object("Widget", "w");
    let old = json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": "e", "namespace": "shop", "uid": "e"},
        "involvedObject": {
            "apiVersion": "example.com/v1", "kind": "Widget", "name": "w", "uid": "Widget-w",
        },
        "reason": "Made", "message": "Made it.", "type": "Normal", "count": 1,
        "source": {"component": "widget-controller"},
        "firstTimestamp": "2026-11-24T10:00:00Z", "lastTimestamp": "2026-11-24T10:00:00Z",
    });
    let history = History::default().added(&widget).added(&old).modified(&widget, &current(1));
    has_remarks(
        &history,
        "",
        &expect![[r#"
        reconcile Widget w: Normal Made x1 after 0.1s by widget-controller: Made it.
    "#]],
    );
}

#[test]
fn an_event_that_comes_before_two_changes_is_told_with_one_of_them() {
    let widget = object("Widget", "w");
    let other = object("Widget", "other");
    let second = json!({"metadata": {"generation": 2}, "spec": {"size": 2}});
    let history = History::default()
        .added(&other)
        .say("MODIFIED", &other)
        .added(&event("Made", &widget, &json!({})))
        .late("ADDED", &widget, 1)
        .late("MODIFIED", &merged(&widget, &second), 2);
    let spans = history.spans(&Rules::default(), "");
    assert_eq!(remarks(&spans).lines().count(), 1, "{}", remarks(&spans));
}

#[test]
fn what_is_said_after_a_note_is_told_with_the_change_that_is_waited_for() {
    let widget = object("Widget", "w");
    let note = json!({"metadata": {"annotations": {"note": "1"}}});
    let history = History::default()
        .added(&widget)
        .later(1)
        .modified(&widget, &note)
        .later(1)
        .added(&said("Made", &widget, 2));
    has_remarks(
        &history,
        "watch: [{kind: Widget.example.com, events: true, include_annotations: [note]}]",
        &expect![[r#"
            reconcile Widget w: Normal Made x1 after 2.2s by widget-controller: Made it.
        "#]],
    );
}

#[test]
fn what_was_said_before_the_change_is_not_told_and_not_counted() {
    let widget = object("Widget", "w");
    let grown = merged(&widget, &current(1));
    let grown = merged(&grown, &json!({"metadata": {"generation": 2}, "spec": {"size": 2}}));
    let early = event("Early", &widget, &json!({"deprecatedCount": 5}));
    let again = json!({"deprecatedCount": 7, "deprecatedLastTimestamp": "2026-11-24T10:00:31Z"});
    let history = History::default()
        .listed("Widget", &[&merged(&widget, &current(1))])
        .listed("Event", &[&early, &said("Old", &widget, 1)])
        .later(30)
        .say("MODIFIED", &grown)
        // A relist says it all again.
        .listed("Event", &[&early, &said("Old", &widget, 1), &said("New", &widget, 30)])
        .say("MODIFIED", &merged(&early, &again))
        .modified(&grown, &current(2));
    has_remarks(
        &history,
        "",
        &expect![[r#"
            reconcile Widget w: Normal New x1 after 0.3s by widget-controller: New it.
            reconcile Widget w: Normal Early x1 after 0.5s by widget-controller: Early it.
        "#]],
    );
}

#[test]
fn what_is_said_of_a_deletion_is_told_with_the_delete() {
    let mut pod = object("Pod", "p");
    pod["apiVersion"] = json!("v1");
    let going = json!({"metadata": {
        "generation": 2, "deletionTimestamp": "2026-11-24T10:00:11Z",
        "deletionGracePeriodSeconds": 1,
    }});
    let history = History::default()
        .added(&pod)
        .added(&said("Scheduled", &pod, 0))
        .later(10)
        .modified(&pod, &going)
        .added(&said("Killing", &pod, 10))
        .later(1)
        .deleted(&merged(&pod, &going))
        // Too late for anybody.
        .added(&said("Late", &pod, 11));
    has_remarks(
        &history,
        "",
        &expect![[r#"
        reconcile Pod p: Normal Scheduled x1 after 0.1s by widget-controller: Scheduled it.
        reconcile Pod p: Normal Killing x1 after 0.1s by widget-controller: Killing it.
    "#]],
    );
}

#[test]
fn an_event_that_comes_before_the_news_of_its_change_is_told_with_it() {
    let widget = object("Widget", "w");
    let grown = merged(&widget, &current(1));
    let grown = merged(&grown, &json!({"metadata": {"generation": 2}, "spec": {"size": 2}}));
    let history = History::default()
        .late("ADDED", &said("Made", &widget, 0), 2)
        .late("ADDED", &widget, 1)
        .modified(&widget, &current(1))
        .later(20)
        .added(&said("Ago", &widget, 19))
        .later(1)
        // Within the same second, and yet before it; after it, of another object and of this one.
        .added(&said("Just", &widget, 21))
        .late("ADDED", &said("Elsewhere", &object("Widget", "other"), 21), 999)
        .late("ADDED", &said("Grows", &widget, 21), 999)
        .say("MODIFIED", &grown)
        .modified(&grown, &current(2));
    has_remarks(
        &history,
        "",
        &expect![[r#"
            reconcile Widget w: Normal Made x1 after 0.0s by widget-controller: Made it.
            reconcile Widget w: Normal Grows x1 after 0.0s by widget-controller: Grows it.
        "#]],
    );
}

#[test]
fn what_a_relist_shows_has_what_was_said_of_it_meanwhile() {
    let widget = object("Widget", "w");
    let history = History::default()
        .listed("Widget", &[])
        .added(&said("Made", &widget, 0))
        // Its resourceVersion is that of its last write.
        .listed("Widget", &[&widget])
        .modified(&widget, &current(1));
    has_remarks(
        &history,
        "",
        &expect![[r#"
        reconcile Widget w: Normal Made x1 after 0.0s by widget-controller: Made it.
    "#]],
    );
}

#[test]
fn kinds_that_did_not_ask_for_events_have_none() {
    let (widget, gadget) = (object("Widget", "w"), object("Gadget", "g"));
    let mut history = History::default();
    for object in [&widget, &gadget] {
        let name = object["kind"].as_str().unwrap();
        history = history.added(object).added(&event(&format!("Of{name}"), object, &json!({})));
        history = history.modified(object, &current(1));
    }
    let configuration = "watch:
  - {kind: \"*.example.com\"}
  - {kind: Gadget.example.com, events: true}
";
    let spans = configured_spans(&history, configuration);
    expect![[r#"
        reconcile Gadget g: Normal OfGadget x1 after 0.1s by widget-controller: OfGadget it.
    "#]]
    .assert_eq(&remarks(&spans));
}

/// Of kinds that are configured, as `replay --config` takes them.
fn configured_spans(history: &History, configuration: &str) -> Vec<Span> {
    let file = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
    fs::write(file.path(), history.text()).unwrap();
    let settings = settings(configuration);
    let mut spans = Vec::new();
    let watch = Arc::new(settings.watch.clone());
    let each = |out: Output| spans.extend(out.spans);
    replay(file.path(), rules(&settings), &watch, Take::Configured, each).unwrap();
    spans
}

#[test]
fn a_span_has_32_events_at_most_and_its_conditions_before_any_remark() {
    let widget = object("Widget", "w");
    let mut history = History::default().added(&widget);
    for number in 0..40 {
        history = history.added(&event(&format!("Number{number}"), &widget, &json!({})));
    }
    let spans = history.modified(&widget, &current(1)).spans(&Rules::default(), "");
    let events = spans.iter().map(|span| span.events.len()).collect::<Vec<_>>();
    assert_eq!(events.iter().sum::<usize>(), 32, "{events:?}");
    assert!(spans.iter().any(|span| span.events.iter().any(|event| event.name == "condition")));
}

/// Without what Events say.
fn without_remarks(mut spans: Vec<Span>) -> Vec<Span> {
    for span in &mut spans {
        span.events.retain(|event| event.name != "event");
    }
    spans
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever Events say, and whenever: the spans are the same but for their span events, of which
    /// no Event is one twice.
    #[test]
    fn events_change_nothing_but_span_events(
        scenario in prop::sample::select(scenarios()),
        remarks in prop::collection::vec(
            (any::<prop::sample::Index>(), 0_u8..6, 1_i64..5, any::<bool>(), any::<bool>()), 1..60,
        ),
    ) {
        let text = fs::read_to_string(scenario.join("history.jsonl")).unwrap();
        let mut lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let plain = replayed(&scenario.join("history.jsonl"), &Rules::default(), &configured(""));
        // All that the watch of Events says stands at one place, or spread over the recording.
        for (place, number, count, is_old, is_listed) in remarks {
            let at = place.index(lines.len());
            let about = lines[at]["object"].clone();
            if about["metadata"]["uid"].is_null() {
                continue;
            }
            let time = lines[at]["at"].as_str().unwrap().to_owned();
            let mut event = event(&format!("Says{number}"), &about, &json!({
                "deprecatedCount": count, "deprecatedLastTimestamp": time,
                "deprecatedFirstTimestamp": time,
            }));
            event["metadata"]["resourceVersion"] = about["metadata"]["resourceVersion"].clone();
            if is_old {
                event["metadata"]["creationTimestamp"] = json!("2020-01-01T00:00:00Z");
            }
            let kind = if is_listed { "LISTED" } else { "MODIFIED" };
            let watch = "events.events.k8s.io";
            lines.insert(
                at + 1,
                json!({"at": time, "watch": watch, "type": kind, "object": event}),
            );
        }
        let text = lines.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
        let file = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
        fs::write(file.path(), text).unwrap();
        let spans = replayed(file.path(), &Rules::default(), &configured(""));
        for span in &spans {
            prop_assert!(span.events.len() <= 32);
            prop_assert!(span.events.is_sorted_by_key(|event| event.at), "{:?}", span);
            let inside = span.events.iter().all(|e| span.start <= e.at && e.at <= span.end);
            prop_assert!(inside, "{:?}", span);
            let said: Vec<_> = span.events.iter().filter(|event| event.name == "event").collect();
            let of = |event: &&spanlink::trace::model::span::SpanEvent| {
                told::find(&event.attributes, "reason")
            };
            let distinct: BTreeSet<_> = said.iter().map(of).collect();
            prop_assert_eq!(distinct.len(), said.len());
        }
        prop_assert_eq!(without_remarks(spans), plain);
    }
}

/// What is counted when a recording is played.
fn notes(text: &str) -> Vec<TraceMetric> {
    let file = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
    fs::write(file.path(), text).unwrap();
    let mut notes = Vec::new();
    let each = |out: Output| notes.extend(out.metrics);
    replay(file.path(), Rules::default(), &configured(""), Take::Everything, each).unwrap();
    notes
}

#[test]
fn nothing_waits_for_the_watch_of_events() {
    // A delete waits for all that may have gone before it, of whatever kind.
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios/namespace-deleted");
    let plain = fs::read_to_string(format!("{folder}/history.jsonl")).unwrap();
    let first: Value = serde_json::from_str(plain.lines().next().unwrap()).unwrap();
    let event = event("Says", &object("Widget", "w"), &json!({}));
    let listed = json!({
        "at": first["at"], "watch": "events.events.k8s.io", "type": "LISTED", "object": event,
    });
    let end = json!({
        "at": first["at"], "watch": "events.events.k8s.io", "type": "LIST_END",
        "resourceVersion": "1",
    });
    assert_eq!(notes(&format!("{listed}\n{end}\n{plain}")), notes(&plain));
}

fn hearing(settings: KindSettings) -> KindSettings {
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
async fn events_are_watched_once_for_all_that_ask_and_counted_up_ones_are_read() {
    let mut server = ScriptedApiServer::start(&[POD, DEPLOYMENT, EVENT]).await;
    let mut deployments = hearing(kind("apps", "Deployment"));
    deployments.namespaces = vec!["shop".into()];
    let kinds = vec![hearing(kind("", "Pod")), deployments];
    let mut watching = Watching::start(&server, kinds);
    watching.says(&["0 opened Pod", "1 opened Deployment.apps of shop"]).await;
    watching.says(&["2 opened Event.events.k8s.io"]).await;
    let mut about_deployment = of_pod("web", 6);
    about_deployment["regarding"]["kind"] = json!("ReplicaSet");
    let mut lines =
        server.list(EVENTS, &[of_pod("a", 5), about_deployment], 7).await.stream().await;
    lines.say("MODIFIED", &merged(&of_pod("a", 8), &json!({"deprecatedCount": 3}))).await;
    lines.say("DELETED", &of_pod("a", 9)).await;
    lines.bookmark(10).await;
    let said = [
        "2 lists",
        "2 Scheduled of uid-a x1",
        "2 reset 7",
        "2 Scheduled of uid-a x3",
        "2 bookmark 10",
    ];
    watching.says(&said).await;
    // It goes on from what was read last, whatever that was.
    lines.end().await;
    let again = server.request(EVENTS).await;
    assert!(again.watches_from(10), "{}", again.query);
    watching.stop().await;
}

#[tokio::test]
async fn events_are_watched_in_the_namespaces_that_ask_and_nowhere_else() {
    let mut server = ScriptedApiServer::start(&[POD, DEPLOYMENT, EVENT]).await;
    let in_namespaces = |settings: KindSettings, of: &[&str]| KindSettings {
        namespaces: of.iter().map(|name| (*name).to_owned()).collect(),
        ..settings
    };
    let kinds = vec![
        in_namespaces(hearing(kind("", "Pod")), &["pay", "shop"]),
        in_namespaces(hearing(kind("apps", "Deployment")), &["shop"]),
    ];
    let mut watching = Watching::start(&server, kinds);
    let said = watching.until(|said| said.ends_with("Event.events.k8s.io of shop")).await;
    let events: Vec<_> = said.iter().filter(|said| said.contains("Event")).collect();
    assert_eq!(
        events,
        ["3 opened Event.events.k8s.io of pay", "4 opened Event.events.k8s.io of shop"]
    );
    server.request("/apis/events.k8s.io/v1/namespaces/pay/events").await;
    watching.stop().await;
}

#[tokio::test]
async fn kinds_that_come_later_open_no_second_watch_of_events() {
    let mut server = ScriptedApiServer::start(&[POD, EVENT]).await;
    let kinds = vec![hearing(kind("", "Pod")), hearing(kind("example.com", "*"))];
    let mut watching = Watching::start(&server, kinds);
    watching.says(&["0 opened Pod", "1 opened Event.events.k8s.io"]).await;
    server.serves(&[POD, EVENT, WIDGET]);
    watching.says(&["2 opened Widget.example.com"]).await;
    server.request("/apis/example.com/v1/widgets").await;
    watching.stop().await;
}

#[tokio::test]
async fn what_is_said_of_something_outside_namespaces_stands_in_the_default_one() {
    let mut server = ScriptedApiServer::start(&[NODE, POD, EVENT]).await;
    let mut watching = Watching::start(&server, vec![hearing(kind("", "Node")), kind("", "Pod")]);
    watching.says(&["0 opened Node", "1 opened Pod"]).await;
    watching.says(&["2 opened Event.events.k8s.io of default"]).await;
    server.request("/apis/events.k8s.io/v1/namespaces/default/events").await;
    watching.stop().await;
}

#[tokio::test]
async fn where_only_the_older_api_is_served_events_are_read_by_that() {
    let mut server = ScriptedApiServer::start(&[POD, Kind { group: "", ..EVENT }]).await;
    let mut watching = Watching::start(&server, vec![hearing(kind("", "Pod"))]);
    watching.says(&["0 opened Pod", "1 opened Event"]).await;
    server.request("/api/v1/events").await;
    watching.stop().await;
}

#[tokio::test]
async fn where_nobody_asks_no_event_is_watched() {
    let mut server = ScriptedApiServer::start(&[POD, EVENT]).await;
    let mut watching = Watching::start(&server, vec![kind("", "Pod")]);
    watching.says(&["0 opened Pod"]).await;
    let mut lines = server.list(PODS, &[], 7).await.stream().await;
    lines.bookmark(8).await;
    watching.says(&["0 lists", "0 reset 7", "0 bookmark 8"]).await;
    watching.stop().await;
}

#[tokio::test]
async fn events_that_may_not_be_read_harm_no_other_kind() {
    let mut server = ScriptedApiServer::start(&[POD, EVENT]).await;
    let mut watching = Watching::start(&server, vec![hearing(kind("", "Pod"))]);
    watching.says(&["0 opened Pod", "1 opened Event.events.k8s.io"]).await;
    let mut lines = server.list(PODS, &[watched("a", 5)], 7).await.stream().await;
    watching.says(&["0 lists", "0 listed a@5", "0 reset 7"]).await;
    // Asked both ways, as for other kinds.
    server.request(EVENTS).await.refuse(403, "events is forbidden").await;
    server.request(EVENTS).await.refuse(403, "events is forbidden").await;
    watching.says(&["1 interrupted"]).await;
    lines.say("ADDED", &watched("b", 8)).await;
    watching.says(&["0 applied b@8"]).await;
    server.list(EVENTS, &[of_pod("b", 9)], 9).await;
    watching.says(&["1 lists", "1 Scheduled of uid-b x1", "1 reset 9"]).await;
    watching.stop().await;
}

#[tokio::test]
async fn what_is_said_of_kinds_that_ask_is_recorded_and_nothing_else() {
    let mut server = ScriptedApiServer::start(&[POD, DEPLOYMENT, EVENT]).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let writer = RecordingWriter::new(file.reopen().unwrap(), &configured(""));
    let writer = Arc::new(Mutex::new(writer));
    let tap: Tap = Arc::new(move |watch, at, line| {
        writer.lock().unwrap().write(watch, at, line).unwrap();
    });
    let kinds = vec![hearing(kind("", "Pod")), kind("apps", "Deployment")];
    let mut watching = Watching::start_tapped(&server, kinds, Some(tap));
    let mut other = of_pod("web", 6);
    other["regarding"]["kind"] = json!("Deployment");
    other["regarding"]["apiVersion"] = json!("apps/v1");
    other["note"] = json!("not asked for");
    let listed = [of_pod("a", 5), other.clone()];
    let mut lines = server.list(EVENTS, &listed, 7).await.stream().await;
    lines.say("ADDED", &other).await;
    lines.say("DELETED", &of_pod("b", 8)).await;
    lines.say("MODIFIED", &of_pod("a", 9)).await;
    watching.until(|said| said == "2 reset 7").await;
    watching.until(|said| said == "2 Scheduled of uid-a x1").await;
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
    assert!(!text.contains("not asked for"), "{text}");
}

/// What Events say of a namespace's objects in Jaeger: name of the span, reason and who said so.
async fn remarked(jaeger: &Jaeger, namespace: &str) -> Result<BTreeSet<String>> {
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

/// As the comment in the shipped manifest has it.
fn shipped_rule() -> Result<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/rbac.yaml");
    let text = fs::read_to_string(path)?;
    let mut rules = text.lines().filter_map(|line| line.strip_prefix("#   - "));
    let rule = rules.find(|rule| rule.contains("events")).context("no rule for events")?;
    Ok(serde_saphyr::from_str(rule)?)
}

/// What a test's account that has no other right may do in a namespace.
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
async fn without_the_rule_for_events_all_else_goes_on_and_with_it_they_are_read() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("forbidden").await?;
    let pods = json!({ "apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"] });
    allow(plane, &namespace, "pods", &pods).await?;
    // The API server knows of it a little later; Pods are not what is forbidden.
    until("the right to be known", SOON, async || {
        let may = ["auth", "can-i", "watch", "pods", "-n", &*namespace, "--as=nobody"];
        plane.kubectl(&may).await
    })
    .await?;
    let receiver = Receiver::grpc([], None).await;
    let otlp = format!("http://{}", receiver.address);
    let configuration =
        format!("watch: [{{kind: Pod, namespaces: [{namespace}], events: true}}]\n");
    let daemon = Daemon::start(&plane.kubeconfig(&Account::Nobody), &otlp, &configuration)?;
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
    let warnings = log.lines().filter(|line| line.contains("Cannot watch")).count();
    assert_eq!(warnings, 1, "{log}");
    assert!(log.contains("Event.events.k8s.io"), "{log}");

    allow(plane, &namespace, "events", &shipped_rule()?).await?;
    daemon.ready().await
}

#[tokio::test]
async fn a_rollout_has_what_its_controllers_and_the_scheduler_said_in_jaeger() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("remarks").await?;
    let kinds = ["Deployment.apps", "ReplicaSet.apps", "Pod"];
    let entry = |kind| format!("  - {{kind: {kind}, namespaces: [{namespace}], events: true}}\n");
    let configuration = format!("watch:\n{}", kinds.map(entry).concat());
    let daemon = beside(plane, &configuration).await?;
    let synced = daemon.metric("spanlink_watch_synced{kind=\"Event.events.k8s.io\"}").await?;
    assert!((synced - 1.0).abs() < f64::EPSILON, "ready before Events were listed: {synced}");
    let hearing = Recorder::begin_with(plane, &namespace, &kinds, &configuration).await?;
    plane.apply(&deployment(&namespace, &stamp(), 2, &json!({}))).await?;
    let expected = [
        "create Pod: Scheduled by default-scheduler",
        "create ReplicaSet: SuccessfulCreate by replicaset-controller",
        "reconcile Deployment: ScalingReplicaSet by deployment-controller",
    ];
    let jaeger = plane.jaeger()?;
    until("what was said", SOON, async || {
        let found = remarked(&jaeger, &namespace).await?;
        ensure!(expected.iter().all(|one| found.contains(*one)), "{found:#?}");
        Ok(())
    })
    .await?;
    // A recording has them, and a replay tells them all the same.
    until("what was said to be recorded", SOON, async || {
        let told = remarks(&hearing.spans());
        for reason in ["Scheduled", "SuccessfulCreate", "ScalingReplicaSet"] {
            ensure!(told.contains(reason), "{told}");
        }
        Ok(())
    })
    .await
}
