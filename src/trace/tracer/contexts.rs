//! Records the contexts that objects carry.

use crate::trace::{
    model::{
        context::TraceContext, field_manager::Managers, object::Uid, observation::Body,
        time::Timestamp,
    },
    object::{
        change::{Change, ContextUse},
        new_change::{value_of, value_of_text},
        tracked::TrackedObject,
    },
    spans::{
        links,
        output::{Bound, TraceMetric},
    },
    tracer::trace::Trace,
};

/// Contexts of a status that one change links to: as many as a span may have links.
const MAX_STATUS_CONTEXTS: usize = 16;

/// Records the context that an object carries, which can change with a change of the object or without
/// one.
pub(super) fn record_context(
    trace: &mut Trace,
    uid: &Uid,
    body: &Body,
    api_at: Timestamp,
    resource_version: u64,
) {
    let Some(object) = trace.state.objects.get_mut(uid) else { return };
    let moved = has_moved_carrier(object, body);
    for template in &body.template_carriers {
        let is_full = object.contexts_mut().record_seen(value_of_text(template));
        trace.out.count_bound(Bound::Contexts, is_full);
    }
    if !moved {
        // The value is the same, but tracestate and baggage may have been written after it.
        if let Some(carrier) = &body.carrier
            && object.context().is_some()
            && let Ok(renewed) = TraceContext::parse(carrier)
            && let Some((_, context)) = &mut object.contexts_mut().current
        {
            *context = renewed;
        }
        return;
    }
    let contexts = object.contexts_mut();
    contexts.since = Some(api_at);
    contexts.since_version = resource_version;
    contexts.current = None;
    contexts.written = body.carrier.as_ref().map(value_of);
    let Some(carrier) = &body.carrier else { return };
    let parsed = TraceContext::parse(carrier);
    let valid = parsed.is_ok();
    let sampled = parsed.as_ref().is_ok_and(TraceContext::is_sampled);
    contexts.is_by_controller = Managers::parse(&body.managed_fields)
        .is_by_controller(carrier, body.controller_first().next().map(|owner| &owner.uid));
    if let Ok(context) = parsed {
        let value = value_of(carrier);
        let is_full = contexts.record_seen(value);
        trace.out.count_bound(Bound::Contexts, is_full);
        contexts.current = Some((value, context));
    }
    let kind = object.kind().clone();
    trace.out.metrics.push(TraceMetric::Extracted { kind, valid, sampled });
}

/// The controller wrote a context into the status while a change is open: what it does for the change
/// is in that trace.
pub(super) fn link_status_context(trace: &mut Trace, uid: &Uid, body: &Body) {
    let Some(carrier) = body.carrier.as_ref().filter(|carrier| carrier.is_in_status()) else {
        return;
    };
    let Ok(context) = TraceContext::parse(carrier) else { return };
    let Some(object) = trace.state.objects.get_mut(uid) else { return };
    let is_open = |change: &&mut Change| {
        change.is_of_work() && !change.ignored && change.convergence.is_open()
    };
    let open = object.changes.iter_mut().rev().find(is_open);
    let Some(report) = open.and_then(Change::report_mut) else { return };
    let link = links::context_link(&context, ContextUse::ByController, false);
    let is_known = report.late_links.iter().any(|other| other.span_id == link.span_id);
    if !is_known && report.late_links.len() < MAX_STATUS_CONTEXTS {
        report.late_links.push(link);
    }
}

pub(super) fn has_moved_carrier(object: &TrackedObject, body: &Body) -> bool {
    let before = object.contexts().and_then(|contexts| contexts.written);
    before != body.carrier.as_ref().map(value_of)
}
