//! What the trace was told to do, by kind.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{converge::Limits, object::GroupKind, sampling::Sampling};

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
    /// The first configured annotation key.
    pub annotation: Box<str>,
    /// Objects that existed before are told as created.
    pub report_existing: bool,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
            annotation: "tracing.k8s.io/traceparent".into(),
            report_existing: false,
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

    pub fn service(&self, kind: &GroupKind) -> Option<Arc<str>> {
        self.of(kind)?.service.clone()
    }
}
