//! `spanlink stamp --only-changed` against a real API server: unchanged objects get no generation.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    control_plane::{Account, ControlPlane, Tool, shared, to_stderr},
    stamp_command::{command, pipe},
    stamp_tools::{chart, program, text},
    widgets,
};

const FIRST: &str = "00-11111111111111111111111111111111-1111111111111111-01";
const SECOND: &str = "00-22222222222222222222222222222222-2222222222222222-01";

/// A namespace, and how its manifests are applied.
struct Shop<'plane> {
    plane: &'plane ControlPlane,
    namespace: String,
    is_server_side: bool,
}

impl Shop<'_> {
    async fn stamp_and_apply(&self, manifests: &str, traceparent: &str) -> Result<()> {
        let mut stamp: Command = command(&["stamp", "--only-changed", "--pod-template"]);
        stamp.args(["--traceparent", traceparent, "--namespace", &self.namespace, "--kubeconfig"]);
        stamp.arg(self.plane.kubeconfig(&Account::Admin));
        let mut apply = vec!["apply", "-n", &self.namespace, "-f", "-"];
        if self.is_server_side {
            stamp.arg("--server-side");
            // A conflict with a scale is resolved as a client-side apply does.
            apply.extend(["--server-side", "--force-conflicts"]);
        }
        let input = manifests.to_owned();
        let output =
            tokio::task::spawn_blocking(move || pipe(&mut stamp, input.as_bytes())).await?;
        ensure!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let stamped = String::from_utf8(output.stdout)?;
        self.plane.kubectl_with_input(&apply, &stamped).await?;
        Ok(())
    }

    async fn get(&self, object: &str) -> Result<Value> {
        let text =
            self.plane.kubectl(&["get", "-n", &self.namespace, "-o", "json", object]).await?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Generation, context of the object, context of its template.
    async fn state(&self, object: &str) -> Result<(u64, Value, Value)> {
        let object = self.get(object).await?;
        let context = |path: &str| {
            let annotations = object.pointer(&format!("{path}/metadata/annotations"));
            annotations.map_or(Value::Null, |all| all["tracing.k8s.io/traceparent"].clone())
        };
        let generation = object["metadata"]["generation"].as_u64().context("no generation")?;
        Ok((generation, context(""), context("/spec/template")))
    }
}

fn manifests(namespace: &str, image: &str, replicas: u8, color: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: {{app: web}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      containers:
      - name: web
        image: {image}
        ports: [{{containerPort: 80}}]
        resources: {{limits: {{cpu: 1000m}}}}
---
apiVersion: {namespace}.example.com/v1
kind: Widget
metadata:
  name: w
spec: {{color: {color}}}
"
    )
}

