//! A durable commit survives power loss at any moment, whichever unsynced sectors are lost.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::{
    super::{
        backlog::InFlight,
        disk::Disk,
        quarantine::{Index, Move},
        quarantine_tables::{Marker, QuarantineChanges},
        salvage::Expected,
        tables::{Changes, Recovered},
    },
    simulated::{Faults, SimulatedDisk},
    *,
};

/// One write transaction.
#[derive(Clone, Debug)]
struct Transaction {
    records: Vec<usize>,
    acknowledged: usize,
    /// How many of the acknowledged records were refused.
    refused: usize,
    /// Removes the oldest entry from quarantine.
    removal: Option<Removal>,
    /// The most bytes in quarantine.
    quarantine_bytes_max: usize,
    entries: Vec<(u8, Option<usize>)>,
    /// How many operations of the disk fail before one succeeds.
    failures: usize,
}

/// The time from a start of the process to a power loss.
#[derive(Clone, Debug)]
struct Round {
    transactions: Vec<Transaction>,
    /// How many changes and syncs of the disk succeed before the power loss. If there are fewer,
    /// the power is lost after the last one.
    power_for: usize,
}

fn transaction() -> impl Strategy<Value = Transaction> {
    let len = prop_oneof![4 => 1_usize..900, 1 => 3000_usize..20_000];
    (
        prop::collection::vec(len.clone(), 0..6),
        0_usize..8,
        0_usize..8,
        prop_oneof![2 => Just(None), 1 => Just(Some(Removal::Retry)), 1 => Just(Some(Removal::Drop))],
        prop_oneof![3 => Just(1 << 20), 1 => 0_usize..4000],
        prop::collection::vec((0_u8..6, prop::option::of(len)), 0..4),
        prop_oneof![4 => Just(0), 1 => 1_usize..12],
    )
        .prop_map(
            |(
                records,
                acknowledged,
                refused,
                removal,
                quarantine_bytes_max,
                entries,
                failures,
            )| {
                Transaction {
                    records,
                    acknowledged,
                    refused,
                    removal,
                    quarantine_bytes_max,
                    entries,
                    failures,
                }
            },
        )
}

fn round() -> impl Strategy<Value = Round> {
    (prop::collection::vec(transaction(), 0..8), 0_usize..200)
        .prop_map(|(transactions, power_for)| Round { transactions, power_for })
}

/// The expected content of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    start: u64,
    records: VecDeque<Bytes>,
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    quarantine: BTreeMap<u64, (Refusal, Vec<Bytes>)>,
}

/// A transaction as the writer thread passes it on.
struct Write {
    /// The state before it.
    before: Model,
    start: u64,
    commit: Commit,
    moves: Vec<Move>,
    evicted: Vec<u64>,
    removal: Option<(u64, Removal)>,
    marker: Marker,
}

impl Model {
    fn of(disk: &Disk, recovered: &Recovered) -> Self {
        let sequences = recovered.unacknowledged.sequences.clone();
        let mut model = Self { start: sequences.start, ..Self::default() };
        disk.read(
            || sequences,
            |_| true,
            |records| model.records.extend(records.into_iter().map(|(_, bytes)| bytes)),
        )
        .unwrap();
        disk.read_checkpoint(|key, value| {
            model.entries.insert(key.to_vec(), value.to_vec());
        })
        .unwrap();
        disk.read_quarantine(usize::MAX, |entry| {
            model.quarantine.insert(entry.id, (entry.refusal, entry.samples));
        })
        .unwrap();
        let sizes: Vec<(u64, usize)> =
            recovered.quarantine.entries().map(|(id, size)| (id, size.records)).collect();
        let expected: Vec<(u64, usize)> =
            model.quarantine.iter().map(|(id, (_, records))| (*id, records.len())).collect();
        assert_eq!(sizes, expected);
        model
    }

    fn end(&self) -> u64 {
        self.start + self.records.len() as u64
    }

    /// Applies the transaction, and returns what to write for it.
    fn apply(&mut self, index: &mut Index, transaction: &Transaction, number: &mut usize) -> Write {
        let before = self.clone();
        let mut bytes = |len: usize| {
            *number += 1;
            format!("{number} ").repeat(len / 4 + 1)
        };
        let records: Vec<Bytes> =
            transaction.records.iter().map(|len| bytes(*len).into()).collect();
        let entries: Vec<Entry> = transaction
            .entries
            .iter()
            .map(|(key, len)| Entry {
                key: Bytes::copy_from_slice(&[*key]),
                value: len.map(|len| bytes(len).into_bytes().into()),
            })
            .collect();
        let removal = transaction.removal.zip(self.quarantine.keys().next().copied());
        let removal = removal.map(|(removal, id)| (id, removal));
        if let Some((id, _)) = removal {
            index.remove(id);
        }
        let (moves, evicted) = self.acknowledge(index, transaction, *number);
        self.records.extend(records.iter().cloned());
        for Entry { key, value } in &entries {
            match value {
                Some(value) => self.entries.insert(key.to_vec(), value.to_vec()),
                None => self.entries.remove(&**key),
            };
        }
        if let Some((id, removal)) = removal {
            let (_, records) = self.quarantine.remove(&id).unwrap();
            if removal == Removal::Retry {
                self.records.extend(records);
            }
        }
        let version = index.next_version();
        let marker = Marker::new(version, index.next_id(), index.entries().map(|(id, _)| id));
        let commit = Commit { records, entries };
        Write { before, start: self.start, commit, moves, evicted, removal, marker }
    }

