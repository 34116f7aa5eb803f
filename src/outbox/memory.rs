//! Records that wait in memory.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

/// What a long absence of the collector made larger than this is given back.
const KEPT: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Memory {
    records: Mutex<VecDeque<Bytes>>,
}

impl Memory {
    pub(super) fn append(&self, records: Vec<Bytes>) {
        self.lock().extend(records);
    }

    /// The oldest records with their sequences, as many as `fits` says.
    pub(super) fn read(
        &self,
        sequences: Range<u64>,
        mut fits: impl FnMut(usize) -> bool,
    ) -> Vec<(u64, Bytes)> {
        let records = self.lock();
        sequences
            .zip(&*records)
            .take_while(|(_, r)| fits(r.len()))
            .map(|(s, r)| (s, r.clone()))
            .collect()
    }

    /// Forgets the `count` oldest records.
    pub(super) fn forget(&self, count: usize) {
        let mut records = self.lock();
        records.drain(..count);
        if records.is_empty() {
            records.shrink_to(KEPT);
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Bytes>> {
        // Nothing panics while it is held; if something did, the queue would still be whole.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
