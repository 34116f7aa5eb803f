//! Kinds of widely used operators: a spec, and the status in the stages in which the real controller
//! writes it, after the documentation of each API.

use serde_json::{Value, json};

/// What happens to an object.
pub(crate) enum Stage {
    /// A person changes the spec.
    Spec(Value),
    /// The controller writes the status.
    Status(Value),
}

/// An object of an operator's kind, and what happens to it after it is created.
pub(crate) struct Shape {
    pub(crate) api_version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    /// Whether the operator's definition has a status subresource. Without one every write of the
    /// status moves the generation.
    pub(crate) has_subresource: bool,
    pub(crate) spec: Value,
    pub(crate) stages: Vec<Stage>,
}

impl Shape {
    /// How often a person changes the object.
    pub(crate) fn changes(&self) -> usize {
        1 + self.stages.iter().filter(|stage| matches!(stage, Stage::Spec(_))).count()
    }
}

/// A status with conditions: type, status, reason and message of each.
fn conditions(all: &[(&str, &str, &str, &str)]) -> Value {
    let all = all.iter().map(|(kind, status, reason, message)| {
        json!({ "type": kind, "status": status, "reason": reason, "message": message })
    });
    json!({ "conditions": all.collect::<Vec<_>>() })
}

/// The same, of a controller that writes the observed generation.
fn observed(all: &[(&str, &str, &str, &str)]) -> Value {
    let mut status = conditions(all);
    status["observedGeneration"] = json!(true);
    status
}

pub(crate) fn shapes() -> Vec<Shape> {
    let mut shapes = of_delivery();
    shapes.extend(of_platforms());
    shapes.extend(of_runs());
    shapes
}

/// Argo CD, Flux, cert-manager and Knative.
fn of_delivery() -> Vec<Shape> {
    let application = |health: &str, sync: &str| {
        Stage::Status(json!({ "health": { "status": health }, "sync": { "status": sync } }))
    };
    vec![
        Shape {
            api_version: "argoproj.io/v1alpha1",
            kind: "Application",
            plural: "applications",
            has_subresource: false,
            spec: json!({ "source": { "targetRevision": "v1" } }),
            stages: vec![
                application("Missing", "OutOfSync"),
                application("Progressing", "Synced"),
                application("Healthy", "Synced"),
                Stage::Spec(json!({ "source": { "targetRevision": "v2" } })),
                // The health of before: the difference is seen first.
                application("Healthy", "OutOfSync"),
                application("Progressing", "Synced"),
                application("Healthy", "Synced"),
            ],
        },
        Shape {
            api_version: "kustomize.toolkit.fluxcd.io/v1",
            kind: "Kustomization",
            plural: "kustomizations",
            has_subresource: true,
            spec: json!({ "path": "./", "prune": true }),
            stages: vec![
                Stage::Status(conditions(&[
                    ("Reconciling", "True", "Progressing", "Building manifests"),
                    ("Ready", "Unknown", "Progressing", "Reconciliation in progress"),
                ])),
                Stage::Status(observed(&[("Ready", "True", "ReconciliationSucceeded", "Applied")])),
            ],
        },
        Shape {
            api_version: "cert-manager.io/v1",
            kind: "Certificate",
            plural: "certificates",
            has_subresource: true,
            spec: json!({ "secretName": "it-tls" }),
            stages: vec![
                Stage::Status(conditions(&[
                    ("Issuing", "True", "DoesNotExist", "Issuing certificate"),
                    ("Ready", "False", "DoesNotExist", "The Secret does not exist"),
                ])),
                Stage::Status(conditions(&[("Ready", "True", "Ready", "Up to date")])),
            ],
        },
        Shape {
            api_version: "serving.knative.dev/v1",
            kind: "Service",
            plural: "services",
            has_subresource: true,
            spec: json!({ "template": {} }),
            stages: vec![
                Stage::Status(observed(&[
                    ("ConfigurationsReady", "Unknown", "", ""),
                    ("Ready", "Unknown", "", ""),
                    ("RoutesReady", "Unknown", "RevisionMissing", "Configuration is waiting"),
                ])),
                Stage::Status(observed(&[
                    ("ConfigurationsReady", "True", "", ""),
                    ("Ready", "Unknown", "IngressNotConfigured", "Ingress is not reconciled"),
                    ("RoutesReady", "Unknown", "IngressNotConfigured", ""),
                ])),
                Stage::Status(observed(&[
                    ("ConfigurationsReady", "True", "", ""),
                    ("Ready", "True", "", ""),
                    ("RoutesReady", "True", "", ""),
                ])),
            ],
        },
    ]
}

