//! Objects of many kinds and conventions, and their outcomes, on the real control
//! plane.

use std::time::Duration;

use anyhow::{Result, ensure};
use expect_test::expect;
use serde_json::{Value, json};
use spanlink::trace::model::span::{Role, Span};

use crate::{
    control_plane::{ControlPlane, shared, until},
    in_jaeger,
    live::beside,
    otlp_json,
    span_tree::attribute,
    widgets,
};

/// The longest wait is for a deadline of one minute.
const SOON: Duration = Duration::from_mins(3);

fn object(api_version: &str, kind: &str, namespace: &str, rest: &Value) -> Value {
    let mut object = json!({ "apiVersion": api_version, "kind": kind,
        "metadata": { "name": "it", "namespace": namespace } });
    for (key, value) in rest.as_object().into_iter().flatten() {
        object[key] = value.clone();
    }
    object
}

fn built_in(namespace: &str) -> Vec<Value> {
    let selector = json!({ "matchLabels": { "app": "none" } });
    let backend = json!({ "service": { "name": "it", "port": { "number": 80 } } });
    vec![
        object(
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            namespace,
            &json!({ "spec": { "maxReplicas": 2, "scaleTargetRef":
                { "apiVersion": "apps/v1", "kind": "Deployment", "name": "it" } } }),
        ),
        // Its target, which is not watched here.
        object(
            "apps/v1",
            "Deployment",
            namespace,
            &json!({ "spec": { "replicas": 0, "selector": selector, "template": {
                "metadata": { "labels": { "app": "none" } },
                "spec": { "containers": [{ "name": "it", "image": "it" }] } } } }),
        ),
        object("v1", "ConfigMap", namespace, &json!({ "data": { "a": "b" } })),
        object("v1", "Service", namespace, &json!({ "spec": { "ports": [{ "port": 80 }] } })),
        object(
            "policy/v1",
            "PodDisruptionBudget",
            namespace,
            &json!({ "spec": {
            "minAvailable": 1, "selector": selector } }),
        ),
        object(
            "networking.k8s.io/v1",
            "NetworkPolicy",
            namespace,
            &json!({ "spec": {
            "podSelector": selector } }),
        ),
        object(
            "networking.k8s.io/v1",
            "Ingress",
            namespace,
            &json!({ "spec": {
            "defaultBackend": backend } }),
        ),
    ]
}

fn volume_of(namespace: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": { "name": format!("it-{namespace}") },
        "spec": { "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteOnce"],
            "storageClassName": namespace, "hostPath": { "path": "/none" } } })
}

