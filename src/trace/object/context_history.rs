//! The values that an object's context annotation had.

use serde::{Deserialize, Serialize};

use crate::trace::{
    model::{context::TraceContext, time::Timestamp},
    object::change::ContextValue,
};

/// Context values remembered for one object; the oldest are forgotten first.
const MAX_VALUES: usize = 32;
/// Contexts that wait for their generation to be observed: as many as a span may have links.
const MAX_WAITING: usize = 16;

/// Absent from objects that never had a context annotation.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct ContextHistory {
    /// The annotation's value, valid or not.
    pub(crate) written: Option<ContextValue>,
    /// The same where it is a valid context.
    pub(crate) current: Option<(ContextValue, TraceContext)>,
    /// The controller of the object wrote the current value.
    pub(crate) is_by_controller: bool,
    /// When the current value appeared, in API time.
    pub(crate) since: Option<Timestamp>,
    /// The resourceVersion of its first observation.
    pub(crate) since_version: u64,
    /// Values that a spec change or a deletion carried as fresh, or that existed at the start.
    used: Vec<ContextValue>,
    /// Values of the annotation and of the object's templates: its children inherit them.
    seen: Vec<ContextValue>,
    /// The value at the last spec change.
    pub(crate) last: Option<ContextValue>,
    /// Contexts of changes that ended paused: a resumed rollout links to them.
    paused: Vec<TraceContext>,
    /// Fresh contexts by their generation, until a status reports the generation as observed.
    unobserved: Vec<(i64, TraceContext)>,
}

impl ContextHistory {
    pub(crate) fn is_used(&self, value: ContextValue) -> bool {
        self.used.contains(&value)
    }

    pub(crate) fn has_seen(&self, value: ContextValue) -> bool {
        self.seen.contains(&value)
    }

    pub(crate) fn has_paused(&self) -> bool {
        !self.paused.is_empty()
    }

    /// Returns whether an older context was forgotten for it, as all `record_…` do.
    pub(crate) fn record_unobserved(&mut self, generation: i64, context: TraceContext) -> bool {
        push_bounded(&mut self.unobserved, (generation, context), MAX_WAITING)
    }

    /// Removes the contexts of all generations up to this one.
    pub(crate) fn take_observed(&mut self, generation: i64) -> Vec<(i64, TraceContext)> {
        self.unobserved.extract_if(.., |(of, _)| *of <= generation).collect()
    }

    pub(crate) fn record_paused(&mut self, context: TraceContext) -> bool {
        push_bounded(&mut self.paused, context, MAX_WAITING)
    }

    pub(crate) fn take_paused(&mut self) -> Vec<TraceContext> {
        std::mem::take(&mut self.paused)
    }

    pub(crate) fn record_used(&mut self, value: ContextValue) -> bool {
        !self.used.contains(&value) && push_bounded(&mut self.used, value, MAX_VALUES)
    }

    pub(crate) fn record_seen(&mut self, value: ContextValue) -> bool {
        !self.seen.contains(&value) && push_bounded(&mut self.seen, value, MAX_VALUES)
    }
}

fn push_bounded<T>(values: &mut Vec<T>, value: T, max: usize) -> bool {
    let is_full = values.len() >= max;
    if is_full {
        values.remove(0);
    }
    values.push(value);
    is_full
}
