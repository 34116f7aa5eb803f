//! Finds the change of the owner, or of the Namespace, that a change follows from
//! (`docs/causes.md`).

use std::{sync::Arc, time::Duration};

use crate::trace::{
    model::{
        id::{ChangeKey, Verb},
        kind,
        observation::OwnerReference,
        time::Timestamp,
    },
    object::{
        cause_rule::{CauseChoice, CauseRule},
        change::{Change, MAX_DEPTH, OwnWrite, OwnerInfo, ReplicaChange, Scope},
        detect::same_template,
        tracked::TrackedObject,
    },
    rules::Rules,
    state::{State, objects::Objects, pod_losses::PodLosses},
};

/// The tables in which causes are found.
#[derive(Clone, Copy)]
pub(crate) struct CauseFinder<'a> {
    pub(crate) objects: &'a Objects,
    pub(crate) rules: &'a Rules,
    pub(crate) losses: &'a PodLosses,
}

#[derive(Debug, Default)]
pub(crate) struct Cause {
    /// `None`: the change is a head.
    pub(crate) parent: Option<ChangeKey>,
    pub(crate) owner: Option<OwnerInfo>,
    /// How the parent was chosen.
    pub(crate) choice: Option<CauseChoice>,
    /// The reason of a disruption.
    pub(crate) reason: Option<Box<str>>,
    /// The cause is a change of an owner above the direct one.
    pub(crate) is_of_ancestor: bool,
}

impl Cause {
    pub(super) fn of_ancestor(above: &TrackedObject, cause: &Change) -> Self {
        Self { is_of_ancestor: true, ..caused_by(above, cause, CauseRule::OwnerFurtherUp) }
    }
}

impl<'a> CauseFinder<'a> {
    pub(crate) fn new(state: &'a State, rules: &'a Rules) -> Self {
        Self { objects: &state.objects, losses: &state.losses, rules }
    }

    pub(crate) fn find(&self, object: &TrackedObject, change: &Change) -> Cause {
        let owner = change.controller().and_then(|reference| self.owner(object, reference));
        let cause = match change.key.verb {
            Verb::Create => owner.map(|owner| self.of_create(object, change, owner)),
            Verb::Update => owner.map(|owner| self.of_update(object, change, owner)),
            Verb::Delete => Some(self.of_delete(object, change, owner)),
            Verb::Reconcile => Some(settled(object, change)),
        };
        let mut cause = cause.unwrap_or_default();
        if cause.owner.is_none() {
            cause.owner = self.owner_without_cause(object, change);
        }
        if cause.parent.as_ref().is_some_and(|parent| self.is_too_deep(parent)) {
            cause.parent = None;
        }
        cause
    }

    /// An owner that caused nothing, as far as is known: it is not the controller, is of a kind that
    /// is not watched, or was deleted.
    fn owner_without_cause(&self, object: &TrackedObject, change: &Change) -> Option<OwnerInfo> {
        let reference = change.owners().first()?;
        let Some(owner) = self.owner(object, reference).filter(|_| !reference.controller) else {
            return Some(only_named(reference));
        };
        head_with_owner(owner, change, &self.candidates(owner, change)).owner
    }

    pub(super) fn owner(
        &self,
        object: &TrackedObject,
        reference: &OwnerReference,
    ) -> Option<&TrackedObject> {
        let is_another = reference.uid != *object.uid();
        self.objects.get(&reference.uid).filter(|_| is_another)
    }

    fn is_too_deep(&self, parent: &ChangeKey) -> bool {
        self.objects
            .get(&parent.uid)
            .and_then(|object| object.change(parent)?.decision())
            .is_none_or(|decision| decision.depth >= MAX_DEPTH)
    }

    fn of_create(&self, object: &TrackedObject, change: &Change, owner: &TrackedObject) -> Cause {
        if let Some(missed) = missed_creator(object, change, owner) {
            return caused_by(owner, missed, CauseRule::MissedGeneration);
        }
        let candidates = self.creator_candidates(owner, change);
        match best_match(object, change, owner, &candidates) {
            Some((candidate, choice)) => chosen(owner, candidate, choice),
            None => self
                .actor_above(object, change, owner)
                .unwrap_or_else(|| owner_settled_or_deleting(owner, change)),
        }
    }

