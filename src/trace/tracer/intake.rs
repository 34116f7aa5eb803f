//! Takes in watch events: observations, lists, deletions, Kubernetes Events.

use std::time::Duration;

use crate::trace::{
    model::{
        field_manager::last_write,
        id::{ChangeKey, Verb},
        kind::{self, ChangeDetection},
        object::Uid,
        observation::{Body, Filter, Observation, WatchEvent, WatchId},
        time::Timestamp,
    },
    object::{
        change::Change,
        detect::{self, Detected, ObjectDiff},
        tracked::TrackedObject,
    },
    progress::outcome::Outcome,
    spans::output::{Bound, TraceMetric},
    state::{
        clock::SECOND,
        watches::{Watch, WatchState},
    },
    tracer::{
        changes::{add_change, add_finished_deletion},
        contexts::{link_status_context, record_context},
        decide::decide_change,
        emit::Emitter,
        events::record_kubernetes_event,
        follow::{fire_timer, observe_status},
        own_writes::settle_own_write_by_status,
        timers::reschedule,
        trace::Trace,
    },
};

/// The list number of an object that was last part of an event; lists are numbered from 1.
const NO_LIST: u32 = 0;
/// An object this much older than the opening of its watch existed before: clocks differ a little.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// Returns the time of the event.
pub(super) fn take_in(trace: &mut Trace, id: WatchId, event: WatchEvent) -> Timestamp {
    let at = event.at();
    match event {
        WatchEvent::Applied(mut observation) => {
            trace.state.watches.record_event(id, at, observation.resource_version);
            date(trace, id, &mut observation);
            apply(trace, id, &observation, false);
        }
        WatchEvent::ListStarted { at } => {
            trace.state.watches.begin_list(id, at);
            trace.state.clock.update(&trace.state.watches, at);
        }
        WatchEvent::ListItem(mut observation) => {
            trace.state.watches.continue_list(id, at);
            trace.state.clock.update(&trace.state.watches, at);
            date(trace, id, &mut observation);
            apply(trace, id, &observation, true);
        }
        WatchEvent::Deleted(mut observation) => {
            trace.state.watches.record_event(id, at, observation.resource_version);
            date(trace, id, &mut observation);
            delete(trace, id, &observation);
        }
        WatchEvent::LeftSelector { at, uid, resource_version } => {
            left_selector(trace, id, &uid, at);
            trace.state.watches.record_event(id, at, resource_version);
        }
        WatchEvent::KubernetesEvent(event) => record_kubernetes_event(trace, event),
        WatchEvent::ListCompleted { at, resource_version } => {
            complete_list(trace, id, at, resource_version);
            trace.state.watches.record_event(id, at, resource_version);
        }
        WatchEvent::Bookmark { at, resource_version } => {
            trace.state.watches.finish_catching_up(id, at);
            trace.state.watches.record_event(id, at, resource_version);
        }
        WatchEvent::Interrupted { at } => {
            set_watch_state(trace, id, WatchState::Disconnected { since: at });
        }
        WatchEvent::Resumed { at } => {
            set_watch_state(trace, id, WatchState::CatchingUp { last_event: at });
        }
    }
    at
}

/// Events of a backlog count as received when they were written, as far as that is known.
/// Deadlines of the object that passed before are processed first.
fn date(trace: &mut Trace, id: WatchId, observation: &mut Observation) {
    let is_live = trace.state.watches.get(id).is_none_or(Watch::is_live);
    if trace.state.clock.is_running() || is_live || observation.written.is_none() {
        return;
    }
    let Some(at) = trace.state.clock.written_at(observation) else { return };
    // The API server's clock may be ahead of ours.
    let earliest = at.minus(SECOND).min(observation.at);
    let at = at.min(observation.at);
    let uid = &observation.object.uid;
    while let Some(timer) = trace.state.objects.take_timer(uid, earliest) {
        fire_timer(trace, uid, timer);
    }
    if at == observation.at {
        trace.state.watches.finish_catching_up(id, at);
    } else {
        observation.at = at;
        if let Some(watch) = trace.state.watches.get_mut(id) {
            watch.last_event = at;
        }
    }
}

