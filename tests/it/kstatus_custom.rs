//! When custom resources are Current, by the conventions of their controllers.

use expect_test::expect;
use serde_json::{Value, json};

use crate::kstatus_kinds::{check, check_spec, of, phase};

/// Its conditions have an observed generation each.
fn seen(names: &str, generation: i64) -> Value {
    let mut status = of(names);
    for condition in status["conditions"].as_array_mut().unwrap() {
        condition["observedGeneration"] = json!(generation);
    }
    status
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
            InProgress <- {"conditions":[{"status":"True","type":"Ready"},{"status":"False","type":"Available"}]}
            Unknown <- {}
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
            InProgress <- {"conditions":[{"status":"True","type":"Ready"},{"status":"True","type":"ControlPlaneReady"}]}
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
            InProgress <- {"conditions":[{"status":"True","type":"Available"},{"status":"False","type":"Paused"}],"phase":"Provisioning"}
            InProgress <- {"conditions":[{"status":"False","type":"Available"}]}
            InProgress <- {"phase":"Provisioning"}
            InProgress <- {"phase":"Provisioned"}
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
            Unknown <- {"parents":[]}
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
            Current <- {"phase":"Running"}
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
fn custom_resource_is_current_since_its_last_condition_changed() {
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