    fn of_update(&self, object: &TrackedObject, change: &Change, owner: &TrackedObject) -> Cause {
        let managers = change.report().and_then(|report| {
            Some((&report.manager.as_ref()?.name, report.owner_manager.as_ref()?))
        });
        // Another field manager than the owner's controller: a person on an operator's Deployment.
        if managers.is_some_and(|(writer, controller)| writer != controller) {
            return head_with_owner(owner, change, &self.candidates(owner, change));
        }
        let scaled_up =
            object.is("apps", "ReplicaSet") && change.replica_change == ReplicaChange::Increased;
        let candidates = self.creator_candidates(owner, change);
        let found = if scaled_up {
            best_match(object, change, owner, &candidates)
        } else {
            newest(candidates.iter().copied())
        };
        match found {
            Some((candidate, choice)) => chosen(owner, candidate, choice),
            None => self
                .actor_above(object, change, owner)
                .unwrap_or_else(|| owner_settled_or_deleting(owner, change)),
        }
    }

    /// The first rule that fits (`docs/causes.md`, Deletions).
    fn of_delete(
        &self,
        object: &TrackedObject,
        change: &Change,
        owner: Option<&TrackedObject>,
    ) -> Cause {
        // The time of a deletion that a relist showed is unknown: it was no later than those of the
        // objects that went with it.
        let before = |deletion: &&Change| {
            let was_before = deletion.resource_version <= change.resource_version;
            (was_before || deletion.relisted) && deletion.is_decided()
        };
        // 1: garbage collection, in background or foreground.
        if let Some((owner, deletion)) = self.last_owner_gone(object, change, before) {
            return caused_by(owner, deletion, CauseRule::OwnerDeleted);
        }
        // 2: the Namespace is deleted.
        if let Some(namespace) = self.objects.namespace_of(object)
            && let Some(deletion) = namespace.deletion().filter(before)
        {
            return caused_by(namespace, deletion, CauseRule::NamespaceDeleted);
        }
        let candidates = owner.map(|owner| self.candidates(owner, change)).unwrap_or_default();
        // 3: eviction, preemption, a lost node.
        let disruption = change.report().and_then(|report| report.disruption.as_ref());
        if let Some(reason) = disruption {
            let above = owner.and_then(|owner| self.remover_above(change, owner, Some(reason)));
            let head = || owner.map(|owner| head_with_owner(owner, change, &candidates));
            let cause = above.or_else(head).unwrap_or_default();
            return Cause { reason: Some(reason.clone()), ..cause };
        }
        let Some(owner) = owner else { return Cause::default() };
        // 4: the owner wants fewer, or other, children.
        let wants_fewer = |candidate: &&Change| {
            !owner.is("apps", "ReplicaSet") || candidate.replica_change == ReplicaChange::Decreased
        };
        let fitting = candidates.iter().copied().filter(wants_fewer);
        if let Some((candidate, choice)) = newest(fitting) {
            return chosen(owner, candidate, choice);
        }
        // 5: cleaned up beyond revisionHistoryLimit, after the rollout.
        let is_empty_set = object.is("apps", "ReplicaSet")
            && object.spec.replicas == Some(0)
            && !object.has_replicas;
        if is_empty_set
            && let Some(newest) = owner.newest_below(change.resource_version)
            && self.is_recent(owner, newest, change.api_at)
        {
            return caused_by(owner, newest, CauseRule::CleanUp);
        }
        // 6: the controller of an owner further up.
        if let Some(cause) = self.remover_above(change, owner, None) {
            return cause;
        }
        // 7: a person, or an actor that looks like one.
        head_with_owner(owner, change, &candidates)
    }

