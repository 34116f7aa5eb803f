//! Keeps a watch running for every kind that is configured and served, as kinds come and go.

use std::{
    collections::{BTreeMap, HashSet},
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
    decode::Decoder,
    recording::Tap,
    resolve::{Resolved, Served, UnknownKind, text_of},
    stream::{Counters, Over, Reader, percent_encoded},
};
use crate::{
    config::settings::{KindSettings, WatchSettings},
    metrics::Metrics,
    trace::{
        observation::{Notice, WatchId, Watched},
        time::Timestamp,
    },
};

/// How often the server is asked for kinds that are awaited.
const REDISCOVER: Duration = Duration::from_secs(3);

/// What comes from the watches.
#[derive(Debug)]
pub enum FromWatch {
    Opened(WatchId, Watched),
    Said(WatchId, Vec<Notice>),
    /// The kind is served no more.
    Closed(WatchId),
}

/// Told of each kind: expected (`false`), its first list complete (`true`).
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
    pub settings: WatchSettings,
    pub metrics: Metrics,
    pub clock: fn() -> Timestamp,
    pub out: mpsc::Sender<FromWatch>,
    pub stop: signal::Receiver<bool>,
    pub synced: Synced,
    /// Sees raw lines; for recordings.
    pub tap: Option<Tap>,
}

type Key = (Resolved, Option<String>, usize);

impl Watches {
    /// Watches until it is stopped. Runs on the caller's runtime.
    ///
    /// # Errors
    /// When the API server cannot be asked at the start, or a kind is configured that can never be.
    pub async fn run(self) -> Result<(), WatchError> {
        let mut running: BTreeMap<Key, WatchId> = BTreeMap::new();
        let mut tasks: JoinSet<(Key, Over)> = JoinSet::new();
        let mut announced: HashSet<usize> = HashSet::new();
        let mut next_id = 0;
        let mut stop = self.stop.clone();
        let mut served = Served::discover(&self.client).await.map_err(WatchError::Discovery)?;
        loop {
            let mut awaits = false;
            for (entry, settings) in self.settings.kinds.iter().enumerate() {
                let found = served.resolve(settings)?;
                awaits |= settings.selector.kind.is_none() || found.is_empty();
                if found.is_empty() && announced.insert(entry) {
                    let kind = text_of(&settings.selector);
                    info!(%kind, "Not served yet; awaited.");
                }
                for key in keys(found, settings, entry) {
                    if running.contains_key(&key) {
                        continue;
                    }
                    let id = WatchId(next_id);
                    next_id += 1;
                    running.insert(key.clone(), id);
                    if !self.open(&mut tasks, id, key, settings).await {
                        return Ok(());
                    }
                }
            }
            let over = tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                over = tasks.join_next(), if !tasks.is_empty() => over,
                () = sleep(REDISCOVER), if awaits => None,
            };
            if let Some(Ok((key, Over::NotServed))) = over
                && let Some(id) = running.remove(&key)
            {
                info!(kind = %key.0.kind, "Served no more.");
                if self.out.send(FromWatch::Closed(id)).await.is_err() {
                    return Ok(());
                }
                // It may come back at once, in another version; asking for that is not a hurry.
                tokio::select! {
                    biased;
                    () = stopped(&mut stop) => break,
                    () = sleep(REDISCOVER) => {}
                }
            }
            match Served::discover(&self.client).await {
                Ok(anew) => served = anew,
                Err(error) => warn!(%error, "The API server does not say what it serves."),
            }
        }
        while tasks.join_next().await.is_some() {}
        Ok(())
    }

    async fn open(
        &self,
        tasks: &mut JoinSet<(Key, Over)>,
        id: WatchId,
        key: Key,
        settings: &KindSettings,
    ) -> bool {
        let (resolved, namespace, _) = key.clone();
        let name = resolved.kind.to_string();
        let watched = Watched {
            kind: resolved.kind.clone(),
            namespace: namespace.as_deref().map(Into::into),
        };
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
            selectors: selectors(settings),
            decoder: Decoder::new(&self.settings.annotations),
            counters: Counters::new(&self.metrics, &name),
            clock: self.clock,
            tap: self.tap.clone(),
            out: self.out.clone(),
            stop: self.stop.clone(),
            synced: Box::new(synced),
        };
        if self.out.send(FromWatch::Opened(id, watched)).await.is_err() {
            return false;
        }
        tasks.spawn(async move { (key, reader.run().await) });
        true
    }
}

async fn stopped(stop: &mut signal::Receiver<bool>) {
    // A signal nobody can give any more has been given.
    stop.wait_for(|stop| *stop).await.ok();
}

/// A watch for each namespace, or one for all.
fn keys(found: Vec<Resolved>, settings: &KindSettings, entry: usize) -> Vec<Key> {
    found
        .into_iter()
        .flat_map(|resolved| {
            let namespaces: Vec<Option<String>> = if resolved.namespaced {
                settings.namespaces.iter().cloned().map(Some).collect()
            } else {
                Vec::new()
            };
            let namespaces = if namespaces.is_empty() { vec![None] } else { namespaces };
            namespaces.into_iter().map(move |namespace| (resolved.clone(), namespace, entry))
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