    fn acknowledge(
        &mut self,
        index: &mut Index,
        transaction: &Transaction,
        number: usize,
    ) -> (Vec<Move>, Vec<u64>) {
        let acknowledged = transaction.acknowledged.min(self.records.len());
        let refused: Vec<Bytes> =
            self.records.drain(..acknowledged).take(transaction.refused).collect();
        let in_flight: Vec<InFlight> = (self.start..)
            .zip(&refused)
            .map(|(sequence, bytes)| InFlight { sequence, len: bytes.len() })
            .collect();
        self.start += acknowledged as u64;
        let mut moves = Vec::new();
        if !refused.is_empty() {
            // Some share the entry of an earlier refusal.
            let refusal = Refusal::new(7, if number.is_multiple_of(3) { "400" } else { "401" }, "");
            let planned = index.add(&in_flight, refusal);
            let entry = self.quarantine.entry(planned.id);
            let (_, records) = entry.or_insert_with(|| (planned.refusal.clone(), Vec::new()));
            records.extend(refused);
            moves.push(planned);
        }
        let evicted = index.evict(transaction.quarantine_bytes_max);
        let evicted: Vec<u64> = evicted.into_iter().map(|(id, _)| id).collect();
        for id in &evicted {
            self.quarantine.remove(id);
        }
        (moves, evicted)
    }
}

/// Retries the write as the writer thread does. Returns false if the power was lost first.
fn write(disk: &Disk, simulated: &SimulatedDisk, write: &Write) -> bool {
    let Write { before, start, commit, moves, evicted, removal, marker } = write;
    let retried = removal.filter(|(_, removal)| *removal == Removal::Retry);
    let retried = retried.map_or(0, |(id, _)| before.quarantine[&id].1.len());
    loop {
        let changes = Changes {
            start: (*start != before.start).then_some(*start),
            first: before.end(),
            records: &commit.records,
            entries: &commit.entries,
            quarantine: QuarantineChanges {
                moves,
                evicted,
                removal: *removal,
                marker: marker.clone(),
            },
        };
        if let Ok(requeued) = disk.write(&changes) {
            assert_eq!(requeued.len(), retried);
            return true;
        }
        let expected = Expected { sequences: before.start..before.end(), ..Expected::default() };
        disk.reopen(expected, |_, corruption| panic!("only writes failed, but {corruption:?}"))
            .ok();
        if simulated.faults_left().power_for == Some(0) {
            return false;
        }
    }
}

fn check_power_losses(rounds: &[Round], mut chance: impl FnMut() -> bool) {
    let mut simulated = SimulatedDisk::default();
    // The possible contents of the file: two while a commit may or may not be durable.
    let mut may_hold = vec![Model { start: 1, ..Model::default() }];
    let mut number = 0;
    for round in rounds {
        simulated.fail(Faults { power_for: Some(round.power_for), ..Faults::default() });
        if let Ok((disk, recovered, corruption)) = Disk::open(Box::new(simulated.clone())) {
            assert!(corruption.is_none(), "{corruption:?}");
            let mut model = Model::of(&disk, &recovered);
            assert!(may_hold.contains(&model), "{model:?} is none of {may_hold:?}");
            let mut index = recovered.quarantine;
            for transaction in &round.transactions {
                let next = model.apply(&mut index, transaction, &mut number);
                may_hold = vec![next.before.clone(), model.clone()];
                let faults = simulated.faults_left();
                simulated.fail(Faults { writes: transaction.failures, ..faults });
                if !write(&disk, &simulated, &next) {
                    break;
                }
                may_hold = vec![model.clone()];
            }
        }
        simulated = simulated.after_power_loss(&mut chance);
    }
    let (disk, recovered, corruption) = Disk::open(Box::new(simulated)).unwrap();
    assert!(corruption.is_none(), "{corruption:?}");
    let model = Model::of(&disk, &recovered);
    assert!(may_hold.contains(&model), "{model:?} is none of {may_hold:?}");
}

proptest! {
    #[test]
    fn power_loss_keeps_durable_commits_and_half_of_none(
        rounds in prop::collection::vec(round(), 1..5),
        seed: u64,
        quarters_kept in 0_u32..=4,
    ) {
        let mut random = seed;
        check_power_losses(&rounds, || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 40) % 4 < u64::from(quarters_kept)
        });
    }
}
