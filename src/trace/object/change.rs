//! A change of one object, from its detection until nothing can follow from it any more.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::trace::{
    model::{
        content::Digest,
        context::TraceContext,
        field_manager::Manager,
        id::{ChangeKey, Verb},
        interner::Interner,
        object::{GroupKind, Uid},
        observation::{OwnerReference, Reference},
        span::{Link, SpanId, TraceId},
        time::Timestamp,
    },
    object::cause_rule::CauseChoice,
    progress::{
        convergence::Convergence,
        phase_tracker::{Open as OpenPhase, PhaseTracker},
        recorded_events::RecordedEvents,
        slowest::Slowest,
    },
};

/// The deepest chain: a change below it is a head, so that an owner cycle ends.
pub(crate) const MAX_DEPTH: u8 = 16;

/// Which part of the object changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Scope {
    Spec,
    /// Only annotations; for Deployments this makes a generation too.
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

/// How a change moved `spec.replicas`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum ReplicaChange {
    Decreased,
    /// Also where the kind has no replicas.
    Unchanged,
    Increased,
}

/// Whether the controller of the object wrote the change itself (`docs/causes.md`, The controller's
/// own write).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum OwnWrite {
    No,
    /// The object has no status yet that shows which field manager its controller is.
    Undetermined,
    /// It is part of the change that was in flight, and causes nothing itself.
    Yes,
}

/// Which clock a change's time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum TimeSource {
    /// The receipt of the watch event; where the API names the second, within that second.
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

/// A fingerprint of a context annotation's value: equal values have equal fingerprints.
pub type ContextValue = u64;

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Change {
    pub key: ChangeKey,
    pub resource_version: u64,
    pub scope: Scope,
    /// The field manager that had written the status of a custom resource by then.
    pub service: Option<Arc<str>>,
    /// `None` for kinds without one.
    pub generation: Option<i64>,
    /// The best known time of the change; never before its cause.
    pub at: Timestamp,
    pub source: TimeSource,
    /// The second of the change by the API server's clock. Two changes are compared by it.
    pub api_at: Timestamp,
    pub received: Timestamp,
    /// First observed in a list after the start: its resourceVersion is that of a later write, or,
    /// for an object absent from the list, that of the list.
    pub relisted: bool,
    /// The configuration or an annotation excludes it and what it alone caused from export.
    pub ignored: bool,
    /// Generations that were overwritten before they were observed; this change stands for them.
    pub missed: i64,
    /// Digest of the pod template.
    pub template: Option<Digest>,
    /// The context annotation at the time of the change.
    pub value: Option<ContextValue>,
    /// How many children the object wants from then on, where its kind has such a field.
    pub desired_children: Option<u32>,
    pub replica_change: ReplicaChange,
    /// Its changed fields ask the controller for a restart.
    pub asks_for_restart: bool,
    pub own_write: OwnWrite,
    /// The resourceVersion at which the object was Current again; the change is in flight until then.
    pub until: Option<u64>,
    /// API time of the last change it caused.
    pub last_caused: Timestamp,
    /// How many changes it has caused.
    pub caused: u32,
    /// The mark of its Pods: a `StatefulSet`'s first `status.updateRevision` for this change, a
    /// `DaemonSet`'s template generation.
    pub revision: Option<Box<str>>,
    pub convergence: Convergence,
    life: Life,
}

/// The stages of a change's life.
#[derive(Clone, Debug, Deserialize, Serialize)]
enum Life {
    /// Its cause is not decided yet.
    Pending(Box<Report>),
    /// Its cause is decided; its last span is not emitted yet.
    Open(Box<Report>, Decision),
    /// All its spans are emitted. It stays a possible cause.
    Reported(Decision),
}

impl Change {
    /// A change as the state of its object alone describes it; the caller fills in the rest.
    pub(crate) fn pending(change: PendingChange, report: Report) -> Self {
        let PendingChange { key, resource_version, received, api_at, convergence } = change;
        Self {
            key,
            resource_version,
            scope: Scope::Spec,
            service: None,
            generation: None,
            at: received,
            source: TimeSource::Received,
            api_at,
            received,
            relisted: false,
            ignored: false,
            missed: 0,
            template: None,
            value: None,
            desired_children: None,
            replica_change: ReplicaChange::Unchanged,
            asks_for_restart: false,
            own_write: OwnWrite::No,
            until: None,
            last_caused: api_at,
            caused: 0,
            revision: None,
            convergence,
            life: Life::Pending(Box::new(report)),
        }
    }

    pub fn is_in_flight_at(&self, resource_version: u64) -> bool {
        self.resource_version < resource_version
            && self.until.is_none_or(|until| until > resource_version)
    }

    /// `None` while it is pending.
    pub fn decision(&self) -> Option<&Decision> {
        match &self.life {
            Life::Pending(_) => None,
            Life::Open(_, decision) | Life::Reported(decision) => Some(decision),
        }
    }