    /// An object with several owners is garbage once the last one is deleted.
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
    pub(crate) fn candidates<'o>(
        &self,
        owner: &'o TrackedObject,
        child: &Change,
    ) -> Vec<&'o Change> {
        let all: Vec<&Change> = owner
            .changes
            .iter()
            .rev()
            .filter(|change| change.is_decided() && !change.key.is_deletion())
            // What follows from a controller's own write follows from the change it is a part of.
            .filter(|change| change.own_write != OwnWrite::Yes)
            .filter(|change| was_in_flight(owner, change, child))
            .filter(|change| self.is_recent(owner, change, child.api_at))
            .collect();
        let all = if all.is_empty() { self.episode_after(owner, child) } else { all };
        let only = |all: Vec<&'o Change>, wanted: fn(&Change) -> bool| {
            let some: Vec<&Change> = all.iter().copied().filter(|change| wanted(change)).collect();
            if some.is_empty() { all } else { some }
        };
        let of_spec = only(all, |change| change.scope == Scope::Spec);
        // An ignored change is a cause only where there is no other.
        only(of_spec, |change| !change.ignored)
    }

    /// An owner at rest may act before its status says so: the episode that follows. A deletion before
    /// it is rather what began it.
    fn episode_after<'o>(&self, owner: &'o TrackedObject, child: &Change) -> Vec<&'o Change> {
        let wait = self.rules.owner_wait(owner.kind());
        let begins_soon = |episode: &&Change| {
            episode.is_episode()
                && !child.key.is_deletion()
                && episode.is_decided()
                && episode.resource_version > child.resource_version
                && episode.received.since(child.received) <= wait
                && owner.changes.iter().all(|older| {
                    older.resource_version >= episode.resource_version
                        || older.resource_version < child.resource_version
                })
        };
        owner.changes.iter().filter(begins_soon).take(1).collect()
    }

    /// The changes that may have created or changed the child. An operator works until its finalizer
    /// is removed; a built-in controller creates nothing for an object that is being deleted.
    fn creator_candidates<'o>(&self, owner: &'o TrackedObject, child: &Change) -> Vec<&'o Change> {
        let deletion = pending_deletion(owner, child)
            .filter(|deletion| !deletion.ignored && !kind::is_built_in(owner.kind()));
        deletion.into_iter().chain(self.candidates(owner, child)).collect()
    }

    fn is_recent(&self, owner: &TrackedObject, change: &Change, at: Timestamp) -> bool {
        is_recent(
            change,
            at,
            self.rules.limits(owner.kind(), owner.spec.progress_deadline_seconds).deadline,
        )
    }
}

/// A change stops being a cause when the deadline has passed, in API times, since it or the last
/// change below it: a slow roll keeps its Pods.
pub(crate) fn is_recent(change: &Change, at: Timestamp, deadline: Duration) -> bool {
    at.since(change.api_at.max(change.last_caused)) <= deadline
}

fn was_in_flight(owner: &TrackedObject, change: &Change, child: &Change) -> bool {
    if child.relisted && !child.key.is_deletion() {
        // A relist shows the resourceVersion of the last write, but the times of creation.
        let begun = change.api_at <= child.api_at;
        return begun && (child.api_at <= owner.status_written || !owner.was_current);
    }
    change.is_in_flight_at(child.resource_version)
}

/// The newest candidate that agrees in pod template and annotation, else in template, else in
/// annotation, else the newest. A Pod of a workload has its annotations from the template, so for it
/// the annotation is not further evidence.
fn best_match<'a>(
    object: &TrackedObject,
    change: &Change,
    owner: &TrackedObject,
    candidates: &[&'a Change],
) -> Option<(&'a Change, CauseChoice)> {
    let in_template = |candidate: &Change| agrees_in_template(object, change, owner, candidate);
    // Only a ReplicaSet without an annotation shows that its owner had none.
    let is_evidence = change.value.is_some() || object.is("apps", "ReplicaSet");
    let in_value = |candidate: &Change| is_evidence && candidate.value == change.value;
    let by_template = is_pod_of_workload(object, owner);
    let in_both =
        |candidate: &Change| in_template(candidate) && (by_template || in_value(candidate));
    let rules: [(CauseRule, Fits<'_>); 4] = [
        (CauseRule::Template, &in_both),
        (CauseRule::Template, &in_template),
        (CauseRule::Context, &in_value),
        (CauseRule::Newest, &|_| true),
    ];
    rules.into_iter().find_map(|(rule, fits)| {
        first(candidates.iter().copied().filter(|candidate| fits(candidate)), rule)
    })
}

/// Whether a change of the owner fits a rule.
type Fits<'a> = &'a dyn Fn(&Change) -> bool;

/// The first of the candidates, which are the newest first.
fn newest<'a>(candidates: impl Iterator<Item = &'a Change>) -> Option<(&'a Change, CauseChoice)> {
    first(candidates, CauseRule::Newest)
}

/// The first of the candidates that fit a rule. Further ones make the choice ambiguous.
fn first<'a>(
    mut fitting: impl Iterator<Item = &'a Change>,
    rule: CauseRule,
) -> Option<(&'a Change, CauseChoice)> {
    let candidate = fitting.next()?;
    Some((candidate, CauseChoice { rule, is_ambiguous: fitting.next().is_some() }))
}

