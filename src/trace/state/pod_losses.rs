//! Pods that were lost and not by their owner's doing: what replaces one links to it (contract:
//! causes §3).

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::trace::{
    cause::find::Cause,
    model::{id::ChangeKey, object::Uid, time::Timestamp},
    object::change::{Replaced, SpanRef},
    tracer::Tracer,
};

/// After this long nothing is made in place of it any more.
const REMEMBERED: Duration = Duration::from_mins(15);
/// Remembered an owner, the oldest forgotten first.
const MAX_LOSSES: usize = 256;

/// One replacement a loss.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct PodLoss {
    name: Arc<str>,
    uid: Uid,
    /// Of its delete, or of its first observation as failed if that is earlier.
    resource_version: u64,
    at: Timestamp,
    span: Option<SpanRef>,
    is_replaced: bool,
}

impl Tracer {
    /// A Pod's delete that nothing in flight caused.
    pub(crate) fn lose(&mut self, key: &ChangeKey, owner: Option<&Uid>) {
        let (Some((_, change)), Some(owner)) = (self.change(key), owner) else { return };
        let span = change.decided.as_ref().map(crate::trace::object::change::Decision::span);
        let (resource_version, at) = (change.resource_version, change.api_at);
        self.note_loss(&key.uid, owner, resource_version, at, span);
    }

    /// A Pod is lost from `resource_version` on.
    pub(crate) fn note_loss(
        &mut self,
        uid: &Uid,
        owner: &Uid,
        resource_version: u64,
        at: Timestamp,
        span: Option<SpanRef>,
    ) {
        let Some(known) = self.objects.get(uid).filter(|known| known.object.kind.is("", "Pod"))
        else {
            return;
        };
        // Losses of an owner nobody knows are nobody's cause, and would never be forgotten.
        if !self.objects.contains_key(owner) {
            return;
        }
        let losses = self.losses.get_or_default(owner);
        losses.retain(|loss| at.since(loss.at) <= REMEMBERED);
        if let Some(loss) = losses.iter_mut().find(|loss| loss.uid == *uid) {
            loss.span = span.or(loss.span);
            return;
        }
        if losses.len() >= MAX_LOSSES {
            losses.remove(0);
        }
        let name = Arc::clone(&known.object.name);
        let uid = uid.clone();
        losses.push(PodLoss { name, uid, resource_version, at, span, is_replaced: false });
        losses.sort_by_key(|loss| loss.resource_version);
    }

    /// Its owner let go of it: nothing is made in its place.
    pub(crate) fn not_lost(&mut self, uid: &Uid, owner: Option<&Uid>) {
        let Some(losses) = owner.and_then(|owner| self.losses.get_mut(owner)) else { return };
        losses.retain(|loss| loss.uid != *uid || loss.is_replaced);
    }

    /// The oldest loss nothing has replaced yet, or that of the same name, is made good for. Told of
    /// a Pod whose owner is settled: another may be there for something else.
    pub(crate) fn take_loss(&mut self, key: &ChangeKey, cause: &Cause) -> Option<Replaced> {
        let (known, change) = self.change(key)?;
        if !known.object.kind.is("", "Pod") {
            return None;
        }
        let is_settled = cause.owner.as_ref().is_some_and(|owner| owner.settled);
        let owner = change.controller()?;
        // Of a StatefulSet each Pod has a place of its own.
        let by_name_alone = owner.kind.is("apps", "StatefulSet");
        let owner = owner.uid.clone();
        let own_name = Arc::clone(&known.object.name);
        let kind = known.object.kind.clone();
        let (resource_version, at) = (change.resource_version, change.api_at);
        let losses = self.losses.get_mut(&owner)?;
        losses.retain(|loss| at.since(loss.at) <= REMEMBERED);
        let is_open =
            |loss: &PodLoss| !loss.is_replaced && loss.resource_version < resource_version;
        let of_its_name = losses.iter().position(|loss| is_open(loss) && loss.name == own_name);
        let oldest = || losses.iter().position(is_open).filter(|_| !by_name_alone);
        let loss = of_its_name.or_else(oldest).and_then(|at| losses.get_mut(at))?;
        loss.is_replaced = true;
        if !is_settled {
            return None;
        }
        let (name, uid, span) = (Arc::clone(&loss.name), loss.uid.clone(), loss.span);
        Some(Replaced { kind, name, uid: uid.clone(), span: span.or_else(|| self.last_told(&uid)) })
    }

    fn last_told(&self, uid: &Uid) -> Option<SpanRef> {
        let mut newest_first = self.objects.get(uid)?.changes.iter().rev();
        newest_first.find_map(|change| Some(change.decided.as_ref()?.span()))
    }
}
