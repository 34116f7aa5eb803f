//! The watches: how far each has delivered, whether it is connected, and its undecided changes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::trace::model::{
    id::ChangeKey,
    object::GroupKind,
    observation::{Filter, WatchId, WatchScope},
    time::Timestamp,
};

/// Orders the undecided changes of one watch: by resourceVersion, then by arrival.
pub(crate) type UndecidedKey = (u64, u64);

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Watch {
    pub(crate) scope: WatchScope,
    pub(crate) opened: Timestamp,
    /// Everything up to this resourceVersion was delivered.
    pub(crate) delivered: u64,
    /// The time of its last event.
    pub(crate) last_event: Timestamp,
    /// Number of the list that is being read, or will be next; from 1. A list that breaks off does
    /// not count.
    pub(crate) list: u32,
    /// A list was complete.
    pub(crate) has_listed: bool,
    /// An object of the watch had a status. Not kept over a restart.
    #[serde(skip)]
    has_seen_status: bool,
    /// Not kept over a restart.
    #[serde(skip, default = "WatchState::unknown")]
    pub(crate) state: WatchState,
    /// Changes whose cause is not decided.
    undecided: BTreeMap<UndecidedKey, ChangeKey>,
    arrivals: u64,
}

/// Whether the absence of events means anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WatchState {
    /// Listing or disconnected since then.
    Disconnected {
        since: Timestamp,
    },
    /// Connected again; more of a backlog may follow its last event.
    CatchingUp {
        last_event: Timestamp,
    },
    Live {
        since: Timestamp,
    },
}

impl WatchState {
    fn unknown() -> Self {
        Self::Disconnected { since: Timestamp::default() }
    }

    /// When it began, or last had an event while it catches up.
    pub(crate) fn since(self) -> Timestamp {
        match self {
            Self::Disconnected { since }
            | Self::Live { since }
            | Self::CatchingUp { last_event: since } => since,
        }
    }
}

