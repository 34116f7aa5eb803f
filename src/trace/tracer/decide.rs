//! Decides causes: each watch in resourceVersion order, once the watches of the owners have caught up.

use std::time::Duration;

use crate::trace::{
    cause::{
        context,
        find::{Cause, CauseFinder},
        marked::MarkReader,
        own_write,
        placement::Placer,
        wait::{Readiness, Waits},
    },
    model::{
        context::TraceContext,
        id::{ChangeKey, Verb},
        time::Timestamp,
    },
    object::{
        cause_rule::{CauseChoice, CauseRule},
        change::{Change, ContextUse, Decision, OwnWrite, Placement, Report, Scope},
        context_history::ContextHistory,
        tracked::TrackedObject,
    },
    rules::Rules,
    spans::{
        links,
        output::{Bound, TraceMetric},
    },
    tracer::{
        announce::{announce_episode, announce_linked_episode, settle_short_episode},
        emit::Emitter,
        links::{add_links, link_autoscaler},
        losses::{match_lost_pod, record_deleted_pod},
        own_writes::settle_own_write_by_children,
        timers::reschedule,
        trace::Trace,
    },
};

/// A metadata change joins an open change that is no older than this.
const JOINS_WITHIN: Duration = Duration::from_secs(5);

/// A change is Current, so whatever waited for it was not Current earlier: the watch of the owner
/// may only have been faster.
pub(super) fn record_current(trace: &mut Trace, key: &ChangeKey) {
    let objects = &mut trace.state.objects;
    let Some((object, change)) = objects.change(key) else { return };
    let Some(since) = change.convergence.current_since() else { return };
    let phases = change.report().and_then(|report| report.phases.as_ref());
    let since = phases.map_or(since, |phases| phases.reached().max(since));
    let apart = trace.rules.owner_wait(object.kind());
    let causes: Vec<ChangeKey> = objects.causes_of(change).cloned().collect();
    for cause in causes {
        if let Some(change) = objects.change_mut(&cause) {
            change.convergence.delay_until(since, apart);
        }
    }
}

/// Decides everything that can be decided.
pub(super) fn decide(trace: &mut Trace, now: Timestamp) {
    trace.state.watches.finish_quiet_backlogs(now, trace.rules.owner_wait);
    let ids = trace.state.watches.with_undecided();
    let mut has_decided = !ids.is_empty();
    while has_decided {
        has_decided = false;
        for id in &ids {
            while let Some(watch) = trace.state.watches.get(*id)
                && let Some((order, key)) = watch.first_undecided()
            {
                let waits = Waits { state: &trace.state, rules: &trace.rules };
                let readiness = waits.readiness(key, now);
                if readiness == Readiness::NotYet {
                    break;
                }
                let (order, key) = (*order, key.clone());
                trace.state.watches.unqueue(*id, order);
                if readiness == Readiness::TimedOut {
                    trace.out.metrics.push(TraceMetric::OwnerWaitTimeout);
                }
                decide_change(trace, &key);
                has_decided = true;
            }
        }
    }
}

/// Decides the cause of a change that is pending.
pub(super) fn decide_change(trace: &mut Trace, key: &ChangeKey) {
    let change = trace.state.objects.change(key).map(|(_, change)| change);
    if change.is_none_or(Change::is_decided) {
        return;
    }
    if change.is_some_and(|change| change.own_write == OwnWrite::Undetermined) {
        settle_own_write_by_children(trace, &key.uid);
    }
    resolve_marked_owner(trace, key);
    let objects = &trace.state.objects;
    let Some((object, change)) = objects.change(key) else { return };
    if let Some(open) = joined_change(object, change, &trace.rules) {
        let open = open.key.clone();
        decide_joining(trace, key, &open);
        return;
    }
    let rules = &trace.rules;
    let mut cause = CauseFinder::new(&trace.state, rules).find(object, change);
    let context_use = context::context_use(objects, rules, object, change, &cause);
    // Of an operator that applies what people wrote, such as Flux, those people are the cause.
    let is_marked = change.report().is_some_and(|report| report.is_marked);
    if is_marked && context_use == Some(ContextUse::Fresh) {
        cause.parent = None;
    }
    let placer = Placer { objects, rules, ids: &trace.ids };
    let decision = placer.place(object, change, &cause, context_use);
    apply_decision(trace, key, decision, cause, context_use);
}

