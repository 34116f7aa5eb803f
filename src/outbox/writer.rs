//! The thread that writes the file: one transaction for each commit, until it is durable.

use std::{mem, sync::MutexGuard, time::Duration};

use tracing::{error, info, warn};

use super::{
    disk::{Changes, Damaged, Disk, DiskError, chain},
    queue::{Commit, Shared, State, WriterPanicked},
    waiting::{Found, Waiting},
};

/// How long to wait before what failed is tried again: doubling, up to a most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) first: Duration,
    pub(super) max: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), max: Duration::from_secs(30) }
    }
}

/// What the thread has to do.
#[derive(Debug, Default)]
pub(super) struct Desk {
    pub(super) handed: Option<Commit>,
    /// The thread has a commit in hand.
    pub(super) writes: bool,
    /// From which record on the file knows that they are not acknowledged.
    pub(super) begins_written: u64,
    /// Commits handed over, and how many of them are durable.
    pub(super) asked: u64,
    pub(super) durable: u64,
    pub(super) reading: Reading,
    /// The file was replaced while entries of its checkpoint were known: those that follow would
    /// be a checkpoint of which the rest is missing.
    pub(super) checkpoint_lost: bool,
    /// The thread has ended.
    pub(super) ended: bool,
    /// Why the thread has ended, where the outbox was not closed.
    pub(super) failure: Option<WriterPanicked>,
}

/// Whether records can be read.
#[derive(Debug, Default)]
pub(super) enum Reading {
    #[default]
    Works,
    /// Not any more: the thread is to open the file anew.
    Failed(DiskError),
    /// The thread knows, and tries.
    NotYet,
}

impl Reading {
    pub(super) const fn works(&self) -> bool {
        matches!(self, Self::Works)
    }
}

impl Desk {
    pub(super) fn hand_over(&mut self, commit: Commit) {
        let handed = self.handed.get_or_insert_default();
        handed.records.extend(commit.records);
        handed.entries.extend(commit.entries);
        self.asked += 1;
    }

    /// A commit waits to be durable.
    pub(super) fn is_busy(&self) -> bool {
        self.handed.is_some() || self.writes
    }
}

enum Job {
    Write { commit: Commit, asked: u64 },
    OpenAnew(Reading),
}

struct Writer<'a> {
    shared: &'a Shared,
    disk: &'a Disk,
    patience: Patience,
    wait: Duration,
    /// Something failed, and nothing went well since.
    fails: bool,
}

/// Until the outbox is closed. Then what was handed over is tried once more, and no longer.
pub(super) fn run(shared: &Shared, disk: &Disk, patience: Patience) {
    let mut writer = Writer { shared, disk, patience, wait: patience.first, fails: false };
    while let Some(job) = writer.next() {
        match job {
            Job::Write { commit, asked } => {
                if !writer.write(commit, asked) {
                    break;
                }
            }
            Job::OpenAnew(reading) => writer.open_anew(&reading),
        }
    }
}

