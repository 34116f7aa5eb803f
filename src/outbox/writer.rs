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
    backlog::Backlog,
    commit::Commit,
    disk::Disk,
    error::{DiskError, WriterPanicked, panic_message},
    quarantine::{Pending, Removal},
    quarantine_tables::QuarantineChanges,
    shared::{Reading, Shared, State, ThreadState},
    tables::{Changes, Recovered},
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

/// After as many attempts on a full disk, about half a minute, records in quarantine are dropped to make
/// room: records that were refused must not block the others for ever.
const DISK_FULL_ATTEMPTS: u32 = 5;

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
    let mut writer = Writer {
        shared,
        disk,
        backoff,
        retry_delay: backoff.first,
        is_failing: false,
        disk_full_attempts: 0,
        writing: Pending::default(),
        removal: None,
    };
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
    /// How many attempts in a row have failed because the disk is full.
    disk_full_attempts: u32,
    /// The changes of the quarantine that an attempt may have written.
    writing: Pending,
    /// The removal from quarantine that is part of the current job.
    removal: Option<(u64, Removal)>,
}

impl Writer<'_> {
    /// Blocks until there is a job. `None` once the outbox is closed and everything is written.
    fn wait_for_job(&mut self) -> Option<Job> {
        let mut state = self.shared.lock();
        loop {
            let writer = &mut state.writer;
            if !writer.reading.is_available() && !state.closed {
                let reading = mem::replace(&mut state.writer.reading, Reading::Reopening);
                return Some(Job::Reopen(reading));
            }
            let start = state.backlog.sequences().start;
            let writer = &mut state.writer;
            let has_removal = !writer.pending.removals.is_empty();
            if start != writer.durable_start || writer.queued.is_some() || has_removal {
                self.removal = writer.pending.removals.pop_front();
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
        let requeued = loop {
            let error = match self.attempt(&commit) {
                Ok(requeued) => break requeued,
                Err(error) => error,
            };
            self.disk_full_attempts =
                if error.is_disk_full() { self.disk_full_attempts + 1 } else { 0 };
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
        };
        self.record_success();
        self.record_durable(commit, accepted, requeued);
        true
    }

    /// Returns the lengths of the records that went from quarantine to the queue.
    fn attempt(&mut self, commit: &Commit) -> Result<Vec<usize>, DiskError> {
        if self.is_failing {
            // On a full disk, deleting acknowledged records can make room for the commit, but only
            // in a transaction before it. The same is true of records that are moved.
            self.write_acknowledgements_before_moves()?;
            if self.disk_full_attempts >= DISK_FULL_ATTEMPTS {
                self.evict_for_moves()?;
            }
            self.write_with_acknowledgements(&Commit::default(), None)?;
        }
        self.write_with_acknowledgements(commit, self.removal)
    }

    /// Each attempt gives the records of a commit the same sequences, so it overwrites those of
    /// an earlier attempt that failed after its records were written.
    fn write_with_acknowledgements(
        &mut self,
        commit: &Commit,
        removal: Option<(u64, Removal)>,
    ) -> Result<Vec<usize>, DiskError> {
        let Commit { records, entries } = commit;
        let mut state = self.shared.lock();
        let (sequences, durable_start) = (state.backlog.sequences(), state.writer.durable_start);
        self.writing.take_from(&mut state.writer.pending);
        let mut quarantine = QuarantineChanges {
            moves: &self.writing.moves,
            evicted: &self.writing.evicted,
            removal,
            ..QuarantineChanges::default()
        };
        if !quarantine.is_empty() {
            let later = self.removal.filter(|_| removal.is_none());
            quarantine.marker = state.marker(later.map(|(id, _)| id));
        }
        drop(state);
        let start = (sequences.start != durable_start).then_some(sequences.start);
        let mut requeued = Vec::new();
        if start.is_some() || !records.is_empty() || !entries.is_empty() || !quarantine.is_empty() {
            let first = sequences.end;
            let changes = Changes { start, first, records, entries, quarantine };
            requeued = self.disk.write(&changes)?;
            self.writing = Pending::default();
            self.shared.lock().writer.durable_start = sequences.start;
        }
        Ok(requeued)
    }

    /// Deletes the acknowledged records that are older than those to be moved to quarantine.
    fn write_acknowledgements_before_moves(&self) -> Result<(), DiskError> {
        let (start, durable_start) = {
            let state = self.shared.lock();
            let pending = || state.writer.pending.first_sequence();
            let oldest = self.writing.first_sequence().or_else(pending);
            (oldest, state.writer.durable_start)
        };
        if let Some(start) = start.filter(|start| *start > durable_start) {
            self.disk.write(&Changes { start: Some(start), ..Changes::default() })?;
            self.shared.lock().writer.durable_start = start;
        }
        Ok(())
    }

    /// On a full disk, the quarantine is full as well: deletes its oldest entries in a transaction of
    /// their own, as many as the records need that are to be moved. Those may be the oldest themselves;
    /// then they are lost, but they do not block the queue.
    fn evict_for_moves(&mut self) -> Result<(), DiskError> {
        if self.writing.moves.is_empty() {
            return Ok(());
        }
        let mut state = self.shared.lock();
        let evicted = state.quarantine.evict_for(&self.writing.moves);
        self.shared.record_evictions(&mut state, &evicted, None);
        let Pending { moves, evicted: ids, .. } = &mut self.writing;
        ids.extend(evicted.iter().map(|(id, _)| *id));
        moves.retain(|moved| !ids.contains(&moved.id));
        state.writer.pending.moves.retain(|moved| !ids.contains(&moved.id));
        let marker = state.marker(self.removal.map(|(id, _)| id));
        drop(state);
        let quarantine =
            QuarantineChanges { evicted: &self.writing.evicted, marker, ..Default::default() };
        self.disk.write(&Changes { quarantine, ..Changes::default() })?;
        self.writing.evicted.clear();
        Ok(())
    }

    fn record_durable(&mut self, commit: Commit, accepted: u64, requeued: Vec<usize>) {
        let mut state = self.shared.lock();
        state.backlog.append(commit.records.iter().map(Bytes::len));
        state.backlog.append(requeued.into_iter());
        // Frees the memory before the producer builds the next commit.
        drop(commit);
        state.writer.durable = accepted;
        state.writer.is_writing = false;
        if self.removal.take().is_some() {
            state.writer.removals_durable += 1;
        }
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
        let expected = self.shared.lock().expected(&self.writing, self.removal);
        let mut is_replaced = false;
        let on_replaced = |recovered, error| {
            is_replaced = true;
            self.record_replacement(recovered, &error);
        };
        let reopened = self.disk.reopen(expected, on_replaced);
        if is_replaced {
            // The new file has the result of the evictions, and the moved records in the queue.
            self.writing = Pending::default();
        }
        match reopened {
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
        state.writer.durable_start = recovered.unacknowledged.sequences.start;
        state.writer.checkpoint_lost = true;
        state.backlog = Backlog::from(recovered.unacknowledged);
        state.quarantine = recovered.quarantine;
        // Of the pending changes, only the removals concern the new file.
        let removals = mem::take(&mut state.writer.pending.removals);
        for (id, _) in removals.iter().chain(&self.removal) {
            state.quarantine.remove(*id);
        }
        state.writer.pending = Pending { removals, ..Pending::default() };
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
        self.disk_full_attempts = 0;
        self.retry_delay = self.backoff.first;
    }

    /// Returns false if the outbox is closed: then there is no time for another retry.
    fn wait_before_retry(&mut self) -> bool {
        let delay = self.retry_delay;
        self.retry_delay = (delay * 2).min(self.backoff.max);
        self.shared.sleep_while_open(delay)
    }
}
