//! The whole of it: a real control plane, the daemon beside it, a stock Jaeger to look at.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use expect_test::expect;
use serde_json::{Value, json};

use crate::{
    control_plane::{Account, ControlPlane, Jaeger, free_port, shared, until},
    daemon::Daemon,
    scripted_receiver::Receiver,
    widgets,
};

pub(crate) const SOON: Duration = Duration::from_mins(2);

/// A trace context of this test alone.
pub(crate) struct Stamp {
    pub(crate) trace_id: String,
    pub(crate) traceparent: String,
}

pub(crate) fn stamp() -> Stamp {
    let trace_id = uuid();
    let traceparent = format!("00-{trace_id}-00f067aa0ba902b7-01");
    Stamp { trace_id, traceparent }
}

fn uuid() -> String {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    let word = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", word() | 1, word())
}

pub(crate) fn deployment(namespace: &str, stamp: &Stamp, replicas: i64, labels: &Value) -> String {
    let mut template_labels = json!({ "app": "web" });
    for (key, value) in labels.as_object().into_iter().flatten() {
        template_labels[key] = value.clone();
    }
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "web",
            "namespace": namespace,
            "annotations": { "tracing.k8s.io/traceparent": stamp.traceparent },
        },
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": 15,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": template_labels },
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{ "name": "web", "image": "web:1" }],
                },
            },
        },
    })
    .to_string()
}

pub(crate) fn tag(span: &Value, key: &str) -> String {
    let tags = span["tags"].as_array().into_iter().flatten();
    match tags.into_iter().find(|tag| tag["key"] == key).map(|tag| &tag["value"]) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

/// A step of a Pod: its name is one word.
pub(crate) fn is_phase(span: &Value) -> bool {
    !tag(span, "spanlink.phase.actor").is_empty()
}

/// One line a span: name, object, outcome, and the object of the parent's span.
fn lines(trace: &Value) -> Vec<String> {
    let spans: Vec<&Value> = trace["spans"].as_array().into_iter().flatten().collect();
    let by_id: BTreeMap<&str, &Value> =
        spans.iter().filter_map(|span| Some((span["spanID"].as_str()?, *span))).collect();
    let mut lines: Vec<String> = spans
        .iter()
        .filter(|span| !is_phase(span))
        .map(|span| {
            let references = span["references"].as_array().into_iter().flatten();
            let parent = references
                .filter(|reference| reference["refType"] == "CHILD_OF")
                .filter_map(|reference| by_id.get(reference["spanID"].as_str()?))
                .map(|parent| parent["operationName"].as_str().unwrap_or_default())
                .next();
            let name = span["operationName"].as_str().unwrap_or_default();
            let outcome = tag(span, "spanlink.outcome");
            format!("{name} -> {outcome} (under {})", parent.unwrap_or("nothing"))
        })
        .collect();
    lines.sort();
    lines
}

/// Every trace that the origin search finds, of any service.
async fn caused_by(jaeger: &Jaeger, stamp: &Stamp) -> Result<Vec<Value>> {
    let mut found = BTreeMap::new();
    for service in
        ["deployment-controller", "replicaset-controller", "pod-lifecycle", "widget-controller"]
    {
        for trace in jaeger.find(service, &[("spanlink.origin.trace_id", &stamp.trace_id)]).await? {
            found.insert(trace["traceID"].to_string(), trace);
        }
    }
    Ok(found.into_values().collect())
}

async fn the_trace_with(jaeger: &Jaeger, stamp: &Stamp, spans: usize) -> Result<Value> {
    until("the whole trace", SOON, async || {
        let mut traces = caused_by(jaeger, stamp).await?;
        ensure!(traces.len() == 1, "{} traces", traces.len());
        let trace = traces.remove(0);
        ensure!(lines(&trace).len() >= spans, "{:#?}", lines(&trace));
        Ok(trace)
    })
    .await
}

pub(crate) async fn beside(plane: &ControlPlane, configuration: &str) -> Result<Daemon> {
    let otlp = plane.jaeger()?.otlp_grpc();
    Daemon::run(&plane.kubeconfig(&Account::Admin), &otlp, configuration).await
}

/// One daemon for a namespace, so that tests side by side do not export each other's changes twice.
pub(crate) fn only(namespace: &str) -> String {
    let kinds = ["Deployment.apps", "ReplicaSet.apps", "Pod"];
    let entries = kinds.map(|kind| format!("  - {{kind: {kind}, namespaces: [{namespace}]}}\n"));
    format!("watch:\n{}", entries.concat())
}

#[tokio::test]
async fn an_annotated_deployment_is_one_linked_trace_in_jaeger() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("live").await?;
    let _daemon = beside(plane, &only(&namespace)).await?;
    let stamp = stamp();
    plane.apply(&deployment(&namespace, &stamp, 3, &json!({}))).await?;

    let jaeger = plane.jaeger()?;
    let trace = the_trace_with(&jaeger, &stamp, 6).await?;
    let expected = [
        "create Deployment ->  (under nothing)",
        "create Pod -> converged (under create ReplicaSet)",
        "create Pod -> converged (under create ReplicaSet)",
        "create Pod -> converged (under create ReplicaSet)",
        "create ReplicaSet -> converged (under create Deployment)",
        "reconcile Deployment -> converged (under create Deployment)",
    ];
    assert_eq!(lines(&trace), expected);
    let spans: Vec<&Value> = trace["spans"].as_array().into_iter().flatten().collect();
    let root = spans.iter().find(|span| span["operationName"] == "create Deployment");
    let root = root.context("no root")?;
    assert_eq!(root["references"][0]["traceID"], stamp.trace_id.as_str(), "{root:#}");
    assert_eq!(root["references"][0]["spanID"], "00f067aa0ba902b7");
    for span in &spans {
        assert!(span["warnings"].is_null(), "{span:#}");
        assert_eq!(tag(span, "spanlink.origin.trace_id"), stamp.trace_id);
        // The ReplicaSet's copied annotation is not a cause.
        assert!(*span == *root || tag(span, "spanlink.context.trace_id").is_empty(), "{span:#}");
    }
    Ok(())
}

