//! The state that the producer, the consumer and the writer thread share.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::Notify;
use tracing::{error, warn};

use super::{
    backlog::{Backlog, InFlight},
    commit::Commit,
    disk::Disk,
    error::{DiskError, WriterPanicked},
    memory::Memory,
    quarantine::{Index, Pending, Refused, Removal, Size},
    quarantine_tables::Marker,
    salvage::Expected,
    tables::Recovered,
};
use crate::{error_chain::ErrorChain, metrics::Metrics};

/// Bounds of the unacknowledged records. A full outbox blocks the producer, and so the watches; it
/// drops no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most records; each is one span.
    pub records_max: usize,
    /// The most bytes of all records together.
    pub bytes_max: usize,
    /// The most bytes of all records in quarantine; further ones replace the oldest. Zero: refused
    /// records are dropped. There is no quarantine in memory.
    pub quarantine_bytes_max: usize,
}

impl Limits {
    /// The bound in bytes of an outbox in memory. One commit may exceed it.
    pub const BYTES_MAX: usize = 64 << 20;

    /// Limits for an outbox in memory.
    pub const fn records(records_max: usize) -> Self {
        Self { records_max, bytes_max: Self::BYTES_MAX, quarantine_bytes_max: 0 }
    }
}

#[derive(Debug)]
pub(super) enum Store {
    Memory(Memory),
    Disk(Disk),
}

#[derive(Debug)]
pub(super) struct Shared {
    limits: Limits,
    pub(super) metrics: Metrics,
    pub(super) store: Store,
    state: Mutex<State>,
    /// Wakes the writer thread.
    work: Condvar,
    /// Wakes the consumer when there are records to take. Keeps one permit, so a consumer that
    /// does not wait yet misses no notification.
    pub(super) filled: Notify,
    /// Wakes the producer when a commit is accepted, or the outbox was closed.
    pub(super) ready: Notify,
    /// Wakes everyone who waits until data are durable, or until the writer thread ends.
    pub(super) written: Notify,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) backlog: Backlog,
    pub(super) quarantine: Index,
    pub(super) writer: WriterState,
    pub(super) closed: bool,
}

/// The pending and the finished work of the writer thread. Unused in memory.
#[derive(Debug, Default)]
pub(super) struct WriterState {
    /// The commit that the thread writes next.
    pub(super) queued: Option<Commit>,
    /// Whether the thread is writing a commit.
    pub(super) is_writing: bool,
    /// The sequence of the oldest unacknowledged record, according to the file. Lower than that
    /// of the backlog while acknowledgements are still to be written.
    pub(super) durable_start: u64,
    /// How many commits were accepted.
    pub(super) accepted: u64,
    /// How many of the accepted commits are durable.
    pub(super) durable: u64,
    /// Changes of the quarantine that the thread writes next. Unlike `queued`, they are part of the
    /// state from the moment they are added.
    pub(super) pending: Pending,
    /// How many removals from quarantine were accepted.
    pub(super) removals_accepted: u64,
    /// How many of the accepted removals are durable.
    pub(super) removals_durable: u64,
    pub(super) reading: Reading,
    /// The file was replaced while the producer had a checkpoint in it. Later changes of that
    /// checkpoint are dropped: without the lost entries they would be an incomplete one.
    pub(super) checkpoint_lost: bool,
    pub(super) thread: ThreadState,
}

/// Whether records can be read from the file.
#[derive(Debug, Default)]
pub(super) enum Reading {
    #[default]
    Available,
    /// A read failed. Set by the consumer; makes the writer thread reopen the file.
    Failed(DiskError),
    /// The writer thread is reopening the file.
    Reopening,
}

impl Reading {
    pub(super) const fn is_available(&self) -> bool {
        matches!(self, Self::Available)
    }
}

#[derive(Debug, Default)]
pub(super) enum ThreadState {
    #[default]
    Running,
    /// The thread ended because the outbox was closed.
    Ended,
    /// The thread ended although the outbox was not closed.
    Panicked(WriterPanicked),
}

impl WriterState {
    pub(super) fn enqueue(&mut self, commit: Commit) {
        let queued = self.queued.get_or_insert_default();
        queued.records.extend(commit.records);
        queued.entries.extend(commit.entries);
        self.accepted += 1;
    }

    /// Whether a commit is not durable yet.
    pub(super) fn has_pending_commit(&self) -> bool {
        self.queued.is_some() || self.is_writing
    }
}

impl State {
    /// Marks the records as in flight, and returns their bytes.
    pub(super) fn take(&mut self, records: Vec<(u64, Bytes)>) -> Vec<Bytes> {
        let in_flight = records
            .iter()
            .map(|(sequence, bytes)| InFlight { sequence: *sequence, len: bytes.len() });
        self.backlog.set_in_flight(in_flight);
        records.into_iter().map(|(_, bytes)| bytes).collect()
    }
}

impl State {
    /// The entries that are in the file until the removals of `pending`, and of `later`, are written.
    pub(super) fn marker(&mut self, later: Option<u64>) -> Marker {
        let removals = self.writer.pending.removals.iter().map(|(id, _)| *id).chain(later);
        let ids: BTreeSet<u64> =
            self.quarantine.entries().map(|(id, _)| id).chain(removals).collect();
        let version = self.quarantine.next_version();
        Marker::new(version, self.quarantine.next_id(), ids.into_iter())
    }

