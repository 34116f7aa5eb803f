//! On disk the outbox behaves like a queue, a map and a quarantine, for any sequence of operations.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::{simulated::SimulatedDisk, *};

#[derive(Clone, Debug)]
enum Operation {
    Commit { records: Vec<usize>, entries: Vec<(u8, Option<usize>)> },
    Take { records_max: usize, bytes_max: usize },
    Acknowledge { count: usize, refused: Vec<usize>, code: u8 },
    Remove { ids: Option<Vec<u64>>, removal: Removal },
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
        4 => (0_usize..8, prop::collection::btree_set(0_usize..8, 0..4), 0_u8..3)
            .prop_map(|(count, refused, code)| Operation::Acknowledge {
                count,
                refused: refused.into_iter().collect(),
                code,
            }),
        2 => (
            prop::option::of(prop::collection::vec(1_u64..8, 0..3)),
            prop_oneof![Just(Removal::Retry), Just(Removal::Drop)],
        )
            .prop_map(|(ids, removal)| Operation::Remove { ids, removal }),
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

/// The entries by id, with their codes and records.
type Quarantine = BTreeMap<u64, (String, Vec<Bytes>)>;

/// Removes the entries, and returns the records to retry.
fn remove(
    quarantine: &mut Quarantine,
    ids: Option<&Vec<u64>>,
    removal: Removal,
) -> (Removed, Vec<Bytes>) {
    let selected: Vec<u64> = ids.cloned().unwrap_or_else(|| quarantine.keys().copied().collect());
    let (mut removed, mut seen) = (Removed::default(), Vec::new());
    let mut retried = Vec::new();
    for id in selected {
        match quarantine.remove(&id) {
            Some((_, records)) => {
                seen.push(id);
                removed.entries += 1;
                removed.records += records.len();
                retried.extend(records);
            }
            None if seen.contains(&id) => {}
            None => removed.missing.push(id),
        }
    }
    if removal == Removal::Drop {
        retried.clear();
    }
    (removed, retried)
}

/// Drops the oldest entries, as the outbox does when the quarantine is full.
fn evict(quarantine: &mut Quarantine, bytes_max: usize) {
    let bytes = |quarantine: &Quarantine| -> usize {
        quarantine.values().flat_map(|(_, records)| records).map(Bytes::len).sum()
    };
    while bytes(quarantine) > bytes_max {
        quarantine.pop_first();
    }
}

proptest! {
    #[test]
    fn outbox_on_disk_behaves_like_a_queue_a_map_and_a_quarantine(
        operations in prop::collection::vec(operation(), 0..40),
        quarantine_bytes_max in prop_oneof![Just(1 << 20), 1_usize..2000],
    ) {
        let disk = SimulatedDisk::default();
        let metrics = Metrics::new().unwrap();
        let limits = Limits { quarantine_bytes_max, ..Limits::records(1000) };
        let open =
            || Outbox::with_storage(Box::new(disk.clone()), limits, metrics.clone(), BACKOFF).unwrap();
        let mut outbox = open();
        let mut records = VecDeque::new();
        let mut entries = BTreeMap::new();
        let mut in_flight = 0;
        let mut quarantined: Quarantine = BTreeMap::new();
        let mut next_id = 1;
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
                Operation::Acknowledge { count, refused: indices, code } => {
                    let count = count.min(in_flight);
                    in_flight -= count;
                    let acknowledged: Vec<Bytes> = records.drain(..count).collect();
                    // Each has an entry: refusals share one for a minute only.
                    let at = u64::try_from(number).unwrap() * 60;
                    let refusal = refused(&indices, &format!("{code}"), at);
                    outbox.acknowledge_refused(count, vec![refusal]);
                    let moved: Vec<Bytes> =
                        indices.iter().filter_map(|index| acknowledged.get(*index).cloned()).collect();
                    if !moved.is_empty() {
                        quarantined.insert(next_id, (code.to_string(), moved));
                        next_id += 1;
                        evict(&mut quarantined, quarantine_bytes_max);
                    }
                    wait(outbox.written());
                }
                Operation::Remove { ids, removal } => {
                    let (expected, retried) = remove(&mut quarantined, ids.as_ref(), removal);
                    let selection = ids.map_or(Selection::All, Selection::Ids);
                    let removed = wait(outbox.remove_from_quarantine(&selection, removal)).unwrap();
                    prop_assert_eq!(removed, expected);
                    records.extend(retried);
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
            let gauge = usize::try_from(metrics.quarantine_spans.get()).unwrap();
            prop_assert_eq!(gauge, quarantined.values().map(|(_, records)| records.len()).sum::<usize>());
            let expected: Vec<(u64, String, Vec<Bytes>)> = quarantined
                .iter()
                .map(|(id, (code, records))| (*id, code.clone(), records.clone()))
                .collect();
            prop_assert_eq!(quarantine(&outbox), expected);
            prop_assert_eq!(checkpoint(&outbox), entries.clone().into_iter().collect::<Vec<_>>());
        }
        prop_assert!(disk.damaged().is_none());
    }
}
