//! Sends the records of the outbox, the oldest first, and acknowledges those with a final response.

use std::{pin::Pin, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{Span, field::Empty, info_span};

use super::{
    backoff::RetryBackoff,
    batch::{Batch, Limits},
    client::Transport,
    encode::Encoder,
    export_log::{ExportLog, Line, SpanLoss},
    response::{Disposition, ResponseCode},
};
use crate::metrics::{Metrics, SpanDrop};

/// The queue of records to send. The daemon implements it for the outbox, as neither folder uses the
/// other.
pub trait Queue: Send {
    /// Waits until there is a record that can be taken. It may wait although the queue is not empty:
    /// while its file cannot be read.
    fn filled(&self) -> impl Future<Output = ()> + Send;
    /// Returns the oldest records. They remain in the queue until they are acknowledged.
    fn take(&self, records_max: usize, bytes_max: usize) -> Vec<Bytes>;
    /// Removes the `count` oldest records.
    fn acknowledge(&self, count: usize);
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How long to continue sending after the stop signal, if records remain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// While the collector responds.
    pub responding: Duration,
    /// While the collector does not respond: it may be restarting.
    pub unresponsive: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self { responding: Duration::from_secs(5), unresponsive: Duration::from_secs(20) }
    }
}

/// How long to wait for more records before a request that is not full. A span is to be visible within
/// a second of its change.
const BATCH_WAIT: Duration = Duration::from_millis(100);

/// The longest wait between attempts after the stop signal, if the receiver has not requested one.
const STOPPING_WAIT_MAX: Duration = Duration::from_secs(1);

/// Sends the records of a queue, until it is stopped.
#[derive(Debug)]
pub struct Sender<Q, T> {
    queue: Q,
    transport: T,
    encoder: Encoder,
    limits: Limits,
    metrics: Metrics,
    backoff: RetryBackoff,
    log: ExportLog,
}

impl<Q: Queue, T: Transport> Sender<Q, T> {
    pub fn new(queue: Q, transport: T, encoder: Encoder, metrics: Metrics) -> Self {
        Self {
            queue,
            transport,
            encoder,
            limits: Limits::default(),
            metrics,
            backoff: RetryBackoff::default(),
            log: ExportLog::default(),
        }
    }

    /// Sends records until `stop` resolves, then until the queue is empty or the time of its [`Drain`]
    /// is over. Returns the number of records that remain.
    pub async fn run(mut self, stop: impl Future<Output = Drain> + Send) -> usize {
        let mut stop = Stop { signal: Box::pin(stop), requested: None };
        loop {
            self.wait_for_records(&mut stop).await;
            if self.queue.is_empty() && stop.is_requested() {
                return 0;
            }
            if stop.is_over(self.log.is_healthy()) {
                return self.queue.len();
            }
            let records = self.queue.take(self.limits.spans_max, self.limits.bytes_max);
            let batch = Batch::from_records(&records, &self.encoder, self.limits);
            drop(records);
            self.drop_spans(batch.oversized, SpanLoss::Oversized);
            self.drop_spans(batch.undecodable, SpanLoss::Undecodable);
            if batch.spans > 0 && !self.send(&batch, &mut stop).await {
                return self.queue.len();
            }
            self.queue.acknowledge(batch.records);
        }
    }

    /// Waits for records, and a little longer for a full batch. After the stop signal, it returns at
    /// once if the queue is empty, and no later than the end of the drain.
    async fn wait_for_records(&self, stop: &mut Stop<'_>) {
        tokio::select! {
            biased;
            () = self.queue.filled() => {}
            () = stop.requested() => {}
        }
        if stop.is_requested() {
            if !self.queue.is_empty() {
                // The records may be unreadable for now, so their number is no reason to continue.
                tokio::select! {
                    biased;
                    () = self.queue.filled() => {}
                    () = stop.over(self.log.is_healthy()) => {}
                }
            }
        } else if self.queue.len() < self.limits.spans_max {
            tokio::select! {
                () = sleep(BATCH_WAIT) => {}
                () = stop.requested() => {}
            }
        }
    }

