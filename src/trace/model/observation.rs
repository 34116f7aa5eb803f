//! The events of a watch: an [`Observation`] of an object, and the events about lists and connections.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::health_rule::Verdict;
use crate::trace::model::{
    content::{Content, Leaf},
    kubernetes_event::KubernetesEvent,
    object::{GroupKind, ObjectRef, Uid},
    signals::StatusSignals,
    time::Timestamp,
};

/// Identifies a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
pub struct WatchId(pub u32);

/// An event of a watch, or a part of one of its lists.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct WatchScope {
    pub kind: GroupKind,
    /// `None`: every namespace, or a cluster-scoped kind.
    pub namespace: Option<Arc<str>>,
    pub filter: Filter,
    /// The kind has a status subresource, as far as is known.
    pub has_status: bool,
}

impl WatchScope {
    /// Whether both are about the same objects, whatever is known of their kind.
    pub fn has_objects_of(&self, other: &Self) -> bool {
        (&self.kind, &self.namespace, &self.filter)
            == (&other.kind, &other.namespace, &other.filter)
    }
}

/// Which objects of its kind and namespace a watch receives.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Filter {
    Everything,
    /// The objects that match these selectors, as they are sent to the API server.
    Selectors(Arc<str>),
    /// A recording does not name the selectors of its watches.
    Unknown,
}

/// One event of a watch.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchEvent {
    /// `ADDED` or `MODIFIED`: the trace decides which changes these are.
    Applied(Observation),
    Deleted(Observation),
    /// A list starts; items of an earlier incomplete one no longer count. Its items follow, and nothing
    /// newer before its end.
    ListStarted {
        at: Timestamp,
    },
    /// An item of a list, which ends with [`WatchEvent::ListCompleted`].
    ListItem(Observation),
    /// The object no longer matches the selectors of the watch, but still exists: it is forgotten.
    LeftSelector {
        at: Timestamp,
        uid: Uid,
        resource_version: u64,
    },
    /// A Kubernetes Event, from a list or a watch. It is not tracked as an object.
    KubernetesEvent(KubernetesEvent),
    /// The end of a list: tracked objects of the watch that are not in it were deleted.
    ListCompleted {
        at: Timestamp,
        resource_version: u64,
    },
    /// A bookmark: everything up to this resourceVersion has been delivered.
    Bookmark {
        at: Timestamp,
        resource_version: u64,
    },
    /// The connection is lost: no event arrives until [`WatchEvent::Resumed`] or
    /// [`WatchEvent::ListStarted`].
    Interrupted {
        at: Timestamp,
    },
    /// The watch is connected again. Its backlog follows, if there is one.
    Resumed {
        at: Timestamp,
    },
}

impl WatchEvent {
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Applied(now) | Self::Deleted(now) | Self::ListItem(now) => now.at,
            Self::KubernetesEvent(remark) => remark.at,
            Self::LeftSelector { at, .. }
            | Self::ListStarted { at }
            | Self::ListCompleted { at, .. }
            | Self::Bookmark { at, .. }
            | Self::Interrupted { at }
            | Self::Resumed { at } => *at,
        }
    }
}

/// The state of one object at one instant.
///
/// Every field is read leniently: a part with a wrong type is absent and does not fail the object.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// When it was received.
    pub at: Timestamp,
    /// When the object was last written, in whole seconds, as far as its metadata shows. Read only for
    /// events of a backlog.
    pub written: Option<Timestamp>,
    pub object: ObjectRef,
    pub resource_version: u64,
    /// `metadata.generation`. The kind decides whether it has a meaning, never the object.
    pub generation: Option<i64>,
    /// Fingerprint of the text of the status: equal for equal statuses.
    pub status_fingerprint: u64,
    pub status: StatusFacts,
    /// `None` when nothing but status, managedFields, resourceVersion and generation differs from
    /// the last observation of this watch.
    pub body: Option<Box<Body>>,
}

