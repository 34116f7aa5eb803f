//! Takes in what watches say: observations, lists, disappearances.

use std::sync::Arc;

use crate::trace::{
    model::{
        id::{ChangeKey, Verb},
        kind,
        object::Uid,
        observation::{Body, Observation, WatchId},
        time::Timestamp,
    },
    object::{
        change::Change,
        detect::{self, Detected, ObjectDiff},
        tracked::TrackedObject,
    },
    progress::convergence::Outcome,
    spans::output::TraceMetric,
    tracer::{Tracer, WatchState},
};

/// Last seen in an event; lists are numbered from 1.
const IN_NO_LIST: u32 = 0;

impl Tracer {
    pub(crate) fn heard(&mut self, id: WatchId, at: Timestamp, resource_version: u64) -> Timestamp {
        if let Some(watch) = self.watches.get_mut(&id) {
            watch.delivered = watch.delivered.max(resource_version);
            watch.heard = at;
            if let WatchState::CatchingUp { heard } = &mut watch.state {
                *heard = at;
            }
        }
        at
    }

    /// Who was in a list that broke off may be gone by now: only this one counts.
    pub(crate) fn lists(&mut self, id: WatchId, at: Timestamp) {
        if let Some(watch) = self.watches.get_mut(&id) {
            watch.list += 1;
        }
        self.connection(id, WatchState::Disconnected { since: at });
    }

    /// Until its list is complete, a watch has nothing to say about what is newer.
    pub(crate) fn reads_list(&mut self, id: WatchId, at: Timestamp) {
        if self.watches.get(&id).is_some_and(|watch| !watch.is_away()) {
            self.connection(id, WatchState::Disconnected { since: at });
        }
    }

    pub(crate) fn connection(&mut self, id: WatchId, state: WatchState) {
        if let Some(watch) = self.watches.get_mut(&id) {
            watch.state = state;
            self.listens(state.since());
        }
    }

    pub(crate) fn apply(&mut self, id: WatchId, now: &Observation, in_list: bool) {
        let Some(watch) = self.watches.get(&id) else { return };
        let is_first_list = !watch.has_listed;
        let list = if in_list { watch.list } else { IN_NO_LIST };
        let uid = now.object.uid.clone();
        let Some(known) = self.objects.get_mut(&uid) else {
            self.first_sight(id, list, now, in_list, is_first_list);
            return;
        };
        known.list = list;
        // The same object through two watches, or a list that repeats what events told.
        let is_repeat = now.resource_version == known.resource_version;
        let is_behind =
            !in_list && known.watch != id && now.resource_version < known.resource_version;
        if is_repeat || is_behind {
            return;
        }
        known.watch = id;
        known.gone = None;
        let seen = detect::detect(known, now);
        if let Detected::Changed(ObjectDiff { rewound: true, .. }) = seen
            && let Some(watch) = self.watches.get_mut(&id)
        {
            // What it delivered before is to come again.
            watch.delivered = now.resource_version;
        }
        match seen {
            Detected::Changed(difference) => self.changed(&uid, now, &difference, in_list),
            Detected::Baseline | Detected::Nothing => {
                if seen == Detected::Baseline {
                    self.out.notes.push(TraceMetric::Baseline);
                }
                if let Some(body) = now.body.as_deref() {
                    self.note_context(&uid, now, body);
                }
            }
        }
        if let Some(known) = self.objects.get_mut(&uid) {
            known.resource_version = now.resource_version;
            known.generation = now.generation.or(known.generation);
            if let Some(body) = now.body.as_deref() {
                known.read_body(body);
                known.share_names(&mut self.names);
            }
        }
        self.observe_status(&uid, now);
        self.wind(&uid);
    }

    pub(crate) fn first_sight(
        &mut self,
        id: WatchId,
        list: u32,
        now: &Observation,
        in_list: bool,
        is_first_list: bool,
    ) {
        // Without a body there is nothing to know it by; the next event has one.
        let Some(body) = now.body.as_deref() else { return };
        let uid = now.object.uid.clone();
        let mut tracked = Box::new(TrackedObject::new(id, list, now, body));
        tracked.share_names(&mut self.names);
        self.objects.insert(uid.clone(), tracked);
        if now.object.kind.is("", "Namespace") {
            self.namespaces.insert(Arc::clone(&now.object.name), uid.clone());
        }
        if is_first_list && in_list && !self.rules.report_existing {
            self.was_there_before(&uid, now, body);
        } else {
            let missed = match kind::change_detection(&now.object.kind) {
                // Created and changed before it was seen.
                kind::ChangeDetection::Generation if body.deletion.is_none() => {
                    now.generation.map_or(0, |generation| generation - 1).max(0)
                }
                kind::ChangeDetection::Generation | kind::ChangeDetection::Digest => 0,
            };
            let created = ObjectDiff { missed, ..ObjectDiff::of(Verb::Create) };
            self.changed(&uid, now, &created, in_list && !is_first_list);
            if body.deletion.is_some() {
                self.changed(&uid, now, &ObjectDiff::of(Verb::Delete), false);
            }
            self.observe_status(&uid, now);
        }
        self.wind(&uid);
    }

