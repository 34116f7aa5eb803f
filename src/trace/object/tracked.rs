//! The state kept of one object: hundreds of bytes, never its body.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::trace::{
    model::{
        content::Digest,
        context::TraceContext,
        field_manager::{ContentWrite, last_write},
        id::ChangeKey,
        interner::Interner,
        object::{GroupKind, ObjectRef, Uid},
        observation::{
            Body, Observation, OwnerReference, Revision, SpecFacts, StatusFacts, WatchId,
        },
        time::Timestamp,
    },
    object::{
        change::{Change, ChosenAttributes, ContextValue, OwnWrite},
        context_history::ContextHistory,
        references::{References, Rescaled},
    },
    readiness::{kstatus, status},
};

#[derive(Debug, Deserialize, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about an object")]
pub(crate) struct TrackedObject {
    pub(crate) reference: ObjectRef,
    /// The watch that reported it last.
    pub(crate) watch: WatchId,
    /// The list of that watch it was last part of; 0 after an event.
    pub(crate) list: u32,
    pub(crate) resource_version: u64,
    pub(crate) generation: Option<i64>,
    /// 0, or the resourceVersion of the first observation after a rewind.
    pub(crate) epoch: u64,
    pub(crate) api_version: Arc<str>,
    pub(crate) created: Option<Timestamp>,
    /// The controller.
    pub(crate) owner: Option<Box<OwnerReference>>,
    /// Owners that are not the controller: they did not make it, but garbage collection counts them.
    #[expect(clippy::box_collection, reason = "rarely present: a pointer is smaller than a Vec")]
    pub(crate) other_owners: Option<Box<Vec<OwnerReference>>>,
    pub(crate) references: Option<Box<References>>,
    pub(crate) digest: Digest,
    /// Digest of the pod template.
    pub(crate) template: Option<Digest>,
    pub(crate) leaves: Box<[u32]>,
    pub(crate) annotations_fingerprint: u64,
    pub(crate) revision: Option<Box<Revision>>,
    pub(crate) spec: Box<SpecFacts>,
    pub(crate) is_terminating: bool,
    /// The last write of more than its status. A field manager with a newer entry can have removed a
    /// field.
    pub(crate) last_write: ContentWrite,
    /// Its annotation `spanlink.io/ignore` excludes it.
    pub(crate) is_ignored: bool,
    /// The generation of the last change, or at the start: a status is compared with it.
    pub(crate) target: Option<i64>,
    /// It was Current at its first observation.
    pub(crate) began_current: bool,
    /// It was Current, with evidence, at its last observation.
    pub(crate) was_current: bool,
    pub(crate) status_fingerprint: u64,
    /// Fingerprint of the evidence of its last verdict; 0 for built-in kinds.
    pub(crate) evidence: u64,
    /// When its status was last written, as far as was observed.
    pub(crate) status_written: Timestamp,
    pub(crate) has_replicas: bool,
    /// It was observed in phase Failed.
    pub(crate) has_failed: bool,
    pub(crate) disruption: Option<Box<str>>,
    pub(crate) update_revision: Option<Box<str>>,
    /// Attributes that the configuration takes from its labels and annotations.
    pub(crate) attributes: Option<ChosenAttributes>,
    /// `None`: it never had a context annotation.
    context_history: Option<Box<ContextHistory>>,
    /// The field manager that writes the status of a custom resource: its controller's name.
    pub(crate) service: Option<Arc<str>>,
    /// In resourceVersion order.
    pub(crate) changes: Vec<Change>,
    /// When it was deleted; it is kept only as a cause since.
    pub(crate) gone: Option<Timestamp>,
    pub(crate) timer: Option<Timestamp>,
}

