//! The writer thread: writes each commit in one transaction, and retries until it is durable.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::MutexGuard,
    time::Duration,
};

use bytes::Bytes;
use tracing::{error, info, warn};

use super::{
    backlog::{Backlog, Recovered},
    commit::Commit,
    disk::Disk,
    error::{DiskError, WriterPanicked, panic_message},
    shared::{Reading, Shared, State, ThreadState},
    tables::Changes,
};
use crate::error_chain::ErrorChain;

/// The delay before a failed operation is retried. It doubles after each failure, up to `max`.
#[derive(Clone, Copy, Debug)]
pub(super) struct RetryBackoff {
    pub(super) first: Duration,
    pub(super) max: Duration,
}

impl Default for RetryBackoff {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), max: Duration::from_secs(30) }
    }
}

/// Runs the writer until the outbox is closed and the accepted commits are written, or their last
/// attempt failed. A panic is logged, and closes the outbox.
pub(super) fn run(shared: &Shared, disk: &Disk, backoff: RetryBackoff) {
    let result = catch_unwind(AssertUnwindSafe(|| write_until_closed(shared, disk, backoff)));
    let mut state = shared.lock();
    state.writer.thread = match result {
        Ok(()) => ThreadState::Ended,
        Err(panic) => {
            let reason = panic_message(&*panic);
            error!(outbox = %disk, reason, "The outbox writer thread panicked.");
            state.closed = true;
            ThreadState::Panicked(WriterPanicked { reason })
        }
    };
    drop(state);
    shared.ready.notify_one();
    shared.written.notify_waiters();
}

fn write_until_closed(shared: &Shared, disk: &Disk, backoff: RetryBackoff) {
    let mut writer =
        Writer { shared, disk, backoff, retry_delay: backoff.first, is_failing: false };
    while let Some(job) = writer.wait_for_job() {
        match job {
            Job::Write { commit, accepted } => {
                if !writer.write_until_durable(commit, accepted) {
                    break;
                }
            }
            Job::Reopen(reading) => writer.reopen_after_read_failure(&reading),
        }
    }
}

enum Job {
    /// Write the commit, and the acknowledgements that are not durable yet.
    Write {
        commit: Commit,
        /// How many commits were accepted up to this one.
        accepted: u64,
    },
    Reopen(Reading),
}

struct Writer<'a> {
    shared: &'a Shared,
    disk: &'a Disk,
    backoff: RetryBackoff,
    /// The delay before the next retry.
    retry_delay: Duration,
    /// Whether an operation has failed since the last successful write.
    is_failing: bool,
}

