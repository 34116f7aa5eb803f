//! Holds what is known and leads every notice through: detect, decide, converge, tell.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    change::{Change, Scope},
    checkpoint::CheckpointWriter,
    id::{ChangeKey, Ids, Verb},
    kept::DirtyMap,
    kind,
    loss::PodLoss,
    names::Interner,
    object::{GroupKind, Uid},
    observation::{WatchEvent, WatchId, WatchScope},
    output::Output,
    pace::{DeadlineClock, WriteTimes},
    remark::UnclaimedEvents,
    rules::Rules,
    span::SpanId,
    time::Timestamp,
    tracked::{MAX_CHANGES, TrackedObject},
};

/// Children of a change that is no longer in flight can arrive this much later.
pub(super) const STRAGGLERS: Duration = Duration::from_mins(1);

/// The state of the trace. Everything that happens comes in through [`Tracer::notice`] and
/// [`Tracer::expire`]; everything that follows is returned.
#[derive(Debug)]
pub struct Tracer {
    pub(super) rules: Rules,
    pub(super) ids: Ids,
    pub(super) watches: BTreeMap<WatchId, Watch>,
    pub(super) objects: DirtyMap<Uid, Box<TrackedObject>>,
    pub(super) namespaces: HashMap<Arc<str>, Uid>,
    pub(super) names: Interner,
    pub(super) timers: BTreeSet<(Timestamp, Uid)>,
    pub(super) stuck_told: DirtyMap<SpanId, Timestamp>,
    /// By their owner.
    pub(super) losses: DirtyMap<Uid, Vec<PodLoss>>,
    pub(super) unclaimed: UnclaimedEvents,
    pub(super) pace: DeadlineClock,
    pub(super) dates: WriteTimes,
    /// `None`: nothing is written down.
    pub(super) written: Option<CheckpointWriter>,
    pub(super) out: Output,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Watch {
    pub(super) watched: WatchScope,
    /// Everything up to this resourceVersion has been delivered.
    pub(super) delivered: u64,
    /// When what it last said was so.
    pub(super) heard: Timestamp,
    /// Of the list that is being read, or will be next; from 1. One that breaks off does not count.
    pub(super) list: u32,
    /// A list was complete.
    pub(super) has_listed: bool,
    /// As long as this run lasts.
    #[serde(skip, default = "WatchState::unknown")]
    pub(super) state: WatchState,
    /// Changes whose cause is not decided, in resourceVersion order.
    pub(super) undecided: BTreeMap<(u64, u64), ChangeKey>,
    pub(super) sequence: u64,
}

/// Whether the absence of news from a watch means anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WatchState {
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
pub(super) fn prune(known: &mut TrackedObject, now: Timestamp) {
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
pub(super) fn kept_until(known: &TrackedObject, at: usize) -> Option<Timestamp> {
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
