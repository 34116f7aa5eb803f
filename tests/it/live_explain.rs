//! `spanlink explain KIND NAME` beside the real API server.

use std::{
    fs,
    process::{Command, Output},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use expect_test::expect;
use serde_json::json;

use crate::{
    control_plane::{Account, ControlPlane, shared, until},
    widgets,
};

async fn run(plane: &ControlPlane, configuration: &str, arguments: &[&str]) -> Result<Output> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("spanlink.yaml");
    fs::write(&file, configuration)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_spanlink"));
    command.arg("explain").args(arguments).arg("--config").arg(&file);
    command.arg("--kubeconfig").arg(plane.kubeconfig(&Account::Admin));
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    folder.close()?;
    Ok(output)
}

async fn explained(plane: &ControlPlane, arguments: &[&str]) -> Result<String> {
    let output = run(plane, "", arguments).await?;
    ensure!(output.status.success(), "{arguments:?}: {output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

async fn refused(plane: &ControlPlane, arguments: &[&str]) -> Result<String> {
    let output = run(plane, "", arguments).await?;
    ensure!(output.status.code() == Some(1), "{arguments:?}: {output:?}");
    Ok(String::from_utf8(output.stderr)?)
}

#[tokio::test]
async fn object_of_the_cluster_is_explained_by_every_name_of_its_kind() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("explain").await?;
    let web = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "web", "namespace": namespace },
        "spec": {
            "replicas": 0,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "web", "image": "web" }] },
            },
        },
    });
    plane.apply(&web.to_string()).await?;
    let expected = format!(
        "Deployment.apps {namespace}/web: Current\n  rule         of the built-in kind\n  observed     \
         generation 1 of 1\n"
    );
    until("the Deployment to be current", Duration::from_mins(1), async || {
        let explained = explained(plane, &["Deployment", "web", "-n", &namespace]).await?;
        ensure!(explained == expected, "{explained}");
        Ok(())
    })
    .await?;
    for object in [
        "deployment/web",
        "deploy/web",
        "deployments.apps/web",
        "deployments.v1.apps/web",
        "apps/v1/Deployment/web",
    ] {
        let explained = explained(plane, &[object, "--namespace", &namespace]).await?;
        assert_eq!(explained, expected, "{object}");
    }
    // The namespace does not matter for a kind without one.
    let explained = explained(plane, &["ns", &namespace, "-n", "default"]).await?;
    assert!(explained.starts_with(&format!("Namespace {namespace}: Current\n")), "{explained}");
    Ok(())
}

#[tokio::test]
async fn rule_of_the_configuration_decides_about_an_object_of_the_cluster() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("explain-rule").await?;
    widgets::define(plane, &namespace).await?;
    let group = format!("{namespace}.example.com");
    let widget = json!({
        "apiVersion": format!("{group}/v1"), "kind": "Widget",
        "metadata": { "name": "web", "namespace": namespace },
        "spec": { "size": 1 },
    });
    plane.apply(&widget.to_string()).await?;
    let patch = json!({ "status": { "phase": "Settled" } }).to_string();
    let kind = format!("widgets.{group}");
    plane
        .kubectl(&[
            "patch",
            &kind,
            "web",
            "-n",
            &namespace,
            "--subresource=status",
            "--type=merge",
            "-p",
            &patch,
        ])
        .await?;
    let configuration = format!(
        "watch:\n  - kind: Widget.{group}\n    converges: {{field: status.phase, current: [Settled]}}\n"
    );
    let output = run(plane, &configuration, &[&kind, "web", "-n", &namespace]).await?;
    let explained = String::from_utf8(output.stdout)?.replace(&namespace, "NAMESPACE");
    expect![[r#"
        Widget.NAMESPACE.example.com NAMESPACE/web: Current
          rule         option converges: the field status.phase
    "#]]
    .assert_eq(&explained);
    Ok(())
}

#[tokio::test]
async fn object_of_a_kind_without_a_status_subresource_is_current() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("explain-data").await?;
    widgets::define_templates(plane, &namespace).await?;
    let group = format!("{namespace}.example.com");
    let template = json!({
        "apiVersion": format!("{group}/v1"), "kind": "Template",
        "metadata": { "name": "web", "namespace": namespace },
        "spec": { "size": 1 },
    });
    plane.apply(&template.to_string()).await?;
    let kind = format!("templates.{group}");
    let explained = explained(plane, &[&kind, "web", "-n", &namespace]).await?;
    expect![[r#"
        Template.NAMESPACE.example.com NAMESPACE/web: Current
          rule         the kind has no status subresource
    "#]]
    .assert_eq(&explained.replace(&namespace, "NAMESPACE"));
    Ok(())
}

#[tokio::test]
async fn unknown_kind_and_missing_object_are_refused_with_what_to_write() -> Result<()> {
    let plane = shared().await?;
    let kind = refused(plane, &["deploymnet", "web"]).await?;
    assert_eq!(
        kind,
        "spanlink: the cluster serves no kind deploymnet; did you mean Deployment.apps?\n"
    );
    let object = refused(plane, &["deployment/none"]).await?;
    assert_eq!(
        object,
        "spanlink: Deployment.apps default/none does not exist; option -n sets the namespace\n"
    );
    let node = refused(plane, &["node", "none"]).await?;
    assert_eq!(node, "spanlink: Node none does not exist\n");
    let file = refused(plane, &["./none.yaml"]).await?;
    assert!(file.contains("there is no file ./none.yaml; write KIND NAME"), "{file}");
    let file = refused(plane, &["Cargo.toml", "-n", "default"]).await?;
    assert!(file.contains("option -n belongs to an object of the cluster"), "{file}");
    Ok(())
}

#[tokio::test]
async fn cluster_that_does_not_answer_is_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let kubeconfig = folder.path().join("kubeconfig");
    // Nothing listens at the discard port.
    let content = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{ "name": "c", "cluster": { "server": "http://127.0.0.1:9" } }],
        "users": [{ "name": "u", "user": {} }],
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
    });
    fs::write(&kubeconfig, content.to_string())?;
    let output = Command::new(env!("CARGO_BIN_EXE_spanlink"))
        .args(["explain", "pod/web", "--kubeconfig"])
        .arg(&kubeconfig)
        .output()
        .context("run spanlink")?;
    let error = String::from_utf8(output.stderr)?;
    assert!(
        error.starts_with("spanlink: cannot read the kinds that the API server serves: "),
        "{error}"
    );
    assert_eq!(output.status.code(), Some(1));
    Ok(())
}