/// A child that a relist showed, whose template and context agree with no known change of its owner:
/// one of the generations that were overwritten meanwhile made it. The owner's change that stands for
/// those is its cause, not an older one.
fn missed_creator<'a>(
    object: &TrackedObject,
    change: &Change,
    owner: &'a TrackedObject,
) -> Option<&'a Change> {
    if !change.relisted || is_pod_of_workload(object, owner) {
        return None;
    }
    let is_before = |candidate: &&Change| candidate.api_at <= change.api_at;
    let agrees = |candidate: &Change| {
        agrees_in_template(object, change, owner, candidate)
            || (change.value.is_some() && change.value == candidate.value)
    };
    let mut decided = owner.changes.iter().filter(|candidate| {
        candidate.is_decided() && candidate.is_of_live_spec() && !candidate.ignored
    });
    if decided.clone().any(agrees) {
        return None;
    }
    decided.find(|candidate| !is_before(candidate)).filter(|next| next.missed > 0)
}

fn agrees_in_template(
    object: &TrackedObject,
    change: &Change,
    owner: &TrackedObject,
    candidate: &Change,
) -> bool {
    let of_pods = |mark: Option<&Box<str>>| mark.is_some() && mark == candidate.revision.as_ref();
    if owner.is("apps", "StatefulSet") {
        of_pods(object.revision.as_ref().and_then(|r| r.controller_revision_hash.as_ref()))
    } else if owner.is("apps", "DaemonSet") {
        of_pods(object.revision.as_ref().and_then(|r| r.pod_template_generation.as_ref()))
    } else if owner.is("apps", "ReplicaSet") || owner.is("batch", "Job") {
        // Their template never changes.
        is_pod_of_workload(object, owner)
    } else {
        owner.templates_of(candidate).any(|template| same_template(change.template, template))
    }
}

fn is_pod_of_workload(object: &TrackedObject, owner: &TrackedObject) -> bool {
    object.is("", "Pod") && kind::is_built_in(owner.kind())
}

fn caused_by(owner: &TrackedObject, parent: &Change, rule: CauseRule) -> Cause {
    chosen(owner, parent, CauseChoice::only(rule))
}

fn chosen(owner: &TrackedObject, parent: &Change, choice: CauseChoice) -> Cause {
    Cause {
        parent: Some(parent.key.clone()),
        owner: Some(owner_info(owner, Some(parent), false)),
        choice: Some(choice),
        ..Cause::default()
    }
}

/// No change is in flight. Whatever an operator does while its object is being deleted follows from
/// the deletion.
fn owner_settled_or_deleting(owner: &TrackedObject, child: &Change) -> Cause {
    match pending_deletion(owner, child) {
        Some(deletion) => caused_by(owner, deletion, CauseRule::OwnerDeleting),
        None => settled(owner, child),
    }
}

/// The owner's deletion, where it came before the child's change.
fn pending_deletion<'a>(owner: &'a TrackedObject, child: &Change) -> Option<&'a Change> {
    owner.deletion().filter(|deletion| {
        deletion.is_decided() && deletion.resource_version < child.resource_version
    })
}

/// A head whose owner has no change in flight: last week's rollout did not cause it.
fn settled(owner: &TrackedObject, child: &Change) -> Cause {
    let newest = owner.newest_below(child.resource_version);
    // An owner known only from the start is settled if it was Current then.
    let settled = newest.is_some() || owner.began_current;
    Cause { owner: Some(owner_info(owner, newest, settled)), ..Cause::default() }
}

/// A head although the owner may have a change in flight. An ignored change has no span to link to.
fn head_with_owner(owner: &TrackedObject, child: &Change, candidates: &[&Change]) -> Cause {
    match candidates.iter().find(|candidate| !candidate.ignored) {
        Some(change) => {
            Cause { owner: Some(owner_info(owner, Some(change), false)), ..Cause::default() }
        }
        None => settled(owner, child),
    }
}

fn owner_info(owner: &TrackedObject, change: Option<&Change>, settled: bool) -> OwnerInfo {
    OwnerInfo {
        kind: owner.kind().clone(),
        name: Arc::clone(owner.name()),
        uid: owner.uid().clone(),
        generation: change.map_or(owner.target, |change| change.generation),
        settled,
        span: change.and_then(|change| Some(change.decision()?.span())),
    }
}

fn only_named(reference: &OwnerReference) -> OwnerInfo {
    OwnerInfo {
        kind: reference.kind.clone(),
        name: Arc::clone(&reference.name),
        uid: reference.uid.clone(),
        generation: None,
        settled: false,
        span: None,
    }
}
