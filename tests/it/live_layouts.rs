//! Every layout as a person meets it: in a stock Jaeger, by the origin search.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::{
    control_plane::{ControlPlane, Jaeger, PersonSpan, shared, until},
    daemon::Daemon,
    live::{SOON, Stamp, beside, deployment, is_phase, only, stamp, tag},
};

const SERVICES: [&str; 3] = ["deployment-controller", "replicaset-controller", "pod-lifecycle"];

/// The span of the client that applied the object: the parent of the joined spans.
async fn annotated_span(jaeger: &Jaeger, stamp: &Stamp) -> Result<()> {
    let now = spanlink::daemon::now().nanos();
    let span = PersonSpan {
        trace_id: &stamp.trace_id,
        span_id: "00f067aa0ba902b7",
        name: "apply",
        started: (now - 1_000_000_000).into(),
        ended: (now + 60_000_000_000).into(),
    };
    span.send(&jaeger.otlp_http()).await
}

/// Spans by id, of every trace that a search finds for any service.
async fn found(jaeger: &Jaeger, tags: &[(&str, &str)]) -> Result<BTreeMap<String, Value>> {
    let mut spans = BTreeMap::new();
    for service in SERVICES {
        for trace in jaeger.find(service, tags).await? {
            for span in trace["spans"].as_array().into_iter().flatten() {
                spans.insert(span["spanID"].to_string(), span.clone());
            }
        }
    }
    Ok(spans)
}

fn names(spans: &BTreeMap<String, Value>) -> Vec<String> {
    let mut names: Vec<String> = spans
        .values()
        .filter(|span| !is_phase(span))
        .map(|span| span["operationName"].as_str().unwrap_or_default().to_owned())
        .collect();
    names.sort();
    names
}

/// One annotated Deployment of two Pods, scaled to three without an annotation.
async fn history(plane: &ControlPlane, name: &str, options: &str) -> Result<Emitted> {
    let namespace = plane.namespace(name).await?;
    let daemon = beside(plane, &format!("{}\n{options}", only(&namespace))).await?;
    let jaeger = plane.jaeger()?;
    let stamp = stamp();
    annotated_span(&jaeger, &stamp).await?;
    plane.apply(&deployment(&namespace, &stamp, 2, &json!({}))).await?;
    let of_namespace = [("k8s.namespace.name", &*namespace)];
    let outcomes = async |count: usize| {
        until("every outcome", SOON, async || {
            let spans = found(&jaeger, &of_namespace).await?;
            let ended = spans.values().filter(|span| !tag(span, "spanlink.outcome").is_empty());
            let ended = ended.count();
            ensure!(ended == count, "{ended} of {count}: {:#?}", names(&spans));
            Ok(spans)
        })
        .await
    };
    outcomes(4).await?;
    plane.kubectl(&["-n", &namespace, "scale", "deployment/web", "--replicas=3"]).await?;
    let all = outcomes(7).await?;
    let by_origin = found(&jaeger, &[("spanlink.origin.trace_id", &stamp.trace_id)]).await?;
    let annotated = jaeger.trace(&stamp.trace_id).await?.context("no annotated trace")?;
    Ok(Emitted { _daemon: daemon, stamp, all, by_origin, annotated })
}

struct Emitted {
    _daemon: Daemon,
    stamp: Stamp,
    /// All of the namespace.
    all: BTreeMap<String, Value>,
    /// All that the origin search finds.
    by_origin: BTreeMap<String, Value>,
    annotated: Value,
}

impl Emitted {
    /// No warning of Jaeger's; what the search finds is what bears the origin, and the annotated
    /// span itself where it is in the same trace.
    fn is_sound(&self) {
        for span in self.all.values() {
            assert!(span["warnings"].is_null(), "{span:#}");
        }
        let caused = |span: &Value| tag(span, "spanlink.origin.trace_id") == self.stamp.trace_id;
        let expected: Vec<&String> =
            self.all.iter().filter(|(_, span)| caused(span)).map(|(id, _)| id).collect();
        let emitted: Vec<&String> = self
            .by_origin
            .iter()
            .filter(|(_, span)| span["operationName"] != "apply")
            .map(|(id, _)| id)
            .collect();
        assert_eq!(emitted, expected);
        let scaled: Vec<&Value> = self.all.values().filter(|span| !caused(span)).collect();
        assert!(scaled.iter().any(|span| span["operationName"] == "update Deployment"));
    }

    fn traces(&self) -> usize {
        let ids: std::collections::BTreeSet<String> =
            self.by_origin.values().map(|span| span["traceID"].to_string()).collect();
        ids.len()
    }
}

