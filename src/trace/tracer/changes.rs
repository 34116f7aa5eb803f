//! Turns a difference into a change: its time, its field manager, and what it overtakes.

use std::cmp::Ordering;

use crate::trace::{
    cause::{ancestors::ask_for_restart, own_write},
    model::{
        content::MAX_LEAVES,
        field_manager::{Manager, Managers},
        id::{ChangeKey, Verb},
        kind,
        object::Uid,
        observation::{Body, Observation, OwnerReference},
        time::Timestamp,
    },
    object::{
        change::{Change, MarkedOwner, OwnWrite, ReplicaChange, Report, Scope},
        detect::{self, ObjectDiff},
        new_change::{before, key_of, new_change, time_and_manager},
        redact::redact,
        retention::MAX_CHANGES,
        tracked::{TrackedObject, chosen},
    },
    progress::{
        convergence::Convergence, evidence::Before, outcome::Outcome, phase_tracker::PhaseTracker,
    },
    readiness::{kstatus, status},
    spans::output::{Bound, TraceMetric},
    tracer::{
        contexts::{has_moved_carrier, record_context},
        decide::decide_change,
        emit::Emitter,
        events::claim_events,
        own_writes::{become_own_write, overtake_older, settle_own_write_by_children},
        trace::Trace,
    },
};

/// Adds the change that a difference is. Its cause is decided later.
pub(super) fn add_change(
    trace: &mut Trace,
    observation: &Observation,
    difference: &ObjectDiff,
    relisted: bool,
) {
    let uid = &observation.object.uid;
    let body = observation.body.as_deref();
    let managers = body.map(|body| Managers::parse(&body.managed_fields)).unwrap_or_default();
    let Some(object) = trace.state.objects.get(uid) else { return };
    let carrier_moved = body.is_some_and(|body| has_moved_carrier(object, body));
    let (at, source, manager) =
        time_and_manager(object, observation, difference, &managers, carrier_moved);
    let api_at = at.whole_second();
    if let Some(body) = body {
        record_context(trace, uid, body, api_at, observation.resource_version);
    }
    let ignored = is_ignored(trace, uid, body, difference, manager.as_ref());
    let own_write = detect_own_write(trace, observation, difference, &managers, manager.as_ref());
    let kind = &observation.object.kind;
    let (fields, values) = redact(difference, body, || trace.rules.redacted(kind));
    let has_all_leaves = body.is_none_or(has_all_leaves);
    trace.out.count_bound(Bound::Leaves, difference.verb == Verb::Update && !has_all_leaves);
    if difference.rewound {
        trace.out.metrics.push(TraceMetric::GenerationRollback);
    }
    if difference.missed > 0 {
        let generations = difference.missed;
        trace.out.metrics.push(TraceMetric::MissedGenerations { generations });
    }
    // A kind without anything to wait for. An ignored change is a cause, and is not followed.
    let is_converged = kstatus::has_nothing_to_wait_for(kind)
        && trace.rules.status_field(kind).is_none()
        && observation.status.verdict.is_none()
        && difference.verb != Verb::Delete;
    let is_over = is_converged || (ignored && difference.scope == Scope::Spec);
    let Some(object) = trace.state.objects.get_mut(uid) else { return };
    if difference.rewound {
        object.epoch = observation.resource_version;
    }
    if kind::service(kind).is_none()
        && let Some(status) = managers.of_status()
    {
        object.service = Some(status.name.into());
    }
    object.generation = observation.generation.or(object.generation);
    // The same write may have moved the object to another owner.
    let owners: Box<[OwnerReference]> = match body {
        Some(body) => body.controller_first().cloned().collect(),
        None => object.owners().cloned().collect(),
    };
    let before = match difference.verb {
        // The status that an object is created with was not written after the change.
        Verb::Create => Before { status: observation.status_fingerprint, evidence: 0 },
        Verb::Update | Verb::Delete | Verb::Reconcile => before(object),
    };
    let controller = owners.first().filter(|owner| owner.controller);
    let owner_manager = controller.and_then(|owner| managers.of_owner_reference(&owner.uid));
    let phases = PhaseTracker::begin(kind, difference.verb, at, &observation.status)
        .filter(|_| !is_over && difference.scope == Scope::Spec);
    let is_context_by_controller = body
        .and_then(|body| body.carrier.as_ref())
        .is_some_and(|carrier| managers.is_by_controller(carrier, controller.map(|of| &of.uid)));
    let contexts = object.contexts();
    let report = Report {
        is_context_by_controller,
        attributes: body.map_or_else(|| object.attributes.clone(), chosen),
        disruption: status::disruption(&observation.status),
        phases,
        context_since: contexts.and_then(|contexts| contexts.since),
        context_is_new: contexts
            .is_some_and(|contexts| contexts.since_version == observation.resource_version),
        fields,
        values,
        rewound: difference.rewound,
        owner_marks: marked_owners(body, &managers),
        owner_manager: owner_manager.map(|manager| manager.name),
        owners,
        context: object.context().cloned(),
        ..Report::default()
    };
    let key = key_of(object, observation, difference);
    let version = observation.resource_version;
    let mut change = new_change(object, key, version, observation.at, api_at, report);
    change.at = at;
    change.source = source;
    change.scope = difference.scope;
    change.relisted = relisted && has_own_time(difference.verb, manager.as_ref());
    change.ignored = ignored;
    change.missed = difference.missed;
    change.own_write = own_write;
    change.replica_change = replica_change(object, body, difference.verb);
    change.asks_for_restart = ask_for_restart(&difference.fields);
    change.until = is_converged.then_some(version);
    change.convergence = if is_over {
        Convergence::over(Outcome::Converged, at)
    } else {
        Convergence::begin(at, observation.at, before)
    };
    if let Some(body) = body {
        change.template = body.content.template;
        change.revision.clone_from(&body.revision.daemonset_template_generation);
        change.desired_children = body.spec.desired_children;
    }
    if let Some(report) = change.report_mut() {
        report.manager = manager;
    }
    push_change(trace, change);
}

