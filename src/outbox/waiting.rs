//! What waits, in numbers: sequences, counts and bytes. The records themselves are elsewhere.

use std::{collections::VecDeque, ops::Range};

/// How much waits in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// From the oldest record not acknowledged to one past the newest. There may be gaps.
    pub(super) sequences: Range<u64>,
    pub(super) records: usize,
    pub(super) bytes: usize,
}

/// The sequence of the first record of all.
pub(super) const FIRST: u64 = 1;

/// A record the consumer has in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) sequence: u64,
    pub(super) len: usize,
}

#[derive(Debug)]
pub(super) struct Waiting {
    found: Found,
    /// What was taken last, oldest first.
    taken: VecDeque<Taken>,
}

impl Default for Waiting {
    fn default() -> Self {
        Self::from(Found { sequences: FIRST..FIRST, records: 0, bytes: 0 })
    }
}

impl From<Found> for Waiting {
    fn from(found: Found) -> Self {
        Self { found, taken: VecDeque::new() }
    }
}

impl Waiting {
    pub(super) const fn records(&self) -> usize {
        self.found.records
    }

    pub(super) const fn bytes(&self) -> usize {
        self.found.bytes
    }

    pub(super) fn sequences(&self) -> Range<u64> {
        self.found.sequences.clone()
    }

    /// From now on these wait too.
    pub(super) fn append(&mut self, lens: impl Iterator<Item = usize>) {
        for len in lens {
            self.found.sequences.end += 1;
            self.found.records += 1;
            self.found.bytes += len;
        }
    }

    pub(super) fn take(&mut self, taken: impl Iterator<Item = Taken>) {
        self.taken.clear();
        self.taken.extend(taken);
    }

    /// The `count` oldest of what was taken wait no more. How many that were.
    pub(super) fn acknowledge(&mut self, count: usize) -> usize {
        let count = count.min(self.taken.len());
        for Taken { sequence, len } in self.taken.drain(..count) {
            self.found.sequences.start = sequence + 1;
            self.found.records -= 1;
            self.found.bytes -= len;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_taken_can_be_acknowledged() {
        let mut waiting = Waiting::default();
        waiting.append([1, 2, 3].into_iter());
        assert_eq!(waiting.acknowledge(1), 0);
        let taken = [Taken { sequence: 1, len: 1 }, Taken { sequence: 2, len: 2 }];
        waiting.take(taken.into_iter());
        assert_eq!(waiting.acknowledge(9), 2);
        assert_eq!((waiting.sequences(), waiting.records(), waiting.bytes()), (3..4, 1, 3));
    }
}
