//! What producer and consumer see of the outbox, wherever its records are.

use std::{
    future::pending,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    pin::pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::Notify;
use tracing::error;

use super::{
    disk::{Damaged, Disk, DiskError, chain, panic_text},
    memory::Memory,
    storage::{Folder, OpenError, Storage},
    waiting::{Found, Taken, Waiting},
    writer::{self, Desk, Patience, Reading},
};
use crate::metrics::Metrics;

/// How much may wait. What is full makes the producer wait, and so the watches; nothing is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Records: one each span.
    pub records_max: usize,
    /// Bytes of all records together.
    pub bytes_max: usize,
}

impl Limits {
    /// Whatever the spans are, their records take no more memory than this, and one commit.
    pub const BYTES_MAX: usize = 64 << 20;

    pub const fn records(records_max: usize) -> Self {
        Self { records_max, bytes_max: Self::BYTES_MAX }
    }
}

/// What is written together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// Records that wait for export from then on.
    pub records: Vec<Bytes>,
    /// Changes of the checkpoint. Without a disk they are dropped.
    pub entries: Vec<Entry>,
}

/// A change of the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Bytes,
    /// `None`: removed.
    pub value: Option<Bytes>,
}

/// Nothing is accepted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the outbox is closed")]
pub struct Closed;

/// The writer thread ended although the outbox was not closed: nothing more becomes durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the outbox writer thread panicked: {reason}")]
pub struct WriterPanicked {
    reason: String,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot read the checkpoint")]
pub struct ReadError(#[from] DiskError);

#[derive(Debug, thiserror::Error)]
#[error("cannot forget the checkpoint")]
pub struct ForgetError(#[from] DiskError);

/// Cheap to clone; every clone is the same queue. For one producer and one consumer. The last one
/// dropped closes it, and waits until what was handed over is written, or could not be.
#[derive(Clone, Debug)]
pub struct Outbox {
    owner: Arc<Owner>,
}

#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Debug)]
pub(super) struct Shared {
    limits: Limits,
    pub(super) metrics: Metrics,
    store: Store,
    state: Mutex<State>,
    /// For the thread that writes.
    work: Condvar,
    /// Told when there is something to take; keeps one permit, so no telling is missed.
    pub(super) filled: Notify,
    /// Told when a commit can be taken, or never will be.
    pub(super) ready: Notify,
    /// Told when something is durable.
    pub(super) written: Notify,
}

#[derive(Debug)]
enum Store {
    Memory(Memory),
    Disk(Disk),
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) waiting: Waiting,
    pub(super) desk: Desk,
    pub(super) closed: bool,
}

impl Outbox {
    /// What waits does not outlive the process.
    pub fn in_memory(limits: Limits, metrics: Metrics) -> Self {
        let shared = Shared::new(limits, metrics, Store::Memory(Memory::default()));
        Self { owner: Arc::new(Owner { shared: Arc::new(shared), writer: None }) }
    }

    /// Opens the file `spanlink.redb` in the folder; begins both where there are none. A damaged
    /// file is set aside as `spanlink.redb.damaged`; what is whole of its records still waits.
    ///
    /// # Errors
    /// When another process uses the folder, or it cannot be written.
    pub fn on_disk(folder: &Path, limits: Limits, metrics: Metrics) -> Result<Self, OpenError> {
        let storage = Box::new(Folder::open(folder)?);
        Self::stored(storage, limits, metrics, Patience::default())
    }

    pub(super) fn stored(
        storage: Box<dyn Storage>,
        limits: Limits,
        metrics: Metrics,
        patience: Patience,
    ) -> Result<Self, OpenError> {
        let place = storage.to_string();
        let (disk, found, damaged) = Disk::open(storage).map_err(|source| match source {
            DiskError::Database(
                redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch,
            ) => OpenError::InUse { place },
            source => OpenError::Open { place, source },
        })?;
        let shared = Shared::new(limits, metrics, Store::Disk(disk));
        if let (Store::Disk(disk), Some(damaged)) = (&shared.store, damaged) {
            shared.tell_damaged(disk, &found, &damaged);
        }
        {
            let mut state = shared.lock();
            state.desk.begins_written = found.sequences.start;
            state.waiting = Waiting::from(found);
            shared.gauge(&state);
        }
        let shared = Arc::new(shared);
        let writer = thread::Builder::new()
            .name("outbox".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || {
                    if let Store::Disk(disk) = &shared.store {
                        run_writer(&shared, disk, patience);
                    }
                }
            })
            .map_err(|source| OpenError::Thread { source })?;
        Ok(Self { owner: Arc::new(Owner { shared, writer: Some(writer) }) })
    }

    pub fn is_on_disk(&self) -> bool {
        matches!(self.shared().store, Store::Disk(_))
    }

    /// Calls `each` with every key and value of the checkpoint as last committed.
    ///
    /// # Errors
    /// When the file cannot be read; some entries may have been told by then.
    pub fn read_checkpoint(&self, each: impl FnMut(&[u8], &[u8])) -> Result<(), ReadError> {
        match &self.shared().store {
            Store::Memory(_) => Ok(()),
            Store::Disk(disk) => Ok(disk.read_checkpoint(each)?),
        }
    }

    /// Forgets the whole checkpoint, durably: it is another cluster's, or of another format.
    /// Records stay. For the producer, when nothing is being written.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn forget_checkpoint(&self) -> Result<(), ForgetError> {
        if let Store::Disk(disk) = &self.shared().store {
            disk.forget_checkpoint()?;
            self.shared().lock().desk.checkpoint_lost = false;
        }
        Ok(())
    }