impl Writer<'_> {
    /// Blocks until there is a job. `None` once the outbox is closed and everything is written.
    fn wait_for_job(&self) -> Option<Job> {
        let mut state = self.shared.lock();
        loop {
            let writer = &mut state.writer;
            if !writer.reading.is_available() && !state.closed {
                let reading = mem::replace(&mut state.writer.reading, Reading::Reopening);
                return Some(Job::Reopen(reading));
            }
            let start = state.backlog.sequences().start;
            let writer = &mut state.writer;
            if start != writer.durable_start || writer.queued.is_some() {
                let mut commit = writer.queued.take().unwrap_or_default();
                writer.is_writing = true;
                if writer.checkpoint_lost {
                    commit.entries.clear();
                }
                return Some(Job::Write { commit, accepted: writer.accepted });
            }
            if state.closed {
                return None;
            }
            state = self.shared.wait_for_work(state);
        }
    }

    /// Returns false if the outbox was closed and the last attempt failed.
    fn write_until_durable(&mut self, mut commit: Commit, accepted: u64) -> bool {
        while let Err(error) = self.attempt(&commit) {
            self.shared.metrics.outbox_write_failures.inc();
            self.record_failure(&error, "Failed to write the outbox; retrying.");
            // The consumer can read again during the delay.
            self.reopen();
            if !self.wait_before_retry() {
                let records = commit.records.len();
                error!(outbox = %self.disk, records, "Stopping; unwritten records are lost.");
                return false;
            }
            if self.shared.lock().writer.checkpoint_lost {
                commit.entries.clear();
            }
        }
        self.record_success();
        self.record_durable(commit, accepted);
        true
    }

    fn attempt(&self, commit: &Commit) -> Result<(), DiskError> {
        if self.is_failing {
            // On a full disk, deleting acknowledged records can make room for the commit, but only
            // in a transaction before it.
            self.write_with_acknowledgements(&Commit::default())?;
        }
        self.write_with_acknowledgements(commit)
    }

    /// Each attempt gives the records of a commit the same sequences, so it overwrites those of
    /// an earlier attempt that failed after its records were written.
    fn write_with_acknowledgements(&self, commit: &Commit) -> Result<(), DiskError> {
        let Commit { records, entries } = commit;
        let (sequences, durable_start) = {
            let state = self.shared.lock();
            (state.backlog.sequences(), state.writer.durable_start)
        };
        let start = (sequences.start != durable_start).then_some(sequences.start);
        if start.is_some() || !records.is_empty() || !entries.is_empty() {
            self.disk.write(&Changes { start, first: sequences.end, records, entries })?;
            self.shared.lock().writer.durable_start = sequences.start;
        }
        Ok(())
    }

    fn record_durable(&self, commit: Commit, accepted: u64) {
        let mut state = self.shared.lock();
        state.backlog.append(commit.records.iter().map(Bytes::len));
        // Frees the memory before the producer builds the next commit.
        drop(commit);
        state.writer.durable = accepted;
        state.writer.is_writing = false;
        self.notify(state);
    }

    /// Reopens without a delay after the first failure, and with a growing one after others.
    fn reopen_after_read_failure(&mut self, reading: &Reading) {
        let has_failed_before = self.is_failing;
        if let Reading::Failed(error) = reading {
            self.record_failure(error, "Failed to read the outbox; reopening.");
        }
        if has_failed_before {
            self.wait_before_retry();
        }
        self.reopen();
    }

    fn reopen(&mut self) {
        let unacknowledged = self.shared.lock().backlog.sequences();
        let on_replaced = |recovered, error| self.record_replacement(recovered, &error);
        match self.disk.reopen(unacknowledged, on_replaced) {
            Ok(()) => {
                let mut state = self.shared.lock();
                state.writer.reading = Reading::Available;
                self.notify(state);
            }
            Err(error) => {
                self.shared.lock().writer.reading = Reading::Reopening;
                self.record_failure(&error, "Failed to reopen the outbox; retrying.");
            }
        }
    }

    fn record_replacement(&self, recovered: Recovered, error: &DiskError) {
        self.shared.record_corruption(self.disk, &recovered, error);
        let mut state = self.shared.lock();
        state.writer.durable_start = recovered.sequences.start;
        state.writer.checkpoint_lost = true;
        state.backlog = Backlog::from(recovered);
    }

    /// Wakes producer and consumer after a change of the state.
    fn notify(&self, state: MutexGuard<'_, State>) {
        self.shared.update_gauges(&state);
        drop(state);
        self.shared.filled.notify_one();
        self.shared.ready.notify_one();
        self.shared.written.notify_waiters();
    }

    /// Logs the first failure of a series only.
    fn record_failure(&mut self, error: &DiskError, message: &'static str) {
        if !self.is_failing {
            warn!(outbox = %self.disk, error = %ErrorChain(error), "{message}");
        }
        self.is_failing = true;
    }

    fn record_success(&mut self) {
        if self.is_failing {
            info!(outbox = %self.disk, "Outbox writes recovered.");
        }
        self.is_failing = false;
        self.retry_delay = self.backoff.first;
    }

    /// Returns false if the outbox is closed: then there is no time for another retry.
    fn wait_before_retry(&mut self) -> bool {
        let delay = self.retry_delay;
        self.retry_delay = (delay * 2).min(self.backoff.max);
        self.shared.sleep_while_open(delay)
    }
}
