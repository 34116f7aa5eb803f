//! Decides each change's cause, in resourceVersion order, once its owner's news can be known.

use std::time::Duration;

use crate::trace::{
    cause::find::{Cause, CauseFinder, namespace_of},
    model::{
        id::{ChangeKey, Verb},
        observation::{OwnerReference, WatchId},
        time::Timestamp,
    },
    object::{
        change::{Change, ContextUse, PendingReport, Scope},
        tracked::TrackedObject,
    },
    spans::{links, output::TraceMetric},
    tracer::{Tracer, Watch, WatchState},
};

/// An owner's watch that stays away longer is waited for no more.
const WATCH_AWAY: Duration = Duration::from_secs(30);

/// A metadata change this close to an open change joins it.
const JOINS_WITHIN: Duration = Duration::from_secs(5);

impl Tracer {
    /// Decides what can be decided, each watch in resourceVersion order.
    pub(crate) fn decide(&mut self, now: Timestamp) {
        for watch in self.watches.values_mut() {
            if let WatchState::CatchingUp { heard } = watch.state
                && heard.plus(self.rules.owner_wait) <= now
            {
                watch.state = WatchState::Live { since: heard };
            }
        }
        let ids: Vec<WatchId> = self
            .watches
            .iter()
            .filter(|(_, watch)| !watch.undecided.is_empty())
            .map(|(id, _)| *id)
            .collect();
        let mut went_on = !ids.is_empty();
        while went_on {
            went_on = false;
            for id in &ids {
                while let Some((order, key)) = self.first_undecided(*id)
                    && let Some(late) = self.can_decide(&key, now)
                {
                    if let Some(watch) = self.watches.get_mut(id) {
                        watch.undecided.remove(&order);
                    }
                    if late {
                        self.out.notes.push(TraceMetric::OwnerLate);
                    }
                    self.decide_one(&key);
                    went_on = true;
                }
            }
        }
    }

    pub(crate) fn first_undecided(&self, id: WatchId) -> Option<((u64, u64), ChangeKey)> {
        let (order, key) = self.watches.get(&id)?.undecided.first_key_value()?;
        Some((*order, key.clone()))
    }

    /// `None`: not yet. `Some(true)`: the wait ran out.
    pub(crate) fn can_decide(&self, key: &ChangeKey, now: Timestamp) -> Option<bool> {
        let Some((known, change)) = self.change(key) else { return Some(false) };
        if self.owner_has_undecided(known, change) {
            return None;
        }
        if self.relisted_owner_waits_until(known, change).is_some_and(|until| until > now) {
            return None;
        }
        let mut late = false;
        for watch in self.awaited(known, change) {
            if watch.delivered > change.resource_version {
                continue;
            }
            if self.wait_for(watch, known, change) > now {
                return None;
            }
            late = true;
        }
        Some(late)
    }

    /// When the wait for a change runs out; `None` where it waits for another change.
    pub(crate) fn waits_until(&self, key: &ChangeKey) -> Option<Timestamp> {
        let (known, change) = self.change(key)?;
        if self.owner_has_undecided(known, change) {
            return None;
        }
        self.awaited(known, change)
            .filter(|watch| watch.delivered <= change.resource_version)
            .map(|watch| self.wait_for(watch, known, change))
            .chain(self.relisted_owner_waits_until(known, change))
            .max()
    }

    /// What of the owner was first seen in a list has a resourceVersion that says nothing about what
    /// was first: it is decided before, but where both wait for each other.
    fn relisted_owner_waits_until(
        &self,
        known: &TrackedObject,
        change: &Change,
    ) -> Option<Timestamp> {
        let owner = change.controller().filter(|owner| owner.uid != known.object.uid)?;
        let mut of_owner = self.objects.get(&owner.uid)?.changes.iter();
        let waits = of_owner.any(|older| older.relisted && older.decided.is_none());
        let wait = WATCH_AWAY + self.rules.owner_wait(&known.object.kind);
        waits.then(|| change.received.plus(wait))
    }

