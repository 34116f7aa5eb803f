//! Wires the house: watch → trace → outbox → export, and the order of stopping.

mod core;
mod restore;
mod rules;

use std::{
    fs::File,
    io::{self, BufWriter},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use kube::Client;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal as os_signal},
    sync::{mpsc, oneshot, watch as signal},
    time::sleep,
};
use tracing::{error, info, warn};

use self::core::Core;
pub use self::rules::rules;
use crate::{
    admin::{self, Health},
    config::settings::{OutboxSettings, Settings, WatchSettings},
    export::{
        client::Client as OtlpClient,
        encode::Encoder,
        sender::{Drain, Queue, Sender},
        sink::Sink,
        tree::Style,
    },
    logging,
    metrics::Metrics,
    outbox::{Commit, Limits, Outbox},
    replay::{self, Take},
    trace::model::time::Timestamp,
    watch::{self, Resume, Synced, Watches, recording::RecordingWriter},
};

/// Where spans go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    Otlp,
    Tree,
    Json,
}

/// Batches of notices between the watches and the loop. When it is full, the watches wait.
const BATCHES_MAX: usize = 16;
/// Limit for the request that reads the identity of the cluster.
const CLUSTER_UID_TIMEOUT: Duration = Duration::from_secs(30);
/// For the watches and the loop to end; they have nothing to wait for.
const LOOP_ENDS: Duration = Duration::from_secs(2);

/// The one clock. Time enters the house here, as data.
pub fn clock() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "the one clock")]
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanos = since.map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX));
    Timestamp::from_nanos(nanos)
}

/// `spanlink run`: until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot begin: no cluster, no such kind, no address to listen on.
pub fn run(
    settings: &Settings,
    kubeconfig: Option<&Path>,
    to: To,
    log: Option<&str>,
) -> anyhow::Result<()> {
    let own_traces = settings.admin.own_traces.as_deref();
    main_runtime()?.block_on(logging::during(log, own_traces, async {
        for warning in settings.warnings() {
            warn!("{warning}.");
        }
        let metrics = Metrics::new().context("cannot register metrics")?;
        let health = Health::default();
        if let Some(address) = settings.admin.listen {
            let listener = TcpListener::bind(address).await.with_context(|| {
                format!("cannot listen on {address} (option admin.listen, or none)")
            })?;
            tokio::spawn(admin::serve(listener, health.clone(), metrics.clone(), clock));
        }
        let outbox = outbox(&settings.outbox, to, &metrics)?;
        let cluster_uid = cluster_uid(kubeconfig).await?;
        let encoder = Encoder::new(&settings.export, &settings.cluster, cluster_uid.as_deref());
        let (stop, stopped) = signal::channel(false);
        let (drain, drained) = oneshot::channel();
        let sender = match to {
            To::Otlp => {
                let transport = OtlpClient::new(&settings.export)?;
                let queue = Waiting(outbox.clone());
                let sender = Sender::new(queue, transport, encoder.clone(), metrics.clone());
                let until = async { drained.await.unwrap_or_default() };
                Some(tokio::spawn(sender.run(until)))
            }
            To::Tree | To::Json => None,
        };
        let core = Core {
            tracer: restore::tracer(settings, cluster_uid.as_deref().unwrap_or_default(), &outbox),
            sink: sink(to, encoder),
            outbox: outbox.clone(),
            metrics: metrics.clone(),
            health: health.clone(),
            in_hand: Vec::new(),
        };
        info!(
            kinds = settings.watch.kinds.len(),
            endpoint = settings.export.endpoint,
            waiting = outbox.len(),
            "Starting. {}",
            if outbox.is_on_disk() {
                "What is open when it stops is resumed."
            } else {
                "Memory only: what is open when it stops is not resumed (option data_dir)."
            }
        );
        let watching = WatchThread::start(settings, kubeconfig, metrics, health, core, stopped)?;
        let result = watching.until_stopped(&stop).await;
        drain.send(Drain::default()).ok();
        let left_behind = match sender {
            Some(sender) => sender.await.unwrap_or_default(),
            None => 0,
        };
        outbox.close();
        let open_convergences = result?;
        let is_kept = outbox.is_on_disk();
        info!(left_behind, open_convergences, is_kept, "Stopped.");
        Ok(())
    }))
}