/// A custom resource, and the status that its controller writes.
fn conventions() -> [(&'static str, Value); 7] {
    let is = |kind: &str, status: &str| json!({ "type": kind, "status": status, "reason": "R" });
    let status_with =
        |conditions: &[Value]| json!({ "observedGeneration": 1, "conditions": conditions });
    [
        ("ready", status_with(&[is("Ready", "True")])),
        ("crossplane", status_with(&[is("Ready", "True"), is("Synced", "True")])),
        ("gateway", status_with(&[is("Accepted", "True"), is("Programmed", "True")])),
        ("cluster-api", status_with(&[is("Available", "True"), is("Paused", "False")])),
        (
            "in-a-condition",
            json!({ "conditions": [
            { "type": "Ready", "status": "True", "reason": "R", "observedGeneration": 1 }] }),
        ),
        ("phase-alone", json!({ "phase": "Succeeded" })),
        ("stalled", status_with(&[is("Stalled", "True"), is("Ready", "False")])),
    ]
}

async fn converge(plane: &ControlPlane, namespace: &str) -> Result<()> {
    let version = format!("{namespace}.example.com/v1");
    for (name, status) in conventions() {
        let mut widget = object(&version, "Widget", namespace, &json!({ "spec": { "size": 1 } }));
        widget["metadata"]["name"] = json!(name);
        plane.apply(&widget.to_string()).await?;
        let resource = format!("widgets.{namespace}.example.com");
        let status = json!({ "status": status }).to_string();
        let patch = ["-n", namespace, "patch", &resource, name, "--subresource=status"];
        plane.kubectl(&[&patch[..], &["--type=merge", "-p", &status]].concat()).await?;
    }
    Ok(())
}

/// `create Ingress it unknown by spanlink`
fn outcomes(spans: &[Span]) -> String {
    let mut lines: Vec<String> = spans
        .iter()
        .filter(|span| matches!(span.role, Role::Change | Role::Reconcile))
        .filter_map(|span| {
            let outcome = attribute(span, "spanlink.outcome")?;
            let verb = attribute(span, "spanlink.verb")?;
            // Those that are cluster-scoped have the namespace in their names.
            let is_wide = span.object.namespace.is_none();
            let name = if is_wide { "it" } else { &*span.object.name };
            let kind = &span.object.kind.kind;
            Some(format!("{verb} {kind} {name} {outcome} by {}\n", span.service))
        })
        .collect();
    lines.sort();
    lines.concat()
}

#[tokio::test]
async fn objects_of_every_kind_end_as_their_kind_or_its_conventions_have_it() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("kinds").await?;
    widgets::define(plane, &namespace).await?;
    widgets::define_templates(plane, &namespace).await?;
    let group = format!("*.{namespace}.example.com");
    let kinds = [
        "ConfigMap",
        "Service",
        "PodDisruptionBudget.policy",
        "NetworkPolicy.networking.k8s.io",
        "Ingress.networking.k8s.io",
        "HorizontalPodAutoscaler.autoscaling",
        &group,
    ]
    .map(|kind| format!("  - {{kind: \"{kind}\", namespaces: [{namespace}]}}\n"));
    // Cluster-scoped, each by its name; an APIService comes with its definition.
    let later = format!("later-{namespace}");
    let [volume, definition, service] = [
        ("PersistentVolume", format!("it-{namespace}")),
        ("CustomResourceDefinition.apiextensions.k8s.io", format!("widgets.{later}.example.com")),
        ("APIService.apiregistration.k8s.io", format!("v1.{later}.example.com")),
    ];
    let wide = [&volume, &definition, &service].map(|(kind, name)| {
        format!("  - {{kind: {kind}, field_selector: \"metadata.name={name}\"}}\n")
    });
    let configuration = format!("watch:\n{}{}", kinds.concat(), wide.concat());
    let daemon = beside(plane, &configuration).await?;
    for object in built_in(&namespace) {
        plane.apply(&object.to_string()).await?;
    }
    plane.apply(&volume_of(&namespace).to_string()).await?;
    widgets::define(plane, &later).await?;
    converge(plane, &namespace).await?;
    let version = format!("{namespace}.example.com/v1");
    let template = object(&version, "Template", &namespace, &json!({ "spec": { "size": 1 } }));
    plane.apply(&template.to_string()).await?;

    let jaeger = plane.jaeger()?;
    let spans = until("every outcome", SOON, async || {
        daemon.is_at_rest().await?;
        let mut spans = in_jaeger::spans(&jaeger, &namespace).await?;
        for (of, (_, name)) in [
            ("persistentvolume-controller", &volume),
            ("spanlink", &definition),
            ("spanlink", &service),
        ] {
            for trace in jaeger.find(of, &[("k8s.object.name", name)]).await? {
                let id = trace["traceID"].as_str().unwrap_or_default();
                spans.extend(otlp_json::spans(&jaeger.otlp(id).await?)?);
            }
        }
        let found = outcomes(&spans);
        let last =
            ["Ingress it unknown", "PersistentVolume", "APIService", "Definition", "Autoscaler"];
        ensure!(last.iter().all(|last| found.contains(last)), "{found}");
        Ok(spans)
    })
    .await?;
    expect![[r#"
        create APIService it converged by spanlink
        create ConfigMap it converged by spanlink
        create CustomResourceDefinition it converged by spanlink
        create HorizontalPodAutoscaler it converged by horizontal-pod-autoscaler
        create Ingress it unknown by spanlink
        create NetworkPolicy it converged by spanlink
        create PersistentVolume it converged by persistentvolume-controller
        create PodDisruptionBudget it converged by controllermanager
        create Service it converged by service-controller
        create Template it converged by template-controller
        create Widget cluster-api converged by widget-controller
        create Widget crossplane converged by widget-controller
        create Widget gateway converged by widget-controller
        create Widget in-a-condition converged by widget-controller
        create Widget phase-alone converged by widget-controller
        create Widget ready converged by widget-controller
        create Widget stalled failed by widget-controller
    "#]]
    .assert_eq(&outcomes(&spans));
    Ok(())
}