/// The part of an object that rarely changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Body {
    pub api_version: Box<str>,
    pub created: Option<Timestamp>,
    pub deletion: Option<Deletion>,
    /// `metadata.finalizers`, a Namespace's `spec.finalizers` after them; at most 16.
    pub finalizers: Vec<Box<str>>,
    /// Only of a `PersistentVolumeClaim`.
    pub claim: Option<Claim>,
    pub owners: Vec<OwnerReference>,
    /// The first valid context in a configured place, else the first invalid one.
    pub carrier: Option<Carrier>,
    /// Values of the same annotation in the templates of the object's children
    /// (`spec.template`, `spec.jobTemplate` and its `spec.template`).
    pub template_carriers: Vec<Box<str>>,
    /// Attributes of its spans that the configuration takes from labels and annotations, with their
    /// values; at most 16, of at most 256 characters.
    pub attributes: Vec<(Box<str>, Box<str>)>,
    /// Fingerprint of all annotations in any order.
    pub annotations_fingerprint: u64,
    /// Labels and annotations that count as changes by the configuration.
    pub marks: Vec<Leaf>,
    /// The annotation `spanlink.io/ignore` excludes the object.
    pub is_ignored: bool,
    /// The objects that its configured fields name.
    pub references: Vec<Reference>,
    /// The owners that marks name; none where it has a controller reference.
    pub owner_marks: Vec<OwnerMark>,
    /// The objects that it names as its own, by configured fields.
    pub children: Vec<Reference>,
    /// The target of an autoscaler.
    pub scales: Option<Reference>,
    /// Labels by which controllers distinguish revisions.
    pub revision: Revision,
    pub content: Content,
    pub spec: SpecFacts,
    /// `metadata.managedFields` as JSON text; empty where there are none.
    pub managed_fields: Box<str>,
}

impl Body {
    /// Its owners, the controller first.
    pub fn controller_first(&self) -> impl Iterator<Item = &OwnerReference> {
        let controller = self.owners.iter().find(|owner| owner.controller);
        controller.into_iter().chain(self.owners.iter().filter(|owner| !owner.controller))
    }
}

impl Body {
    /// The digests of its content's leaves and of the configured labels and annotations.
    pub fn leaf_digests(&self) -> Box<[u32]> {
        self.content.leaves.iter().chain(&self.marks).map(|leaf| leaf.digest).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// `metadata.deletionTimestamp`: the request's time **plus** the grace period.
    pub timestamp: Timestamp,
    /// `metadata.deletionGracePeriodSeconds`.
    pub grace_seconds: i64,
}

impl Deletion {
    /// When it was requested.
    pub fn asked(self) -> Timestamp {
        let grace = u64::try_from(self.grace_seconds).unwrap_or(0);
        self.timestamp.minus(Duration::from_secs(grace))
    }
}

/// How far a `PersistentVolumeClaim` is bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// `spec.volumeName` is set.
    pub has_volume: bool,
    /// Annotation `volume.kubernetes.io/storage-provisioner`.
    pub provisioner: Option<Box<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct OwnerReference {
    pub kind: GroupKind,
    pub name: Arc<str>,
    pub uid: Uid,
    pub controller: bool,
}

/// A reference to an object that is not an owner.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub struct Reference {
    pub kind: GroupKind,
    /// `None`: the namespace of the referring object, if the kind is namespaced.
    pub namespace: Option<Arc<str>>,
    pub name: Arc<str>,
}

/// An owner that a label, an annotation or a field names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerMark {
    pub owner: Reference,
    /// The path of the mark: its field manager made the object what it is for the owner.
    pub path: Box<str>,
}

/// A trace context as an object carries it, not parsed yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carrier {
    /// The annotation's key, or the path of the field.
    pub key: Box<str>,
    pub is_field: bool,
    /// At most 256 bytes: a longer value is invalid in any case.
    pub traceparent: Box<str>,
    pub tracestate: Option<Box<str>>,
    /// Only the entries that the configuration allows.
    pub baggage: Vec<(Box<str>, Box<str>)>,
}

impl Carrier {
    /// Whether it is a part of the status, which the object's controller writes.
    pub fn is_in_status(&self) -> bool {
        self.is_field && is_in_status(&self.key)
    }
}

