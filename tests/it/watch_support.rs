//! The watches under test, against a scripted API server, and their messages as text.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use serde_json::{Value, json};
use spanlink::{
    config::settings::{KindSelector, KindSettings, Settings, WatchSettings},
    metrics::Metrics,
    trace::model::{
        observation::{Observation, WatchEvent, WatchId},
        time::Timestamp,
    },
    watch::{Resume, WatchError, WatchMessage, Watches, recording::Tap},
};
use tokio::{
    sync::{mpsc, watch as signal},
    task::JoinHandle,
    time::timeout,
};

use crate::scripted_api_server::{PATIENCE, ScriptedApiServer};

pub(crate) struct Watching {
    messages: mpsc::Receiver<WatchMessage>,
    waiting: VecDeque<(WatchId, WatchEvent)>,
    stop: signal::Sender<bool>,
    synced: signal::Receiver<BTreeMap<String, bool>>,
    pub(crate) metrics: Metrics,
    pub(crate) task: JoinHandle<Result<(), WatchError>>,
}

pub(crate) fn kind(group: &str, kind: &str) -> KindSettings {
    KindSettings::new(KindSelector {
        group: group.into(),
        version: None,
        kind: (kind != "*").then(|| kind.into()),
    })
}

pub(crate) fn object(name: &str, version: u64) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop",
        "uid": format!("uid-{name}"), "resourceVersion": version.to_string(), "generation": 1},
        "spec": {"replicas": 1}, "status": {"phase": "Running"}})
}

impl Watching {
    pub(crate) fn start(server: &ScriptedApiServer, kinds: Vec<KindSettings>) -> Self {
        Self::start_at(server.client(), kinds, None)
    }

    pub(crate) fn start_resuming(
        server: &ScriptedApiServer,
        kinds: Vec<KindSettings>,
        resume: Vec<Resume>,
    ) -> Self {
        Self::start_with(server.client(), kinds, resume, None)
    }

    pub(crate) fn start_tapped(
        server: &ScriptedApiServer,
        kinds: Vec<KindSettings>,
        tap: Option<Tap>,
    ) -> Self {
        Self::start_at(server.client(), kinds, tap)
    }

    pub(crate) fn start_at(
        client: kube::Client,
        kinds: Vec<KindSettings>,
        tap: Option<Tap>,
    ) -> Self {
        Self::start_with(client, kinds, Vec::new(), tap)
    }

    fn start_with(
        client: kube::Client,
        kinds: Vec<KindSettings>,
        resume: Vec<Resume>,
        tap: Option<Tap>,
    ) -> Self {
        let (out, messages) = mpsc::channel(16);
        let (stop, stopped) = signal::channel(false);
        let (set_synced, synced) = signal::channel(BTreeMap::new());
        let metrics = Metrics::new().unwrap();
        let watches = Watches {
            client,
            settings: Arc::new(WatchSettings {
                kinds,
                read_interval: std::time::Duration::ZERO,
                ..Settings::load(None, []).unwrap().watch
            }),
            metrics: metrics.clone(),
            clock: || Timestamp::from_nanos(1),
            out,
            stop: stopped,
            synced: Arc::new(move |kind, is_synced| {
                set_synced.send_modify(|kinds| {
                    kinds.insert(kind.to_owned(), is_synced);
                });
            }),
            resume,
            tap,
        };
        let task = tokio::spawn(watches.run());
        Self { messages, waiting: VecDeque::new(), stop, synced, metrics, task }
    }

    pub(crate) fn is_synced(&self, kind: &str) -> bool {
        self.synced.borrow().get(kind) == Some(&true)
    }

    /// The names of all watches that readiness depends on.
    pub(crate) fn registered(&self) -> Vec<String> {
        self.synced.borrow().keys().cloned().collect()
    }

    pub(crate) async fn becomes_synced(&mut self, kind: &str) {
        let synced = self.synced.wait_for(|kinds| kinds.get(kind) == Some(&true));
        assert!(timeout(PATIENCE, synced).await.is_ok(), "{kind} is not synced");
    }

    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((id, event)) = self.waiting.pop_front() {
                return Some(text(id, &event));
            }
            let message = timeout(PATIENCE, self.messages.recv()).await;
            assert!(message.is_ok(), "no message arrived in time");
            let message = message.unwrap();
            match message? {
                WatchMessage::Opened(id, watched) => {
                    let namespace = watched.namespace.map(|of| format!(" of {of}"));
                    let namespace = namespace.unwrap_or_default();
                    return Some(format!("{} opened {}{namespace}", id.0, watched.kind));
                }
                WatchMessage::Closed(id) => return Some(format!("{} closed", id.0)),
                WatchMessage::Events(id, events) => {
                    self.waiting.extend(events.into_iter().map(|event| (id, event)));
                }
            }
        }
    }

    /// Checks the next messages.
    pub(crate) async fn expect_messages(&mut self, expected: &[&str]) {
        for (at, expected) in expected.iter().enumerate() {
            let message = self.next().await;
            assert_eq!(message.as_deref(), Some(*expected), "at {at}");
        }
    }

    /// The messages up to the first for which `is_last` holds.
    pub(crate) async fn until(&mut self, is_last: impl Fn(&str) -> bool) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            let message = self.next().await;
            assert!(message.is_some(), "the watches ended after {before:?}");
            before.extend(message);
            if before.last().is_some_and(|message| is_last(message)) {
                return before;
            }
        }
    }

    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        assert_eq!(self.next().await, None, "no message after the stop");
        self.task.await.unwrap().unwrap();
    }
}

fn text(id: WatchId, event: &WatchEvent) -> String {
    let named = |what: &str, of: &Observation| {
        let body = if of.body.is_some() { "" } else { " (status)" };
        let dated = if of.written.is_some() { " (dated)" } else { "" };
        format!("{} {what} {}@{}{body}{dated}", id.0, of.object.name, of.resource_version)
    };
    match event {
        WatchEvent::Applied(of) => named("applied", of),
        WatchEvent::Deleted(of) => named("deleted", of),
        WatchEvent::ListItem(of) => named("listed", of),
        WatchEvent::KubernetesEvent(of) => {
            format!("{} {} of {} x{}", id.0, of.reason, of.about, of.count)
        }
        WatchEvent::LeftSelector { uid, resource_version, .. } => {
            format!("{} left selector {uid}@{resource_version}", id.0)
        }
        WatchEvent::ListStarted { .. } => format!("{} lists", id.0),
        WatchEvent::ListCompleted { resource_version, .. } => {
            format!("{} reset {resource_version}", id.0)
        }
        WatchEvent::Bookmark { resource_version, .. } => {
            format!("{} bookmark {resource_version}", id.0)
        }
        WatchEvent::Interrupted { .. } => format!("{} interrupted", id.0),
        WatchEvent::Resumed { .. } => format!("{} resumed", id.0),
    }
}
