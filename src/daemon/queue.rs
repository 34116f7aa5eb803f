//! Lets the sender take records from the outbox, as the two do not use each other.

use bytes::Bytes;

use crate::{
    export::{refusal::Refusal, sender::Queue},
    outbox::Outbox,
};

/// The outbox as the queue that the sender empties.
#[derive(Clone, Debug)]
pub struct OutboxQueue(pub Outbox);

impl Queue for OutboxQueue {
    async fn filled(&self) {
        self.0.filled().await;
    }

    fn take(&self, records_max: usize, bytes_max: usize) -> Vec<Bytes> {
        self.0.take(records_max, bytes_max)
    }

    fn acknowledge(&self, count: usize, _refusals: &[Refusal]) {
        self.0.acknowledge(count);
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}