impl Watch {
    fn new(scope: WatchScope, at: Timestamp) -> Self {
        Self {
            scope,
            opened: at,
            delivered: 0,
            last_event: at,
            list: 1,
            has_listed: false,
            has_seen_status: false,
            state: WatchState::Disconnected { since: at },
            undecided: BTreeMap::new(),
            arrivals: 0,
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        matches!(self.state, WatchState::Live { .. })
    }

    pub(crate) fn is_disconnected(&self) -> bool {
        matches!(self.state, WatchState::Disconnected { .. })
    }

    pub(crate) fn first_undecided(&self) -> Option<(&UndecidedKey, &ChangeKey)> {
        self.undecided.first_key_value()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Watches(BTreeMap<WatchId, Watch>);

impl Watches {
    pub(crate) fn get(&self, id: WatchId) -> Option<&Watch> {
        self.0.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: WatchId) -> Option<&mut Watch> {
        self.0.get_mut(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (WatchId, &Watch)> {
        self.0.iter().map(|(id, watch)| (*id, watch))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Watch> {
        self.0.values()
    }

    /// The changes whose cause is not decided.
    pub(crate) fn undecided(&self) -> impl Iterator<Item = &ChangeKey> {
        self.0.values().flat_map(|watch| watch.undecided.values())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Opens a watch. One with the same scope resumes, whatever it has delivered stays delivered.
    pub(crate) fn open(&mut self, id: WatchId, scope: WatchScope, at: Timestamp) {
        match self.0.get_mut(&id).filter(|watch| watch.scope.has_objects_of(&scope)) {
            Some(watch) => {
                watch.scope = scope;
                watch.state = WatchState::Disconnected { since: at };
            }
            None => drop(self.0.insert(id, Watch::new(scope, at))),
        }
    }

    pub(crate) fn record_status(&mut self, id: WatchId) {
        if let Some(watch) = self.0.get_mut(&id) {
            watch.has_seen_status = true;
        }
    }

    /// Whether the objects of a watch hold only data: their kind has no status subresource, and none
    /// of them has had a status.
    pub(crate) fn is_data_only(&self, id: WatchId) -> bool {
        self.get(id).is_some_and(|watch| !watch.scope.has_status && !watch.has_seen_status)
    }

    pub(crate) fn restore(&mut self, id: WatchId, watch: Watch) {
        self.0.insert(id, watch);
    }

    pub(crate) fn close(&mut self, id: WatchId) {
        self.0.remove(&id);
    }

    pub(crate) fn record_event(&mut self, id: WatchId, at: Timestamp, resource_version: u64) {
        let Some(watch) = self.0.get_mut(&id) else { return };
        watch.delivered = watch.delivered.max(resource_version);
        watch.last_event = at;
        if let WatchState::CatchingUp { last_event } = &mut watch.state {
            *last_event = at;
        }
    }

    /// A list starts. Items of an earlier list that broke off may be deleted by now: only items of
    /// this one count.
    pub(crate) fn begin_list(&mut self, id: WatchId, at: Timestamp) {
        if let Some(watch) = self.0.get_mut(&id) {
            watch.list += 1;
            watch.state = WatchState::Disconnected { since: at };
        }
    }

    /// Until its list is complete, a watch delivers nothing newer.
    pub(crate) fn continue_list(&mut self, id: WatchId, at: Timestamp) {
        if let Some(watch) = self.0.get_mut(&id)
            && !watch.is_disconnected()
        {
            watch.state = WatchState::Disconnected { since: at };
        }
    }

    /// Returns the number of the completed list.
    pub(crate) fn complete_list(
        &mut self,
        id: WatchId,
        at: Timestamp,
        resource_version: u64,
    ) -> Option<u32> {
        let watch = self.0.get_mut(&id)?;
        // Lower than before where the store was restored to an earlier state.
        watch.delivered = resource_version;
        watch.has_listed = true;
        watch.state = WatchState::Live { since: at };
        let list = watch.list;
        watch.list += 1;
        Some(list)
    }

    pub(crate) fn set_state(&mut self, id: WatchId, state: WatchState) {
        if let Some(watch) = self.0.get_mut(&id) {
            watch.state = state;
        }
    }

    /// The next events are current, not part of a backlog.
    pub(crate) fn finish_catching_up(&mut self, id: WatchId, at: Timestamp) {
        if let Some(watch) = self.0.get_mut(&id)
            && matches!(watch.state, WatchState::CatchingUp { .. })
        {
            watch.state = WatchState::Live { since: at };
        }
    }

    /// A backlog ends where no event followed for the given time.
    pub(crate) fn finish_quiet_backlogs(&mut self, now: Timestamp, quiet: std::time::Duration) {
        for watch in self.0.values_mut() {
            if let WatchState::CatchingUp { last_event } = watch.state
                && last_event.plus(quiet) <= now
            {
                watch.state = WatchState::Live { since: last_event };
            }
        }
    }

    pub(crate) fn disconnect_all(&mut self, at: Timestamp) {
        for watch in self.0.values_mut() {
            watch.state = WatchState::Disconnected { since: at };
        }
    }

    pub(crate) fn are_all_live(&self) -> bool {
        self.0.values().all(Watch::is_live)
    }

    pub(crate) fn are_all_disconnected(&self) -> bool {
        self.0.values().all(Watch::is_disconnected)
    }

    /// Whether a watch of this kind may leave objects out.
    pub(crate) fn may_filter(&self, kind: &GroupKind) -> bool {
        let scopes = self.0.values().map(|watch| &watch.scope);
        scopes.filter(|scope| scope.kind == *kind).any(|scope| scope.filter != Filter::Everything)
    }

    pub(crate) fn queue(&mut self, id: WatchId, resource_version: u64, key: ChangeKey) {
        if let Some(watch) = self.0.get_mut(&id) {
            watch.arrivals += 1;
            watch.undecided.insert((resource_version, watch.arrivals), key);
        }
    }

    pub(crate) fn unqueue(&mut self, id: WatchId, key: UndecidedKey) {
        if let Some(watch) = self.0.get_mut(&id) {
            watch.undecided.remove(&key);
        }
    }

    pub(crate) fn with_undecided(&self) -> Vec<WatchId> {
        let waiting = self.iter().filter(|(_, watch)| watch.first_undecided().is_some());
        waiting.map(|(id, _)| id).collect()
    }
}
