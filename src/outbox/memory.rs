//! The records of an outbox in memory.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

/// How many slots an empty queue keeps allocated. The memory of a longer queue, from an outage of
/// the collector, is released.
const SLOTS_KEPT: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Memory {
    records: Mutex<VecDeque<Bytes>>,
}

impl Memory {
    pub(super) fn append(&self, records: Vec<Bytes>) {
        self.lock().extend(records);
    }

    /// Reads the oldest records with their sequences, as long as `fits` accepts their lengths.
    pub(super) fn read(
        &self,
        sequences: Range<u64>,
        mut fits: impl FnMut(usize) -> bool,
    ) -> Vec<(u64, Bytes)> {
        let records = self.lock();
        sequences
            .zip(&*records)
            .take_while(|(_, record)| fits(record.len()))
            .map(|(sequence, record)| (sequence, record.clone()))
            .collect()
    }

    pub(super) fn remove_oldest(&self, count: usize) {
        let mut records = self.lock();
        records.drain(..count);
        if records.is_empty() {
            records.shrink_to(SLOTS_KEPT);
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Bytes>> {
        // No operation under this lock leaves the queue inconsistent, even if it panics.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
