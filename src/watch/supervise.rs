//! Keeps a watch running for every kind that is configured and served, as kinds come and go.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use kube::Client;
use tokio::{
    sync::{mpsc, watch as signal},
    task::JoinSet,
    time::sleep,
};
use tracing::{info, warn};

use super::{
    chance::chance,
    counters::Counters,
    decode::Decoder,
    listing::Listing,
    recording::Tap,
    resolve::{Resolved, Served, UnknownKind, percent_encoded},
    state::State,
    stream::{Contact, Over, Reader},
};
use crate::{
    config::settings::{KindSettings, WatchSettings},
    metrics::Metrics,
    trace::model::{
        observation::{WatchEvent, WatchId, WatchScope},
        time::Timestamp,
    },
};

/// How often the server is asked for kinds that are awaited.
const REDISCOVER: Duration = Duration::from_secs(3);

/// What comes from the watches.
#[derive(Debug)]
pub enum WatchMessage {
    Opened(WatchId, WatchScope),
    Events(WatchId, Vec<WatchEvent>),
    /// The kind is served no more, or was watched by an earlier run and is not any more.
    Closed(WatchId),
}

/// Where an earlier run of the daemon left off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Kept by the watch that covers the same now; those of new watches are above all of these.
    pub id: WatchId,
    pub watched: WatchScope,
    /// Up to which everything was delivered; 0: nothing was.
    pub resource_version: u64,
}

/// Told of each kind: expected (`false`), its first list complete or, where an earlier run's watch
/// goes on, not needed (`true`).
pub type Synced = Arc<dyn Fn(&str, bool) + Send + Sync>;

/// Why watching cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error("the API server does not say what it serves")]
    Discovery(#[source] kube::Error),
    #[error("the configuration watches what cannot be there")]
    UnknownKind(#[from] UnknownKind),
}

/// Everything the watches share.
pub struct Watches {
    pub client: Client,
    pub settings: Arc<WatchSettings>,
    pub metrics: Metrics,
    pub clock: fn() -> Timestamp,
    pub out: mpsc::Sender<WatchMessage>,
    pub stop: signal::Receiver<bool>,
    pub synced: Synced,
    /// Those that cover nothing that is watched now are told as [`WatchMessage::Closed`], before
    /// anything is said: a kind that is only awaited by then, or one with other selectors.
    pub resume: Vec<Resume>,
    /// Sees raw lines; for recordings.
    pub tap: Option<Tap>,
}

/// What one watch covers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cover {
    resolved: Resolved,
    namespace: Option<String>,
    reason: Reason,
}

/// Why there is a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// An entry of the configuration.
    Entry(usize),
    /// Entries want to hear what Events say of their kinds.
    Events,
}

impl Cover {
    /// Whether this watch sees all that the other would.
    fn holds(&self, other: &Self) -> bool {
        self.resolved.kind == other.resolved.kind
            && (self.namespace.is_none() || self.namespace == other.namespace)
    }
}

impl Watches {
    /// Watches until it is stopped. Runs on the caller's runtime.
    ///
    /// # Errors
    /// When the API server cannot be asked at the start, or a kind is configured that can never be.
    pub async fn run(mut self) -> Result<(), WatchError> {
        let served = Served::discover(&self.client).await.map_err(WatchError::Discovery)?;
        for settings in &self.settings.kinds {
            served.resolve(settings)?;
        }
        let mut stop = self.stop.clone();
        let mut running = Running::resuming(std::mem::take(&mut self.resume));
        tokio::select! {
            biased;
            () = stopped(&mut stop) => {}
            _unheard = self.keep_watching(served, &mut running) => {}
        }
        while running.tasks.join_next().await.is_some() {}
        Ok(())
    }

    async fn keep_watching(
        &self,
        mut served: Served,
        running: &mut Running,
    ) -> Result<(), Unheard> {
        loop {
            let awaits = self.open_new(&served, running).await?;
            self.close_untaken(running).await?;
            running.start();
            let over = tokio::select! {
                Some(over) = running.tasks.join_next() => over.ok(),
                () = sleep(rediscovery()), if awaits => None,
                else => std::future::pending().await,
            };
            let missed = match over {
                Some((_, Over::Stopped)) => continue,
                Some((id, Over::NotFound(reader))) => Some((id, reader)),
                None => None,
            };
            match Served::discover(&self.client).await {
                Ok(anew) => served = anew,
                Err(error) => warn!(%error, "The API server does not say what it serves."),
            }
            if let Some((id, reader)) = missed {
                self.missed(id, reader, &served, running).await?;
            }
        }
    }

