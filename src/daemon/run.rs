//! `spanlink run`: the order of starting and of stopping.

use std::{path::Path, pin::Pin, sync::Arc, time::Duration};

use anyhow::Context as _;
use kube::Client;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch as signal},
    task::JoinError,
    time::timeout,
};
use tracing::{info, warn};

use super::{
    clock::now,
    core::Core,
    destination::Destination,
    prepare::prepare_core,
    quarantine::serve_control,
    queue::OutboxQueue,
    runtime::{WATCH_BATCHES_MAX, block_on},
    shutdown::ShutdownSignal,
    tasks::{TaskFailure, Tasks, spawn_thread, unwind},
};
use crate::{
    admin::{self, Health},
    config::settings::{Settings, WatchSettings},
    export::{
        batch::Limits as RequestLimits,
        client::{Client as OtlpClient, loggable_endpoint},
        encode::Encoder,
        own_traces,
        sender::{Drain, Sender},
    },
    logging,
    metrics::Metrics,
    outbox::Outbox,
    watch::{self, Resume, Synced, WatchError, Watches},
};

/// How long the watches and the event loop may take to end; they wait for nothing outside.
const LOOP_STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// The task of the watches and the event loop, in logs and errors.
const WATCH: &str = "watch";

/// `spanlink run`: watches a cluster and exports or prints spans until SIGTERM or SIGINT.
///
/// # Errors
/// When the daemon cannot start (no cluster, an unknown kind, an address in use), or when one of
/// its tasks fails: [`TaskFailure`].
pub fn run(
    settings: &Settings,
    kubeconfig: Option<&Path>,
    destination: Destination,
    log: Option<&str>,
) -> anyhow::Result<()> {
    let own_traces = || Ok(own_traces::tracer_provider(settings)?);
    block_on(logging::during_with_own_traces(log, own_traces, async {
        let mut shutdown = ShutdownSignal::install()?;
        for warning in settings.warnings() {
            warn!("{warning}.");
        }
        // Its mistakes are reported before the cluster is asked for anything.
        let client = match destination {
            Destination::Otlp => Some(OtlpClient::new(&settings.export)?),
            Destination::Tree | Destination::Json => None,
        };
        let metrics = Metrics::new().context("cannot register metrics")?;
        let health = Health::default();
        let mut tasks = Tasks::default();
        serve_admin(settings, &health, &metrics, &mut tasks).await?;
        let started = tokio::select! {
            () = shutdown.requested() => {
                info!("Stopped before the start was complete.");
                return Ok(());
            }
            failure = tasks.failure() => {
                failure.report(&health);
                return Err(failure.into());
            }
            core = prepare_core(settings, kubeconfig, destination, &metrics, &health) => {
                start(settings, kubeconfig, client, core?, tasks)?
            }
        };
        Ok(started.run_until_stopped(shutdown.requested()).await?)
    }))
}

async fn serve_admin(
    settings: &Settings,
    health: &Health,
    metrics: &Metrics,
    tasks: &mut Tasks,
) -> anyhow::Result<()> {
    let Some(address) = settings.admin.listen else { return Ok(()) };
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}; set admin.listen to another address, or to none")
    })?;
    let serving = admin::serve(listener, health.clone(), metrics.clone(), now);
    tasks.spawn("admin", async move { serving.await.context("cannot serve HTTP") });
    Ok(())
}

fn start(
    settings: &Settings,
    kubeconfig: Option<&Path>,
    client: Option<OtlpClient>,
    (core, encoder): (Core, Encoder),
    mut tasks: Tasks,
) -> anyhow::Result<Started> {
    let (outbox, health, metrics) =
        (core.outbox.clone(), core.health.clone(), core.metrics.clone());
    let (drain, drained) = oneshot::channel();
    let sending = client.map(|client| {
        let queue = OutboxQueue(outbox.clone());
        let limits = RequestLimits::bytes(settings.export.request_bytes_max);
        let sender = Sender::new(queue, client, encoder, limits, metrics.clone(), now);
        let until = async { drained.await.unwrap_or_default() };
        spawn_sender(&mut tasks, sender.run(until))
    });
    info!(
        kinds = settings.watch.kinds.len(),
        endpoint = loggable_endpoint(&settings.export),
        queued_spans = outbox.len(),
        quarantined_spans = outbox.quarantined(),
        "Starting. {}",
        if outbox.is_on_disk() {
            "State is persisted in data_dir."
        } else {
            "State is in memory only; set data_dir to survive restarts."
        }
    );
    if outbox.is_on_disk() {
        let outbox = outbox.clone();
        if let Some(directory) = &settings.outbox.folder {
            serve_control(directory, &outbox, &mut tasks);
        }
        tasks.spawn("outbox", async move { Err(outbox.ended().await.into()) });
    }
    let (stop, stopped) = signal::channel(false);
    let settings = settings.watch.clone();
    let kubeconfig = kubeconfig.map(Path::to_owned);
    let work =
        move || watch_on_this_thread(settings, kubeconfig.as_deref(), metrics, core, stopped);
    let watching = Box::pin(spawn_thread(WATCH, work)?);
    Ok(Started { tasks, watching, sending, stop, drain, outbox, health })
}

