//! Problems on the real control plane are reported while they last.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Result, ensure};
use expect_test::expect;
use serde_json::{Value, json};
use spanlink::trace::model::span::{Role, Span, SpanStatus};

use crate::{
    control_plane::{ControlPlane, shared, until},
    in_jaeger,
    live::beside,
    scene::{template, workload},
    span_tree::attribute,
    widgets,
};

const SOON: Duration = Duration::from_mins(2);

fn pod(name: &str, namespace: &str, spec: &Value) -> Value {
    let mut pod = json!({ "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": namespace },
        "spec": { "containers": template()["spec"]["containers"] } });
    for (key, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][key] = value.clone();
    }
    pod
}

fn deployment(name: &str, namespace: &str) -> Value {
    let mut object = workload("Deployment");
    object["metadata"] = json!({ "name": name, "namespace": namespace });
    object["spec"]["selector"]["matchLabels"] = json!({ "app": name });
    object["spec"]["template"]["metadata"]["labels"] = json!({ "app": name });
    object
}

/// Pods that ask for memory are over the quota; those with the label `refused` are refused by a
/// policy.
async fn limits(plane: &ControlPlane, namespace: &str) -> Result<()> {
    let quota = json!({ "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": { "name": "none", "namespace": namespace },
        "spec": { "hard": { "requests.memory": "1" },
            "scopeSelector": { "matchExpressions": [{ "scopeName": "PriorityClass",
                "operator": "In", "values": ["system-cluster-critical"] }] } } });
    plane.apply(&quota.to_string()).await?;
    let policy = json!({ "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy", "metadata": { "name": namespace },
        "spec": {
            "matchConstraints": {
                "namespaceSelector":
                    { "matchLabels": { "kubernetes.io/metadata.name": namespace } },
                "resourceRules": [{ "apiGroups": [""], "apiVersions": ["v1"],
                    "operations": ["CREATE"], "resources": ["pods"] }],
            },
            "validations": [{ "message": "not here",
                "expression": "!has(object.metadata.labels) || !('refused' in object.metadata.labels)" }],
        } });
    plane.apply(&policy.to_string()).await?;
    let binding = json!({ "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding", "metadata": { "name": namespace },
        "spec": { "policyName": namespace, "validationActions": ["Deny"] } });
    plane.apply(&binding.to_string()).await?;
    // A policy takes a while to be in force: until then it would let the Pod pass.
    let mut refused = pod("probe", namespace, &json!({}));
    refused["metadata"]["labels"] = json!({ "refused": "yes" });
    until("the policy to be in force", SOON, async || {
        let dry = ["create", "--dry-run=server", "-f", "-"];
        let allowed = plane.kubectl_with_input(&dry, &refused.to_string()).await;
        ensure!(allowed.is_err(), "it lets Pods pass");
        Ok(())
    })
    .await
}

async fn hold_everything_up(plane: &ControlPlane, namespace: &str) -> Result<()> {
    limits(plane, namespace).await?;
    let mut over = deployment("over-quota", namespace);
    over["spec"]["template"]["spec"]["priorityClassName"] = json!("system-cluster-critical");
    over["spec"]["template"]["spec"]["containers"][0]["resources"] =
        json!({ "requests": { "memory": "1Mi" } });
    let mut refused = deployment("refused", namespace);
    refused["spec"]["template"]["metadata"]["labels"]["refused"] = json!("yes");
    let nowhere = pod("nowhere", namespace, &json!({ "nodeSelector": { "no-such": "node" } }));
    let gated =
        pod("gated", namespace, &json!({ "schedulingGates": [{ "name": "example.com/g" }] }));
    let mut unready = pod("unready", namespace, &json!({}));
    unready["metadata"]["labels"] = json!({ "spanlink.test/behaviour": "never-ready" });
    let class = json!({ "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": { "name": namespace }, "provisioner": "disk.example.com" });
    let claim = json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": { "name": "claim", "namespace": namespace },
        "spec": { "storageClassName": namespace, "accessModes": ["ReadWriteOnce"],
            "resources": { "requests": { "storage": "1Gi" } } } });
    let kept = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata":
        { "name": "kept", "namespace": namespace, "finalizers": ["example.com/keep"] } });
    let group = format!("{namespace}.example.com");
    let widget = json!({ "apiVersion": format!("{group}/v1"), "kind": "Widget",
        "metadata": { "name": "unsynced", "namespace": namespace }, "spec": {} });
    for object in [&over, &refused, &nowhere, &gated, &unready, &class, &claim, &kept, &widget] {
        plane.apply(&object.to_string()).await?;
    }
    let kubectl =
        async |arguments: &[&str]| plane.kubectl(&[&["-n", namespace], arguments].concat()).await;
    kubectl(&["delete", "configmap", "kept", "--wait=false"]).await?;
    // The fake kubelet has no readiness gates: this is the status that a real one writes.
    let running = ["wait", "--for=jsonpath={.status.phase}=Running", "--timeout=2m", "pod/unready"];
    kubectl(&running).await?;
    let gate = json!({ "status": { "conditions": [{ "type": "Ready", "status": "False",
        "reason": "ReadinessGatesNotReady",
        "message": "corresponding condition of pod readiness gate \"example.com/r\" does not exist." }] } });
    kubectl(&["patch", "pod", "unready", "--subresource=status", "-p", &gate.to_string()]).await?;
    let status = json!({ "status": { "observedGeneration": 1, "conditions": [
        { "type": "Synced", "status": "False", "reason": "ReconcileError", "message": "no such role" },
        { "type": "Ready", "status": "False", "reason": "Creating" },
    ] } });
    let resource = format!("widgets.{group}");
    let patch = ["patch", &resource, "unsynced", "--subresource=status", "--type=merge", "-p"];
    kubectl(&[&patch[..], &[&status.to_string()]].concat()).await?;
    Ok(())
}