/// Strimzi, `CloudNativePG`, Crossplane, KEDA and Gateway API.
fn of_platforms() -> Vec<Shape> {
    vec![
        Shape {
            api_version: "kafka.strimzi.io/v1beta2",
            kind: "Kafka",
            plural: "kafkas",
            has_subresource: true,
            spec: json!({ "kafka": { "version": "3.8.0" } }),
            stages: vec![
                Stage::Status(observed(&[("NotReady", "True", "Creating", "being deployed")])),
                Stage::Status(observed(&[("Ready", "True", "", "")])),
                Stage::Spec(json!({ "kafka": { "version": "3.9.0" } })),
                Stage::Status(observed(&[("NotReady", "True", "Creating", "being rolled")])),
                Stage::Status(observed(&[("Ready", "True", "", "")])),
            ],
        },
        Shape {
            api_version: "postgresql.cnpg.io/v1",
            kind: "Cluster",
            plural: "clusters",
            has_subresource: true,
            spec: json!({ "instances": 3 }),
            stages: vec![
                Stage::Status(json!({ "phase": "Setting up primary", "instances": 1 })),
                Stage::Status({
                    let mut status = conditions(&[("Ready", "False", "ClusterIsNotReady", "")]);
                    status["phase"] = json!("Waiting for the instances to become active");
                    status
                }),
                Stage::Status({
                    let mut status = conditions(&[("Ready", "True", "ClusterIsReady", "")]);
                    status["phase"] = json!("Cluster in healthy state");
                    status["readyInstances"] = json!(3);
                    status
                }),
            ],
        },
        Shape {
            api_version: "s3.aws.upbound.io/v1beta2",
            kind: "Bucket",
            plural: "buckets",
            has_subresource: true,
            spec: json!({ "forProvider": { "region": "eu-1" } }),
            stages: vec![
                Stage::Status(conditions(&[
                    ("Synced", "True", "ReconcileSuccess", ""),
                    ("Ready", "False", "Creating", ""),
                ])),
                Stage::Status(conditions(&[
                    ("Synced", "True", "ReconcileSuccess", ""),
                    ("Ready", "True", "Available", ""),
                ])),
            ],
        },
        Shape {
            api_version: "keda.sh/v1alpha1",
            kind: "ScaledObject",
            plural: "scaledobjects",
            has_subresource: true,
            spec: json!({ "scaleTargetRef": { "name": "web" } }),
            stages: vec![
                Stage::Status(conditions(&[
                    ("Ready", "False", "ScaledObjectCheckFailed", "the target does not exist"),
                    ("Active", "Unknown", "", ""),
                ])),
                Stage::Status(conditions(&[
                    ("Ready", "True", "ScaledObjectReady", "ready for scaling"),
                    ("Active", "False", "ScalerNotActive", "no trigger is active"),
                ])),
            ],
        },
        Shape {
            api_version: "gateway.networking.k8s.io/v1",
            kind: "Gateway",
            plural: "gateways",
            has_subresource: true,
            spec: json!({ "gatewayClassName": "it", "listeners": [] }),
            stages: vec![
                Stage::Status(conditions(&[
                    ("Accepted", "Unknown", "Pending", "Waiting for controller"),
                    ("Programmed", "Unknown", "Pending", "Waiting for controller"),
                ])),
                Stage::Status(conditions(&[
                    ("Accepted", "True", "Accepted", ""),
                    ("Programmed", "False", "AddressNotAssigned", "no address yet"),
                ])),
                Stage::Status(conditions(&[
                    ("Accepted", "True", "Accepted", ""),
                    ("Programmed", "True", "Programmed", ""),
                ])),
            ],
        },
    ]
}

/// What runs and ends: Tekton, Spark and Velero.
fn of_runs() -> Vec<Shape> {
    vec![
        Shape {
            api_version: "tekton.dev/v1",
            kind: "PipelineRun",
            plural: "pipelineruns",
            has_subresource: true,
            spec: json!({ "pipelineRef": { "name": "build" } }),
            stages: vec![
                Stage::Status(conditions(&[("Succeeded", "Unknown", "Running", "Incomplete: 2")])),
                Stage::Status({
                    let failed = ("Succeeded", "False", "Failed", "Tasks Completed: 1 (Failed: 1)");
                    let mut status = conditions(&[failed]);
                    status["completionTime"] = json!("2026-11-28T12:00:00Z");
                    status
                }),
            ],
        },
        Shape {
            api_version: "sparkoperator.k8s.io/v1beta2",
            kind: "SparkApplication",
            plural: "sparkapplications",
            has_subresource: true,
            spec: json!({ "type": "Scala", "mode": "cluster" }),
            stages: vec![
                Stage::Status(json!({ "applicationState": { "state": "SUBMITTED" } })),
                Stage::Status(json!({ "applicationState": { "state": "RUNNING" } })),
                Stage::Status(json!({ "applicationState": { "state": "FAILED",
                    "errorMessage": "driver container failed with ExitCode: 1" } })),
            ],
        },
        Shape {
            api_version: "velero.io/v1",
            kind: "Backup",
            plural: "backups",
            has_subresource: false,
            spec: json!({ "includedNamespaces": ["shop"] }),
            stages: vec![
                Stage::Status(json!({ "phase": "InProgress" })),
                Stage::Status(json!({ "phase": "PartiallyFailed", "errors": 5 })),
            ],
        },
    ]
}
