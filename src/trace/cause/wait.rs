//! Decides when the cause of a change can be decided: once the watches of its owners have caught up
//! with it, or its wait is over (`docs/causes.md`, Waiting and order).

use std::time::Duration;

use crate::trace::{
    cause::{find::CauseFinder, marked::MarkReader, own_write},
    model::{id::ChangeKey, kind, object::GroupKind, observation::OwnerReference, time::Timestamp},
    object::{
        change::{Change, OwnWrite, Report},
        tracked::TrackedObject,
    },
    rules::Rules,
    state::{
        State,
        watches::{Watch, WatchState},
    },
};

/// The wait for a watch that stays disconnected.
const DISCONNECTED_WAIT: Duration = Duration::from_secs(30);

/// Whether a cause can be decided now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    NotYet,
    Ready,
    /// The wait is over, and the watch of an owner has not caught up.
    TimedOut,
}

#[derive(Clone, Copy)]
pub(crate) struct Waits<'a> {
    pub(crate) state: &'a State,
    pub(crate) rules: &'a Rules,
}

impl<'a> Waits<'a> {
    pub(crate) fn readiness(self, key: &ChangeKey, now: Timestamp) -> Readiness {
        let Some((object, change)) = self.state.objects.change(key) else {
            return Readiness::Ready;
        };
        if self.has_undecided_owner(object, change) {
            return Readiness::NotYet;
        }
        let waits = [
            self.relisted_owner_wait(object, change),
            self.own_write_wait(object, change),
            self.episode_wait(object, change),
        ];
        if waits.into_iter().flatten().any(|until| until > now) {
            return Readiness::NotYet;
        }
        let mut readiness = Readiness::Ready;
        for watch in self.awaited(object, change) {
            if watch.delivered > change.resource_version {
                continue;
            }
            if self.wait_for(watch, object, change) > now {
                return Readiness::NotYet;
            }
            // Most objects that a field could name are not named by one.
            if self.is_known_to_matter(watch, object, change) {
                readiness = Readiness::TimedOut;
            }
        }
        readiness
    }

    /// When the wait is over; `None` where another change has to be decided first.
    pub(crate) fn ends_at(self, key: &ChangeKey) -> Option<Timestamp> {
        let (object, change) = self.state.objects.change(key)?;
        if self.has_undecided_owner(object, change) {
            return None;
        }
        self.awaited(object, change)
            .filter(|watch| watch.delivered <= change.resource_version)
            .map(|watch| self.wait_for(watch, object, change))
            .chain(self.relisted_owner_wait(object, change))
            .chain(self.own_write_wait(object, change))
            .chain(self.episode_wait(object, change))
            .max()
    }

    /// How long to wait for a change of the owner that a relist showed. Its resourceVersion is that of
    /// a later write and gives no order, so it is decided first, unless both wait for each other.
    fn relisted_owner_wait(self, object: &TrackedObject, change: &Change) -> Option<Timestamp> {
        let owner = change.controller().filter(|owner| owner.uid != *object.uid())?;
        let mut of_owner = self.state.objects.get(&owner.uid)?.changes.iter();
        let waits = of_owner.any(|older| older.relisted && !older.is_decided());
        let wait = DISCONNECTED_WAIT + self.rules.owner_wait(object.kind());
        waits.then(|| change.received.plus(wait))
    }

    /// A status or a child may still show which field manager the controller is.
    fn own_write_wait(self, object: &TrackedObject, change: &Change) -> Option<Timestamp> {
        let is_shown = change.own_write != OwnWrite::Undetermined
            || own_write::has_made_child(&self.state.objects, object, change);
        (!is_shown).then(|| change.received.plus(self.rules.owner_wait(object.kind())))
    }

    /// A controller may act before it writes the status that says so, where nothing is in flight.
    fn episode_wait(self, object: &TrackedObject, change: &Change) -> Option<Timestamp> {
        let by_reference = change.controller().and_then(|owner| self.state.objects.get(&owner.uid));
        let mut by_mark = self.marks().owners(object, change).map(|(owner, _)| owner);
        let owner = by_reference.or_else(|| by_mark.next())?;
        let is_at_rest = owner.uid() != object.uid()
            && !change.key.is_deletion()
            && self.rules.has_episodes(owner.kind())
            && !owner.is_terminating
            && owner.gone.is_none()
            && !change.relisted
            && !owner.changes.iter().any(|older| {
                older.is_in_flight_at(change.resource_version)
                    || older.resource_version > change.resource_version
            });
        is_at_rest.then(|| change.received.plus(self.rules.owner_wait(owner.kind())))
    }

