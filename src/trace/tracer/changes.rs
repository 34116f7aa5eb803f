//! Turns a difference into a change: its time, its writer, what it overtakes.

use std::cmp::Ordering;

use crate::trace::{
    model::{
        content::{Content, MAX_LEAVES},
        context::TraceContext,
        field_manager::{Manager, Managers},
        id::{ChangeKey, Verb},
        kind,
        object::Uid,
        observation::{Body, Carrier, Deletion, Observation, OwnerReference, SpecFacts},
        time::Timestamp,
    },
    object::{
        change::{Change, ContextValue, PendingReport, ReplicaChange, Scope, TimeSource},
        detect::{self, ObjectDiff},
        redact::disclosed,
        tracked::TrackedObject,
    },
    progress::{
        convergence::{Convergence, Outcome, refine},
        phase::PhaseTracker,
    },
    readiness::status,
    spans::output::TraceMetric,
    tracer::{Tracer, prune},
};

impl Tracer {
    pub(crate) fn current_context(&self, uid: &Uid) -> Option<TraceContext> {
        Some(self.objects.get(uid)?.contexts.current.as_ref()?.1.clone())
    }

    /// A difference becomes a change, whose cause is yet to be found.
    pub(crate) fn changed(
        &mut self,
        uid: &Uid,
        now: &Observation,
        difference: &ObjectDiff,
        relisted: bool,
    ) {
        let body = now.body.as_deref();
        let managers = body.map(|body| Managers::parse(&body.managed_fields)).unwrap_or_default();
        let (at, source, manager) = self.time_of(uid, now, difference, &managers);
        let api_at = at.whole_second();
        if let Some(body) = body {
            self.note_context_at(uid, body, api_at, now.resource_version);
        }
        let context = self.current_context(uid);
        let ignored = self.is_ignored(uid, body, difference, manager.as_ref());
        let (fields, values) =
            disclosed(difference, body, || self.rules.redacted(&now.object.kind));
        let Some(known) = self.objects.get_mut(uid) else { return };
        if difference.rewound {
            known.epoch = now.resource_version;
            self.out.notes.push(TraceMetric::Rewound);
        }
        if difference.missed > 0 {
            self.out.notes.push(TraceMetric::Gap { generations: difference.missed });
        }
        if kind::service(&now.object.kind).is_none()
            && let Some(status) = managers.of_status()
        {
            known.service = Some(status.name.into());
        }
        known.generation = now.generation.or(known.generation);
        // The same write may have given it to another.
        let owners: Box<[OwnerReference]> = match body {
            Some(body) => body.controller_first().cloned().collect(),
            None => known.owners().cloned().collect(),
        };
        let key = key_of(known, now, difference);
        let replicas = |spec: &SpecFacts| spec.replicas.unwrap_or(1);
        let scaled = match (difference.verb, body) {
            (Verb::Update, Some(body)) => match replicas(&body.spec).cmp(&replicas(&known.spec)) {
                Ordering::Less => ReplicaChange::Decreased,
                Ordering::Equal => ReplicaChange::Unchanged,
                Ordering::Greater => ReplicaChange::Increased,
            },
            (Verb::Create | Verb::Delete, _) | (Verb::Update, None) => ReplicaChange::Unchanged,
        };
        let fingerprint = match difference.verb {
            // Whatever status an object is created with was not written after.
            Verb::Create => now.status_fingerprint,
            Verb::Update | Verb::Delete => known.status_fingerprint,
        };
        let controller = owners.first().filter(|owner| owner.controller);
        let owner_manager = controller.and_then(|owner| managers.of_owner_reference(&owner.uid));
        let has_nothing = status::has_nothing_to_wait_for(&now.object.kind)
            && self.rules.words(&now.object.kind).is_none()
            && difference.verb != Verb::Delete;
        // What is ignored is a cause like any other, and nobody waits for it.
        let is_over = has_nothing || (ignored && difference.scope == Scope::Spec);
        let road = PhaseTracker::begin(&now.object.kind, difference.verb, at, &now.status)
            .filter(|_| !is_over && difference.scope == Scope::Spec);
        let change = Change {
            at,
            source,
            scope: difference.scope,
            // A deletion's is the last write, as a rule; an update's time is known by its manager.
            relisted: relisted
                && match difference.verb {
                    Verb::Create => true,
                    Verb::Update => manager.as_ref().is_some_and(|manager| manager.at.is_some()),
                    Verb::Delete => false,
                },
            template: body.map_or(known.template, |body| body.content.template),
            scaled,
            revision: body.and_then(|b| b.revision.daemonset_template_generation.clone()),
            ignored,
            until: has_nothing.then_some(now.resource_version),
            convergence: if is_over {
                Convergence::over(Outcome::Converged, at)
            } else {
                Convergence::begin(at, now.at, fingerprint)
            },
            desired_children: body.map_or(known.spec.desired_children, |b| b.spec.desired_children),
            details: Some(Box::new(PendingReport {
                disruption: status::disruption(&now.status),
                road,
                context_since: known.contexts.since,
                context_is_new: known.contexts.since_version == now.resource_version,
                fields,
                values,
                missed: difference.missed,
                rewound: difference.rewound,
                manager,
                owner_manager: owner_manager.map(|manager| manager.name),
                owners,
                context,
                ..PendingReport::default()
            })),
            ..new_change(known, key, now.resource_version, now.at, api_at)
        };
        self.push_change(uid, change);
    }

