//! Every attribute key of spans and links. `docs/model.md` describes each.

use crate::trace::model::object::GroupKind;

pub const ERROR_TYPE: &str = "error.type";
pub const K8S_CONTAINER_NAME: &str = "k8s.container.name";
pub const K8S_CRONJOB_NAME: &str = "k8s.cronjob.name";
pub const K8S_DAEMONSET_NAME: &str = "k8s.daemonset.name";
pub const K8S_DEPLOYMENT_NAME: &str = "k8s.deployment.name";
pub const K8S_HPA_NAME: &str = "k8s.hpa.name";
pub const K8S_JOB_NAME: &str = "k8s.job.name";
pub const K8S_NAMESPACE_NAME: &str = "k8s.namespace.name";
pub const K8S_NODE_NAME: &str = "k8s.node.name";
pub const K8S_OBJECT_API_VERSION: &str = "k8s.object.api_version";
pub const K8S_OBJECT_KIND: &str = "k8s.object.kind";
pub const K8S_OBJECT_NAME: &str = "k8s.object.name";
pub const K8S_OBJECT_RESOURCE_VERSION: &str = "k8s.object.resource_version";
pub const K8S_OBJECT_UID: &str = "k8s.object.uid";
pub const K8S_POD_NAME: &str = "k8s.pod.name";
pub const K8S_REPLICASET_NAME: &str = "k8s.replicaset.name";
pub const K8S_REPLICATIONCONTROLLER_NAME: &str = "k8s.replicationcontroller.name";
pub const K8S_RESOURCEQUOTA_NAME: &str = "k8s.resourcequota.name";
pub const K8S_STATEFULSET_NAME: &str = "k8s.statefulset.name";
pub const CAUSE_AMBIGUOUS: &str = "spanlink.cause.ambiguous";
pub const CAUSE_RULE: &str = "spanlink.cause.rule";
pub const CASCADE: &str = "spanlink.cascade";
pub const CHANGE_FIELDS: &str = "spanlink.change.fields";
pub const CHANGE_MANAGER: &str = "spanlink.change.manager";
pub const CHANGE_MISSED_GENERATIONS: &str = "spanlink.change.missed_generations";
pub const CHANGE_OPERATION: &str = "spanlink.change.operation";
pub const CHANGE_REWOUND: &str = "spanlink.change.rewound";
pub const CHANGE_SCOPE: &str = "spanlink.change.scope";
pub const CHANGE_SUBRESOURCE: &str = "spanlink.change.subresource";
pub const CHANGE_VALUES: &str = "spanlink.change.values";
pub const CONTEXT_BY_CONTROLLER: &str = "spanlink.context.by_controller";
pub const CONTEXT_JOINED: &str = "spanlink.context.joined";
pub const CONTEXT_REVIVED: &str = "spanlink.context.revived";
pub const CONTEXT_SPAN_ID: &str = "spanlink.context.span_id";
pub const CONTEXT_STALE: &str = "spanlink.context.stale";
pub const CONTEXT_TRACE_ID: &str = "spanlink.context.trace_id";
pub const GENERATION: &str = "spanlink.generation";
pub const LINK_BY_CONTROLLER: &str = "spanlink.link.by_controller";
pub const LINK_GENERATION: &str = "spanlink.link.generation";
pub const LINK_JOINED: &str = "spanlink.link.joined";
pub const LINK_KIND: &str = "spanlink.link.kind";
pub const LINK_NAME: &str = "spanlink.link.name";
pub const LINK_REVIVED: &str = "spanlink.link.revived";
pub const LINK_ROLE: &str = "spanlink.link.role";
pub const LINK_STALE: &str = "spanlink.link.stale";
pub const LINK_UID: &str = "spanlink.link.uid";
pub const ORIGIN_TRACE_ID: &str = "spanlink.origin.trace_id";
pub const OUTCOME: &str = "spanlink.outcome";
pub const OWNER_GENERATION: &str = "spanlink.owner.generation";
pub const OWNER_KIND: &str = "spanlink.owner.kind";
pub const OWNER_NAME: &str = "spanlink.owner.name";
pub const OWNER_SETTLED: &str = "spanlink.owner.settled";
pub const OWNER_SPAN_ID: &str = "spanlink.owner.span_id";
pub const OWNER_TRACE_ID: &str = "spanlink.owner.trace_id";
pub const OWNER_UID: &str = "spanlink.owner.uid";
pub const PHASE_ACTOR: &str = "spanlink.phase.actor";
pub const REASON: &str = "spanlink.reason";
pub const EVIDENCE: &str = "spanlink.evidence";
pub const REPLACED_NAME: &str = "spanlink.replaced.name";
pub const REPLACED_UID: &str = "spanlink.replaced.uid";
pub const SLOWEST_KIND: &str = "spanlink.slowest.kind";
pub const SLOWEST_NAME: &str = "spanlink.slowest.name";
pub const SLOWEST_PHASE: &str = "spanlink.slowest.phase";
pub const SLOWEST_REASON: &str = "spanlink.slowest.reason";
pub const TIME_SOURCE: &str = "spanlink.time.source";
pub const VERB: &str = "spanlink.verb";

/// The attribute key for names of a kind, where the semantic conventions have one
/// ([k8s resource](https://opentelemetry.io/docs/specs/semconv/resource/k8s/)).
pub fn name_attribute(kind: &GroupKind) -> Option<&'static str> {
    Some(match (&*kind.group, &*kind.kind) {
        ("apps", "Deployment") => K8S_DEPLOYMENT_NAME,
        ("apps", "ReplicaSet") => K8S_REPLICASET_NAME,
        ("apps", "StatefulSet") => K8S_STATEFULSET_NAME,
        ("apps", "DaemonSet") => K8S_DAEMONSET_NAME,
        ("batch", "Job") => K8S_JOB_NAME,
        ("batch", "CronJob") => K8S_CRONJOB_NAME,
        ("autoscaling", "HorizontalPodAutoscaler") => K8S_HPA_NAME,
        ("", "Pod") => K8S_POD_NAME,
        ("", "Namespace") => K8S_NAMESPACE_NAME,
        ("", "Node") => K8S_NODE_NAME,
        ("", "ReplicationController") => K8S_REPLICATIONCONTROLLER_NAME,
        ("", "ResourceQuota") => K8S_RESOURCEQUOTA_NAME,
        _ => return None,
    })
}