/// Adds a deletion that is over when it is observed: as a rule a background deletion without
/// finalizers, or an object that is absent from a relist.
pub(super) fn add_finished_deletion(
    trace: &mut Trace,
    uid: &Uid,
    resource_version: u64,
    at: Timestamp,
    relisted: bool,
) {
    let Some(object) = trace.state.objects.get(uid) else { return };
    let report = Report {
        disruption: object.disruption.clone(),
        owners: object.owners().cloned().collect(),
        owner_marks: remembered_marks(object),
        context_since: object.contexts().and_then(|contexts| contexts.since),
        is_context_by_controller: object
            .contexts()
            .is_some_and(|contexts| contexts.is_by_controller),
        attributes: object.attributes.clone(),
        context: object.context().cloned(),
        ..Report::default()
    };
    let key = ChangeKey { uid: uid.clone(), epoch: object.epoch, verb: Verb::Delete, step: 0 };
    let mut change = new_change(object, key, resource_version, at, at.whole_second(), report);
    change.ignored = object.is_ignored || is_namespace_ignored(trace, object);
    change.relisted = relisted;
    change.convergence = Convergence::over(Outcome::Deleted, at);
    push_change(trace, change);
}

fn detect_own_write(
    trace: &Trace,
    observation: &Observation,
    difference: &ObjectDiff,
    managers: &Managers,
    manager: Option<&Manager>,
) -> OwnWrite {
    let Some(object) = trace.state.objects.get(&observation.object.uid) else {
        return OwnWrite::No;
    };
    let (version, at) = (observation.resource_version, observation.at.whole_second());
    let body = observation.body.as_deref();
    match own_write::joined_change(object, &trace.rules, version, at) {
        Some(_) => own_write::detect(object, difference, body, managers, manager),
        None => OwnWrite::No,
    }
}

/// Whether the configuration or an annotation excludes a change from export.
fn is_ignored(
    trace: &Trace,
    uid: &Uid,
    body: Option<&Body>,
    difference: &ObjectDiff,
    manager: Option<&Manager>,
) -> bool {
    let Some(object) = trace.state.objects.get(uid) else { return false };
    let is_annotated = object.is_ignored || body.is_some_and(|body| body.is_ignored);
    is_annotated
        || is_namespace_ignored(trace, object)
        || (difference.scope == Scope::Metadata && trace.rules.ignores_metadata)
        || trace.rules.ignore(object.kind()).is_some_and(|ignore| {
            ignore.is_by(manager)
                || (difference.verb == Verb::Update
                    && body.filter(|body| has_all_leaves(body)).is_some_and(|body| {
                        detect::changes_only(&object.leaves, body, |path| ignore.covers(path))
                    }))
        })
}

fn is_namespace_ignored(trace: &Trace, object: &TrackedObject) -> bool {
    trace.state.objects.namespace_of(object).is_some_and(|namespace| namespace.is_ignored)
}

