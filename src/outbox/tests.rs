//! What the outbox promises on disk.

use bytes::Bytes;

use super::{Commit, Entry, Limits, Outbox};
use crate::metrics::Metrics;

#[tokio::test]
async fn what_was_written_is_there_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Outbox::on_disk(folder.path(), Limits::records(10), Metrics::new().unwrap());
    let outbox = open().unwrap();
    outbox.commit(Commit {
        records: vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")],
        entries: vec![Entry { key: (*b"key").into(), value: Some((*b"value").into()) }],
    });
    outbox.written().await;
    assert_eq!(outbox.take(1, 9), ["a"]);
    outbox.acknowledge(1);
    drop(outbox);
    let outbox = open().unwrap();
    assert_eq!(outbox.take(9, 9), ["b"]);
    let mut entries = Vec::new();
    outbox.read_checkpoint(|key, value| entries.push((key.to_vec(), value.to_vec()))).unwrap();
    assert_eq!(entries, [(b"key".to_vec(), b"value".to_vec())]);
}