fn apply(trace: &mut Trace, id: WatchId, observation: &Observation, in_list: bool) {
    let Some(watch) = trace.state.watches.get(id) else { return };
    let list = if in_list { watch.list } else { NO_LIST };
    let uid = &observation.object.uid;
    let Some(object) = trace.state.objects.get_mut(uid) else {
        insert_new(trace, id, list, observation, in_list);
        return;
    };
    // Lists are numbered for each watch: another watch's number means nothing.
    if object.watch == id {
        object.list = list;
    }
    // The same state through two watches, or a list that repeats what events reported. An
    // unreadable resourceVersion is 0 and repeats nothing.
    let version = observation.resource_version;
    let is_repeated = version == object.resource_version && version != 0;
    let is_outdated = !in_list && object.watch != id && version < object.resource_version;
    if is_repeated || is_outdated {
        return;
    }
    object.watch = id;
    object.list = list;
    let detected = detect::detect(object, observation);
    if let Some(body) = observation.body.as_deref() {
        settle_own_write_by_status(trace, uid, body);
    }
    trace.state.objects.set_gone(uid, None);
    if let Detected::Changed(ObjectDiff { rewound: true, .. }) = detected
        && let Some(watch) = trace.state.watches.get_mut(id)
    {
        // The store was restored: the watch delivers again what it delivered before.
        watch.delivered = version;
    }
    match detected {
        Detected::Changed(difference) => {
            add_change(trace, observation, &difference, in_list);
        }
        Detected::OtherContent | Detected::Nothing => {
            if detected == Detected::OtherContent {
                trace.out.metrics.push(TraceMetric::ContentWithoutGeneration);
            }
            if let Some(body) = observation.body.as_deref() {
                record_context(trace, uid, body, observation.at.whole_second(), version);
                link_status_context(trace, uid, body);
            }
        }
    }
    if let Some(object) = trace.state.objects.get_mut(uid) {
        object.resource_version = version;
        object.generation = observation.generation.or(object.generation);
    }
    if let Some(body) = observation.body.as_deref() {
        trace.state.objects.read_body(uid, body);
    }
    observe_status(trace, observation);
    reschedule(trace, uid);
}

fn insert_new(trace: &mut Trace, id: WatchId, list: u32, observation: &Observation, in_list: bool) {
    // A status alone does not identify an object.
    let Some(body) = observation.body.as_deref() else { return };
    let uid = &observation.object.uid;
    let existed = existed_before(trace, id, observation, body, in_list);
    let has_listed = trace.state.watches.get(id).is_some_and(|watch| watch.has_listed);
    trace.state.objects.insert(Box::new(TrackedObject::new(id, list, observation, body)));
    if existed {
        record_existing(trace, observation, body);
    } else {
        let missed = match kind::change_detection(&observation.object.kind) {
            // Created and changed before its first observation.
            ChangeDetection::Generation if body.deletion.is_none() => {
                observation.generation.map_or(0, |generation| generation - 1).max(0)
            }
            ChangeDetection::Generation | ChangeDetection::Digest => 0,
        };
        let created = ObjectDiff { missed, ..ObjectDiff::new(Verb::Create) };
        add_change(trace, observation, &created, in_list && has_listed);
        if body.deletion.is_some() {
            add_change(trace, observation, &ObjectDiff::new(Verb::Delete), false);
        }
        observe_status(trace, observation);
    }
    reschedule(trace, uid);
}

/// Whether an object that is observed for the first time is older than its observation: it was in
/// the first list, or has entered the selection of its watch.
pub(super) fn set_watch_state(trace: &mut Trace, id: WatchId, state: WatchState) {
    trace.state.watches.set_state(id, state);
    trace.state.clock.update(&trace.state.watches, state.since());
}

fn existed_before(
    trace: &Trace,
    id: WatchId,
    observation: &Observation,
    body: &Body,
    in_list: bool,
) -> bool {
    let Some(watch) = trace.state.watches.get(id) else { return false };
    let is_older_than =
        |time: Timestamp| body.created.is_some_and(|created| created.plus(CLOCK_TOLERANCE) < time);
    if in_list && !watch.has_listed {
        // A kind that was installed later can have objects that are new.
        let is_new = body
            .created
            .zip(trace.began)
            .is_some_and(|(created, began)| created > began.whole_second());
        return !is_new && !trace.rules.report_existing;
    }
    if !trace.state.watches.may_filter(&watch.scope.kind) {
        return false;
    }
    // Labelling an object writes it after its creation.
    let last_write = last_write(&body.managed_fields);
    let was_written_later = last_write
        .zip(body.created)
        .is_some_and(|(write, created)| write.at > created.plus(SECOND));
    let is_known_to_enter = !in_list
        && matches!(watch.scope.filter, Filter::Selectors(_))
        && last_write.map_or_else(|| is_older_than(observation.at), |_| was_written_later);
    is_older_than(watch.opened) || is_known_to_enter
}

