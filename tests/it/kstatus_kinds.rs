//! When objects of built-in kinds are Current, a case each: above all kinds that kstatus lacks.

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use spanlink::trace::readiness::status::Status;

use crate::kstatus::{Case, ours};

/// Checks the verdict of each status, one line each. They are of generation 2, written since the
/// change.
pub(crate) fn check(api_version: &str, kind: &str, statuses: &[Value], expected: &Expect) {
    check_spec(api_version, kind, &json!({}), statuses, true, expected);
}

pub(crate) fn check_spec(
    api_version: &str,
    kind: &str,
    spec: &Value,
    statuses: &[Value],
    written_since: bool,
    expected: &Expect,
) {
    let verdicts = statuses.iter().map(|status| {
        let object = json!({
            "apiVersion": api_version, "kind": kind, "spec": spec, "status": status,
            "metadata": { "name": "one", "uid": "u1", "resourceVersion": "7", "generation": 2 },
        });
        let line = match ours(&Case { object, written_since }) {
            Status::Current { since: None } => "Current".to_owned(),
            Status::Current { since: Some(since) } => format!("Current since {since}"),
            Status::InProgress => "InProgress".to_owned(),
            Status::Paused => "Paused".to_owned(),
            Status::OnHold => "OnHold".to_owned(),
            Status::Failed { reason, .. } => format!("Failed: {reason}"),
            Status::Unknown => "Unknown".to_owned(),
        };
        format!("{line} <- {status}\n")
    });
    expected.assert_eq(&verdicts.collect::<String>());
}

/// A status of these conditions; `!` before a name means False, `?` Unknown.
pub(crate) fn of(names: &str) -> Value {
    let conditions: Vec<_> = names
        .split_whitespace()
        .map(|name| match name.split_at(1) {
            ("!", name) => json!({ "type": name, "status": "False" }),
            ("?", name) => json!({ "type": name, "status": "Unknown" }),
            _ => json!({ "type": name, "status": "True" }),
        })
        .collect();
    json!({ "conditions": conditions })
}

pub(crate) fn phase(phase: &str) -> Value {
    json!({ "phase": phase })
}

