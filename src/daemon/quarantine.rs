//! The quarantine of the outbox, for the control socket and the commands.

use std::{collections::BTreeSet, path::Path};

use anyhow::Context as _;
use tokio::task::spawn_blocking;
use tracing::warn;

use super::tasks::{Tasks, join_failure};
use crate::{
    config::settings::OutboxSettings,
    control::{
        Action, ControlError, ControlSocket, Entry, Listing, Quarantine, Removed, Selection,
    },
    error_chain::ErrorChain,
    export::description::Description,
    outbox::{self, Limits, Outbox, QuarantineEntry, Removal},
    trace::model::time::Timestamp,
};

/// How many records of an entry are decoded for its description.
const SAMPLES_MAX: usize = 16;
const NANOS_PER_MILLI: i64 = 1_000_000;

/// The quarantine of an outbox that this process has open.
#[derive(Clone, Debug)]
pub(super) struct OutboxQuarantine(pub(super) Outbox);

impl Quarantine for OutboxQuarantine {
    async fn list(&self) -> Result<Listing, ControlError> {
        let outbox = self.0.clone();
        let reading = spawn_blocking(move || {
            let mut listing = Listing::default();
            let visit = |entry| listing.entries.push(describe(entry));
            outbox.read_quarantine(SAMPLES_MAX, visit).map(|()| listing)
        });
        match reading.await {
            Ok(Ok(listing)) => Ok(listing),
            Ok(Err(error)) => Err(ControlError::Failed(ErrorChain(&error).to_string())),
            Err(error) => Err(ControlError::Failed(join_failure(error))),
        }
    }

    async fn remove(&self, selection: Selection, action: Action) -> Result<Removed, ControlError> {
        let selection = match selection {
            Selection::All => outbox::Selection::All,
            Selection::Ids(ids) => outbox::Selection::Ids(ids),
        };
        let removal = match action {
            Action::Retry => Removal::Retry,
            Action::Drop => Removal::Drop,
        };
        let removed = self.0.remove_from_quarantine(&selection, removal).await;
        let outbox::Removed { entries, records, missing } =
            removed.map_err(|error| ControlError::Failed(error.to_string()))?;
        Ok(Removed { entries, spans: records, missing })
    }
}

fn describe(entry: QuarantineEntry) -> Entry {
    let QuarantineEntry { id, refusal, records, bytes, samples } = entry;
    let (mut services, mut span_names) = (BTreeSet::new(), BTreeSet::new());
    for sample in &samples {
        if let Some(Description { service, span_name }) = Description::from_record(sample) {
            services.insert(service);
            span_names.insert(span_name);
        }
    }
    let millis = i64::try_from(refusal.unix_millis()).unwrap_or(i64::MAX);
    let time = Timestamp::from_nanos(millis.saturating_mul(NANOS_PER_MILLI)).whole_second();
    Entry {
        id,
        time: time.to_string(),
        spans: records,
        bytes,
        services: services.into_iter().collect(),
        span_names: span_names.into_iter().collect(),
        code: refusal.code().to_owned(),
        message: refusal.message().to_owned(),
    }
}

/// The limits of an outbox in the data directory.
pub(super) fn limits_on_disk(settings: &OutboxSettings) -> Limits {
    Limits {
        records_max: usize::MAX,
        bytes_max: settings.bytes_max,
        quarantine_bytes_max: settings.quarantine_bytes_max,
    }
}

/// Serves `spanlink outbox`. Without the socket, the command works while the daemon is stopped.
pub(super) fn serve_control(directory: &Path, outbox: &Outbox, tasks: &mut Tasks) {
    match ControlSocket::bind(directory) {
        Ok(socket) => {
            let serving = socket.serve(OutboxQuarantine(outbox.clone()));
            tasks.spawn("control", async move { serving.await.context("cannot serve commands") });
        }
        Err(error) => warn!(
            %error,
            directory = %directory.display(),
            "Failed to create the control socket; spanlink outbox works only while the daemon is \
             stopped."
        ),
    }
}
