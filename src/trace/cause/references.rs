//! Links to objects that an object names without being owned by them: by configured fields, and the
//! autoscaler that scaled it.

use std::time::Duration;

use crate::trace::{
    cause::find::is_recent,
    model::{object::Uid, span::Link},
    object::{change::Change, tracked::TrackedObject},
    rules::Rules,
    spans::links,
    state::objects::Objects,
};

/// A change of a named object that came this long before an episode may have begun it.
const TRIGGERS_WITHIN: Duration = Duration::from_secs(5);

/// A link to the change in flight of each object that the configured fields name.
pub(crate) fn reference_links(
    objects: &Objects,
    rules: &Rules,
    object: &TrackedObject,
    change: &Change,
) -> Vec<Link> {
    let in_flight = |other: &TrackedObject| {
        let progress_deadline = other.spec.progress_deadline_seconds;
        let deadline = rules.limits(other.kind(), progress_deadline).deadline;
        let change = other.changes.iter().rev().find(|candidate| {
            candidate.is_decided()
                && candidate.is_of_spec()
                && !candidate.ignored
                && candidate.is_in_flight_at(change.resource_version)
                && (candidate.key.is_deletion() || is_recent(candidate, change.api_at, deadline))
        })?;
        links::change_link("reference", &other.reference, change)
    };
    let begun_by = || {
        let named = object
            .references
            .iter()
            .flat_map(|references| references.children.iter().chain(&references.to));
        let named = named.flat_map(|named| objects.all_named(object, named));
        named.filter_map(|named| trigger(named, change))
    };
    if change.is_episode() {
        return begun_by().collect();
    }
    objects.referenced_by(object).filter_map(in_flight).collect()
}

/// A link to the change of a named object that came shortly before an episode.
fn trigger(named: &TrackedObject, episode: &Change) -> Option<Link> {
    let change = named.changes.iter().rev().find(|change| {
        change.is_decided()
            && change.is_of_spec()
            && !change.ignored
            && change.resource_version < episode.resource_version
            && episode.api_at.since(change.api_at) <= TRIGGERS_WITHIN
    })?;
    links::change_link("reference", &named.reference, change)
}

/// A link from the newest change of a scaled object to the autoscaler's last change, where the
/// autoscaler scaled just then and wants as many replicas as the object has. A person may scale as
/// well, and the autoscaler then agrees with that.
pub(crate) fn autoscaler_link(objects: &Objects, target: &Uid, autoscaler: &Uid) -> Option<Link> {
    let autoscaler = objects.get(autoscaler)?;
    let references = autoscaler.references.as_deref()?;
    let target = objects.get(target)?;
    let scaled = target.changes.iter().rev().find(|change| change.is_of_spec())?;
    let is_by_autoscaler = is_by_scale(scaled)
        && references.rescaled.is_some_and(|at| at.is_at(scaled.resource_version))
        && target.spec.replicas == Some(references.desired?);
    if !is_by_autoscaler {
        return None;
    }
    // A later change of the autoscaler is not the reason.
    let reason = autoscaler.changes.iter().rev().find(|change| {
        change.is_decided()
            && change.is_of_live_spec()
            && !change.ignored
            && change.resource_version < scaled.resource_version
    })?;
    links::change_link("reference", &autoscaler.reference, reason)
}

/// Whether the change was written through the subresource `/scale`.
pub(crate) fn is_by_scale(change: &Change) -> bool {
    change
        .report()
        .and_then(|report| report.manager.as_ref())
        .is_some_and(|manager| &*manager.subresource == "scale")
}