impl TrackedObject {
    /// From a first observation, which must have a body.
    pub(crate) fn new(watch: WatchId, list: u32, observation: &Observation, body: &Body) -> Self {
        let mut object = Self {
            reference: observation.object.clone(),
            watch,
            list,
            resource_version: observation.resource_version,
            generation: observation.generation,
            epoch: 0,
            api_version: Arc::from(&*body.api_version),
            created: body.created,
            owner: None,
            other_owners: None,
            references: None,
            digest: Digest::default(),
            template: None,
            leaves: Box::default(),
            annotations_fingerprint: 0,
            revision: None,
            spec: Box::default(),
            is_terminating: false,
            last_write: ContentWrite::default(),
            is_ignored: false,
            target: observation.generation,
            began_current: false,
            was_current: false,
            status_fingerprint: observation.status_fingerprint,
            evidence: 0,
            status_written: body.created.unwrap_or(observation.at),
            has_replicas: false,
            has_failed: observation.status.phase.as_deref() == Some("Failed"),
            disruption: None,
            update_revision: None,
            attributes: None,
            context_history: None,
            service: None,
            changes: Vec::new(),
            gone: None,
            timer: None,
        };
        object.read_body(body);
        object
    }

    pub(crate) fn kind(&self) -> &GroupKind {
        &self.reference.kind
    }

    pub(crate) fn uid(&self) -> &Uid {
        &self.reference.uid
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.reference.name
    }

    pub(crate) fn namespace(&self) -> Option<&Arc<str>> {
        self.reference.namespace.as_ref()
    }

    pub(crate) fn is(&self, group: &str, kind: &str) -> bool {
        self.reference.kind.is(group, kind)
    }

    /// Replaces its own copies of names that many objects have in common.
    pub(crate) fn share_names(&mut self, names: &mut Interner) {
        names.share_kind(&mut self.reference.kind);
        self.reference.namespace.iter_mut().for_each(|namespace| names.share(namespace));
        names.share(&mut self.api_version);
        self.owner.iter_mut().for_each(|owner| names.share_owner(owner));
    }

    /// Takes over what rarely changes.
    pub(crate) fn read_body(&mut self, body: &Body) {
        self.owner =
            body.controller_first().next().filter(|owner| owner.controller).cloned().map(Box::new);
        let others: Vec<_> =
            body.controller_first().filter(|owner| !owner.controller).cloned().collect();
        self.other_owners = (!others.is_empty()).then(|| Box::new(others));
        if *self.api_version != *body.api_version {
            self.api_version = Arc::from(&*body.api_version);
        }
        self.digest = body.content.digest;
        self.template = body.content.template;
        self.leaves = body.leaf_digests();
        self.annotations_fingerprint = body.annotations_fingerprint;
        self.revision =
            (body.revision != Revision::default()).then(|| Box::new(body.revision.clone()));
        *self.spec = body.spec.clone();
        self.is_terminating = body.deletion.is_some();
        self.last_write = last_write(&body.managed_fields).unwrap_or_default();
        self.is_ignored = body.is_ignored;
        if self.attributes.as_deref().unwrap_or_default() != body.attributes {
            self.attributes = chosen(body);
        }
        let has_references = !body.references.is_empty()
            || !body.owner_marks.is_empty()
            || !body.children.is_empty()
            || body.scales.is_some();
        let before = self.references.as_deref();
        let desired = before.and_then(|references| references.desired);
        let rescaled = before.and_then(|references| references.rescaled);
        self.references = has_references.then(|| {
            Box::new(References {
                to: body.references.clone(),
                owners: body.owner_marks.iter().map(|mark| mark.owner.clone()).collect(),
                children: body.children.clone(),
                scales: body.scales.clone(),
                desired,
                rescaled,
            })
        });
    }

    /// Takes over the facts of a status that later causes need.
    pub(crate) fn read_status(&mut self, observation: &Observation) {
        if self.status_fingerprint != observation.status_fingerprint {
            self.status_fingerprint = observation.status_fingerprint;
            self.status_written = observation.at;
        }
        let facts: &StatusFacts = &observation.status;
        self.has_replicas = facts.replicas.unwrap_or(0) > 0;
        self.disruption = status::disruption(facts);
        if let Some(references) = &mut self.references {
            references.desired = facts.desired_replicas;
            references.rescaled = references.scales.as_ref().map(|_| {
                let (known, version) = (references.rescaled, observation.resource_version);
                Rescaled::with_status(known, facts.last_scale, version)
            });
        }
        if facts.update_revision != self.update_revision {
            self.update_revision.clone_from(&facts.update_revision);
        }
    }

