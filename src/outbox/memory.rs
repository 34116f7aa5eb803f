//! A bounded queue of encoded records: who pushes waits when it is full.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::metrics::Metrics;

/// How much may wait. What is full makes the producer wait, and so the watches; nothing is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Records: one each span.
    pub records_max: usize,
    /// Bytes of all records together. A larger record still passes, alone.
    pub bytes_max: usize,
}

impl Limits {
    /// Whatever the spans are, their records take no more memory than this.
    pub const BYTES_MAX: usize = 64 << 20;

    pub const fn records(records_max: usize) -> Self {
        Self { records_max, bytes_max: Self::BYTES_MAX }
    }
}

/// Nobody takes any more: the record was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the outbox is closed")]
pub struct Closed;

/// Cheap to clone; every clone is the same queue. For one producer and one consumer.
#[derive(Clone, Debug)]
pub struct Outbox {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limits: Limits,
    metrics: Metrics,
    queue: Mutex<Queue>,
    /// Told when there is something to take; keeps one permit, so no telling is missed.
    filled: Notify,
    /// Told when there is room again, or nobody to make any.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    records: VecDeque<Bytes>,
    bytes: usize,
    closed: bool,
}

impl Outbox {
    pub fn new(limits: Limits, metrics: Metrics) -> Self {
        let shared = Shared {
            limits,
            metrics,
            queue: Mutex::default(),
            filled: Notify::new(),
            freed: Notify::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Appends a record, waiting for room. Dropped while it waits, it has appended nothing.
    ///
    /// # Errors
    /// When the outbox is closed.
    pub async fn push(&self, record: Bytes) -> Result<(), Closed> {
        loop {
            {
                let mut queue = self.lock();
                if queue.closed {
                    return Err(Closed);
                }
                if queue.has_room(self.shared.limits, record.len()) {
                    queue.bytes += record.len();
                    queue.records.push_back(record);
                    self.gauge(&queue);
                    break;
                }
            }
            self.shared.freed.notified().await;
        }
        self.shared.filled.notify_one();
        Ok(())
    }

    /// Waits until there is something to take.
    pub async fn filled(&self) {
        while self.is_empty() {
            self.shared.filled.notified().await;
        }
    }

    /// The oldest records, as many as both limits allow and at least one if there is any. They
    /// stay until they are acknowledged.
    pub fn take(&self, records_max: usize, bytes_max: usize) -> Vec<Bytes> {
        let queue = self.lock();
        let mut bytes = 0_usize;
        let count = queue
            .records
            .iter()
            .take(records_max.max(1))
            .take_while(|record| {
                let first = bytes == 0;
                bytes += record.len();
                first || bytes <= bytes_max
            })
            .count();
        queue.records.iter().take(count).cloned().collect()
    }

    /// Forgets the `count` oldest records.
    pub fn acknowledge(&self, count: usize) {
        {
            let mut queue = self.lock();
            let count = count.min(queue.records.len());
            let bytes: usize = queue.records.drain(..count).map(|record| record.len()).sum();
            queue.bytes -= bytes;
            if queue.records.is_empty() {
                // What a long absence of the collector made large is given back.
                queue.records.shrink_to(1024);
            }
            self.gauge(&queue);
        }
        self.shared.freed.notify_one();
    }

    /// From now on nothing is accepted; who waits for room is told so.
    pub fn close(&self) {
        self.lock().closed = true;
        self.shared.freed.notify_one();
    }

    pub fn len(&self) -> usize {
        self.lock().records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn gauge(&self, queue: &Queue) {
        let metrics = &self.shared.metrics;
        metrics.outbox_spans.set(i64::try_from(queue.records.len()).unwrap_or(i64::MAX));
        metrics.outbox_bytes.set(i64::try_from(queue.bytes).unwrap_or(i64::MAX));
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it is held; if something did, the queue would still be whole.
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn has_room(&self, limits: Limits, len: usize) -> bool {
        self.records.is_empty()
            || (self.records.len() < limits.records_max && self.bytes + len <= limits.bytes_max)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    fn outbox(records_max: usize, bytes_max: usize) -> Outbox {
        Outbox::new(Limits { records_max, bytes_max }, Metrics::new().unwrap())
    }

    fn record(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[tokio::test]
    async fn a_batch_stays_until_it_is_acknowledged() {
        let outbox = outbox(10, 100);
        for text in ["a", "b", "c"] {
            outbox.push(record(text)).await.unwrap();
        }
        assert_eq!(outbox.take(2, 100), ["a", "b"]);
        assert_eq!(outbox.take(2, 100), ["a", "b"]);
        outbox.acknowledge(1);
        assert_eq!(outbox.take(9, 100), ["b", "c"]);
        assert_eq!(outbox.take(9, 1), ["b"]);
        outbox.acknowledge(2);
        assert!(outbox.is_empty());
    }

    #[tokio::test]
    async fn who_pushes_into_a_full_outbox_waits_for_an_acknowledgement() {
        let outbox = outbox(2, 100);
        outbox.push(record("a")).await.unwrap();
        outbox.push(record("b")).await.unwrap();
        let mut third = Box::pin(outbox.push(record("c")));
        assert_eq!((&mut third).now_or_never(), None);
        outbox.acknowledge(1);
        third.await.unwrap();
        assert_eq!(outbox.take(9, 100), ["b", "c"]);
    }

    #[tokio::test]
    async fn bytes_bound_the_outbox_too_but_a_large_record_passes_alone() {
        let outbox = outbox(100, 4);
        outbox.push(record("larger than four")).await.unwrap();
        let mut next = Box::pin(outbox.push(record("b")));
        assert_eq!((&mut next).now_or_never(), None);
        outbox.acknowledge(1);
        next.await.unwrap();
        assert_eq!(outbox.len(), 1);
    }

    #[tokio::test]
    async fn a_closed_outbox_tells_who_waits_and_keeps_what_it_has() {
        let outbox = outbox(1, 100);
        outbox.push(record("a")).await.unwrap();
        let mut second = Box::pin(outbox.push(record("b")));
        assert_eq!((&mut second).now_or_never(), None);
        outbox.close();
        assert_eq!(second.await, Err(Closed));
        assert_eq!(outbox.len(), 1);
    }

    #[tokio::test]
    async fn the_gauges_tell_what_waits() {
        let metrics = Metrics::new().unwrap();
        let outbox = Outbox::new(Limits::records(10), metrics.clone());
        outbox.push(record("abc")).await.unwrap();
        outbox.push(record("de")).await.unwrap();
        assert_eq!((metrics.outbox_spans.get(), metrics.outbox_bytes.get()), (2, 5));
        outbox.acknowledge(1);
        assert_eq!((metrics.outbox_spans.get(), metrics.outbox_bytes.get()), (1, 2));
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().unwrap()
    }

    proptest! {
        /// Producer and consumer on runtimes and threads of their own.
        #[test]
        fn the_queue_never_loses_nor_reorders(
            sizes in prop::collection::vec(1_usize..40, 0..300),
            records_max in 1_usize..20,
            bytes_max in 1_usize..200,
            batch in 1_usize..20,
        ) {
            let outbox = outbox(records_max, bytes_max);
            let sent: Vec<Bytes> = sizes
                .iter()
                .enumerate()
                .map(|(at, size)| Bytes::from(format!("{at:0size$}")))
                .collect();
            let producer = std::thread::spawn({
                let (outbox, sent) = (outbox.clone(), sent.clone());
                move || runtime().block_on(async {
                    for record in sent {
                        outbox.push(record).await.unwrap();
                    }
                })
            });
            let mut received = Vec::new();
            runtime().block_on(async {
                while received.len() < sent.len() {
                    outbox.filled().await;
                    let taken = outbox.take(batch, bytes_max);
                    outbox.acknowledge(taken.len());
                    received.extend(taken);
                }
            });
            producer.join().unwrap();
            prop_assert_eq!(received, sent);
            prop_assert!(outbox.is_empty());
        }
    }
}
