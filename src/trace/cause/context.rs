//! Decides how a context annotation relates to the change that carries it (`docs/causes.md`,
//! Contexts).

use std::time::Duration;

use crate::trace::{
    cause::find::Cause,
    model::id::Verb,
    object::{
        change::{Change, ContextUse, ContextValue},
        tracked::TrackedObject,
    },
    rules::Rules,
    state::objects::Objects,
};

/// A context that appeared this long before a change was still written for it.
const APPEARED_BEFORE: Duration = Duration::from_secs(5);

/// `None`: there is no context, or none to link to.
pub(crate) fn context_use(
    objects: &Objects,
    rules: &Rules,
    object: &TrackedObject,
    change: &Change,
    cause: &Cause,
) -> Option<ContextUse> {
    let report = change.report()?;
    report.context.as_ref()?;
    let value = change.value?;
    let owner = change.controller().and_then(|owner| objects.get(&owner.uid));
    // `kubectl rollout undo` restores the annotations of an old ReplicaSet in the change itself.
    let is_of_older_set = object.is("apps", "Deployment")
        && report.context_is_new
        && objects.controlled_by(object.uid()).any(|set| has_older_use(set, change, value));
    let context_use = first_matching_use(object, change, value, owner, is_of_older_set)?;
    let is_settled_create = change.key.verb == Verb::Create
        && cause.parent.is_none()
        && cause.owner.as_ref().is_some_and(|owner| owner.settled);
    match context_use {
        // Where the owner is in flight, its change has the context already.
        ContextUse::Inherited => is_settled_create.then_some(context_use),
        ContextUse::Stale if !rules.links.stale => None,
        // A controller's own context says nothing about any later change.
        ContextUse::Stale | ContextUse::Revived if report.is_context_by_controller => None,
        ContextUse::Fresh if report.is_context_by_controller => {
            (!change.key.is_deletion()).then_some(ContextUse::ByController)
        }
        ContextUse::Fresh | ContextUse::Stale | ContextUse::Revived | ContextUse::ByController => {
            Some(context_use)
        }
    }
}

fn has_older_use(set: &TrackedObject, change: &Change, value: ContextValue) -> bool {
    let is_empty = set.spec.replicas == Some(0);
    set.is("apps", "ReplicaSet")
        && set.has_seen_context(value)
        && set.created.is_some_and(|created| created < change.api_at)
        && set
            .context_value()
            .is_none_or(|current| current != value || set.template != change.template || is_empty)
}

/// The first rule that fits. `None` for a deletion, for which only a fresh context counts.
fn first_matching_use(
    object: &TrackedObject,
    change: &Change,
    value: ContextValue,
    owner: Option<&TrackedObject>,
    is_of_older_set: bool,
) -> Option<ContextUse> {
    let is_deletion = change.key.is_deletion();
    if is_inherited(object, change, value, owner) {
        return (!is_deletion).then_some(ContextUse::Inherited);
    }
    let is_used = object.contexts().is_some_and(|contexts| contexts.is_used(value));
    if is_deletion {
        return (!is_used).then_some(ContextUse::Fresh);
    }
    let last = object.contexts().and_then(|contexts| contexts.last);
    if last == Some(value) && change.key.verb == Verb::Update {
        return Some(ContextUse::Stale);
    }
    if is_used || is_of_older_set {
        return Some(ContextUse::Revived);
    }
    let since = change.report().and_then(|report| report.context_since);
    let is_recent = change.api_at.since(since.unwrap_or(change.api_at)) <= APPEARED_BEFORE;
    Some(if is_recent { ContextUse::Fresh } else { ContextUse::Stale })
}

/// A value that a controller copied: from a workload to its `ReplicaSets` and `ControllerRevisions`,
/// from an owner or its templates to the objects it controls.
fn is_inherited(
    object: &TrackedObject,
    change: &Change,
    value: ContextValue,
    owner: Option<&TrackedObject>,
) -> bool {
    let Some(reference) = change.controller() else { return false };
    let is_revision = object.is("apps", "ReplicaSet") || object.is("apps", "ControllerRevision");
    let is_of_workload = &*reference.kind.group == "apps";
    (is_revision && is_of_workload) || owner.is_some_and(|owner| owner.has_seen_context(value))
}
