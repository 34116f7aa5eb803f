//! What is kept of an object: hundreds of bytes, never its body.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::trace::{
    model::{
        content::Digest,
        context::TraceContext,
        id::ChangeKey,
        interner::Interner,
        object::ObjectRef,
        observation::{
            Body, Observation, OwnerReference, Reference, Revision, SpecFacts, StatusFacts, WatchId,
        },
        time::Timestamp,
    },
    object::change::{Change, ContextUse, ContextValue, Scope},
    spans::links::context_link,
};

/// Context values remembered an object, the oldest forgotten first.
const MAX_VALUES: usize = 32;
/// Contexts that wait for their generation: as many as a span may have links.
const MAX_WAITING: usize = 16;
/// Changes kept an object: causes in flight, open convergences, and the newest.
pub(crate) const MAX_CHANGES: usize = 16;

#[derive(Debug, Deserialize, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "facts of an object, each on its own")]
pub(crate) struct TrackedObject {
    pub(crate) object: ObjectRef,
    pub(crate) watch: WatchId,
    /// The list it was last seen in; 0: it was seen in an event since.
    pub(crate) list: u32,
    pub(crate) resource_version: u64,
    pub(crate) generation: Option<i64>,
    /// 0, or the resourceVersion of the first observation after a rewind.
    pub(crate) epoch: u64,
    pub(crate) api_version: Arc<str>,
    pub(crate) created: Option<Timestamp>,
    /// The controller.
    pub(crate) owner: Option<Box<OwnerReference>>,
    /// Without them it is garbage too, but they did not make it.
    #[expect(clippy::box_collection, reason = "seldom there: a pointer, not a Vec")]
    pub(crate) other_owners: Option<Box<Vec<OwnerReference>>>,
    pub(crate) references: Option<Box<References>>,
    pub(crate) digest: Digest,
    pub(crate) template: Option<Digest>,
    pub(crate) leaves: Box<[u32]>,
    pub(crate) annotations_fingerprint: u64,
    pub(crate) revision: Option<Box<Revision>>,
    pub(crate) spec: Box<SpecFacts>,
    pub(crate) is_terminating: bool,
    /// Its own annotation says that nobody wants to hear of it.
    pub(crate) is_off: bool,
    /// The generation of the last change, start-up included: what the status is compared with.
    pub(crate) target: Option<i64>,
    /// Current when it was first seen.
    pub(crate) began_current: bool,
    /// As last observed: Current with evidence.
    pub(crate) was_current: bool,
    pub(crate) status_fingerprint: u64,
    /// When its status was last written, as far as was seen.
    pub(crate) status_written: Timestamp,
    pub(crate) has_replicas: bool,
    /// Observed in phase Failed.
    pub(crate) has_failed: bool,
    pub(crate) disruption: Option<Box<str>>,
    pub(crate) update_revision: Option<Box<str>>,
    pub(crate) contexts: Contexts,
    /// Who writes the status of a custom resource: its controller's name.
    pub(crate) service: Option<Arc<str>>,
    /// In resourceVersion order.
    pub(crate) changes: Vec<Change>,
    /// Gone since: kept as a cause only.
    pub(crate) gone: Option<Timestamp>,
    pub(crate) timer: Option<Timestamp>,
}

/// What an object names besides its owners.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct References {
    pub(crate) to: Vec<Reference>,
    /// Of an autoscaler.
    pub(crate) scales: Option<Reference>,
    /// The replicas an autoscaler last wanted.
    pub(crate) desired: Option<i64>,
    /// When it last scaled.
    pub(crate) rescaled: Option<Rescaled>,
}

/// An autoscaler's controller writes `/scale` and then `status.lastScaleTime`: so it scaled after the
/// last status without that was written, and before the first with it. The times of both say less:
/// in managedFields `/scale` has none.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Rescaled {
    /// `status.lastScaleTime`
    at: Option<Timestamp>,
    /// Between these resourceVersions; the same twice: before anybody looked, or never.
    after: u64,
    before: u64,
    /// The resourceVersion of the newest status.
    read: u64,
}

impl Rescaled {
    fn read(known: Option<Self>, at: Option<Timestamp>, read: u64) -> Self {
        match known {
            None => Self { at, after: read, before: read, read },
            Some(known) if at <= known.at => Self { at, read, ..known },
            Some(known) => Self { at, after: known.read, before: read, read },
        }
    }

