//! Decides causes: each watch in resourceVersion order, once the watches of the owners have caught up.

use std::{sync::Arc, time::Duration};

use crate::trace::{
    cause::{
        context,
        find::{Cause, CauseFinder},
        marked::MarkReader,
        own_write,
        placement::Placer,
        references::{autoscaler_link, is_by_scale, reference_links},
        wait::{Readiness, Waits},
    },
    model::{
        context::TraceContext,
        id::{ChangeKey, Verb},
        object::Uid,
        observation::OwnerReference,
        span::Link,
        time::Timestamp,
    },
    object::{
        cause_rule::{CauseChoice, CauseRule},
        change::{
            Change, ContextUse, Decision, OwnWrite, Placement, ReplacedPod, Report, Scope, SpanRef,
        },
        context_history::ContextHistory,
        tracked::TrackedObject,
    },
    rules::Rules,
    spans::{
        links,
        output::{Bound, TraceMetric},
    },
    state::pod_losses::{PodLoss, Replacement},
    tracer::Tracer,
};

/// A metadata change joins an open change that is no older than this.
const JOINS_WITHIN: Duration = Duration::from_secs(5);
impl Tracer {
    /// Decides everything that can be decided.
    pub(super) fn decide(&mut self, now: Timestamp) {
        self.state.watches.finish_quiet_backlogs(now, self.rules.owner_wait);
        let ids = self.state.watches.with_undecided();
        let mut has_decided = !ids.is_empty();
        while has_decided {
            has_decided = false;
            for id in &ids {
                while let Some(watch) = self.state.watches.get(*id)
                    && let Some((order, key)) = watch.first_undecided()
                {
                    let waits = Waits { state: &self.state, rules: &self.rules };
                    let readiness = waits.readiness(key, now);
                    if readiness == Readiness::NotYet {
                        break;
                    }
                    let (order, key) = (*order, key.clone());
                    self.state.watches.unqueue(*id, order);
                    if readiness == Readiness::TimedOut {
                        self.out.metrics.push(TraceMetric::OwnerWaitTimeout);
                    }
                    self.decide_change(&key);
                    has_decided = true;
                }
            }
        }
    }

    /// Decides the cause of a change that is pending.
    pub(super) fn decide_change(&mut self, key: &ChangeKey) {
        let change = self.state.objects.change(key).map(|(_, change)| change);
        if change.is_none_or(Change::is_decided) {
            return;
        }
        if change.is_some_and(|change| change.own_write == OwnWrite::Undetermined) {
            self.settle_own_write_by_children(&key.uid);
        }
        self.resolve_marked_owner(key);
        let objects = &self.state.objects;
        let Some((object, change)) = objects.change(key) else { return };
        if let Some(open) = joined_change(object, change, &self.rules) {
            let open = open.key.clone();
            self.decide_joining(key, &open);
            return;
        }
        let rules = &self.rules;
        let mut cause = CauseFinder::new(&self.state, rules).find(object, change);
        let context_use = context::context_use(objects, rules, object, change, &cause);
        // Of an operator that applies what people wrote, such as Flux, those people are the cause.
        let is_marked = change.report().is_some_and(|report| report.is_marked);
        if is_marked && context_use == Some(ContextUse::Fresh) {
            cause.parent = None;
        }
        let placer = Placer { objects, rules, ids: &self.ids };
        let decision = placer.place(object, change, &cause, context_use);
        self.apply_decision(key, decision, cause, context_use);
    }

    /// The owner that a mark names counts as the controller.
    fn resolve_marked_owner(&mut self, key: &ChangeKey) {
        let objects = &self.state.objects;
        let Some((object, change)) = objects.change(key) else { return };
        if change.is_episode() {
            return;
        }
        let marks = MarkReader { objects, rules: &self.rules };
        let Some(found) = marks.find(object, change) else { return };
        let Some(report) = self.state.objects.report_mut(key) else { return };
        let references = std::mem::take(&mut report.owners).into_iter();
        let others = references.filter(|owner| owner.uid != found.reference.uid);
        report.owners = std::iter::once(found.reference.clone()).chain(others).collect();
        report.owner_manager = found.manager;
        report.is_marked = true;
    }

