//! Holds what is known and leads every notice through: detect, decide, converge, tell.

mod changes;
pub mod checkpoint;
mod decide;
mod decided;
mod emit;
mod follow;
mod intake;
pub mod kubernetes_event;
pub mod slowest;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::trace::{
    model::{
        id::{ChangeKey, Ids, Verb},
        interner::Interner,
        kind,
        object::{GroupKind, Uid},
        observation::{WatchEvent, WatchId, WatchScope},
        span::SpanId,
        time::Timestamp,
    },
    object::{
        change::{Change, Scope},
        tracked::{MAX_CHANGES, TrackedObject},
    },
    rules::Rules,
    spans::output::Output,
    state::{
        clock::{DeadlineClock, WriteTimes},
        dirty_map::DirtyMap,
        pod_losses::PodLoss,
    },
    tracer::{checkpoint::CheckpointWriter, kubernetes_event::UnclaimedEvents},
};

/// Children of a change that is no longer in flight can arrive this much later.
pub(crate) const STRAGGLERS: Duration = Duration::from_mins(1);

/// The state of the trace. Everything that happens comes in through [`Tracer::notice`] and
/// [`Tracer::expire`]; everything that follows is returned.
#[derive(Debug)]
pub struct Tracer {
    pub(crate) rules: Rules,
    pub(crate) ids: Ids,
    pub(crate) watches: BTreeMap<WatchId, Watch>,
    pub(crate) objects: DirtyMap<Uid, Box<TrackedObject>>,
    pub(crate) namespaces: HashMap<Arc<str>, Uid>,
    pub(crate) names: Interner,
    pub(crate) timers: BTreeSet<(Timestamp, Uid)>,
    pub(crate) stuck_told: DirtyMap<SpanId, Timestamp>,
    /// By their owner.
    pub(crate) losses: DirtyMap<Uid, Vec<PodLoss>>,
    pub(crate) unclaimed: UnclaimedEvents,
    pub(crate) pace: DeadlineClock,
    pub(crate) dates: WriteTimes,
    /// `None`: nothing is written down.
    pub(crate) written: Option<CheckpointWriter>,
    pub(crate) out: Output,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Watch {
    pub(crate) watched: WatchScope,
    /// Everything up to this resourceVersion has been delivered.
    pub(crate) delivered: u64,
    /// When what it last said was so.
    pub(crate) heard: Timestamp,
    /// Of the list that is being read, or will be next; from 1. One that breaks off does not count.
    pub(crate) list: u32,
    /// A list was complete.
    pub(crate) has_listed: bool,
    /// As long as this run lasts.
    #[serde(skip, default = "WatchState::unknown")]
    pub(crate) state: WatchState,
    /// Changes whose cause is not decided, in resourceVersion order.
    pub(crate) undecided: BTreeMap<(u64, u64), ChangeKey>,
    pub(crate) sequence: u64,
}

/// Whether the absence of news from a watch means anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WatchState {
    /// Listing, or cut off, since then.
    Disconnected {
        since: Timestamp,
    },
    /// Connected again; a backlog may be coming, last heard then.
    CatchingUp {
        heard: Timestamp,
    },
    Live {
        since: Timestamp,
    },
}

impl WatchState {
    fn unknown() -> Self {
        Self::Disconnected { since: Timestamp::default() }
    }
}

impl Tracer {
    /// `cluster`: its UID, empty where it is not known.
    pub fn new(rules: Rules, cluster: &str) -> Self {
        Self {
            ids: Ids { cluster: cluster.into(), layout: rules.layout },
            rules,
            watches: BTreeMap::new(),
            objects: DirtyMap::default(),
            namespaces: HashMap::new(),
            names: Interner::default(),
            timers: BTreeSet::new(),
            stuck_told: DirtyMap::default(),
            losses: DirtyMap::default(),
            unclaimed: UnclaimedEvents::default(),
            pace: DeadlineClock::Running,
            dates: WriteTimes::default(),
            written: None,
            out: Output::default(),
        }
    }

    /// A watch begins; its objects are unknown until its first list is complete, but for one that
    /// goes on where it was before a restart. One of Events has no objects, and nobody waits for it.
    pub fn open(&mut self, id: WatchId, watched: WatchScope, at: Timestamp) {
        if kind::is_event(&watched.kind) {
            return;
        }
        if self.watches.get(&id).is_some_and(|known| known.watched == watched) {
            return self.connection(id, WatchState::Disconnected { since: at });
        }
        let watch = Watch {
            watched,
            delivered: 0,
            heard: at,
            list: 1,
            has_listed: false,
            state: WatchState::Disconnected { since: at },
            undecided: BTreeMap::new(),
            sequence: 0,
        };
        self.watches.insert(id, watch);
        self.listens(at);
    }

    /// A recording without any list starts empty: what comes is new.
    pub fn open_empty(&mut self, id: WatchId, watched: WatchScope, at: Timestamp) {
        self.open(id, watched, at);
        self.connection(id, WatchState::Live { since: at });
    }

    /// The kind is served no more: its objects are forgotten, their deletions were told before.
    pub fn close(&mut self, id: WatchId, now: Timestamp) -> Output {
        self.watches.remove(&id);
        self.listens(now);
        let gone: Vec<Uid> = self
            .objects
            .iter()
            .filter(|(_, tracked)| tracked.watch == id)
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in gone {
            self.forget(&uid);
        }
        self.decide(now);
        std::mem::take(&mut self.out)
    }

