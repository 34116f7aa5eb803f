//! The one door of the trace: watch events and time come in, spans and counts go out.
//!
//! An event passes through these files: `intake` compares it with the
//! tracked object, `changes` turns a difference into a change, `decide` finds its cause and place,
//! `follow` follows its convergence, and `emit` reports it.

mod changes;
pub mod checkpoint;
mod contexts;
mod decide;
mod emit;
mod episodes;
mod follow;
mod intake;
mod open_convergences;
mod own_writes;

use std::collections::{HashMap, HashSet};

use self::emit::Emitter;
use crate::trace::{
    cause::wait::Waits,
    model::{
        id::Ids,
        kind,
        object::{GroupKind, Uid},
        observation::{WatchEvent, WatchId, WatchScope},
        span::TraceId,
        time::Timestamp,
    },
    rules::Rules,
    spans::output::Output,
    state::{State, checkpoint_writer::CheckpointWriter, watches::WatchState},
};

/// The state of the trace. Everything that happens enters through [`Tracer::process`] and
/// [`Tracer::expire`]; everything that follows is returned.
#[derive(Debug)]
pub struct Tracer {
    rules: Rules,
    ids: Ids,
    state: State,
    /// Since when the watches were opened, or an earlier run was active: older objects are not new.
    /// `None` before the first watch.
    began: Option<Timestamp>,
    /// `None`: no checkpoint is written.
    checkpoint: Option<CheckpointWriter>,
    out: Output,
}

impl Tracer {
    /// `cluster` is the UID of the cluster, empty where it is not known.
    pub fn new(rules: Rules, cluster: &str) -> Self {
        Self {
            ids: Ids { cluster: cluster.into(), layout: rules.layout },
            rules,
            state: State::default(),
            began: None,
            checkpoint: None,
            out: Output::default(),
        }
    }

    /// Opens a watch. Its objects are unknown until its first list is complete, unless it resumes
    /// where an earlier run stopped. A watch of Kubernetes Events has no objects.
    pub fn open(&mut self, id: WatchId, scope: WatchScope, at: Timestamp) {
        if kind::is_event(&scope.kind) {
            return;
        }
        self.began.get_or_insert(at);
        self.state.watches.open(id, scope, at);
        self.state.clock.update(&self.state.watches, at);
    }

    /// Opens a watch as if it had completed an empty list: every object in it is new, and its next
    /// list is a relist. Recordings can start with events.
    pub fn open_empty(&mut self, id: WatchId, scope: WatchScope, at: Timestamp) {
        self.open(id, scope, at);
        if let Some(watch) = self.state.watches.get_mut(id) {
            watch.opened = Timestamp::default();
            watch.has_listed = true;
        }
        self.set_watch_state(id, WatchState::Live { since: at });
    }

    /// Closes a watch whose kind is no longer served. Its objects are forgotten, unless another watch
    /// covers them.
    pub fn close(&mut self, id: WatchId, now: Timestamp) -> Output {
        self.state.watches.close(id);
        self.state.clock.update(&self.state.watches, now);
        let uids: Vec<Uid> =
            self.state.objects.of_watch(id).map(|object| object.uid().clone()).collect();
        for uid in uids {
            self.hand_over_or_forget(&uid);
        }
        self.decide(now);
        std::mem::take(&mut self.out)
    }

    /// Processes an event of a watch. Deadlines before it pass first.
    pub fn process(&mut self, id: WatchId, event: WatchEvent) -> Output {
        self.advance_to(event.at());
        let at = self.take_in(id, event);
        self.decide(at);
        std::mem::take(&mut self.out)
    }

    /// When [`Self::expire`] has something to do next.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let State { objects, watches, clock, .. } = &self.state;
        let quiet = self.rules.owner_wait;
        let timer = objects.next_timer().map(|at| clock.earliest_deadline(at, watches, quiet));
        let waits = Waits { state: &self.state, rules: &self.rules };
        let undecided = watches.values().filter_map(|watch| watch.first_undecided());
        undecided.filter_map(|(_, key)| waits.ends_at(key)).chain(timer).min()
    }

    /// Time has advanced to `now`.
    pub fn expire(&mut self, now: Timestamp) -> Output {
        self.advance_to(now);
        std::mem::take(&mut self.out)
    }

    fn advance_to(&mut self, now: Timestamp) {
        self.decide(now);
        if self.state.clock.is_paused(&self.state.watches, now) {
            return;
        }
        while let Some((at, uid)) = self.state.objects.pop_timer(now) {
            self.fire_timer(&uid, at);
        }
    }

    /// No change is open or undecided: no more spans follow from the events so far.
    pub fn is_settled(&self) -> bool {
        let mut watches = self.state.watches.values();
        watches.all(|watch| watch.first_undecided().is_none())
            && self.state.objects.open_changes().next().is_none()
    }

    /// The traces to which spans will be added: those with an open change, those with a deletion that
    /// the garbage collector still follows, and those that a change whose cause is not decided can
    /// join, because a change of its owner is in them.
    pub fn open_traces(&self) -> HashSet<TraceId> {
        let objects = &self.state.objects;
        let undecided = self.state.watches.undecided().filter_map(|key| objects.change(key));
        let owners = undecided.flat_map(|(_, change)| change.owners());
        let owners = owners.filter_map(|owner| objects.get(&owner.uid));
        let open = objects.open_changes().map(|(_, change)| change);
        open.chain(owners.flat_map(|owner| &owner.changes))
            .chain(objects.deletions_with_dependents())
            .filter_map(|change| Some(change.decision()?.trace_id))
            .collect()
    }

    /// Every watch has completed its first list.
    pub fn has_listed(&self) -> bool {
        let watches = &self.state.watches;
        !watches.is_empty() && watches.values().all(|watch| watch.has_listed)
    }

    /// The number of existing objects by kind.
    pub fn tracked_objects(&self) -> &HashMap<GroupKind, i64> {
        self.state.objects.counts()
    }

    fn set_watch_state(&mut self, id: WatchId, state: WatchState) {
        self.state.watches.set_state(id, state);
        self.state.clock.update(&self.state.watches, state.since());
    }

    fn emitter(&mut self) -> Emitter<'_> {
        Emitter { state: &mut self.state, rules: &self.rules, ids: &self.ids, out: &mut self.out }
    }
}
