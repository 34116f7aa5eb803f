//! The outbox is a bounded queue, in memory as on disk.

use std::thread;

use futures::FutureExt as _;
use proptest::prelude::*;

use super::{super::Closed, *};

fn outbox(records_max: usize, bytes_max: usize) -> Outbox {
    Outbox::in_memory(Limits { bytes_max, ..Limits::records(records_max) }, Metrics::new().unwrap())
}

#[test]
fn a_batch_stays_in_the_outbox_until_it_is_acknowledged() {
    let outbox = outbox(10, 100);
    outbox.commit(commit(&["a", "b", "c"]));
    assert_eq!(outbox.take(2, 100), ["a", "b"]);
    assert_eq!(outbox.take(2, 100), ["a", "b"]);
    outbox.acknowledge(1);
    assert_eq!(outbox.take(9, 100), ["b", "c"]);
    assert_eq!(outbox.take(9, 1), ["b"]);
    outbox.acknowledge(2);
    assert_eq!(outbox.take(9, 100), ["c"]);
    outbox.acknowledge(1);
    assert!(outbox.is_empty());
}

#[tokio::test]
async fn a_full_outbox_is_ready_once_acknowledgements_make_room() {
    let outbox = outbox(2, 100);
    outbox.commit(commit(&["a", "b", "one commit may exceed the limit"]));
    let mut ready = Box::pin(outbox.ready());
    assert_eq!((&mut ready).now_or_never(), None);
    outbox.take(1, 100);
    outbox.acknowledge(1);
    assert_eq!((&mut ready).now_or_never(), None);
    assert!(!outbox.is_ready());
    outbox.take(1, 100);
    outbox.acknowledge(1);
    ready.await.unwrap();
    assert!(outbox.is_ready());
}

#[tokio::test]
async fn an_empty_outbox_accepts_a_record_larger_than_the_byte_limit() {
    let outbox = outbox(100, 4);
    outbox.ready().await.unwrap();
    outbox.commit(commit(&["larger than four"]));
    let mut ready = Box::pin(outbox.ready());
    assert_eq!((&mut ready).now_or_never(), None);
    assert_eq!(outbox.take(1, 4).len(), 1);
    outbox.acknowledge(1);
    ready.await.unwrap();
}

#[tokio::test]
async fn closing_the_outbox_wakes_the_producer_and_keeps_the_records() {
    let outbox = outbox(1, 100);
    outbox.commit(commit(&["a"]));
    let mut ready = Box::pin(outbox.ready());
    assert_eq!((&mut ready).now_or_never(), None);
    outbox.close();
    assert_eq!(ready.await, Err(Closed));
    outbox.commit(commit(&["b"]));
    assert_eq!(outbox.len(), 1);
}

#[test]
fn gauges_show_the_unacknowledged_records_and_bytes() {
    let metrics = Metrics::new().unwrap();
    let outbox = Outbox::in_memory(Limits::records(10), metrics.clone());
    outbox.commit(commit(&["abc", "de"]));
    assert_eq!((metrics.outbox_spans.get(), metrics.outbox_bytes.get()), (2, 5));
    outbox.take(1, 100);
    outbox.acknowledge(1);
    assert_eq!((metrics.outbox_spans.get(), metrics.outbox_bytes.get()), (1, 2));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

/// Sends the records from one thread to another, each with its own runtime.
fn transfer(outbox: &Outbox, sent: Vec<Vec<Bytes>>, batch: usize, bytes_max: usize) -> Vec<Bytes> {
    let count = sent.iter().map(Vec::len).sum();
    let producer = thread::spawn({
        let outbox = outbox.clone();
        move || {
            runtime().block_on(async {
                for records in sent {
                    outbox.ready().await.unwrap();
                    outbox.commit(Commit { records, entries: Vec::new() });
                }
            });
        }
    });
    let mut received = Vec::new();
    runtime().block_on(async {
        while received.len() < count {
            outbox.filled().await;
            let taken = outbox.take(batch, bytes_max);
            outbox.acknowledge(taken.len());
            received.extend(taken);
        }
    });
    producer.join().unwrap();
    received
}

proptest! {
    #[test]
    fn records_arrive_complete_and_in_order_between_two_threads(
        sizes in prop::collection::vec(prop::collection::vec(1_usize..40, 0..10), 0..100),
        records_max in 1_usize..20,
        bytes_max in 1_usize..200,
        batch in 1_usize..20,
        on_disk: bool,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { bytes_max, ..Limits::records(records_max) };
        let metrics = Metrics::new().unwrap();
        let outbox = if on_disk {
            Outbox::on_disk(folder.path(), limits, metrics).unwrap()
        } else {
            Outbox::in_memory(limits, metrics)
        };
        let mut numbers = 0..;
        let sent: Vec<Vec<Bytes>> = sizes
            .into_iter()
            .map(|sizes| {
                let bytes = |size| Bytes::from(format!("{:0size$}", numbers.next().unwrap()));
                sizes.into_iter().map(bytes).collect()
            })
            .collect();
        let received = transfer(&outbox, sent.clone(), batch, bytes_max);
        prop_assert_eq!(received, sent.concat());
        prop_assert!(outbox.is_empty());
    }
}
