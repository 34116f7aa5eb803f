//! Reports which watches are synced, for readiness and metrics.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::scope::{Reason, Scope};
use crate::{metrics::Metrics, trace::model::observation::WatchId};

/// Called with the name of a watch ("Pod in namespace shop"): `false` when it opens, `true` once its
/// first list is complete or not needed, and when it closes. Never called for watches of Kubernetes
/// Events, which readiness does not depend on.
pub type Synced = Arc<dyn Fn(&str, bool) + Send + Sync>;

/// The watches that are open, with whether each is synced. Clones share their state.
#[derive(Clone)]
pub(super) struct SyncTable {
    synced: Synced,
    metrics: Metrics,
    watches: Arc<Mutex<BTreeMap<WatchId, Entry>>>,
}

struct Entry {
    kind: String,
    /// The name in readiness; `None` for watches of Kubernetes Events.
    name: Option<String>,
    is_synced: bool,
}

impl SyncTable {
    pub(super) fn new(synced: Synced, metrics: Metrics) -> Self {
        Self { synced, metrics, watches: Arc::default() }
    }

    pub(super) fn open(&self, id: WatchId, scope: &Scope) {
        let name = (scope.reason != Reason::Events).then(|| scope.to_string());
        if let Some(name) = &name {
            (self.synced)(name, false);
        }
        let kind = scope.resolved.kind.to_string();
        self.update(&kind, |watches| {
            watches.insert(id, Entry { kind: kind.clone(), name, is_synced: false });
        });
    }

    pub(super) fn complete(&self, id: WatchId, kind: &str) {
        let mut name = None;
        self.update(kind, |watches| {
            if let Some(entry) = watches.get_mut(&id) {
                entry.is_synced = true;
                name.clone_from(&entry.name);
            }
        });
        if let Some(name) = name {
            (self.synced)(&name, true);
        }
    }

    /// A closed watch no longer holds readiness up.
    pub(super) fn close(&self, id: WatchId, kind: &str) {
        let mut name = None;
        self.update(kind, |watches| name = watches.remove(&id).and_then(|entry| entry.name));
        if let Some(name) = name {
            (self.synced)(&name, true);
        }
    }

    /// Changes the table and then the metric of the kind.
    fn update(&self, kind: &str, change: impl FnOnce(&mut BTreeMap<WatchId, Entry>)) {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut watches);
        let mut of_kind = watches.values().filter(|entry| entry.kind == kind).peekable();
        if of_kind.peek().is_none() {
            // The kind may have no metric yet.
            self.metrics.watch_synced.remove_label_values(&[kind]).ok();
        } else {
            let are_synced = of_kind.all(|entry| entry.is_synced);
            self.metrics.watch_synced.with_label_values(&[kind]).set(i64::from(are_synced));
        }
    }
}
