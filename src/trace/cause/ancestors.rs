//! Finds the cause of a change among the owners above the direct one, where that is at rest
//! (`docs/causes.md`, Owners further up).
//!
//! An operator can work on objects two owners below its own: it evicts the Pods of a `ReplicaSet` that
//! has no change, because the object above that asks for a restart. Kubernetes' own controllers work on
//! their direct children only.

use std::iter;

use crate::trace::{
    cause::find::{Cause, CauseFinder},
    model::{kind, observation::OwnerReference},
    object::{
        change::{Change, MAX_DEPTH, Scope},
        tracked::TrackedObject,
    },
    state::pod_losses::Replacement,
};

/// The reason of `DisruptionTarget` for a Pod that was removed through the
/// [Eviction API](https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/), by an
/// operator or by `kubectl drain`.
pub(crate) const EVICTION: &str = "EvictionByEvictionAPI";

impl<'a> CauseFinder<'a> {
    /// The custom resources that control the owner, directly or through others; the nearest first.
    fn above(self, owner: &'a TrackedObject) -> impl Iterator<Item = &'a TrackedObject> {
        let controller = move |object: &&'a TrackedObject| {
            let reference: &OwnerReference = object.owner.as_deref()?;
            self.objects.get(&reference.uid).filter(|above| above.uid() != object.uid())
        };
        iter::successors(controller(&owner), controller)
            .take(usize::from(MAX_DEPTH))
            .filter(|above| !kind::is_built_in(above.kind()))
    }

    /// The objects above the direct owner whose changes can be the cause.
    pub(crate) fn possible_actors(
        self,
        object: &'a TrackedObject,
        change: &Change,
    ) -> impl Iterator<Item = &'a TrackedObject> {
        let owner = change
            .controller()
            .filter(|reference| reference.uid != *object.uid())
            .and_then(|reference| self.objects.get(&reference.uid));
        let owner = owner.filter(|owner| {
            let can_follow = change.key.is_deletion() || !kind::is_built_in(owner.kind());
            can_follow && self.is_at_rest(owner, change)
        });
        owner.into_iter().flat_map(move |owner| self.above(owner))
    }

    /// Whether no change of the owner can have caused the child's.
    fn is_at_rest(self, owner: &TrackedObject, child: &Change) -> bool {
        owner.deletion().is_none() && self.candidates(owner, child).is_empty()
    }

    /// The nearest change in flight above an owner at rest that fits.
    fn in_flight_above(
        self,
        owner: &'a TrackedObject,
        child: &Change,
        fits: impl Fn(&Change) -> bool,
    ) -> Option<Cause> {
        if !self.is_at_rest(owner, child) {
            return None;
        }
        self.above(owner).find_map(|above| {
            let candidates = self.candidates(above, child).into_iter();
            let mut of_spec =
                candidates.filter(|cause| cause.scope == Scope::Spec && !cause.ignored);
            Some(Cause::of_ancestor(above, of_spec.find(|cause| fits(cause))?))
        })
    }

    /// The cause of a create or update below an owner at rest.
    pub(super) fn actor_above(
        self,
        object: &'a TrackedObject,
        change: &Change,
        owner: &'a TrackedObject,
    ) -> Option<Cause> {
        if kind::is_built_in(owner.kind()) {
            return self.remover_of_replaced(object, change, owner);
        }
        self.in_flight_above(owner, change, |_| true)
    }

    /// A workload replaces a Pod that an operator removed: that is the operator's doing too.
    fn remover_of_replaced(
        self,
        object: &'a TrackedObject,
        change: &Change,
        owner: &'a TrackedObject,
    ) -> Option<Cause> {
        let pod = Replacement::from_create(object, change)?;
        let loss = self.losses.next_loss(owner.uid(), &pod)?;
        let (above, cause) = self.objects.change(loss.cause.as_ref()?)?;
        Some(Cause::of_ancestor(above, cause))
    }

    /// The cause of a deletion below an owner at rest. A person may delete or evict a Pod at any time,
    /// so there must be a sign that the operator did: its object asks for a restart, or the direct
    /// owner leaves the replacement of its Pods to others.
    pub(super) fn remover_above(
        self,
        change: &Change,
        owner: &'a TrackedObject,
        disruption: Option<&str>,
    ) -> Option<Cause> {
        let leaves_it_to_others = !kind::is_built_in(owner.kind())
            || owner.spec.update_strategy.as_deref() == Some("OnDelete");
        match disruption {
            Some(EVICTION) => self.in_flight_above(owner, change, |cause| cause.asks_for_restart),
            Some(_) => None,
            None => self.in_flight_above(owner, change, |cause| {
                leaves_it_to_others || cause.asks_for_restart
            }),
        }
    }
}

/// Whether the changed fields ask for a restart, as `spec.restartAt` does.
pub(crate) fn ask_for_restart(fields: &[Box<str>]) -> bool {
    fields.iter().any(|field| field.to_ascii_lowercase().contains("restart"))
}
