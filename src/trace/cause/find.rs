//! Finds which change of the owner, or of the Namespace, a change follows from, and whether it was
//! its doing (contract: causes §1 to §4).

use std::{collections::HashMap, sync::Arc, time::Duration};

use crate::trace::{
    model::{
        id::{ChangeKey, Verb},
        kind,
        object::Uid,
        observation::OwnerReference,
        time::Timestamp,
    },
    object::{
        change::{Change, OwnerInfo, ReplicaChange, Scope},
        detect::same_template,
        tracked::TrackedObject,
    },
};

/// A chain this deep ends in a head, as an owner cycle would.
const MAX_DEPTH: u8 = 16;

/// What is known, as causes are looked for in it.
pub(crate) struct CauseFinder<'a> {
    pub(crate) objects: &'a HashMap<Uid, Box<TrackedObject>>,
    /// Namespaces by name, the newest of each.
    pub(crate) namespaces: &'a HashMap<Arc<str>, Uid>,
    pub(crate) deadline: &'a dyn Fn(&TrackedObject) -> Duration,
}

#[derive(Debug, Default)]
pub(crate) struct Cause {
    /// `None`: a head.
    pub(crate) parent: Option<ChangeKey>,
    pub(crate) owner: Option<OwnerInfo>,
    /// Of a disruption.
    pub(crate) reason: Option<Box<str>>,
}

