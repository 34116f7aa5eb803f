//! The backlog in numbers: sequences, counts and bytes. The records themselves are stored elsewhere.

use std::{collections::VecDeque, ops::Range};

/// The sequence of the first record ever written.
pub(super) const FIRST_SEQUENCE: u64 = 1;

/// The unacknowledged records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unacknowledged {
    /// From the oldest unacknowledged record to one past the newest. Sequences may be missing
    /// between the two.
    pub(super) sequences: Range<u64>,
    pub(super) records: usize,
    pub(super) bytes: usize,
}

impl Unacknowledged {
    pub(super) const fn empty(start: u64) -> Self {
        Self { sequences: start..start, records: 0, bytes: 0 }
    }
}

/// A record that the consumer has taken and not yet acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InFlight {
    pub(super) sequence: u64,
    pub(super) len: usize,
}

/// All unacknowledged records.
#[derive(Debug)]
pub(super) struct Backlog {
    unacknowledged: Unacknowledged,
    /// The records of the last take, oldest first.
    in_flight: VecDeque<InFlight>,
}

impl Default for Backlog {
    fn default() -> Self {
        Self::from(Unacknowledged::empty(FIRST_SEQUENCE))
    }
}

impl From<Unacknowledged> for Backlog {
    fn from(unacknowledged: Unacknowledged) -> Self {
        Self { unacknowledged, in_flight: VecDeque::new() }
    }
}

impl Backlog {
    pub(super) const fn records(&self) -> usize {
        self.unacknowledged.records
    }

    pub(super) const fn bytes(&self) -> usize {
        self.unacknowledged.bytes
    }

    pub(super) fn sequences(&self) -> Range<u64> {
        self.unacknowledged.sequences.clone()
    }

    /// Adds new records, given their lengths in bytes.
    pub(super) fn append(&mut self, lens: impl Iterator<Item = usize>) {
        for len in lens {
            self.unacknowledged.sequences.end += 1;
            self.unacknowledged.records += 1;
            self.unacknowledged.bytes += len;
        }
    }

    /// Replaces the records in flight.
    pub(super) fn set_in_flight(&mut self, in_flight: impl Iterator<Item = InFlight>) {
        self.in_flight.clear();
        self.in_flight.extend(in_flight);
    }

    /// Removes up to `count` of the oldest records in flight, and returns the removed ones.
    pub(super) fn acknowledge(&mut self, count: usize) -> Vec<InFlight> {
        let count = count.min(self.in_flight.len());
        let acknowledged: Vec<InFlight> = self.in_flight.drain(..count).collect();
        for InFlight { sequence, len } in &acknowledged {
            self.unacknowledged.sequences.start = sequence + 1;
            self.unacknowledged.records -= 1;
            self.unacknowledged.bytes -= len;
        }
        acknowledged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_records_in_flight_can_be_acknowledged() {
        let mut backlog = Backlog::default();
        backlog.append([1, 2, 3].into_iter());
        assert_eq!(backlog.acknowledge(1), []);
        let in_flight = [InFlight { sequence: 1, len: 1 }, InFlight { sequence: 2, len: 2 }];
        backlog.set_in_flight(in_flight.into_iter());
        assert_eq!(backlog.acknowledge(9), in_flight);
        assert_eq!((backlog.sequences(), backlog.records(), backlog.bytes()), (3..4, 1, 3));
    }
}