    /// A disappearance is a `delete` that is already over: the normal case of a background delete
    /// without finalizers, and of what is absent after a relist.
    pub(crate) fn disappeared(
        &mut self,
        uid: &Uid,
        resource_version: u64,
        at: Timestamp,
        relisted: bool,
    ) {
        let context = self.current_context(uid);
        let Some(known) = self.objects.get(uid) else { return };
        let ignored = known.is_off || self.is_off_in_namespace(known);
        let key = ChangeKey { uid: uid.clone(), epoch: known.epoch, verb: Verb::Delete, step: 0 };
        let change = Change {
            ignored,
            relisted,
            convergence: Convergence::over(Outcome::Deleted, at),
            details: Some(Box::new(PendingReport {
                disruption: known.disruption.clone(),
                owners: known.owners().cloned().collect(),
                context_since: known.contexts.since,
                context,
                ..PendingReport::default()
            })),
            ..new_change(known, key, resource_version, at, at.whole_second())
        };
        self.push_change(uid, change);
    }

    /// Whether configuration, or an annotation, says that nobody wants to hear of a change.
    fn is_ignored(
        &self,
        uid: &Uid,
        body: Option<&Body>,
        difference: &ObjectDiff,
        manager: Option<&Manager>,
    ) -> bool {
        let Some(known) = self.objects.get(uid) else { return false };
        let is_off = known.is_off || body.is_some_and(|body| body.is_off);
        // Paths are known only as far as leaves were kept.
        let all_known = body.is_some_and(|body| body.content.leaves.len() < MAX_LEAVES);
        is_off
            || self.is_off_in_namespace(known)
            || (difference.scope == Scope::Metadata && self.rules.ignores_metadata)
            || self.rules.ignore(&known.object.kind).is_some_and(|ignore| {
                ignore.is_by(manager)
                    || (difference.verb == Verb::Update
                        && body.filter(|_| all_known).is_some_and(|body| {
                            detect::changes_only(&known.leaves, body, |path| ignore.covers(path))
                        }))
            })
    }

    fn is_off_in_namespace(&self, known: &TrackedObject) -> bool {
        self.namespace_of(known).is_some_and(|namespace| namespace.is_off)
    }

    /// When a change was made and by whom, as well as can be known.
    pub(crate) fn time_of(
        &self,
        uid: &Uid,
        now: &Observation,
        difference: &ObjectDiff,
        managers: &Managers,
    ) -> (Timestamp, TimeSource, Option<Manager>) {
        let body = now.body.as_deref();
        let (api, source, manager) = match difference.verb {
            Verb::Create => {
                let created = body.and_then(|body| body.created);
                (created, TimeSource::CreationTimestamp, managers.of_creation())
            }
            Verb::Delete => {
                let asked = body.and_then(|body| body.deletion).map(Deletion::asked);
                (asked, TimeSource::DeletionTimestamp, None)
            }
            Verb::Update => {
                let manager = match difference.scope {
                    Scope::Spec => body.and_then(|body| {
                        let fields = values_of(&difference.fields, &body.content);
                        managers.of_any(&fields, &body.content)
                    }),
                    Scope::Metadata => body.and_then(|body| {
                        let moved = body.carrier.as_ref().filter(|_| self.carrier_moved(uid, body));
                        moved
                            .and_then(|carrier| managers.of_annotation(&carrier.key))
                            .or_else(|| managers.of_any(&difference.fields, &body.content))
                    }),
                };
                (manager.as_ref().and_then(|m| m.at), TimeSource::ManagedFields, manager)
            }
        };
        let at = refine(api, now.at);
        let source = if at == now.at { TimeSource::Received } else { source };
        (at, source, manager)
    }

    pub(crate) fn carrier_moved(&self, uid: &Uid, body: &Body) -> bool {
        let before = self.objects.get(uid).and_then(|known| known.contexts.written);
        before != body.carrier.as_ref().map(value_of)
    }

    pub(crate) fn note_context(&mut self, uid: &Uid, now: &Observation, body: &Body) {
        self.note_context_at(uid, body, now.at.whole_second(), now.resource_version);
    }

