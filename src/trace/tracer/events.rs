//! Kubernetes Events: each belongs to a change of the object it is about.

use crate::trace::{
    model::{id::ChangeKey, kubernetes_event::KubernetesEvent},
    object::change::Change,
    spans::output::Bound,
    state::unclaimed_events,
    tracer::trace::Trace,
};

/// Adds a Kubernetes Event to the newest open change of its object, or keeps it for a change that
/// may still arrive.
pub(super) fn record_kubernetes_event(trace: &mut Trace, event: KubernetesEvent) {
    let object = trace.state.objects.get_mut(&event.about);
    let mut changes = object.into_iter().flat_map(|object| object.changes.iter_mut().rev());
    if let Some(change) = changes.find(|change| unclaimed_events::accepts(change, &event)) {
        attach_event(change, event);
    } else {
        let is_full = trace.state.unclaimed_events.keep(event);
        trace.out.count_bound(Bound::UnclaimedEvents, is_full);
    }
}

/// Adds the Events that arrived before their change.
pub(super) fn claim_events(trace: &mut Trace, key: &ChangeKey) {
    let Some(change) = trace.state.objects.change_mut(key) else { return };
    for event in trace.state.unclaimed_events.claim(change) {
        attach_event(change, event);
    }
}

fn attach_event(change: &mut Change, event: KubernetesEvent) {
    let changed_at = change.api_at;
    if let Some(report) = change.report_mut() {
        report.phases.iter_mut().for_each(|phases| phases.record_event(&event));
        report.events.record(event, changed_at);
    }
}