#[test]
fn a_claim_and_a_namespace_have_a_phase() {
    let claim = [json!({}), phase("Pending"), phase("Bound"), phase("Lost")];
    check(
        "v1",
        "PersistentVolumeClaim",
        &claim,
        &expect![[r#"
        InProgress <- {}
        InProgress <- {"phase":"Pending"}
        Current <- {"phase":"Bound"}
        InProgress <- {"phase":"Lost"}
    "#]],
    );
    let namespace = [json!({}), phase("Active"), phase("Terminating")];
    check(
        "v1",
        "Namespace",
        &namespace,
        &expect![[r#"
        InProgress <- {}
        Current <- {"phase":"Active"}
        InProgress <- {"phase":"Terminating"}
    "#]],
    );
}

#[test]
fn a_volume_has_a_phase_that_can_fail() {
    let statuses = [
        json!({}),
        phase("Pending"),
        phase("Available"),
        phase("Bound"),
        phase("Released"),
        json!({ "phase": "Failed", "reason": "RecyclerFailed" }),
        phase("Failed"),
    ];
    check(
        "v1",
        "PersistentVolume",
        &statuses,
        &expect![[r#"
        InProgress <- {}
        InProgress <- {"phase":"Pending"}
        Current <- {"phase":"Available"}
        Current <- {"phase":"Bound"}
        Current <- {"phase":"Released"}
        Failed: RecyclerFailed <- {"phase":"Failed","reason":"RecyclerFailed"}
        Failed: Failed <- {"phase":"Failed"}
    "#]],
    );
}

#[test]
fn node_is_ready_or_not_and_a_lost_one_is_unknown() {
    let statuses = [json!({}), of("!Ready"), of("?Ready"), of("Ready !MemoryPressure")];
    check(
        "v1",
        "Node",
        &statuses,
        &expect![[r#"
        InProgress <- {}
        InProgress <- {"conditions":[{"status":"False","type":"Ready"}]}
        Unknown <- {"conditions":[{"status":"Unknown","type":"Ready"}]}
        Current <- {"conditions":[{"status":"True","type":"Ready"},{"status":"False","type":"MemoryPressure"}]}
    "#]],
    );
}

#[test]
fn a_load_balancer_has_an_address() {
    let statuses = [
        json!({}),
        json!({ "loadBalancer": {} }),
        json!({ "loadBalancer": { "ingress": [] } }),
        json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.7" }] } }),
    ];
    let balancer = json!({ "type": "LoadBalancer" });
    check_spec(
        "v1",
        "Service",
        &balancer,
        &statuses,
        true,
        &expect![[r#"
        InProgress <- {}
        InProgress <- {"loadBalancer":{}}
        InProgress <- {"loadBalancer":{"ingress":[]}}
        Current <- {"loadBalancer":{"ingress":[{"ip":"192.0.2.7"}]}}
    "#]],
    );
    check(
        "v1",
        "Service",
        &[json!({ "loadBalancer": {} })],
        &expect![[r#"
        Current <- {"loadBalancer":{}}
    "#]],
    );
    check(
        "networking.k8s.io/v1",
        "Ingress",
        &statuses,
        &expect![[r#"
        Unknown <- {}
        Unknown <- {"loadBalancer":{}}
        Unknown <- {"loadBalancer":{"ingress":[]}}
        Current <- {"loadBalancer":{"ingress":[{"ip":"192.0.2.7"}]}}
    "#]],
    );
}

#[test]
fn disruption_budget_is_current_once_it_is_computed() {
    let statuses = [
        json!({}),
        json!({ "observedGeneration": 1 }),
        json!({ "observedGeneration": 2, "disruptionsAllowed": 0 }),
        json!({ "observedGeneration": 2, "conditions": [
            { "type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods" }] }),
        json!({ "observedGeneration": 2, "conditions": [
            { "type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed" }] }),
    ];
    check(
        "policy/v1",
        "PodDisruptionBudget",
        &statuses,
        &expect![[r#"
        InProgress <- {}
        InProgress <- {"observedGeneration":1}
        Current <- {"disruptionsAllowed":0,"observedGeneration":2}
        Current <- {"conditions":[{"reason":"InsufficientPods","status":"False","type":"DisruptionAllowed"}],"observedGeneration":2}
        InProgress <- {"conditions":[{"reason":"SyncFailed","status":"False","type":"DisruptionAllowed"}],"observedGeneration":2}
    "#]],
    );
}

#[test]
fn autoscaler_is_current_with_or_without_metrics() {
    let with = |kind: &str, status: &str, reason: &str| {
        json!({ "observedGeneration": 2,
            "conditions": [{ "type": kind, "status": status, "reason": reason }] })
    };
    let statuses = [
        json!({}),
        json!({ "observedGeneration": 2 }),
        with("AbleToScale", "False", "FailedGetScale"),
        with("ScalingActive", "False", "FailedGetResourceMetric"),
        with("ScalingActive", "False", "ScalingDisabled"),
        with("ScalingActive", "True", "ValidMetricFound"),
        with("ScalingLimited", "True", "TooFewReplicas"),
    ];
    check(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        &statuses,
        &expect![[r#"
            InProgress <- {}
            Current <- {"observedGeneration":2}
            InProgress <- {"conditions":[{"reason":"FailedGetScale","status":"False","type":"AbleToScale"}],"observedGeneration":2}
            Current <- {"conditions":[{"reason":"FailedGetResourceMetric","status":"False","type":"ScalingActive"}],"observedGeneration":2}
            Current <- {"conditions":[{"reason":"ScalingDisabled","status":"False","type":"ScalingActive"}],"observedGeneration":2}
            Current <- {"conditions":[{"reason":"ValidMetricFound","status":"True","type":"ScalingActive"}],"observedGeneration":2}
            Current <- {"conditions":[{"reason":"TooFewReplicas","status":"True","type":"ScalingLimited"}],"observedGeneration":2}
        "#]],
    );
}

#[test]
fn a_definition_is_established_and_a_service_of_the_api_available() {
    let statuses = [
        json!({}),
        of("NamesAccepted"),
        of("NamesAccepted Established"),
        json!({ "conditions": [
            { "type": "NamesAccepted", "status": "False", "reason": "ListKindConflict" },
            { "type": "Established", "status": "False", "reason": "NotAccepted" }] }),
        json!({ "conditions": [
            { "type": "Established", "status": "False", "reason": "Installing" }] }),
    ];
    check(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        &statuses,
        &expect![[r#"
        InProgress <- {}
        InProgress <- {"conditions":[{"status":"True","type":"NamesAccepted"}]}
        Current <- {"conditions":[{"status":"True","type":"NamesAccepted"},{"status":"True","type":"Established"}]}
        Failed: ListKindConflict <- {"conditions":[{"reason":"ListKindConflict","status":"False","type":"NamesAccepted"},{"reason":"NotAccepted","status":"False","type":"Established"}]}
        InProgress <- {"conditions":[{"reason":"Installing","status":"False","type":"Established"}]}
    "#]],
    );
    let statuses = [json!({}), of("!Available"), of("Available")];
    check(
        "apiregistration.k8s.io/v1",
        "APIService",
        &statuses,
        &expect![[r#"
        InProgress <- {}
        InProgress <- {"conditions":[{"status":"False","type":"Available"}]}
        Current <- {"conditions":[{"status":"True","type":"Available"}]}
    "#]],
    );
}