    pub(crate) fn is_at(&self, resource_version: u64) -> bool {
        self.after < resource_version && resource_version < self.before
    }
}

/// What an object's context annotation has been. Most objects never have one: then it is a pointer
/// to nothing.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Contexts(Option<Box<History>>);

impl Deref for Contexts {
    type Target = History;

    fn deref(&self) -> &History {
        static NOTHING: History = History::new();
        self.0.as_deref().unwrap_or(&NOTHING)
    }
}

impl DerefMut for Contexts {
    fn deref_mut(&mut self) -> &mut History {
        self.0.get_or_insert_with(|| Box::new(History::new()))
    }
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct History {
    /// As written, valid or not.
    pub(crate) written: Option<ContextValue>,
    /// Where it is valid.
    pub(crate) current: Option<(ContextValue, TraceContext)>,
    /// When the current value appeared, in API time.
    pub(crate) since: Option<Timestamp>,
    /// The resourceVersion it was first seen at.
    pub(crate) since_version: u64,
    /// Carried as fresh by a spec change or a delete, or there at start-up.
    used: Vec<ContextValue>,
    /// Whatever was on it or in its templates: its children's copies are inherited.
    seen: Vec<ContextValue>,
    /// What the last spec change had.
    pub(crate) last: Option<ContextValue>,
    /// Of changes that ended paused: a resumed rollout is theirs too.
    pub(crate) paused: Vec<TraceContext>,
    /// Fresh ones, by the generation they came with, until a status says it was observed.
    pub(crate) unobserved: Vec<(i64, TraceContext)>,
}

impl History {
    const fn new() -> Self {
        Self {
            written: None,
            current: None,
            since: None,
            since_version: 0,
            used: Vec::new(),
            seen: Vec::new(),
            last: None,
            paused: Vec::new(),
            unobserved: Vec::new(),
        }
    }

    pub(crate) fn is_used(&self, value: ContextValue) -> bool {
        self.used.contains(&value)
    }

    pub(crate) fn was_seen(&self, value: ContextValue) -> bool {
        self.seen.contains(&value)
    }

    /// A fresh context came with a generation that no status has observed yet.
    pub(crate) fn note_unobserved(&mut self, generation: i64, context: TraceContext) {
        if self.unobserved.len() >= MAX_WAITING {
            self.unobserved.remove(0);
        }
        self.unobserved.push((generation, context));
    }

    /// A change ended paused; what resumes it does what that asked for too.
    pub(crate) fn note_paused(&mut self, context: TraceContext) {
        if self.paused.len() >= MAX_WAITING {
            self.paused.remove(0);
        }
        self.paused.push(context);
    }

    pub(crate) fn note_used(&mut self, value: ContextValue) {
        remember(&mut self.used, value);
    }

    pub(crate) fn note_seen(&mut self, value: ContextValue) {
        remember(&mut self.seen, value);
    }
}

fn remember(values: &mut Vec<ContextValue>, value: ContextValue) {
    if values.contains(&value) {
        return;
    }
    if values.len() >= MAX_VALUES {
        values.remove(0);
    }
    values.push(value);
}

impl TrackedObject {
    /// From a first observation, which must have a body.
    pub(crate) fn new(watch: WatchId, list: u32, now: &Observation, body: &Body) -> Self {
        let mut tracked = Self {
            object: now.object.clone(),
            watch,
            list,
            resource_version: now.resource_version,
            generation: now.generation,
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
            is_off: false,
            target: now.generation,
            began_current: false,
            was_current: false,
            status_fingerprint: now.status_fingerprint,
            status_written: body.created.unwrap_or(now.at),
            has_replicas: false,
            has_failed: now.status.phase.as_deref() == Some("Failed"),
            disruption: None,
            update_revision: None,
            contexts: Contexts::default(),
            service: None,
            changes: Vec::new(),
            gone: None,
            timer: None,
        };
        tracked.read_body(body);
        tracked
    }

    /// Gives up its own copies of words that other objects have too.
    pub(crate) fn share_names(&mut self, names: &mut Interner) {
        names.share_kind(&mut self.object.kind);
        self.object.namespace.iter_mut().for_each(|namespace| names.share(namespace));
        names.share(&mut self.api_version);
        self.owner.iter_mut().for_each(|owner| names.share_owner(owner));
    }