async fn check(is_server_side: bool) -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("stamped").await?;
    widgets::define(plane, &namespace).await?;
    let shop = Shop { plane, namespace: namespace.clone(), is_server_side };
    let apply = async |image: &str, replicas: u8, color: &str, traceparent: &str| {
        shop.stamp_and_apply(&manifests(&namespace, image, replicas, color), traceparent).await
    };
    let widget = format!("widgets.{namespace}.example.com/w");

    apply("web:1", 1, "red", FIRST).await?;
    let created = shop.state("deploy/web").await?;
    assert_eq!(created, (1, json!(FIRST), json!(FIRST)));
    assert_eq!(shop.state(&widget).await?, (1, json!(FIRST), Value::Null));

    // Nothing changes, so nothing is written.
    apply("web:1", 1, "red", SECOND).await?;
    assert_eq!(shop.state("deploy/web").await?, created);
    assert_eq!(shop.state(&widget).await?, (1, json!(FIRST), Value::Null));

    // The scale changes the Deployment and not its template.
    apply("web:1", 2, "red", SECOND).await?;
    let (scaled, context, template) = shop.state("deploy/web").await?;
    assert_eq!((context, template), (json!(SECOND), json!(FIRST)));
    assert_eq!(scaled, 2);

    // Only the widget changes.
    apply("web:1", 2, "blue", FIRST).await?;
    assert_eq!(shop.state("deploy/web").await?, (scaled, json!(SECOND), json!(FIRST)));
    assert_eq!(shop.state(&widget).await?, (2, json!(FIRST), Value::Null));

    apply("web:2", 2, "blue", SECOND).await?;
    assert_eq!(shop.state("deploy/web").await?, (3, json!(SECOND), json!(SECOND)));

    // What someone changed in the cluster is changed back, which is a change.
    plane.kubectl(&["scale", "-n", &namespace, "deploy/web", "--replicas=5"]).await?;
    apply("web:2", 2, "blue", FIRST).await?;
    let (_, context, template) = shop.state("deploy/web").await?;
    assert_eq!((context, template), (json!(FIRST), json!(SECOND)));

    // A removed field is a change, too.
    let removed = manifests(&namespace, "web:2", 2, "blue").replace("  labels: {app: web}\n", "");
    shop.stamp_and_apply(&removed, SECOND).await?;
    let (_, context, template) = shop.state("deploy/web").await?;
    assert_eq!((context, template), (json!(SECOND), json!(SECOND)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn unchanged_objects_get_no_generation_from_a_client_side_apply() -> Result<()> {
    check(false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn unchanged_objects_get_no_generation_from_a_server_side_apply() -> Result<()> {
    check(true).await
}

/// Installs a chart, and upgrades it without a change, with another image, and without a change again.
async fn check_helm(tool: Tool, prepare: &[&[&str]], stamp: &[&str]) -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("helm").await?;
    let helm = tokio::task::spawn_blocking(move || tool.ready(&to_stderr)).await??;
    let folder = tempfile::tempdir()?;
    let chart = chart(folder.path());
    // A hook would be waited for.
    fs::remove_file(chart.join("templates/hook.yaml"))?;
    let kubeconfig = plane.kubeconfig(&Account::Admin);
    for arguments in prepare {
        text(&program(&helm, folder.path()).args(*arguments).output()?);
    }
    let upgrade = async |image: &str, traceparent: &str| -> Result<()> {
        let all = manifests(&namespace, image, 1, "red");
        let deployment = all.split("---\n").next().unwrap_or_default();
        fs::write(chart.join("templates/web.yaml"), deployment)?;
        let mut helm = program(&helm, folder.path());
        helm.args(["upgrade", "--install", "shop", "chart", "-n", &namespace, "--kubeconfig"]);
        helm.arg(&kubeconfig).args(["--post-renderer", "spanlink"]);
        let cluster = ["--namespace", &namespace, "--kubeconfig"];
        let file = kubeconfig.to_string_lossy();
        for argument in [stamp, &["--only-changed"], &cluster, &[&file]].concat() {
            helm.arg(format!("--post-renderer-args={argument}"));
        }
        helm.env("TRACEPARENT", traceparent);
        let output = tokio::task::spawn_blocking(move || helm.output()).await??;
        text(&output);
        Ok(())
    };
    let shop = Shop { plane, namespace: namespace.clone(), is_server_side: false };
    upgrade("web:1", FIRST).await?;
    assert_eq!(shop.state("deploy/web").await?, (1, json!(FIRST), Value::Null));
    upgrade("web:1", SECOND).await?;
    assert_eq!(shop.state("deploy/web").await?, (1, json!(FIRST), Value::Null));
    upgrade("web:2", SECOND).await?;
    assert_eq!(shop.state("deploy/web").await?, (2, json!(SECOND), Value::Null));
    upgrade("web:2", FIRST).await?;
    assert_eq!(shop.state("deploy/web").await?, (2, json!(SECOND), Value::Null));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "builds Helm 3 from its Go module"]
async fn unchanged_objects_get_no_generation_from_helm_3() -> Result<()> {
    check_helm(Tool::Helm3, &[], &["stamp"]).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "builds Helm 4 from its Go module"]
async fn unchanged_objects_get_no_generation_from_helm_4() -> Result<()> {
    let plugin = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/helm-plugin");
    let plugin = plugin.to_string_lossy();
    let stamp = ["--server-side", "--field-manager", "helm"];
    check_helm(Tool::Helm4, &[&["plugin", "install", &plugin]], &stamp).await
}
