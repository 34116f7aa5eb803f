//! The handle with which producer and consumer use the outbox, in memory or on disk.

use std::{
    future::pending,
    path::Path,
    pin::pin,
    sync::Arc,
    thread::{self, JoinHandle},
};

use bytes::Bytes;

use super::{
    backlog::Backlog,
    commit::Commit,
    disk::Disk,
    error::{
        Closed, DeleteError, DiskError, ListError, OpenError, ReadError, RemoveError,
        WriterPanicked,
    },
    memory::Memory,
    quarantine::{QuarantineEntry, Refused, Removal, Removed, Selection},
    shared::{Limits, Reading, Shared, Store, ThreadState},
    storage::{DataDirectory, Storage},
    writer::{self, RetryBackoff},
};
use crate::metrics::Metrics;

/// A queue of encoded spans, for one producer and one consumer. Cheap to clone; every clone is the
/// same queue. Dropping the last clone closes it, and blocks until the accepted commits are
/// written, or the last attempt to write them failed.
#[derive(Clone, Debug)]
pub struct Outbox {
    owner: Arc<Owner>,
}

#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

impl Outbox {
    /// Creates an outbox whose records are lost when the process ends.
    pub fn in_memory(limits: Limits, metrics: Metrics) -> Self {
        let shared = Shared::new(limits, metrics, Store::Memory(Memory::default()));
        Self { owner: Arc::new(Owner { shared: Arc::new(shared), writer: None }) }
    }

    /// Opens the file `spanlink.redb` in the directory, and creates both if they are missing. A
    /// corrupt file is renamed to `spanlink.redb.damaged`, and its intact records are kept. Reads
    /// the whole file, so this can take seconds.
    ///
    /// # Errors
    /// If another process uses the directory, or it cannot be written.
    pub fn on_disk(directory: &Path, limits: Limits, metrics: Metrics) -> Result<Self, OpenError> {
        let storage = Box::new(DataDirectory::open(directory)?);
        Self::with_storage(storage, limits, metrics, RetryBackoff::default())
    }

    /// Whether the directory has a file that [`Outbox::on_disk`] would open, and not create.
    pub fn exists_in(directory: &Path) -> bool {
        DataDirectory::has_database(directory)
    }