    pub(crate) fn change(&self, key: &ChangeKey) -> Option<(&TrackedObject, &Change)> {
        let known = self.objects.get(&key.uid)?;
        Some((known, known.change(key)?))
    }

    /// Every change with a lower resourceVersion of whom it may follow from is decided first.
    pub(crate) fn owner_has_undecided(&self, known: &TrackedObject, change: &Change) -> bool {
        let is_delete = change.key.verb == Verb::Delete;
        let of_namespace = self.namespace_of(known).filter(|_| is_delete);
        if self.goes_with_namespace(known, change) && self.is_behind_others(known, change) {
            return true;
        }
        let owners = change.owners().iter().filter_map(|owner| self.objects.get(&owner.uid));
        owners
            .map(Box::as_ref)
            .chain(of_namespace)
            .chain(self.referenced_by(known))
            .filter(|owner| owner.object.uid != known.object.uid)
            .any(|owner| {
                owner.changes.iter().any(|older| {
                    older.decided.is_none() && older.resource_version < change.resource_version
                })
            })
    }

    pub(crate) fn namespace_of(&self, known: &TrackedObject) -> Option<&TrackedObject> {
        namespace_of(&self.objects, &self.namespaces, known)
    }

    /// Where the Namespace goes, all in it goes in one order, that of resourceVersions: how many
    /// have gone before decides about the cut.
    fn goes_with_namespace(&self, known: &TrackedObject, change: &Change) -> bool {
        change.key.verb == Verb::Delete
            && self.namespace_of(known).is_some_and(|namespace| namespace.deletion().is_some())
    }

    /// Whether another watch has an older change of the same namespace to decide.
    fn is_behind_others(&self, known: &TrackedObject, change: &Change) -> bool {
        self.watches.values().filter_map(|watch| watch.undecided.iter().next()).any(
            |((version, _), key)| {
                let other = self.objects.get(&key.uid);
                *version < change.resource_version
                    && other.is_some_and(|o| o.object.namespace == known.object.namespace)
            },
        )
    }