/// `spanlink record`: raw watch lines to a file, until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot begin, or not write.
pub fn record(
    settings: &Settings,
    kubeconfig: Option<&Path>,
    output: Option<&Path>,
    log: Option<&str>,
) -> anyhow::Result<()> {
    main_runtime()?.block_on(logging::during(log, None, async {
        let out: Box<dyn io::Write + Send> = match output {
            Some(path) => {
                let file = File::create(path)
                    .with_context(|| format!("cannot write the recording {}", path.display()))?;
                Box::new(BufWriter::new(file))
            }
            None => Box::new(BufWriter::new(io::stdout())),
        };
        let writer =
            Arc::new(Mutex::new(RecordingWriter::new(out, &Arc::new(settings.watch.clone()))));
        let (stop, stopped) = signal::channel(false);
        let (broken, mut is_broken) = mpsc::channel(1);
        let tap: watch::recording::Tap = {
            let writer = Arc::clone(&writer);
            Arc::new(move |name, at, line| {
                let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
                let written = writer.write(name, at, line).and_then(|()| writer.flush());
                if let Err(error) = written {
                    broken.try_send(error).ok();
                }
            })
        };
        let (out, mut notices) = mpsc::channel(BATCHES_MAX);
        let watches = Watches {
            client: watch::client(kubeconfig).await?,
            settings: Arc::new(settings.watch.clone()),
            metrics: Metrics::new().context("cannot register metrics")?,
            clock,
            out,
            stop: stopped,
            synced: Arc::new(|_, _| {}),
            resume: Vec::new(),
            tap: Some(tap),
        };
        let mut watching = tokio::spawn(watches.run());
        let drops = async { while notices.recv().await.is_some() {} };
        let result = tokio::select! {
            () = asked_to_stop() => Ok(()),
            Some(error) = is_broken.recv() => Err(error).context("cannot write the recording"),
            result = &mut watching => result.context("the watches panicked")?.map_err(Into::into),
            () = drops => Ok(()),
        };
        stop.send_replace(true);
        writer.lock().unwrap_or_else(PoisonError::into_inner).flush()?;
        result
    }))
}

/// `spanlink replay`: a recording in, spans out. `everything`: no configuration says what to take.
///
/// # Errors
/// When the file is no recording, or the output cannot be written.
pub fn replay(
    settings: &Settings,
    file: &Path,
    to: To,
    everything: bool,
    log: Option<&str>,
) -> anyhow::Result<()> {
    main_runtime()?.block_on(logging::during(log.or(Some("warn")), None, async {
        let metrics = Metrics::new().context("cannot register metrics")?;
        let encoder = Encoder::new(&settings.export, &settings.cluster, None);
        let mut spans = Vec::new();
        replay::replay(
            file,
            rules(settings),
            &Arc::new(settings.watch.clone()),
            if everything { Take::Everything } else { Take::Configured },
            |output| spans.extend(output.spans),
        )?;
        match to {
            To::Tree => {
                let text = crate::export::tree::render(&spans, Style::of(&io::stdout()));
                io::Write::write_all(&mut io::stdout().lock(), text.as_bytes())?;
            }
            To::Json => {
                let mut sink = sink(to, encoder);
                sink.accept(spans, clock())?;
            }
            To::Otlp => {
                let limits = Limits::records(spans.len().max(1));
                let outbox = Outbox::in_memory(limits, metrics.clone());
                let transport = OtlpClient::new(&settings.export)?;
                let records = spans.iter().map(|span| encoder.record(span)).collect();
                outbox.commit(Commit { records, entries: Vec::new() });
                let sender = Sender::new(Waiting(outbox), transport, encoder, metrics);
                let left = sender.run(async { Drain::default() }).await;
                anyhow::ensure!(
                    left == 0,
                    "{left} of {} spans were not sent to {}",
                    spans.len(),
                    settings.export.endpoint
                );
            }
        }
        Ok(())
    }))
}

/// Export, signals and HTTP live here; the watches and the loop on a runtime of their own.
fn main_runtime() -> anyhow::Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("cannot start a runtime")
}

/// The identity of the cluster is that of its first Namespace. Without it ids are still the same
/// for the same cluster, and could meet those of another.
async fn cluster_uid(kubeconfig: Option<&Path>) -> anyhow::Result<Option<String>> {
    let client = watch::client(kubeconfig).await?;
    let namespaces: kube::Api<k8s_openapi::api::core::v1::Namespace> = kube::Api::all(client);
    let request = tokio::time::timeout(CLUSTER_UID_TIMEOUT, namespaces.get_metadata("kube-system"));
    match request.await.context("the API server did not answer in time; is it up?")? {
        Ok(namespace) => Ok(namespace.metadata.uid),
        Err(kube::Error::Api(status)) => {
            warn!(
                code = status.code,
                "Cannot read Namespace kube-system; k8s.cluster.uid is unknown."
            );
            Ok(None)
        }
        Err(error) => Err(error).context(
            "the API server does not answer; is the address in the kubeconfig right, and is it up?",
        ),
    }
}

