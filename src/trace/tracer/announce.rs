//! Exports what is held back of episodes, once they have lasted or caused something.

use crate::trace::{
    model::{id::ChangeKey, object::Uid, time::Timestamp},
    object::change::{Change, SpanRef},
    progress::outcome::Outcome,
    spans::output::TraceMetric,
    tracer::{emit::Emitter, trace::Trace},
};

/// Exports the change span of an episode, and counts it, once it has lasted or caused something.
pub(super) fn announce_episode(trace: &mut Trace, key: &ChangeKey) {
    let Some((object, change)) = trace.state.objects.change(key) else { return };
    let is_held_back = change.report().is_some_and(|report| report.is_held_back);
    if !is_held_back || !change.is_decided() {
        return;
    }
    let kind = object.kind().clone();
    let metrics = [TraceMetric::Change { kind, verb: key.verb }, TraceMetric::Opened];
    trace.out.metrics.extend(metrics.into_iter().filter(|_| !change.ignored));
    if let Some(report) = trace.state.objects.report_mut(key) {
        report.is_held_back = false;
    }
    Emitter::of(trace).emit_head(key);
}

/// A change links to its owner's episode, which then has to have a span.
pub(super) fn announce_linked_episode(trace: &mut Trace, owner: &Uid, span: SpanRef) {
    let Some(object) = trace.state.objects.get(owner) else { return };
    let is_linked = |change: &&Change| {
        change.is_episode() && change.decision().is_some_and(|of| of.span() == span)
    };
    if let Some(key) = object.changes.iter().find(is_linked).map(|change| change.key.clone()) {
        announce_episode(trace, &key);
    }
}

/// An episode has ended before it was exported: it was one if it failed, and otherwise the object
/// only flapped. Returns whether it was.
pub(super) fn settle_short_episode(trace: &mut Trace, key: &ChangeKey) -> bool {
    let Some((_, change)) = trace.state.objects.change(key) else { return false };
    if change.report().is_none_or(|report| !report.is_held_back) {
        return true;
    }
    let outcome = change.convergence.ended().map(|ended| ended.outcome);
    match outcome {
        Some(Outcome::Failed | Outcome::TimedOut | Outcome::Superseded) => {
            announce_episode(trace, key);
            true
        }
        Some(Outcome::Converged | Outcome::Paused | Outcome::Deleted | Outcome::Unknown) => {
            trace.state.objects.remove_change(key);
            false
        }
        None => true,
    }
}

/// When an episode is exported if nothing else happens; `None` where it is, or is Current again.
pub(super) fn announced_at(change: &Change, settle: std::time::Duration) -> Option<Timestamp> {
    let is_held_back = change.report().is_some_and(|report| report.is_held_back);
    let lasts = is_held_back && change.is_decided() && change.convergence.is_waiting();
    lasts.then(|| change.received.plus(settle))
}