/// Returns a receiver of the number of records that the sender has not sent.
fn spawn_sender(
    tasks: &mut Tasks,
    sending: impl Future<Output = usize> + Send + 'static,
) -> oneshot::Receiver<usize> {
    let (report, unsent) = oneshot::channel();
    tasks.spawn("sender", async move {
        report.send(sending.await).ok();
        Ok(())
    });
    unsent
}

/// The daemon, once everything is started.
struct Started {
    tasks: Tasks,
    /// The number of open convergences, once the watches and the event loop have ended.
    watching: Pin<Box<dyn Future<Output = anyhow::Result<usize>> + Send>>,
    /// The number of unsent records, once the sender has ended.
    sending: Option<oneshot::Receiver<usize>>,
    /// Stops the watches and the event loop.
    stop: signal::Sender<bool>,
    /// Stops the sender, with the time it has left.
    drain: oneshot::Sender<Drain>,
    outbox: Outbox,
    health: Health,
}

impl Started {
    /// Runs until `stop_requested` resolves or a task fails; then stops the watches and the event
    /// loop, drains the outbox, and closes it: each needs those after it.
    async fn run_until_stopped(
        mut self,
        stop_requested: impl Future<Output = ()>,
    ) -> Result<(), TaskFailure> {
        let mut watching_ended = false;
        let mut failure = tokio::select! {
            biased;
            () = stop_requested => None,
            failure = self.tasks.failure() => Some(failure),
            ended = &mut self.watching => {
                watching_ended = true;
                Some(watch_failure(ended))
            }
        };
        if let Some(failure) = &failure {
            failure.report(&self.health);
        }
        self.stop.send_replace(true);
        let mut open_convergences = 0;
        if !watching_ended {
            match timeout(LOOP_STOP_TIMEOUT, &mut self.watching).await {
                Ok(Ok(open)) => open_convergences = open,
                Ok(ended) => report_first(&mut failure, watch_failure(ended), &self.health),
                Err(_elapsed) => warn!("The event loop did not end in time."),
            }
        }
        self.drain.send(Drain::default()).ok();
        let unsent_spans = match self.sending.take() {
            Some(unsent) => unsent.await.unwrap_or_else(|_panicked| self.outbox.len()),
            None => 0,
        };
        self.outbox.close();
        let persisted = self.outbox.is_on_disk();
        if let Some(late) = self.tasks.shut_down().await {
            report_first(&mut failure, late, &self.health);
        }
        info!(unsent_spans, open_convergences, persisted, "Stopped.");
        failure.map_or(Ok(()), Err)
    }
}

/// The first failure is the reason for which the daemon ends; those after it may follow from it.
fn report_first(failure: &mut Option<TaskFailure>, later: TaskFailure, health: &Health) {
    if failure.is_none() {
        later.report(health);
        *failure = Some(later);
    }
}

fn watch_failure(ended: anyhow::Result<usize>) -> TaskFailure {
    TaskFailure::new(WATCH, ended.map(|_open_convergences| ()))
}

/// Runs the watches and the event loop on a separate runtime, so that both wake up together.
/// Returns the number of convergences that are open at the end.
fn watch_on_this_thread(
    settings: WatchSettings,
    kubeconfig: Option<&Path>,
    metrics: Metrics,
    core: Core,
    stop: signal::Receiver<bool>,
) -> anyhow::Result<usize> {
    let runtime =
        watch::runtime(settings.read_interval).context("cannot start the watch runtime")?;
    let result = runtime.block_on(async {
        let client = watch::client(kubeconfig).await?;
        watch_and_trace(client, settings, metrics, core, stop).await
    });
    // A watch of a silent server must not delay the end.
    runtime.shutdown_background();
    result
}

async fn watch_and_trace(
    client: Client,
    settings: WatchSettings,
    metrics: Metrics,
    mut core: Core,
    mut stop: signal::Receiver<bool>,
) -> anyhow::Result<usize> {
    let (out, inputs) = mpsc::channel(WATCH_BATCHES_MAX);
    let health = core.health.clone();
    let synced: Synced = Arc::new(move |name, is_synced| health.set_synced(name, is_synced));
    let resume = core.tracer.resume_points().map(|watch| Resume {
        id: watch.id,
        watched: watch.scope,
        resource_version: watch.resource_version,
        selected: watch.selected,
    });
    let watches = Watches {
        client,
        settings: Arc::new(settings),
        metrics,
        clock: now,
        out,
        stop: stop.clone(),
        synced,
        resume: resume.collect(),
        tap: None,
    };
    let mut watching = tokio::spawn(watches.run());
    // The loop is also stopped, in order, when the watches end early: it still stores its state.
    let (stop_loop, loop_stopped) = signal::channel(false);
    let early_end = {
        let mut looping = std::pin::pin!(core.run(inputs, loop_stopped));
        let stopping = async {
            let early_end = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => None,
                ended = &mut watching => Some(ended),
            };
            stop_loop.send_replace(true);
            early_end
        };
        tokio::select! {
            biased;
            early_end = stopping => {
                looping.await?;
                early_end
            }
            // The sink cannot be written, or the outbox is closed.
            result = &mut looping => {
                result?;
                None
            }
        }
    };
    if let Some(ended) = early_end {
        watches_failed(ended)?;
    }
    let open: i64 = core.tracer.open_convergences().values().sum();
    Ok(open.try_into().unwrap_or(0))
}

