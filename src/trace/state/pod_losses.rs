//! Pods that were lost, and not deleted by their owner: a replacement links to the lost one
//! (`docs/causes.md`, Deletions).

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::trace::{
    model::{
        id::ChangeKey,
        object::{GroupKind, Uid},
        time::Timestamp,
    },
    object::{
        change::{Change, ReplacedPod, SpanRef},
        tracked::TrackedObject,
    },
    state::dirty_map::DirtyMap,
};

/// A loss is forgotten after this time: no replacement is made for it any more.
const MEMORY: Duration = Duration::from_mins(15);
/// Losses kept of one owner; the oldest are forgotten first.
const MAX_LOSSES: usize = 256;

/// Each loss has one replacement.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct PodLoss {
    pub(crate) name: Arc<str>,
    pub(crate) uid: Uid,
    /// That of its deletion, or of its first observation in phase Failed if that is earlier.
    pub(crate) resource_version: u64,
    pub(crate) at: Timestamp,
    pub(crate) span: Option<SpanRef>,
    pub(crate) is_replaced: bool,
    /// The change of an owner further up that removed the Pod; `None` for any other loss.
    pub(crate) cause: Option<ChangeKey>,
}

/// The Pod that may replace a lost one.
pub(crate) struct Replacement<'a> {
    pub(crate) kind: &'a GroupKind,
    pub(crate) name: &'a Arc<str>,
    pub(crate) resource_version: u64,
    pub(crate) at: Timestamp,
    /// A `StatefulSet` gives the replacement the same name.
    pub(crate) keeps_name: bool,
}

impl<'a> Replacement<'a> {
    /// `None` if the object is not a Pod of a controller.
    pub(crate) fn from_create(object: &'a TrackedObject, change: &Change) -> Option<Self> {
        let owner = change.controller().filter(|_| object.is("", "Pod"))?;
        Some(Self {
            kind: object.kind(),
            name: object.name(),
            resource_version: change.resource_version,
            at: change.api_at,
            keeps_name: owner.kind.is("apps", "StatefulSet"),
        })
    }

    /// The oldest loss without a replacement, or the one of the same name.
    fn find_in(&self, losses: &[PodLoss]) -> Option<usize> {
        let is_open = |loss: &PodLoss| {
            !loss.is_replaced
                && loss.resource_version < self.resource_version
                && self.at.since(loss.at) <= MEMORY
        };
        let same_name = losses.iter().position(|loss| is_open(loss) && loss.name == *self.name);
        same_name.or_else(|| losses.iter().position(is_open).filter(|_| !self.keeps_name))
    }
}

/// Losses by the UID of their owner.
#[derive(Debug, Default)]
pub(crate) struct PodLosses(pub(crate) DirtyMap<Uid, Vec<PodLoss>>);

impl PodLosses {
    /// Returns whether the oldest loss was forgotten for it before its time.
    pub(crate) fn record(&mut self, owner: &Uid, loss: PodLoss) -> bool {
        let losses = self.0.get_or_default(owner);
        losses.retain(|known| loss.at.since(known.at) <= MEMORY);
        if let Some(known) = losses.iter_mut().find(|known| known.uid == loss.uid) {
            known.span = loss.span.or(known.span);
            known.cause = loss.cause.or_else(|| known.cause.take());
            return false;
        }
        let is_full = losses.len() >= MAX_LOSSES;
        if is_full {
            losses.remove(0);
        }
        losses.push(loss);
        losses.sort_by_key(|loss| loss.resource_version);
        is_full
    }

    /// The owner deleted the Pod itself: it makes no replacement.
    pub(crate) fn withdraw(&mut self, uid: &Uid, owner: &Uid) {
        if let Some(losses) = self.0.get_mut(owner) {
            losses.retain(|loss| loss.uid != *uid || loss.is_replaced);
        }
    }

    /// The loss that a new Pod will replace.
    pub(crate) fn next_loss(&self, owner: &Uid, pod: &Replacement<'_>) -> Option<&PodLoss> {
        let losses = self.0.get(owner)?;
        losses.get(pod.find_in(losses)?)
    }

    /// Takes the loss that a new Pod replaces.
    pub(crate) fn match_replacement(
        &mut self,
        owner: &Uid,
        pod: &Replacement<'_>,
    ) -> Option<ReplacedPod> {
        let losses = self.0.get_mut(owner)?;
        losses.retain(|loss| pod.at.since(loss.at) <= MEMORY);
        let loss = pod.find_in(losses).and_then(|index| losses.get_mut(index))?;
        loss.is_replaced = true;
        Some(ReplacedPod {
            kind: pod.kind.clone(),
            name: Arc::clone(&loss.name),
            uid: loss.uid.clone(),
            span: loss.span,
        })
    }
}
