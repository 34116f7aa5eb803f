//! Takes in watch events: observations, lists, deletions, Kubernetes Events.

use std::time::Duration;

use crate::trace::{
    model::{
        field_manager::last_write,
        id::{ChangeKey, Verb},
        kind::{self, ChangeDetection},
        kubernetes_event::KubernetesEvent,
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
        unclaimed_events,
        watches::{Watch, WatchState},
    },
    tracer::Tracer,
};

/// The list number of an object that was last part of an event; lists are numbered from 1.
const NO_LIST: u32 = 0;
/// An object this much older than the opening of its watch existed before: clocks differ a little.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

impl Tracer {
    /// Returns the time of the event.
    pub(super) fn take_in(&mut self, id: WatchId, event: WatchEvent) -> Timestamp {
        let at = event.at();
        match event {
            WatchEvent::Applied(mut observation) => {
                self.state.watches.record_event(id, at, observation.resource_version);
                self.date(id, &mut observation);
                self.apply(id, &observation, false);
            }
            WatchEvent::ListStarted { at } => {
                self.state.watches.begin_list(id, at);
                self.state.clock.update(&self.state.watches, at);
            }
            WatchEvent::ListItem(mut observation) => {
                self.state.watches.continue_list(id, at);
                self.state.clock.update(&self.state.watches, at);
                self.date(id, &mut observation);
                self.apply(id, &observation, true);
            }
            WatchEvent::Deleted(mut observation) => {
                self.state.watches.record_event(id, at, observation.resource_version);
                self.date(id, &mut observation);
                self.delete(id, &observation);
            }
            WatchEvent::LeftSelector { at, uid, resource_version } => {
                self.left_selector(id, &uid, at);
                self.state.watches.record_event(id, at, resource_version);
            }
            WatchEvent::KubernetesEvent(event) => self.record_kubernetes_event(event),
            WatchEvent::ListCompleted { at, resource_version } => {
                self.complete_list(id, at, resource_version);
                self.state.watches.record_event(id, at, resource_version);
            }
            WatchEvent::Bookmark { at, resource_version } => {
                self.state.watches.finish_catching_up(id, at);
                self.state.watches.record_event(id, at, resource_version);
            }
            WatchEvent::Interrupted { at } => {
                self.set_watch_state(id, WatchState::Disconnected { since: at });
            }
            WatchEvent::Resumed { at } => {
                self.set_watch_state(id, WatchState::CatchingUp { last_event: at });
            }
        }
        at
    }

    /// Events of a backlog count as received when they were written, as far as that is known.
    /// Deadlines of the object that passed before are processed first.
    fn date(&mut self, id: WatchId, observation: &mut Observation) {
        let is_live = self.state.watches.get(id).is_none_or(Watch::is_live);
        if self.state.clock.is_running() || is_live || observation.written.is_none() {
            return;
        }
        let Some(at) = self.state.clock.written_at(observation) else { return };
        // The API server's clock may be ahead of ours.
        let earliest = at.minus(SECOND).min(observation.at);
        let at = at.min(observation.at);
        let uid = &observation.object.uid;
        while let Some(timer) = self.state.objects.take_timer(uid, earliest) {
            self.fire_timer(uid, timer);
        }
        if at == observation.at {
            self.state.watches.finish_catching_up(id, at);
        } else {
            observation.at = at;
            if let Some(watch) = self.state.watches.get_mut(id) {
                watch.last_event = at;
            }
        }
    }

    fn apply(&mut self, id: WatchId, observation: &Observation, in_list: bool) {
        let Some(watch) = self.state.watches.get(id) else { return };
        let list = if in_list { watch.list } else { NO_LIST };
        let uid = &observation.object.uid;
        let Some(object) = self.state.objects.get_mut(uid) else {
            self.insert_new(id, list, observation, in_list);
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
            self.settle_own_write_by_status(uid, body);
        }
        self.state.objects.set_gone(uid, None);
        if let Detected::Changed(ObjectDiff { rewound: true, .. }) = detected
            && let Some(watch) = self.state.watches.get_mut(id)
        {
            // The store was restored: the watch delivers again what it delivered before.
            watch.delivered = version;
        }
        match detected {
            Detected::Changed(difference) => {
                self.add_change(observation, &difference, in_list);
            }
            Detected::OtherContent | Detected::Nothing => {
                if detected == Detected::OtherContent {
                    self.out.metrics.push(TraceMetric::ContentWithoutGeneration);
                }
                if let Some(body) = observation.body.as_deref() {
                    self.record_context(uid, body, observation.at.whole_second(), version);
                    self.link_status_context(uid, body);
                }
            }
        }
        if let Some(object) = self.state.objects.get_mut(uid) {
            object.resource_version = version;
            object.generation = observation.generation.or(object.generation);
        }
        if let Some(body) = observation.body.as_deref() {
            self.state.objects.read_body(uid, body);
        }
        self.observe_status(observation);
        self.reschedule(uid);
    }