    /// The file was damaged while it was open, and what was committed of the checkpoint is lost. What
    /// is changed of it is dropped until the producer forgets it, and begins it anew.
    pub fn has_lost_checkpoint(&self) -> bool {
        self.shared().lock().desk.checkpoint_lost
    }

    /// Waits until a commit can be taken: none is being written, and there is room. That is when
    /// nothing waits, or less than both limits: the commit itself may be larger than what is left.
    ///
    /// # Errors
    /// When the outbox is closed.
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

    /// Whether [`Outbox::ready`] would not wait.
    pub fn is_ready(&self) -> bool {
        let state = self.shared().lock();
        !state.closed && self.shared().has_room(&state)
    }

    /// Hands a commit over. For the producer, when the outbox is ready; it never waits. A closed
    /// outbox drops it.
    pub fn commit(&self, commit: Commit) {
        let shared = self.shared();
        let mut state = shared.lock();
        if state.closed {
            return;
        }
        match &shared.store {
            Store::Memory(memory) => {
                state.waiting.append(commit.records.iter().map(Bytes::len));
                memory.append(commit.records);
                shared.gauge(&state);
                drop(state);
                shared.filled.notify_one();
            }
            Store::Disk(_) => {
                state.desk.hand_over(commit);
                drop(state);
                shared.work.notify_one();
            }
        }
    }

    /// Waits until all that was committed and acknowledged before is durable (in memory: at once),
    /// or, where the outbox was closed meanwhile, until that was tried.
    pub async fn written(&self) {
        let shared = self.shared();
        if !self.is_on_disk() {
            return;
        }
        let (asked, begins) = {
            let state = shared.lock();
            (state.desk.asked, state.waiting.sequences().start)
        };
        loop {
            let mut told = pin!(shared.written.notified());
            // From here on no telling is missed.
            told.as_mut().enable();
            {
                let desk = &shared.lock().desk;
                let is_durable = desk.durable >= asked && desk.begins_written >= begins;
                if is_durable || desk.ended {
                    return;
                }
            }
            told.await;
        }
    }

    /// Waits until the writer thread has ended although the outbox was not closed, and returns why.
    /// Never returns while the thread works, after [`Outbox::close`], or in memory. The outbox
    /// closes itself then, so a producer that waits in [`Outbox::ready`] is not stuck.
    pub async fn ended(&self) -> WriterPanicked {
        let shared = self.shared();
        loop {
            let mut ended = pin!(shared.written.notified());
            // An end after this point is not missed.
            ended.as_mut().enable();
            {
                let desk = &shared.lock().desk;
                if let Some(failure) = &desk.failure {
                    return failure.clone();
                }
                if desk.ended || !self.is_on_disk() {
                    break;
                }
            }
            ended.await;
        }
        pending().await
    }

    /// Waits until there is something to take.
    pub async fn filled(&self) {
        let shared = self.shared();
        loop {
            {
                let state = shared.lock();
                if state.waiting.records() > 0 && state.desk.reading.works() {
                    return;
                }
            }
            shared.filled.notified().await;
        }
    }