    /// Changes of lower resourceVersion that this one may follow from are decided before it.
    fn has_undecided_owner(self, object: &TrackedObject, change: &Change) -> bool {
        // An episode has no owner, and what it caused waits for it.
        if change.is_episode() {
            return false;
        }
        let objects = &self.state.objects;
        let namespace = objects.namespace_of(object).filter(|_| change.key.is_deletion());
        if self.follows_namespace_deletion(object, change)
            && self.has_older_undecided(object, change)
        {
            return true;
        }
        let owners = change.owners().iter().filter_map(|owner| objects.get(&owner.uid));
        let marked = self.marks().owners(object, change).map(|(owner, _)| owner);
        owners
            .chain(marked)
            .chain(namespace)
            .chain(objects.referenced_by(object))
            .chain(self.possible_actors(object, change))
            .filter(|owner| owner.uid() != object.uid())
            .any(|owner| {
                owner.changes.iter().any(|older| {
                    let is_before = older.resource_version < change.resource_version;
                    let is_awaited = older.is_episode() && !change.key.is_deletion();
                    !older.is_decided() && (is_before || is_awaited)
                })
            })
    }

    /// Objects above the direct owner that can be the cause.
    fn possible_actors(
        self,
        object: &'a TrackedObject,
        change: &Change,
    ) -> impl Iterator<Item = &'a TrackedObject> {
        CauseFinder::new(self.state, self.rules).possible_actors(object, change)
    }

    fn marks(self) -> MarkReader<'a> {
        MarkReader { objects: &self.state.objects, rules: self.rules }
    }

    /// Deletions that follow from the deletion of their Namespace are decided in the order of their
    /// resourceVersions over all kinds, because the trace is cut after a number of them.
    fn follows_namespace_deletion(self, object: &TrackedObject, change: &Change) -> bool {
        change.key.is_deletion()
            && self
                .state
                .objects
                .namespace_of(object)
                .is_some_and(|namespace| namespace.deletion().is_some())
    }

    /// Whether another watch has an older undecided change of the same namespace.
    fn has_older_undecided(self, object: &TrackedObject, change: &Change) -> bool {
        let first = self.state.watches.values().filter_map(Watch::first_undecided);
        first.into_iter().any(|((version, _), key)| {
            let other = self.state.objects.get(&key.uid);
            *version < change.resource_version
                && other.is_some_and(|other| other.namespace() == object.namespace())
        })
    }

    /// The watches of the kinds of owners, of owners further up that can be the cause, and of references;
    /// for a deletion, of Namespaces too.
    fn awaited(
        self,
        object: &'a TrackedObject,
        change: &'a Change,
    ) -> impl Iterator<Item = &'a Watch> {
        let namespace = object.namespace().map(AsRef::as_ref);
        let is_deletion = change.key.is_deletion() && namespace.is_some();
        let follows_namespace_deletion = self.follows_namespace_deletion(object, change);
        let namespace_kind = kind::namespace();
        let above: Vec<&GroupKind> =
            self.possible_actors(object, change).map(TrackedObject::kind).collect();
        let is_awaited = move |watch: &Watch| {
            let kind = &watch.scope.kind;
            let covers =
                watch.scope.namespace.is_none() || watch.scope.namespace.as_deref() == namespace;
            let is_of_kind =
                |owner: &OwnerReference| owner.uid != *object.uid() && owner.kind == *kind;
            let is_of_owner = change.owners().iter().any(is_of_kind);
            let is_of_reference = object.references.as_ref().is_some_and(|references| {
                // What an object names as its own may have begun an episode of it.
                let children = references.children.iter().filter(|_| change.is_episode());
                references.to.iter().chain(children).any(|to| to.kind == *kind)
            });
            let is_above = above.contains(&kind);
            let is_of_mark = self.marks().kinds(object, change).any(|of| of == kind);
            // An owner that a mark names may be in another namespace.
            ((is_of_owner || is_above || is_of_reference || follows_namespace_deletion) && covers)
                || is_of_mark
                || (is_deletion && *kind == namespace_kind)
        };
        self.state.watches.values().filter(move |watch| is_awaited(watch))
    }

    /// Whether the change names an object of this watch, or is a deletion that waits for Namespaces.
    fn is_known_to_matter(self, watch: &Watch, object: &TrackedObject, change: &Change) -> bool {
        let is_by_field_only = || {
            let has_mark = |report: &Report| {
                report.owner_marks.iter().any(|mark| mark.owner.kind == watch.scope.kind)
            };
            self.marks().kinds(object, change).any(|kind| *kind == watch.scope.kind)
                && !change.report().is_some_and(has_mark)
        };
        !change.owners().is_empty() || object.references.is_some() || !is_by_field_only()
    }

    /// The wait starts once a reconnecting watch has caught up. One that stays disconnected is not
    /// waited for longer than [`DISCONNECTED_WAIT`].
    fn wait_for(self, watch: &Watch, object: &TrackedObject, change: &Change) -> Timestamp {
        let wait = self.rules.owner_wait(object.kind());
        match watch.state {
            WatchState::Live { since: from } | WatchState::CatchingUp { last_event: from } => {
                from.max(change.received).plus(wait)
            }
            WatchState::Disconnected { since } => {
                since.plus(DISCONNECTED_WAIT).max(change.received.plus(wait))
            }
        }
    }
}