/// `stuck Pod nowhere Unschedulable: 0/1 nodes …`, the message up to where it begins to vary.
fn row(span: &Span) -> String {
    let message = match &span.status {
        SpanStatus::Error(message) => message.to_string(),
        SpanStatus::Unset => String::new(),
    };
    let owner = attribute(span, "k8s.deployment.name");
    let name = owner.unwrap_or_else(|| span.object.name.to_string());
    let name =
        name.rsplit_once('-').filter(|_| name.starts_with("refused") || name.starts_with("over"));
    let name = name.map_or_else(|| span.object.name.to_string(), |(name, _)| name.to_owned());
    let reason = attribute(span, "error.type").unwrap_or_default();
    let known = [
        "exceeded quota",
        "denied request: not here",
        "node affinity/selector",
        "no such role",
        "example.com/keep",
        "disk.example.com",
        "example.com/r",
        "example.com/g",
    ];
    let message = known.into_iter().find(|known| message.contains(known)).unwrap_or(&message);
    format!("{} {name} {reason}: {message}\n", span.name)
}

#[tokio::test]
async fn held_up_objects_have_a_stuck_span_with_the_reason() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("held").await?;
    widgets::define(plane, &namespace).await?;
    let group = format!("*.{namespace}.example.com");
    let kinds =
        ["Deployment.apps", "ReplicaSet.apps", "Pod", "PersistentVolumeClaim", "ConfigMap", &group]
            .map(|kind| format!("  - {{kind: \"{kind}\", namespaces: [{namespace}]}}\n"));
    let configuration = format!("stuck_after: 2s\nwatch:\n{}", kinds.concat());
    let daemon = beside(plane, &configuration).await?;
    hold_everything_up(plane, &namespace).await?;

    let jaeger = plane.jaeger()?;
    let rows = until("all that is stuck", SOON, async || {
        let spans = in_jaeger::spans(&jaeger, &namespace).await?;
        let stuck = spans.iter().filter(|span| span.role == Role::Stuck);
        let rows: BTreeSet<String> = stuck.map(row).collect();
        ensure!(rows.len() >= 8, "{rows:#?}");
        Ok(rows)
    })
    .await?;
    expect![[r#"
        stuck ConfigMap kept SomeFinalizersRemain: example.com/keep
        stuck PersistentVolumeClaim claim Pending: disk.example.com
        stuck Pod gated SchedulingGated: Scheduling is blocked due to non-empty scheduling gates
        stuck Pod nowhere Unschedulable: node affinity/selector
        stuck Pod unready ReadinessGatesNotReady: example.com/r
        stuck ReplicaSet over-quota FailedCreate: exceeded quota
        stuck ReplicaSet refused FailedCreate: denied request: not here
        stuck Widget unsynced ReconcileError: no such role
    "#]]
    .assert_eq(&rows.into_iter().collect::<String>());
    let waits = [
        ("Deployment.apps", "FailedCreate", 2.0),
        ("Pod", "Unschedulable", 1.0),
        ("Pod", "SchedulingGated", 1.0),
        ("Pod", "ReadinessGatesNotReady", 1.0),
        ("PersistentVolumeClaim", "Pending", 1.0),
        ("ConfigMap", "SomeFinalizersRemain", 1.0),
        (&format!("Widget.{namespace}.example.com"), "ReconcileError", 1.0),
    ];
    until("all that waits to be counted", SOON, async || {
        for (kind, reason, count) in waits {
            let labels = format!("{{kind=\"{kind}\",waiting_for=\"{reason}\"}}");
            let open = daemon.metric(&format!("spanlink_open_convergences{labels}")).await?;
            ensure!((open - count).abs() < 0.5, "{kind} {reason}: {open}");
        }
        Ok(())
    })
    .await
}