/// Whether a path leads to a field of the status.
pub fn is_in_status(path: &str) -> bool {
    path.starts_with("status.")
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Revision {
    /// Label `controller-revision-hash`.
    pub controller_revision_hash: Option<Box<str>>,
    /// Label `pod-template-generation`.
    pub pod_template_generation: Option<Box<str>>,
    /// Annotation `deprecated.daemonset.template.generation`.
    pub daemonset_template_generation: Option<Box<str>>,
}

/// The fields of a spec that convergence depends on; `None` where the kind lacks the field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct SpecFacts {
    pub replicas: Option<i64>,
    /// How many children the object wants in the end: a ReplicaSet's
    /// `spec.replicas` or its annotation `deployment.kubernetes.io/desired-replicas`, the larger; a
    /// StatefulSet's `spec.replicas`; a Job's `spec.parallelism`.
    pub desired_children: Option<u32>,
    /// `spec.paused`; of custom resources any common way to ask the controller to do nothing.
    pub paused: bool,
    /// Jobs: `spec.suspend`.
    pub suspended: bool,
    pub progress_deadline_seconds: Option<i64>,
    /// Pods: `restartPolicy`.
    pub restart_policy: Option<Box<str>>,
    /// Pods: `schedulerName`, where it is not the default one.
    pub scheduler: Option<Box<str>>,
    /// `spec.updateStrategy.type`.
    pub update_strategy: Option<Box<str>>,
    /// `spec.updateStrategy.rollingUpdate.partition`.
    pub partition: Option<i64>,
    /// Services: `spec.type`.
    pub service_type: Option<Box<str>>,
    /// Claims: `spec.resources.requests.storage`, in bytes.
    pub requested_storage: Option<u64>,
}

/// The fields of a status that convergence depends on; `None` where the kind lacks the field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusFacts {
    /// The status exists and is not empty.
    pub present: bool,
    pub observed_generation: Option<i64>,
    /// At most 64.
    pub conditions: Vec<Condition>,
    /// Gateway API: the conditions in all of `status.parents` and `status.ancestors`; at most 64.
    pub of_parents: Vec<Condition>,
    pub phase: Option<Box<str>>,
    pub reason: Option<Box<str>>,
    /// At most 256 characters.
    pub message: Option<Box<str>>,
    /// The value of the configured status field (option `converges`); at most 256 characters.
    pub word: Option<Box<str>>,
    /// What the rule for the kind decided about the object; `None`: its kind has no such rule.
    pub verdict: Option<Box<Verdict>>,
    /// Only of custom resources.
    pub signals: Option<Box<StatusSignals>>,
    pub replicas: Option<i64>,
    pub updated_replicas: Option<i64>,
    pub ready_replicas: Option<i64>,
    pub available_replicas: Option<i64>,
    pub current_replicas: Option<i64>,
    /// ReplicaSets.
    pub fully_labeled_replicas: Option<i64>,
    /// Autoscalers.
    pub desired_replicas: Option<i64>,
    /// Autoscalers: `lastScaleTime`.
    pub last_scale: Option<Timestamp>,
    pub current_revision: Option<Box<str>>,
    pub update_revision: Option<Box<str>>,
    /// DaemonSets.
    pub desired_number_scheduled: Option<i64>,
    pub current_number_scheduled: Option<i64>,
    pub updated_number_scheduled: Option<i64>,
    pub number_available: Option<i64>,
    pub number_ready: Option<i64>,
    /// Jobs.
    pub succeeded: Option<i64>,
    pub failed: Option<i64>,
    /// Jobs: when their Pods were allowed to run.
    pub start_time: Option<Timestamp>,
    /// Pods: `initContainerStatuses`, then `containerStatuses`; at most 64.
    pub containers: Vec<Container>,
    /// Services: `loadBalancer.ingress` is not empty.
    pub has_ingress: bool,
    /// Claims: `capacity.storage`, in bytes.
    pub storage: Option<u64>,
    /// Claims: `allocatedResourceStatuses.storage`; absent unless the volume is resized.
    pub storage_resize: Option<Box<str>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    pub kind: Box<str>,
    pub status: Box<str>,
    pub reason: Box<str>,
    /// At most 256 characters.
    pub message: Box<str>,
    pub last_transition: Option<Timestamp>,
    pub observed_generation: Option<i64>,
}

impl Condition {
    /// The reason, or the kind of a condition without one, as some custom resources write it.
    pub fn reason_or_kind(&self) -> &str {
        if self.reason.is_empty() { &self.kind } else { &self.reason }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    pub name: Box<str>,
    pub init: bool,
    pub ready: bool,
    /// `state.waiting.reason` and `.message` (at most 256 characters).
    pub waiting: Option<(Box<str>, Box<str>)>,
    /// `state.terminated`.
    pub terminated: Option<Terminated>,
    /// `lastState.terminated`.
    pub last_terminated: Option<Terminated>,
    /// `state.running.startedAt`.
    pub running_since: Option<Timestamp>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terminated {
    pub exit_code: i64,
    pub reason: Box<str>,
    pub started: Option<Timestamp>,
    pub finished: Option<Timestamp>,
}
