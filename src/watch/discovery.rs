//! Detects installed and removed kinds: by watches of `CustomResourceDefinition` and
//! `APIService`, and by polls that become rarer.

use std::{fmt::Debug, time::Duration};

use futures_util::StreamExt as _;
use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    kube_aggregator::pkg::apis::apiregistration::v1::APIService,
};
use kube::{
    Api, Client, Resource,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use tracing::{debug, info, warn};

use super::{request::ANSWER_TIMEOUT, resolve::Served};
use crate::error_chain::ErrorChain;

/// The API server serves a kind up to a few seconds after its `CustomResourceDefinition` changed.
const POLL_MIN: Duration = Duration::from_secs(1);
/// Limits how late a new kind is noticed where RBAC forbids the watches.
const POLL_MAX: Duration = Duration::from_mins(5);

/// Why discovery failed.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    #[error(transparent)]
    Request(#[from] kube::Error),
    #[error("the API server did not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Timeout,
}

/// Asks the API server for the kinds that it serves.
pub(super) async fn discover(client: &Client) -> Result<Served, DiscoveryError> {
    match timeout(ANSWER_TIMEOUT, Served::discover(client)).await {
        Ok(served) => Ok(served?),
        Err(_elapsed) => Err(DiscoveryError::Timeout),
    }
}

/// When to discover again, while kinds of the configuration may still be installed.
pub(super) struct KindChanges {
    changes: mpsc::Receiver<()>,
    changed: mpsc::Sender<()>,
    watches: JoinSet<()>,
    poll: Duration,
    is_failing: bool,
}

impl KindChanges {
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(1);
        Self {
            changes: receiver,
            changed: sender,
            watches: JoinSet::new(),
            poll: POLL_MIN,
            is_failing: false,
        }
    }

    /// Returns when kinds may have changed, or when the next poll is due. Cancel-safe.
    pub(super) async fn next(&mut self, client: &Client) {
        if self.watches.is_empty() {
            let changed = || self.changed.clone();
            self.watches.spawn(watch::<CustomResourceDefinition>(client.clone(), changed()));
            self.watches.spawn(watch::<APIService>(client.clone(), changed()));
        }
        let poll = self.poll.mul_f64(1.0 + fastrand::f64() / 4.0);
        match timeout(poll, self.changes.recv()).await {
            Ok(_changed) => self.poll = POLL_MIN,
            Err(_elapsed) => self.poll = (self.poll * 2).min(POLL_MAX),
        }
    }

    /// Logs a failure once until discovery recovers.
    pub(super) fn record(&mut self, result: Result<Served, DiscoveryError>) -> Option<Served> {
        match result {
            Ok(served) => {
                if std::mem::take(&mut self.is_failing) {
                    info!("API discovery recovered.");
                }
                Some(served)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    let error: &dyn std::error::Error = &error;
                    warn!(error, "API discovery failed; retrying.");
                }
                None
            }
        }
    }
}

/// Reports every change of the objects of one kind; only their metadata is read.
async fn watch<K>(client: Client, changed: mpsc::Sender<()>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let api: Api<PartialObjectMeta<K>> = Api::all(client);
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_) | watcher::Event::InitDone) => {
                // A full channel already announces a change.
                changed.try_send(()).ok();
            }
            Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => {}
            Err(error) => {
                debug!(kind = %K::kind(&()), error = %ErrorChain(&error), "Watching installed kinds failed; polling.");
            }
        }
    }
}
