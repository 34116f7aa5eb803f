//! Objects of operators and their verdicts, by the shipped rules and by the general rule alone.

use std::{fmt::Write as _, sync::Arc};

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use spanlink::{
    config::settings::WatchSettings,
    trace::{
        model::time::Timestamp,
        readiness::{
            judge::judge,
            shipped::sources,
            status::{Evidence, Status},
        },
    },
    watch::decode::{Decoded, Decoder},
};

use crate::scenarios::configured;

/// The verdict about an object as a watch delivers it, and its reason.
pub(crate) fn verdict(settings: &Arc<WatchSettings>, object: &Value) -> String {
    verdict_of_text(settings, &object.to_string())
}

/// The same, of an object in JSON, whose keys may be in any order.
pub(crate) fn verdict_of_text(settings: &Arc<WatchSettings>, object: &str) -> String {
    let line = format!("{{\"type\":\"ADDED\",\"object\":{object}}}");
    let decoded =
        Decoder::new(settings).decode_event(line.as_bytes(), Timestamp::from_nanos(1)).unwrap();
    let Decoded::Applied(observation) = decoded else { unreachable!("{decoded:?}") };
    let body = observation.body.as_ref().unwrap();
    let judgement = judge(&Evidence {
        kind: &observation.object.kind,
        spec: &body.spec,
        status: &observation.status,
        generation: observation.generation,
        written_since: true,
        is_to_finish: false,
        is_data_only: false,
        status_field: None,
    });
    let why = judgement.why.map(|why| format!(": {}", why.reason)).unwrap_or_default();
    match judgement.status {
        Status::Current { .. } => "Current".to_owned(),
        Status::InProgress => format!("InProgress{why}"),
        Status::Paused => "Paused".to_owned(),
        Status::OnHold => format!("OnHold{why}"),
        Status::Failed { reason, .. } => format!("Failed: {reason}"),
        Status::Unknown => "Unknown".to_owned(),
    }
}

/// The verdict about each status: of a kind `group/version/Kind`, with this spec.
fn verdicts(settings: &str, objects: &[(&str, Value, Value)], expected: &Expect) {
    let settings = configured(settings);
    let mut lines = String::new();
    for (kind, spec, status) in objects {
        let (api_version, name) = kind.rsplit_once('/').unwrap();
        let object = json!({"apiVersion": api_version, "kind": name, "spec": spec, "status": status,
            "metadata": {"name": "one", "namespace": "shop", "uid": "u", "resourceVersion": "1",
                "generation": 2}});
        writeln!(lines, "{name}: {}", verdict(&settings, &object)).unwrap();
    }
    expected.assert_eq(&lines);
}

fn condition(kind: &str, status: &str, reason: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": "as it is"})
}