/// The owner that a mark names counts as the controller.
fn resolve_marked_owner(trace: &mut Trace, key: &ChangeKey) {
    let objects = &trace.state.objects;
    let Some((object, change)) = objects.change(key) else { return };
    if change.is_episode() {
        return;
    }
    let marks = MarkReader { objects, rules: &trace.rules };
    let Some(found) = marks.find(object, change) else { return };
    let Some(report) = trace.state.objects.report_mut(key) else { return };
    let references = std::mem::take(&mut report.owners).into_iter();
    let others = references.filter(|owner| owner.uid != found.reference.uid);
    report.owners = std::iter::once(found.reference.clone()).chain(others).collect();
    report.owner_manager = found.manager;
    report.is_marked = true;
}

/// A metadata change, or a write of the controller, while a change of the spec is open is a span
/// below that.
fn decide_joining(trace: &mut Trace, key: &ChangeKey, open: &ChangeKey) {
    let objects = &trace.state.objects;
    let (Some((object, change)), Some((_, open))) = (objects.change(key), objects.change(open))
    else {
        return;
    };
    let choice = Some(CauseChoice::only(CauseRule::SameObject));
    let cause = Cause { parent: Some(open.key.clone()), choice, ..Cause::default() };
    // The controller wrote back the context that the change in flight has.
    let last = object.contexts().and_then(|contexts| contexts.last);
    let is_copy =
        change.own_write == OwnWrite::Yes && (change.value == open.value || change.value == last);
    let context_use =
        context::context_use(objects, &trace.rules, object, change, &cause).filter(|_| !is_copy);
    let placer = Placer { objects, rules: &trace.rules, ids: &trace.ids };
    let Some(decision) = placer.place_joining(change, open) else { return };
    let has_context = open.report().is_none_or(|report| {
        report.context_use == Some(ContextUse::Fresh)
            || report.late_links.iter().any(links::is_joined)
    });
    let joins = context_use == Some(ContextUse::Fresh)
        && !has_context
        && change.api_at.since(open.api_at) <= JOINS_WITHIN;
    let open = open.key.clone();
    let context = change.report().and_then(|report| report.context.clone());
    if joins && let Some(context) = context {
        if let Some(report) = trace.state.objects.report_mut(key) {
            report.joined_origin = Some(context.trace_id);
        }
        if let Some(report) = trace.state.objects.report_mut(&open) {
            report.late_links.push(links::context_link(&context, ContextUse::Fresh, true));
        }
    }
    apply_decision(trace, key, decision, cause, context_use);
}

/// Records a decision, and emits what can be emitted by now.
fn apply_decision(
    trace: &mut Trace,
    key: &ChangeKey,
    decision: Decision,
    cause: Cause,
    context_use: Option<ContextUse>,
) {
    let parent = decision.cause.clone();
    let parent_change = parent.as_ref().and_then(|parent| trace.state.objects.change(parent));
    let earliest = parent_change.map(|(_, parent)| parent.at);
    let follows_ignored = parent_change.is_some_and(|(_, parent)| parent.ignored);
    let is_of_ancestor = cause.is_of_ancestor;
    let is_lost = key.is_deletion() && (decision.placement == Placement::Head || is_of_ancestor);
    let replaced = if key.verb == Verb::Create { match_lost_pod(trace, key, &cause) } else { None };
    let Some(object) = trace.state.objects.get_mut(&key.uid) else { return };
    let Some(index) = object.changes.iter().position(|change| change.key == *key) else {
        return;
    };
    let resumed = take_paused_contexts(object, index);
    let kind = object.kind().clone();
    let Some(change) = object.changes.get_mut(index) else { return };
    change.at = earliest.map_or(change.at, |earliest| change.at.max(earliest));
    change.ignored |= follows_ignored;
    // Counted only now, when it is known whether the change is exported.
    let is_held_back = change.report().is_some_and(|report| report.is_held_back);
    if change.ignored {
        trace.out.metrics.push(TraceMetric::Ignored { kind });
    } else if !is_held_back {
        let metrics = [TraceMetric::Change { kind, verb: key.verb }, TraceMetric::Opened];
        trace.out.metrics.extend(metrics);
    }
    let linked = cause.owner.as_ref().and_then(|owner| Some((owner.uid.clone(), owner.span?)));
    let mut owners = Box::default();
    let at = change.at;
    if let Some(report) = change.report_mut() {
        owners = std::mem::take(&mut report.owners);
        report.phases.iter_mut().for_each(|phases| phases.delay_start_until(at));
        report.context_use = context_use;
        report.owner = cause.owner;
        report.cause_choice = cause.choice.filter(|_| parent.is_some());
        report.reason = cause.reason.or_else(|| report.reason.take());
        report.replaced = replaced;
        link_resumed_contexts(report, &resumed);
    }
    record_used_context(trace, key, context_use);
    trace.state.objects.decide_change(key, decision);
    add_links(trace, key, owners.first());
    link_autoscaler(trace, key);
    if let Some((owner, span)) = linked {
        announce_linked_episode(trace, &owner, span);
    }
    if let Some(parent) = parent {
        propagate_progress(trace, key, &parent);
        announce_episode(trace, &parent);
    }
    let controller = owners.first().filter(|owner| owner.controller).map(|owner| &owner.uid);
    if let Some(controller) = controller {
        if is_lost {
            record_deleted_pod(trace, key, controller, is_of_ancestor);
        } else if key.is_deletion() {
            trace.state.losses.withdraw(&key.uid, controller);
        }
    }
    record_current(trace, key);
    if key.verb == Verb::Reconcile {
        if settle_short_episode(trace, key) {
            Emitter::of(trace).close_convergence(key);
        }
    } else {
        Emitter::of(trace).emit_decided(key);
    }
    reschedule(trace, &key.uid);
}

