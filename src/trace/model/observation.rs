//! What a watch says: one [`Observation`] of one object, and the notices around it.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::trace::model::{
    content::{Content, Leaf},
    kubernetes_event::KubernetesEvent,
    object::{GroupKind, ObjectRef, Uid},
    time::Timestamp,
};

/// Names one watch for as long as the daemon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
pub struct WatchId(pub u32);

/// What a watch covers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct WatchScope {
    pub kind: GroupKind,
    /// `None`: every namespace, or a cluster-scoped kind.
    pub namespace: Option<Arc<str>>,
    pub filter: Filter,
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

/// What a watch said at one instant.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchEvent {
    /// `ADDED` and `MODIFIED`: the difference is not the watch's to tell.
    Applied(Observation),
    Deleted(Observation),
    /// A list begins, and whatever was read of an earlier one counts no more. Its items follow, and
    /// nothing newer before its end.
    ListStarted {
        at: Timestamp,
    },
    /// An item of a list; the list is over with [`WatchEvent::ListCompleted`].
    ListItem(Observation),
    /// The object no longer matches the selectors of the watch, but still exists: it is forgotten.
    LeftSelector {
        at: Timestamp,
        uid: Uid,
        resource_version: u64,
    },
    /// One of Kubernetes' Events, in a list or as it comes. Never an object of its own.
    KubernetesEvent(KubernetesEvent),
    /// The end of a list: what was known before and was not in it is gone.
    ListCompleted {
        at: Timestamp,
        resource_version: u64,
    },
    /// A bookmark: everything up to this resourceVersion has been delivered.
    Bookmark {
        at: Timestamp,
        resource_version: u64,
    },
    /// The connection ended or has become useless; nothing can arrive until [`WatchEvent::Resumed`], or
    /// of a list.
    Interrupted {
        at: Timestamp,
    },
    /// Watching again. A backlog, if there is one, follows.
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

/// What one watch event said about one object at one instant.
///
/// Every field is read leniently: a part of a wrong type is absent, never a failed object.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// When it was received.
    pub at: Timestamp,
    /// When the object was last written, as far as it tells: a whole second. Read only where that may
    /// have been long before it was received.
    pub written: Option<Timestamp>,
    pub object: ObjectRef,
    pub resource_version: u64,
    /// `metadata.generation`; whether it means anything depends on the kind, never on the object.
    pub generation: Option<i64>,
    /// Fingerprint of the status as written: the same value, the same status.
    pub status_fingerprint: u64,
    pub status: StatusFacts,
    /// `None` when nothing but status, managedFields, resourceVersion and generation differs from
    /// what this watch last read of the object.
    pub body: Option<Box<Body>>,
}

/// The part of an object that seldom changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Body {
    pub api_version: Box<str>,
    pub created: Option<Timestamp>,
    pub deletion: Option<Deletion>,
    /// `metadata.finalizers`, a Namespace's `spec.finalizers` after them; at most 16.
    pub finalizers: Vec<Box<str>>,
    /// Of a `PersistentVolumeClaim`.
    pub claim: Option<Claim>,
    pub owners: Vec<OwnerReference>,
    /// The first configured annotation that is there, as written.
    pub carrier: Option<Carrier>,
    /// The same annotation's values in templates the object makes children from
    /// (`spec.template`, `spec.jobTemplate` and its `spec.template`).
    pub template_carriers: Vec<Box<str>>,
    /// Over all annotations, whatever their order.
    pub annotations_fingerprint: u64,
    /// Labels and annotations that configuration says count as changes.
    pub marks: Vec<Leaf>,
    /// An annotation says that nobody wants to hear of it.
    pub is_off: bool,
    /// What configured fields of it name.
    pub references: Vec<Reference>,
    /// What an autoscaler scales.
    pub scales: Option<Reference>,
    /// Labels by which controllers tell revisions apart.
    pub revision: Revision,
    pub content: Content,
    pub spec: SpecFacts,
    /// `metadata.managedFields` as JSON text; empty where there are none.
    pub managed_fields: Box<str>,
}

impl Body {
    /// Its owners: the controller, of whom there is one, before the others.
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
    /// Annotation `volume.kubernetes.io/storage-provisioner`: who was asked for a volume.
    pub provisioner: Option<Box<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct OwnerReference {
    pub kind: GroupKind,
    pub name: Arc<str>,
    pub uid: Uid,
    pub controller: bool,
}

/// An object named by another, that does not own it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub struct Reference {
    pub kind: GroupKind,
    /// `None`: the namespace of whoever refers to it, if the kind has any.
    pub namespace: Option<Arc<str>>,
    pub name: Arc<str>,
}

/// A stored trace context as an annotation carries it, not yet judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carrier {
    /// The annotation's key.
    pub key: Box<str>,
    /// Values over 256 bytes are cut there: they are invalid, and say so with less.
    pub traceparent: Box<str>,
    pub tracestate: Option<Box<str>>,
    /// Only what configuration allows.
    pub baggage: Vec<(Box<str>, Box<str>)>,
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

/// What convergence needs to know of a spec; fields a kind does not have are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct SpecFacts {
    pub replicas: Option<i64>,
    /// How many children it is to have, once all that was asked for is done: a ReplicaSet's
    /// `spec.replicas` or its annotation `deployment.kubernetes.io/desired-replicas`, the larger; a
    /// StatefulSet's `spec.replicas`; a Job's `spec.parallelism`.
    pub desired_children: Option<u32>,
    pub paused: bool,
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
}

/// What convergence needs to know of a status; fields a kind does not have are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusFacts {
    /// A status with anything in it was there.
    pub present: bool,
    pub observed_generation: Option<i64>,
    /// At most 64.
    pub conditions: Vec<Condition>,
    /// Gateway API's routes: the conditions in all of `status.parents`; at most 64.
    pub of_parents: Vec<Condition>,
    pub phase: Option<Box<str>>,
    pub reason: Option<Box<str>>,
    /// What the field says by which configuration judges the kind; cut after 256 characters.
    pub word: Option<Box<str>>,
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
    /// Jobs: their Pods may run since then.
    pub start_time: Option<Timestamp>,
    /// Pods: `initContainerStatuses`, then `containerStatuses`; at most 64.
    pub containers: Vec<Container>,
    /// Services: `loadBalancer.ingress` is not empty.
    pub has_ingress: bool,
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
    /// A custom resource may leave the reason out: then the condition itself is the reason.
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