    /// The annotation may have moved, with a change or without one.
    pub(crate) fn note_context_at(
        &mut self,
        uid: &Uid,
        body: &Body,
        api_at: Timestamp,
        version: u64,
    ) {
        let moved = self.carrier_moved(uid, body);
        let Some(known) = self.objects.get_mut(uid) else { return };
        for template in &body.template_carriers {
            known.contexts.note_seen(hash_of(template));
        }
        if !moved {
            // The same value; what stands beside it may have been written after it.
            if let Some(carrier) = &body.carrier
                && let Some((_, context)) = &mut known.contexts.current
                && let Ok(renewed) = TraceContext::parse(carrier)
            {
                *context = renewed;
            }
            return;
        }
        known.contexts.since = Some(api_at);
        known.contexts.since_version = version;
        known.contexts.current = None;
        known.contexts.written = body.carrier.as_ref().map(value_of);
        let Some(carrier) = &body.carrier else { return };
        let parsed = TraceContext::parse(carrier);
        self.out.notes.push(TraceMetric::Extracted {
            kind: known.object.kind.clone(),
            valid: parsed.is_ok(),
        });
        if let Ok(context) = parsed {
            let value = value_of(carrier);
            known.contexts.note_seen(value);
            known.contexts.current = Some((value, context));
        }
    }

    /// Takes a change in: what was open is overtaken, the cause is to be decided.
    pub(crate) fn push_change(&mut self, uid: &Uid, mut change: Change) {
        let Some(known) = self.objects.get_mut(uid) else { return };
        let mut overtaken = Vec::new();
        if change.scope == Scope::Spec {
            known.target = change.generation.or(known.target);
            for older in known.changes.iter_mut().filter(|_| !change.ignored) {
                if older.convergence.overtake(change.at) {
                    overtaken.push(older.key.clone());
                }
            }
            change.value = known.contexts.current.as_ref().map(|(value, _)| *value);
        } else {
            known.target = change.generation.or(known.target);
            let joins = known
                .changes
                .iter()
                .any(|open| open.scope == Scope::Spec && open.convergence.is_waiting());
            if joins {
                if let Some(details) = change.details.as_mut() {
                    details.joins = true;
                }
            } else {
                // It opens nothing, so nothing supersedes it; what was Current had converged.
                change.convergence = Convergence::over(Outcome::Converged, change.at);
                for older in &mut known.changes {
                    if older.convergence.is_held() && older.convergence.overtake(change.at) {
                        overtaken.push(older.key.clone());
                    }
                }
            }
        }
        // The newest of the overtaken that was not Current is what this one supersedes.
        let superseded = known.changes.iter().rev().find(|older| {
            older.scope == Scope::Spec
                && overtaken.contains(&older.key)
                && older.convergence.ended().is_some_and(|e| e.outcome == Outcome::Superseded)
        });
        let superseded = superseded.map(|older| older.key.clone());
        let key = change.key.clone();
        let resource_version = change.resource_version;
        let watch = known.watch;
        if let Some(details) = change.details.as_mut() {
            details.supersedes = superseded;
        }
        prune(known, change.received);
        known.changes.push(change);
        self.claim_remarks(&key);
        if let Some(watch) = self.watches.get_mut(&watch) {
            watch.sequence += 1;
            watch.undecided.insert((resource_version, watch.sequence), key);
        }
        for key in overtaken {
            self.ended(&key);
        }
    }
}

fn value_of(carrier: &Carrier) -> ContextValue {
    hash_of(&carrier.traceparent)
}

fn hash_of(text: &str) -> ContextValue {
    xxhash_rust::xxh3::xxh3_64(text.as_bytes())
}

/// Those that are still there: nobody owns what was removed, and nobody is guessed.
fn values_of(fields: &[Box<str>], content: &Content) -> Vec<Box<str>> {
    let is_value =
        |field: &str| content.leaves.iter().any(|leaf| *leaf.path == *field && !leaf.is_keys);
    fields.iter().filter(|field| is_value(field)).cloned().collect()
}

/// What makes the change itself and no other.
fn key_of(known: &TrackedObject, now: &Observation, difference: &ObjectDiff) -> ChangeKey {
    let verb = difference.verb;
    let step = match (verb, detect::generation_of(now)) {
        (Verb::Create | Verb::Delete, _) => 0,
        // No generation is that large.
        (Verb::Update, Some(_)) if difference.by_version => now.resource_version | 1 << 63,
        (Verb::Update, Some(generation)) => u64::try_from(generation).unwrap_or(0),
        (Verb::Update, None) => now.resource_version,
    };
    ChangeKey { uid: known.object.uid.clone(), epoch: known.epoch, verb, step }
}

/// A change as everything that is known of its object makes it.
fn new_change(
    known: &TrackedObject,
    key: ChangeKey,
    resource_version: u64,
    received: Timestamp,
    api_at: Timestamp,
) -> Change {
    Change {
        key,
        resource_version,
        scope: Scope::Spec,
        service: known.service.clone(),
        generation: match kind::change_detection(&known.object.kind) {
            kind::ChangeDetection::Generation => known.generation,
            kind::ChangeDetection::Digest => None,
        },
        at: received,
        source: TimeSource::Received,
        api_at,
        received,
        relisted: false,
        ignored: false,
        template: known.template,
        value: known.contexts.current.as_ref().map(|(value, _)| *value),
        desired_children: known.spec.desired_children,
        scaled: ReplicaChange::Unchanged,
        until: None,
        last_caused: api_at,
        caused: 0,
        revision: None,
        decided: None,
        convergence: Convergence::begin(received, received, known.status_fingerprint),
        details: None,
    }
}