/// What prints has nobody to wait for: it has said what it said.
fn outbox(settings: &OutboxSettings, to: To, metrics: &Metrics) -> anyhow::Result<Outbox> {
    Ok(match &settings.folder {
        Some(folder) if to == To::Otlp => {
            let limits = Limits { records_max: usize::MAX, bytes_max: settings.bytes_max };
            Outbox::on_disk(folder, limits, metrics.clone())?
        }
        Some(_) | None => Outbox::in_memory(Limits::records(settings.spans_max), metrics.clone()),
    })
}

fn sink(to: To, encoder: Encoder) -> Sink {
    match to {
        To::Otlp => Sink::Otlp(encoder),
        To::Tree => Sink::tree(Style::of(&io::stdout()), Box::new(io::stdout())),
        To::Json => Sink::Json(encoder, Box::new(io::stdout())),
    }
}

/// Joins the outbox with the sender: neither knows the other.
struct Waiting(Outbox);

impl Queue for Waiting {
    async fn filled(&self) {
        self.0.filled().await;
    }

    fn take(&self, records_max: usize, bytes_max: usize) -> Vec<bytes::Bytes> {
        self.0.take(records_max, bytes_max)
    }

    fn acknowledge(&self, count: usize) {
        self.0.acknowledge(count);
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

/// The thread on which watches and the loop live: they wake up together, and seldom.
struct WatchThread {
    ended: oneshot::Receiver<anyhow::Result<usize>>,
}

impl WatchThread {
    fn start(
        settings: &Settings,
        kubeconfig: Option<&Path>,
        metrics: Metrics,
        health: Health,
        core: Core,
        stop: signal::Receiver<bool>,
    ) -> anyhow::Result<Self> {
        let runtime = watch::runtime(settings.watch.batch).context("cannot start a runtime")?;
        let settings = settings.watch.clone();
        let kubeconfig = kubeconfig.map(Path::to_owned);
        let (tell, ended) = oneshot::channel();
        let work = move || {
            let result = runtime.block_on(async {
                let client = watch::client(kubeconfig.as_deref()).await?;
                watch_and_trace(client, settings, metrics, health, core, stop).await
            });
            // Watches that wait for a silent server are not waited for.
            runtime.shutdown_background();
            tell.send(result).ok();
        };
        thread::Builder::new()
            .name("watch".to_owned())
            .spawn(work)
            .context("cannot start a thread")?;
        Ok(Self { ended })
    }

    /// Until it is asked to stop, or ended by itself. How many convergences are open then.
    async fn until_stopped(mut self, stop: &signal::Sender<bool>) -> anyhow::Result<usize> {
        tokio::select! {
            () = asked_to_stop() => {}
            ended = &mut self.ended => return ended.context("the loop panicked")?,
        }
        info!("Stopping.");
        stop.send_replace(true);
        tokio::select! {
            ended = self.ended => ended.context("the loop panicked")?,
            () = sleep(LOOP_ENDS) => Ok(0),
        }
    }
}

async fn watch_and_trace(
    client: Client,
    settings: WatchSettings,
    metrics: Metrics,
    health: Health,
    mut core: Core,
    stop: signal::Receiver<bool>,
) -> anyhow::Result<usize> {
    let (out, inputs) = mpsc::channel(BATCHES_MAX);
    let synced: Synced = Arc::new(move |kind, synced| health.synced(kind, synced));
    let stopped = stop.clone();
    let settings = Arc::new(settings);
    let resume = core.tracer.resumable().map(|it| Resume {
        id: it.id,
        watched: it.watched,
        resource_version: it.resource_version,
    });
    let resume = resume.collect();
    let watches =
        Watches { client, settings, metrics, clock, out, stop, synced, resume, tap: None };
    let watching = tokio::spawn(watches.run());
    core.turn(inputs, stopped).await?;
    if watching.is_finished() {
        watching.await.context("the watches panicked")??;
    }
    Ok(core.tracer.open_convergences().values().sum::<i64>().try_into().unwrap_or(0))
}

/// SIGTERM or SIGINT.
async fn asked_to_stop() {
    let mut terminate = match os_signal(SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => {
            error!(%error, "Cannot listen for SIGTERM.");
            return std::future::pending().await;
        }
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
