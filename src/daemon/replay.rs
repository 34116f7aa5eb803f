//! `spanlink replay`: turns a recording into spans, without a cluster.

use std::{io, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;

use super::{destination::Destination, queue::OutboxQueue, rules::rules, runtime::block_on};
use crate::{
    config::settings::Settings,
    export::{
        client::Client,
        encode::Encoder,
        sender::{Drain, Sender},
        sink::Sink,
        tree::Progress,
    },
    logging,
    metrics::Metrics,
    outbox::{Commit, Limits, Outbox},
    replay::{self, ReplayScope, Replayed},
    trace::model::time::Timestamp,
};

/// Log level of a replay without `--log`: its output is the spans.
const DEFAULT_LOG: &str = "warn";

/// How often complete trees are printed, by the time of the recording.
const PRINT_INTERVAL: Duration = Duration::from_secs(1);

/// `spanlink replay`: reads the recording `file` and prints or exports its spans. With `everything`,
/// every kind of the recording is replayed, not only those of the configuration.
///
/// # Errors
/// When the file is not a recording, or the spans cannot be printed or exported.
pub fn replay(
    settings: &Settings,
    file: &Path,
    destination: Destination,
    everything: bool,
    log: Option<&str>,
) -> anyhow::Result<()> {
    block_on(logging::during(log.or(Some(DEFAULT_LOG)), None, async {
        let encoder = Encoder::new(&settings.export, &settings.cluster, None);
        let mut sink = ReplaySink::new(destination.sink(encoder.clone(), Progress::Hidden));
        let mut printed = Ok(());
        replay::replay(
            file,
            rules(settings),
            &Arc::new(settings.watch.clone()),
            if everything { ReplayScope::Everything } else { ReplayScope::Configured },
            |replayed| {
                if printed.is_ok() {
                    printed = sink.accept(replayed);
                }
            },
        )?;
        let records = printed.and_then(|()| sink.finish()).context("cannot print spans")?;
        if destination == Destination::Otlp {
            export(settings, encoder, records).await?;
        }
        Ok(())
    }))
}

/// Passes the spans of a replay to their sink as the time of the recording advances.
struct ReplaySink {
    sink: Sink,
    /// Records to export, if the sink does not print.
    records: Vec<Bytes>,
    now: Timestamp,
    last_print: Timestamp,
}

impl ReplaySink {
    fn new(sink: Sink) -> Self {
        let (now, last_print) = (Timestamp::default(), Timestamp::default());
        Self { sink, records: Vec::new(), now, last_print }
    }

    fn accept(&mut self, replayed: Replayed<'_>) -> io::Result<()> {
        self.now = replayed.at.max(self.now);
        self.records.extend(self.sink.accept(replayed.output.spans, self.now)?);
        if self.now.since(self.last_print) >= PRINT_INTERVAL {
            self.last_print = self.now;
            self.sink.tick(self.now, || replayed.tracer.open_traces())?;
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<Vec<Bytes>> {
        self.sink.finish(self.now)?;
        Ok(self.records)
    }
}

/// Sends all records, then ends.
async fn export(settings: &Settings, encoder: Encoder, records: Vec<Bytes>) -> anyhow::Result<()> {
    let metrics = Metrics::new().context("cannot register metrics")?;
    let count = records.len();
    let outbox = Outbox::in_memory(Limits::records(count.max(1)), metrics.clone());
    let client = Client::new(&settings.export)?;
    outbox.commit(Commit { records, entries: Vec::new() });
    let sender = Sender::new(OutboxQueue(outbox), client, encoder, metrics);
    let unsent = sender.run(async { Drain::default() }).await;
    anyhow::ensure!(
        unsent == 0,
        "{unsent} of {count} spans were not sent to {}; is the collector up?",
        settings.export.endpoint
    );
    Ok(())
}