fn record_used_context(trace: &mut Trace, key: &ChangeKey, context_use: Option<ContextUse>) {
    let Some(object) = trace.state.objects.get_mut(&key.uid) else { return };
    let Some(change) = object.change(key) else { return };
    if change.scope != Scope::Spec || change.ignored || change.is_episode() {
        return;
    }
    let (last, generation) = (change.value, change.generation);
    let context = change.report().and_then(|report| report.context.clone());
    if context_use == Some(ContextUse::Fresh)
        && let Some(value) = last
    {
        let contexts = object.contexts_mut();
        let mut is_full = contexts.record_used(value);
        if let Some((generation, context)) = generation.zip(context) {
            is_full |= contexts.record_unobserved(generation, context);
        }
        trace.out.count_bound(Bound::Contexts, is_full);
    }
    if object.contexts().and_then(|contexts| contexts.last) != last {
        object.contexts_mut().last = last;
    }
}

/// A change has caused another: that is progress of its whole chain.
fn propagate_progress(trace: &mut Trace, key: &ChangeKey, parent: &ChangeKey) {
    let Some((_, child)) = trace.state.objects.change(key) else { return };
    let (at, received, api_at) = (child.at, child.received, child.api_at);
    let is_own_write = child.own_write == OwnWrite::Yes;
    for key in trace.state.objects.chain_from(parent) {
        let Some(change) = trace.state.objects.change_mut(&key) else { return };
        if key == *parent {
            change.caused += 1;
            // The change still waits for itself.
            if let Some(report) = change.report_mut().filter(|_| !is_own_write) {
                let first = report.first_caused.map_or(at, |first| first.min(at));
                report.first_caused = Some(first);
            }
        }
        change.convergence.record_progress(received);
        change.last_caused = change.last_caused.max(api_at);
        reschedule(trace, &key.uid);
    }
}

/// The change that a metadata change, or a write of the controller, is placed below.
fn joined_change<'a>(
    object: &'a TrackedObject,
    change: &Change,
    rules: &Rules,
) -> Option<&'a Change> {
    if !change.report()?.joins {
        return None;
    }
    let (version, at) = (change.resource_version, change.api_at);
    if change.own_write == OwnWrite::Yes {
        return own_write::joined_change(object, rules, version, at).filter(|of| of.is_decided());
    }
    object.changes.iter().rev().find(|open| {
        open.is_of_spec() && open.resource_version < version && open.is_decided() && !open.ignored
    })
}

/// A resumed rollout does what the paused changes asked for: it links to their contexts too.
fn link_resumed_contexts(report: &mut Report, resumed: &[TraceContext]) {
    let is_fresh = report.context_use == Some(ContextUse::Fresh);
    let own = report.context.as_ref().filter(|_| is_fresh).map(|context| context.span_id);
    let others = resumed.iter().filter(|context| Some(context.span_id) != own);
    let links = others.map(|context| links::context_link(context, ContextUse::Fresh, false));
    report.late_links.extend(links);
}

/// The contexts of paused changes, where the change at `index` resumes them.
fn take_paused_contexts(object: &mut TrackedObject, index: usize) -> Vec<TraceContext> {
    let is_update_of_spec =
        |change: &Change| change.key.verb == Verb::Update && change.scope == Scope::Spec;
    let resumes = !object.spec.paused
        && object.changes.get(index).is_some_and(is_update_of_spec)
        && object.contexts().is_some_and(ContextHistory::has_paused);
    if resumes { object.contexts_mut().take_paused() } else { Vec::new() }
}
