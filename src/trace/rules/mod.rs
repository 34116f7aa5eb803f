//! What the trace was told to do, by kind.

pub mod sampling;

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::trace::{
    model::{field_manager::Manager, object::GroupKind, path::is_within},
    progress::convergence::Limits,
    readiness::status_field::StatusFieldRule,
    rules::sampling::Sampling,
};

/// Jobs may run for long: a day without progress.
const JOB_DEADLINE: Duration = Duration::from_hours(24);

#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    pub layout: Layout,
    /// Each annotated trace gets a span that links to the change it led to.
    pub project: bool,
    /// Children an owner may have in its own trace.
    pub cascade_max: u32,
    pub sampling: Sampling,
    pub links: OptionalLinks,
    pub limits: Limits,
    pub owner_wait: Duration,
    /// Changes of annotations alone have no spans.
    pub ignores_metadata: bool,
    /// Objects that existed before are told as created.
    pub report_existing: bool,
    /// Paths below which neither values nor names leave, of kinds that have no rules of their own.
    pub redact: Vec<Box<str>>,
    pub kinds: HashMap<GroupKind, KindRules>,
    /// For every kind of a group.
    pub groups: HashMap<Arc<str>, KindRules>,
}

/// Links that some want and some do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionalLinks {
    /// To contexts that were not written for the change.
    pub stale: bool,
    /// To the last change of the same object.
    pub previous: bool,
}

impl Default for OptionalLinks {
    fn default() -> Self {
        Self { stale: true, previous: false }
    }
}

/// The shape of traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Layout {
    /// A head is a new root that links to its context, all it caused is below it.
    Cascade,
    /// Every change is a head in a trace of its own.
    Linked,
    /// A head continues the annotated trace.
    Joined,
}

impl Layout {
    /// Part of every id: a span id is never used in two traces.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cascade => "cascade",
            Self::Linked => "linked",
            Self::Joined => "joined",
        }
    }
}

/// Where a kind differs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KindRules {
    pub service: Option<Arc<str>>,
    pub settle: Option<Duration>,
    pub deadline: Option<Duration>,
    pub owner_wait: Option<Duration>,
    pub stuck_after: Option<Duration>,
    pub ignore: Ignore,
    /// By the words of a field; `None`: by kstatus' rules and conventions.
    pub words: Option<StatusFieldRule>,
    /// Of the kind, those of every kind among them.
    pub redact: Vec<Box<str>>,
}

/// Changes of a kind that nobody wants to hear of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ignore {
    /// Paths, and all below them; `[*]` stands for any item.
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
            cascade_max: 200,
            sampling: Sampling::default(),
            links: OptionalLinks::default(),
            limits: Limits {
                settle: Duration::from_secs(2),
                deadline: Duration::from_mins(15),
                stuck_after: Duration::from_secs(10),
            },
            owner_wait: Duration::from_millis(500),
            ignores_metadata: false,
            report_existing: false,
            redact: Vec::new(),
            kinds: HashMap::new(),
            groups: HashMap::new(),
        }
    }
}

impl Rules {
    fn of(&self, kind: &GroupKind) -> Option<&KindRules> {
        self.kinds.get(kind).or_else(|| self.groups.get(&kind.group))
    }

    /// `progress_deadline`: the object's own, in seconds; ours is never under it and a minute.
    pub fn limits(&self, kind: &GroupKind, progress_deadline: Option<i64>) -> Limits {
        let of_kind = self.of(kind);
        let by_default = if kind.is("batch", "Job") { JOB_DEADLINE } else { self.limits.deadline };
        let own = progress_deadline
            .filter(|seconds| *seconds < i64::from(i32::MAX))
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map_or(Duration::ZERO, |seconds| Duration::from_secs(seconds.saturating_add(60)));
        Limits {
            settle: of_kind.and_then(|k| k.settle).unwrap_or(self.limits.settle),
            deadline: of_kind.and_then(|k| k.deadline).unwrap_or(by_default).max(own),
            stuck_after: of_kind.and_then(|k| k.stuck_after).unwrap_or(self.limits.stuck_after),
        }
    }

    pub fn owner_wait(&self, kind: &GroupKind) -> Duration {
        self.of(kind).and_then(|k| k.owner_wait).unwrap_or(self.owner_wait)
    }

    pub(crate) fn ignore(&self, kind: &GroupKind) -> Option<&Ignore> {
        Some(&self.of(kind)?.ignore)
    }

    pub(crate) fn redacted(&self, kind: &GroupKind) -> impl Iterator<Item = &str> {
        self.of(kind).map_or(&self.redact, |rules| &rules.redact).iter().map(AsRef::as_ref)
    }

    pub(crate) fn words(&self, kind: &GroupKind) -> Option<&StatusFieldRule> {
        self.of(kind)?.words.as_ref()
    }

    pub fn service(&self, kind: &GroupKind) -> Option<Arc<str>> {
        self.of(kind)?.service.clone()
    }
}