    /// Known, not a change; the context it has was used by something before.
    fn was_there_before(&mut self, uid: &Uid, now: &Observation, body: &Body) {
        self.note_context(uid, now, body);
        self.observe_status(uid, now);
        let Some(tracked) = self.objects.get_mut(uid) else { return };
        tracked.began_current = tracked.was_current;
        if let Some((value, _)) = tracked.contexts.current {
            tracked.contexts.note_used(value);
            tracked.contexts.last = Some(value);
        }
    }

    pub(crate) fn delete(&mut self, id: WatchId, now: &Observation) {
        let uid = now.object.uid.clone();
        if !self.objects.contains_key(&uid) {
            let Some(body) = now.body.as_deref().filter(|_| self.watches.contains_key(&id)) else {
                return;
            };
            let mut tracked = Box::new(TrackedObject::new(id, IN_NO_LIST, now, body));
            tracked.read_status(now);
            self.objects.insert(uid.clone(), tracked);
        }
        self.gone(&uid, now.at, now.resource_version, false);
    }

    /// The object lives on outside the watch's selectors: its later states are unknown, and so is how
    /// its open changes end.
    pub(crate) fn left_selector(&mut self, id: WatchId, uid: &Uid, at: Timestamp) {
        let Some(known) = self.objects.get_mut(uid).filter(|known| known.watch == id) else {
            return;
        };
        let open: Vec<ChangeKey> = known
            .changes
            .iter_mut()
            .filter(|change| change.convergence.is_open())
            .map(|change| {
                change.convergence.end(Outcome::Unknown, at);
                change.key.clone()
            })
            .collect();
        for key in open {
            self.decide_one(&key);
            self.ended(&key);
        }
        self.forget(uid);
    }

    /// The end of a list: what was known before and was not in it is gone.
    pub(crate) fn reset(&mut self, id: WatchId, at: Timestamp, resource_version: u64) {
        let Some(watch) = self.watches.get_mut(&id) else { return };
        // Less than was delivered before, where the store has gone back.
        watch.delivered = resource_version;
        watch.has_listed = true;
        watch.state = WatchState::Live { since: at };
        let list = watch.list;
        watch.list += 1;
        self.listens(at);
        let absent: Vec<Uid> = self
            .objects
            .values()
            .filter(|known| known.watch == id && known.list != list && known.gone.is_none())
            .map(|known| known.object.uid.clone())
            .collect();
        for uid in absent {
            self.gone(&uid, at, resource_version, true);
        }
    }

    /// The object is no more. `relisted`: nobody saw it go.
    pub(crate) fn gone(&mut self, uid: &Uid, at: Timestamp, resource_version: u64, relisted: bool) {
        let Some(known) = self.objects.get_mut(uid) else { return };
        if known.gone.is_some() {
            return;
        }
        known.gone = Some(at);
        let epoch = known.epoch;
        let is_deletion =
            |change: &&mut Change| change.key.verb == Verb::Delete && change.key.epoch == epoch;
        match known.changes.iter_mut().find(is_deletion) {
            None => self.disappeared(uid, resource_version, at, relisted),
            Some(deletion) if deletion.convergence.is_lingering() => {
                let key = deletion.key.clone();
                deletion.convergence.end(Outcome::Deleted, at);
                self.tell_late(&key, at);
            }
            Some(deletion) if deletion.convergence.is_open() => {
                let key = deletion.key.clone();
                deletion.convergence.end(Outcome::Deleted, at);
                self.ended(&key);
            }
            // It was told to be gone before, and was seen again since.
            Some(_) => {
                let open = known.changes.iter_mut();
                let overtaken: Vec<ChangeKey> = open
                    .filter_map(|change| {
                        change.convergence.overtake(at).then(|| change.key.clone())
                    })
                    .collect();
                for key in overtaken {
                    self.ended(&key);
                }
            }
        }
        self.wind(uid);
    }
}