#[test]
fn shipped_rules_judge_by_the_words_of_each_api() {
    let none = Value::Null;
    let state = |field: &str, word: &str| json!({field: word});
    verdicts(
        "",
        &[
            ("acme.cert-manager.io/v1/Challenge", none.clone(), state("state", "pending")),
            ("acme.cert-manager.io/v1/Challenge", none.clone(), state("state", "invalid")),
            ("acme.cert-manager.io/v1/Challenge", none.clone(), state("state", "valid")),
            (
                "acid.zalan.do/v1/postgresql",
                none.clone(),
                state("PostgresClusterStatus", "Creating"),
            ),
            (
                "acid.zalan.do/v1/postgresql",
                none.clone(),
                state("PostgresClusterStatus", "Running"),
            ),
            (
                "acid.zalan.do/v1/postgresql",
                none.clone(),
                state("PostgresClusterStatus", "CreateFailed"),
            ),
            ("argoproj.io/v1alpha1/Workflow", none.clone(), state("phase", "Running")),
            ("argoproj.io/v1alpha1/Workflow", none.clone(), state("phase", "Succeeded")),
            ("argoproj.io/v1alpha1/Workflow", none.clone(), state("phase", "Error")),
            (
                "argoproj.io/v1alpha1/Rollout",
                json!({"replicas": 2}),
                json!({"observedGeneration": "2", "phase": "Progressing"}),
            ),
            (
                "argoproj.io/v1alpha1/Rollout",
                json!({"replicas": 2}),
                json!({"observedGeneration": "2", "phase": "Paused",
                    "pauseConditions": [{"reason": "CanaryPauseStep"}]}),
            ),
            (
                "argoproj.io/v1alpha1/Rollout",
                json!({"replicas": 2}),
                json!({"observedGeneration": "2", "phase": "Healthy"}),
            ),
            (
                "argoproj.io/v1alpha1/Rollout",
                json!({"replicas": 2}),
                json!({"observedGeneration": "1", "phase": "Healthy"}),
            ),
            ("argoproj.io/v1alpha1/AnalysisTemplate", json!({"metrics": []}), none),
        ],
        &expect![[r#"
            Challenge: InProgress: pending
            Challenge: Failed: invalid
            Challenge: Current
            postgresql: InProgress: Creating
            postgresql: Current
            postgresql: Failed: CreateFailed
            Workflow: InProgress: Running
            Workflow: Current
            Workflow: Failed: Error
            Rollout: InProgress: Progressing
            Rollout: OnHold
            Rollout: Current
            Rollout: InProgress
            AnalysisTemplate: Current
        "#]],
    );
}

#[test]
fn general_rule_weighs_conditions_words_counters_and_flags() {
    let none = Value::Null;
    let widget = "example.com/v1/Widget";
    let conditions = |all: &[Value]| json!({"conditions": all});
    verdicts(
        "shipped_rules: false\n",
        &[
            (widget, none.clone(), conditions(&[condition("Ready", "True", "")])),
            (widget, none.clone(), conditions(&[condition("Ready", "False", "QuotaExceeded")])),
            (
                widget,
                none.clone(),
                conditions(&[condition("Ready", "True", ""), condition("RollingOut", "True", "")]),
            ),
            (widget, none.clone(), conditions(&[condition("ACK.Terminal", "True", "BadName")])),
            (widget, none.clone(), conditions(&[condition("SyncFailed", "True", "Denied")])),
            (widget, none.clone(), conditions(&[condition("NotReady", "False", "")])),
            (widget, none.clone(), json!({"phase": "Enchanted"})),
            (widget, none.clone(), json!({"state": "RUNNING"})),
            ("example.com/v1/TrainingJob", none.clone(), json!({"state": "RUNNING"})),
            (widget, none.clone(), json!({"health": {"status": "Degraded"}})),
            (widget, none.clone(), json!({"phase": "Cluster in healthy state"})),
            (widget, none.clone(), json!({"phase": "Setting up primary"})),
            (widget, json!({"replicas": 3}), json!({"readyReplicas": 2, "phase": "Ready"})),
            (widget, json!({"replicas": 3}), json!({"readyReplicas": 3})),
            (widget, none.clone(), json!({"readyToUse": false})),
            (widget, json!({"suspend": true}), json!({"observedGeneration": 1})),
            (widget, none.clone(), conditions(&[condition("Ready", "False", "RolloutPaused")])),
            (widget, none, json!({"observedGeneration": 2})),
        ],
        &expect![[r#"
            Widget: Current
            Widget: InProgress: QuotaExceeded
            Widget: InProgress: RollingOut
            Widget: Failed: BadName
            Widget: InProgress: Denied
            Widget: Current
            Widget: Unknown
            Widget: Current
            TrainingJob: InProgress: RUNNING
            Widget: InProgress: Degraded
            Widget: Current
            Widget: InProgress: Setting up primary
            Widget: InProgress: readyReplicas
            Widget: Current
            Widget: InProgress: readyToUse
            Widget: Paused
            Widget: OnHold: RolloutPaused
            Widget: Current
        "#]],
    );
}

/// An object that its operator's users judge otherwise, and why our verdict stays.
struct Disagreement {
    kind: &'static str,
    metadata: Value,
    spec: Value,
    status: Value,
    theirs: &'static str,
    ours: &'static str,
    reason: &'static str,
}

fn disagreements() -> Vec<Disagreement> {
    let none = || Value::Null;
    vec![
        Disagreement {
            kind: "batch/v1/CronJob",
            metadata: none(),
            spec: json!({"schedule": "* * * * *"}),
            status: json!({"lastScheduleTime": "2026-11-28T10:02:00Z",
                "lastSuccessfulTime": "2026-11-28T10:00:30Z"}),
            theirs: "Degraded",
            ours: "Current",
            reason: "A change of a CronJob has nothing to wait for. A failed run is a Job of its own, \
                     with its own outcome.",
        },
        Disagreement {
            kind: "numaflow.numaproj.io/v1alpha1/Pipeline",
            metadata: none(),
            spec: none(),
            status: json!({"phase": "Running", "observedGeneration": 2,
                "conditions": [condition("Deployed", "True", "Successful")]}),
            theirs: "Degraded",
            ours: "Current",
            reason: "Another operator compares this version with the one before, and notes the result \
                     elsewhere. The object itself runs as asked.",
        },
        Disagreement {
            kind: "kafka.strimzi.io/v1/KafkaBridge",
            metadata: json!({"generation": 9}),
            spec: json!({"replicas": 1}),
            status: json!({"observedGeneration": 4,
                "conditions": [condition("Ready", "True", "")]}),
            theirs: "Healthy",
            ours: "InProgress",
            reason: "The status is about a generation of before.",
        },
        Disagreement {
            kind: "work.karmada.io/v1alpha2/ResourceBinding",
            metadata: none(),
            spec: none(),
            status: json!({"schedulerObservedGeneration": 1,
                "aggregatedStatus": [{"clusterName": "member", "applied": true, "health": "Unknown"}],
                "conditions": [condition("Scheduled", "True", "BindingScheduled"),
                    condition("FullyApplied", "True", "FullyAppliedSuccess")]}),
            theirs: "Healthy",
            ours: "InProgress: ClusterUnhealthy",
            reason: "The health in the member cluster is not known yet.",
        },
        Disagreement {
            kind: "services.cloud.sap.com/v1/ServiceBinding",
            metadata: none(),
            spec: none(),
            status: json!({"conditions": [condition("Succeeded", "True", "Created"),
                condition("Ready", "True", "Provisioned")]}),
            theirs: "Healthy",
            ours: "InProgress: NotReady",
            reason: "Before the operator has set its finalizer it has not taken over the object.",
        },
        Disagreement {
            kind: "argoproj.io/v1alpha1/Rollout",
            metadata: none(),
            spec: json!({"replicas": 1, "workloadRef": {"kind": "Deployment", "name": "web"}}),
            status: json!({"observedGeneration": "2", "workloadObservedGeneration": "3",
                "phase": "Healthy"}),
            theirs: "Healthy",
            ours: "InProgress",
            reason: "Which generation of the Deployment the Rollout has taken over is in an annotation. \
                     Without it the status may be about the one before.",
        },
    ]
}

/// Written anew after the test data of Argo CD (argoproj/argo-cd, `resource_customizations`), whose
/// verdicts are those of the people who operate these objects.
#[test]
fn disagreements_with_users_of_operators_have_reasons() {
    let settings = configured("");
    for Disagreement { kind, metadata, spec, status, theirs, ours, reason } in disagreements() {
        let (api_version, name) = kind.rsplit_once('/').unwrap();
        let mut object = json!({"apiVersion": api_version, "kind": name, "spec": spec,
            "status": status, "metadata": {"name": "one", "namespace": "shop", "uid": "u",
                "resourceVersion": "1", "generation": 2}});
        for (key, value) in metadata.as_object().into_iter().flatten() {
            object["metadata"][key] = value.clone();
        }
        let is_healthy = ours == "Current";
        assert_ne!(is_healthy, theirs == "Healthy", "{kind} is no disagreement");
        assert_eq!(verdict(&settings, &object), ours, "{kind}, {theirs}: {reason}");
    }
}

#[test]
fn no_status_of_any_shape_disturbs_a_rule() {
    let shapes = [
        Value::Null,
        json!("text"),
        json!(7),
        json!([]),
        json!([{"phase": 1}]),
        json!({}),
        json!({"phase": null, "state": [], "conditions": "Ready", "health": 1}),
        json!({"conditions": [null, 1, "x", [], {}, {"type": 1, "status": {}}]}),
        json!({"conditions": {"type": "Ready"}, "observedGeneration": "many", "replicas": -1}),
        json!({"phase": {"phase": {"phase": []}}, "status": {"state": 1e300}, "ready": "perhaps"}),
        json!({"phase": "\u{0}ｆａｉｌｅｄ", "state": "x".repeat(10_000), "conditions": [
            {"type": "", "status": ""}, {"type": "Ready", "status": "True", "reason": 1}]}),
    ];
    let settings = configured("");
    for kind in sources().into_keys() {
        let (name, group) = kind.split_once('.').unwrap();
        for (spec, status) in
            shapes.iter().zip(shapes.iter().rev()).chain(shapes.iter().zip(&shapes))
        {
            let object = json!({"apiVersion": format!("{group}/v1"), "kind": name, "spec": spec,
                "status": status, "metadata": {"name": "one", "uid": "u", "resourceVersion": "1",
                    "generation": 1}});
            let verdict = verdict(&settings, &object);
            assert!(!verdict.is_empty());
        }
    }
}
