//! `spanlink trace` against Jaeger's real API: the tree from a person's span to the Pods.

use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::{
    control_plane::{Account, Jaeger, PersonSpan, http_client, shared, until},
    live::{SOON, beside, deployment, only, stamp},
};

async fn trace(jaeger: &Jaeger, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spanlink"));
    command.args(["trace", "--url", &jaeger.url()]).args(arguments).env("NO_COLOR", "1");
    Ok(tokio::task::spawn_blocking(move || command.output()).await??)
}

/// A span as the API server's admission plugin creates it: the root of a trace of its own, with a link
/// to the span of the request, and stamped on the object.
async fn server_span(jaeger: &Jaeger, trace_id: &str, caller: &str, at: i128) -> Result<()> {
    let request = json!({ "resourceSpans": [{
        "resource": { "attributes": [
            { "key": "service.name", "value": { "stringValue": "apiserver" } },
        ] },
        "scopeSpans": [{ "spans": [{
            "traceId": trace_id,
            "spanId": "00f067aa0ba902b7",
            "name": "Create deployments",
            "kind": 2,
            "startTimeUnixNano": at.to_string(),
            "endTimeUnixNano": (at + 50_000_000).to_string(),
            "links": [{ "traceId": caller, "spanId": "00f067aa0ba902b8" }],
            "attributes": [{ "key": "empty", "value": { "arrayValue": {} } }],
        }] }],
    }] });
    let url = format!("{}/v1/traces", jaeger.otlp_http());
    let sent = http_client()?.post(url).header("content-type", "application/json");
    sent.body(request.to_string()).send().await?.error_for_status()?;
    Ok(())
}

#[tokio::test]
async fn tree_leads_from_a_persons_span_to_the_pods_in_jaeger() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("trace-command").await?;
    let _daemon = beside(plane, &only(&namespace)).await?;
    let jaeger = plane.jaeger()?;
    let (caller, stamped) = (stamp(), stamp());
    let now = i128::from(spanlink::daemon::now().nanos());
    let person = PersonSpan {
        trace_id: &caller.trace_id,
        span_id: "00f067aa0ba902b8",
        name: "deploy shop",
        started: now - 200_000_000,
        ended: now + 2_000_000_000,
    };
    person.send(&jaeger.otlp_http()).await?;
    server_span(&jaeger, &stamped.trace_id, &caller.trace_id, now - 100_000_000).await?;
    plane.apply(&deployment(&namespace, &stamped, 2, &json!({}))).await?;

    let tree = until("the whole tree", SOON, async || {
        let output = trace(&jaeger, &["deploy/web", "-n", &namespace]).await?;
        let tree = String::from_utf8(output.stdout)?;
        ensure!(tree.contains("changes: 4 converged"), "{tree}{:?}", output.stderr);
        ensure!(output.stderr.is_empty(), "{:?}", String::from_utf8(output.stderr));
        Ok(tree)
    })
    .await?;
    let begins = |line: usize, with: &str| {
        let line = tree.lines().nth(line).unwrap_or_default();
        assert!(line.trim_start_matches(['│', '├', '└', '─', ' ']).starts_with(with), "{tree}");
    };
    begins(0, "deploy shop (person) ");
    begins(1, "Create deployments (apiserver) 50ms  trace ");
    begins(2, &format!("create Deployment {namespace}/web g1 -> converged "));
    begins(3, "create ReplicaSet web-");
    begins(4, "create Pod web-");
    begins(5, "create Pod web-");
    assert!(tree.contains("\nslowest: "), "{tree}");

    // The same tree from every trace of it.
    for id in [&caller.trace_id, &stamped.trace_id] {
        let output = trace(&jaeger, &[id]).await?;
        assert_eq!(String::from_utf8(output.stdout)?, tree);
    }
    let output = trace(&jaeger, &[&caller.trace_id, "--json"]).await?;
    let document: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(document["summary"]["outcomes"]["converged"], 4);
    let spans = document["spans"].as_array().context("no spans")?;
    assert!(spans.iter().any(|span| span["role"] == "phase"), "{document:#}");

    // The namespace is that of the kubeconfig, as kubectl takes it.
    let kubeconfig = plane.kubeconfig(&Account::Admin);
    let path = kubeconfig.to_str().context("not Unicode")?;
    let output = trace(&jaeger, &["deploy/web", "--kubeconfig", path]).await?;
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr)?;
    assert!(error.contains("in namespace default within the last 1h"), "{error}");
    Ok(())
}