    /// One step of `status.observedGeneration` can cover several generations: the newest change up
    /// to it then answers for the contexts of all of them. Returns that change and the contexts its
    /// change span does not link to.
    pub(crate) fn take_observed_contexts(
        &mut self,
        generation: Option<i64>,
    ) -> Option<(ChangeKey, Vec<TraceContext>)> {
        let observed = self.context_history.as_mut()?.take_observed(generation?);
        if observed.is_empty() {
            return None;
        }
        let newest = self.changes.iter().rev().find(|change| {
            change.is_of_live_spec() && change.generation.is_some_and(|of| Some(of) <= generation)
        })?;
        if observed.iter().all(|(of, _)| Some(*of) == newest.generation) {
            return None;
        }
        // The change span of a caused change links to its own context.
        let is_caused = newest.decision().is_some_and(|decision| !decision.is_head());
        let others = observed
            .into_iter()
            .filter(|(of, _)| !is_caused || Some(*of) != newest.generation)
            .map(|(_, context)| context)
            .collect();
        Some((newest.key.clone(), others))
    }

    pub(crate) fn contexts(&self) -> Option<&ContextHistory> {
        self.context_history.as_deref()
    }

    /// Starts a history where there is none.
    pub(crate) fn contexts_mut(&mut self) -> &mut ContextHistory {
        self.context_history.get_or_insert_default()
    }

    /// The valid context annotation.
    pub(crate) fn context(&self) -> Option<&TraceContext> {
        Some(&self.contexts()?.current.as_ref()?.1)
    }

    /// The value of the valid context annotation.
    pub(crate) fn context_value(&self) -> Option<ContextValue> {
        Some(self.contexts()?.current.as_ref()?.0)
    }

    pub(crate) fn has_seen_context(&self, value: ContextValue) -> bool {
        self.contexts().is_some_and(|contexts| contexts.has_seen(value))
    }

    pub(crate) fn change_mut(&mut self, key: &ChangeKey) -> Option<&mut Change> {
        self.changes.iter_mut().find(|change| change.key == *key)
    }

    pub(crate) fn change(&self, key: &ChangeKey) -> Option<&Change> {
        self.changes.iter().find(|change| change.key == *key)
    }

    /// The pod templates that a change gave the object: its own, and those of the controller's writes
    /// that are a part of it.
    pub(crate) fn templates_of<'a>(
        &'a self,
        change: &'a Change,
    ) -> impl Iterator<Item = Option<Digest>> + 'a {
        let is_part = |part: &&Change| {
            part.own_write == OwnWrite::Yes && part.cause().is_some_and(|of| *of == change.key)
        };
        let parts = self.changes.iter().filter(is_part).map(|part| part.template);
        std::iter::once(change.template).chain(parts)
    }

    pub(crate) fn has_open_change(&self) -> bool {
        self.changes.iter().any(|change| change.convergence.is_open())
    }

    /// Whether it is a Pod that shall succeed rather than keep running.
    pub(crate) fn is_to_finish(&self) -> bool {
        self.is("", "Pod")
            && kstatus::is_to_finish(&self.spec, self.owner.as_deref().map(|owner| &owner.kind))
    }

    pub(crate) fn is_autoscaler(&self) -> bool {
        self.references.as_ref().is_some_and(|references| references.scales.is_some())
    }

    /// The controller first.
    pub(crate) fn owners(&self) -> impl Iterator<Item = &OwnerReference> {
        self.owner.as_deref().into_iter().chain(self.other_owners.iter().flat_map(|all| all.iter()))
    }

    /// The newest decided change of the spec below a resourceVersion.
    pub(crate) fn newest_below(&self, resource_version: u64) -> Option<&Change> {
        self.changes.iter().rev().find(|change| {
            change.resource_version < resource_version
                && change.is_of_live_spec()
                && !change.ignored
                && change.is_decided()
        })
    }

    /// Its deletion in this epoch.
    pub(crate) fn deletion(&self) -> Option<&Change> {
        self.changes
            .iter()
            .find(|change| change.key.is_deletion() && change.key.epoch == self.epoch)
    }
}

pub(crate) fn chosen(body: &Body) -> Option<ChosenAttributes> {
    (!body.attributes.is_empty()).then(|| body.attributes.clone().into())
}
