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

/// Sends what is in a queue, until it is stopped.
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

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        sync::{Arc, Mutex},
    };

    use tokio::sync::{Notify, oneshot};

    use super::*;
    use crate::export::{
        response::Response,
        samples::{encoder, span},
    };

    #[derive(Clone, Default)]
    struct Records(Arc<(Mutex<VecDeque<Bytes>>, Notify)>);

    impl Records {
        fn push(&self, names: &[&str]) {
            let records = names.iter().map(|name| encoder().record(&span("s", name)));
            self.0.0.lock().unwrap().extend(records);
            self.0.1.notify_one();
        }
    }

    impl Queue for Records {
        async fn filled(&self) {
            while self.is_empty() {
                self.0.1.notified().await;
            }
        }

        fn take(&self, records_max: usize, _: usize) -> Vec<Bytes> {
            self.0.0.lock().unwrap().iter().take(records_max).cloned().collect()
        }

        fn acknowledge(&self, count: usize) {
            self.0.0.lock().unwrap().drain(..count);
        }

        fn len(&self) -> usize {
            self.0.0.lock().unwrap().len()
        }
    }

    /// Responds as scripted, then accepts every request, or is unavailable.
    #[derive(Clone, Default)]
    struct Script {
        responses: Arc<Mutex<VecDeque<Response>>>,
        then_unavailable: bool,
        requests: Arc<Mutex<Vec<(Duration, Bytes)>>>,
        started: Option<Instant>,
    }

    impl Transport for Script {
        async fn send(&mut self, request: Bytes) -> Response {
            let started = *self.started.get_or_insert_with(Instant::now);
            self.requests.lock().unwrap().push((started.elapsed(), request));
            let response = self.responses.lock().unwrap().pop_front();
            match response {
                Some(response) => response,
                None if self.then_unavailable => unavailable(),
                None => Response::Accepted { rejected: 0 },
            }
        }

        fn endpoint(&self) -> &'static str {
            "http://localhost:4317"
        }
    }

    fn unavailable() -> Response {
        Response::Grpc { code: tonic::Code::Unavailable, retry_delay: None }
    }

    fn script(responses: impl IntoIterator<Item = Response>) -> Script {
        Script {
            responses: Arc::new(Mutex::new(responses.into_iter().collect())),
            ..Script::default()
        }
    }

    struct Run {
        records: Records,
        requests: Arc<Mutex<Vec<(Duration, Bytes)>>>,
        metrics: Metrics,
        stop: oneshot::Sender<Drain>,
        task: tokio::task::JoinHandle<usize>,
    }

    fn run(script: Script) -> Run {
        let (stop, stopped) = oneshot::channel();
        let (records, requests) = (Records::default(), Arc::clone(&script.requests));
        let metrics = Metrics::new().unwrap();
        let sender = Sender::new(records.clone(), script, encoder(), metrics.clone());
        let task = tokio::spawn(sender.run(async { stopped.await.unwrap() }));
        Run { records, requests, metrics, stop, task }
    }

    impl Run {
        async fn until_empty(&self) {
            while !self.records.is_empty() {
                sleep(Duration::from_millis(10)).await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn retryable_request_is_sent_unchanged_until_it_is_accepted() {
        let run = run(script((0..40).map(|_| unavailable())));
        run.records.push(&["a", "b"]);
        run.until_empty().await;
        let requests = run.requests.lock().unwrap();
        assert_eq!(requests.len(), 41);
        assert!(requests.iter().all(|(_, request)| *request == requests[0].1));
        assert!(requests[40].0 > Duration::from_mins(10));
        let waits = requests.windows(2).map(|pair| pair[1].0.saturating_sub(pair[0].0));
        assert!(waits.max().unwrap() <= RetryBackoff::MAX + Duration::from_millis(2));
        assert_eq!(run.metrics.spans_exported.get(), 2);
        let failures = &run.metrics.export_failures;
        assert_eq!(failures.with_label_values(&["UNAVAILABLE"]).get(), 40);
    }

    #[tokio::test(start_paused = true)]
    async fn request_is_not_retried_before_the_requested_time() {
        let wait = Duration::from_mins(2);
        let run = run(script([Response::Http { status: 429, retry_after: Some(wait) }]));
        run.records.push(&["a"]);
        run.until_empty().await;
        let elapsed = run.requests.lock().unwrap()[1].0;
        assert!(elapsed >= wait && elapsed <= wait.mul_f64(1.11), "{elapsed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn refused_and_rejected_spans_are_counted_and_not_sent_again() {
        let run = run(script([
            Response::Http { status: 400, retry_after: None },
            Response::Accepted { rejected: 1 },
        ]));
        run.records.push(&["a", "b"]);
        run.until_empty().await;
        run.records.push(&["c", "d", "e"]);
        run.until_empty().await;
        assert_eq!(run.requests.lock().unwrap().len(), 2);
        let metrics = &run.metrics;
        assert_eq!(metrics.spans_dropped.with_label_values(&["refused"]).get(), 2);
        assert_eq!(metrics.spans_dropped.with_label_values(&["rejected"]).get(), 1);
        assert_eq!(metrics.spans_exported.get(), 2);
        assert_eq!(metrics.export_failures.with_label_values(&["400"]).get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn span_is_sent_within_a_tenth_of_a_second() {
        let run = run(script([]));
        let started = Instant::now();
        run.records.push(&["a"]);
        run.until_empty().await;
        assert!(started.elapsed() <= Duration::from_millis(120), "{:?}", started.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn stop_sends_queued_records() {
        let run = run(script([]));
        run.records.push(&["a", "b"]);
        run.stop.send(Drain::default()).unwrap();
        assert_eq!(run.task.await.unwrap(), 0);
        assert_eq!(run.metrics.spans_exported.get(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn stop_with_an_empty_queue_is_immediate() {
        let run = run(script([]));
        let started = Instant::now();
        run.stop.send(Drain::default()).unwrap();
        assert_eq!(run.task.await.unwrap(), 0);
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn stop_without_a_collector_returns_the_number_of_remaining_records() {
        let run = run(Script { then_unavailable: true, ..Script::default() });
        run.records.push(&["a", "b"]);
        sleep(Duration::from_mins(30)).await;
        let before = run.requests.lock().unwrap().len();
        let started = Instant::now();
        run.stop.send(Drain::default()).unwrap();
        assert_eq!(run.task.await.unwrap(), 2);
        assert!(started.elapsed() <= Duration::from_secs(21), "{:?}", started.elapsed());
        // It retried at once, and then about every second.
        assert!(run.requests.lock().unwrap().len() > before + 10);
    }

    #[tokio::test(start_paused = true)]
    async fn stop_with_an_unresponsive_collector_ends_in_time() {
        struct Unresponsive;
        impl Transport for Unresponsive {
            async fn send(&mut self, _: Bytes) -> Response {
                std::future::pending().await
            }
            fn endpoint(&self) -> &'static str {
                "http://localhost:4317"
            }
        }
        let records = Records::default();
        records.push(&["a"]);
        let sender = Sender::new(records, Unresponsive, encoder(), Metrics::new().unwrap());
        let started = Instant::now();
        let remaining = sender.run(async { Drain::default() }).await;
        assert_eq!(remaining, 1);
        assert!(started.elapsed() <= Duration::from_secs(6), "{:?}", started.elapsed());
    }

    /// A queue whose file cannot be read: it has a record, and returns none.
    struct Unreadable {
        takes: Arc<Mutex<usize>>,
    }

    impl Queue for Unreadable {
        async fn filled(&self) {
            std::future::pending().await
        }

        fn take(&self, _: usize, _: usize) -> Vec<Bytes> {
            let mut takes = self.takes.lock().unwrap();
            *takes += 1;
            assert!(*takes < 10, "the sender polls a queue that it cannot read");
            Vec::new()
        }

        fn acknowledge(&self, _: usize) {}

        fn len(&self) -> usize {
            1
        }
    }

    #[tokio::test(start_paused = true)]
    async fn stop_with_an_unreadable_queue_waits_for_the_end_of_the_drain() {
        let takes = Arc::default();
        let queue = Unreadable { takes: Arc::clone(&takes) };
        let sender = Sender::new(queue, script([]), encoder(), Metrics::new().unwrap());
        let started = Instant::now();
        let drain = Drain::default();
        assert_eq!(sender.run(async move { drain }).await, 1);
        assert!(started.elapsed() <= drain.responding + Duration::from_millis(1));
        assert_eq!(*takes.lock().unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn undecodable_records_are_counted_and_acknowledged() {
        let run = run(script([]));
        run.records.0.0.lock().unwrap().push_back(Bytes::from_static(&[9, 0, 1]));
        run.records.push(&["a"]);
        run.until_empty().await;
        let dropped = &run.metrics.spans_dropped;
        assert_eq!(dropped.with_label_values(&["undecodable"]).get(), 1);
        assert_eq!(dropped.with_label_values(&["oversized"]).get(), 0);
        assert_eq!(run.metrics.spans_exported.get(), 1);
    }
}
