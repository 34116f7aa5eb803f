//! A refused record is in the queue or in quarantine, never in both and never in neither.

use futures::FutureExt as _;

use super::{super::RemoveError, simulated::Faults, *};

/// Takes the oldest records and acknowledges them; those with these indices were refused.
fn refuse(outbox: &Outbox, count: usize, indices: &[usize], code: &str) {
    outbox.take(count, usize::MAX);
    outbox.acknowledge_refused(count, vec![refused(indices, code, 7)]);
    wait(outbox.written());
}

fn remove(outbox: &Outbox, selection: &Selection, removal: Removal) -> Removed {
    wait(outbox.remove_from_quarantine(selection, removal)).unwrap()
}

fn removed(entries: usize, records: usize, missing: &[u64]) -> Removed {
    Removed { entries, records, missing: missing.to_vec() }
}

#[test]
fn refused_records_are_kept_over_restarts_and_sent_again_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let outbox = open(directory.path()).unwrap();
    outbox.commit(commit(&["a", "b", "c", "d", "e"]));
    wait(outbox.written());
    refuse(&outbox, 3, &[0, 2], "400");
    refuse(&outbox, 1, &[0], "INVALID_ARGUMENT");
    drop(outbox);
    let outbox = open(directory.path()).unwrap();
    let expected = [(1, "400", vec!["a", "c"]), (2, "INVALID_ARGUMENT", vec!["d"])].map(
        |(id, code, texts)| (id, code.to_owned(), texts.into_iter().map(Bytes::from).collect()),
    );
    assert_eq!(quarantine(&outbox), expected);
    assert_eq!(remove(&outbox, &Selection::Ids(vec![1, 9]), Removal::Retry), removed(1, 2, &[9]));
    assert_eq!(outbox.take(9, 9), ["e", "a", "c"]);
    outbox.acknowledge(3);
    assert_eq!(remove(&outbox, &Selection::All, Removal::Drop), removed(1, 1, &[]));
    wait(outbox.written());
    drop(outbox);
    let outbox = open(directory.path()).unwrap();
    assert_eq!((outbox.len(), quarantine(&outbox)), (0, Vec::new()));
    // Ids of removed entries are not used again.
    outbox.commit(commit(&["f"]));
    wait(outbox.written());
    refuse(&outbox, 1, &[0], "400");
    assert_eq!(quarantine(&outbox)[0].0, 3);
}

#[test]
fn outbox_without_a_quarantine_drops_refused_records() {
    let in_memory = Outbox::in_memory(limits(10), metrics());
    let disk = SimulatedDisk::default();
    let disabled =
        Outbox::with_storage(Box::new(disk), Limits::records(10), metrics(), BACKOFF).unwrap();
    for outbox in [&in_memory, &disabled] {
        assert!(!outbox.has_quarantine());
        outbox.commit(commit(&["a", "b"]));
        wait(outbox.written());
        refuse(outbox, 2, &[0, 1], "400");
        assert_eq!((outbox.len(), quarantine(outbox)), (0, Vec::new()));
    }
    let error = wait(in_memory.remove_from_quarantine(&Selection::All, Removal::Retry));
    assert_eq!(error, Err(RemoveError::InMemory));
}

#[test]
fn full_quarantine_drops_and_counts_its_oldest_entry() {
    let metrics = metrics();
    let limits = Limits { quarantine_bytes_max: 4, ..limits(10) };
    let disk = Box::new(SimulatedDisk::default());
    let outbox = Outbox::with_storage(disk, limits, metrics.clone(), BACKOFF).unwrap();
    outbox.commit(commit(&["aa", "bb", "cc", "ddddd"]));
    wait(outbox.written());
    refuse(&outbox, 2, &[0, 1], "400");
    refuse(&outbox, 1, &[0], "401");
    assert_eq!(quarantine(&outbox), [(2, "401".to_owned(), vec![Bytes::from("cc")])]);
    let evicted = || metrics.quarantine_removed_spans.with_label_values(&["evict"]).get();
    let lost = || metrics.spans_dropped.with_label_values(&["quarantine_full"]).get();
    assert_eq!((evicted(), lost()), (2, 2));
    assert_eq!((metrics.quarantine_spans.get(), metrics.quarantine_bytes.get()), (1, 2));
    assert_eq!(metrics.quarantined_spans.with_label_values(&["400"]).get(), 2);
    refuse(&outbox, 1, &[0], "402");
    assert_eq!(quarantine(&outbox), []);
    assert_eq!((evicted(), lost(), metrics.quarantine_spans.get()), (4, 4, 0));
}