#[tokio::test]
async fn linked_is_a_trace_for_every_change_and_the_origin_search_finds_them_all() -> Result<()> {
    let emitted = history(shared().await?, "linked", "layout: linked").await?;
    emitted.is_sound();
    assert_eq!(emitted.traces(), 4);
    let expected = [
        "create Deployment",
        "create Pod",
        "create Pod",
        "create ReplicaSet",
        "reconcile Deployment",
        "reconcile Pod",
        "reconcile Pod",
        "reconcile ReplicaSet",
    ];
    assert_eq!(names(&emitted.by_origin), expected);
    Ok(())
}

#[tokio::test]
async fn joined_is_one_trace_with_the_annotated_span_at_its_root() -> Result<()> {
    let emitted = history(shared().await?, "joined", "layout: joined").await?;
    emitted.is_sound();
    assert_eq!(emitted.traces(), 1);
    let expected = [
        "apply",
        "create Deployment",
        "create Pod",
        "create Pod",
        "create ReplicaSet",
        "reconcile Deployment",
    ];
    assert_eq!(names(&emitted.by_origin), expected);
    Ok(())
}

#[tokio::test]
async fn a_cut_cascade_is_found_whole_by_its_origin() -> Result<()> {
    let emitted = history(shared().await?, "cut", "cascade_max: 1").await?;
    emitted.is_sound();
    // The Deployment with its ReplicaSet, and each Pod.
    assert_eq!(emitted.traces(), 3);
    let cut = emitted.all.values().filter(|span| tag(span, "spanlink.cascade") == "cut");
    assert_eq!(cut.count(), 3);
    Ok(())
}

#[tokio::test]
async fn a_projection_leads_from_the_annotated_trace_to_the_change() -> Result<()> {
    let emitted = history(shared().await?, "projection", "projection: true").await?;
    emitted.is_sound();
    assert_eq!(emitted.traces(), 1);
    let spans: Vec<&Value> = emitted.annotated["spans"].as_array().into_iter().flatten().collect();
    let projection = spans.iter().find(|span| span["operationName"] == "create Deployment");
    let projection = projection.context("no projection")?;
    assert!(projection["warnings"].is_null(), "{projection:#}");
    assert_eq!(spans.len(), 2);
    let references: Vec<&Value> =
        projection["references"].as_array().into_iter().flatten().collect();
    let forward = references.iter().find(|reference| reference["refType"] == "FOLLOWS_FROM");
    let forward = forward.context("no link")?["spanID"].to_string();
    assert_eq!(emitted.by_origin[&forward]["operationName"], "create Deployment");
    Ok(())
}

#[tokio::test]
async fn a_joined_context_finds_its_metadata_span_and_so_the_trace() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("joins").await?;
    let _daemon = beside(plane, &only(&namespace)).await?;
    let jaeger = plane.jaeger()?;
    let mut object: Value = serde_json::from_str(&deployment(&namespace, &stamp(), 1, &json!({})))?;
    // Else the rollout may be over before the second request.
    object["spec"]["minReadySeconds"] = json!(3);
    plane.apply(&object.to_string()).await?;
    plane.kubectl(&["-n", &namespace, "rollout", "status", "deployment/web"]).await?;
    // Two requests, as people make them.
    let joined = stamp();
    let annotation = format!("tracing.k8s.io/traceparent={}", joined.traceparent);
    plane.kubectl(&["-n", &namespace, "set", "image", "deployment/web", "web=web:2"]).await?;
    plane
        .kubectl(&["-n", &namespace, "annotate", "--overwrite", "deployment/web", &annotation])
        .await?;
    let origin = [("spanlink.origin.trace_id", &*joined.trace_id)];
    until("the whole trace", SOON, async || {
        let spans = found(&jaeger, &origin).await?;
        let ended = spans.values().any(|span| span["operationName"] == "reconcile Deployment");
        ensure!(ended, "{:#?}", names(&spans));
        let bears = |span: &&Value| tag(span, "spanlink.origin.trace_id") == joined.trace_id;
        let bearers: Vec<&Value> = spans.values().filter(bears).collect();
        ensure!(bearers.len() == 1, "{bearers:#?}");
        assert_eq!(tag(bearers[0], "spanlink.change.scope"), "metadata");
        // The changes caused by the two requests are in the same trace.
        assert!(spans.values().any(|span| span["operationName"] == "create ReplicaSet"));
        Ok(())
    })
    .await
}
