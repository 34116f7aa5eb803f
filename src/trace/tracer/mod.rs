//! The one door of the trace: watch events and time come in, spans and counts go out.
//!
//! The files hold functions over one `Trace`. An event passes through them in this order:
//! `intake` compares it with the tracked object, `changes` turns a difference into a change, `decide`
//! finds its cause and place, `follow` follows its convergence, and `emit` reports it.

mod announce;
mod changes;
pub mod checkpoint;
mod contexts;
mod decide;
mod emit;
mod episodes;
mod events;
mod follow;
mod intake;
mod links;
mod losses;
mod open_convergences;
mod own_writes;
mod timers;
mod trace;

use std::collections::{HashMap, HashSet};

use self::{
    decide::decide,
    follow::fire_timer,
    intake::{hand_over_or_forget, set_watch_state, take_in},
    trace::Trace,
};
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
    trace: Trace,
    /// `None`: no checkpoint is written.
    checkpoint: Option<CheckpointWriter>,
}

impl Tracer {
    /// `cluster` is the UID of the cluster, empty where it is not known.
    pub fn new(rules: Rules, cluster: &str) -> Self {
        let trace = Trace {
            ids: Ids { cluster: cluster.into(), layout: rules.layout },
            rules,
            state: State::default(),
            began: None,
            out: Output::default(),
        };
        Self { trace, checkpoint: None }
    }

    /// Opens a watch. Its objects are unknown until its first list is complete, unless it resumes
    /// where an earlier run stopped. A watch of Kubernetes Events has no objects.
    pub fn open(&mut self, id: WatchId, scope: WatchScope, at: Timestamp) {
        if kind::is_event(&scope.kind) {
            return;
        }
        self.trace.began.get_or_insert(at);
        self.trace.state.watches.open(id, scope, at);
        self.trace.state.clock.update(&self.trace.state.watches, at);
    }

    /// Opens a watch as if it had completed an empty list: every object in it is new, and its next
    /// list is a relist. Recordings can start with events.
    pub fn open_empty(&mut self, id: WatchId, scope: WatchScope, at: Timestamp) {
        self.open(id, scope, at);
        if let Some(watch) = self.trace.state.watches.get_mut(id) {
            watch.opened = Timestamp::default();
            watch.has_listed = true;
        }
        set_watch_state(&mut self.trace, id, WatchState::Live { since: at });
    }

    /// Closes a watch whose kind is no longer served. Its objects are forgotten, unless another watch
    /// covers them.
    pub fn close(&mut self, id: WatchId, now: Timestamp) -> Output {
        self.trace.state.watches.close(id);
        self.trace.state.clock.update(&self.trace.state.watches, now);
        let uids: Vec<Uid> =
            self.trace.state.objects.of_watch(id).map(|object| object.uid().clone()).collect();
        for uid in uids {
            hand_over_or_forget(&mut self.trace, &uid);
        }
        decide(&mut self.trace, now);
        std::mem::take(&mut self.trace.out)
    }

    /// Processes an event of a watch. Deadlines before it pass first.
    pub fn process(&mut self, id: WatchId, event: WatchEvent) -> Output {
        self.advance_to(event.at());
        let at = take_in(&mut self.trace, id, event);
        decide(&mut self.trace, at);
        std::mem::take(&mut self.trace.out)
    }

    /// When [`Self::expire`] has something to do next.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let State { objects, watches, clock, .. } = &self.trace.state;
        let quiet = self.trace.rules.owner_wait;
        let timer = objects.next_timer().map(|at| clock.earliest_deadline(at, watches, quiet));
        let waits = Waits { state: &self.trace.state, rules: &self.trace.rules };
        let undecided = watches.values().filter_map(|watch| watch.first_undecided());
        undecided.filter_map(|(_, key)| waits.ends_at(key)).chain(timer).min()
    }

    /// Time has advanced to `now`.
    pub fn expire(&mut self, now: Timestamp) -> Output {
        self.advance_to(now);
        std::mem::take(&mut self.trace.out)
    }

    fn advance_to(&mut self, now: Timestamp) {
        decide(&mut self.trace, now);
        if self.trace.state.clock.is_paused(&self.trace.state.watches, now) {
            return;
        }
        while let Some((at, uid)) = self.trace.state.objects.pop_timer(now) {
            fire_timer(&mut self.trace, &uid, at);
        }
    }

    /// No change is open or undecided: no more spans follow from the events so far.
    pub fn is_settled(&self) -> bool {
        let mut watches = self.trace.state.watches.values();
        watches.all(|watch| watch.first_undecided().is_none())
            && self.trace.state.objects.open_changes().next().is_none()
    }

    /// The traces to which spans will be added: those with an open change, those with a deletion that
    /// the garbage collector still follows, and those that a change whose cause is not decided can
    /// join, because a change of its owner is in them.
    pub fn open_traces(&self) -> HashSet<TraceId> {
        let objects = &self.trace.state.objects;
        let undecided = self.trace.state.watches.undecided().filter_map(|key| objects.change(key));
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
        let watches = &self.trace.state.watches;
        !watches.is_empty() && watches.values().all(|watch| watch.has_listed)
    }

    /// The number of existing objects by kind.
    pub fn tracked_objects(&self) -> &HashMap<GroupKind, i64> {
        self.trace.state.objects.counts()
    }
}
