//! When objects of each kind are Current, a case each: above all kinds that kstatus lacks.

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use spanlink::trace::readiness::status::Status;

use crate::kstatus::{Case, ours};

/// What becomes of each status, one line each. They are of generation 2, written since the change.
fn check(api_version: &str, kind: &str, statuses: &[Value], expected: &Expect) {
    check_spec(api_version, kind, &json!({}), statuses, true, expected);
}

fn check_spec(
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
            Status::Failed { reason, .. } => format!("Failed: {reason}"),
            Status::Unknown => "Unknown".to_owned(),
        };
        format!("{line} <- {status}\n")
    });
    expected.assert_eq(&verdicts.collect::<String>());
}

/// A status of these conditions; `!` before a name means False, `?` Unknown.
fn of(names: &str) -> Value {
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

/// Its conditions have an observed generation each.
fn seen(names: &str, generation: i64) -> Value {
    let mut status = of(names);
    for condition in status["conditions"].as_array_mut().unwrap() {
        condition["observedGeneration"] = json!(generation);
    }
    status
}

fn phase(phase: &str) -> Value {
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

#[test]
fn custom_resource_is_ready_by_its_ready_condition() {
    let since = json!({ "conditions": [{ "type": "Ready", "status": "True",
        "lastTransitionTime": "2026-11-24T10:00:00Z" }] });
    let statuses = [
        of("Ready"),
        since,
        of("!Ready"),
        of("?Ready"),
        of("Ready Reconciling"),
        of("!Ready Stalled"),
        of("Ready !Available"),
        json!({}),
        json!({ "observedGeneration": 1, "conditions": [{ "type": "Ready", "status": "True" }] }),
    ];
    check(
        "example.com/v1",
        "Widget",
        &statuses,
        &expect![[r#"
        Current <- {"conditions":[{"status":"True","type":"Ready"}]}
        Current since 2026-11-24T10:00:00.000000000Z <- {"conditions":[{"lastTransitionTime":"2026-11-24T10:00:00Z","status":"True","type":"Ready"}]}
        InProgress <- {"conditions":[{"status":"False","type":"Ready"}]}
        InProgress <- {"conditions":[{"status":"Unknown","type":"Ready"}]}
        InProgress <- {"conditions":[{"status":"True","type":"Ready"},{"status":"True","type":"Reconciling"}]}
        Failed: Stalled <- {"conditions":[{"status":"False","type":"Ready"},{"status":"True","type":"Stalled"}]}
        Current <- {"conditions":[{"status":"True","type":"Ready"},{"status":"False","type":"Available"}]}
        Current <- {}
        InProgress <- {"conditions":[{"status":"True","type":"Ready"}],"observedGeneration":1}
    "#]],
    );
}

#[test]
fn status_from_before_the_change_is_not_evidence() {
    let statuses = [
        json!({}),
        of("Ready"),
        of("!Ready Stalled"),
        of("Reconciling"),
        phase("Failed"),
        json!({ "observedGeneration": 2 }),
        seen("Ready", 2),
        seen("Ready", 1),
        seen("Stalled", 1),
        seen("Stalled", 2),
    ];
    check_spec(
        "example.com/v1",
        "Widget",
        &json!({}),
        &statuses,
        false,
        &expect![[r#"
        Unknown <- {}
        Unknown <- {"conditions":[{"status":"True","type":"Ready"}]}
        Unknown <- {"conditions":[{"status":"False","type":"Ready"},{"status":"True","type":"Stalled"}]}
        InProgress <- {"conditions":[{"status":"True","type":"Reconciling"}]}
        Unknown <- {"phase":"Failed"}
        Current <- {"observedGeneration":2}
        Current <- {"conditions":[{"observedGeneration":2,"status":"True","type":"Ready"}]}
        InProgress <- {"conditions":[{"observedGeneration":1,"status":"True","type":"Ready"}]}
        InProgress <- {"conditions":[{"observedGeneration":1,"status":"True","type":"Stalled"}]}
        Failed: Stalled <- {"conditions":[{"observedGeneration":2,"status":"True","type":"Stalled"}]}
    "#]],
    );
}

#[test]
fn crossplane_resource_is_ready_and_synced() {
    let statuses = [of("Ready Synced"), of("Ready !Synced"), of("!Ready Synced"), of("Synced")];
    check(
        "s3.aws.upbound.io/v1beta1",
        "Bucket",
        &statuses,
        &expect![[r#"
        Current <- {"conditions":[{"status":"True","type":"Ready"},{"status":"True","type":"Synced"}]}
        InProgress <- {"conditions":[{"status":"True","type":"Ready"},{"status":"False","type":"Synced"}]}
        InProgress <- {"conditions":[{"status":"False","type":"Ready"},{"status":"True","type":"Synced"}]}
        Current <- {"conditions":[{"status":"True","type":"Synced"}]}
    "#]],
    );
}

#[test]
fn cluster_api_is_ready_or_available() {
    let older = [of("Ready ControlPlaneReady"), of("!Ready ControlPlaneReady")];
    check(
        "cluster.x-k8s.io/v1beta1",
        "Cluster",
        &older,
        &expect![[r#"
        Current <- {"conditions":[{"status":"True","type":"Ready"},{"status":"True","type":"ControlPlaneReady"}]}
        InProgress <- {"conditions":[{"status":"False","type":"Ready"},{"status":"True","type":"ControlPlaneReady"}]}
    "#]],
    );
    let mut moving = of("Available !Paused");
    moving["phase"] = json!("Provisioning");
    let newer = [moving, of("!Available"), phase("Provisioning"), phase("Provisioned")];
    check(
        "cluster.x-k8s.io/v1beta2",
        "Cluster",
        &newer,
        &expect![[r#"
        Current <- {"conditions":[{"status":"True","type":"Available"},{"status":"False","type":"Paused"}],"phase":"Provisioning"}
        InProgress <- {"conditions":[{"status":"False","type":"Available"}]}
        InProgress <- {"phase":"Provisioning"}
        Current <- {"phase":"Provisioned"}
    "#]],
    );
}

#[test]
fn conditions_of_gateway_api_have_their_own_observed_generation() {
    let statuses = [
        of("?Accepted ?Programmed"),
        seen("Accepted Programmed", 2),
        seen("Accepted !Programmed", 2),
        seen("Accepted Programmed", 1),
        json!({ "conditions": [seen("Accepted", 2)["conditions"][0], seen("Programmed", 1)["conditions"][0]] }),
    ];
    check(
        "gateway.networking.k8s.io/v1",
        "Gateway",
        &statuses,
        &expect![[r#"
            InProgress <- {"conditions":[{"status":"Unknown","type":"Accepted"},{"status":"Unknown","type":"Programmed"}]}
            Current <- {"conditions":[{"observedGeneration":2,"status":"True","type":"Accepted"},{"observedGeneration":2,"status":"True","type":"Programmed"}]}
            InProgress <- {"conditions":[{"observedGeneration":2,"status":"True","type":"Accepted"},{"observedGeneration":2,"status":"False","type":"Programmed"}]}
            InProgress <- {"conditions":[{"observedGeneration":1,"status":"True","type":"Accepted"},{"observedGeneration":1,"status":"True","type":"Programmed"}]}
            InProgress <- {"conditions":[{"observedGeneration":2,"status":"True","type":"Accepted"},{"observedGeneration":1,"status":"True","type":"Programmed"}]}
        "#]],
    );
    let route = |all: &[&str]| {
        let parents: Vec<_> = all.iter().map(|names| seen(names, 2)).collect();
        json!({ "parents": parents })
    };
    let statuses = [
        route(&[]),
        route(&["Accepted ResolvedRefs"]),
        route(&["Accepted !ResolvedRefs"]),
        route(&["Accepted ResolvedRefs", "!Accepted"]),
    ];
    check(
        "gateway.networking.k8s.io/v1",
        "HTTPRoute",
        &statuses,
        &expect![[r#"
        Current <- {"parents":[]}
        Current <- {"parents":[{"conditions":[{"observedGeneration":2,"status":"True","type":"Accepted"},{"observedGeneration":2,"status":"True","type":"ResolvedRefs"}]}]}
        InProgress <- {"parents":[{"conditions":[{"observedGeneration":2,"status":"True","type":"Accepted"},{"observedGeneration":2,"status":"False","type":"ResolvedRefs"}]}]}
        InProgress <- {"parents":[{"conditions":[{"observedGeneration":2,"status":"True","type":"Accepted"},{"observedGeneration":2,"status":"True","type":"ResolvedRefs"}]},{"conditions":[{"observedGeneration":2,"status":"False","type":"Accepted"}]}]}
    "#]],
    );
}

#[test]
fn clear_phase_decides_where_no_condition_does() {
    let mut observed = phase("Enchanted");
    observed["observedGeneration"] = json!(2);
    let mut not_ready = of("!Ready");
    not_ready["phase"] = json!("Ready");
    let statuses = [
        phase("Ready"),
        phase("Pending"),
        json!({ "phase": "Failed", "reason": "NoQuota" }),
        phase("Running"),
        observed,
        not_ready,
    ];
    check(
        "example.com/v1",
        "Widget",
        &statuses,
        &expect![[r#"
        Current <- {"phase":"Ready"}
        InProgress <- {"phase":"Pending"}
        Failed: NoQuota <- {"phase":"Failed","reason":"NoQuota"}
        Unknown <- {"phase":"Running"}
        Current <- {"observedGeneration":2,"phase":"Enchanted"}
        InProgress <- {"conditions":[{"status":"False","type":"Ready"}],"phase":"Ready"}
    "#]],
    );
}

#[test]
fn phases_with_clear_names_are_in_progress_or_final() {
    let ends = [
        "Active",
        "Available",
        "Bound",
        "Completed",
        "Healthy",
        "Provisioned",
        "Ready",
        "Succeeded",
    ];
    let beginnings = [
        "Creating",
        "Deleting",
        "Initializing",
        "Pending",
        "Progressing",
        "Provisioning",
        "Reconciling",
        "Terminating",
        "Updating",
        "Upgrading",
    ];
    let statuses: Vec<Value> = ends.iter().chain(&beginnings).map(|word| phase(word)).collect();
    check(
        "example.com/v1",
        "Widget",
        &statuses,
        &expect![[r#"
        Current <- {"phase":"Active"}
        Current <- {"phase":"Available"}
        Current <- {"phase":"Bound"}
        Current <- {"phase":"Completed"}
        Current <- {"phase":"Healthy"}
        Current <- {"phase":"Provisioned"}
        Current <- {"phase":"Ready"}
        Current <- {"phase":"Succeeded"}
        InProgress <- {"phase":"Creating"}
        InProgress <- {"phase":"Deleting"}
        InProgress <- {"phase":"Initializing"}
        InProgress <- {"phase":"Pending"}
        InProgress <- {"phase":"Progressing"}
        InProgress <- {"phase":"Provisioning"}
        InProgress <- {"phase":"Reconciling"}
        InProgress <- {"phase":"Terminating"}
        InProgress <- {"phase":"Updating"}
        InProgress <- {"phase":"Upgrading"}
    "#]],
    );
}

#[test]
fn a_custom_resource_is_current_since_the_last_of_its_conditions_turned() {
    let since = |kind: &str, second: u8| {
        let at = format!("2026-11-24T10:00:{second:02}Z");
        json!({ "type": kind, "status": "True", "lastTransitionTime": at })
    };
    let statuses = [
        json!({ "conditions": [since("Ready", 7), since("Synced", 3)] }),
        json!({ "conditions": [since("Succeeded", 5)] }),
        of("?Succeeded"),
    ];
    check(
        "example.com/v1",
        "Widget",
        &statuses,
        &expect![[r#"
        Current since 2026-11-24T10:00:07.000000000Z <- {"conditions":[{"lastTransitionTime":"2026-11-24T10:00:07Z","status":"True","type":"Ready"},{"lastTransitionTime":"2026-11-24T10:00:03Z","status":"True","type":"Synced"}]}
        Current since 2026-11-24T10:00:05.000000000Z <- {"conditions":[{"lastTransitionTime":"2026-11-24T10:00:05Z","status":"True","type":"Succeeded"}]}
        InProgress <- {"conditions":[{"status":"Unknown","type":"Succeeded"}]}
    "#]],
    );
}
