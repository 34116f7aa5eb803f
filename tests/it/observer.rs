//! An independent watcher for comparison: the state of every object and when it was observed.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use futures::StreamExt as _;
use kube::{
    Api,
    api::DynamicObject,
    core::{ApiResource, GroupVersionKind},
    runtime::watcher::{self, Event},
};
use serde_json::Value;
use spanlink::trace::model::time::Timestamp;

use crate::control_plane::ControlPlane;

/// The content of one watch event.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) at: Timestamp,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) is_gone: bool,
    pub(crate) object: Value,
}

/// Watches until it is dropped.
pub(crate) struct Observer {
    seen: Arc<Mutex<Vec<Seen>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Observer {
    /// Watches the given kinds, such as `apps/v1/Deployment`, in one namespace.
    pub(crate) async fn begin(
        plane: &ControlPlane,
        namespace: &str,
        kinds: &[&str],
    ) -> Result<Self> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for kind in kinds {
            let (version, kind) = kind.rsplit_once('/').context("no version")?;
            let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
            let client = plane.client().await?;
            let api: Api<DynamicObject> = Api::namespaced_with(client, namespace, &resource);
            let (kind, seen) = (kind.to_owned(), Arc::clone(&seen));
            tasks.push(tokio::spawn(async move {
                let mut events = std::pin::pin!(watcher::watcher(api, watcher::Config::default()));
                while let Some(event) = events.next().await {
                    let at = spanlink::daemon::now();
                    let (object, is_gone) = match event {
                        Ok(Event::Apply(object) | Event::InitApply(object)) => (object, false),
                        Ok(Event::Delete(object)) => (object, true),
                        Ok(Event::Init | Event::InitDone) | Err(_) => continue,
                    };
                    let name = object.metadata.name.clone().unwrap_or_default();
                    let object = serde_json::to_value(&object).unwrap_or_default();
                    seen.lock().unwrap_or_else(PoisonError::into_inner).push(Seen {
                        at,
                        kind: kind.clone(),
                        name,
                        is_gone,
                        object,
                    });
                }
            }));
        }
        Ok(Self { seen, tasks })
    }

    /// Every Kubernetes Event about an object of this name.
    pub(crate) fn events_about(&self, name: &str) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let is_about = |it: &&Seen| it.object["regarding"]["name"] == name;
        seen.iter().filter(is_about).cloned().collect()
    }

    /// Every observation of one object, in order.
    pub(crate) fn of(&self, kind: &str, name: &str) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().filter(|it| it.kind == kind && it.name == name).cloned().collect()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