    /// Takes over what seldom changes.
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
        self.leaves = crate::trace::object::detect::leaves_of(body);
        self.annotations_fingerprint = body.annotations_fingerprint;
        self.revision =
            (body.revision != Revision::default()).then(|| Box::new(body.revision.clone()));
        *self.spec = body.spec.clone();
        self.is_terminating = body.deletion.is_some();
        self.is_off = body.is_off;
        let refers = !body.references.is_empty() || body.scales.is_some();
        let known = self.references.as_deref();
        let desired = known.and_then(|references| references.desired);
        let rescaled = known.and_then(|references| references.rescaled);
        self.references = refers.then(|| {
            Box::new(References {
                to: body.references.clone(),
                scales: body.scales.clone(),
                desired,
                rescaled,
            })
        });
    }

    /// Takes over what a status says besides being current or not.
    pub(crate) fn read_status(&mut self, now: &Observation) {
        if self.status_fingerprint != now.status_fingerprint {
            self.status_fingerprint = now.status_fingerprint;
            self.status_written = now.at;
        }
        let facts: &StatusFacts = &now.status;
        self.has_replicas = facts.replicas.unwrap_or(0) > 0;
        self.disruption = crate::trace::readiness::status::disruption(facts);
        if let Some(references) = &mut self.references {
            references.desired = facts.desired_replicas;
            references.rescaled = references.scales.as_ref().map(|_| {
                Rescaled::read(references.rescaled, facts.last_scale, now.resource_version)
            });
        }
        if facts.update_revision != self.update_revision {
            self.update_revision.clone_from(&facts.update_revision);
        }
    }

    /// One step of `status.observedGeneration` can swallow several generations: what dealt with the
    /// newest of them dealt with all their contexts.
    pub(crate) fn observed(&mut self, generation: Option<i64>) {
        let Some(generation) = generation.filter(|_| !self.contexts.unobserved.is_empty()) else {
            return;
        };
        let is_over = |(of, _): &(i64, TraceContext)| *of <= generation;
        let observed: Vec<_> = self.contexts.unobserved.extract_if(.., |it| is_over(it)).collect();
        let newest = self.changes.iter_mut().rev().find(|change| {
            change.scope == Scope::Spec
                && change.generation.is_some_and(|of| of <= generation)
                && change.key.verb != crate::trace::model::id::Verb::Delete
        });
        let Some(newest) = newest else { return };
        if observed.iter().all(|(of, _)| Some(*of) == newest.generation) {
            return;
        }
        let is_caused = newest.decided.as_ref().is_some_and(|decided| !decided.is_head());
        let own = newest.generation;
        if let Some(details) = newest.details.as_deref_mut() {
            // The change span of a caused change has its own context already.
            let others = observed.iter().filter(|(of, _)| !is_caused || Some(*of) != own);
            let links = others.map(|(_, context)| context_link(context, ContextUse::Fresh, false));
            details.late_links.extend(links);
        }
    }

    pub(crate) fn change_mut(&mut self, key: &ChangeKey) -> Option<&mut Change> {
        self.changes.iter_mut().find(|change| change.key == *key)
    }

    pub(crate) fn change(&self, key: &ChangeKey) -> Option<&Change> {
        self.changes.iter().find(|change| change.key == *key)
    }

    /// The controller first.
    pub(crate) fn owners(&self) -> impl Iterator<Item = &OwnerReference> {
        self.owner.as_deref().into_iter().chain(self.other_owners.iter().flat_map(|all| all.iter()))
    }

    /// The newest change of the spec below a resourceVersion that has been decided.
    pub(crate) fn newest_below(&self, resource_version: u64) -> Option<&Change> {
        self.changes.iter().rev().find(|change| {
            change.resource_version < resource_version
                && change.scope == Scope::Spec
                && change.key.verb != crate::trace::model::id::Verb::Delete
                && !change.ignored
                && change.decided.is_some()
        })
    }

    /// Its own delete, once decided.
    pub(crate) fn deletion(&self) -> Option<&Change> {
        let of_this_epoch = |change: &&Change| change.key.epoch == self.epoch;
        let mut deletions = self.changes.iter().filter(of_this_epoch);
        deletions.find(|change| change.key.verb == crate::trace::model::id::Verb::Delete)
    }
}