impl CauseFinder<'_> {
    pub(crate) fn cause(&self, object: &TrackedObject, change: &Change) -> Cause {
        let owner = change.controller().and_then(|reference| self.owner(object, reference));
        let cause = match change.key.verb {
            Verb::Create => owner.map(|owner| self.of_create(object, change, owner)),
            Verb::Update => owner.map(|owner| self.of_update(object, change, owner)),
            Verb::Delete => Some(self.of_delete(object, change, owner)),
        };
        let mut cause = cause.unwrap_or_default();
        if cause.owner.is_none() {
            cause.owner = self.mere_owner(object, change);
        }
        if cause.parent.as_ref().is_some_and(|parent| self.is_too_deep(parent)) {
            cause.parent = None;
        }
        cause
    }

    /// Somebody who owns it and is not known to have made it: no controller, of a kind that nobody
    /// watches, or gone.
    fn mere_owner(&self, object: &TrackedObject, change: &Change) -> Option<OwnerInfo> {
        let reference = change.owners().first()?;
        let Some(owner) = self.owner(object, reference).filter(|_| !reference.controller) else {
            return Some(named(reference));
        };
        not_its_doing(owner, change, &self.candidates(owner, change)).owner
    }

    fn owner(&self, object: &TrackedObject, reference: &OwnerReference) -> Option<&TrackedObject> {
        let is_another = reference.uid != object.object.uid;
        self.objects.get(&reference.uid).filter(|_| is_another).map(Box::as_ref)
    }

    fn is_too_deep(&self, parent: &ChangeKey) -> bool {
        self.objects
            .get(&parent.uid)
            .and_then(|object| object.change(parent)?.decided.as_ref())
            .is_none_or(|decided| decided.depth >= MAX_DEPTH)
    }

    fn of_create(&self, object: &TrackedObject, change: &Change, owner: &TrackedObject) -> Cause {
        let candidates = self.makers(owner, change);
        match best_match(object, change, owner, &candidates) {
            Some(candidate) => caused_by(owner, candidate),
            None => at_rest(owner, change),
        }
    }

    fn of_update(&self, object: &TrackedObject, change: &Change, owner: &TrackedObject) -> Cause {
        let managers = change.details.as_ref().and_then(|details| {
            Some((&details.manager.as_ref()?.name, details.owner_manager.as_ref()?))
        });
        // Somebody else than the owner's controller: a person on an operator's Deployment.
        if managers.is_some_and(|(writer, controller)| writer != controller) {
            return not_its_doing(owner, change, &self.candidates(owner, change));
        }
        let scaled_up = object.object.kind.is("apps", "ReplicaSet")
            && change.scaled == ReplicaChange::Increased;
        let candidates = self.makers(owner, change);
        let found = if scaled_up {
            best_match(object, change, owner, &candidates)
        } else {
            candidates.first().copied()
        };
        found.map_or_else(|| at_rest(owner, change), |candidate| caused_by(owner, candidate))
    }

    /// The first that fits.
    fn of_delete(
        &self,
        object: &TrackedObject,
        change: &Change,
        owner: Option<&TrackedObject>,
    ) -> Cause {
        // When it went that was not in a list any more is unknown: no later than what went with it.
        let before = |deletion: &&Change| {
            let was_before = deletion.resource_version <= change.resource_version;
            (was_before || deletion.relisted) && deletion.decided.is_some()
        };
        // 1: garbage collection, foreground.
        if let Some((owner, deletion)) = self.last_owner_gone(object, change, before) {
            return caused_by(owner, deletion);
        }
        // 2: the Namespace goes.
        if let Some(namespace) = namespace_of(self.objects, self.namespaces, object)
            && let Some(deletion) = namespace.deletion().filter(before)
        {
            return caused_by(namespace, deletion);
        }
        let candidates = owner.map(|owner| self.candidates(owner, change)).unwrap_or_default();
        // 3: eviction, preemption, a lost node.
        let disruption = change.details.as_ref().and_then(|details| details.disruption.as_ref());
        if let Some(reason) = disruption {
            let cause =
                owner.map(|owner| not_its_doing(owner, change, &candidates)).unwrap_or_default();
            return Cause { reason: Some(reason.clone()), ..cause };
        }
        let Some(owner) = owner else { return Cause::default() };
        // 4: the owner wants fewer, or other, children.
        let wants_fewer = |candidate: &&&Change| {
            !owner.object.kind.is("apps", "ReplicaSet")
                || candidate.scaled == ReplicaChange::Decreased
        };
        if let Some(candidate) = candidates.iter().find(wants_fewer) {
            return caused_by(owner, candidate);
        }
        // 5: cleaned up beyond revisionHistoryLimit, after the rollout.
        let is_empty_set = object.object.kind.is("apps", "ReplicaSet")
            && object.spec.replicas == Some(0)
            && !object.has_replicas;
        if is_empty_set
            && let Some(newest) = owner.newest_below(change.resource_version)
            && self.is_recent(owner, newest, change.api_at)
        {
            return caused_by(owner, newest);
        }
        // 6: a person, or something nobody can tell from one.
        not_its_doing(owner, change, &candidates)
    }

    /// What has several owners is garbage with the last of them.
    fn last_owner_gone(
        &self,
        object: &TrackedObject,
        change: &Change,
        before: impl Fn(&&Change) -> bool,
    ) -> Option<(&TrackedObject, &Change)> {
        let mut last: Option<(&TrackedObject, &Change)> = None;
        for owner in change.owners().iter().filter_map(|reference| self.owner(object, reference)) {
            let deletion = owner.deletion().filter(&before)?;
            if last.is_none_or(|(_, other)| other.resource_version <= deletion.resource_version) {
                last = Some((owner, deletion));
            }
        }
        last
    }

    /// The owner's changes in flight at the child's resourceVersion, the newest first;
    /// metadata-scope ones only if there is no other.
    pub(crate) fn candidates<'a>(
        &self,
        owner: &'a TrackedObject,
        child: &Change,
    ) -> Vec<&'a Change> {
        let all: Vec<&Change> = owner
            .changes
            .iter()
            .rev()
            .filter(|change| change.decided.is_some() && change.key.verb != Verb::Delete)
            .filter(|change| was_in_flight(owner, change, child))
            .filter(|change| self.is_recent(owner, change, child.api_at))
            .collect();
        let only = |all: Vec<&'a Change>, wanted: fn(&Change) -> bool| {
            let some: Vec<&Change> = all.iter().copied().filter(|change| wanted(change)).collect();
            if some.is_empty() { all } else { some }
        };
        let of_spec = only(all, |change| change.scope == Scope::Spec);
        // What is ignored is a cause only where it is alone.
        only(of_spec, |change| !change.ignored)
    }

    /// What may have made or changed the child. An operator is at work until it lets its object go;
    /// a workload that goes makes nothing more.
    fn makers<'a>(&self, owner: &'a TrackedObject, child: &Change) -> Vec<&'a Change> {
        let deletion = going(owner, child)
            .filter(|deletion| !deletion.ignored && !kind::is_built_in(&owner.object.kind));
        deletion.into_iter().chain(self.candidates(owner, child)).collect()
    }

    fn is_recent(&self, owner: &TrackedObject, change: &Change, at: Timestamp) -> bool {
        is_recent(change, at, (self.deadline)(owner))
    }
}

/// The Namespace that an object is in: what is older than the one that has the name now was in one
/// before it.
pub(crate) fn namespace_of<'a>(
    objects: &'a HashMap<Uid, Box<TrackedObject>>,
    namespaces: &HashMap<Arc<str>, Uid>,
    object: &TrackedObject,
) -> Option<&'a TrackedObject> {
    let name = object.object.namespace.as_ref()?;
    let newest = objects.get(namespaces.get(name)?)?.as_ref();
    if object.created >= newest.created {
        return Some(newest);
    }
    let all = objects.values().map(Box::as_ref);
    let of_this_name = |other: &&TrackedObject| {
        other.object.kind.is("", "Namespace")
            && other.object.name == *name
            && other.created <= object.created
    };
    all.filter(of_this_name).max_by_key(|other| other.created).or(Some(newest))
}

/// A change stops being a cause when the deadline has passed, in API times, since it or the last
/// change below it: a slow roll keeps its Pods.
pub(crate) fn is_recent(change: &Change, at: Timestamp, deadline: Duration) -> bool {
    at.since(change.api_at.max(change.last_caused)) <= deadline
}

