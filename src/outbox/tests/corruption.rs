//! A corrupt file never prevents a start, and every intact record in it is kept.

use std::fs;

use memchr::memmem;

use super::{super::record, simulated::SimulatedDisk, *};

/// A file with unacknowledged records, stale copies of acknowledged ones, a checkpoint, and a
/// quarantine from which entries were dropped.
struct Case {
    bytes: Vec<u8>,
    /// The unacknowledged records with their sequences.
    unacknowledged: Vec<(u64, Bytes)>,
    /// The records in quarantine with the ids of their entries; each is the only one in its entry.
    quarantined: Vec<(u64, Bytes)>,
    /// Records of dropped entries.
    dropped: Vec<Bytes>,
}

const ROUNDS: u64 = 20;

impl Case {
    fn new(closed: bool) -> Self {
        let disk = SimulatedDisk::default();
        let outbox = open_on(&disk);
        let (mut unacknowledged, mut quarantined) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let records: Vec<Bytes> =
                (0..3).map(|at| format!("{round}.{at} ").repeat(100).into()).collect();
            unacknowledged.extend((round * 3 + 1..).zip(records.clone()));
            let entries = vec![entry(&[u8::try_from(round % 7).unwrap()], &[b'x'; 700])];
            outbox.commit(Commit { records, entries });
            wait(outbox.written());
            let taken = outbox.take(2, usize::MAX);
            let refused = refused(&[1], "400", round * 60);
            outbox.acknowledge_refused(2, vec![refused]);
            wait(outbox.written());
            quarantined.push((round + 1, taken[1].clone()));
        }
        let ids = Selection::Ids(vec![2, 3, 9, ROUNDS]);
        wait(outbox.remove_from_quarantine(&ids, Removal::Drop)).unwrap();
        let (dropped, quarantined): (Vec<_>, Vec<_>) =
            quarantined.into_iter().partition(|(id, _)| [2, 3, 9, ROUNDS].contains(id));
        let dropped = dropped.into_iter().map(|(_, record)| record).collect();
        unacknowledged.drain(..usize::try_from(ROUNDS * 2).unwrap());
        let killed = disk.bytes();
        drop(outbox);
        let bytes = if closed { disk.bytes() } else { killed };
        Self { bytes, unacknowledged, quarantined, dropped }
    }

    /// Opens the file after `damage`, and checks its records. Returns whether the file was found
    /// to be corrupt.
    fn check(&self, case: &str, damage: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut bytes = self.bytes.clone();
        damage(&mut bytes);
        let disk = SimulatedDisk::from_bytes(bytes.clone());
        let metrics = Metrics::new().unwrap();
        let opened = Outbox::with_storage(
            Box::new(disk.clone()),
            Limits::records(1000),
            metrics.clone(),
            BACKOFF,
        );
        let outbox = opened.unwrap_or_else(|error| panic!("{case}: {error:?}"));
        let kept = outbox.take(1000, usize::MAX);
        let damaged = disk.damaged();
        for (sequence, record) in &self.unacknowledged {
            let encoded = record::encode(record::Kind::Data, *sequence, record);
            let is_intact = memmem::find(&bytes, &encoded).is_some();
            let copies_kept = kept.iter().filter(|kept| *kept == record).count();
            assert_eq!(
                copies_kept,
                usize::from(is_intact || damaged.is_none()),
                "{case}: {sequence}"
            );
        }
        self.check_quarantine(case, &bytes, damaged.is_some(), &outbox);
        let order: Vec<_> = kept.iter().filter_map(|kept| self.sequence_of(kept)).collect();
        assert!(order.is_sorted(), "{case}: {order:?}");
        assert_eq!(metrics.outbox_corruptions.get(), u64::from(damaged.is_some()), "{case}");
        if damaged.is_some() {
            assert_eq!(checkpoint(&outbox), [], "{case}");
            outbox.acknowledge(kept.len());
            outbox.commit(commit(&["next"]));
            wait(outbox.written());
            drop(outbox);
            assert_eq!(open_on(&disk).take(1000, usize::MAX), ["next"], "{case}");
        } else {
            assert_eq!(checkpoint(&outbox).len(), 7, "{case}");
            assert_eq!(kept.len(), self.unacknowledged.len(), "{case}");
        }
        damaged.is_some()
    }

    /// `bytes` are those of the damaged file.
    fn check_quarantine(&self, case: &str, bytes: &[u8], is_replaced: bool, outbox: &Outbox) {
        let kept = quarantine(outbox);
        for (id, record) in &self.quarantined {
            let payload = [&0_u32.to_le_bytes()[..], record].concat();
            let encoded = record::encode(record::Kind::Quarantined, *id, &payload);
            let is_intact = memmem::find(bytes, &encoded).is_some();
            let copies = kept.iter().filter(|(_, _, records)| records.contains(record)).count();
            assert_eq!(copies, usize::from(is_intact || !is_replaced), "{case}: entry {id}");
        }
        // Only without the newest marker can a dropped entry come back.
        let newest = self.newest_marker();
        if memmem::find(bytes, &newest).is_some() {
            let is_back = |record| kept.iter().any(|(_, _, records)| records.contains(record));
            assert!(!self.dropped.iter().any(is_back), "{case}");
        }
    }

    /// The encoded marker of the intact file.
    fn newest_marker(&self) -> Vec<u8> {
        let headers = memmem::find_iter(&self.bytes, &record::MAGIC).filter_map(|at| {
            let header = record::Header::parse(&self.bytes[at..])?;
            let end = at + record::HEADER + header.len;
            let is_marker = header.kind == record::Kind::QuarantineIds;
            is_marker.then_some((header.sequence, at..end))
        });
        let (_, range) = headers.max_by_key(|(version, _)| *version).unwrap();
        self.bytes[range].to_vec()
    }

    fn sequence_of(&self, record: &Bytes) -> Option<u64> {
        self.unacknowledged
            .iter()
            .find(|(_, unacknowledged)| unacknowledged == record)
            .map(|(sequence, _)| *sequence)
    }
}

