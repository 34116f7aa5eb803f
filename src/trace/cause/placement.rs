//! Places a change in traces: in whose, below what, and what it takes over from its cause.

use std::sync::Arc;

use crate::trace::{
    cause::find::Cause,
    model::{context::TraceContext, id::Verb, span::Role},
    object::{
        change::{Change, ContextUse, Decision, OwnerChain, Placement},
        detect,
        tracked::TrackedObject,
    },
    rules::Layout,
    tracer::Tracer,
};

impl Tracer {
    /// A caused change copies trace, origin and sampling from its cause; a head has its own, or
    /// carries on what it superseded.
    pub(crate) fn place(
        &self,
        known: &TrackedObject,
        change: &Change,
        cause: &Cause,
        judged: Option<ContextUse>,
    ) -> Decision {
        let by = cause.parent.as_ref().and_then(|key| {
            let (object, parent) = self.change(key)?;
            Some((object, parent, parent.decided.as_ref()?))
        });
        match by {
            Some((object, parent, decided)) => {
                let mut placed = self.below(change, decided);
                placed.cause = Some(parent.key.clone());
                placed.depth = decided.depth + 1;
                placed.owner_chain = Some(Arc::new(OwnerChain {
                    kind: object.object.kind.clone(),
                    name: Arc::clone(&object.object.name),
                    above: decided.owner_chain.clone(),
                }));
                if self.rules.layout == Layout::Linked {
                    self.set_apart(&mut placed, change, Placement::Linked);
                } else if self.is_too_many(change, object, parent) {
                    self.set_apart(&mut placed, change, Placement::Cut);
                }
                placed
            }
            None => Decision {
                owner_chain: self.lineage_of_owner(change, cause),
                ..self.head(known, change, judged)
            },
        }
    }

    /// A metadata change that joins is told below the change it joins, in every layout: the two are
    /// one step to whoever acts on them.
    pub(crate) fn place_joining(&self, change: &Change, open: &Change) -> Option<Decision> {
        let decided = open.decided.as_ref()?;
        let mut placed = self.below(change, decided);
        placed.cause = Some(open.key.clone());
        placed.depth = decided.depth;
        placed.owner_chain.clone_from(&decided.owner_chain);
        Some(placed)
    }

    fn below(&self, change: &Change, above: &Decision) -> Decision {
        Decision {
            trace_id: above.trace_id,
            span_id: self.ids.span(&change.key, Role::Change, ""),
            parent: Some(above.span_id),
            place: Placement::Caused,
            sampled: above.sampled,
            cause: None,
            head: above.head,
            origin: above.origin.clone(),
            depth: 0,
            owner_chain: None,
        }
    }

    fn set_apart(&self, placed: &mut Decision, change: &Change, place: Placement) {
        placed.place = place;
        placed.trace_id = self.ids.trace(&change.key);
        placed.parent = None;
        placed.head = placed.span_id;
    }

    fn head(&self, known: &TrackedObject, change: &Change, judged: Option<ContextUse>) -> Decision {
        let context = change.details.as_ref().and_then(|details| details.context.as_ref());
        let fresh = context.filter(|_| judged == Some(ContextUse::Fresh));
        let span_id = self.ids.span(&change.key, Role::Change, "");
        let own_trace = self.ids.trace(&change.key);
        // What continues an annotated trace is there if that is.
        let continues = fresh.filter(|_| self.rules.layout == Layout::Joined);
        let carried = if fresh.is_none() { carried_on(known, change) } else { None };
        Decision {
            trace_id: continues.map_or(own_trace, |context| context.trace_id),
            span_id,
            parent: continues.map(|context| context.span_id),
            place: Placement::Head,
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
        }
    }

    fn lineage_of_owner(&self, change: &Change, cause: &Cause) -> Option<Arc<OwnerChain>> {
        let owner = cause.owner.as_ref()?;
        let object = change.controller().and_then(|reference| self.objects.get(&reference.uid));
        let before = |older: &&Change| older.resource_version < change.resource_version;
        let above = object
            .and_then(|object| object.changes.iter().rev().find(before))
            .and_then(|older| older.decided.as_ref()?.owner_chain.clone());
        let (kind, name) = (owner.kind.clone(), Arc::clone(&owner.name));
        Some(Arc::new(OwnerChain { kind, name, above }))
    }

    /// Whether a child would make its cause's trace too large (contract: causes §11).
    fn is_too_many(&self, child: &Change, owner: &TrackedObject, parent: &Change) -> bool {
        let is_owner = child.controller().is_some_and(|of| of.uid == owner.object.uid);
        match parent.desired_children.filter(|_| is_owner) {
            Some(wanted) => wanted > self.rules.cascade_max,
            None => parent.caused >= self.rules.cascade_max,
        }
    }
}

/// A change that overtakes one with the same pod template, without a fresh context of its own,
/// carries that one's origin and sampling on: an HPA scaling during a rollout.
fn carried_on<'a>(known: &'a TrackedObject, change: &Change) -> Option<&'a Decision> {
    let older = known.change(change.details.as_ref()?.supersedes.as_ref()?)?;
    let goes_on =
        change.key.verb == Verb::Update && detect::same_template(older.template, change.template);
    older.decided.as_ref().filter(|_| goes_on)
}