    /// A watch said something: what was due before has happened before.
    pub fn notice(&mut self, id: WatchId, notice: WatchEvent) -> Output {
        self.run_out(notice.at());
        let at = match notice {
            WatchEvent::Applied(mut now) => {
                let at = self.heard(id, now.at, now.resource_version);
                self.date(id, &mut now);
                self.apply(id, &now, false);
                at
            }
            WatchEvent::ListStarted { at } => {
                self.lists(id, at);
                at
            }
            WatchEvent::ListItem(mut now) => {
                let at = now.at;
                self.reads_list(id, at);
                self.date(id, &mut now);
                self.apply(id, &now, true);
                at
            }
            WatchEvent::Deleted(mut now) => {
                let at = self.heard(id, now.at, now.resource_version);
                self.date(id, &mut now);
                self.delete(id, &now);
                at
            }
            WatchEvent::LeftSelector { at, uid, resource_version } => {
                self.left_selector(id, &uid, at);
                self.heard(id, at, resource_version)
            }
            WatchEvent::KubernetesEvent(remark) => {
                let at = remark.at;
                self.remarked(remark);
                at
            }
            WatchEvent::ListCompleted { at, resource_version } => {
                self.reset(id, at, resource_version);
                self.heard(id, at, resource_version)
            }
            WatchEvent::Bookmark { at, resource_version } => {
                self.caught_up(id, at);
                self.heard(id, at, resource_version)
            }
            WatchEvent::Interrupted { at } => {
                self.connection(id, WatchState::Disconnected { since: at });
                at
            }
            WatchEvent::Resumed { at } => {
                self.connection(id, WatchState::CatchingUp { heard: at });
                at
            }
        };
        self.decide(at);
        std::mem::take(&mut self.out)
    }

    /// When [`Self::expire`] has something to do next.
    pub fn next(&self) -> Option<Timestamp> {
        let timer = self.timers.first().map(|(at, _)| self.not_before(*at));
        let waits = self.watches.values().filter_map(|watch| {
            let key = watch.undecided.values().next()?;
            self.waits_until(key)
        });
        waits.chain(timer).min()
    }

    /// Time has come to `now`.
    pub fn expire(&mut self, now: Timestamp) -> Output {
        self.run_out(now);
        std::mem::take(&mut self.out)
    }

    fn run_out(&mut self, now: Timestamp) {
        self.decide(now);
        if self.stands_still(now) {
            return;
        }
        while let Some((at, _)) = self.timers.first()
            && *at <= now
            && let Some((at, uid)) = self.timers.pop_first()
        {
            self.ring(&uid, at);
        }
    }

    /// Nothing is open and nothing undecided: no more spans will come of what was seen.
    pub fn is_settled(&self) -> bool {
        self.watches.values().all(|watch| watch.undecided.is_empty())
            && self
                .objects
                .values()
                .all(|known| known.changes.iter().all(|change| !change.convergence.is_open()))
    }

    /// Everything that was there when its watches began is known.
    pub fn has_listed(&self) -> bool {
        !self.watches.is_empty() && self.watches.values().all(|watch| watch.has_listed)
    }

    /// Objects known, by kind: a gauge for `/metrics`.
    pub fn known_objects(&self) -> HashMap<&GroupKind, i64> {
        let mut known = HashMap::new();
        for tracked in self.objects.values().filter(|tracked| tracked.gone.is_none()) {
            *known.entry(&tracked.object.kind).or_default() += 1;
        }
        known
    }
}

/// Forgets changes that can be nobody's cause any more and have nothing left to tell.
pub(crate) fn prune(known: &mut TrackedObject, now: Timestamp) {
    let over: Vec<bool> = (0..known.changes.len())
        .map(|at| kept_until(known, at).is_some_and(|t| t <= now))
        .collect();
    let mut over = over.into_iter();
    known.changes.retain(|_| !over.next().unwrap_or(false));
    // Causes are of the spec, as long as there is one: notes on it go before.
    let is_told = |change: &Change| change.details.is_none();
    let is_note = |change: &Change| change.scope == Scope::Metadata && is_told(change);
    while known.changes.len() >= MAX_CHANGES {
        let note = known.changes.iter().position(is_note);
        let Some(at) = note.or_else(|| known.changes.iter().position(is_told)) else { break };
        known.changes.remove(at);
    }
}

/// `None`: for as long as nothing happens to it. The newest change of a spec is what settled owners
/// are known by; it goes a while after the next has come, for children whose causes are decided late.
pub(crate) fn kept_until(known: &TrackedObject, at: usize) -> Option<Timestamp> {
    let change = known.changes.get(at)?;
    // With details, there is something left to tell of it, or even to decide.
    let must_stay =
        change.until.is_none() || change.details.is_some() || !change.convergence.is_over();
    if must_stay {
        return None;
    }
    let counts = |change: &Change| change.scope == Scope::Spec && change.key.verb != Verb::Delete;
    let next = known.changes.iter().skip(at + 1).find(|newer| counts(newer));
    let is_known_by = counts(change) && !known.object.kind.is("", "Pod");
    let since = match next {
        None if is_known_by => return None,
        Some(next) if is_known_by => next.received,
        Some(_) | None => change.received,
    };
    Some(since.plus(STRAGGLERS))
}