#[tokio::test]
async fn image_that_cannot_be_pulled_is_stuck_within_15_seconds_and_fails() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("stuck").await?;
    let daemon = beside(plane, &only(&namespace)).await?;
    let stamp = stamp();
    let labels = json!({ "spanlink.test/behaviour": "image-pull-back-off" });
    let mut object: Value = serde_json::from_str(&deployment(&namespace, &stamp, 2, &labels))?;
    // It fails long after it is stuck, however busy the machine is.
    object["spec"]["progressDeadlineSeconds"] = json!(30);
    plane.apply(&object.to_string()).await?;
    let jaeger = plane.jaeger()?;
    let (created, stuck) = until("the stuck Pod", SOON, async || {
        let traces = caused_by(&jaeger, &stamp).await?;
        let spans = traces.first().context("no trace")?["spans"].clone();
        let named = |name: &str| {
            let mut spans = spans.as_array().into_iter().flatten();
            spans.find(|span| span["operationName"] == name).cloned()
        };
        let stuck = named("stuck Pod").context("no stuck span")?;
        assert_eq!(named("reconcile Deployment"), None, "exported at the end");
        Ok((named("create Deployment").context("no change")?, stuck))
    })
    .await?;
    assert_eq!(tag(&stuck, "error.type"), "ImagePullBackOff");
    let at =
        |span: &Value| span["startTime"].as_u64().context("no time").map(Duration::from_micros);
    let after = at(&stuck)?.saturating_sub(at(&created)?);
    assert!(after <= Duration::from_secs(15), "{after:?}");
    // Their wait is a metric, long before their outcome.
    for kind in ["Deployment.apps", "ReplicaSet.apps", "Pod"] {
        let waits = format!("{{kind=\"{kind}\",waiting_for=\"ImagePullBackOff\"}}");
        let open = format!("spanlink_open_convergences{waits}");
        until(&format!("{kind} to wait"), SOON, async || {
            ensure!(daemon.metric(&open).await? > 0.5, "it does not");
            Ok(())
        })
        .await?;
    }
    until("the failure", SOON, async || {
        let traces = caused_by(&jaeger, &stamp).await?;
        let lines = lines(traces.first().context("no trace")?);
        let failed = "reconcile Deployment -> failed (under create Deployment)".to_owned();
        ensure!(lines.contains(&failed), "{lines:#?}");
        // Both Pods wait for the same: one row.
        assert_eq!(lines.iter().filter(|line| line.starts_with("stuck")).count(), 1);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_custom_resource_installed_later_is_followed_through_its_controller() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("widgets").await?;
    let configuration = format!("{}  - kind: \"*.{namespace}.example.com\"\n", only(&namespace));
    let daemon = beside(plane, &configuration).await?;
    widgets::define(plane, &namespace).await?;
    let stamp = stamp();
    let widget = json!({
        "apiVersion": format!("{namespace}.example.com/v1"),
        "kind": "Widget",
        "metadata": {
            "name": "w",
            "namespace": namespace,
            "annotations": { "tracing.k8s.io/traceparent": stamp.traceparent },
        },
        "spec": { "size": 1 },
    });
    let resource = format!("widgets.{namespace}.example.com");
    // A watch of the new kind has to be there, or the Widget is known from its first list.
    let synced = format!("spanlink_watch_synced{{kind=\"Widget.{namespace}.example.com\"}}");
    until("the new kind to be watched", SOON, async || {
        ensure!(daemon.metric(&synced).await? > 0.5, "not synced");
        Ok(())
    })
    .await?;
    plane.apply(&widget.to_string()).await?;
    reconcile(plane, &namespace, &resource).await?;

    let trace = the_trace_with(&plane.jaeger()?, &stamp, 5).await?;
    let expected = [
        "create Deployment -> converged (under create Widget)",
        "create Pod -> converged (under create ReplicaSet)",
        "create ReplicaSet -> converged (under create Deployment)",
        "create Widget ->  (under nothing)",
        "reconcile Widget -> converged (under create Widget)",
    ];
    assert_eq!(lines(&trace), expected);
    Ok(())
}

/// A small controller: a Deployment for the Widget, then its status.
async fn reconcile(plane: &ControlPlane, namespace: &str, resource: &str) -> Result<()> {
    let uid = plane
        .kubectl(&["-n", namespace, "get", resource, "w", "-o", "jsonpath={.metadata.uid}"])
        .await?;
    let unstamped = Stamp { trace_id: String::new(), traceparent: String::new() };
    let mut child: Value = serde_json::from_str(&deployment(namespace, &unstamped, 1, &json!({})))?;
    child["metadata"]["annotations"] = json!({});
    child["metadata"]["ownerReferences"] = json!([{
        "apiVersion": format!("{namespace}.example.com/v1"),
        "kind": "Widget",
        "name": "w",
        "uid": uid,
        "controller": true,
    }]);
    plane.apply(&child.to_string()).await?;
    plane.kubectl(&["-n", namespace, "rollout", "status", "deployment/web"]).await?;
    let status = json!({ "status": {
        "observedGeneration": 1,
        "conditions": [{ "type": "Ready", "status": "True", "reason": "AsAsked" }],
    } });
    plane
        .kubectl(&[
            "-n",
            namespace,
            "patch",
            resource,
            "w",
            "--subresource=status",
            "--type=merge",
            "-p",
            &status.to_string(),
        ])
        .await?;
    Ok(())
}

#[tokio::test]
async fn the_shipped_manifests_are_accepted_and_their_account_suffices() -> Result<()> {
    let plane = shared().await?;
    let deploy = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy");
    plane.kubectl(&["apply", "-k", deploy]).await?;
    // All default kinds, everywhere, under exactly that account; to a receiver of its own, for in
    // Jaeger it would export the changes of other tests again.
    let receiver = Receiver::grpc([], None).await;
    let otlp = format!("http://{}", receiver.address);
    let mut daemon = Daemon::run(&plane.kubeconfig(&Account::spanlink()), &otlp, "").await?;
    let (status, took) = daemon.stop().await?;
    // Without a collector, the end would take 20 s.
    assert!(status.success() && took < Duration::from_secs(10), "{status}, {took:?}");
    let account = "--as=system:serviceaccount:spanlink-system:spanlink";
    let may = plane.kubectl(&["auth", "can-i", "--list", "-n", "default", account]).await?;
    let mut may: Vec<String> = may
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        // The permissions of every service account: discovery, health, access reviews, trust bundles.
        .filter(|line| !["[/", "selfsubject", "clustertrust"].iter().any(|it| line.starts_with(it)))
        .collect();
    may.sort();
    expect![[r#"
        cronjobs.batch [] [] [get list watch]
        daemonsets.apps [] [] [get list watch]
        deployments.apps [] [] [get list watch]
        jobs.batch [] [] [get list watch]
        namespaces [] [] [get list watch]
        pods [] [] [get list watch]
        replicasets.apps [] [] [get list watch]
        statefulsets.apps [] [] [get list watch]"#]]
    .assert_eq(&may.join("\n"));
    Ok(())
}

#[tokio::test]
async fn it_leaves_in_time_when_the_collector_is_away() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("away").await?;
    let kubeconfig = plane.kubeconfig(&Account::Admin);
    // No server listens there.
    let otlp = format!("http://127.0.0.1:{}", free_port()?);
    let mut daemon = Daemon::run(&kubeconfig, &otlp, &only(&namespace)).await?;
    plane.apply(&deployment(&namespace, &stamp(), 1, &json!({}))).await?;
    until("spans to wait", SOON, async || {
        ensure!(daemon.metric("spanlink_outbox_spans").await? > 0.0, "none");
        Ok(())
    })
    .await?;
    let (status, took) = daemon.stop().await?;
    // Those of a Pod that is deleted, as it is shipped.
    assert!(status.success() && took < Duration::from_secs(30), "{status}, {took:?}");
    assert!(daemon.log().contains("unsent_spans"), "{}", daemon.log());
    Ok(())
}
