//! Places a change in traces: in which one, below which span, with which origin and sampling.

use std::sync::Arc;

use crate::trace::{
    cause::find::Cause,
    model::{
        context::TraceContext,
        id::{Ids, Layout, Verb},
        object::GroupKind,
        span::Role,
    },
    object::{
        change::{Change, ChosenAttributes, ContextUse, Decision, OwnerChain, Placement},
        detect,
        tracked::TrackedObject,
    },
    rules::Rules,
    state::objects::Objects,
};

/// The tables and rules that a placement depends on, besides the change and its cause.
#[derive(Clone, Copy)]
pub(crate) struct Placer<'a> {
    pub(crate) objects: &'a Objects,
    pub(crate) rules: &'a Rules,
    pub(crate) ids: &'a Ids,
}

impl Placer<'_> {
    /// A caused change copies trace, origin and sampling from its cause. A head has its own, or those
    /// of the change it superseded.
    pub(crate) fn place(
        &self,
        object: &TrackedObject,
        change: &Change,
        cause: &Cause,
        context_use: Option<ContextUse>,
    ) -> Decision {
        let by = cause.parent.as_ref().and_then(|key| {
            let (owner, parent) = self.objects.change(key)?;
            Some((owner, parent, parent.decision()?))
        });
        match by {
            Some((owner, parent, above)) => {
                let mut placed = self.child_of(change, above);
                placed.attributes = with_own_attributes(above.attributes.as_ref(), change);
                placed.cause = Some(parent.key.clone());
                placed.depth = above.depth + 1;
                let link = |kind: &GroupKind, name: &Arc<str>, above| {
                    Some(Arc::new(OwnerChain { kind: kind.clone(), name: Arc::clone(name), above }))
                };
                let chain = link(owner.kind(), owner.name(), above.owner_chain.clone());
                let direct = change.controller().filter(|_| cause.is_of_ancestor);
                placed.owner_chain = match direct {
                    Some(direct) => link(&direct.kind, &direct.name, chain),
                    None => chain,
                };
                if self.rules.layout == Layout::Linked {
                    self.start_own_trace(&mut placed, change, Placement::Linked);
                } else if self.exceeds_trace(change, owner, parent) {
                    self.start_own_trace(&mut placed, change, Placement::Cut);
                }
                placed
            }
            None => Decision {
                owner_chain: self.lineage_of_owner(change, cause),
                ..self.head(object, change, context_use)
            },
        }
    }

    /// A metadata change is placed below the change it joins, in every layout: controllers act on both
    /// as one.
    pub(crate) fn place_joining(&self, change: &Change, open: &Change) -> Option<Decision> {
        let decision = open.decision()?;
        let mut placed = self.child_of(change, decision);
        placed.cause = Some(open.key.clone());
        placed.depth = decision.depth;
        placed.owner_chain.clone_from(&decision.owner_chain);
        Some(placed)
    }

    fn child_of(&self, change: &Change, above: &Decision) -> Decision {
        Decision {
            trace_id: above.trace_id,
            span_id: self.ids.span(&change.key, Role::Change, ""),
            parent: Some(above.span_id),
            placement: Placement::Caused,
            sampled: above.sampled,
            cause: None,
            head: above.head,
            origin: above.origin.clone(),
            depth: 0,
            owner_chain: None,
            attributes: above.attributes.clone(),
        }
    }

    fn start_own_trace(&self, placed: &mut Decision, change: &Change, placement: Placement) {
        placed.placement = placement;
        placed.trace_id = self.ids.trace(&change.key);
        placed.parent = None;
        placed.head = placed.span_id;
    }

    fn head(
        &self,
        object: &TrackedObject,
        change: &Change,
        context_use: Option<ContextUse>,
    ) -> Decision {
        let context = change.report().and_then(|report| report.context.as_ref());
        let fresh = context.filter(|_| context_use == Some(ContextUse::Fresh));
        let span_id = self.ids.span(&change.key, Role::Change, "");
        let own_trace = self.ids.trace(&change.key);
        // A head that continues an annotated trace is exported if that trace is.
        let continues = fresh.filter(|_| self.rules.layout == Layout::Joined);
        let carried =
            if fresh.is_none() { inherited_from_superseded(object, change) } else { None };
        Decision {
            trace_id: continues.map_or(own_trace, |context| context.trace_id),
            span_id,
            parent: continues.map(|context| context.span_id),
            placement: Placement::Head,
            sampled: match (continues, carried) {
                (Some(context), _) => context.is_sampled(),
                (None, Some(older)) => older.sampled,
                (None, None) => self.rules.sampling.samples(fresh, own_trace),
            },
            cause: None,
            head: span_id,
            origin: match (fresh, carried) {
                (Some(context), _) => Some(Arc::new(TraceContext::clone(context))),
                (None, older) => older.and_then(|older| older.origin.clone()),
            },
            depth: 0,
            owner_chain: None,
            attributes: with_own_attributes(None, change),
        }
    }

    fn lineage_of_owner(&self, change: &Change, cause: &Cause) -> Option<Arc<OwnerChain>> {
        let owner = cause.owner.as_ref()?;
        let tracked = change.controller().and_then(|reference| self.objects.get(&reference.uid));
        let before = |older: &&Change| older.resource_version < change.resource_version;
        let above = tracked
            .and_then(|owner| owner.changes.iter().rev().find(before))
            .and_then(|older| older.decision()?.owner_chain.clone());
        let (kind, name) = (owner.kind.clone(), Arc::clone(&owner.name));
        Some(Arc::new(OwnerChain { kind, name, above }))
    }

    /// Whether a child would make its cause's trace too large (`docs/causes.md`, The cut).
    fn exceeds_trace(&self, child: &Change, owner: &TrackedObject, parent: &Change) -> bool {
        let is_owner = child.controller().is_some_and(|of| of.uid == *owner.uid());
        match parent.desired_children.filter(|_| is_owner) {
            Some(wanted) => wanted > self.rules.cascade_max,
            None => parent.caused >= self.rules.cascade_max,
        }
    }
}

/// The attributes of the cause, and the object's own where the cause has none of the same key.
fn with_own_attributes(
    above: Option<&ChosenAttributes>,
    change: &Change,
) -> Option<ChosenAttributes> {
    let own = change.report().and_then(|report| report.attributes.as_ref());
    let (Some(above), Some(own)) = (above, own) else { return above.or(own).cloned() };
    let is_missing = |(key, _): &&(Box<str>, Box<str>)| above.iter().all(|(other, _)| other != key);
    let missing: Vec<_> = own.iter().filter(is_missing).cloned().collect();
    if missing.is_empty() {
        return Some(Arc::clone(above));
    }
    Some(above.iter().cloned().chain(missing).collect())
}

/// A change without a fresh context that supersedes one with the same pod template takes over that
/// one's origin and sampling, as where an HPA scales during a rollout.
fn inherited_from_superseded<'a>(
    object: &'a TrackedObject,
    change: &Change,
) -> Option<&'a Decision> {
    let older = object.change(change.report()?.supersedes.as_ref()?)?;
    let continues = change.key.verb == Verb::Update
        && object.templates_of(older).any(|older| detect::same_template(older, change.template));
    older.decision().filter(|_| continues)
}
