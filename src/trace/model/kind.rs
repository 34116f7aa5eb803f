//! Facts about kinds that are known before any object is observed.

use crate::trace::model::object::GroupKind;

/// How a change of an object is detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeDetection {
    /// `metadata.generation` increases.
    Generation,
    /// The digest of the content differs: the kind has no generation, even if an object has the field.
    Digest,
}

/// Built-in kinds whose generation the API server keeps
/// ([each kind's strategy](https://github.com/kubernetes/kubernetes/tree/v1.37.2/pkg/registry)).
const WITH_GENERATION: &[(&str, &str)] = &[
    ("", "Pod"),
    ("", "PodTemplate"),
    ("", "ReplicationController"),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ("apps", "DaemonSet"),
    ("apps", "Deployment"),
    ("apps", "ReplicaSet"),
    ("apps", "StatefulSet"),
    ("autoscaling", "HorizontalPodAutoscaler"),
    ("batch", "CronJob"),
    ("batch", "Job"),
    ("discovery.k8s.io", "EndpointSlice"),
    ("flowcontrol.apiserver.k8s.io", "FlowSchema"),
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"),
    ("networking.k8s.io", "Ingress"),
    ("networking.k8s.io", "NetworkPolicy"),
    ("policy", "PodDisruptionBudget"),
    ("resource.k8s.io", "DeviceClass"),
    ("scheduling.k8s.io", "PriorityClass"),
    ("storage.k8s.io", "CSIDriver"),
];

/// Built-in kinds whose controllers report the generation they have observed.
const OBSERVES: &[(&str, &str)] = &[
    ("", "Pod"),
    ("", "ReplicationController"),
    ("apps", "DaemonSet"),
    ("apps", "Deployment"),
    ("apps", "ReplicaSet"),
    ("apps", "StatefulSet"),
    ("autoscaling", "HorizontalPodAutoscaler"),
    ("policy", "PodDisruptionBudget"),
];

/// Groups that are part of Kubernetes. The suffix `k8s.io` does not decide: the kinds of Gateway API
/// and Cluster API are custom resources.
const BUILT_IN_GROUPS: &[&str] = &[
    "",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "apps",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
    "storagemigration.k8s.io",
];

/// The kind Namespace.
pub fn namespace() -> GroupKind {
    GroupKind::new("", "Namespace")
}

/// Whether its generation also moves with labels.
pub fn generation_counts_labels(kind: &GroupKind) -> bool {
    kind.is("discovery.k8s.io", "EndpointSlice")
}

pub fn is_built_in(kind: &GroupKind) -> bool {
    BUILT_IN_GROUPS.contains(&&*kind.group)
}

/// Whether the kind is Kubernetes Events, which report about other objects. Both groups share one
/// storage.
pub fn is_event(kind: &GroupKind) -> bool {
    kind.is("events.k8s.io", "Event") || kind.is("", "Event")
}

pub fn change_detection(kind: &GroupKind) -> ChangeDetection {
    if !is_built_in(kind) || WITH_GENERATION.contains(&(&*kind.group, &*kind.kind)) {
        ChangeDetection::Generation
    } else {
        ChangeDetection::Digest
    }
}

/// Whether the controller of a built-in kind writes `status.observedGeneration`. For custom resources
/// this is not known before one is observed.
pub fn observes(kind: &GroupKind) -> bool {
    OBSERVES.contains(&(&*kind.group, &*kind.kind))
}

/// The controller of a built-in kind, by the name it reports in Kubernetes Events
/// (`tests/it/services.rs` checks each). `None` for custom resources.
pub fn service(kind: &GroupKind) -> Option<&'static str> {
    if !is_built_in(kind) {
        return None;
    }
    Some(match (&*kind.group, &*kind.kind) {
        ("apps", "Deployment") => "deployment-controller",
        ("apps", "ReplicaSet") => "replicaset-controller",
        ("apps", "StatefulSet") => "statefulset-controller",
        ("apps", "DaemonSet") => "daemonset-controller",
        ("batch", "Job") => "job-controller",
        ("batch", "CronJob") => "cronjob-controller",
        ("autoscaling", "HorizontalPodAutoscaler") => "horizontal-pod-autoscaler",
        ("policy", "PodDisruptionBudget") => "controllermanager",
        ("", "Pod") => "pod-lifecycle",
        ("", "ReplicationController") => "replication-controller",
        ("", "Namespace") => "namespace-controller",
        ("", "Node") => "node-controller",
        ("", "PersistentVolume" | "PersistentVolumeClaim") => "persistentvolume-controller",
        ("", "Service") => "service-controller",
        _ => "spanlink",
    })
}
