//! What the event loop starts with: the outbox, and the state of an earlier run.

use std::{path::Path, thread::sleep, time::Duration};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use tokio::{task::spawn_blocking, time::timeout};
use tracing::warn;

use super::{
    core::Core, destination::Destination, quarantine::limits_on_disk, restore::restore_tracer,
    tasks::unwind, unsampled::ContextFlags,
};
use crate::{
    admin::Health,
    config::settings::{OutboxSettings, Settings},
    export::{encode::Encoder, tree::Progress},
    metrics::Metrics,
    outbox::{Limits, OpenError, Outbox},
    watch,
};

/// How long the API server may take to answer the first request.
const CLUSTER_TIMEOUT: Duration = Duration::from_secs(30);
/// How often, and how long apart, an outbox that another process has open is tried again.
const OPEN_ATTEMPTS: u32 = 25;
const OPEN_INTERVAL: Duration = Duration::from_millis(200);

/// Opens the outbox and restores the state. Both can take long, so they run beside the main thread,
/// on which the admin server answers meanwhile.
pub(super) async fn prepare_core(
    settings: &Settings,
    kubeconfig: Option<&Path>,
    destination: Destination,
    metrics: &Metrics,
    health: &Health,
) -> anyhow::Result<(Core, Encoder)> {
    let outbox = open_outbox(&settings.outbox, destination, metrics).await?;
    let cluster_uid = cluster_uid(kubeconfig).await?;
    let encoder = Encoder::new(&settings.export, &settings.cluster, cluster_uid.as_deref());
    let tracer = {
        let (settings, outbox) = (settings.clone(), outbox.clone());
        let cluster = cluster_uid.unwrap_or_default();
        unwind(spawn_blocking(move || restore_tracer(&settings, &cluster, &outbox)).await)
            .context("cannot restore the checkpoint")?
    };
    let core = Core {
        tracer,
        sink: destination.sink(encoder.clone(), Progress::Shown),
        outbox,
        metrics: metrics.clone(),
        health: health.clone(),
        context_flags: ContextFlags::new(&settings.trace.sampling),
        pending_records: Vec::new(),
    };
    Ok((core, encoder))
}

/// Only exported spans are stored on disk: printed ones do not wait for anything.
async fn open_outbox(
    settings: &OutboxSettings,
    destination: Destination,
    metrics: &Metrics,
) -> anyhow::Result<Outbox> {
    let metrics = metrics.clone();
    match settings.folder.clone() {
        Some(folder) if destination == Destination::Otlp => {
            let limits = limits_on_disk(settings);
            let open = move || open_once_free(&folder, limits, &metrics);
            Ok(unwind(spawn_blocking(open).await).context("cannot open the outbox")??)
        }
        Some(_) | None => Ok(Outbox::in_memory(Limits::records(settings.spans_max), metrics)),
    }
}

/// A command such as `spanlink outbox`, or a process that is ending, can have the file open for a
/// moment.
fn open_once_free(folder: &Path, limits: Limits, metrics: &Metrics) -> Result<Outbox, OpenError> {
    let mut opened = Outbox::on_disk(folder, limits, metrics.clone());
    for _ in 0..OPEN_ATTEMPTS {
        if !matches!(opened, Err(OpenError::InUse { .. })) {
            break;
        }
        sleep(OPEN_INTERVAL);
        opened = Outbox::on_disk(folder, limits, metrics.clone());
    }
    opened
}

/// The UID of Namespace `kube-system`, which identifies the cluster. Without it, the ids of spans
/// are still the same after a restart, but may collide with those of another cluster.
async fn cluster_uid(kubeconfig: Option<&Path>) -> anyhow::Result<Option<String>> {
    const UNREACHABLE: &str = "the API server does not answer; check that it is up and that the \
                               kubeconfig has its address";
    let client = watch::client(kubeconfig).await?;
    let namespaces: Api<Namespace> = Api::all(client);
    let answer = timeout(CLUSTER_TIMEOUT, namespaces.get_metadata("kube-system")).await;
    match answer.context(UNREACHABLE)? {
        Ok(namespace) => Ok(namespace.metadata.uid),
        Err(kube::Error::Api(status)) => {
            warn!(
                code = status.code,
                "Failed to read Namespace kube-system; k8s.cluster.uid is unknown."
            );
            Ok(None)
        }
        Err(error) => Err(error).context(UNREACHABLE),
    }
}
