//! A change of one object, from the moment it is seen until nobody asks for it any more.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::trace::{
    model::{
        content::Digest,
        context::TraceContext,
        field_manager::Manager,
        id::ChangeKey,
        object::{GroupKind, Uid},
        observation::OwnerReference,
        span::{Link, SpanId, TraceId},
        time::Timestamp,
    },
    progress::{convergence::Convergence, phase::PhaseTracker},
    tracer::{kubernetes_event::RecordedEvents, slowest::Slowest},
};

/// Which part of the object changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Scope {
    Spec,
    /// Only annotations: of Deployments this makes a generation too.
    Metadata,
}

impl Scope {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Spec => "spec",
            Self::Metadata => "metadata",
        }
    }
}

/// How many there were to be before a change, and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum ReplicaChange {
    Decreased,
    /// As before, or nobody said.
    Unchanged,
    Increased,
}

/// Which clock a change's time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum TimeSource {
    /// When the watch event was received; where the API knows the second, within that second.
    Received,
    ManagedFields,
    CreationTimestamp,
    DeletionTimestamp,
}

impl TimeSource {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::ManagedFields => "managedFields",
            Self::CreationTimestamp => "creationTimestamp",
            Self::DeletionTimestamp => "deletionTimestamp",
        }
    }
}

/// A value of the context annotation, told from others without keeping it.
pub type ContextValue = u64;

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Change {
    pub key: ChangeKey,
    pub resource_version: u64,
    pub scope: Scope,
    /// Who wrote the status of a custom resource by then.
    pub service: Option<Arc<str>>,
    /// `None` for kinds without one.
    pub generation: Option<i64>,
    /// When it was made, as well as can be known; never before its cause.
    pub at: Timestamp,
    pub source: TimeSource,
    /// When it was made by the API's clock: what two changes are compared by.
    pub api_at: Timestamp,
    pub received: Timestamp,
    /// First seen in a list after start-up: its resourceVersion is that of a later write, or, of
    /// what was not in it any more, that of the list.
    pub relisted: bool,
    /// Configuration says that nobody wants to hear of it, nor of what it alone caused.
    pub ignored: bool,
    pub template: Option<Digest>,
    pub value: Option<ContextValue>,
    /// How many children the object is to have from then on, where it says so.
    pub children_wanted: Option<u32>,
    /// How `spec.replicas` moved.
    pub scaled: ReplicaChange,
    /// The resourceVersion at which the object was Current again: until then it is in flight.
    pub until: Option<u64>,
    /// The API time of the last change it caused.
    pub last_caused: Timestamp,
    /// How many changes it has caused.
    pub caused: u32,
    /// What its Pods are marked with: a StatefulSet's first `status.updateRevision` that belongs
    /// to it, a DaemonSet's template generation.
    pub revision: Option<Box<str>>,
    pub decided: Option<Decision>,
    pub convergence: Convergence,
    /// What only its spans need; dropped with the last of them.
    pub details: Option<Box<PendingReport>>,
}

impl Change {
    pub fn is_in_flight_at(&self, resource_version: u64) -> bool {
        self.resource_version < resource_version
            && self.until.is_none_or(|until| until > resource_version)
    }

    /// Whom it may follow from, until that is decided: the controller first.
    pub fn owners(&self) -> &[OwnerReference] {
        self.details.as_deref().map_or(&[], |details| &details.owners)
    }

    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owners().first().filter(|owner| owner.controller)
    }
}

/// The cause that was found, and all that follows from it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Decision {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    /// The change span of its cause, or in layout `joined` the annotated span.
    pub parent: Option<SpanId>,
    pub place: Placement,
    /// Exported, or only counted.
    pub sampled: bool,
    /// The change it was caused by, also where that is in another trace.
    pub cause: Option<ChangeKey>,
    /// The change span of its trace's head.
    pub head: SpanId,
    /// The annotated span at the beginning of the chain.
    pub origin: Option<Arc<TraceContext>>,
    /// Steps from the head.
    pub depth: u8,
    /// The owners up to the head.
    pub owner_chain: Option<Arc<OwnerChain>>,
}

/// Where a change stands in traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Placement {
    /// Below the change that caused it.
    Caused,
    /// Nothing in flight caused it.
    Head,
    /// Caused, and a head all the same: layout `linked`.
    Linked,
    /// Caused, and a head all the same: its cause's trace would grow too large.
    Cut,
}

impl Decision {
    /// Its change span leaves at once, its outcome follows in a reconcile span.
    pub fn is_head(&self) -> bool {
        self.place != Placement::Caused
    }

    pub fn span(&self) -> SpanRef {
        SpanRef { trace_id: self.trace_id, span_id: self.span_id, sampled: self.sampled }
    }
}

/// A change's span, to link to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SpanRef {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub sampled: bool,
}

/// An owner, and its own.
#[derive(Debug, Deserialize, Serialize)]
pub struct OwnerChain {
    pub kind: GroupKind,
    pub name: Arc<str>,
    pub above: Option<Arc<Self>>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct PendingReport {
    pub fields: Vec<Box<str>>,
    /// `path=value` of those whose new values may be told.
    pub values: Vec<Box<str>>,
    pub missed: i64,
    pub rewound: bool,
    pub manager: Option<Manager>,
    /// Its object's by then: another may have it before a cause is found. Dropped when one is.
    pub owners: Box<[OwnerReference]>,
    /// Who made the owner the controller.
    pub owner_manager: Option<Box<str>>,
    /// The annotation as it stood, and since when.
    pub context: Option<TraceContext>,
    pub context_since: Option<Timestamp>,
    /// It came with the change itself.
    pub context_is_new: bool,
    /// What was found out about it, and about the owner.
    pub judged: Option<ContextUse>,
    pub owner: Option<OwnerInfo>,
    /// What disrupted it, by the condition it had when it was to go.
    pub disruption: Option<Box<str>>,
    /// Of a disruption, where that is what it was.
    pub reason: Option<Box<str>>,
    /// Where steps are known.
    pub road: Option<PhaseTracker>,
    /// When it first caused something.
    pub first_caused: Option<Timestamp>,
    /// What it waited for longest by now.
    pub slowest: Option<Box<Slowest>>,
    /// What Kubernetes' Events say of it.
    pub remarks: RecordedEvents,
    /// For the change span.
    pub links: Vec<Link>,
    /// For the reconcile span: known only after a head's change span has left.
    pub late_links: Vec<Link>,
    /// The change it overtook.
    pub supersedes: Option<ChangeKey>,
    pub replaced: Option<Replaced>,
    /// Of metadata, while a change of the spec was on its way: told below that.
    pub joins: bool,
    /// A joined metadata change's origin.
    pub joined_origin: Option<TraceId>,
}

/// How a context relates to the change that carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum ContextUse {
    Fresh,
    Inherited,
    Stale,
    Revived,
}

/// What is said of an owner.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct OwnerInfo {
    pub kind: GroupKind,
    pub name: Arc<str>,
    pub uid: Uid,
    pub generation: Option<i64>,
    pub settled: bool,
    /// Its change; `None`: it is only named.
    pub span: Option<SpanRef>,
}

/// A Pod of the same owner that this one was made in place of.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Replaced {
    pub kind: GroupKind,
    pub name: Arc<str>,
    pub uid: Uid,
    /// Its delete, else its last change; `None`: it is only named.
    pub span: Option<SpanRef>,
}