#[test]
fn file_of_an_earlier_version_has_an_empty_quarantine() {
    let disk = SimulatedDisk::default();
    let outbox = open_on(&disk);
    outbox.commit(commit(&["a"]));
    drop(outbox);
    // Neither table exists until the first refusal.
    let tables = || {
        let bytes = disk.bytes();
        ["quarantine", "refusals"]
            .map(|name| memchr::memmem::find(&bytes, name.as_bytes()).is_some())
    };
    assert_eq!(tables(), [false, false]);
    let outbox = open_on(&disk);
    assert_eq!(quarantine(&outbox), []);
    refuse(&outbox, 1, &[0], "400");
    assert_eq!(tables(), [true, true]);
}

/// The queue and the quarantine, sorted.
fn contents(outbox: &Outbox) -> Vec<Bytes> {
    let mut records = outbox.take(1000, usize::MAX);
    records.extend(quarantine(outbox).into_iter().flat_map(|(_, _, records)| records));
    records.sort();
    records
}

#[test]
fn failing_writes_neither_lose_nor_duplicate_refused_records() {
    for failures in 0..40 {
        let disk = SimulatedDisk::default();
        let outbox = open_on(&disk);
        outbox.commit(commit(&["a", "b", "c"]));
        wait(outbox.written());
        disk.fail(Faults { writes: failures, ..Faults::default() });
        refuse(&outbox, 2, &[0, 1], "400");
        assert_eq!(contents(&outbox), ["a", "b", "c"], "{failures}");
        disk.fail(Faults { writes: failures, ..Faults::default() });
        outbox.commit(commit(&["d"]));
        assert_eq!(remove(&outbox, &Selection::All, Removal::Retry), removed(1, 2, &[]));
        wait(outbox.written());
        let mut records = outbox.take(9, usize::MAX);
        assert_eq!(outbox.len(), 4, "{failures}");
        records.sort();
        assert_eq!(records, ["a", "b", "c", "d"], "{failures}");
        drop(outbox);
        assert_eq!(contents(&open_on(&disk)), ["a", "b", "c", "d"], "{failures}");
    }
}

#[test]
fn closed_outbox_reports_a_removal_that_was_not_written() {
    let disk = SimulatedDisk::default();
    let outbox = open_on(&disk);
    outbox.commit(commit(&["a"]));
    wait(outbox.written());
    refuse(&outbox, 1, &[0], "400");
    disk.fail(Faults { writes: usize::MAX, ..Faults::default() });
    let mut removing = Box::pin(outbox.remove_from_quarantine(&Selection::All, Removal::Retry));
    assert_eq!((&mut removing).now_or_never(), None);
    outbox.close();
    assert_eq!(wait(removing), Err(RemoveError::Closed));
    disk.fail(Faults::default());
    drop(outbox);
    assert_eq!(quarantine(&open_on(&disk)).len(), 1);
}

#[test]
fn file_corrupted_while_records_are_moved_has_each_of_them_once() {
    for (place, removal) in
        [(5_000, None), (9_000, Some(Removal::Retry)), (13_000, Some(Removal::Drop))]
    {
        let disk = SimulatedDisk::default();
        let metrics = metrics();
        let outbox =
            Outbox::with_storage(Box::new(disk.clone()), limits(1000), metrics.clone(), BACKOFF);
        let outbox = outbox.unwrap();
        let records: Vec<Bytes> = (0..9).map(|number| format!("{number}").into()).collect();
        outbox.commit(Commit { records: records.clone(), entries: Vec::new() });
        wait(outbox.written());
        refuse(&outbox, 3, &[0, 1, 2], "400");
        refuse(&outbox, 1, &[0], "401");
        // The write fails, and the file turns out to be corrupt when it is reopened.
        disk.damage(|file| file[place] ^= 1);
        disk.fail(Faults { writes: 2, ..Faults::default() });
        outbox.take(2, 9);
        outbox.acknowledge_refused(2, vec![refused(&[0, 1], "401", 8)]);
        if let Some(removal) = removal {
            remove(&outbox, &Selection::Ids(vec![1]), removal);
        }
        wait(outbox.written());
        let mut found = contents(&outbox);
        let queued = found.len();
        found.dedup();
        assert_eq!(queued, found.len(), "a record is there twice: {found:?}");
        let expected = if removal == Some(Removal::Drop) { &records[3..] } else { &records[..] };
        assert!(found.len() + 1 >= expected.len(), "{found:?} of {expected:?}");
        drop(outbox);
        assert_eq!(contents(&open_on(&disk)), found);
    }
}
