//! The daemon's own traces, in a real Jaeger, apart from those of the cluster.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use expect_test::expect;
use serde_json::{Value, json};

use crate::{
    control_plane::{Account, ControlPlane, shared, until},
    daemon::Daemon,
    live::{SOON, tag},
    scripted_receiver::Receiver,
};

const SERVICE: &str = "spanlink-daemon";
/// Own traces delay the end by two seconds at most; waiting for an answer would take ten.
const AT_ONCE: Duration = Duration::from_secs(8);

/// Its own traces go to the endpoint of its spans.
fn configuration(plane: &ControlPlane, namespace: &str) -> Result<String> {
    let endpoint = plane.jaeger()?.otlp_grpc();
    Ok(format!(
        "watch: [{{kind: ConfigMap, namespaces: [{namespace}], label_selector: ours=yes}}]\n\
         own_traces: {{endpoint: \"{endpoint}\"}}\n"
    ))
}

/// A row for each span of the service; the sizes of requests differ from run to run.
async fn rows(plane: &ControlPlane, tags: &[(&str, &str)]) -> Result<BTreeSet<String>> {
    let mut rows = BTreeSet::new();
    for trace in plane.jaeger()?.find(SERVICE, tags).await? {
        for span in trace["spans"].as_array().into_iter().flatten() {
            assert!(span["warnings"].is_null(), "{span:#}");
            let name = span["operationName"].as_str().unwrap_or_default().to_owned();
            let keys = [
                "spanlink.list.reason",
                "spanlink.list.objects",
                "spanlink.export.spans",
                "spanlink.export.code",
                "error.type",
            ];
            let facts = keys.map(|key| (key, tag(span, key)));
            let facts = facts.iter().filter(|(_, value)| !value.is_empty());
            rows.insert(facts.fold(name, |row, (key, value)| format!("{row}  {key}={value}")));
        }
    }
    Ok(rows)
}

#[tokio::test]
async fn own_traces_have_spans_of_lists_and_exports_only() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("own-traces").await?;
    let settings = |name: &str| {
        let metadata = json!({
            "name": name,
            "namespace": namespace,
            "labels": { "ours": "yes" },
        });
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata }).to_string()
    };
    plane.apply(&settings("there-before")).await?;
    let jaeger = plane.jaeger()?;
    let otlp = jaeger.otlp_grpc();
    let kubeconfig = plane.kubeconfig(&Account::Admin);
    let configuration = configuration(plane, &namespace)?;
    let mut daemon = Daemon::run(&kubeconfig, &otlp, &configuration).await?;
    plane.apply(&settings("settings")).await?;
    let exported = "spanlink_spans_exported_total";
    until("the span to be exported", SOON, async || {
        ensure!(daemon.metric(exported).await? > 0.5, "it is not");
        Ok(())
    })
    .await?;
    // The rest is exported when the daemon ends.
    let (status, took) = daemon.stop().await?;
    assert!(status.success() && took < AT_ONCE, "{status}, {took:?}");
    let tree: Vec<String> = rows(plane, &[]).await?.into_iter().collect();
    expect![[r#"
        discover
        export  spanlink.export.spans=1  spanlink.export.code=OK
        list ConfigMap  spanlink.list.reason=start  spanlink.list.objects=1"#]]
    .assert_eq(&tree.join("\n"));
    // The service name of ConfigMap spans has no own traces.
    let of_others = jaeger.find("spanlink", &[("k8s.namespace.name", &namespace)]).await?;
    let names: Vec<&Value> = of_others
        .iter()
        .flat_map(|trace| trace["spans"].as_array().into_iter().flatten())
        .map(|span| &span["operationName"])
        .collect();
    assert_eq!(names, ["create ConfigMap"]);

    // The span of a refused list has its error.
    let kubeconfig = plane.kubeconfig(&Account::Unprivileged);
    let _refused = Daemon::start(&kubeconfig, &otlp, &configuration)?;
    until("the refused list", SOON, async || {
        let tree = rows(plane, &[("error.type", "403")]).await?;
        let tree = tree.first().context("there is none")?;
        let start = "list ConfigMap  spanlink.list.reason=start  spanlink.list.objects=0";
        ensure!(*tree == format!("{start}  error.type=403"), "{tree}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn own_traces_without_a_receiver_do_not_delay_the_daemon() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("own-traces-lost").await?;
    // The server accepts connections and never answers.
    let mute = std::net::TcpListener::bind("127.0.0.1:0")?;
    let configuration = format!(
        "watch: [{{kind: ConfigMap, namespaces: [{namespace}]}}]\n\
         own_traces: {{endpoint: \"http://{}\"}}\n",
        mute.local_addr()?
    );
    let kubeconfig = plane.kubeconfig(&Account::Admin);
    let otlp = plane.jaeger()?.otlp_grpc();
    let mut daemon = Daemon::run(&kubeconfig, &otlp, &configuration).await?;
    let (status, took) = daemon.stop().await?;
    assert!(status.success() && took < AT_ONCE, "{status}, {took:?}");
    Ok(())
}

#[tokio::test]
async fn own_traces_have_no_headers_of_the_collector() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("own-traces-headers").await?;
    let (collector, other) = (Receiver::grpc([], None).await, Receiver::grpc([], None).await);
    let configuration = format!(
        "watch: [{{kind: ConfigMap, namespaces: [{namespace}], label_selector: ours=yes}}]\n\
         own_traces: {{endpoint: \"http://{}\"}}\n",
        other.address
    );
    let kubeconfig = plane.kubeconfig(&Account::Admin);
    let endpoint = format!("http://{}", collector.address);
    let mut daemon = Daemon::start_with(&kubeconfig, &configuration, |command, _| {
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
        command.env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=secret");
        command.env("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-key=secret");
        Ok(())
    })?;
    daemon.ready().await?;
    let metadata =
        json!({ "name": "settings", "namespace": namespace, "labels": { "ours": "yes" } });
    let settings = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata });
    plane.apply(&settings.to_string()).await?;
    until("the span to be exported", SOON, async || {
        ensure!(!collector.accepted().is_empty(), "it is not");
        Ok(())
    })
    .await?;
    daemon.stop().await?;
    assert_eq!(collector.accepted()[0].headers["x-key"], "secret");
    let own = other.accepted();
    assert!(!own.is_empty());
    assert!(own.iter().all(|request| !request.headers.contains_key("x-key")));
    Ok(())
}
