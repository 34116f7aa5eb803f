//! How long an object keeps its changes as possible causes, and how many.

use std::time::Duration;

use crate::trace::{
    model::time::Timestamp,
    object::{
        change::{Change, Scope},
        tracked::TrackedObject,
    },
};

/// Children of a change that is no longer in flight can arrive this much later.
const LATE_CHILD_GRACE: Duration = Duration::from_mins(1);
/// Changes kept of one object: causes in flight, open convergences, and the newest.
pub(crate) const MAX_CHANGES: usize = 16;

/// When a change can be forgotten; `None` for as long as nothing else happens to the object.
///
/// A settled owner is named by the newest change of its spec. That change is forgotten a while after
/// the next one, for children whose causes are decided late.
pub(crate) fn forgettable_at(object: &TrackedObject, index: usize) -> Option<Timestamp> {
    let change = object.changes.get(index)?;
    let is_needed =
        change.until.is_none() || !change.is_reported() || !change.convergence.is_over();
    if is_needed {
        return None;
    }
    let newer = object.changes.iter().skip(index + 1).find(|newer| newer.is_of_live_spec());
    let identifies_owner = change.is_of_live_spec() && !object.is("", "Pod");
    let since = match newer {
        None if identifies_owner => return None,
        Some(newer) if identifies_owner => newer.received,
        Some(_) | None => change.received,
    };
    Some(since.plus(LATE_CHILD_GRACE))
}

/// Removes the changes that can be forgotten by now. Returns them.
pub(crate) fn forget_old_changes(object: &mut TrackedObject, now: Timestamp) -> Vec<Change> {
    let mut is_old = (0..object.changes.len())
        .map(|index| forgettable_at(object, index).is_some_and(|at| at <= now))
        .collect::<Vec<_>>()
        .into_iter();
    object.changes.extract_if(.., |_| is_old.next().unwrap_or(false)).collect()
}

/// Removes the oldest change that is reported, metadata changes first, as they are causes only where
/// there is no other. `None` where no change is reported.
pub(crate) fn forget_oldest_reported(object: &mut TrackedObject) -> Option<Change> {
    let is_metadata = |change: &Change| change.scope == Scope::Metadata && change.is_reported();
    let mut changes = object.changes.iter();
    let index = changes
        .position(is_metadata)
        .or_else(|| object.changes.iter().position(Change::is_reported))?;
    Some(object.changes.remove(index))
}