    /// Opens a watch for everything that has none. Whether something may still come.
    async fn open_new(&self, served: &Served, running: &mut Running) -> Result<bool, Unheard> {
        let mut awaits = false;
        let entries = || self.settings.kinds.iter().enumerate();
        // Who names a kind has more to say about it than who names its group.
        let named = entries().filter(|(_, settings)| settings.selector.kind.is_some());
        let groups = entries().filter(|(_, settings)| settings.selector.kind.is_none());
        for (entry, settings) in named.chain(groups) {
            let found = served.resolve(settings).unwrap_or_else(|error| {
                warn!(%error, "A kind is served no more that always was.");
                Vec::new()
            });
            awaits |= settings.selector.kind.is_none() || found.is_empty();
            if found.is_empty() && running.announced.insert(entry) {
                let kind = settings.selector.to_string();
                info!(%kind, "Not served yet; awaited.");
            }
            for cover in covers(found, settings, entry) {
                if !running.covers.values().any(|known| known.holds(&cover)) {
                    self.open(running, cover, selectors(settings)).await?;
                }
            }
        }
        for cover in self.event_covers(served) {
            if !running.covers.values().any(|known| known.holds(&cover)) {
                self.open(running, cover, None).await?;
            }
        }
        Ok(awaits)
    }

    /// What an earlier run has watched is watched again in the first round or never: what comes
    /// later begins with a list.
    async fn close_untaken(&self, running: &mut Running) -> Result<(), Unheard> {
        for Resume { id, watched, .. } in running.resume.drain(..) {
            let (kind, namespace) = (watched.kind, watched.namespace.as_deref());
            info!(%kind, namespace, "WatchScope by an earlier run, and no more.");
            self.out.send(WatchMessage::Closed(id)).await.map_err(|_closed| Unheard)?;
        }
        Ok(())
    }

    /// Events, of each namespace that an entry wants to hear them of. That of all comes first, and
    /// holds the others.
    fn event_covers(&self, served: &Served) -> Vec<Cover> {
        let mut namespaces = BTreeSet::new();
        for settings in self.settings.kinds.iter().filter(|settings| settings.events) {
            for found in served.resolve(settings).unwrap_or_default() {
                match &settings.namespaces[..] {
                    // What is said of something outside namespaces stands there.
                    _ if !found.namespaced => drop(namespaces.insert(Some("default".to_owned()))),
                    [] => drop(namespaces.insert(None)),
                    some => namespaces.extend(some.iter().cloned().map(Some)),
                }
            }
        }
        let Some(events) = served.events() else { return Vec::new() };
        let cover =
            |namespace| Cover { resolved: events.clone(), namespace, reason: Reason::Events };
        namespaces.into_iter().map(cover).collect()
    }

    /// The server answered 404. If it serves the kind all the same, it was not ready; if in another
    /// version, the watch goes on with that; if not at all, the watch is over.
    async fn missed(
        &self,
        id: WatchId,
        mut reader: Box<Reader>,
        served: &Served,
        running: &mut Running,
    ) -> Result<(), Unheard> {
        let Some(cover) = running.covers.get_mut(&id) else { return Ok(()) };
        let found = match cover.reason {
            Reason::Entry(entry) => {
                let settings = self.settings.kinds.get(entry);
                settings.and_then(|settings| served.resolve(settings).ok()).unwrap_or_default()
            }
            Reason::Events => served.events().cloned().into_iter().collect(),
        };
        let Some(now) = found.into_iter().find(|now| now.kind == cover.resolved.kind) else {
            info!(kind = %cover.resolved.kind, "Served no more.");
            running.covers.remove(&id);
            return self.out.send(WatchMessage::Closed(id)).await.map_err(|_closed| Unheard);
        };
        if now != cover.resolved {
            info!(kind = %now.kind, version = now.version, "Served in another version.");
            cover.resolved = now.clone();
            reader.resolved = now;
            reader.state = State::new();
            reader.listing.is_for("version");
        }
        running.tasks.spawn(async move { (id, reader.run().await) });
        Ok(())
    }