/// Every offset in the header of the file, and one in `step` of the others.
fn offsets(case: &Case, step: usize) -> impl Iterator<Item = usize> {
    (0..320).chain((320..case.bytes.len()).step_by(step))
}

#[test]
fn a_start_with_any_bit_flipped_keeps_every_intact_record() {
    for closed in [false, true] {
        let case = Case::new(closed);
        let mut found = 0;
        for at in offsets(&case, 211) {
            let bit = 1 << (at % 8);
            found += usize::from(case.check(&format!("bit of {at}"), |file| file[at] ^= bit));
        }
        assert!(found > 50, "{found}");
    }
}

#[test]
fn a_start_with_any_page_zeroed_or_overwritten_keeps_every_intact_record() {
    const PAGE: usize = 4096;
    for closed in [false, true] {
        let case = Case::new(closed);
        for page in (0..case.bytes.len()).step_by(PAGE) {
            case.check(&format!("zeros at {page}"), |file| file[page..][..PAGE].fill(0));
            case.check(&format!("repeated at {page}"), |file| {
                file.copy_within(0..PAGE, page);
            });
        }
    }
}

#[test]
fn a_start_with_the_file_truncated_anywhere_keeps_every_intact_record() {
    for closed in [false, true] {
        let case = Case::new(closed);
        for len in offsets(&case, 509).filter(|len| *len > 0) {
            case.check(&format!("cut at {len}"), |file| file.truncate(len));
        }
    }
}

