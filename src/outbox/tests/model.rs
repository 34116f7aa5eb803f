//! On disk the outbox behaves like a queue and a map, for any sequence of operations.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::{simulated::SimulatedDisk, *};

#[derive(Clone, Debug)]
enum Operation {
    Commit { records: Vec<usize>, entries: Vec<(u8, Option<usize>)> },
    Take { records_max: usize, bytes_max: usize },
    Acknowledge(usize),
    DeleteCheckpoint,
    Restart,
}

fn operation() -> impl Strategy<Value = Operation> {
    let len = prop_oneof![4 => 0_usize..100, 1 => 0_usize..10_000];
    let entry = (0_u8..8, prop::option::of(len.clone()));
    prop_oneof![
        4 => (prop::collection::vec(len, 0..6), prop::collection::vec(entry, 0..4))
            .prop_map(|(records, entries)| Operation::Commit { records, entries }),
        4 => (0_usize..8, 0_usize..3000)
            .prop_map(|(records_max, bytes_max)| Operation::Take { records_max, bytes_max }),
        4 => (0_usize..8).prop_map(Operation::Acknowledge),
        1 => Just(Operation::DeleteCheckpoint),
        1 => Just(Operation::Restart),
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
    fn the_outbox_on_disk_behaves_like_a_queue_and_a_map(operations in prop::collection::vec(operation(), 0..40)) {
        let disk = SimulatedDisk::default();
        let metrics = Metrics::new().unwrap();
        let limits = Limits::records(1000);
        let open =
            || Outbox::with_storage(Box::new(disk.clone()), limits, metrics.clone(), BACKOFF).unwrap();
        let mut outbox = open();
        let mut records = VecDeque::new();
        let mut entries = BTreeMap::new();
        let mut in_flight = 0;
        for (number, operation) in operations.into_iter().enumerate() {
            let fill = |len| vec![u8::try_from(number).unwrap(); len];
            match operation {
                Operation::Commit { records: lens, entries: changes } => {
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
                Operation::Take { records_max, bytes_max } => {
                    let expected = oldest(&records, records_max, bytes_max);
                    in_flight = expected.len();
                    prop_assert_eq!(outbox.take(records_max, bytes_max), expected);
                }
                Operation::Acknowledge(count) => {
                    let count = count.min(in_flight);
                    in_flight -= count;
                    records.drain(..count);
                    outbox.acknowledge(count);
                }
                Operation::DeleteCheckpoint => {
                    wait(outbox.written());
                    outbox.delete_checkpoint().unwrap();
                    entries.clear();
                }
                Operation::Restart => {
                    drop(outbox);
                    outbox = open();
                    in_flight = 0;
                }
            }
            let bytes: usize = records.iter().map(Bytes::len).sum();
            let gauges = (metrics.outbox_spans.get(), metrics.outbox_bytes.get());
            let expected = (i64::try_from(records.len()).unwrap(), i64::try_from(bytes).unwrap());
            prop_assert_eq!(gauges, expected);
            prop_assert_eq!(checkpoint(&outbox), entries.clone().into_iter().collect::<Vec<_>>());
        }
        prop_assert!(disk.damaged().is_none());
    }
}
