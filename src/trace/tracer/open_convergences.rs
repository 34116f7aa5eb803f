//! Counts the open convergences by what they wait for, for `/metrics`.

use std::collections::{HashMap, HashSet};

use crate::trace::{
    model::{id::ChangeKey, object::GroupKind, time::Timestamp},
    object::change::Change,
    tracer::Tracer,
};

/// Distinct values of what convergences wait for; any further one counts as [`OTHER`]. Controllers
/// choose the reasons of their conditions freely.
const MAX_WAITING_FOR: usize = 64;
const OTHER: &str = "other";

/// The wait of an open convergence: the reason of a problem before the name of a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wait<'a> {
    is_problem: bool,
    since: Timestamp,
    what: &'a str,
}

impl Wait<'_> {
    /// A problem counts more than a phase, and of equals the one that has lasted longer.
    fn counts_more_than(&self, other: &Self) -> bool {
        (self.is_problem, std::cmp::Reverse(self.since))
            > (other.is_problem, std::cmp::Reverse(other.since))
    }
}

impl Tracer {
    /// Convergences without an outcome, by kind and what they wait for: the reason of a problem, the
    /// name of a phase, the reason of a condition, or empty; their own, or of changes they caused.
    pub fn open_convergences(&self) -> HashMap<(&GroupKind, &str), i64> {
        let objects = &self.trace.state.objects;
        let mut waits: HashMap<&ChangeKey, (&GroupKind, Option<Wait<'_>>)> = objects
            .open_changes()
            .map(|(object, change)| (&change.key, (object.kind(), own_wait(change))))
            .collect();
        for (_, change) in objects.open_changes() {
            let Some(own) = own_wait(change) else { continue };
            for cause in objects.causes_of(change) {
                if let Some((_, wait)) = waits.get_mut(cause)
                    && wait.is_none_or(|wait| own.counts_more_than(&wait))
                {
                    *wait = Some(own);
                }
            }
        }
        let mut values: Vec<&str> =
            waits.values().map(|(_, wait)| wait.map_or("", |wait| wait.what)).collect();
        values.sort_unstable();
        values.dedup();
        let named: HashSet<&str> = values.into_iter().take(MAX_WAITING_FOR).collect();
        let mut open = HashMap::new();
        for (kind, wait) in waits.into_values() {
            let what = wait.map_or("", |wait| wait.what);
            let what = if named.contains(what) { what } else { OTHER };
            *open.entry((kind, what)).or_default() += 1;
        }
        open
    }
}

fn own_wait(change: &Change) -> Option<Wait<'_>> {
    if let Some(active) = change.convergence.active_problem() {
        let what = &active.problem.reason;
        return Some(Wait { is_problem: true, since: active.since, what });
    }
    let phase = change.open_phase().map(|open| (open.begin, open.name));
    let (since, what) = phase.or_else(|| change.convergence.open_condition())?;
    Some(Wait { is_problem: false, since, what })
}