    /// The watches of the owners' kinds and of what is referred to; for a delete of Namespaces.
    pub(crate) fn awaited<'a>(
        &'a self,
        known: &'a TrackedObject,
        change: &'a Change,
    ) -> impl Iterator<Item = &'a Watch> {
        let namespace = known.object.namespace.as_deref();
        let deletes = change.key.verb == Verb::Delete && namespace.is_some();
        let goes_with_namespace = self.goes_with_namespace(known, change);
        let is_awaited = move |watch: &Watch| {
            let kind = &watch.watched.kind;
            let covers = watch.watched.namespace.is_none()
                || watch.watched.namespace.as_deref() == namespace;
            let is_of_kind =
                |owner: &OwnerReference| owner.uid != known.object.uid && owner.kind == *kind;
            let of_owner = change.owners().iter().any(is_of_kind);
            let of_reference = known
                .references
                .as_ref()
                .is_some_and(|references| references.to.iter().any(|to| to.kind == *kind));
            ((of_owner || of_reference || goes_with_namespace) && covers)
                || (deletes && kind.is("", "Namespace"))
        };
        self.watches.values().filter(move |watch| is_awaited(watch))
    }

    /// While the awaited watch reconnects or reads a backlog, time starts when it has caught up. One
    /// that has been away for long is waited for no more than any other.
    pub(crate) fn wait_for(
        &self,
        watch: &Watch,
        known: &TrackedObject,
        change: &Change,
    ) -> Timestamp {
        let wait = self.rules.owner_wait(&known.object.kind);
        match watch.state {
            WatchState::Live { since: from } | WatchState::CatchingUp { heard: from } => {
                from.max(change.received).plus(wait)
            }
            WatchState::Disconnected { since } => {
                since.plus(WATCH_AWAY).max(change.received.plus(wait))
            }
        }
    }

    pub(crate) fn decide_one(&mut self, key: &ChangeKey) {
        let Some((known, change)) = self.change(key) else { return };
        let joins = change.details.as_ref().is_some_and(|details| details.joins);
        let newest_first = || known.changes.iter().rev();
        let open = newest_first().find(|open| {
            open.scope == Scope::Spec
                && open.resource_version < change.resource_version
                && open.decided.is_some()
                && !open.ignored
        });
        if let Some(open) = open.filter(|_| joins) {
            let open = open.key.clone();
            self.decide_joining(key, &open);
            return;
        }
        let deadline = |owner: &TrackedObject| self.deadline(owner);
        let view = CauseFinder {
            objects: &self.objects,
            namespaces: &self.namespaces,
            deadline: &deadline,
        };
        let cause = view.cause(known, change);
        let judged = self.judge(known, change, &cause);
        let decided = self.place(known, change, &cause, judged);
        self.adopt(key, decided, cause, judged);
    }

    /// How long its changes are causes without progress.
    pub(crate) fn deadline(&self, owner: &TrackedObject) -> Duration {
        self.rules.limits(&owner.object.kind, owner.spec.progress_deadline_seconds).deadline
    }

    pub(crate) fn judge(
        &self,
        known: &TrackedObject,
        change: &Change,
        cause: &Cause,
    ) -> Option<ContextUse> {
        let details = change.details.as_deref()?;
        details.context.as_ref()?;
        let value = change.value?;
        let owner =
            change.controller().and_then(|owner| self.objects.get(&owner.uid)).map(Box::as_ref);
        // `rollout undo` brings an old ReplicaSet's annotations back, in the change itself.
        let on_older_sets = known.object.kind.is("apps", "Deployment")
            && details.context_is_new
            && self.objects.values().any(|set| {
                set.owner.as_ref().is_some_and(|owner| owner.uid == known.object.uid)
                    && set.object.kind.is("apps", "ReplicaSet")
                    && set.contexts.was_seen(value)
                    && set.created.is_some_and(|created| created < change.api_at)
                    && set.contexts.current.as_ref().is_none_or(|(current, _)| {
                        *current != value || set.template != change.template || is_empty(set)
                    })
            });
        let judged = links::judge(known, change, value, owner, on_older_sets)?;
        let settled_create = change.key.verb == Verb::Create
            && cause.parent.is_none()
            && cause.owner.as_ref().is_some_and(|owner| owner.settled);
        match judged {
            // An inherited value says why only where the owner is settled.
            ContextUse::Inherited => settled_create.then_some(judged),
            ContextUse::Stale if !self.rules.links.stale => None,
            ContextUse::Fresh | ContextUse::Stale | ContextUse::Revived => Some(judged),
        }
    }

    /// A metadata change while a change of the spec is on its way is a span under that change.
    fn decide_joining(&mut self, key: &ChangeKey, open: &ChangeKey) {
        let (Some((known, change)), Some((_, open))) = (self.change(key), self.change(open)) else {
            return;
        };
        let cause = Cause { parent: Some(open.key.clone()), ..Cause::default() };
        let judged = self.judge(known, change, &cause);
        let Some(decided) = self.place_joining(change, open) else { return };
        let has_context = open.details.as_ref().is_none_or(|details| {
            details.judged == Some(ContextUse::Fresh)
                || details.late_links.iter().any(links::is_joined)
        });
        let joins = judged == Some(ContextUse::Fresh)
            && !has_context
            && change.api_at.since(open.api_at) <= JOINS_WITHIN;
        let open_key = open.key.clone();
        let context = change.details.as_ref().and_then(|details| details.context.clone());
        if joins && let Some(context) = context {
            if let Some(details) = self.details_mut(key) {
                details.joined_origin = Some(context.trace_id);
            }
            if let Some(details) = self.details_mut(&open_key) {
                details.late_links.push(links::context_link(&context, ContextUse::Fresh, true));
            }
        }
        self.adopt(key, decided, cause, judged);
    }

    pub(crate) fn details_mut(&mut self, key: &ChangeKey) -> Option<&mut PendingReport> {
        self.objects.get_mut(&key.uid)?.change_mut(key)?.details.as_deref_mut()
    }
}

fn is_empty(set: &TrackedObject) -> bool {
    set.spec.replicas == Some(0)
}