    pub fn is_decided(&self) -> bool {
        self.decision().is_some()
    }

    /// The change that caused it.
    pub fn cause(&self) -> Option<&ChangeKey> {
        self.decision()?.cause.as_ref()
    }

    /// `None` once all its spans are emitted.
    pub fn report(&self) -> Option<&Report> {
        match &self.life {
            Life::Pending(report) | Life::Open(report, _) => Some(report),
            Life::Reported(_) => None,
        }
    }

    pub fn report_mut(&mut self) -> Option<&mut Report> {
        match &mut self.life {
            Life::Pending(report) | Life::Open(report, _) => Some(report),
            Life::Reported(_) => None,
        }
    }

    pub fn is_reported(&self) -> bool {
        self.report().is_none()
    }

    /// Its cause was found. A change is decided once.
    pub(crate) fn decide(&mut self, decision: Decision) {
        if let Life::Pending(report) = &mut self.life {
            let report = std::mem::take(report);
            self.life = Life::Open(report, decision);
        }
    }

    /// Its last span was emitted.
    pub(crate) fn finish(&mut self) {
        if let Life::Open(_, decision) = &self.life {
            self.life = Life::Reported(decision.clone());
        }
    }

    /// Changes of one object have equal owner chains: one copy of each name serves all.
    pub(crate) fn share_owner_chain(&mut self, interner: &mut Interner) {
        fn shared(chain: &OwnerChain, interner: &mut Interner) -> OwnerChain {
            let mut kind = chain.kind.clone();
            let mut name = Arc::clone(&chain.name);
            interner.share_kind(&mut kind);
            interner.share(&mut name);
            let above = chain.above.as_ref().map(|above| Arc::new(shared(above, interner)));
            OwnerChain { kind, name, above }
        }
        let chain = match &mut self.life {
            Life::Pending(_) => None,
            Life::Open(_, decision) | Life::Reported(decision) => decision.owner_chain.as_mut(),
        };
        if let Some(chain) = chain {
            *chain = Arc::new(shared(chain, interner));
        }
    }

    /// Its possible owners, the controller first; none once its cause is decided.
    pub fn owners(&self) -> &[OwnerReference] {
        self.report().map_or(&[], |report| &report.owners)
    }

    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owners().first().filter(|owner| owner.controller)
    }

    /// A head without a reconcile span: it had converged when it was observed, or it changes
    /// metadata and opens nothing.
    pub(crate) fn is_instant(&self) -> bool {
        self.scope == Scope::Metadata || self.convergence.had_ended_when_observed()
    }

    /// The phase that an open change is in, where it is known.
    pub(crate) fn open_phase(&self) -> Option<OpenPhase<'_>> {
        self.report()?.phases.as_ref()?.open().filter(|_| self.convergence.is_open())
    }

    /// The reason of the problem that it has.
    pub(crate) fn active_reason(&self) -> Option<&str> {
        self.convergence.active_problem().map(|active| &*active.problem.reason)
    }

    /// A change of the spec that is not a deletion, nor a part of another change: settled owners are
    /// known by such changes.
    pub(crate) fn is_of_live_spec(&self) -> bool {
        self.is_of_spec() && !self.key.is_deletion()
    }

    /// Work that no change of the spec began.
    pub(crate) fn is_episode(&self) -> bool {
        self.key.verb == Verb::Reconcile
    }

    /// A change of the spec or a deletion, or an episode, but not a part of another change: what the
    /// controller works on.
    pub(crate) fn is_of_work(&self) -> bool {
        self.scope == Scope::Spec && self.own_write != OwnWrite::Yes
    }

    /// A change of the spec or a deletion, but not a part of another change.
    pub(crate) fn is_of_spec(&self) -> bool {
        self.is_of_work() && !self.is_episode()
    }
}

/// The facts that every new change has.
pub(crate) struct PendingChange {
    pub(crate) key: ChangeKey,
    pub(crate) resource_version: u64,
    pub(crate) received: Timestamp,
    pub(crate) api_at: Timestamp,
    pub(crate) convergence: Convergence,
}

/// The cause that was found and everything that follows from it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Decision {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    /// The change span of its cause, or in layout `joined` the annotated span.
    pub parent: Option<SpanId>,
    pub placement: Placement,
    /// Exported, or only counted.
    pub sampled: bool,
    /// The change that caused it, also where that is in another trace.
    pub cause: Option<ChangeKey>,
    /// The change span of its trace's head.
    pub head: SpanId,
    /// The annotated span at the beginning of the chain.
    pub origin: Option<Arc<TraceContext>>,
    /// Number of changes between it and the head.
    pub depth: u8,
    /// The owners up to the head.
    pub owner_chain: Option<Arc<OwnerChain>>,
    /// Those of its cause, and its own where the cause has none of the same key.
    pub attributes: Option<ChosenAttributes>,
}