    /// The oldest records, as many as both limits allow and at least one if there is any. They
    /// stay until they are acknowledged. None while the file cannot be read.
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
                let records = memory.read(state.waiting.sequences(), fits);
                state.take(records)
            }
            Store::Disk(disk) => {
                let waiting = || shared.lock().waiting.sequences();
                disk.read(waiting, fits, |records| shared.lock().take(records)).unwrap_or_else(
                    |error| {
                        shared.metrics.outbox_read_failures.inc();
                        let mut state = shared.lock();
                        state.desk.reading = Reading::Failed(error);
                        drop(state);
                        shared.work.notify_one();
                        Vec::new()
                    },
                )
            }
        }
    }

    /// Forgets the `count` oldest of the records taken last: the others have not been answered for.
    pub fn acknowledge(&self, count: usize) {
        let shared = self.shared();
        {
            let mut state = shared.lock();
            let count = state.waiting.acknowledge(count);
            if count == 0 {
                return;
            }
            if let Store::Memory(memory) = &shared.store {
                memory.forget(count);
            }
            shared.gauge(&state);
        }
        shared.work.notify_one();
        shared.ready.notify_one();
    }

    /// From now on nothing is accepted; who waits to commit is told so. On disk, what was handed
    /// over by now is still written, if that goes well.
    pub fn close(&self) {
        self.shared().close();
    }

    /// Records that can be taken.
    pub fn len(&self) -> usize {
        self.shared().lock().waiting.records()
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
            // A panic of the thread was logged and recorded when it happened.
            writer.join().ok();
        }
    }
}

/// Runs the writer until the outbox is closed, or it panics.
fn run_writer(shared: &Shared, disk: &Disk, patience: Patience) {
    let result = catch_unwind(AssertUnwindSafe(|| writer::run(shared, disk, patience)));
    let mut state = shared.lock();
    state.desk.ended = true;
    if let Err(panic) = result {
        let failure = WriterPanicked { reason: panic_text(&*panic) };
        error!(reason = failure.reason, "The outbox writer thread panicked.");
        state.desk.failure = Some(failure);
        state.closed = true;
    }
    drop(state);
    shared.ready.notify_one();
    shared.written.notify_waiters();
}

impl State {
    fn take(&mut self, records: Vec<(u64, Bytes)>) -> Vec<Bytes> {
        let taken =
            records.iter().map(|(sequence, bytes)| Taken { sequence: *sequence, len: bytes.len() });
        self.waiting.take(taken);
        records.into_iter().map(|(_, bytes)| bytes).collect()
    }
}

