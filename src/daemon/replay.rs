//! `spanlink replay`: turns a recording into spans, without a cluster.

use std::{
    io::{self, Write as _},
    path::Path,
    sync::Arc,
};

use anyhow::Context as _;

use super::{
    clock::now, destination::Destination, queue::OutboxQueue, rules::rules, runtime::block_on,
};
use crate::{
    config::settings::Settings,
    export::{
        client::Client,
        encode::Encoder,
        sender::{Drain, Sender},
        tree::{self, Style},
    },
    logging,
    metrics::Metrics,
    outbox::{Commit, Limits, Outbox},
    replay::{self, Take},
    trace::model::span::Span,
};

/// Log level of a replay without `--log`: its output is the spans.
const DEFAULT_LOG: &str = "warn";

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
        let mut spans = Vec::new();
        replay::replay(
            file,
            rules(settings),
            &Arc::new(settings.watch.clone()),
            if everything { Take::Everything } else { Take::Configured },
            |output| spans.extend(output.spans),
        )?;
        match destination {
            Destination::Tree => {
                let text = tree::render(&spans, Style::of(&io::stdout()));
                io::stdout().lock().write_all(text.as_bytes())?;
            }
            Destination::Json => {
                destination.sink(encoder).accept(spans, now())?;
            }
            Destination::Otlp => export(settings, encoder, &spans).await?,
        }
        Ok(())
    }))
}

/// Sends all spans, then ends.
async fn export(settings: &Settings, encoder: Encoder, spans: &[Span]) -> anyhow::Result<()> {
    let metrics = Metrics::new().context("cannot register metrics")?;
    let outbox = Outbox::in_memory(Limits::records(spans.len().max(1)), metrics.clone());
    let client = Client::new(&settings.export)?;
    let records = spans.iter().map(|span| encoder.record(span)).collect();
    outbox.commit(Commit { records, entries: Vec::new() });
    let sender = Sender::new(OutboxQueue(outbox), client, encoder, metrics);
    let unsent = sender.run(async { Drain::default() }).await;
    anyhow::ensure!(
        unsent == 0,
        "{unsent} of {} spans were not sent to {}; is the collector up?",
        spans.len(),
        settings.export.endpoint
    );
    Ok(())
}