/// Corrupts a file that is open and larger than the cache, then takes all records in it.
fn check_open(damage: impl FnOnce(&mut Vec<u8>)) {
    const RECORDS: usize = 8_000;
    let disk = SimulatedDisk::default();
    let metrics = metrics();
    let limits = Limits::records(10_000);
    let outbox =
        Outbox::with_storage(Box::new(disk.clone()), limits, metrics.clone(), BACKOFF).unwrap();
    let record = Bytes::from("x".repeat(1000));
    for _ in 0..8 {
        let entries = vec![entry(b"old", b"value")];
        outbox.commit(Commit { records: vec![record.clone(); RECORDS / 8], entries });
        wait(outbox.written());
    }
    disk.damage(damage);
    let mut taken = 0;
    while metrics.outbox_corruptions.get() == 0 {
        wait(outbox.filled());
        let records = outbox.take(100, usize::MAX).len();
        outbox.acknowledge(records);
        taken += records;
    }
    assert!(metrics.outbox_read_failures.get() > 0);
    outbox.commit(Commit { entries: vec![entry(b"new", b"")], ..commit(&["last"]) });
    wait(outbox.written());
    while let records @ 1.. = outbox.take(1000, usize::MAX).len() {
        outbox.acknowledge(records);
        taken += records;
    }
    // The records in flight when the file was replaced may be taken twice. Each of the 16 corrupt
    // places destroys one page, with four records at most.
    assert!((RECORDS - 16 * 4..=RECORDS + 101).contains(&taken), "{taken}");
    assert_eq!(checkpoint(&outbox), []);
    assert!(outbox.has_lost_checkpoint());
    outbox.delete_checkpoint().unwrap();
    assert!(!outbox.has_lost_checkpoint());
    let entries = vec![entry(b"complete", b""), entry(b"checkpoint", b"")];
    outbox.commit(Commit { entries, ..Commit::default() });
    wait(outbox.written());
    drop(outbox);
    assert_eq!(checkpoint(&open_on(&disk)).len(), 2);
}

#[test]
fn a_file_corrupted_while_open_is_replaced_and_checkpoint_changes_are_dropped() {
    check_open(|file| file.iter_mut().skip(10_000).step_by(500_000).for_each(|byte| *byte ^= 1));
}

#[test]
fn a_panic_of_the_database_on_a_corrupt_page_does_not_end_the_writer_thread() {
    // redb panics when it reads a page of an unknown type.
    check_open(|file| {
        for page in (0..file.len()).step_by(4096).skip(50).step_by(150) {
            file[page] = 0xff;
        }
    });
}

#[test]
fn a_file_of_another_format_is_set_aside_and_an_empty_one_is_initialized() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("spanlink.redb"), "# a text\n").unwrap();
    fs::write(path("spanlink.redb.damaged"), "older").unwrap();
    let metrics = Metrics::new().unwrap();
    let open = || Outbox::on_disk(directory.path(), Limits::records(10), metrics.clone()).unwrap();
    drop(open());
    assert_eq!(metrics.outbox_corruptions.get(), 1);
    assert_eq!(fs::read_to_string(path("spanlink.redb.damaged")).unwrap(), "# a text\n");
    fs::write(path("spanlink.redb"), "").unwrap();
    drop(open());
    assert_eq!(metrics.outbox_corruptions.get(), 1);
}

#[test]
fn records_of_a_corrupt_file_in_a_data_directory_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let metrics = Metrics::new().unwrap();
    let open = || Outbox::on_disk(directory.path(), Limits::records(10), metrics.clone()).unwrap();
    let outbox = open();
    outbox.commit(commit(&["a", "b"]));
    drop(outbox);
    let path = directory.path().join("spanlink.redb");
    let mut bytes = fs::read(&path).unwrap();
    bytes[..4096].fill(0xff);
    fs::write(&path, bytes).unwrap();
    assert_eq!(open().take(9, 9), ["a", "b"]);
    assert_eq!(metrics.outbox_corruptions.get(), 1);
}

#[test]
fn a_replacement_interrupted_between_its_two_renames_is_finished() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let open = || {
        let metrics = Metrics::new().unwrap();
        Outbox::on_disk(directory.path(), Limits::records(10), metrics).unwrap()
    };
    let outbox = open();
    outbox.commit(commit(&["salvaged"]));
    drop(outbox);
    fs::rename(path("spanlink.redb"), path("spanlink.redb.new")).unwrap();
    fs::write(path("spanlink.redb.damaged"), "damaged").unwrap();
    assert_eq!(open().take(9, 9), ["salvaged"]);
}