    pub(super) fn with_storage(
        storage: Box<dyn Storage>,
        limits: Limits,
        metrics: Metrics,
        backoff: RetryBackoff,
    ) -> Result<Self, OpenError> {
        let path = storage.to_string();
        let (disk, recovered, corruption) = Disk::open(storage).map_err(|source| match source {
            DiskError::Database(
                redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch,
            ) => OpenError::InUse { path },
            source => OpenError::Open { path, source },
        })?;
        let shared = Shared::new(limits, metrics, Store::Disk(disk));
        if let (Store::Disk(disk), Some(error)) = (&shared.store, corruption) {
            shared.record_corruption(disk, &recovered, &error);
        }
        {
            let mut state = shared.lock();
            state.writer.durable_start = recovered.unacknowledged.sequences.start;
            state.backlog = Backlog::from(recovered.unacknowledged);
            state.quarantine = recovered.quarantine;
            shared.update_gauges(&state);
        }
        let shared = Arc::new(shared);
        let writer = thread::Builder::new()
            .name("outbox".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || {
                    if let Store::Disk(disk) = &shared.store {
                        writer::run(&shared, disk, backoff);
                    }
                }
            })
            .map_err(|source| OpenError::Thread { source })?;
        Ok(Self { owner: Arc::new(Owner { shared, writer: Some(writer) }) })
    }

    pub fn is_on_disk(&self) -> bool {
        matches!(self.shared().store, Store::Disk(_))
    }

    /// Calls `visit` with every key and value of the checkpoint, as of the last durable commit. In
    /// memory there are none.
    ///
    /// # Errors
    /// If the file cannot be read. `visit` may have been called for some entries by then.
    pub fn read_checkpoint(&self, visit: impl FnMut(&[u8], &[u8])) -> Result<(), ReadError> {
        match &self.shared().store {
            Store::Memory(_) => Ok(()),
            Store::Disk(disk) => Ok(disk.read_checkpoint(visit)?),
        }
    }

    /// Deletes the whole checkpoint, because it belongs to another cluster or has another format.
    /// Records are kept. Durable on return. For the producer, while no commit is pending.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn delete_checkpoint(&self) -> Result<(), DeleteError> {
        if let Store::Disk(disk) = &self.shared().store {
            disk.delete_checkpoint()?;
            self.shared().lock().writer.checkpoint_lost = false;
        }
        Ok(())
    }

    /// Whether the file turned out to be corrupt while it was open, so that the checkpoint is lost.
    /// The outbox drops all changes of the checkpoint until the producer calls
    /// [`Outbox::delete_checkpoint`]; after that it must commit a complete one.
    pub fn has_lost_checkpoint(&self) -> bool {
        self.shared().lock().writer.checkpoint_lost
    }

    /// Waits until a commit is accepted: none is pending, and the backlog is empty or below both
    /// limits. The commit itself may exceed the room that is left.
    ///
    /// # Errors
    /// If the outbox is closed.
    pub async fn ready(&self) -> Result<(), Closed> {
        let shared = self.shared();
        loop {
            {
                let state = shared.lock();
                if state.closed {
                    return Err(Closed);
                }
                if shared.has_room(&state) {
                    return Ok(());
                }
            }
            shared.ready.notified().await;
        }
    }

    /// Whether [`Outbox::ready`] would return without waiting.
    pub fn is_ready(&self) -> bool {
        let state = self.shared().lock();
        !state.closed && self.shared().has_room(&state)
    }

    /// Adds a commit without waiting. For the producer, after [`Outbox::ready`]. A closed outbox
    /// drops it.
    pub fn commit(&self, commit: Commit) {
        let shared = self.shared();
        let mut state = shared.lock();
        if state.closed {
            return;
        }
        match &shared.store {
            Store::Memory(memory) => {
                state.backlog.append(commit.records.iter().map(Bytes::len));
                memory.append(commit.records);
                shared.update_gauges(&state);
                drop(state);
                shared.filled.notify_one();
            }
            Store::Disk(_) => {
                state.writer.enqueue(commit);
                drop(state);
                shared.wake_writer();
            }
        }
    }

    /// Waits until every earlier commit and acknowledgement is durable. Also returns when the
    /// writer thread has ended, and at once in memory.
    pub async fn written(&self) {
        let shared = self.shared();
        if !self.is_on_disk() {
            return;
        }
        let (accepted, start) = {
            let state = shared.lock();
            (state.writer.accepted, state.backlog.sequences().start)
        };
        loop {
            let mut written = pin!(shared.written.notified());
            // No notification after this point is missed.
            written.as_mut().enable();
            {
                let state = shared.lock();
                let writer = &state.writer;
                // The replacement of a corrupt file takes back acknowledgements that were not durable.
                let start = start.min(state.backlog.sequences().start);
                let is_durable = writer.durable >= accepted && writer.durable_start >= start;
                if is_durable || !matches!(writer.thread, ThreadState::Running) {
                    return;
                }
            }
            written.await;
        }
    }

    /// Waits until the writer thread has ended although the outbox was not closed, and returns the
    /// reason. The outbox is closed by then, so that [`Outbox::ready`] and [`Outbox::written`]
    /// return. Waits for ever if the thread ends because the outbox was closed, and in memory.
    pub async fn ended(&self) -> WriterPanicked {
        let shared = self.shared();
        while self.is_on_disk() {
            let mut written = pin!(shared.written.notified());
            // No notification after this point is missed.
            written.as_mut().enable();
            match &shared.lock().writer.thread {
                ThreadState::Running => {}
                ThreadState::Ended => break,
                ThreadState::Panicked(error) => return error.clone(),
            }
            written.await;
        }
        pending().await
    }

    /// Waits until there are records to take.
    pub async fn filled(&self) {
        let shared = self.shared();
        loop {
            {
                let state = shared.lock();
                if state.backlog.records() > 0 && state.writer.reading.is_available() {
                    return;
                }
            }
            shared.filled.notified().await;
        }
    }

    /// Reads the oldest records, as many as both limits allow and at least one. They stay in the
    /// outbox until they are acknowledged. Empty if there are no records, or while the file cannot
    /// be read.
    pub fn take(&self, records_max: usize, bytes_max: usize) -> Vec<Bytes> {
        let shared = self.shared();
        let (mut records, mut bytes) = (0, 0);
        let fits = move |len: usize| {
            records += 1;
            bytes += len;
            records == 1 || (records <= records_max && bytes <= bytes_max)
        };
        match &shared.store {
            Store::Memory(memory) => {
                let mut state = shared.lock();
                let records = memory.read(state.backlog.sequences(), fits);
                state.take(records)
            }
            Store::Disk(disk) => {
                let sequences = || shared.lock().backlog.sequences();
                let taken = disk.read(sequences, fits, |records| shared.lock().take(records));
                taken.unwrap_or_else(|error| {
                    shared.metrics.outbox_read_failures.inc();
                    shared.lock().writer.reading = Reading::Failed(error);
                    shared.wake_writer();
                    Vec::new()
                })
            }
        }
    }

    /// Removes the `count` oldest of the records taken last. The others stay in the outbox, and
    /// the next [`Outbox::take`] returns them again.
    pub fn acknowledge(&self, count: usize) {
        self.acknowledge_refused(count, Vec::new());
    }

    /// Removes the `count` oldest of the records taken last, and moves those of them that were
    /// `refused` to quarantine, in one transaction. Without a quarantine, they are gone.
    pub fn acknowledge_refused(&self, count: usize, refused: Vec<Refused>) {
        let shared = self.shared();
        {
            let mut state = shared.lock();
            let count = shared.acknowledge(&mut state, count, refused);
            if count == 0 {
                return;
            }
            if let Store::Memory(memory) = &shared.store {
                memory.remove_oldest(count);
            }
            shared.update_gauges(&state);
        }
        shared.wake_writer();
        shared.ready.notify_one();
    }

    /// Whether refused records go to quarantine: on disk, unless the option
    /// `outbox.quarantine_bytes_max` is zero.
    pub fn has_quarantine(&self) -> bool {
        self.shared().has_quarantine()
    }

    /// How many records are in quarantine.
    pub fn quarantined(&self) -> usize {
        self.shared().lock().quarantine.records()
    }

    /// Calls `visit` with each entry in quarantine, the oldest first, with its `samples_max` oldest
    /// records. Reads every record in quarantine, so this can take seconds.
    ///
    /// # Errors
    /// If the file cannot be read. `visit` may have been called for some entries by then.
    pub fn read_quarantine(
        &self,
        samples_max: usize,
        visit: impl FnMut(QuarantineEntry),
    ) -> Result<(), ListError> {
        match &self.shared().store {
            Store::Memory(_) => Ok(()),
            Store::Disk(disk) => Ok(disk.read_quarantine(samples_max, visit)?),
        }
    }

    /// Removes entries from quarantine. Each is removed in one transaction; all of them are on
    /// return.
    ///
    /// # Errors
    /// If there is no quarantine, or if the outbox was closed before the last entry was removed.
    pub async fn remove_from_quarantine(
        &self,
        selection: &Selection,
        removal: Removal,
    ) -> Result<Removed, RemoveError> {
        let shared = self.shared();
        if !self.is_on_disk() {
            return Err(RemoveError::InMemory);
        }
        let (removed, ticket) = {
            let mut state = shared.lock();
            if state.closed {
                return Err(RemoveError::Closed);
            }
            let (entries, missing) = state.quarantine.select(selection);
            let records = entries.iter().map(|(_, size)| size.records).sum();
            let removed = Removed { entries: entries.len(), records, missing };
            let writer = &mut state.writer;
            writer.pending.removals.extend(entries.into_iter().map(|(id, _)| (id, removal)));
            writer.removals_accepted += removed.entries as u64;
            let ticket = writer.removals_accepted;
            shared.update_gauges(&state);
            (removed, ticket)
        };
        shared.metrics.remove_quarantined_spans(removal.name(), removed.records);
        shared.wake_writer();
        loop {
            let mut written = pin!(shared.written.notified());
            // No notification after this point is missed.
            written.as_mut().enable();
            {
                let writer = &shared.lock().writer;
                if writer.removals_durable >= ticket {
                    return Ok(removed);
                }
                if !matches!(writer.thread, ThreadState::Running) {
                    return Err(RemoveError::Closed);
                }
            }
            written.await;
        }
    }

    /// Stops accepting commits; a producer that waits in [`Outbox::ready`] gets [`Closed`]. On
    /// disk, commits accepted earlier are still written, but a write that fails then is not retried.
    pub fn close(&self) {
        self.shared().close();
    }

    /// How many records are unacknowledged.
    pub fn len(&self) -> usize {
        self.shared().lock().backlog.records()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shared(&self) -> &Shared {
        &self.owner.shared
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.close();
        if let Some(writer) = self.writer.take() {
            // The thread catches, logs and records its own panics.
            writer.join().ok();
        }
    }
}