    /// What a corrupt file must still hold, while `writing` and `removal` are being written. Records
    /// that are being moved to quarantine count as queued: they are sent, and refused, again.
    pub(super) fn expected(&self, writing: &Pending, removal: Option<(u64, Removal)>) -> Expected {
        let pending = &self.writer.pending;
        let mut sequences = self.backlog.sequences();
        let moved = [writing.first_sequence(), pending.first_sequence()];
        sequences.start = moved.into_iter().flatten().fold(sequences.start, u64::min);
        let mut quarantined: BTreeMap<u64, u32> = self
            .quarantine
            .entries()
            .map(|(id, size)| (id, size.next_position))
            .chain(pending.removals.iter().copied().chain(removal).map(|(id, _)| (id, u32::MAX)))
            .collect();
        for moved in writing.moves.iter().chain(&pending.moves) {
            if let Some(end) = quarantined.get_mut(&moved.id) {
                *end = moved.first_position.min(*end);
            }
        }
        Expected { sequences, quarantined, next_id: self.quarantine.next_id() }
    }
}

impl Shared {
    pub(super) fn new(limits: Limits, metrics: Metrics, store: Store) -> Self {
        Self {
            limits,
            metrics,
            store,
            state: Mutex::default(),
            work: Condvar::new(),
            filled: Notify::new(),
            ready: Notify::new(),
            written: Notify::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // No operation under this lock leaves the state inconsistent, even if it panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wake_writer(&self) {
        self.work.notify_one();
    }

    /// Blocks the writer thread until [`Shared::wake_writer`].
    pub(super) fn wait_for_work<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.work.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks the writer thread for `duration`, or until the outbox is closed. Returns whether it
    /// is still open.
    pub(super) fn sleep_while_open(&self, duration: Duration) -> bool {
        let slept = self.work.wait_timeout_while(self.lock(), duration, |state| !state.closed);
        !slept.unwrap_or_else(PoisonError::into_inner).0.closed
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.wake_writer();
        self.ready.notify_one();
    }

    /// Whether a commit is accepted: no other is pending, and the backlog is empty or below both
    /// limits.
    pub(super) fn has_room(&self, state: &State) -> bool {
        let Limits { records_max, bytes_max, .. } = self.limits;
        let backlog = &state.backlog;
        !state.writer.has_pending_commit()
            && (backlog.records() == 0
                || (backlog.records() < records_max && backlog.bytes() < bytes_max))
    }

    /// Whether refused records go to quarantine. Otherwise they are gone once acknowledged.
    pub(super) fn has_quarantine(&self) -> bool {
        matches!(self.store, Store::Disk(_)) && self.limits.quarantine_bytes_max > 0
    }

    /// Removes up to `count` of the oldest records in flight, and moves the refused ones among them
    /// to quarantine, if there is one. Returns how many were removed.
    pub(super) fn acknowledge(
        &self,
        state: &mut State,
        count: usize,
        refused: Vec<Refused>,
    ) -> usize {
        let acknowledged = state.backlog.acknowledge(count);
        if !self.has_quarantine() {
            return acknowledged.len();
        }
        for Refused { indices, refusal } in refused {
            let records: Vec<InFlight> =
                indices.iter().filter_map(|index| acknowledged.get(*index).copied()).collect();
            if records.is_empty() {
                continue;
            }
            let now = refusal.unix_millis();
            self.metrics.quarantine(refusal.code(), records.len());
            let moved = state.quarantine.add(&records, refusal);
            state.writer.pending.moves.push(moved);
            let evicted = state.quarantine.evict(self.limits.quarantine_bytes_max);
            self.record_evictions(state, &evicted, Some(now));
            state.writer.pending.evicted.extend(evicted.into_iter().map(|(id, _)| id));
        }
        acknowledged.len()
    }

    /// Counts evicted records, and logs them once per minute. Without a time, they are logged at once.
    pub(super) fn record_evictions(
        &self,
        state: &mut State,
        evicted: &[(u64, Size)],
        unix_millis: Option<u64>,
    ) {
        let spans: usize = evicted.iter().map(|(_, size)| size.records).sum();
        if spans == 0 {
            return;
        }
        self.metrics.evict_quarantined_spans(spans);
        if let Some(spans) = state.quarantine.report_evictions(spans, unix_millis) {
            warn!(spans, "The quarantine, or the disk, is full; dropped the oldest refused spans.");
        }
    }

    pub(super) fn update_gauges(&self, state: &State) {
        let Metrics { outbox_spans, outbox_bytes, quarantine_spans, quarantine_bytes, .. } =
            &self.metrics;
        for (gauge, value) in [
            (outbox_spans, state.backlog.records()),
            (outbox_bytes, state.backlog.bytes()),
            (quarantine_spans, state.quarantine.records()),
            (quarantine_bytes, state.quarantine.bytes()),
        ] {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }

    /// Counts and logs that a corrupt file was replaced.
    pub(super) fn record_corruption(&self, disk: &Disk, recovered: &Recovered, error: &DiskError) {
        self.metrics.outbox_corruptions.inc();
        error!(
            outbox = %disk,
            error = %ErrorChain(error),
            records_kept = recovered.unacknowledged.records,
            quarantined_records_kept = recovered.quarantine.records(),
            "The outbox file is corrupt; renamed it and created a new one without a checkpoint."
        );
    }
}