    fn insert_new(&mut self, id: WatchId, list: u32, observation: &Observation, in_list: bool) {
        // A status alone does not identify an object.
        let Some(body) = observation.body.as_deref() else { return };
        let uid = &observation.object.uid;
        let existed = self.existed_before(id, observation, body, in_list);
        let has_listed = self.state.watches.get(id).is_some_and(|watch| watch.has_listed);
        self.state.objects.insert(Box::new(TrackedObject::new(id, list, observation, body)));
        if existed {
            self.record_existing(observation, body);
        } else {
            let missed = match kind::change_detection(&observation.object.kind) {
                // Created and changed before its first observation.
                ChangeDetection::Generation if body.deletion.is_none() => {
                    observation.generation.map_or(0, |generation| generation - 1).max(0)
                }
                ChangeDetection::Generation | ChangeDetection::Digest => 0,
            };
            let created = ObjectDiff { missed, ..ObjectDiff::new(Verb::Create) };
            self.add_change(observation, &created, in_list && has_listed);
            if body.deletion.is_some() {
                self.add_change(observation, &ObjectDiff::new(Verb::Delete), false);
            }
            self.observe_status(observation);
        }
        self.reschedule(uid);
    }

    /// Whether an object that is observed for the first time is older than its observation: it was in
    /// the first list, or has entered the selection of its watch.
    fn existed_before(
        &self,
        id: WatchId,
        observation: &Observation,
        body: &Body,
        in_list: bool,
    ) -> bool {
        let Some(watch) = self.state.watches.get(id) else { return false };
        let is_older_than = |time: Timestamp| {
            body.created.is_some_and(|created| created.plus(CLOCK_TOLERANCE) < time)
        };
        if in_list && !watch.has_listed {
            // A kind that was installed later can have objects that are new.
            let is_new = body
                .created
                .zip(self.began)
                .is_some_and(|(created, began)| created > began.whole_second());
            return !is_new && !self.rules.report_existing;
        }
        if !self.state.watches.may_filter(&watch.scope.kind) {
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
    fn record_existing(&mut self, observation: &Observation, body: &Body) {
        let uid = &observation.object.uid;
        let api_at = observation.at.whole_second();
        self.record_context(uid, body, api_at, observation.resource_version);
        self.observe_status(observation);
        let Some(object) = self.state.objects.get_mut(uid) else { return };
        object.began_current = object.was_current;
        if let Some(value) = object.context_value() {
            let contexts = object.contexts_mut();
            let is_full = contexts.record_used(value);
            contexts.last = Some(value);
            self.out.count_bound(Bound::Contexts, is_full);
        }
    }

    fn delete(&mut self, id: WatchId, observation: &Observation) {
        let uid = &observation.object.uid;
        if !self.state.objects.contains(uid) {
            let body = observation.body.as_deref();
            let Some(body) = body.filter(|_| self.state.watches.get(id).is_some()) else { return };
            let mut object = Box::new(TrackedObject::new(id, NO_LIST, observation, body));
            object.read_status(observation);
            self.state.objects.insert(object);
        }
        self.mark_deleted(uid, observation.at, observation.resource_version, false);
    }

    /// The object exists outside the selectors of the watch. Its later states are unknown, and so are
    /// the outcomes of its open changes.
    fn left_selector(&mut self, id: WatchId, uid: &Uid, at: Timestamp) {
        let Some(object) = self.state.objects.get_mut(uid).filter(|object| object.watch == id)
        else {
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
            self.decide_change(&key);
            self.emitter().close_convergence(&key);
        }
        self.hand_over_or_forget(uid);
    }

    /// An object that another watch covers stays tracked.
    pub(super) fn hand_over_or_forget(&mut self, uid: &Uid) {
        let Some(object) = self.state.objects.get(uid) else { return };
        let watch = object.watch;
        let covers = |(id, other): &(WatchId, &Watch)| {
            let scope = &other.scope;
            *id != watch
                && scope.kind == *object.kind()
                && scope.filter == Filter::Everything
                && (scope.namespace.is_none() || scope.namespace.as_ref() == object.namespace())
        };
        let other = self.state.watches.iter().find(covers).map(|(id, _)| id);
        match (other, self.state.objects.get_mut(uid)) {
            (Some(other), Some(object)) => object.watch = other,
            (None, _) | (Some(_), None) => self.forget(uid),
        }
    }

    pub(super) fn forget(&mut self, uid: &Uid) {
        self.state.objects.forget(uid);
        self.state.losses.0.remove(uid);
    }

    /// A list is complete: objects of its watch that are not in it were deleted.
    fn complete_list(&mut self, id: WatchId, at: Timestamp, resource_version: u64) {
        let Some(list) = self.state.watches.complete_list(id, at, resource_version) else { return };
        self.state.clock.update(&self.state.watches, at);
        let of_watch = self.state.objects.of_watch(id);
        let absent: Vec<Uid> = of_watch
            .filter(|object| object.list != list && object.gone.is_none())
            .map(|object| object.uid().clone())
            .collect();
        for uid in absent {
            self.mark_deleted(&uid, at, resource_version, true);
        }
    }

    /// The object was deleted. `relisted`: it was absent from a list, its deletion was not observed.
    fn mark_deleted(&mut self, uid: &Uid, at: Timestamp, resource_version: u64, relisted: bool) {
        if self.state.objects.get(uid).is_none_or(|object| object.gone.is_some()) {
            return;
        }
        self.state.objects.set_gone(uid, Some(at));
        let Some(object) = self.state.objects.get_mut(uid) else { return };
        let epoch = object.epoch;
        let is_deletion =
            |change: &&mut Change| change.key.is_deletion() && change.key.epoch == epoch;
        match object.changes.iter_mut().find(is_deletion) {
            None => self.add_finished_deletion(uid, resource_version, at, relisted),
            Some(deletion) if deletion.convergence.is_lingering() => {
                let key = deletion.key.clone();
                deletion.convergence.end(Outcome::Deleted, at);
                self.emitter().emit_late(&key, at);
            }
            Some(deletion) if deletion.convergence.is_open() => {
                let key = deletion.key.clone();
                deletion.convergence.end(Outcome::Deleted, at);
                self.emitter().close_convergence(&key);
            }
            // Its deletion was reported before, and it was observed again since.
            Some(_) => {
                let overtaken: Vec<ChangeKey> = object
                    .changes
                    .iter_mut()
                    .filter_map(|change| {
                        change.convergence.overtake(at).then(|| change.key.clone())
                    })
                    .collect();
                for key in overtaken {
                    self.emitter().close_convergence(&key);
                }
            }
        }
        self.reschedule(uid);
    }

    /// Adds a Kubernetes Event to the newest open change of its object, or keeps it for a change that
    /// may still arrive.
    fn record_kubernetes_event(&mut self, event: KubernetesEvent) {
        let object = self.state.objects.get_mut(&event.about);
        let mut changes = object.into_iter().flat_map(|object| object.changes.iter_mut().rev());
        if let Some(change) = changes.find(|change| unclaimed_events::accepts(change, &event)) {
            attach_event(change, event);
        } else {
            let is_full = self.state.unclaimed_events.keep(event);
            self.out.count_bound(Bound::UnclaimedEvents, is_full);
        }
    }

    /// Adds the Events that arrived before their change.
    pub(super) fn claim_events(&mut self, key: &ChangeKey) {
        let Some(change) = self.state.objects.change_mut(key) else { return };
        for event in self.state.unclaimed_events.claim(change) {
            attach_event(change, event);
        }
    }
}

fn attach_event(change: &mut Change, event: KubernetesEvent) {
    let changed_at = change.api_at;
    if let Some(report) = change.report_mut() {
        report.phases.iter_mut().for_each(|phases| phases.record_event(&event));
        report.events.record(event, changed_at);
    }
}
