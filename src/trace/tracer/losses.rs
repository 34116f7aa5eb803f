//! Pods that were lost, and the Pods that replace them.

use std::sync::Arc;

use crate::trace::{
    cause::find::Cause,
    model::{id::ChangeKey, object::Uid, time::Timestamp},
    object::change::{Decision, ReplacedPod, SpanRef},
    spans::output::Bound,
    state::pod_losses::{PodLoss, Replacement},
    tracer::trace::Trace,
};

/// Records that a Pod was deleted other than by its direct owner's doing.
pub(super) fn record_deleted_pod(
    trace: &mut Trace,
    key: &ChangeKey,
    owner: &Uid,
    is_of_ancestor: bool,
) {
    let Some((_, change)) = trace.state.objects.change(key) else { return };
    let span = change.decision().map(Decision::span);
    let (resource_version, at) = (change.resource_version, change.api_at);
    let cause = change.cause().filter(|_| is_of_ancestor).cloned();
    record_lost_pod(trace, &key.uid, owner, resource_version, at, span, cause);
}

pub(super) fn record_lost_pod(
    trace: &mut Trace,
    uid: &Uid,
    owner: &Uid,
    resource_version: u64,
    at: Timestamp,
    span: Option<SpanRef>,
    cause: Option<ChangeKey>,
) {
    let pod = trace.state.objects.get(uid).filter(|object| object.is("", "Pod"));
    // The losses of an owner that is not tracked would never be forgotten.
    let Some(pod) = pod.filter(|_| trace.state.objects.contains(owner)) else { return };
    let (name, uid) = (Arc::clone(pod.name()), uid.clone());
    let loss = PodLoss { name, uid, resource_version, at, span, is_replaced: false, cause };
    let is_full = trace.state.losses.record(owner, loss);
    trace.out.count_bound(Bound::PodLosses, is_full);
}

/// The lost Pod that a new Pod replaces. Reported only where the owner is settled: otherwise the
/// new Pod may have another reason.
pub(super) fn match_lost_pod(
    trace: &mut Trace,
    key: &ChangeKey,
    cause: &Cause,
) -> Option<ReplacedPod> {
    let (object, change) = trace.state.objects.change(key)?;
    let is_settled = cause.owner.as_ref().is_some_and(|owner| owner.settled);
    let owner = change.controller()?;
    let pod = Replacement::from_create(object, change)?;
    let replaced = trace.state.losses.match_replacement(&owner.uid, &pod)?;
    let lost = trace.state.objects.get(&replaced.uid);
    let last_span = lost.and_then(|lost| {
        lost.changes.iter().rev().find_map(|change| change.decision().map(Decision::span))
    });
    let span = replaced.span.or(last_span);
    (is_settled || cause.is_of_ancestor).then_some(ReplacedPod { span, ..replaced })
}
