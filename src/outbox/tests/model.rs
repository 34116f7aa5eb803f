//! On disk the outbox is a queue and a map, whatever is done in whichever order.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::{simulated::SimulatedDisk, *};

#[derive(Clone, Debug)]
enum Step {
    Commit { records: Vec<usize>, entries: Vec<(u8, Option<usize>)> },
    Take { records_max: usize, bytes_max: usize },
    Acknowledge(usize),
    ForgetCheckpoint,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![4 => 0_usize..100, 1 => 0_usize..10_000];
    let entry = (0_u8..8, prop::option::of(len.clone()));
    prop_oneof![
        4 => (prop::collection::vec(len, 0..6), prop::collection::vec(entry, 0..4))
            .prop_map(|(records, entries)| Step::Commit { records, entries }),
        4 => (0_usize..8, 0_usize..3000)
            .prop_map(|(records_max, bytes_max)| Step::Take { records_max, bytes_max }),
        4 => (0_usize..8).prop_map(Step::Acknowledge),
        1 => Just(Step::ForgetCheckpoint),
        1 => Just(Step::Restart),
    ]
}

fn oldest(records: &VecDeque<Bytes>, records_max: usize, bytes_max: usize) -> Vec<Bytes> {
    let mut taken: Vec<Bytes> = Vec::new();
    for record in records {
        let bytes = taken.iter().map(Bytes::len).sum::<usize>() + record.len();
        if !taken.is_empty() && (taken.len() >= records_max || bytes > bytes_max) {
            break;
        }
        taken.push(record.clone());
    }
    taken
}

proptest! {
    #[test]
    fn on_disk_the_outbox_is_a_queue_and_a_map(steps in prop::collection::vec(step(), 0..40)) {
        let disk = SimulatedDisk::default();
        let metrics = Metrics::new().unwrap();
        let limits = Limits::records(1000);
        let start =
            || Outbox::stored(Box::new(disk.clone()), limits, metrics.clone(), PATIENCE).unwrap();
        let mut outbox = start();
        let mut records = VecDeque::new();
        let mut entries = BTreeMap::new();
        let mut taken = 0;
        for (number, step) in steps.into_iter().enumerate() {
            let fill = |len| vec![u8::try_from(number).unwrap(); len];
            match step {
                Step::Commit { records: lens, entries: changes } => {
                    let commit = Commit {
                        records: lens.into_iter().map(|len| fill(len).into()).collect(),
                        entries: changes
                            .into_iter()
                            .map(|(key, len)| Entry {
                                key: Bytes::copy_from_slice(&[key]),
                                value: len.map(|len| fill(len).into()),
                            })
                            .collect(),
                    };
                    records.extend(commit.records.iter().cloned());
                    for Entry { key, value } in &commit.entries {
                        match value {
                            Some(value) => entries.insert(key.to_vec(), value.to_vec()),
                            None => entries.remove(&**key),
                        };
                    }
                    outbox.commit(commit);
                    wait(outbox.written());
                }
                Step::Take { records_max, bytes_max } => {
                    let expected = oldest(&records, records_max, bytes_max);
                    taken = expected.len();
                    prop_assert_eq!(outbox.take(records_max, bytes_max), expected);
                }
                Step::Acknowledge(count) => {
                    let count = count.min(taken);
                    taken -= count;
                    records.drain(..count);
                    outbox.acknowledge(count);
                }
                Step::ForgetCheckpoint => {
                    wait(outbox.written());
                    outbox.forget_checkpoint().unwrap();
                    entries.clear();
                }
                Step::Restart => {
                    drop(outbox);
                    outbox = start();
                    taken = 0;
                }
            }
            let bytes: usize = records.iter().map(Bytes::len).sum();
            let gauges = (metrics.outbox_spans.get(), metrics.outbox_bytes.get());
            let expected = (i64::try_from(records.len()).unwrap(), i64::try_from(bytes).unwrap());
            prop_assert_eq!(gauges, expected);
            prop_assert_eq!(checkpoint(&outbox), entries.clone().into_iter().collect::<Vec<_>>());
        }
        prop_assert!(disk.aside().is_none());
    }
}
