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
    export_log::{ExportLog, Line},
    refusal::{Refusal, RefusalReason},
    request_size::RequestSize,
    response::{Acceptance, Disposition, Response},
};
use crate::{
    metrics::{Metrics, SpanDrop},
    trace::model::time::Timestamp,
};

/// The queue of records to send. The daemon implements it for the outbox, as neither folder uses the
/// other.
pub trait Queue: Send {
    /// Waits until there is a record that can be taken. It may wait although the queue is not empty:
    /// while its file cannot be read.
    fn filled(&self) -> impl Future<Output = ()> + Send;
    /// Returns the oldest records, at least one if it can be read. They remain in the queue until they
    /// are acknowledged.
    fn take(&self, records_max: usize, bytes_max: usize) -> Vec<Bytes>;
    /// Removes the `count` oldest records. Those in `refusals` were not delivered, and are kept in
    /// quarantine if there is one; the receiver has the others.
    fn acknowledge(&self, count: usize, refusals: &[Refusal]);
    /// Whether refused records are kept. Records that are not spans never are.
    fn has_quarantine(&self) -> bool;
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

/// The rest after a refused request: a receiver that refuses everything is not sent a backlog at full
/// speed.
const REFUSED_WAIT: Duration = Duration::from_millis(100);

/// The longest wait between attempts after the stop signal, if the receiver has not requested one.
const STOPPING_WAIT_MAX: Duration = Duration::from_secs(1);

/// Reads the clock. The daemon passes it, so that tests can set the time.
pub type Clock = fn() -> Timestamp;

/// Sends the records of a queue, until it is stopped.
#[derive(Debug)]
pub struct Sender<Q, T> {
    queue: Q,
    transport: T,
    encoder: Encoder,
    limits: Limits,
    metrics: Metrics,
    clock: Clock,
    request_size: RequestSize,
    backoff: RetryBackoff,
    log: ExportLog,
    /// The last request was refused.
    was_refused: bool,
}

/// What became of a batch.
enum Sent {
    /// There is a final response. The receiver has the spans, or has refused them for this reason.
    Settled(Option<RefusalReason>),
    /// The same records have to be sent in smaller requests.
    Split,
    /// The time after the stop signal is over.
    Stopped,
}

impl<Q: Queue, T: Transport> Sender<Q, T> {
    pub fn new(
        queue: Q,
        transport: T,
        encoder: Encoder,
        limits: Limits,
        metrics: Metrics,
        clock: Clock,
    ) -> Self {
        Self {
            queue,
            transport,
            encoder,
            limits,
            metrics,
            clock,
            request_size: RequestSize::new(limits.bytes_max),
            backoff: RetryBackoff::default(),
            log: ExportLog::default(),
            was_refused: false,
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
            if stop.is_over(self.log.failing_since()) {
                return self.queue.len();
            }
            let batch = self.next_batch();
            let sent = match batch.spans() {
                0 => Sent::Settled(None),
                _ => self.send(&batch, &mut stop).await,
            };
            match sent {
                Sent::Settled(refused) => self.acknowledge(&batch, refused),
                Sent::Split => {}
                Sent::Stopped => return self.queue.len(),
            }
        }
    }