/// Adds a change to its object: it overtakes what is open, and waits for its cause.
fn push_change(trace: &mut Trace, mut change: Change) {
    let key = change.key.clone();
    settle_own_write_by_children(trace, &key.uid);
    let Some(object) = trace.state.objects.get_mut(&key.uid) else { return };
    object.target = change.generation.or(object.target);
    let (scope, own_write) = (change.scope, change.own_write);
    let joined = match scope {
        Scope::Spec => Vec::new(),
        Scope::Metadata => join_open_change(object, &mut change),
    };
    if own_write == OwnWrite::Yes {
        become_own_write(&mut change);
    }
    let (watch, version, received) = (object.watch, change.resource_version, change.received);
    trace.state.objects.forget_old_changes(&key.uid, received);
    make_room(trace, &key.uid);
    trace.state.objects.push_change(change);
    claim_events(trace, &key);
    trace.state.watches.queue(watch, version, key.clone());
    for key in joined {
        Emitter::of(trace).close_convergence(&key);
    }
    if scope == Scope::Spec && own_write == OwnWrite::No {
        overtake_older(trace, &key);
    }
}

/// Keeps the number of an object's changes below [`MAX_CHANGES`]: where none is reported yet, the
/// oldest is decided and closed without waiting any longer, metadata changes first.
pub(super) fn make_room(trace: &mut Trace, uid: &Uid) {
    while trace.state.objects.get(uid).is_some_and(|o| o.changes.len() >= MAX_CHANGES) {
        if trace.state.objects.forget_oldest_reported(uid) {
            continue;
        }
        let object = trace.state.objects.get(uid);
        let Some(oldest) = object.and_then(oldest_to_close) else { return };
        let (key, at) = (oldest.key.clone(), oldest.received);
        let outcome = match oldest.scope {
            Scope::Metadata => Outcome::Converged,
            Scope::Spec => Outcome::Unknown,
        };
        trace.out.count_bound(Bound::Changes, true);
        decide_change(trace, &key);
        if let Some(change) = trace.state.objects.change_mut(&key)
            && change.convergence.is_open()
        {
            change.convergence.end(outcome, at);
        }
        Emitter::of(trace).close_convergence(&key);
        if !trace.state.objects.forget_oldest_reported(uid) {
            return;
        }
    }
}

/// A change of the spec is worth more than one of metadata: others follow from it.
fn oldest_to_close(object: &TrackedObject) -> Option<&Change> {
    let mut changes = object.changes.iter();
    changes.find(|change| change.scope == Scope::Metadata).or_else(|| object.changes.first())
}

/// A metadata change joins an open change of the spec. Without one it opens nothing and supersedes
/// nothing; what was Current had converged. Returns the changes that ended by it.
fn join_open_change(object: &mut TrackedObject, change: &mut Change) -> Vec<ChangeKey> {
    let joins =
        object.changes.iter().any(|open| open.is_of_spec() && open.convergence.is_waiting());
    if joins {
        if let Some(report) = change.report_mut() {
            report.joins = true;
        }
        return Vec::new();
    }
    change.convergence = Convergence::over(Outcome::Converged, change.at);
    let older = object.changes.iter_mut();
    older
        .filter(|older| older.convergence.is_held())
        .filter_map(|older| older.convergence.overtake(change.at).then(|| older.key.clone()))
        .collect()
}

/// Paths are known only as far as leaves are kept.
fn has_all_leaves(body: &Body) -> bool {
    body.content.leaves.len() < MAX_LEAVES
}

fn marked_owners(body: Option<&Body>, managers: &Managers) -> Vec<MarkedOwner> {
    let marks = body.map_or(&[][..], |body| &body.owner_marks);
    let marked = marks.iter().map(|mark| MarkedOwner {
        owner: mark.owner.clone(),
        manager: managers.of_path(&mark.path).map(|manager| manager.name),
    });
    marked.collect()
}

fn remembered_marks(object: &TrackedObject) -> Vec<MarkedOwner> {
    let owners = object.references.iter().flat_map(|references| &references.owners);
    owners.map(|owner| MarkedOwner { owner: owner.clone(), manager: None }).collect()
}

/// Whether the time of a change that a relist showed is its own: an update has one where its field
/// manager is known; a deletion's resourceVersion is that of its write as a rule.
fn has_own_time(verb: Verb, manager: Option<&Manager>) -> bool {
    match verb {
        Verb::Create => true,
        Verb::Update => manager.is_some_and(|manager| manager.at.is_some()),
        Verb::Delete | Verb::Reconcile => false,
    }
}

fn replica_change(object: &TrackedObject, body: Option<&Body>, verb: Verb) -> ReplicaChange {
    let Some(body) = body.filter(|_| verb == Verb::Update) else {
        return ReplicaChange::Unchanged;
    };
    let before = object.spec.replicas.unwrap_or(1);
    match body.spec.replicas.unwrap_or(1).cmp(&before) {
        Ordering::Less => ReplicaChange::Decreased,
        Ordering::Equal => ReplicaChange::Unchanged,
        Ordering::Greater => ReplicaChange::Increased,
    }
}