fn was_in_flight(owner: &TrackedObject, change: &Change, child: &Change) -> bool {
    if child.relisted && child.key.verb != Verb::Delete {
        // resourceVersions are those of last writes then; times are not.
        let begun = change.api_at <= child.api_at;
        return begun && (child.api_at <= owner.status_written || !owner.was_current);
    }
    change.is_in_flight_at(child.resource_version)
}

/// The newest that agrees in pod template and annotation, else in template, else in annotation,
/// else the newest. What a workload's Pod carries is in the template: it tells no more than that.
fn best_match<'a>(
    object: &TrackedObject,
    change: &Change,
    owner: &TrackedObject,
    candidates: &[&'a Change],
) -> Option<&'a Change> {
    let in_template = |candidate: &&&Change| agrees_in_template(object, change, owner, candidate);
    // Only ReplicaSets are without one because their owner was.
    let says_so = change.value.is_some() || object.object.kind.is("apps", "ReplicaSet");
    let in_value = |candidate: &&&Change| says_so && candidate.value == change.value;
    let by_template = is_pod_of_workload(object, owner);
    candidates
        .iter()
        .find(|candidate| in_template(candidate) && (by_template || in_value(candidate)))
        .or_else(|| candidates.iter().find(in_template))
        .or_else(|| candidates.iter().find(in_value))
        .or_else(|| candidates.first())
        .copied()
}

fn agrees_in_template(
    object: &TrackedObject,
    change: &Change,
    owner: &TrackedObject,
    candidate: &Change,
) -> bool {
    let of_pods = |mark: Option<&Box<str>>| mark.is_some() && mark == candidate.revision.as_ref();
    if owner.object.kind.is("apps", "StatefulSet") {
        of_pods(object.revision.as_ref().and_then(|r| r.controller_revision_hash.as_ref()))
    } else if owner.object.kind.is("apps", "DaemonSet") {
        of_pods(object.revision.as_ref().and_then(|r| r.pod_template_generation.as_ref()))
    } else if owner.object.kind.is("apps", "ReplicaSet") || owner.object.kind.is("batch", "Job") {
        // They have one and the same for life.
        is_pod_of_workload(object, owner)
    } else {
        same_template(change.template, candidate.template)
    }
}

fn is_pod_of_workload(object: &TrackedObject, owner: &TrackedObject) -> bool {
    object.object.kind.is("", "Pod") && kind::is_built_in(&owner.object.kind)
}

fn caused_by(owner: &TrackedObject, parent: &Change) -> Cause {
    Cause {
        parent: Some(parent.key.clone()),
        owner: Some(mention(owner, Some(parent), false)),
        reason: None,
    }
}

/// Nothing that is to stay is in flight: what an operator does while its object goes, before it lets
/// that go, follows from the deletion.
fn at_rest(owner: &TrackedObject, child: &Change) -> Cause {
    going(owner, child).map_or_else(|| settled(owner, child), |deletion| caused_by(owner, deletion))
}

/// The owner's deletion, where it came before.
fn going<'a>(owner: &'a TrackedObject, child: &Change) -> Option<&'a Change> {
    owner.deletion().filter(|deletion| {
        deletion.decided.is_some() && deletion.resource_version < child.resource_version
    })
}

/// A head whose owner has nothing in flight: last week's rollout did not cause it.
fn settled(owner: &TrackedObject, child: &Change) -> Cause {
    let newest = owner.newest_below(child.resource_version);
    // Known from start-up alone: settled only if it was Current there.
    let settled = newest.is_some() || owner.began_current;
    Cause { owner: Some(mention(owner, newest, settled)), ..Cause::default() }
}

/// A head although the owner may have something in flight. What is ignored has no span to lead to.
fn not_its_doing(owner: &TrackedObject, child: &Change, candidates: &[&Change]) -> Cause {
    match candidates.iter().find(|candidate| !candidate.ignored) {
        Some(change) => {
            Cause { owner: Some(mention(owner, Some(change), false)), ..Cause::default() }
        }
        None => settled(owner, child),
    }
}

fn mention(owner: &TrackedObject, change: Option<&Change>, settled: bool) -> OwnerInfo {
    OwnerInfo {
        kind: owner.object.kind.clone(),
        name: Arc::clone(&owner.object.name),
        uid: owner.object.uid.clone(),
        generation: change.map_or(owner.target, |change| change.generation),
        settled,
        span: change.and_then(|change| Some(change.decided.as_ref()?.span())),
    }
}

fn named(reference: &OwnerReference) -> OwnerInfo {
    OwnerInfo {
        kind: reference.kind.clone(),
        name: Arc::clone(&reference.name),
        uid: reference.uid.clone(),
        generation: None,
        settled: false,
        span: None,
    }
}