    async fn open(
        &self,
        running: &mut Running,
        cover: Cover,
        selectors: Option<String>,
    ) -> Result<(), Unheard> {
        let watched = WatchScope {
            kind: cover.resolved.kind.clone(),
            namespace: cover.namespace.as_deref().map(Into::into),
            selectors: selectors.as_deref().map(Into::into),
        };
        let (id, state) = running.begin(&watched);
        running.covers.insert(id, cover.clone());
        let Cover { resolved, namespace, .. } = cover;
        let name = resolved.kind.to_string();
        (self.synced)(&name, false);
        self.metrics.watch_synced.with_label_values(&[&name]).set(0);
        let synced = {
            let (tell, metrics, name) =
                (Arc::clone(&self.synced), self.metrics.clone(), name.clone());
            move || {
                tell(&name, true);
                metrics.watch_synced.with_label_values(&[&name]).set(1);
            }
        };
        let reader = Reader {
            client: self.client.clone(),
            id,
            resolved,
            namespace,
            selectors,
            decoder: Decoder::new(&self.settings),
            counters: Counters::new(&self.metrics, &name),
            clock: self.clock,
            tap: self.tap.clone(),
            out: self.out.clone(),
            stop: self.stop.clone(),
            synced: Box::new(synced),
            listing: Listing::new(),
            contact: if state.is_listing() { Contact::Present } else { Contact::Lost },
            state,
            is_synced: false,
            warned: None,
        };
        self.out.send(WatchMessage::Opened(id, watched)).await.map_err(|_closed| Unheard)?;
        running.opened.push(reader);
        Ok(())
    }
}

/// Nobody listens any more.
struct Unheard;

#[derive(Default)]
struct Running {
    covers: BTreeMap<WatchId, Cover>,
    /// Not yet asking.
    opened: Vec<Reader>,
    tasks: JoinSet<(WatchId, Over)>,
    /// What no watch has taken up yet.
    resume: Vec<Resume>,
    /// Entries whose waiting has been told.
    announced: HashSet<usize>,
    next: u32,
}

impl Running {
    fn resuming(resume: Vec<Resume>) -> Self {
        let next = resume.iter().map(|entry| entry.id.0 + 1).max().unwrap_or(0);
        Self { resume, next, ..Self::default() }
    }

    /// The id of a new watch and what it begins with. A resourceVersion is of use only for the very
    /// same selection: of what another has left out, nothing is known.
    fn begin(&mut self, watched: &WatchScope) -> (WatchId, State) {
        let known = self.resume.iter().position(|entry| entry.watched == *watched);
        match known.map(|at| self.resume.remove(at)) {
            Some(Resume { id, resource_version: 0, .. }) => (id, State::new()),
            Some(Resume { id, resource_version, .. }) => (id, State::resumed(resource_version)),
            None => {
                let id = WatchId(self.next);
                self.next += 1;
                (id, State::new())
            }
        }
    }

    /// Lets those ask that were opened: whatever is to be closed was told before.
    fn start(&mut self) {
        for reader in self.opened.drain(..) {
            self.tasks.spawn(async move { (reader.id, Box::new(reader).run().await) });
        }
    }
}

/// How long until the server is asked again what it serves.
fn rediscovery() -> Duration {
    REDISCOVER.mul_f64(1.0 + chance() / 2.0)
}

async fn stopped(stop: &mut signal::Receiver<bool>) {
    // A signal nobody can give any more has been given.
    stop.wait_for(|stop| *stop).await.ok();
}

/// A watch for each namespace, or one for all.
fn covers(found: Vec<Resolved>, settings: &KindSettings, entry: usize) -> Vec<Cover> {
    found
        .into_iter()
        .flat_map(|resolved| {
            let namespaces: Vec<Option<String>> =
                if resolved.namespaced && !settings.namespaces.is_empty() {
                    settings.namespaces.iter().cloned().map(Some).collect()
                } else {
                    vec![None]
                };
            namespaces.into_iter().map(move |namespace| Cover {
                resolved: resolved.clone(),
                namespace,
                reason: Reason::Entry(entry),
            })
        })
        .collect()
}

fn selectors(settings: &KindSettings) -> Option<String> {
    let by_label =
        settings.label_selector.as_ref().map(|s| format!("labelSelector={}", percent_encoded(s)));
    let by_field =
        settings.field_selector.as_ref().map(|s| format!("fieldSelector={}", percent_encoded(s)));
    let both: Vec<String> = by_label.into_iter().chain(by_field).collect();
    (!both.is_empty()).then(|| both.join("&"))
}
