//! `spanlink outbox`: lists, retries and drops spans in quarantine, in the daemon that has the outbox
//! open, or in its file while no daemon runs.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::Path,
};

use anyhow::Context as _;
use clap::ValueEnum;

use super::{
    quarantine::{OutboxQuarantine, limits_on_disk},
    runtime::block_on,
};
use crate::{
    config::settings::{OutboxSettings, Settings},
    control::{
        Action, ControlClient, ControlError, Entry, Listing, Quarantine, Removed, Selection,
    },
    logging,
    metrics::Metrics,
    outbox::{OpenError, Outbox},
};

/// Only problems of the file are logged.
const DEFAULT_LOG: &str = "warn";
/// The services in one cell of the table; `-o json` has more.
const SERVICES_MAX: usize = 2;

/// How `spanlink outbox list` prints the entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Listed {
    /// A table with one line per entry.
    #[default]
    Table,
    /// A JSON object with all entries.
    Json,
}

/// `spanlink outbox list`: prints the entries in quarantine.
///
/// # Errors
/// If there is no data directory, if a daemon uses it and does not answer, or if the file cannot be
/// read.
pub fn list_quarantine(
    settings: &Settings,
    listed: Listed,
    log: Option<&str>,
) -> anyhow::Result<()> {
    let listing = with_quarantine(settings, log, async |quarantine| match quarantine {
        Access::Daemon(daemon) => daemon.list().await,
        Access::File(file) => file.list().await,
    })?;
    let text = match listed {
        Listed::Json => {
            serde_json::to_string_pretty(&listing).context("cannot write the entries as JSON")?
                + "\n"
        }
        Listed::Table if listing.entries.is_empty() => {
            writeln!(io::stderr(), "No spans in quarantine.")?;
            return Ok(());
        }
        Listed::Table => table(&listing),
    };
    Ok(write!(io::stdout(), "{text}")?)
}

/// `spanlink outbox retry` and `spanlink outbox drop`.
///
/// # Errors
/// As [`list_quarantine`], and if an id does not exist; the others are removed all the same.
pub fn remove_from_quarantine(
    settings: &Settings,
    selection: &Selection,
    action: Action,
    log: Option<&str>,
) -> anyhow::Result<()> {
    let removed = with_quarantine(settings, log, async |quarantine| {
        let selection = selection.clone();
        match quarantine {
            Access::Daemon(daemon) => daemon.remove(selection, action).await,
            Access::File(file) => file.remove(selection, action).await,
        }
    })?;
    let Removed { entries, spans, missing } = removed;
    let done = match action {
        Action::Retry => "Moved to the end of the queue",
        Action::Drop => "Dropped",
    };
    let (entries, spans) = (counted(entries, "entry", "entries"), counted(spans, "span", "spans"));
    writeln!(io::stdout(), "{done}: {entries} with {spans}.")?;
    let missing: Vec<String> = missing.iter().map(u64::to_string).collect();
    anyhow::ensure!(
        missing.is_empty(),
        "no entry in quarantine has the id {}; see spanlink outbox list",
        missing.join(", ")
    );
    Ok(())
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Where the quarantine is.
enum Access {
    /// In the daemon of the data directory.
    Daemon(ControlClient),
    /// In the file, which no daemon has open.
    File(OutboxQuarantine),
}

fn with_quarantine<T>(
    settings: &Settings,
    log: Option<&str>,
    command: impl AsyncFn(Access) -> Result<T, ControlError>,
) -> anyhow::Result<T> {
    let directory = settings.outbox.folder.as_deref().context(
        "the option data_dir is not set: without it, refused spans are dropped, and there is no \
         quarantine",
    )?;
    block_on(logging::during(log.or(Some(DEFAULT_LOG)), async {
        match command(Access::Daemon(ControlClient::new(directory))).await {
            Err(ControlError::NotRunning { .. }) => {
                let file = open_file(directory, &settings.outbox)?;
                Ok(command(Access::File(OutboxQuarantine(file))).await?)
            }
            result => Ok(result?),
        }
    }))
}

fn open_file(directory: &Path, settings: &OutboxSettings) -> anyhow::Result<Outbox> {
    anyhow::ensure!(
        Outbox::exists_in(directory),
        "there is no outbox file in {} (option data_dir)",
        directory.display()
    );
    let metrics = Metrics::new().context("cannot register metrics")?;
    match Outbox::on_disk(directory, limits_on_disk(settings), metrics) {
        Err(OpenError::InUse { path }) => anyhow::bail!(
            "a running spanlink uses {path} and has no control socket there; it is starting or \
             stopping, or its log says why the socket cannot be created"
        ),
        opened => opened.context("cannot open the outbox"),
    }
}

/// A table as kubectl prints it.
fn table(listing: &Listing) -> String {
    let header = ["ID", "TIME", "SPANS", "BYTES", "SERVICES", "REASON"].map(str::to_owned);
    let rows: Vec<[String; 6]> =
        std::iter::once(header).chain(listing.entries.iter().map(row)).collect();
    let mut text = String::new();
    for row in &rows {
        let [cells @ .., reason] = row;
        for (column, cell) in cells.iter().enumerate() {
            let width =
                rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            let width = width.max().unwrap_or(0);
            // Writing to a string cannot fail.
            write!(text, "{cell:<width$}   ").ok();
        }
        text.push_str(reason);
        text.push('\n');
    }
    text
}

fn row(entry: &Entry) -> [String; 6] {
    let mut services: Vec<&str> =
        entry.services.iter().map(String::as_str).take(SERVICES_MAX).collect();
    if entry.services.len() > SERVICES_MAX {
        services.push("…");
    }
    let reason = match entry.message.as_str() {
        "" => entry.code.clone(),
        message => format!("{}: {message}", entry.code),
    };
    [
        entry.id.to_string(),
        entry.time.clone(),
        entry.spans.to_string(),
        entry.bytes.to_string(),
        services.join(","),
        reason,
    ]
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn table_has_one_line_per_entry() {
        let entry = Entry {
            id: 1,
            time: "2026-05-04T10:00:00Z".to_owned(),
            spans: 2,
            bytes: 1234,
            services: ["a", "b", "c"].map(str::to_owned).to_vec(),
            span_names: vec!["update Deployment".to_owned()],
            code: "INVALID_ARGUMENT".to_owned(),
            message: "span has no name".to_owned(),
        };
        let oversized = Entry {
            id: 17,
            services: vec!["deployment-controller".to_owned()],
            code: "oversized".to_owned(),
            message: String::new(),
            ..entry.clone()
        };
        expect![[r"
            ID   TIME                   SPANS   BYTES   SERVICES                REASON
            1    2026-05-04T10:00:00Z   2       1234    a,b,…                   INVALID_ARGUMENT: span has no name
            17   2026-05-04T10:00:00Z   2       1234    deployment-controller   oversized
        "]]
        .assert_eq(&table(&Listing { entries: vec![entry, oversized] }));
    }
}
