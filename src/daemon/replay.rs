//! `spanlink replay`: turns a recording into spans, without a cluster.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_blocking,
    time::timeout,
};
use tracing::warn;

use super::{
    clock::now, destination::Destination, queue::OutboxQueue, rules::rules, runtime::block_on,
};
use crate::{
    config::settings::{Settings, WatchSettings},
    export::{
        batch::Limits as RequestLimits,
        client::{Client, Transport as _},
        encode::Encoder,
        sender::{Drain, Sender},
        sink::Sink,
        tree::Progress,
    },
    logging,
    metrics::Metrics,
    outbox::{Commit, Limits, Outbox},
    replay::{self, ReplayScope, Replayed},
    trace::{model::time::Timestamp, rules::Rules},
    watch::recording::RecordingError,
};

/// Log level of a replay without `--log`: its output is the spans.
const DEFAULT_LOG: &str = "warn";

/// How often complete trees are printed, by the time of the recording.
const PRINT_INTERVAL: Duration = Duration::from_secs(1);

/// Spans that wait to be sent, besides those of a few events. A full queue blocks the replay.
const QUEUED_SPANS_MAX: usize = 4096;
const QUEUED_EVENTS_MAX: usize = 16;

/// `spanlink replay`: reads the recording `file` and prints or exports its spans. Without the option
/// `watch`, every kind of the recording is replayed.
///
/// # Errors
/// When the file is not a recording, the spans cannot be printed or exported, or the collector refuses
/// some of them.
pub fn replay(
    settings: &Settings,
    file: &Path,
    destination: Destination,
    log: Option<&str>,
) -> anyhow::Result<()> {
    let recording = RecordingToReplay {
        file: file.to_owned(),
        rules: rules(settings),
        settings: Arc::new(settings.watch.clone()),
        scope: if settings.are_kinds_configured {
            ReplayScope::Configured
        } else {
            ReplayScope::Everything
        },
    };
    block_on(logging::during(log.or(Some(DEFAULT_LOG)), async {
        let encoder = Encoder::new(&settings.export, &settings.cluster, None);
        match destination {
            Destination::Otlp => export(settings, encoder, recording).await,
            Destination::Tree | Destination::Json => {
                print(recording, destination.sink(encoder, Progress::Hidden))
            }
        }
    }))
}

struct RecordingToReplay {
    file: PathBuf,
    rules: Rules,
    settings: Arc<WatchSettings>,
    scope: ReplayScope,
}

impl RecordingToReplay {
    fn replay(self, on_replayed: impl FnMut(Replayed<'_>)) -> Result<(), RecordingError> {
        replay::replay(&self.file, self.rules, &self.settings, self.scope, on_replayed)
    }
}

fn print(recording: RecordingToReplay, sink: Sink) -> anyhow::Result<()> {
    let (now, last_print) = (Timestamp::default(), Timestamp::default());
    let mut sink = PrintingSink { sink, now, last_print };
    let mut printed = Ok(());
    recording.replay(|replayed| {
        if printed.is_ok() {
            printed = sink.accept(replayed);
        }
    })?;
    printed.and_then(|()| sink.finish()).context("cannot print spans")
}

/// Prints the spans of a replay as the time of the recording advances.
struct PrintingSink {
    sink: Sink,
    now: Timestamp,
    last_print: Timestamp,
}

impl PrintingSink {
    fn accept(&mut self, replayed: Replayed<'_>) -> io::Result<()> {
        self.now = replayed.at.max(self.now);
        self.sink.accept(replayed.output.spans, self.now)?;
        if self.now.since(self.last_print) >= PRINT_INTERVAL {
            self.last_print = self.now;
            self.sink.tick(self.now, || replayed.tracer.open_traces())?;
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        self.sink.finish(self.now)
    }
}

/// Sends the spans of a replay while it continues, so that memory does not grow with the recording.
async fn export(
    settings: &Settings,
    encoder: Encoder,
    recording: RecordingToReplay,
) -> anyhow::Result<()> {
    for warning in settings.export_warnings() {
        warn!("{warning}.");
    }
    let metrics = Metrics::new().context("cannot register metrics")?;
    let outbox = Outbox::in_memory(Limits::records(QUEUED_SPANS_MAX), metrics.clone());
    let client = Client::new(&settings.export)?;
    let endpoint = client.endpoint().to_owned();
    let (out, batches) = mpsc::channel(QUEUED_EVENTS_MAX);
    let sender = Sender::new(
        OutboxQueue(outbox.clone()),
        client,
        encoder.clone(),
        RequestLimits::bytes(settings.export.request_bytes_max),
        metrics.clone(),
        now,
    );
    let replaying = spawn_blocking(move || {
        recording.replay(|replayed| {
            let spans = &replayed.output.spans;
            let records: Vec<Bytes> = spans.iter().map(|span| encoder.record(span)).collect();
            if !records.is_empty() {
                // Fails where the collector does not answer; the export has failed then.
                out.blocking_send(records).ok();
            }
        })
    });
    let patience = Patience::new(settings.export.timeout);
    let (stop, stopped) = oneshot::channel();
    let queueing = async {
        let queued = queue(&outbox, batches, patience.until_accepted).await;
        let drain = match queued {
            Some(_) => patience.drain,
            None => Drain { responding: Duration::ZERO, unresponsive: Duration::ZERO },
        };
        stop.send(drain).ok();
        queued
    };
    let sending = sender.run(async { stopped.await.unwrap_or_default() });
    let (queued, unsent) = tokio::join!(queueing, sending);
    let count = queued.with_context(|| {
        let seconds = patience.until_accepted.as_secs();
        format!("{endpoint} accepted no spans for {seconds} s; is the collector up?")
    })?;
    replaying.await.context("the replay panicked")??;
    anyhow::ensure!(
        unsent == 0,
        "{unsent} of {count} spans were not sent to {endpoint}; is the collector up?"
    );
    let exported = usize::try_from(metrics.spans_exported.get()).unwrap_or(usize::MAX);
    let refused = count.saturating_sub(exported);
    anyhow::ensure!(
        refused == 0,
        "{refused} of {count} spans were refused by {endpoint}; the log has the reason"
    );
    Ok(())
}

/// How long a replay waits for the collector. It is not being stopped, so a collector that responds has
/// all the time that it needs.
#[derive(Clone, Copy, Debug)]
struct Patience {
    drain: Drain,
    /// How long the queue may stay full.
    until_accepted: Duration,
}

impl Patience {
    /// `timeout` is the time limit of one request. A collector may also restart meanwhile.
    fn new(timeout: Duration) -> Self {
        let restart = Drain::default().unresponsive;
        Self {
            drain: Drain { responding: Duration::MAX, unresponsive: restart },
            until_accepted: timeout.saturating_add(restart),
        }
    }
}

/// Queues all records and returns their number; `None` where the queue stays full for `patience`.
async fn queue(
    outbox: &Outbox,
    mut batches: mpsc::Receiver<Vec<Bytes>>,
    patience: Duration,
) -> Option<usize> {
    let mut count = 0;
    while let Some(records) = batches.recv().await {
        timeout(patience, outbox.ready()).await.ok()?.ok()?;
        count += records.len();
        outbox.commit(Commit { records, entries: Vec::new() });
    }
    Some(count)
}