    /// A metadata change, or a write of the controller, while a change of the spec is open is a span
    /// below that.
    fn decide_joining(&mut self, key: &ChangeKey, open: &ChangeKey) {
        let objects = &self.state.objects;
        let (Some((object, change)), Some((_, open))) = (objects.change(key), objects.change(open))
        else {
            return;
        };
        let choice = Some(CauseChoice::only(CauseRule::SameObject));
        let cause = Cause { parent: Some(open.key.clone()), choice, ..Cause::default() };
        // The controller wrote back the context that the change in flight has.
        let last = object.contexts().and_then(|contexts| contexts.last);
        let is_copy = change.own_write == OwnWrite::Yes
            && (change.value == open.value || change.value == last);
        let context_use =
            context::context_use(objects, &self.rules, object, change, &cause).filter(|_| !is_copy);
        let placer = Placer { objects, rules: &self.rules, ids: &self.ids };
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
            if let Some(report) = self.state.objects.report_mut(key) {
                report.joined_origin = Some(context.trace_id);
            }
            if let Some(report) = self.state.objects.report_mut(&open) {
                report.late_links.push(links::context_link(&context, ContextUse::Fresh, true));
            }
        }
        self.apply_decision(key, decision, cause, context_use);
    }

    /// Records a decision, and emits what can be emitted by now.
    fn apply_decision(
        &mut self,
        key: &ChangeKey,
        decision: Decision,
        cause: Cause,
        context_use: Option<ContextUse>,
    ) {
        let parent = decision.cause.clone();
        let parent_change = parent.as_ref().and_then(|parent| self.state.objects.change(parent));
        let earliest = parent_change.map(|(_, parent)| parent.at);
        let follows_ignored = parent_change.is_some_and(|(_, parent)| parent.ignored);
        let is_of_ancestor = cause.is_of_ancestor;
        let is_lost =
            key.is_deletion() && (decision.placement == Placement::Head || is_of_ancestor);
        let replaced =
            if key.verb == Verb::Create { self.match_lost_pod(key, &cause) } else { None };
        let Some(object) = self.state.objects.get_mut(&key.uid) else { return };
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
            self.out.metrics.push(TraceMetric::Ignored { kind });
        } else if !is_held_back {
            let metrics = [TraceMetric::Change { kind, verb: key.verb }, TraceMetric::Opened];
            self.out.metrics.extend(metrics);
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
        self.record_used_context(key, context_use);
        self.state.objects.decide_change(key, decision);
        self.add_links(key, owners.first());
        self.link_autoscaler(key);
        if let Some((owner, span)) = linked {
            self.announce_linked_episode(&owner, span);
        }
        if let Some(parent) = parent {
            self.propagate_progress(key, &parent);
            self.announce_episode(&parent);
        }
        let controller = owners.first().filter(|owner| owner.controller).map(|owner| &owner.uid);
        if let Some(controller) = controller {
            if is_lost {
                self.record_deleted_pod(key, controller, is_of_ancestor);
            } else if key.is_deletion() {
                self.state.losses.withdraw(&key.uid, controller);
            }
        }
        self.record_current(key);
        if key.verb == Verb::Reconcile {
            if self.settle_short_episode(key) {
                self.emitter().close_convergence(key);
            }
        } else {
            self.emitter().emit_decided(key);
        }
        self.reschedule(&key.uid);
    }

    fn record_used_context(&mut self, key: &ChangeKey, context_use: Option<ContextUse>) {
        let Some(object) = self.state.objects.get_mut(&key.uid) else { return };
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
            self.out.count_bound(Bound::Contexts, is_full);
        }
        if object.contexts().and_then(|contexts| contexts.last) != last {
            object.contexts_mut().last = last;
        }
    }

    /// Creates the links of the change span.
    fn add_links(&mut self, key: &ChangeKey, owner: Option<&OwnerReference>) {
        let Some((object, change)) = self.state.objects.change(key) else { return };
        let (Some(decision), Some(report)) = (change.decision(), change.report()) else { return };
        let links = self.links(object, change, decision, report);
        let is_unknown = owner.is_some_and(|owner| !self.state.objects.contains(&owner.uid));
        let unknown = is_unknown.then(|| TraceMetric::OwnerUnknown { kind: object.kind().clone() });
        let is_exported = decision.sampled && !change.ignored;
        let exported = links.iter().filter(|_| is_exported);
        let exported = exported.map(|(role, _)| TraceMetric::Link { role });
        self.out.metrics.extend(unknown.into_iter().chain(exported));
        if let Some(report) = self.state.objects.report_mut(key) {
            report.links = links.into_iter().map(|(_, link)| link).collect();
        }
    }

    /// In the order of `docs/model.md`, each with its role.
    fn links(
        &self,
        object: &TrackedObject,
        change: &Change,
        decision: &Decision,
        report: &Report,
    ) -> Vec<(&'static str, Link)> {
        let is_apart = matches!(decision.placement, Placement::Linked | Placement::Cut);
        let joined = report.joined_origin.is_some();
        let context =
            report.context.as_ref().zip(report.context_use).map(|(context, context_use)| {
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
        let previous = if self.rules.links.previous { previous() } else { None };
        context
            .into_iter()
            .chain(origin.map(|context| ("origin", links::origin_link(context))))
            .chain(owner.and_then(links::owner_link).map(|link| ("owner", link)))
            .chain(to_same_object("supersedes", superseded))
            .chain(report.replaced.as_ref().and_then(links::replaced_link).map(|l| ("replaced", l)))
            .chain(to_same_object("previous", previous))
            .chain(
                reference_links(&self.state.objects, &self.rules, object, change)
                    .into_iter()
                    .map(|link| ("reference", link)),
            )
            .collect()
    }

    /// An autoscaler may have made a change through `/scale`, and may have reported it already.
    fn link_autoscaler(&mut self, key: &ChangeKey) {
        let Some((object, change)) = self.state.objects.change(key) else { return };
        if !is_by_scale(change) {
            return;
        }
        let autoscaler = self.state.objects.autoscalers_of(object).next();
        if let Some(autoscaler) = autoscaler.map(|autoscaler| autoscaler.uid().clone()) {
            self.add_autoscaler_link(&key.uid, &autoscaler);
        }
    }

    pub(super) fn add_autoscaler_link(&mut self, target: &Uid, autoscaler: &Uid) {
        let Some(link) = autoscaler_link(&self.state.objects, target, autoscaler) else { return };
        let Some(object) = self.state.objects.get_mut(target) else { return };
        let newest = object.changes.iter_mut().rev().find(|change| change.is_of_spec());
        if let Some(report) = newest.and_then(Change::report_mut)
            && !report.late_links.iter().any(|other| other.span_id == link.span_id)
        {
            report.late_links.push(link);
        }
    }

    /// A change has caused another: that is progress of its whole chain.
    fn propagate_progress(&mut self, key: &ChangeKey, parent: &ChangeKey) {
        let Some((_, child)) = self.state.objects.change(key) else { return };
        let (at, received, api_at) = (child.at, child.received, child.api_at);
        let is_own_write = child.own_write == OwnWrite::Yes;
        for key in self.state.objects.chain_from(parent) {
            let Some(change) = self.state.objects.change_mut(&key) else { return };
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
            self.reschedule(&key.uid);
        }
    }

    /// Records that a Pod was deleted other than by its direct owner's doing.
    fn record_deleted_pod(&mut self, key: &ChangeKey, owner: &Uid, is_of_ancestor: bool) {
        let Some((_, change)) = self.state.objects.change(key) else { return };
        let span = change.decision().map(Decision::span);
        let (resource_version, at) = (change.resource_version, change.api_at);
        let cause = change.cause().filter(|_| is_of_ancestor).cloned();
        self.record_lost_pod(&key.uid, owner, resource_version, at, span, cause);
    }

    pub(super) fn record_lost_pod(
        &mut self,
        uid: &Uid,
        owner: &Uid,
        resource_version: u64,
        at: Timestamp,
        span: Option<SpanRef>,
        cause: Option<ChangeKey>,
    ) {
        let pod = self.state.objects.get(uid).filter(|object| object.is("", "Pod"));
        // The losses of an owner that is not tracked would never be forgotten.
        let Some(pod) = pod.filter(|_| self.state.objects.contains(owner)) else { return };
        let (name, uid) = (Arc::clone(pod.name()), uid.clone());
        let loss = PodLoss { name, uid, resource_version, at, span, is_replaced: false, cause };
        let is_full = self.state.losses.record(owner, loss);
        self.out.count_bound(Bound::PodLosses, is_full);
    }

    /// The lost Pod that a new Pod replaces. Reported only where the owner is settled: otherwise the
    /// new Pod may have another reason.
    fn match_lost_pod(&mut self, key: &ChangeKey, cause: &Cause) -> Option<ReplacedPod> {
        let (object, change) = self.state.objects.change(key)?;
        let is_settled = cause.owner.as_ref().is_some_and(|owner| owner.settled);
        let owner = change.controller()?;
        let pod = Replacement::from_create(object, change)?;
        let replaced = self.state.losses.match_replacement(&owner.uid, &pod)?;
        let lost = self.state.objects.get(&replaced.uid);
        let last_span = lost.and_then(|lost| {
            lost.changes.iter().rev().find_map(|change| change.decision().map(Decision::span))
        });
        let span = replaced.span.or(last_span);
        (is_settled || cause.is_of_ancestor).then_some(ReplacedPod { span, ..replaced })
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