/// The object is tracked without a change; its context was used by something earlier.
fn record_existing(trace: &mut Trace, observation: &Observation, body: &Body) {
    let uid = &observation.object.uid;
    let api_at = observation.at.whole_second();
    record_context(trace, uid, body, api_at, observation.resource_version);
    observe_status(trace, observation);
    let Some(object) = trace.state.objects.get_mut(uid) else { return };
    object.began_current = object.was_current;
    if let Some(value) = object.context_value() {
        let contexts = object.contexts_mut();
        let is_full = contexts.record_used(value);
        contexts.last = Some(value);
        trace.out.count_bound(Bound::Contexts, is_full);
    }
}

fn delete(trace: &mut Trace, id: WatchId, observation: &Observation) {
    let uid = &observation.object.uid;
    if !trace.state.objects.contains(uid) {
        let body = observation.body.as_deref();
        let Some(body) = body.filter(|_| trace.state.watches.get(id).is_some()) else { return };
        let mut object = Box::new(TrackedObject::new(id, NO_LIST, observation, body));
        object.read_status(observation);
        trace.state.objects.insert(object);
    }
    mark_deleted(trace, uid, observation.at, observation.resource_version, false);
}

/// The object exists outside the selectors of the watch. Its later states are unknown, and so are
/// the outcomes of its open changes.
fn left_selector(trace: &mut Trace, id: WatchId, uid: &Uid, at: Timestamp) {
    let Some(object) = trace.state.objects.get_mut(uid).filter(|object| object.watch == id) else {
        return;
    };
    let open: Vec<ChangeKey> = object
        .changes
        .iter_mut()
        .filter(|change| change.convergence.is_open())
        .map(|change| {
            change.convergence.end(Outcome::Unknown, at);
            change.key.clone()
        })
        .collect();
    for key in open {
        decide_change(trace, &key);
        Emitter::of(trace).close_convergence(&key);
    }
    hand_over_or_forget(trace, uid);
}

/// An object that another watch covers stays tracked.
pub(super) fn hand_over_or_forget(trace: &mut Trace, uid: &Uid) {
    let Some(object) = trace.state.objects.get(uid) else { return };
    let watch = object.watch;
    let covers = |(id, other): &(WatchId, &Watch)| {
        let scope = &other.scope;
        *id != watch
            && scope.kind == *object.kind()
            && scope.filter == Filter::Everything
            && (scope.namespace.is_none() || scope.namespace.as_ref() == object.namespace())
    };
    let other = trace.state.watches.iter().find(covers).map(|(id, _)| id);
    match (other, trace.state.objects.get_mut(uid)) {
        (Some(other), Some(object)) => object.watch = other,
        (None, _) | (Some(_), None) => trace.state.forget(uid),
    }
}

/// A list is complete: objects of its watch that are not in it were deleted.
fn complete_list(trace: &mut Trace, id: WatchId, at: Timestamp, resource_version: u64) {
    let Some(list) = trace.state.watches.complete_list(id, at, resource_version) else { return };
    trace.state.clock.update(&trace.state.watches, at);
    let of_watch = trace.state.objects.of_watch(id);
    let absent: Vec<Uid> = of_watch
        .filter(|object| object.list != list && object.gone.is_none())
        .map(|object| object.uid().clone())
        .collect();
    for uid in absent {
        mark_deleted(trace, &uid, at, resource_version, true);
    }
}

/// The object was deleted. `relisted`: it was absent from a list, its deletion was not observed.
fn mark_deleted(
    trace: &mut Trace,
    uid: &Uid,
    at: Timestamp,
    resource_version: u64,
    relisted: bool,
) {
    if trace.state.objects.get(uid).is_none_or(|object| object.gone.is_some()) {
        return;
    }
    trace.state.objects.set_gone(uid, Some(at));
    let Some(object) = trace.state.objects.get_mut(uid) else { return };
    let epoch = object.epoch;
    let is_deletion = |change: &&mut Change| change.key.is_deletion() && change.key.epoch == epoch;
    match object.changes.iter_mut().find(is_deletion) {
        None => add_finished_deletion(trace, uid, resource_version, at, relisted),
        Some(deletion) if deletion.convergence.is_lingering() => {
            let key = deletion.key.clone();
            deletion.convergence.end(Outcome::Deleted, at);
            Emitter::of(trace).emit_late(&key, at);
        }
        Some(deletion) if deletion.convergence.is_open() => {
            let key = deletion.key.clone();
            deletion.convergence.end(Outcome::Deleted, at);
            Emitter::of(trace).close_convergence(&key);
        }
        // Its deletion was reported before, and it was observed again since.
        Some(_) => {
            let overtaken: Vec<ChangeKey> = object
                .changes
                .iter_mut()
                .filter_map(|change| change.convergence.overtake(at).then(|| change.key.clone()))
                .collect();
            for key in overtaken {
                Emitter::of(trace).close_convergence(&key);
            }
        }
    }
    reschedule(trace, uid);
}
