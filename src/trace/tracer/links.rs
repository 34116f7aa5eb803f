//! The links of change spans.

use crate::trace::{
    cause::references::{autoscaler_link, is_by_scale, reference_links},
    model::{id::ChangeKey, object::Uid, observation::OwnerReference, span::Link},
    object::{
        change::{Change, Decision, Placement, Report},
        tracked::TrackedObject,
    },
    spans::{links, output::TraceMetric},
    tracer::trace::Trace,
};

/// The status of an autoscaler can explain a change of its target.
pub(super) fn link_scaled_object(trace: &mut Trace, autoscaler: &Uid) {
    let objects = &trace.state.objects;
    let target = objects.get(autoscaler).and_then(|object| {
        let target = object.references.as_ref()?.scales.as_ref()?;
        Some(objects.named(object, target)?.uid().clone())
    });
    if let Some(target) = target {
        add_autoscaler_link(trace, &target, autoscaler);
    }
}

/// Creates the links of the change span.
pub(super) fn add_links(trace: &mut Trace, key: &ChangeKey, owner: Option<&OwnerReference>) {
    let Some((object, change)) = trace.state.objects.change(key) else { return };
    let (Some(decision), Some(report)) = (change.decision(), change.report()) else { return };
    let links = links_of_change(trace, object, change, decision, report);
    let is_unknown = owner.is_some_and(|owner| !trace.state.objects.contains(&owner.uid));
    let unknown = is_unknown.then(|| TraceMetric::OwnerUnknown { kind: object.kind().clone() });
    let is_exported = decision.sampled && !change.ignored;
    let exported = links.iter().filter(|_| is_exported);
    let exported = exported.map(|(role, _)| TraceMetric::Link { role });
    trace.out.metrics.extend(unknown.into_iter().chain(exported));
    if let Some(report) = trace.state.objects.report_mut(key) {
        report.links = links.into_iter().map(|(_, link)| link).collect();
    }
}

/// In the order of `docs/model.md`, each with its role.
fn links_of_change(
    trace: &Trace,
    object: &TrackedObject,
    change: &Change,
    decision: &Decision,
    report: &Report,
) -> Vec<(&'static str, Link)> {
    let is_apart = matches!(decision.placement, Placement::Linked | Placement::Cut);
    let joined = report.joined_origin.is_some();
    let context = report.context.as_ref().zip(report.context_use).map(|(context, context_use)| {
        let link = links::context_link(context, context_use, joined);
        (links::context_role(context_use), link)
    });
    let origin = decision.origin.as_ref().filter(|_| is_apart);
    let owner = report.owner.as_ref().filter(|_| decision.is_head());
    // An ignored change has no span to link to.
    let has_span = |older: &&Change| older.is_decided() && !older.ignored;
    let to_same_object = |role: &'static str, older: Option<&Change>| {
        let link = links::change_link(role, &object.reference, older.filter(has_span)?)?;
        Some((role, link))
    };
    let superseded = report.supersedes.as_ref().and_then(|key| object.change(key));
    let previous = || {
        let before = object.changes.iter().rev().skip_while(|other| other.key != change.key);
        before.skip(1).find(has_span)
    };
    let previous = if trace.rules.links.previous { previous() } else { None };
    context
        .into_iter()
        .chain(origin.map(|context| ("origin", links::origin_link(context))))
        .chain(owner.and_then(links::owner_link).map(|link| ("owner", link)))
        .chain(to_same_object("supersedes", superseded))
        .chain(report.replaced.as_ref().and_then(links::replaced_link).map(|l| ("replaced", l)))
        .chain(to_same_object("previous", previous))
        .chain(
            reference_links(&trace.state.objects, &trace.rules, object, change)
                .into_iter()
                .map(|link| ("reference", link)),
        )
        .collect()
}

/// An autoscaler may have made a change through `/scale`, and may have reported it already.
pub(super) fn link_autoscaler(trace: &mut Trace, key: &ChangeKey) {
    let Some((object, change)) = trace.state.objects.change(key) else { return };
    if !is_by_scale(change) {
        return;
    }
    let autoscaler = trace.state.objects.autoscalers_of(object).next();
    if let Some(autoscaler) = autoscaler.map(|autoscaler| autoscaler.uid().clone()) {
        add_autoscaler_link(trace, &key.uid, &autoscaler);
    }
}

pub(super) fn add_autoscaler_link(trace: &mut Trace, target: &Uid, autoscaler: &Uid) {
    let Some(link) = autoscaler_link(&trace.state.objects, target, autoscaler) else { return };
    let Some(object) = trace.state.objects.get_mut(target) else { return };
    let newest = object.changes.iter_mut().rev().find(|change| change.is_of_spec());
    if let Some(report) = newest.and_then(Change::report_mut)
        && !report.late_links.iter().any(|other| other.span_id == link.span_id)
    {
        report.late_links.push(link);
    }
}