/// An error in any case: the watches ended before they were stopped.
fn watches_failed(ended: Result<Result<(), WatchError>, JoinError>) -> anyhow::Result<()> {
    unwind(ended)??;
    anyhow::bail!("the watches ended before they were stopped")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        admin::Liveness,
        export::{client::Transport, response::Response},
        outbox::{Commit, Limits},
    };

    const REQUEST_LIMITS: RequestLimits = RequestLimits::bytes(1 << 20);

    struct Panicking;

    impl Transport for Panicking {
        async fn send(&mut self, _: Bytes) -> Response {
            panic!("the answer broke")
        }

        fn endpoint(&self) -> &'static str {
            "http://localhost:4317"
        }
    }

    fn encoder() -> Encoder {
        let settings = Settings::load(None, []).unwrap();
        Encoder::new(&settings.export, &settings.cluster, None)
    }

    /// A daemon whose event loop ends when it is stopped.
    fn started(tasks: Tasks) -> Started {
        let (stop, mut stopped) = signal::channel(false);
        let watching = Box::pin(async move {
            stopped.wait_for(|stop| *stop).await?;
            Ok(3)
        });
        let metrics = Metrics::new().unwrap();
        let health = Health::default();
        health.report_running(now());
        Started {
            tasks,
            watching,
            sending: None,
            stop,
            drain: oneshot::channel().0,
            outbox: Outbox::in_memory(Limits::records(10), metrics),
            health,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn panic_of_the_sender_ends_the_daemon_with_its_reason() {
        let metrics = Metrics::new().unwrap();
        let outbox = Outbox::in_memory(Limits::records(10), metrics.clone());
        let records = vec![Bytes::from_static(&[1, 0, b's'])];
        outbox.commit(Commit { records, entries: Vec::new() });
        let queue = OutboxQueue(outbox.clone());
        let sender = Sender::new(queue, Panicking, encoder(), REQUEST_LIMITS, metrics, now);
        let mut tasks = Tasks::default();
        let unsent = spawn_sender(&mut tasks, sender.run(std::future::pending()));
        let started = Started { sending: Some(unsent), outbox, ..started(tasks) };
        let (health, outbox) = (started.health.clone(), started.outbox.clone());
        assert_eq!(health.liveness(now()), Liveness::Live);
        let failure = started.run_until_stopped(std::future::pending()).await.unwrap_err();
        let reason = "panicked: the answer broke".to_owned();
        assert_eq!(failure, TaskFailure { task: "sender", reason });
        assert_eq!(health.liveness(now()), Liveness::Failed(failure.to_string()));
        assert_eq!(outbox.len(), 1);
    }

    #[tokio::test]
    async fn panic_of_the_event_loop_ends_the_daemon_with_its_reason() {
        let work = || -> anyhow::Result<usize> { panic!("the sink broke") };
        let watching = Box::pin(spawn_thread(WATCH, work).unwrap());
        let started = Started { watching, ..started(Tasks::default()) };
        let failure = started.run_until_stopped(std::future::pending()).await.unwrap_err();
        let reason = "panicked: the sink broke".to_owned();
        assert_eq!(failure, TaskFailure { task: "watch", reason });
    }

    #[tokio::test(start_paused = true)]
    async fn task_that_fails_while_stopping_is_the_reason_of_the_end() {
        let mut tasks = Tasks::default();
        let unsent = spawn_sender(&mut tasks, async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            panic!("the last request broke")
        });
        let started = Started { sending: Some(unsent), ..started(tasks) };
        let failure = started.run_until_stopped(std::future::ready(())).await.unwrap_err();
        assert_eq!(failure.to_string(), "the task sender failed: panicked: the last request broke");
    }

    #[tokio::test(start_paused = true)]
    async fn stopped_daemon_ends_without_a_failure() {
        let mut tasks = Tasks::default();
        tasks.spawn("admin", std::future::pending());
        let unsent = spawn_sender(&mut tasks, async { 0 });
        let started = Started { sending: Some(unsent), ..started(tasks) };
        // The sender ends before the other tasks once the daemon stops, which is not a failure.
        started.run_until_stopped(std::future::ready(())).await.unwrap();
    }
}
