//! Links to what an object names without being owned by it: configured references, and the
//! autoscaler that scaled it.

use crate::trace::{
    cause::find::is_recent,
    model::{
        id::{ChangeKey, Verb},
        object::Uid,
        observation::Reference,
        span::Link,
    },
    object::{
        change::{Change, Scope},
        tracked::TrackedObject,
    },
    spans::links,
    tracer::Tracer,
};

impl Tracer {
    /// What the object's configured fields name, as far as it is known.
    pub(crate) fn referenced_by<'a>(
        &'a self,
        known: &'a TrackedObject,
    ) -> impl Iterator<Item = &'a TrackedObject> {
        let references = known.references.iter().flat_map(|references| &references.to);
        references.filter_map(|reference| self.named(known, reference))
    }

    /// Objects are known by UID: references are few, and looked up by name only when something that
    /// has them changed.
    fn named(&self, by: &TrackedObject, reference: &Reference) -> Option<&TrackedObject> {
        let namespace = reference.namespace.as_ref().or(by.object.namespace.as_ref());
        self.objects.values().map(Box::as_ref).find(|other| {
            let object = &other.object;
            object.name == reference.name
                && object.kind == reference.kind
                && (object.namespace.is_none() || object.namespace.as_ref() == namespace)
                && other.gone.is_none()
        })
    }

    /// To the change in flight of each object it names.
    pub(crate) fn reference_links(&self, known: &TrackedObject, change: &Change) -> Vec<Link> {
        let in_flight = |other: &TrackedObject| {
            let mut newest_first = other.changes.iter().rev();
            let deadline = self.deadline(other);
            let change = newest_first.find(|other| {
                other.decided.is_some()
                    && other.scope == Scope::Spec
                    && !other.ignored
                    && other.is_in_flight_at(change.resource_version)
                    && (other.key.verb == Verb::Delete || is_recent(other, change.api_at, deadline))
            })?;
            links::change_link("reference", &other.object, change)
        };
        self.referenced_by(known).filter_map(in_flight).collect()
    }

    /// An autoscaler's status came: it may say why something was scaled.
    pub(crate) fn scaled(&mut self, autoscaler: &Uid) {
        let Some(known) = self.objects.get(autoscaler) else { return };
        let target = known
            .references
            .as_ref()
            .and_then(|references| self.named(known, references.scales.as_ref()?))
            .map(|target| target.object.uid.clone());
        if let Some(target) = target {
            self.link_autoscaler(&target, autoscaler);
        }
    }

    /// A change was decided: an autoscaler may have said before why it was made.
    pub(crate) fn look_for_autoscaler(&mut self, key: &ChangeKey) {
        let Some((known, change)) = self.change(key) else { return };
        if !is_by_scale(change) {
            return;
        }
        let scales_it = |other: &TrackedObject| {
            let target = other.references.as_ref().and_then(|refs| refs.scales.as_ref());
            target
                .and_then(|target| self.named(other, target))
                .is_some_and(|target| target.object.uid == known.object.uid)
        };
        let autoscaler = self.objects.values().find(|other| scales_it(other));
        if let Some(autoscaler) = autoscaler.map(|other| other.object.uid.clone()) {
            self.link_autoscaler(&key.uid, &autoscaler);
        }
    }

    /// It scaled just then, and the replicas it wanted are the replicas there are to be: its last
    /// change is the reason. A person may scale as well, and then it agrees with that.
    fn link_autoscaler(&mut self, target: &Uid, autoscaler: &Uid) {
        let Some(by) = self.objects.get(autoscaler) else { return };
        let Some(references) = by.references.as_deref() else { return };
        let (desired, rescaled) = (references.desired, references.rescaled);
        let scaled = self.objects.get(target).and_then(|known| {
            known.changes.iter().rev().find(|change| change.scope == Scope::Spec)
        });
        let Some(scaled_at) = scaled.map(|change| change.resource_version) else { return };
        if !rescaled.is_some_and(|rescaled| rescaled.is_at(scaled_at)) {
            return;
        }
        let mut newest_first = by.changes.iter().rev();
        // What was made of it after is no reason.
        let reason = newest_first.find(|change| {
            change.decided.is_some()
                && change.scope == Scope::Spec
                && change.key.verb != Verb::Delete
                && !change.ignored
                && change.resource_version < scaled_at
        });
        let link = reason.and_then(|change| links::change_link("reference", &by.object, change));
        let (Some(link), Some(desired)) = (link, desired) else { return };
        let Some(known) = self.objects.get_mut(target) else { return };
        if known.spec.replicas != Some(desired) {
            return;
        }
        let newest = known.changes.iter_mut().rev().find(|change| change.scope == Scope::Spec);
        let Some(change) = newest.filter(|change| is_by_scale(change)) else { return };
        if let Some(details) = change.details.as_deref_mut()
            && !details.late_links.iter().any(|other| other.span_id == link.span_id)
        {
            details.late_links.push(link);
        }
    }
}

/// Written through `/scale`.
fn is_by_scale(change: &Change) -> bool {
    change
        .details
        .as_ref()
        .and_then(|details| details.manager.as_ref())
        .is_some_and(|manager| &*manager.subresource == "scale")
}