impl Writer<'_> {
    fn next(&self) -> Option<Job> {
        let mut state = self.shared.lock();
        loop {
            if !state.desk.reading.works() && !state.closed {
                return Some(Job::OpenAnew(mem::replace(&mut state.desk.reading, Reading::NotYet)));
            }
            let acknowledged = state.waiting.sequences().start != state.desk.begins_written;
            if acknowledged || state.desk.handed.is_some() {
                let mut commit = state.desk.handed.take().unwrap_or_default();
                state.desk.writes = true;
                if state.desk.checkpoint_lost {
                    commit.entries.clear();
                }
                return Some(Job::Write { commit, asked: state.desk.asked });
            }
            if state.closed {
                return None;
            }
            state = self.shared.wait_for_work(state);
        }
    }

    /// Until it is written. False: it was given up.
    fn write(&mut self, mut commit: Commit, asked: u64) -> bool {
        while let Err(error) = self.attempt(&commit) {
            self.shared.metrics.outbox_write_failures.inc();
            self.fails(&error, "Cannot write the outbox; it is tried until it succeeds.");
            // So that records can be read meanwhile.
            self.open();
            if !self.rest() {
                self.given_up(&commit);
                return false;
            }
            if self.shared.lock().desk.checkpoint_lost {
                commit.entries.clear();
            }
        }
        self.goes_well();
        self.written(commit, asked);
        true
    }

    fn attempt(&self, commit: &Commit) -> Result<(), DiskError> {
        if self.fails {
            // On a full disk what was acknowledged makes room, if it is written first and alone.
            self.write_with_acknowledgements(&Commit::default())?;
        }
        self.write_with_acknowledgements(commit)
    }

    /// The same commit has the same sequences whenever it is tried: an attempt that failed after
    /// it was written is written over.
    fn write_with_acknowledgements(&self, commit: &Commit) -> Result<(), DiskError> {
        let Commit { records, entries } = commit;
        let (sequences, begins_written) = {
            let state = self.shared.lock();
            (state.waiting.sequences(), state.desk.begins_written)
        };
        let begins = (sequences.start != begins_written).then_some(sequences.start);
        if begins.is_some() || !records.is_empty() || !entries.is_empty() {
            self.disk.write(&Changes { begins, first: sequences.end, records, entries })?;
            self.shared.lock().desk.begins_written = sequences.start;
        }
        Ok(())
    }

    fn written(&self, commit: Commit, asked: u64) {
        let mut state = self.shared.lock();
        state.waiting.append(commit.records.iter().map(bytes::Bytes::len));
        // Before anyone makes the next one.
        drop(commit);
        state.desk.durable = asked;
        state.desk.writes = false;
        self.tell(state);
    }

    /// After a read that failed: at once the first time, then ever later.
    fn open_anew(&mut self, reading: &Reading) {
        let failed_before = self.fails;
        if let Reading::Failed(error) = reading {
            self.fails(error, "Cannot read the outbox; it is opened again.");
        }
        if failed_before {
            self.rest();
        }
        self.open();
    }

    fn open(&mut self) {
        let wait = self.shared.lock().waiting.sequences();
        let replaced = |found, damaged| self.replaced(found, &damaged);
        match self.disk.reopen(wait, replaced) {
            Ok(()) => {
                let mut state = self.shared.lock();
                state.desk.reading = Reading::Works;
                self.tell(state);
            }
            Err(error) => {
                self.shared.lock().desk.reading = Reading::NotYet;
                self.fails(&error, "Cannot open the outbox again; it is tried until it succeeds.");
            }
        }
    }

    fn replaced(&self, found: Found, damaged: &Damaged) {
        self.shared.tell_damaged(self.disk, &found, damaged);
        let mut state = self.shared.lock();
        state.desk.begins_written = found.sequences.start;
        state.desk.checkpoint_lost = true;
        state.waiting = Waiting::from(found);
    }

    fn tell(&self, state: MutexGuard<'_, State>) {
        self.shared.gauge(&state);
        drop(state);
        self.shared.filled.notify_one();
        self.shared.ready.notify_one();
        self.shared.written.notify_waiters();
    }

    /// Warned of once, until something goes well again.
    fn fails(&mut self, error: &DiskError, what: &'static str) {
        if !self.fails {
            warn!(outbox = %self.disk, error = chain(error), "{what}");
        }
        self.fails = true;
    }

    fn given_up(&self, commit: &Commit) {
        let records = commit.records.len();
        error!(outbox = %self.disk, records, "Stopping; what cannot be written is lost.");
    }

    fn goes_well(&mut self) {
        if self.fails {
            info!(outbox = %self.disk, "The outbox is written again.");
        }
        self.fails = false;
        self.wait = self.patience.first;
    }

    /// Between two attempts. False when the outbox is closed: there is no time for a third.
    fn rest(&mut self) -> bool {
        let wait = self.wait;
        self.wait = (wait * 2).min(self.patience.max);
        self.shared.rest(wait)
    }
}