/// Attributes that the configuration takes from labels and annotations, with their values.
pub type ChosenAttributes = Arc<[(Box<str>, Box<str>)]>;

/// Where a change stands in traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Placement {
    /// Below the change that caused it.
    Caused,
    /// The root of a chain: no change in flight caused it.
    Head,
    /// Caused, but the root of a trace: layout `linked`.
    Linked,
    /// Caused, but the root of a trace: its cause's trace would grow too large.
    Cut,
}

impl Decision {
    /// Its change span is emitted at once, its outcome follows in a reconcile span.
    pub fn is_head(&self) -> bool {
        self.placement != Placement::Caused
    }

    pub fn span(&self) -> SpanRef {
        SpanRef { trace_id: self.trace_id, span_id: self.span_id, sampled: self.sampled }
    }
}

/// A change's span as the target of links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SpanRef {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub sampled: bool,
}

/// An owner and the owners above it.
#[derive(Debug, Deserialize, Serialize)]
pub struct OwnerChain {
    pub kind: GroupKind,
    pub name: Arc<str>,
    pub above: Option<Arc<Self>>,
}

/// The facts that only the spans of a change need; dropped with the last of them.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about a change")]
pub struct Report {
    /// Paths of the changed fields.
    pub fields: Vec<Box<str>>,
    /// `path=value` of the changed fields whose new values may be exported.
    pub values: Vec<Box<str>>,
    pub rewound: bool,
    /// The field manager that made the change.
    pub manager: Option<Manager>,
    /// The owners at the time of the change: another object may own it before the cause is decided.
    pub owners: Box<[OwnerReference]>,
    /// The owners that marks name; none where there is a controller.
    pub owner_marks: Vec<MarkedOwner>,
    /// Its controller is known by a mark.
    pub is_marked: bool,
    /// The field manager that set the controller reference, or the mark.
    pub owner_manager: Option<Box<str>>,
    /// The context annotation at the time of the change, and since when it has this value.
    pub context: Option<TraceContext>,
    pub context_since: Option<Timestamp>,
    /// The annotation came in the same write as the change.
    pub context_is_new: bool,
    /// The controller of the object wrote the context, as far as is known.
    pub is_context_by_controller: bool,
    /// Attributes that the configuration takes from the object, with their values.
    pub attributes: Option<ChosenAttributes>,
    /// How the context relates to the change, once decided.
    pub context_use: Option<ContextUse>,
    pub owner: Option<OwnerInfo>,
    /// How its cause was chosen; `None` for a head.
    pub cause_choice: Option<CauseChoice>,
    /// The reason of a `DisruptionTarget` condition at the time of a deletion.
    pub disruption: Option<Box<str>>,
    /// The reason to report, where a disruption decided the cause, and of an episode.
    pub reason: Option<Box<str>>,
    /// `None` where the kind has no known phases.
    pub phases: Option<PhaseTracker>,
    /// When it first caused a change.
    pub first_caused: Option<Timestamp>,
    /// The longest wait so far.
    pub slowest: Option<Box<Slowest>>,
    pub events: RecordedEvents,
    /// Links of the change span.
    pub links: Vec<Link>,
    /// Links that became known after a head's change span was emitted: for the reconcile span.
    pub late_links: Vec<Link>,
    /// The change of the same object that this one overtook.
    pub supersedes: Option<ChangeKey>,
    pub replaced: Option<ReplacedPod>,
    /// A metadata change, or a write of the object's own controller, while a change of the spec was
    /// open: it is reported below that.
    pub joins: bool,
    /// An episode that has not lasted yet and has caused nothing: it may be a status that flaps.
    pub is_held_back: bool,
    /// Trace id of the context that a metadata change brought to the change it joined.
    pub joined_origin: Option<TraceId>,
}

/// An owner that a mark of the object names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct MarkedOwner {
    pub owner: Reference,
    /// The field manager that wrote the mark.
    pub manager: Option<Box<str>>,
}

/// How a context relates to the change that carries it (`docs/causes.md`, Contexts).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum ContextUse {
    Fresh,
    Inherited,
    Stale,
    Revived,
    /// Fresh, but written by the controller of the object: it links to what the controller did, and is
    /// not what the chain began with.
    ByController,
}

/// The facts about an owner that spans report.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct OwnerInfo {
    pub kind: GroupKind,
    pub name: Arc<str>,
    pub uid: Uid,
    pub generation: Option<i64>,
    pub settled: bool,
    /// The owner's change; `None` where the owner is only named.
    pub span: Option<SpanRef>,
}

/// The Pod of the same owner that a new Pod replaces.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ReplacedPod {
    pub kind: GroupKind,
    pub name: Arc<str>,
    pub uid: Uid,
    /// Its deletion, else its last change; `None` where it is only named.
    pub span: Option<SpanRef>,
}
