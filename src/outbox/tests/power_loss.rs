//! What was written survives the loss of power, at any moment, and of anything not yet synced.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::{
    super::{
        disk::{Changes, Disk},
        waiting::Found,
    },
    simulated::{Faults, SimulatedDisk},
    *,
};

/// One transaction.
#[derive(Clone, Debug)]
struct Step {
    records: Vec<usize>,
    acknowledged: usize,
    entries: Vec<(u8, Option<usize>)>,
    /// So many operations of the disk fail before it goes well.
    failures: usize,
}

/// From a start to a loss of power.
#[derive(Clone, Debug)]
struct Round {
    steps: Vec<Step>,
    /// Changes and syncs of the disk until then; if there are fewer, it comes at the end.
    power_for: usize,
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![4 => 1_usize..900, 1 => 3000_usize..20_000];
    (
        prop::collection::vec(len.clone(), 0..6),
        0_usize..8,
        prop::collection::vec((0_u8..6, prop::option::of(len)), 0..4),
        prop_oneof![4 => Just(0), 1 => 1_usize..12],
    )
        .prop_map(|(records, acknowledged, entries, failures)| Step {
            records,
            acknowledged,
            entries,
            failures,
        })
}

fn round() -> impl Strategy<Value = Round> {
    (prop::collection::vec(step(), 0..8), 0_usize..200)
        .prop_map(|(steps, power_for)| Round { steps, power_for })
}

/// What the file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    begins: u64,
    records: VecDeque<Bytes>,
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Model {
    fn of(disk: &Disk, found: &Found) -> Self {
        let mut model = Self { begins: found.sequences.start, ..Self::default() };
        disk.read(
            || found.sequences.clone(),
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
        self.begins + self.records.len() as u64
    }

    /// Applies the step, and says what is to be written for it.
    fn apply(&mut self, step: &Step, number: &mut usize) -> Commit {
        let mut bytes = |len: usize| {
            *number += 1;
            format!("{number} ").repeat(len / 4 + 1)
        };
        let records: Vec<Bytes> = step.records.iter().map(|len| bytes(*len).into()).collect();
        let entries: Vec<Entry> = step
            .entries
            .iter()
            .map(|(key, len)| Entry {
                key: Bytes::copy_from_slice(&[*key]),
                value: len.map(|len| bytes(len).into_bytes().into()),
            })
            .collect();
        let acknowledged = step.acknowledged.min(self.records.len());
        self.records.drain(..acknowledged);
        self.begins += acknowledged as u64;
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

/// As the writer does, until it is written or there is no power.
fn write(
    disk: &Disk,
    simulated: &SimulatedDisk,
    before: &Model,
    begins: u64,
    commit: &Commit,
) -> bool {
    let changes = Changes {
        begins: (begins != before.begins).then_some(begins),
        first: before.end(),
        records: &commit.records,
        entries: &commit.entries,
    };
    loop {
        if disk.write(&changes).is_ok() {
            return true;
        }
        let wait = before.begins..before.end();
        disk.reopen(wait, |_, damaged| panic!("only writes failed, but {damaged:?}")).ok();
        if simulated.faults_left().power_for == Some(0) {
            return false;
        }
    }
}

fn survives(rounds: &[Round], mut chance: impl FnMut() -> bool) {
    let mut simulated = SimulatedDisk::default();
    // What the file may hold: one thing, or two while nobody knows whether a commit was written.
    let mut may_hold = vec![Model { begins: 1, ..Model::default() }];
    let mut number = 0;
    for round in rounds {
        simulated.fail(Faults { power_for: Some(round.power_for), ..Faults::default() });
        if let Ok((disk, found, damaged)) = Disk::open(Box::new(simulated.clone())) {
            assert!(damaged.is_none(), "{damaged:?}");
            let mut model = Model::of(&disk, &found);
            assert!(may_hold.contains(&model), "{model:?} is none of {may_hold:?}");
            for step in &round.steps {
                let before = model.clone();
                let commit = model.apply(step, &mut number);
                may_hold = vec![before.clone(), model.clone()];
                let faults = simulated.faults_left();
                simulated.fail(Faults { writes: step.failures, ..faults });
                if !write(&disk, &simulated, &before, model.begins, &commit) {
                    break;
                }
                may_hold = vec![model.clone()];
            }
        }
        simulated = simulated.after_power_loss(&mut chance);
    }
    let (disk, found, damaged) = Disk::open(Box::new(simulated)).unwrap();
    assert!(damaged.is_none(), "{damaged:?}");
    let model = Model::of(&disk, &found);
    assert!(may_hold.contains(&model), "{model:?} is none of {may_hold:?}");
}

proptest! {
    #[test]
    fn what_is_written_survives_and_what_is_cut_off_is_whole_or_not_there(
        rounds in prop::collection::vec(round(), 1..5),
        seed: u64,
        kept in 0_u32..=4,
    ) {
        let mut random = seed;
        survives(&rounds, || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 40) % 4 < u64::from(kept)
        });
    }
}
