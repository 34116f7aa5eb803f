//! Creates changes: identity, time, and what they take over from their object.

use xxhash_rust::xxh3::xxh3_64;

use crate::trace::{
    model::{
        field_manager::{ContentWrite, Manager, Managers},
        id::{ChangeKey, Verb},
        kind::{self, ChangeDetection},
        observation::{Body, Carrier, Deletion, Observation},
        time::{Timestamp, refine},
    },
    object::{
        change::{Change, ContextValue, PendingChange, Report, Scope, TimeSource},
        detect::{self, ObjectDiff},
        tracked::TrackedObject,
    },
    progress::{convergence::Convergence, evidence::Before},
};

/// The identity of a change.
pub(crate) fn key_of(
    object: &TrackedObject,
    observation: &Observation,
    difference: &ObjectDiff,
) -> ChangeKey {
    let verb = difference.verb;
    let step = match (verb, detect::generation_of(observation)) {
        (Verb::Create | Verb::Delete, _) => 0,
        // No generation is that large.
        (Verb::Update, Some(_)) if difference.by_version => observation.resource_version | 1 << 63,
        (Verb::Update, Some(generation)) => u64::try_from(generation).unwrap_or(0),
        (Verb::Update, None) | (Verb::Reconcile, _) => observation.resource_version,
    };
    ChangeKey { uid: object.uid().clone(), epoch: object.epoch, verb, step }
}

/// A change with everything that it takes from the state of its object.
pub(crate) fn new_change(
    object: &TrackedObject,
    key: ChangeKey,
    resource_version: u64,
    received: Timestamp,
    api_at: Timestamp,
    report: Report,
) -> Change {
    let convergence = Convergence::begin(received, received, before(object));
    let change = PendingChange { key, resource_version, received, api_at, convergence };
    let mut change = Change::pending(change, report);
    change.service.clone_from(&object.service);
    change.generation = match kind::change_detection(object.kind()) {
        ChangeDetection::Generation => object.generation,
        ChangeDetection::Digest => None,
    };
    change.template = object.template;
    change.value = object.context_value();
    change.desired_children = object.spec.desired_children;
    change
}

/// The status of an object before its change.
pub(crate) fn before(object: &TrackedObject) -> Before {
    Before { status: object.status_fingerprint, evidence: object.evidence }
}

/// When a change was made, by which clock, and which field manager made it.
pub(crate) fn time_and_manager(
    object: &TrackedObject,
    observation: &Observation,
    difference: &ObjectDiff,
    managers: &Managers,
    carrier_moved: bool,
) -> (Timestamp, TimeSource, Option<Manager>) {
    let body = observation.body.as_deref();
    let (api, source, manager) = match difference.verb {
        Verb::Create => {
            let created = body.and_then(|body| body.created);
            (created, TimeSource::CreationTimestamp, managers.of_creation())
        }
        Verb::Delete => {
            let requested = body.and_then(|body| body.deletion).map(Deletion::asked);
            (requested, TimeSource::DeletionTimestamp, None)
        }
        Verb::Reconcile => (None, TimeSource::Received, None),
        Verb::Update => {
            let manager = body
                .and_then(|body| manager_of_update(body, difference, managers, carrier_moved))
                .or_else(|| manager_of_removal(object, managers));
            (manager.as_ref().and_then(|m| m.at), TimeSource::ManagedFields, manager)
        }
    };
    let at = refine(api, observation.at);
    let source = if at == observation.at { TimeSource::Received } else { source };
    (at, source, manager)
}

fn manager_of_update(
    body: &Body,
    difference: &ObjectDiff,
    managers: &Managers,
    carrier_moved: bool,
) -> Option<Manager> {
    match difference.scope {
        Scope::Spec => managers.of_any(&remaining_values(&difference.fields, body), &body.content),
        Scope::Metadata => {
            let carrier = body.carrier.as_ref().filter(|_| carrier_moved);
            carrier
                .and_then(|carrier| managers.of_carrier(carrier))
                .or_else(|| managers.of_any(&difference.fields, &body.content))
        }
    }
}

/// The field manager that removed something from this state of the object.
fn manager_of_removal(object: &TrackedObject, managers: &Managers) -> Option<Manager> {
    let has_managers = object.last_write != ContentWrite::default();
    has_managers.then(|| managers.only_writer_since(object.last_write))?
}

/// The changed paths that still have a value: no field manager owns a removed one.
pub(crate) fn remaining_values(fields: &[Box<str>], body: &Body) -> Vec<Box<str>> {
    let leaves = &body.content.leaves;
    let is_value = |field: &str| leaves.iter().any(|leaf| *leaf.path == *field && !leaf.is_keys);
    fields.iter().filter(|field| is_value(field)).cloned().collect()
}

pub(crate) fn value_of(carrier: &Carrier) -> ContextValue {
    value_of_text(&carrier.traceparent)
}

pub(crate) fn value_of_text(text: &str) -> ContextValue {
    xxh3_64(text.as_bytes())
}