impl Shared {
    fn new(limits: Limits, metrics: Metrics, store: Store) -> Self {
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
        // Nothing panics while it is held; if something did, the numbers would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wait_for_work<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.work.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// False when the outbox is closed by then.
    pub(super) fn rest(&self, time: Duration) -> bool {
        let waited = self.work.wait_timeout_while(self.lock(), time, |state| !state.closed);
        !waited.unwrap_or_else(PoisonError::into_inner).0.closed
    }

    fn close(&self) {
        self.lock().closed = true;
        self.work.notify_one();
        self.ready.notify_one();
    }

    fn has_room(&self, state: &State) -> bool {
        let Limits { records_max, bytes_max } = self.limits;
        let waiting = &state.waiting;
        !state.desk.is_busy()
            && (waiting.records() == 0
                || (waiting.records() < records_max && waiting.bytes() < bytes_max))
    }

    pub(super) fn gauge(&self, state: &State) {
        let Metrics { outbox_spans, outbox_bytes, .. } = &self.metrics;
        outbox_spans.set(i64::try_from(state.waiting.records()).unwrap_or(i64::MAX));
        outbox_bytes.set(i64::try_from(state.waiting.bytes()).unwrap_or(i64::MAX));
    }

    pub(super) fn tell_damaged(&self, disk: &Disk, found: &Found, damaged: &Damaged) {
        self.metrics.outbox_corruptions.inc();
        error!(
            outbox = %disk,
            error = chain(&damaged.error),
            records_kept = found.records,
            "The outbox was damaged. It is set aside, and another begun without a checkpoint."
        );
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    fn outbox(records_max: usize, bytes_max: usize) -> Outbox {
        Outbox::in_memory(Limits { records_max, bytes_max }, Metrics::new().unwrap())
    }

    fn commit(records: &[&'static str]) -> Commit {
        let records = records.iter().map(|text| Bytes::from_static(text.as_bytes())).collect();
        Commit { records, entries: Vec::new() }
    }

    #[test]
    fn a_batch_stays_until_it_is_acknowledged() {
        let outbox = outbox(10, 100);
        outbox.commit(commit(&["a", "b", "c"]));
        assert_eq!(outbox.take(2, 100), ["a", "b"]);
        assert_eq!(outbox.take(2, 100), ["a", "b"]);
        outbox.acknowledge(1);
        assert_eq!(outbox.take(9, 100), ["b", "c"]);
        assert_eq!(outbox.take(9, 1), ["b"]);
        outbox.acknowledge(2);
        assert_eq!(outbox.take(9, 100), ["c"]);
        outbox.acknowledge(1);
        assert!(outbox.is_empty());
    }

    #[tokio::test]
    async fn a_full_outbox_is_ready_after_an_acknowledgement() {
        let outbox = outbox(2, 100);
        outbox.commit(commit(&["a", "b", "more than two pass in one commit"]));
        let mut ready = Box::pin(outbox.ready());
        assert_eq!((&mut ready).now_or_never(), None);
        outbox.take(1, 100);
        outbox.acknowledge(1);
        assert_eq!((&mut ready).now_or_never(), None);
        assert!(!outbox.is_ready());
        outbox.take(1, 100);
        outbox.acknowledge(1);
        ready.await.unwrap();
        assert!(outbox.is_ready());
    }

    #[tokio::test]
    async fn bytes_bound_the_outbox_too_but_a_large_record_passes_alone() {
        let outbox = outbox(100, 4);
        outbox.ready().await.unwrap();
        outbox.commit(commit(&["larger than four"]));
        let mut ready = Box::pin(outbox.ready());
        assert_eq!((&mut ready).now_or_never(), None);
        assert_eq!(outbox.take(1, 4).len(), 1);
        outbox.acknowledge(1);
        ready.await.unwrap();
    }

    #[tokio::test]
    async fn a_closed_outbox_tells_who_waits_and_keeps_what_it_has() {
        let outbox = outbox(1, 100);
        outbox.commit(commit(&["a"]));
        let mut ready = Box::pin(outbox.ready());
        assert_eq!((&mut ready).now_or_never(), None);
        outbox.close();
        assert_eq!(ready.await, Err(Closed));
        outbox.commit(commit(&["b"]));
        assert_eq!(outbox.len(), 1);
    }

    #[test]
    fn the_gauges_tell_what_waits() {
        let metrics = Metrics::new().unwrap();
        let outbox = Outbox::in_memory(Limits::records(10), metrics.clone());
        outbox.commit(commit(&["abc", "de"]));
        assert_eq!((metrics.outbox_spans.get(), metrics.outbox_bytes.get()), (2, 5));
        outbox.take(1, 100);
        outbox.acknowledge(1);
        assert_eq!((metrics.outbox_spans.get(), metrics.outbox_bytes.get()), (1, 2));
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().unwrap()
    }

    /// Producer and consumer on runtimes and threads of their own.
    fn through(
        outbox: &Outbox,
        sent: Vec<Vec<Bytes>>,
        batch: usize,
        bytes_max: usize,
    ) -> Vec<Bytes> {
        let count = sent.iter().map(Vec::len).sum();
        let producer = thread::spawn({
            let outbox = outbox.clone();
            move || {
                runtime().block_on(async {
                    for records in sent {
                        outbox.ready().await.unwrap();
                        outbox.commit(Commit { records, entries: Vec::new() });
                    }
                });
            }
        });
        let mut received = Vec::new();
        runtime().block_on(async {
            while received.len() < count {
                outbox.filled().await;
                let taken = outbox.take(batch, bytes_max);
                outbox.acknowledge(taken.len());
                received.extend(taken);
            }
        });
        producer.join().unwrap();
        received
    }

    proptest! {
        #[test]
        fn the_queue_never_loses_nor_reorders(
            sizes in prop::collection::vec(prop::collection::vec(1_usize..40, 0..10), 0..100),
            records_max in 1_usize..20,
            bytes_max in 1_usize..200,
            batch in 1_usize..20,
            on_disk: bool,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let limits = Limits { records_max, bytes_max };
            let metrics = Metrics::new().unwrap();
            let outbox = if on_disk {
                Outbox::on_disk(folder.path(), limits, metrics).unwrap()
            } else {
                Outbox::in_memory(limits, metrics)
            };
            let mut numbers = 0..;
            let sent: Vec<Vec<Bytes>> = sizes
                .into_iter()
                .map(|sizes| {
                    let bytes = |size| Bytes::from(format!("{:0size$}", numbers.next().unwrap()));
                    sizes.into_iter().map(bytes).collect()
                })
                .collect();
            let received = through(&outbox, sent.clone(), batch, bytes_max);
            prop_assert_eq!(received, sent.concat());
            prop_assert!(outbox.is_empty());
        }
    }
}
