//! Lets the sender take records from the outbox, as the two do not use each other.

use bytes::Bytes;

use super::clock::now;
use crate::{
    export::{
        refusal::{Refusal, RefusalReason},
        sender::Queue,
    },
    outbox::{self, Outbox, Refused},
};

const NANOS_PER_MILLI: i64 = 1_000_000;

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

    fn acknowledge(&self, count: usize, refusals: &[Refusal]) {
        let unix_millis = u64::try_from(now().nanos() / NANOS_PER_MILLI).unwrap_or(0);
        let refused = refusals.iter().filter_map(|refusal| {
            let (code, message) = reason(&refusal.reason)?;
            let refusal_of_outbox = outbox::Refusal::new(unix_millis, &code, message);
            Some(Refused { indices: refusal.positions.clone(), refusal: refusal_of_outbox })
        });
        self.0.acknowledge_refused(count, refused.collect());
    }

    fn has_quarantine(&self) -> bool {
        self.0.has_quarantine()
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

/// The code and the message that the quarantine shows; `None` for records that are dropped, because no
/// retry would deliver them.
fn reason(reason: &RefusalReason) -> Option<(String, &str)> {
    match reason {
        RefusalReason::Response { code, http_status, message } => {
            let code = match http_status {
                Some(status) => format!("{code} (HTTP {status})"),
                None => code.to_string(),
            };
            Some((code, message.as_deref().unwrap_or_default()))
        }
        RefusalReason::Oversized => Some((
            "oversized".to_owned(),
            "larger than the largest request (option otlp.request_bytes_max)",
        )),
        RefusalReason::Undecodable => None,
    }
}
