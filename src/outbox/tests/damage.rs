//! Whatever happens to the file, it starts, with every record that is whole.

use std::fs;

use memchr::memmem;

use super::{super::record, simulated::SimulatedDisk, *};

/// A file with some history: records that wait, copies of those that do not any more, a checkpoint.
struct Case {
    bytes: Vec<u8>,
    /// Waiting, by their sequences.
    waiting: Vec<(u64, Bytes)>,
}

const ROUNDS: u64 = 20;

impl Case {
    fn new(closed: bool) -> Self {
        let disk = SimulatedDisk::default();
        let outbox = on(&disk);
        let mut waiting = Vec::new();
        for round in 0..ROUNDS {
            let records: Vec<Bytes> =
                (0..3).map(|at| format!("{round}.{at} ").repeat(100).into()).collect();
            waiting.extend((round * 3 + 1..).zip(records.clone()));
            let entries = vec![entry(&[u8::try_from(round % 7).unwrap()], &[b'x'; 700])];
            outbox.commit(Commit { records, entries });
            wait(outbox.written());
            outbox.take(2, usize::MAX);
            outbox.acknowledge(2);
            wait(outbox.written());
        }
        waiting.drain(..usize::try_from(ROUNDS * 2).unwrap());
        let killed = disk.bytes();
        drop(outbox);
        Self { bytes: if closed { disk.bytes() } else { killed }, waiting }
    }

    /// Opens the file with this damage. Whether it was found to be damaged.
    fn check(&self, what: &str, damage: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut bytes = self.bytes.clone();
        damage(&mut bytes);
        let disk = SimulatedDisk::of(bytes.clone());
        let metrics = Metrics::new().unwrap();
        let opened = Outbox::stored(
            Box::new(disk.clone()),
            Limits::records(1000),
            metrics.clone(),
            PATIENCE,
        );
        let outbox = opened.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        let kept = outbox.take(1000, usize::MAX);
        let damaged = disk.aside();
        for (sequence, record) in &self.waiting {
            let written = record::encode(record::Kind::Waits, *sequence, record);
            let is_whole = memmem::find(&bytes, &written).is_some();
            let is_kept = kept.iter().filter(|kept| *kept == record).count();
            assert_eq!(is_kept, usize::from(is_whole || damaged.is_none()), "{what}: {sequence}");
        }
        let order: Vec<_> = kept.iter().filter_map(|kept| self.number(kept)).collect();
        assert!(order.is_sorted(), "{what}: {order:?}");
        assert_eq!(metrics.outbox_corruptions.get(), u64::from(damaged.is_some()), "{what}");
        if damaged.is_some() {
            assert_eq!(checkpoint(&outbox), [], "{what}");
            outbox.acknowledge(kept.len());
            outbox.commit(commit(&["next"]));
            wait(outbox.written());
            drop(outbox);
            assert_eq!(on(&disk).take(1000, usize::MAX), ["next"], "{what}");
        } else {
            assert_eq!(checkpoint(&outbox).len(), 7, "{what}");
            assert_eq!(kept.len(), self.waiting.len(), "{what}");
        }
        damaged.is_some()
    }

    fn number(&self, record: &Bytes) -> Option<u64> {
        self.waiting.iter().find(|(_, waiting)| waiting == record).map(|(sequence, _)| *sequence)
    }
}

/// Offsets all over the file; every one in the header, which has the most to say.
fn offsets(case: &Case, step: usize) -> impl Iterator<Item = usize> {
    (0..320).chain((320..case.bytes.len()).step_by(step))
}

#[test]
fn a_file_with_a_byte_changed_anywhere_starts_with_every_whole_record() {
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
fn a_file_with_a_page_zeroed_or_repeated_starts_with_every_whole_record() {
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
fn a_file_cut_anywhere_starts_with_every_whole_record() {
    for closed in [false, true] {
        let case = Case::new(closed);
        for len in offsets(&case, 509).filter(|len| *len > 0) {
            case.check(&format!("cut at {len}"), |file| file.truncate(len));
        }
    }
}

/// Damages a file that is open, and larger than the cache; then everything in it is taken.
fn check_open(damage: impl FnOnce(&mut Vec<u8>)) {
    const RECORDS: usize = 8_000;
    let disk = SimulatedDisk::default();
    let metrics = metrics();
    let limits = Limits::records(10_000);
    let outbox = Outbox::stored(Box::new(disk.clone()), limits, metrics.clone(), PATIENCE).unwrap();
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
    // What was in hand when the file was replaced may come again; each of 16 damages hits one
    // page, or the record in it.
    assert!((RECORDS - 16 * 4..=RECORDS + 101).contains(&taken), "{taken}");
    assert_eq!(checkpoint(&outbox), []);
    assert!(outbox.has_lost_checkpoint());
    outbox.forget_checkpoint().unwrap();
    assert!(!outbox.has_lost_checkpoint());
    let anew = vec![entry(b"all", b""), entry(b"anew", b"")];
    outbox.commit(Commit { entries: anew, ..Commit::default() });
    wait(outbox.written());
    drop(outbox);
    assert_eq!(checkpoint(&on(&disk)).len(), 2);
}

#[test]
fn a_file_damaged_while_it_is_open_is_replaced_and_its_checkpoint_does_not_go_on() {
    check_open(|file| file.iter_mut().skip(10_000).step_by(500_000).for_each(|byte| *byte ^= 1));
}

#[test]
fn a_page_of_no_kind_found_while_the_file_is_open_ends_nothing() {
    // redb panics when it reads one.
    check_open(|file| {
        for page in (0..file.len()).step_by(4096).skip(50).step_by(150) {
            file[page] = 0xff;
        }
    });
}

#[test]
fn a_file_of_another_kind_is_set_aside_and_an_empty_one_is_filled() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("spanlink.redb"), "# a text\n").unwrap();
    fs::write(path("spanlink.redb.damaged"), "older").unwrap();
    let metrics = Metrics::new().unwrap();
    let open = || Outbox::on_disk(folder.path(), Limits::records(10), metrics.clone()).unwrap();
    drop(open());
    assert_eq!(metrics.outbox_corruptions.get(), 1);
    assert_eq!(fs::read_to_string(path("spanlink.redb.damaged")).unwrap(), "# a text\n");
    fs::write(path("spanlink.redb"), "").unwrap();
    drop(open());
    assert_eq!(metrics.outbox_corruptions.get(), 1);
}

#[test]
fn a_file_cut_in_a_folder_keeps_what_was_before() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = Metrics::new().unwrap();
    let open = || Outbox::on_disk(folder.path(), Limits::records(10), metrics.clone()).unwrap();
    let outbox = open();
    outbox.commit(commit(&["a", "b"]));
    drop(outbox);
    let path = folder.path().join("spanlink.redb");
    let mut bytes = fs::read(&path).unwrap();
    bytes[..4096].fill(0xff);
    fs::write(&path, bytes).unwrap();
    assert_eq!(open().take(9, 9), ["a", "b"]);
    assert_eq!(metrics.outbox_corruptions.get(), 1);
}

#[test]
fn a_replacement_that_was_cut_off_between_its_two_renames_is_finished() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let open = || {
        let metrics = Metrics::new().unwrap();
        Outbox::on_disk(folder.path(), Limits::records(10), metrics).unwrap()
    };
    let outbox = open();
    outbox.commit(commit(&["salvaged"]));
    drop(outbox);
    fs::rename(path("spanlink.redb"), path("spanlink.redb.new")).unwrap();
    fs::write(path("spanlink.redb.damaged"), "damaged").unwrap();
    assert_eq!(open().take(9, 9), ["salvaged"]);
}
