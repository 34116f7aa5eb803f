//! No record is lost while the disk fails.

use super::{
    simulated::{Faults, SimulatedDisk},
    *,
};

fn open_with_metrics(disk: &SimulatedDisk) -> (Outbox, Metrics) {
    let metrics = Metrics::new().unwrap();
    let limits = Limits::records(1000);
    let outbox = Outbox::with_storage(Box::new(disk.clone()), limits, metrics.clone(), BACKOFF);
    (outbox.unwrap(), metrics)
}

#[test]
fn a_failed_write_is_retried_until_it_succeeds() {
    let disk = SimulatedDisk::default();
    let (outbox, metrics) = open_with_metrics(&disk);
    for round in 0..10 {
        disk.fail(Faults { writes: round * 3, ..Faults::default() });
        outbox.commit(Commit {
            records: vec![format!("{round}").into()],
            entries: vec![entry(&[u8::try_from(round).unwrap()], b"value")],
        });
        wait(outbox.written());
        assert_eq!(disk.faults_left().writes, 0);
    }
    assert!(metrics.outbox_write_failures.get() > 9, "{}", metrics.outbox_write_failures.get());
    assert_eq!(metrics.outbox_corruptions.get(), 0);
    drop(outbox);
    let outbox = open_on(&disk);
    assert_eq!(outbox.take(10, 100), ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    assert_eq!(checkpoint(&outbox).len(), 10);
}

#[test]
fn closing_the_outbox_ends_the_retries_of_a_failed_write() {
    let disk = SimulatedDisk::default();
    let (outbox, metrics) = open_with_metrics(&disk);
    outbox.commit(commit(&["a"]));
    wait(outbox.written());
    disk.fail(Faults { writes: usize::MAX, ..Faults::default() });
    outbox.commit(commit(&["b"]));
    while metrics.outbox_write_failures.get() < 3 {
        std::thread::yield_now();
    }
    assert!(!outbox.is_ready());
    assert_eq!(outbox.len(), 1);
    outbox.close();
    wait(outbox.written());
    disk.fail(Faults::default());
    drop(outbox);
    assert_eq!(open_on(&disk).take(9, 9), ["a"]);
}

#[test]
fn acknowledgements_survive_failed_writes() {
    let disk = SimulatedDisk::default();
    let (outbox, _) = open_with_metrics(&disk);
    outbox.commit(commit(&["a", "b"]));
    wait(outbox.written());
    outbox.take(1, 9);
    disk.fail(Faults { writes: 5, ..Faults::default() });
    outbox.acknowledge(1);
    wait(outbox.written());
    drop(outbox);
    assert_eq!(open_on(&disk).take(9, 9), ["b"]);
}

#[test]
fn a_failed_read_takes_no_record_and_the_file_is_reopened() {
    let disk = SimulatedDisk::default();
    let record = Bytes::from("x".repeat(1000));
    open_on(&disk).commit(Commit { records: vec![record.clone(); 8000], entries: Vec::new() });
    let (outbox, metrics) = open_with_metrics(&disk);
    let mut taken = 0;
    for round in 0.. {
        disk.fail(Faults { reads: round % 4, ..Faults::default() });
        wait(outbox.filled());
        let records = outbox.take(1000, usize::MAX);
        assert!(records.iter().all(|taken| *taken == record));
        taken += records.len();
        outbox.acknowledge(records.len());
        if taken == 8000 {
            break;
        }
    }
    wait(outbox.written());
    assert!(metrics.outbox_read_failures.get() > 0);
    assert_eq!((outbox.len(), metrics.outbox_corruptions.get()), (0, 0));
}

/// Limits the disk, and commits records until a write fails. Returns how many were committed.
fn fill_disk(disk: &SimulatedDisk, outbox: &Outbox, metrics: &Metrics) -> usize {
    disk.fail(Faults { space: Some(2 << 20), ..Faults::default() });
    let record = Bytes::from(vec![b'x'; 1000]);
    let mut committed = 0;
    while metrics.outbox_write_failures.get() == 0 {
        if outbox.is_ready() {
            outbox.commit(Commit { records: vec![record.clone(); 100], ..Commit::default() });
            committed += 100;
        }
    }
    committed
}

#[test]
fn on_a_full_disk_refused_records_leave_the_queue() {
    let disk = SimulatedDisk::default();
    let metrics = metrics();
    let limits = Limits { quarantine_bytes_max: usize::MAX, ..Limits::records(100_000) };
    let outbox =
        Outbox::with_storage(Box::new(disk.clone()), limits, metrics.clone(), BACKOFF).unwrap();
    let committed = fill_disk(&disk, &outbox, &metrics);
    let mut taken = 0;
    while taken < committed {
        wait(outbox.filled());
        let records = outbox.take(100, usize::MAX).len();
        let all: Vec<usize> = (0..records).collect();
        outbox.acknowledge_refused(records, vec![refused(&all, "400", taken as u64)]);
        taken += records;
    }
    wait(outbox.written());
    assert_eq!((outbox.len(), metrics.outbox_corruptions.get()), (0, 0));
    let kept: usize = quarantine(&outbox).iter().map(|(_, _, records)| records.len()).sum();
    let lost = metrics.spans_dropped.with_label_values(&["quarantine_full"]).get();
    assert_eq!(kept + usize::try_from(lost).unwrap(), committed);
    assert!(lost > 0);
}

#[test]
fn on_a_full_disk_acknowledged_records_make_room_for_new_ones() {
    let disk = SimulatedDisk::default();
    let metrics = metrics();
    let limits = Limits::records(100_000);
    let outbox =
        Outbox::with_storage(Box::new(disk.clone()), limits, metrics.clone(), BACKOFF).unwrap();
    let committed = fill_disk(&disk, &outbox, &metrics);
    let mut taken = 0;
    while taken < committed {
        wait(outbox.filled());
        let records = outbox.take(100, usize::MAX).len();
        outbox.acknowledge(records);
        taken += records;
    }
    wait(outbox.written());
    assert_eq!((outbox.len(), metrics.outbox_corruptions.get()), (0, 0));
    assert!(outbox.is_ready());
}
