//! Keeps a watch running for every kind that is configured and served, while kinds are installed and
//! removed.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use kube::Client;
use tokio::{
    sync::{mpsc, watch as signal},
    task::{Id, JoinError, JoinSet},
};
use tracing::{info, warn};

use super::{
    counters::Counters,
    decode::Decoder,
    discovery::{DiscoveryError, KindChanges, discover},
    list_span::ListSpan,
    machine::Machine,
    message::{Resume, WatchMessage},
    reader::{Link, Reader, ReceiverClosed},
    recording::Tap,
    request::Session,
    resolve::{Served, UnknownKind},
    run::WatchEnd,
    scope::{Reason, Scope, scopes_of_entry, scopes_of_events},
    selector_exit::Selection,
    sync::{SyncTable, Synced},
};
use crate::{
    config::settings::WatchSettings,
    metrics::Metrics,
    trace::model::{
        object::ObjectRef,
        observation::{WatchId, WatchScope},
        time::Timestamp,
    },
};

/// Why the watches cannot start or continue.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error("API discovery failed; check that the API server is reachable")]
    Discovery(#[source] DiscoveryError),
    #[error("invalid kind in `watch`")]
    UnknownKind(#[from] UnknownKind),
    #[error("the watch of {kind} panicked")]
    Panic { kind: String, source: JoinError },
}

/// All watches of the daemon, with what they share.
pub struct Watches {
    pub client: Client,
    pub settings: Arc<WatchSettings>,
    pub metrics: Metrics,
    pub clock: fn() -> Timestamp,
    pub out: mpsc::Sender<WatchMessage>,
    pub stop: signal::Receiver<bool>,
    pub synced: Synced,
    /// Watches of an earlier run. Those whose scope is not watched now are reported as
    /// [`WatchMessage::Closed`] before any event: other selectors, or a kind not served yet.
    pub resume: Vec<Resume>,
    /// Receives raw lines, for recordings.
    pub tap: Option<Tap>,
}

impl Watches {
    /// Watches until `stop` or until the receiver of the messages is dropped.
    ///
    /// # Errors
    /// When discovery fails at the start, when a configured kind cannot exist, or when a watch
    /// panics.
    pub async fn run(mut self) -> Result<(), WatchError> {
        let served = discover(&self.client).await.map_err(WatchError::Discovery)?;
        for settings in &self.settings.kinds {
            served.resolve(settings)?;
        }
        let mut stop = self.stop.clone();
        let sync = SyncTable::new(Arc::clone(&self.synced), self.metrics.clone());
        let mut running = Running::resuming(std::mem::take(&mut self.resume), sync);
        tokio::select! {
            biased;
            () = stopped(&mut stop) => {}
            end = self.supervise(served, &mut running) => match end {
                Err(Stop::Failed(error)) => return Err(error),
                Ok(()) | Err(Stop::ReceiverClosed) => {}
            },
        }
        while let Some(end) = running.tasks.join_next_with_id().await {
            if let Err(error) = end {
                return Err(running.panic(error));
            }
        }
        Ok(())
    }

    async fn supervise(&self, mut served: Served, running: &mut Running) -> Result<(), Stop> {
        let mut changes = KindChanges::new();
        loop {
            let may_be_installed = self.open_new(&served, running).await?;
            self.close_unused(running).await?;
            running.start();
            let end = tokio::select! {
                Some(end) = running.tasks.join_next_with_id() => Some(end),
                () = changes.next(&self.client), if may_be_installed => None,
                else => std::future::pending().await,
            };
            let not_found = match end {
                Some(Err(error)) => return Err(Stop::Failed(running.panic(error))),
                Some(Ok((_, (_, WatchEnd::Stopped)))) => continue,
                Some(Ok((_, (id, WatchEnd::NotFound(reader))))) => Some((id, reader)),
                None => None,
            };
            let discovered = changes.record(discover(&self.client).await);
            let is_known = discovered.is_some();
            if let Some(discovered) = discovered {
                served = discovered;
            }
            match not_found {
                Some((id, reader)) if is_known => {
                    self.handle_not_found(id, reader, &served, running).await?;
                }
                Some((id, reader)) => running.restart(id, reader),
                None => {}
            }
        }
    }

    /// Opens a watch for every scope that no watch includes. Returns whether further kinds of the
    /// configuration may be installed.
    async fn open_new(
        &self,
        served: &Served,
        running: &mut Running,
    ) -> Result<bool, ReceiverClosed> {
        let mut may_be_installed = false;
        let entries = || self.settings.kinds.iter().enumerate();
        // An entry for a kind takes precedence over an entry for its whole group.
        let kinds = entries().filter(|(_, settings)| settings.selector.kind.is_some());
        let groups = entries().filter(|(_, settings)| settings.selector.kind.is_none());
        for (entry, settings) in kinds.chain(groups) {
            let found = served.resolve(settings).unwrap_or_else(|error| {
                warn!(%error, "A built-in kind is no longer served.");
                Vec::new()
            });
            may_be_installed |= settings.selector.kind.is_none() || found.is_empty();
            if found.is_empty() && running.announced.insert(entry) {
                let kind = settings.selector.to_string();
                info!(%kind, "Kind not installed yet; waiting for it.");
            }
            for scope in scopes_of_entry(found, settings, entry) {
                self.open(running, scope).await?;
            }
        }
        for scope in scopes_of_events(served, &self.settings) {
            self.open(running, scope).await?;
        }
        Ok(may_be_installed)
    }

    /// A watch of an earlier run is resumed in the first round or never: later watches list first.
    async fn close_unused(&self, running: &mut Running) -> Result<(), ReceiverClosed> {
        for Resume { id, watched, .. } in running.resume.drain(..) {
            let (kind, namespace) = (watched.kind, watched.namespace.as_deref());
            info!(%kind, namespace, "Dropping the state of a watch that is no longer configured.");
            self.out.send(WatchMessage::Closed(id)).await.map_err(|_closed| ReceiverClosed)?;
        }
        Ok(())
    }

    /// After a 404, continues the watch where the kind is still served, moves it to another version
    /// where the kind has moved, and else closes it.
    async fn handle_not_found(
        &self,
        id: WatchId,
        mut reader: Box<Reader>,
        served: &Served,
        running: &mut Running,
    ) -> Result<(), ReceiverClosed> {
        let Some(scope) = running.scopes.get_mut(&id) else { return Ok(()) };
        let found = match scope.reason {
            Reason::Entry(entry) => {
                let settings = self.settings.kinds.get(entry);
                settings.and_then(|settings| served.resolve(settings).ok()).unwrap_or_default()
            }
            Reason::Events => served.events().cloned().into_iter().collect(),
        };
        let kind = scope.resolved.kind.clone();
        let Some(resolved) = found.into_iter().find(|resolved| resolved.kind == kind) else {
            info!(%kind, "Kind no longer served; watch closed.");
            running.scopes.remove(&id);
            running.sync.close(id, &kind.to_string());
            return self.out.send(WatchMessage::Closed(id)).await.map_err(|_closed| ReceiverClosed);
        };
        if resolved != scope.resolved {
            info!(%kind, version = resolved.version, "Preferred version changed; relisting.");
            scope.resolved = resolved.clone();
            reader.session.resolved = resolved;
            reader.machine = Machine::new();
            reader.list_span.set_reason("version");
        }
        running.restart(id, reader);
        Ok(())
    }

    /// Opens a watch unless another one includes its scope.
    async fn open(&self, running: &mut Running, scope: Scope) -> Result<(), ReceiverClosed> {
        if running.scopes.values().any(|open| open.includes(&scope)) {
            return Ok(());
        }
        let watched = scope.to_watch_scope();
        let (id, machine, selected) = running.begin(&watched);
        running.sync.open(id, &scope);
        let kind = scope.resolved.kind.to_string();
        let counters = Counters::new(&self.metrics, &kind);
        let sync = running.sync.clone();
        let selectors = scope.selectors.query();
        let reader = Reader {
            selection: selectors.is_some().then(|| Selection::from_earlier_run(&selected)),
            session: Session {
                client: self.client.clone(),
                resolved: scope.resolved.clone(),
                namespace: scope.namespace.clone(),
                selectors,
            },
            id,
            decoder: Decoder::new(&self.settings),
            counters,
            clock: self.clock,
            tap: self.tap.clone(),
            out: self.out.clone(),
            stop: self.stop.clone(),
            synced: Box::new(move || sync.complete(id, &kind)),
            list_span: ListSpan::new(),
            link: if machine.is_listing() { Link::Connected } else { Link::Interrupted },
            machine,
            is_synced: false,
            warned: None,
            last_write: None,
        };
        reader.record_kind();
        running.scopes.insert(id, scope);
        let opened = WatchMessage::Opened(id, watched);
        self.out.send(opened).await.map_err(|_closed| ReceiverClosed)?;
        running.opened.push(reader);
        Ok(())
    }
}

/// Why supervision ended.
enum Stop {
    ReceiverClosed,
    Failed(WatchError),
}

impl From<ReceiverClosed> for Stop {
    fn from(_: ReceiverClosed) -> Self {
        Self::ReceiverClosed
    }
}

struct Running {
    scopes: BTreeMap<WatchId, Scope>,
    /// Readers whose tasks are not spawned yet.
    opened: Vec<Reader>,
    tasks: JoinSet<(WatchId, WatchEnd)>,
    /// The watch of each task, to name the one that panicked.
    watches: HashMap<Id, WatchId>,
    /// Watches of an earlier run that no watch has resumed yet.
    resume: Vec<Resume>,
    /// Entries whose missing kind was logged.
    announced: HashSet<usize>,
    next: u32,
    sync: SyncTable,
}

impl Running {
    fn resuming(resume: Vec<Resume>, sync: SyncTable) -> Self {
        let next = resume.iter().map(|entry| entry.id.0 + 1).max().unwrap_or(0);
        Self {
            scopes: BTreeMap::new(),
            opened: Vec::new(),
            tasks: JoinSet::new(),
            watches: HashMap::new(),
            resume,
            announced: HashSet::new(),
            next,
            sync,
        }
    }

    /// The id of a new watch, its first state, and the objects that an earlier run left in its
    /// selection. A resourceVersion is resumed only for the same scope: of objects outside an earlier
    /// one nothing was observed.
    fn begin(&mut self, watched: &WatchScope) -> (WatchId, Machine, Vec<ObjectRef>) {
        let index = self.resume.iter().position(|entry| entry.watched.has_objects_of(watched));
        let Some(index) = index else {
            let id = WatchId(self.next);
            self.next += 1;
            return (id, Machine::new(), Vec::new());
        };
        let Resume { id, resource_version, selected, .. } = self.resume.remove(index);
        let machine = match resource_version {
            0 => Machine::new(),
            _ => Machine::resumed(resource_version),
        };
        (id, machine, selected)
    }

    /// Starts the readers that were opened, after the messages about closed watches were sent.
    fn start(&mut self) {
        for reader in std::mem::take(&mut self.opened) {
            self.restart(reader.id, Box::new(reader));
        }
    }

    fn restart(&mut self, id: WatchId, reader: Box<Reader>) {
        let task = self.tasks.spawn(async move { (id, reader.run().await) });
        self.watches.retain(|_, watch| *watch != id);
        self.watches.insert(task.id(), id);
    }

    fn panic(&self, source: JoinError) -> WatchError {
        let scope = self.watches.get(&source.id()).and_then(|id| self.scopes.get(id));
        let kind = scope.map_or_else(|| "an unknown kind".to_owned(), Scope::to_string);
        WatchError::Panic { kind, source }
    }
}

async fn stopped(stop: &mut signal::Receiver<bool>) {
    // A dropped sender stops the watches too.
    stop.wait_for(|stop| *stop).await.ok();
}
