//! The options of the configuration as the trace means them, with the differences of each kind.

pub mod sampling;
pub mod status_field;

use std::{collections::HashMap, sync::Arc, time::Duration};

use crate::trace::{
    model::{field_manager::Manager, id::Layout, kind, object::GroupKind, path::is_within},
    rules::{sampling::Sampling, status_field::StatusFieldRule},
};

/// Jobs and their Pods may run for a long time without progress.
const JOB_DEADLINE: Duration = Duration::from_hours(24);

/// Every option that decides about changes, causes and spans.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    pub layout: Layout,
    /// The annotated trace gets a span that links to the change it led to.
    pub project: bool,
    pub span_names: SpanNames,
    /// The most children that an owner may have in its own trace.
    pub cascade_max: u32,
    pub sampling: Sampling,
    pub links: OptionalLinks,
    pub limits: Limits,
    pub owner_wait: Duration,
    /// Changes of annotations alone have no spans.
    pub ignores_metadata: bool,
    /// Fields by which owners name their children.
    pub owner_fields: Vec<OwnerField>,
    /// Objects that existed at the start are reported as created.
    pub report_existing: bool,
    /// Paths below which neither values nor field names are exported, for kinds without an entry.
    pub redact: Vec<Box<str>>,
    pub kinds: HashMap<GroupKind, KindRules>,
    /// Keyed by group, for every kind of the group.
    pub groups: HashMap<Arc<str>, KindRules>,
}

/// A field of an owner that names a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerField {
    pub owner: GroupKind,
    /// `None`: any kind.
    pub child: Option<GroupKind>,
    /// Only their writes of the child are the owner's doing; empty: those of the owner's controller.
    pub managers: Vec<Box<str>>,
}

/// Limits of one kind's convergences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long Current must hold.
    pub settle: Duration,
    /// Without progress, and without a verdict.
    pub deadline: Duration,
    /// How long a problem must last to be reported.
    pub stuck_after: Duration,
    /// How long evidence from before the change must stand after the first status since, to count.
    pub evidence: Duration,
}

/// The parts of a span's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpanNames {
    /// Verb and kind: `update Deployment`. Metrics made from spans stay few.
    #[default]
    Kind,
    /// Like `Kind`, with `namespace/name` of objects that no controller owns; never of a `ReplicaSet`
    /// or a Pod.
    Object,
}

/// Links that can be switched on and off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionalLinks {
    /// Links to contexts that were not written for the change.
    pub stale: bool,
    /// A link to the last change of the same object.
    pub previous: bool,
}

impl Default for OptionalLinks {
    fn default() -> Self {
        Self { stale: true, previous: false }
    }
}

/// The options of one entry of `watch`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KindRules {
    pub service: Option<Arc<str>>,
    pub settle: Option<Duration>,
    pub deadline: Option<Duration>,
    pub owner_wait: Option<Duration>,
    pub stuck_after: Option<Duration>,
    pub evidence: Option<Duration>,
    pub ignore: Ignore,
    /// Whether work without a change has spans; `None`: of custom resources.
    pub episodes: Option<bool>,
    /// `None`: another rule applies to the kind.
    pub status_field: Option<StatusFieldRule>,
    /// Like [`Rules::redact`], which it includes.
    pub redact: Vec<Box<str>>,
}

/// Changes of a kind that have no spans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ignore {
    /// Paths, which include everything below them; `[*]` stands for any item.
    pub fields: Vec<Box<str>>,
    /// Field managers.
    pub managers: Vec<Box<str>>,
}

impl Ignore {
    pub(crate) fn is_by(&self, manager: Option<&Manager>) -> bool {
        manager.is_some_and(|manager| self.managers.contains(&manager.name))
    }

    pub(crate) fn covers(&self, field: &str) -> bool {
        self.fields.iter().any(|path| is_within(field, path))
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            layout: Layout::Cascade,
            project: false,
            span_names: SpanNames::Kind,
            cascade_max: 200,
            sampling: Sampling::default(),
            links: OptionalLinks::default(),
            limits: Limits {
                settle: Duration::from_secs(2),
                deadline: Duration::from_mins(15),
                stuck_after: Duration::from_secs(10),
                evidence: Duration::from_secs(15),
            },
            owner_wait: Duration::from_millis(500),
            ignores_metadata: false,
            owner_fields: Vec::new(),
            report_existing: false,
            redact: Vec::new(),
            kinds: HashMap::new(),
            groups: HashMap::new(),
        }
    }
}

impl Rules {
    fn for_kind(&self, kind: &GroupKind) -> Option<&KindRules> {
        self.kinds.get(kind).or_else(|| self.groups.get(&kind.group))
    }

    /// `progress_deadline` is the object's `progressDeadlineSeconds`: the deadline is at least a
    /// minute longer.
    pub fn limits(&self, kind: &GroupKind, progress_deadline: Option<i64>) -> Limits {
        let of_kind = self.for_kind(kind);
        let by_default = if kind.is("batch", "Job") { JOB_DEADLINE } else { self.limits.deadline };
        let own = progress_deadline
            .filter(|seconds| *seconds < i64::from(i32::MAX))
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map_or(Duration::ZERO, |seconds| Duration::from_secs(seconds.saturating_add(60)));
        Limits {
            settle: of_kind.and_then(|k| k.settle).unwrap_or(self.limits.settle),
            deadline: of_kind.and_then(|k| k.deadline).unwrap_or(by_default).max(own),
            stuck_after: of_kind.and_then(|k| k.stuck_after).unwrap_or(self.limits.stuck_after),
            evidence: of_kind.and_then(|k| k.evidence).unwrap_or(self.limits.evidence),
        }
    }

    /// The limits of a Pod that shall succeed, while it runs.
    pub fn limits_of_run(&self, kind: &GroupKind) -> Limits {
        let configured = self.for_kind(kind).and_then(|rules| rules.deadline);
        Limits { deadline: configured.unwrap_or(JOB_DEADLINE), ..self.limits(kind, None) }
    }

    pub fn owner_wait(&self, kind: &GroupKind) -> Duration {
        self.for_kind(kind).and_then(|k| k.owner_wait).unwrap_or(self.owner_wait)
    }

    pub(crate) fn has_episodes(&self, kind: &GroupKind) -> bool {
        let configured = self.for_kind(kind).and_then(|rules| rules.episodes);
        configured.unwrap_or_else(|| !kind::is_built_in(kind))
    }

    pub(crate) fn ignore(&self, kind: &GroupKind) -> Option<&Ignore> {
        Some(&self.for_kind(kind)?.ignore)
    }

    /// Paths of the kind below which nothing is exported.
    pub(crate) fn redacted(&self, kind: &GroupKind) -> impl Iterator<Item = &str> {
        self.for_kind(kind).map_or(&self.redact, |rules| &rules.redact).iter().map(AsRef::as_ref)
    }

    pub(crate) fn status_field(&self, kind: &GroupKind) -> Option<&StatusFieldRule> {
        self.for_kind(kind)?.status_field.as_ref()
    }

    pub fn service(&self, kind: &GroupKind) -> Option<Arc<str>> {
        self.for_kind(kind)?.service.clone()
    }
}
