//! What the outbox promises on disk.

mod damage;
mod failing;
mod model;
mod panicking;
mod power_loss;
mod simulated;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use bytes::Bytes;

use self::simulated::SimulatedDisk;
use super::{Commit, Entry, Limits, OpenError, Outbox, disk::chain, writer::Patience};
use crate::metrics::Metrics;

const PATIENCE: Patience =
    Patience { first: Duration::from_millis(1), max: Duration::from_millis(4) };

fn metrics() -> Metrics {
    Metrics::new().unwrap()
}

fn on(disk: &SimulatedDisk) -> Outbox {
    Outbox::stored(Box::new(disk.clone()), Limits::records(1000), metrics(), PATIENCE).unwrap()
}

fn open(folder: &Path) -> Result<Outbox, OpenError> {
    Outbox::on_disk(folder, Limits::records(10), metrics())
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn commit(records: &[&'static str]) -> Commit {
    let records = records.iter().map(|text| Bytes::from_static(text.as_bytes())).collect();
    Commit { records, entries: Vec::new() }
}

fn entry(key: &[u8], value: &[u8]) -> Entry {
    Entry { key: Bytes::copy_from_slice(key), value: Some(Bytes::copy_from_slice(value)) }
}

fn checkpoint(outbox: &Outbox) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut entries = Vec::new();
    outbox.read_checkpoint(|key, value| entries.push((key.to_vec(), value.to_vec()))).unwrap();
    entries
}

#[test]
fn what_was_written_is_there_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = open(folder.path()).unwrap();
    assert!(outbox.is_on_disk());
    let entries = vec![entry(b"key", b"value"), entry(b"other", b"")];
    outbox.commit(Commit { entries, ..commit(&["a", "b"]) });
    wait(outbox.written());
    assert_eq!(outbox.take(1, 9), ["a"]);
    outbox.acknowledge(1);
    drop(outbox);
    let outbox = open(folder.path()).unwrap();
    assert_eq!((outbox.len(), outbox.take(9, 9)), (1, vec![Bytes::from("b")]));
    let (key, value) = (b"key".to_vec(), b"value".to_vec());
    assert_eq!(checkpoint(&outbox), [(key, value), (b"other".to_vec(), Vec::new())]);
}

#[test]
fn what_is_promised_is_there_when_the_power_comes_back() {
    let disk = SimulatedDisk::default();
    let outbox = on(&disk);
    for count in 1..20 {
        outbox.commit(commit(&["a"]));
        wait(outbox.written());
        let after = on(&disk.after_power_loss(|| false));
        assert_eq!(after.len(), count);
    }
    outbox.take(5, 9);
    outbox.acknowledge(5);
    wait(outbox.written());
    assert_eq!(on(&disk.after_power_loss(|| false)).len(), 14);
}

#[test]
fn a_record_can_be_taken_only_once_it_is_durable() {
    let disk = SimulatedDisk::default();
    let outbox = on(&disk);
    outbox.commit(commit(&["a"]));
    wait(outbox.filled());
    assert_eq!(on(&disk.after_power_loss(|| false)).len(), 1);
}

#[test]
fn what_waits_on_disk_is_not_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits::records(100_000);
    let outbox = Outbox::on_disk(folder.path(), limits, Metrics::new().unwrap()).unwrap();
    let record = Bytes::from(vec![1; 600]);
    for _ in 0..50 {
        wait(outbox.ready()).unwrap();
        outbox.commit(Commit { records: vec![record.clone(); 1000], entries: Vec::new() });
    }
    wait(outbox.written());
    assert_eq!(outbox.len(), 50_000);
    // Nobody else holds on to them.
    assert!(record.is_unique());
    let taken = outbox.take(512, usize::MAX);
    assert_eq!(taken.len(), 512);
    assert!(taken.iter().all(|taken| taken == &record && taken.is_unique()));
}

#[test]
fn the_checkpoint_can_be_forgotten_and_records_stay() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = open(folder.path()).unwrap();
    outbox.commit(Commit { entries: vec![entry(b"key", b"value")], ..commit(&["a"]) });
    wait(outbox.written());
    outbox.forget_checkpoint().unwrap();
    drop(outbox);
    let outbox = open(folder.path()).unwrap();
    assert_eq!(checkpoint(&outbox), []);
    assert_eq!(outbox.take(9, 9), ["a"]);
}

#[test]
fn a_folder_in_use_is_said_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let _outbox = open(folder.path()).unwrap();
    let error = open(folder.path()).unwrap_err();
    let path = folder.path().display();
    let expected =
        format!("{path} is in use by another spanlink; each needs a data_dir of its own");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn what_cannot_be_a_folder_is_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let path = file.display();
    let expected =
        format!("{path} is no folder to keep data in (data_dir): File exists (os error 17)");
    assert_eq!(chain(&open(&file).unwrap_err()), expected);
    let path = path.to_string() + "/below";
    let expected =
        format!("{path} is no folder to keep data in (data_dir): Not a directory (os error 20)");
    assert_eq!(chain(&open(Path::new(&path)).unwrap_err()), expected);
}

#[test]
fn what_cannot_be_a_file_is_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("spanlink.redb");
    fs::create_dir(&file).unwrap();
    let text = chain(&open(folder.path()).unwrap_err());
    let expected = format!("cannot open the outbox {}: ", file.display());
    assert!(text.starts_with(&expected) && text.contains("Is a directory"), "{text}");
}

#[test]
fn nobody_else_can_read_a_folder_it_creates() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("data");
    drop(open(&folder).unwrap());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for file in fs::read_dir(&folder).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
}
