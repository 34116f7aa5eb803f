//! The guarantees of an outbox on disk.

mod corruption;
mod failing;
mod model;
mod power_loss;
mod quarantine;
mod queue;
mod simulated;
mod writer_panic;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use bytes::Bytes;

use self::simulated::SimulatedDisk;
use super::{
    Commit, Entry, Limits, OpenError, Outbox, Refusal, Refused, Removal, Removed, Selection,
    writer::RetryBackoff,
};
use crate::{error_chain::ErrorChain, metrics::Metrics};

const BACKOFF: RetryBackoff =
    RetryBackoff { first: Duration::from_millis(1), max: Duration::from_millis(4) };

fn metrics() -> Metrics {
    Metrics::new().unwrap()
}

/// Limits for an outbox on disk.
fn limits(records_max: usize) -> Limits {
    Limits { quarantine_bytes_max: 1 << 20, ..Limits::records(records_max) }
}

fn open_on(disk: &SimulatedDisk) -> Outbox {
    Outbox::with_storage(Box::new(disk.clone()), limits(1000), metrics(), BACKOFF).unwrap()
}

fn open(directory: &Path) -> Result<Outbox, OpenError> {
    Outbox::on_disk(directory, limits(10), metrics())
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

/// Records that were refused with a code at a time in seconds.
fn refused(indices: &[usize], code: &str, at: u64) -> Refused {
    Refused { indices: indices.to_vec(), refusal: Refusal::new(at * 1000, code, "bad") }
}

/// The entries in quarantine: their ids, codes and records.
fn quarantine(outbox: &Outbox) -> Vec<(u64, String, Vec<Bytes>)> {
    let mut entries = Vec::new();
    outbox
        .read_quarantine(usize::MAX, |entry| {
            assert_eq!(entry.records, entry.samples.len());
            assert_eq!(entry.bytes, entry.samples.iter().map(Bytes::len).sum::<usize>());
            entries.push((entry.id, entry.refusal.code().to_owned(), entry.samples));
        })
        .unwrap();
    entries
}

fn checkpoint(outbox: &Outbox) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut entries = Vec::new();
    outbox.read_checkpoint(|key, value| entries.push((key.to_vec(), value.to_vec()))).unwrap();
    entries
}

#[test]
fn a_restart_restores_unacknowledged_records_and_the_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let outbox = open(directory.path()).unwrap();
    assert!(outbox.is_on_disk());
    let entries = vec![entry(b"key", b"value"), entry(b"other", b"")];
    outbox.commit(Commit { entries, ..commit(&["a", "b"]) });
    wait(outbox.written());
    assert_eq!(outbox.take(1, 9), ["a"]);
    outbox.acknowledge(1);
    drop(outbox);
    let outbox = open(directory.path()).unwrap();
    assert_eq!((outbox.len(), outbox.take(9, 9)), (1, vec![Bytes::from("b")]));
    let (key, value) = (b"key".to_vec(), b"value".to_vec());
    assert_eq!(checkpoint(&outbox), [(key, value), (b"other".to_vec(), Vec::new())]);
}

#[test]
fn written_records_survive_power_loss() {
    let disk = SimulatedDisk::default();
    let outbox = open_on(&disk);
    for count in 1..20 {
        outbox.commit(commit(&["a"]));
        wait(outbox.written());
        let after = open_on(&disk.after_power_loss(|| false));
        assert_eq!(after.len(), count);
    }
    outbox.take(5, 9);
    outbox.acknowledge(5);
    wait(outbox.written());
    assert_eq!(open_on(&disk.after_power_loss(|| false)).len(), 14);
}

#[test]
fn records_cannot_be_taken_before_they_are_durable() {
    let disk = SimulatedDisk::default();
    let outbox = open_on(&disk);
    outbox.commit(commit(&["a"]));
    wait(outbox.filled());
    assert_eq!(open_on(&disk.after_power_loss(|| false)).len(), 1);
}

#[test]
fn records_on_disk_are_not_kept_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits::records(100_000);
    let outbox = Outbox::on_disk(directory.path(), limits, Metrics::new().unwrap()).unwrap();
    let record = Bytes::from(vec![1; 600]);
    for _ in 0..50 {
        wait(outbox.ready()).unwrap();
        outbox.commit(Commit { records: vec![record.clone(); 1000], entries: Vec::new() });
    }
    wait(outbox.written());
    assert_eq!(outbox.len(), 50_000);
    // The outbox has dropped its clones.
    assert!(record.is_unique());
    let taken = outbox.take(512, usize::MAX);
    assert_eq!(taken.len(), 512);
    assert!(taken.iter().all(|taken| taken == &record && taken.is_unique()));
}

#[test]
fn deleting_the_checkpoint_keeps_the_records() {
    let directory = tempfile::tempdir().unwrap();
    let outbox = open(directory.path()).unwrap();
    outbox.commit(Commit { entries: vec![entry(b"key", b"value")], ..commit(&["a"]) });
    wait(outbox.written());
    outbox.delete_checkpoint().unwrap();
    drop(outbox);
    let outbox = open(directory.path()).unwrap();
    assert_eq!(checkpoint(&outbox), []);
    assert_eq!(outbox.take(9, 9), ["a"]);
}

#[test]
fn a_data_directory_in_use_is_an_error_with_advice() {
    let directory = tempfile::tempdir().unwrap();
    let _outbox = open(directory.path()).unwrap();
    let error = open(directory.path()).unwrap_err();
    let path = directory.path().display();
    let expected = format!(
        "{path} is in use by another spanlink process; \
         give each process a data directory of its own (option data_dir)"
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_data_directory_that_cannot_be_created_is_an_error_with_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let path = file.display();
    let expected = format!(
        "cannot create the data directory {path} (option data_dir): File exists (os error 17)"
    );
    assert_eq!(ErrorChain(&open(&file).unwrap_err()).to_string(), expected);
    let path = path.to_string() + "/below";
    let expected = format!(
        "cannot create the data directory {path} (option data_dir): Not a directory (os error 20)"
    );
    assert_eq!(ErrorChain(&open(Path::new(&path)).unwrap_err()).to_string(), expected);
}

#[test]
fn an_outbox_file_that_cannot_be_opened_is_an_error_with_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("spanlink.redb");
    fs::create_dir(&file).unwrap();
    let text = ErrorChain(&open(directory.path()).unwrap_err()).to_string();
    let expected = format!("cannot open the outbox file {}: ", file.display());
    assert!(text.starts_with(&expected) && text.contains("Is a directory"), "{text}");
}

#[test]
fn other_users_cannot_read_the_data_directory() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("data");
    drop(open(&directory).unwrap());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    for file in fs::read_dir(&directory).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
}
