//! A durable commit survives power loss at any moment, whichever unsynced sectors are lost.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::{
    super::{backlog::Recovered, disk::Disk, tables::Changes},
    simulated::{Faults, SimulatedDisk},
    *,
};

/// One write transaction.
#[derive(Clone, Debug)]
struct Transaction {
    records: Vec<usize>,
    acknowledged: usize,
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
        prop::collection::vec((0_u8..6, prop::option::of(len)), 0..4),
        prop_oneof![4 => Just(0), 1 => 1_usize..12],
    )
        .prop_map(|(records, acknowledged, entries, failures)| Transaction {
            records,
            acknowledged,
            entries,
            failures,
        })
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
}

impl Model {
    fn of(disk: &Disk, recovered: &Recovered) -> Self {
        let mut model = Self { start: recovered.sequences.start, ..Self::default() };
        disk.read(
            || recovered.sequences.clone(),
            |_| true,
            |records| model.records.extend(records.into_iter().map(|(_, bytes)| bytes)),
        )
        .unwrap();
        disk.read_checkpoint(|key, value| {
            model.entries.insert(key.to_vec(), value.to_vec());
        })
        .unwrap();
        model
    }

    fn end(&self) -> u64 {
        self.start + self.records.len() as u64
    }

    /// Applies the transaction, and returns the commit to write for it.
    fn apply(&mut self, transaction: &Transaction, number: &mut usize) -> Commit {
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
        let acknowledged = transaction.acknowledged.min(self.records.len());
        self.records.drain(..acknowledged);
        self.start += acknowledged as u64;
        self.records.extend(records.iter().cloned());
        for Entry { key, value } in &entries {
            match value {
                Some(value) => self.entries.insert(key.to_vec(), value.to_vec()),
                None => self.entries.remove(&**key),
            };
        }
        Commit { records, entries }
    }
}

/// Retries the write as the writer thread does. Returns false if the power was lost first.
fn write(
    disk: &Disk,
    simulated: &SimulatedDisk,
    before: &Model,
    start: u64,
    commit: &Commit,
) -> bool {
    let changes = Changes {
        start: (start != before.start).then_some(start),
        first: before.end(),
        records: &commit.records,
        entries: &commit.entries,
    };
    loop {
        if disk.write(&changes).is_ok() {
            return true;
        }
        let unacknowledged = before.start..before.end();
        disk.reopen(unacknowledged, |_, corruption| {
            panic!("only writes failed, but {corruption:?}")
        })
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
            for transaction in &round.transactions {
                let before = model.clone();
                let commit = model.apply(transaction, &mut number);
                may_hold = vec![before.clone(), model.clone()];
                let faults = simulated.faults_left();
                simulated.fail(Faults { writes: transaction.failures, ..faults });
                if !write(&disk, &simulated, &before, model.start, &commit) {
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