    fn next_batch(&self) -> Batch {
        let limits = Limits { bytes_target: self.request_size.bytes(), ..self.limits };
        let records = self.queue.take(limits.spans_max, limits.bytes_target);
        Batch::from_records(&records, &self.encoder, limits)
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
                    () = stop.over(self.log.failing_since()) => {}
                }
            }
        } else if self.queue.len() < self.limits.spans_max {
            tokio::select! {
                () = sleep(BATCH_WAIT) => {}
                () = stop.requested() => {}
            }
        }
    }

    /// Sends a batch until there is a final response, or no time left.
    async fn send(&mut self, batch: &Batch, stop: &mut Stop<'_>) -> Sent {
        if self.was_refused {
            sleep(REFUSED_WAIT).await;
        }
        loop {
            let span = self.span(batch);
            let started = Instant::now();
            let response = tokio::select! {
                response = self.transport.send(batch.request.clone()) => response,
                () = stop.over(self.log.failing_since()) => return Sent::Stopped,
            };
            self.metrics.observe_export(started.elapsed());
            let code = response.code().to_string();
            span.record("spanlink.export.code", &*code);
            let disposition = response.disposition((self.clock)());
            if disposition != Disposition::Accepted {
                span.record("otel.status_code", "ERROR").record("error.type", &*code);
                self.metrics.export_failures.with_label_values(&[&code]).inc();
            }
            drop(span);
            match disposition {
                Disposition::Accepted => {
                    self.accept(batch, response);
                    return Sent::Settled(None);
                }
                Disposition::Split if batch.spans() > 1 => {
                    self.record_response();
                    self.request_size.shrink(batch.request.len());
                    let line = self.log.record_split(&response, batch.request.len());
                    self.write(line);
                    return Sent::Split;
                }
                Disposition::Split | Disposition::Refused => {
                    self.record_response();
                    self.was_refused = true;
                    return Sent::Settled(Some(RefusalReason::from_response(response)));
                }
                Disposition::Retry { requested_delay } => {
                    let line = self.log.record_failure(&response);
                    self.write(line);
                    if !self.wait_to_retry(requested_delay, stop).await {
                        return Sent::Stopped;
                    }
                }
            }
        }
    }

    /// The span of one request among the daemon's own traces (option `own_traces`), which are exported
    /// separately from the spans of the cluster.
    fn span(&self, batch: &Batch) -> Span {
        info_span!(
            "export",
            otel.kind = "client",
            spanlink.export.endpoint = self.transport.endpoint(),
            spanlink.export.spans = batch.spans(),
            spanlink.export.code = Empty,
            otel.status_code = Empty,
            error.type = Empty,
        )
    }

    fn accept(&mut self, batch: &Batch, response: Response) {
        let Response::Accepted(acceptance) = response else { return };
        let Acceptance { rejected, message, foreign } = acceptance;
        let spans = u64::try_from(batch.spans()).unwrap_or(u64::MAX);
        let rejected = rejected.min(spans);
        self.metrics.spans_exported.inc_by(spans - rejected);
        self.record_response();
        self.was_refused = false;
        self.request_size.record_acceptance(batch.request.len());
        if rejected > 0 {
            self.metrics.drop_spans(SpanDrop::Rejected, rejected);
            let line = self.log.record_rejection(rejected, message);
            self.write(line);
        } else if let Some(message) = message {
            let line = self.log.record_warning(message);
            self.write(line);
        }
        if let Some(foreign) = foreign {
            self.metrics.export_foreign_responses.inc();
            let line = self.log.record_foreign(foreign);
            self.write(line);
        }
    }

    /// Removes the records of a batch from the queue. Every record that was not delivered passes here:
    /// those that the receiver has refused, and those that fit no request.
    fn acknowledge(&mut self, batch: &Batch, refused: Option<RefusalReason>) {
        let refused = refused.map(|reason| (batch.included.clone(), reason));
        let left_out = [
            (batch.oversized.clone(), RefusalReason::Oversized),
            (batch.undecodable.clone(), RefusalReason::Undecodable),
        ];
        let refusals: Vec<Refusal> = left_out
            .into_iter()
            .chain(refused)
            .filter(|(positions, _)| !positions.is_empty())
            .map(|(positions, reason)| Refusal { positions, reason })
            .collect();
        for refusal in &refusals {
            let spans = refusal.positions.len();
            let is_kept = self.queue.has_quarantine() && refusal.reason.is_retryable();
            if !is_kept {
                let reason = refusal.reason.metric();
                self.metrics.drop_spans(reason, u64::try_from(spans).unwrap_or(u64::MAX));
            }
            let line = self.log.record_refusal(spans, &refusal.reason, is_kept);
            self.write(line);
        }
        self.queue.acknowledge(batch.records, &refusals);
    }

    /// The receiver has responded, so it is healthy, even if it refuses the spans.
    fn record_response(&mut self) {
        self.backoff.reset();
        let line = self.log.record_recovery();
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
        let started = Instant::now();
        if !stop.is_requested() {
            tokio::select! {
                () = sleep(wait) => return true,
                () = stop.requested() => {}
            }
            // Retry at once: the collector may have recovered during the wait.
            if requested_delay.is_none() {
                return true;
            }
        }
        if requested_delay.is_none() {
            wait = wait.min(STOPPING_WAIT_MAX);
        }
        tokio::select! {
            () = sleep(wait.saturating_sub(started.elapsed())) => true,
            () = stop.over(self.log.failing_since()) => false,
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

    /// Waits for the signal, and then until the drain is over. `failing_since`: since when the receiver
    /// does not respond; `None` if it responds.
    async fn over(&mut self, failing_since: Option<Instant>) {
        self.requested().await;
        match self.end(failing_since) {
            Some(end) => sleep_until(end).await,
            None => std::future::pending().await,
        }
    }

    fn is_over(&self, failing_since: Option<Instant>) -> bool {
        self.end(failing_since).is_some_and(|end| Instant::now() >= end)
    }

    /// The end of the drain; `None` before the signal, or if the drain is unlimited.
    fn end(&self, failing_since: Option<Instant>) -> Option<Instant> {
        let (received, drain) = self.requested?;
        match failing_since {
            None => received.checked_add(drain.responding),
            Some(since) => since.max(received).checked_add(drain.unresponsive),
        }
    }
}