    /// Sends a batch until there is a final response (true), or no time left (false).
    async fn send(&mut self, batch: &Batch, stop: &mut Stop<'_>) -> bool {
        loop {
            let span = self.span(batch);
            let started = Instant::now();
            let response = tokio::select! {
                response = self.transport.send(batch.request.clone()) => response,
                () = stop.over(self.log.is_healthy()) => return false,
            };
            self.metrics.observe_export(started.elapsed());
            let disposition = response.disposition();
            span.record("spanlink.export.code", tracing::field::display(response.code()));
            let is_accepted = matches!(
                disposition,
                Disposition::Accepted | Disposition::PartiallyAccepted { .. }
            );
            if !is_accepted {
                let code = response.code().to_string();
                span.record("otel.status_code", "ERROR").record("error.type", &*code);
                self.metrics.export_failures.with_label_values(&[&code]).inc();
            }
            drop(span);
            match disposition {
                Disposition::Accepted => self.accept(batch, 0),
                Disposition::PartiallyAccepted { rejected } => self.accept(batch, rejected),
                Disposition::Refused { code } => self.refuse(batch, code),
                Disposition::Retry { requested_delay } => {
                    let line = self.log.record_failure(&response);
                    self.write(line);
                    if !self.wait_to_retry(requested_delay, stop).await {
                        return false;
                    }
                    continue;
                }
            }
            return true;
        }
    }

    /// The span of one request among the daemon's own traces (option `own_traces`), which are exported
    /// separately from the spans of the cluster.
    fn span(&self, batch: &Batch) -> Span {
        info_span!(
            "export",
            otel.kind = "client",
            spanlink.export.endpoint = self.transport.endpoint(),
            spanlink.export.spans = batch.spans,
            spanlink.export.code = Empty,
            otel.status_code = Empty,
            error.type = Empty,
        )
    }

    fn accept(&mut self, batch: &Batch, rejected: u64) {
        let spans = u64::try_from(batch.spans).unwrap_or(u64::MAX);
        let rejected = rejected.min(spans);
        self.metrics.spans_exported.inc_by(spans - rejected);
        self.record_response();
        self.drop_spans(usize::try_from(rejected).unwrap_or(usize::MAX), SpanLoss::Rejected);
    }

    fn refuse(&mut self, batch: &Batch, code: ResponseCode) {
        self.record_response();
        self.drop_spans(batch.spans, SpanLoss::Refused(code));
    }

    /// The receiver has responded, so it is healthy, even if it refuses the spans.
    fn record_response(&mut self) {
        self.backoff.reset();
        let line = self.log.record_recovery();
        self.write(line);
    }

    /// Counts and logs spans that will not be delivered.
    fn drop_spans(&mut self, spans: usize, loss: SpanLoss) {
        if spans == 0 {
            return;
        }
        let reason = match loss {
            SpanLoss::Oversized => SpanDrop::Oversized,
            SpanLoss::Undecodable => SpanDrop::Undecodable,
            SpanLoss::Rejected => SpanDrop::Rejected,
            SpanLoss::Refused(_) => SpanDrop::Refused,
        };
        self.metrics.drop_spans(reason, u64::try_from(spans).unwrap_or(u64::MAX));
        let line = self.log.record_loss(spans, loss);
        self.write(line);
    }

    fn write(&self, line: Option<Line>) {
        if let Some(line) = line {
            line.log(self.transport.endpoint());
        }
    }

    /// Waits before the next attempt. Returns false if there is no time for one.
    async fn wait_to_retry(
        &mut self,
        requested_delay: Option<Duration>,
        stop: &mut Stop<'_>,
    ) -> bool {
        let mut wait = self.backoff.next_wait(requested_delay, fastrand::f64());
        if !stop.is_requested() {
            tokio::select! {
                () = sleep(wait) => {}
                // Retry at once: the collector may have recovered during the wait.
                () = stop.requested() => {}
            }
            return true;
        }
        if requested_delay.is_none() {
            wait = wait.min(STOPPING_WAIT_MAX);
        }
        tokio::select! {
            () = sleep(wait) => true,
            () = stop.over(false) => false,
        }
    }
}

/// The stop signal, and the time that remains after it.
struct Stop<'a> {
    signal: Pin<Box<dyn Future<Output = Drain> + Send + 'a>>,
    /// When the signal was received, and its drain.
    requested: Option<(Instant, Drain)>,
}

impl Stop<'_> {
    /// Waits for the signal. Returns at once if it was received before.
    async fn requested(&mut self) {
        if self.requested.is_none() {
            let drain = self.signal.as_mut().await;
            self.requested = Some((Instant::now(), drain));
        }
    }

    fn is_requested(&self) -> bool {
        self.requested.is_some()
    }

    /// Waits for the signal, and then until the drain is over.
    async fn over(&mut self, is_responding: bool) {
        self.requested().await;
        if let Some(end) = self.end(is_responding) {
            sleep_until(end).await;
        }
    }

    fn is_over(&self, is_responding: bool) -> bool {
        self.end(is_responding).is_some_and(|end| Instant::now() >= end)
    }

    fn end(&self, is_responding: bool) -> Option<Instant> {
        let (received, drain) = self.requested?;
        Some(received + if is_responding { drain.responding } else { drain.unresponsive })
    }
}
