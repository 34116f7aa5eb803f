//! Sends what waits, oldest first, and acknowledges what has been answered for good.

use std::{
    hash::{BuildHasher as _, Hasher as _},
    pin::Pin,
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{Span, field::Empty, info_span};

use super::{
    batch::{Batch, Limits},
    client::Transport,
    encode::Encoder,
    health::{Health, Line, Loss},
    retry::{Backoff, Code, Verdict},
};
use crate::metrics::{Metrics, SpanDrop};

/// Where records wait: whoever joins this edge with the outbox implements it.
pub trait Queue: Send {
    /// Waits until there is something to take.
    fn filled(&self) -> impl Future<Output = ()> + Send;
    /// The oldest records, which stay until they are acknowledged.
    fn take(&self, records_max: usize, bytes_max: usize) -> Vec<Bytes>;
    /// Forgets the `count` oldest records.
    fn acknowledge(&self, count: usize);
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How long to go on after the stop signal while records wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// While the collector answers.
    pub answering: Duration,
    /// While it does not: it may come back.
    pub silent: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self { answering: Duration::from_secs(5), silent: Duration::from_secs(20) }
    }
}

/// How long a batch may wait for company; well below the second in which a change is to be seen.
const FILL: Duration = Duration::from_millis(100);

/// Own waits between attempts while stopping: time is short then.
const STOPPING_WAIT_MAX: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Sender<Q, T> {
    queue: Q,
    transport: T,
    encoder: Encoder,
    limits: Limits,
    metrics: Metrics,
    backoff: Backoff,
    health: Health,
}

impl<Q: Queue, T: Transport> Sender<Q, T> {
    pub fn new(queue: Q, transport: T, encoder: Encoder, metrics: Metrics) -> Self {
        Self {
            queue,
            transport,
            encoder,
            limits: Limits::default(),
            metrics,
            backoff: Backoff::default(),
            health: Health::default(),
        }
    }

    /// Sends until `stop` says for how long still, then until nothing waits or that time is over.
    /// Returns how many records are left behind.
    pub async fn run(mut self, stop: impl Future<Output = Drain> + Send) -> usize {
        let mut stop = Stop { signal: Box::pin(stop), said: None };
        loop {
            tokio::select! {
                biased;
                () = self.queue.filled() => {}
                () = stop.requested() => {}
            }
            if self.queue.is_empty() {
                return 0;
            }
            if self.queue.len() < self.limits.spans_max {
                tokio::select! {
                    () = sleep(FILL) => {}
                    () = stop.requested() => {}
                }
            }
            if stop.is_over(self.health.answers()) {
                return self.queue.len();
            }
            let records = self.queue.take(self.limits.spans_max, self.limits.bytes_max);
            let batch = Batch::cut(&records, &self.encoder, self.limits);
            drop(records);
            if batch.oversized > 0 {
                self.count_dropped(batch.oversized, SpanDrop::Oversized);
                let line = self.health.lose(batch.oversized, Loss::Oversized);
                self.log(line);
            }
            if batch.spans > 0 && !self.send(&batch, &mut stop).await {
                return self.queue.len();
            }
            self.queue.acknowledge(batch.records);
        }
    }

    /// Until there is a final verdict (true), or no time (false).
    async fn send(&mut self, batch: &Batch, stop: &mut Stop<'_>) -> bool {
        loop {
            let span = self.span(batch);
            let begun = Instant::now();
            let answer = tokio::select! {
                answer = self.transport.send(batch.request.clone()) => answer,
                () = stop.over(self.health.answers()) => return false,
            };
            self.metrics.observe_export(begun.elapsed());
            let verdict = answer.verdict();
            span.record("spanlink.export.code", tracing::field::display(answer.code()));
            if !matches!(verdict, Verdict::Accepted | Verdict::PartlyAccepted { .. }) {
                let code = answer.code().to_string();
                span.record("otel.status_code", "ERROR").record("error.type", &*code);
                self.metrics.export_failures.with_label_values(&[&code]).inc();
            }
            drop(span);
            match verdict {
                Verdict::Accepted => self.accept(batch, 0),
                Verdict::PartlyAccepted { rejected } => self.accept(batch, rejected),
                Verdict::Refused { code } => self.refuse(batch, code),
                Verdict::Retry { after } => {
                    let line = self.health.fail(&answer);
                    self.log(line);
                    if !self.wait(after, stop).await {
                        return false;
                    }
                    continue;
                }
            }
            return true;
        }
    }

    /// A request, as the daemon's own traces tell it: they go another way than what it sends.
    fn span(&self, batch: &Batch) -> Span {
        info_span!(
            "export",
            otel.kind = "client",
            spanlink.export.endpoint = self.transport.peer(),
            spanlink.export.spans = batch.spans,
            spanlink.export.bytes = batch.request.len(),
            spanlink.export.code = Empty,
            otel.status_code = Empty,
            error.type = Empty,
        )
    }

    fn accept(&mut self, batch: &Batch, rejected: u64) {
        let spans = u64::try_from(batch.spans).unwrap_or(u64::MAX);
        let rejected = rejected.min(spans);
        self.metrics.spans_exported.inc_by(spans - rejected);
        self.metrics.drop_spans(SpanDrop::Rejected, rejected);
        self.backoff.reset();
        let line = self.health.recover();
        self.log(line);
        if rejected > 0 {
            let lost = usize::try_from(rejected).unwrap_or(usize::MAX);
            let line = self.health.lose(lost, Loss::Rejected);
            self.log(line);
        }
    }

    /// It answers, so it is well; it does not want these spans, nor will it later.
    fn refuse(&mut self, batch: &Batch, code: Code) {
        self.count_dropped(batch.spans, SpanDrop::Refused);
        self.backoff.reset();
        let line = self.health.recover();
        self.log(line);
        let line = self.health.lose(batch.spans, Loss::Refused(code));
        self.log(line);
    }

    fn log(&self, line: Option<Line>) {
        if let Some(line) = line {
            line.log(self.transport.peer());
        }
    }

    fn count_dropped(&self, spans: usize, reason: SpanDrop) {
        self.metrics.drop_spans(reason, u64::try_from(spans).unwrap_or(u64::MAX));
    }

    /// Before the next attempt; false when there is no time for one.
    async fn wait(&mut self, asked: Option<Duration>, stop: &mut Stop<'_>) -> bool {
        let mut wait = self.backoff.next(asked, chance());
        if stop.said.is_some() && asked.is_none() {
            wait = wait.min(STOPPING_WAIT_MAX);
        }
        if stop.said.is_some() {
            return tokio::select! {
                () = sleep(wait) => true,
                () = stop.over(false) => false,
            };
        }
        tokio::select! {
            () = sleep(wait) => {}
            // One more attempt at once: the collector may have come back meanwhile.
            () = stop.requested() => {}
        }
        true
    }
}

/// The stop signal, and when it came.
struct Stop<'a> {
    signal: Pin<Box<dyn Future<Output = Drain> + Send + 'a>>,
    said: Option<(Instant, Drain)>,
}

impl Stop<'_> {
    /// Waits for the signal; returns at once when it has come.
    async fn requested(&mut self) {
        if self.said.is_none() {
            let drain = self.signal.as_mut().await;
            self.said = Some((Instant::now(), drain));
        }
    }

    /// Waits for the signal and then until there is no time left.
    async fn over(&mut self, answering: bool) {
        self.requested().await;
        if let Some(end) = self.end(answering) {
            sleep_until(end).await;
        }
    }

    fn is_over(&self, answering: bool) -> bool {
        self.end(answering).is_some_and(|end| Instant::now() >= end)
    }

    fn end(&self, answering: bool) -> Option<Instant> {
        let (since, drain) = self.said?;
        Some(since + if answering { drain.answering } else { drain.silent })
    }
}

/// From 0 to 1: hashers of the standard library are seeded by the system.
fn chance() -> f64 {
    let drawn = std::hash::RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(drawn >> 32).unwrap_or(0)) / f64::from(u32::MAX)
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
        retry::Answer,
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

    /// Answers as scripted, then accepts.
    #[derive(Clone, Default)]
    struct Script {
        answers: Arc<Mutex<VecDeque<Answer>>>,
        otherwise_silent: bool,
        requests: Arc<Mutex<Vec<(Duration, Bytes)>>>,
        begun: Option<Instant>,
    }

    impl Transport for Script {
        async fn send(&mut self, request: Bytes) -> Answer {
            let begun = *self.begun.get_or_insert_with(Instant::now);
            self.requests.lock().unwrap().push((begun.elapsed(), request));
            let answer = self.answers.lock().unwrap().pop_front();
            match answer {
                Some(answer) => answer,
                None if self.otherwise_silent => unavailable(),
                None => Answer::Accepted { rejected: 0 },
            }
        }

        fn peer(&self) -> &'static str {
            "http://localhost:4317"
        }
    }

    fn unavailable() -> Answer {
        Answer::Grpc { code: tonic::Code::Unavailable, retry_info: None }
    }

    fn script(answers: impl IntoIterator<Item = Answer>) -> Script {
        Script { answers: Arc::new(Mutex::new(answers.into_iter().collect())), ..Script::default() }
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
    async fn what_may_be_retried_is_sent_again_unchanged_for_as_long_as_it_takes() {
        let run = run(script((0..40).map(|_| unavailable())));
        run.records.push(&["a", "b"]);
        run.until_empty().await;
        let requests = run.requests.lock().unwrap();
        assert_eq!(requests.len(), 41);
        assert!(requests.iter().all(|(_, request)| *request == requests[0].1));
        assert!(requests[40].0 > Duration::from_mins(10));
        let waits = requests.windows(2).map(|pair| pair[1].0.saturating_sub(pair[0].0));
        assert!(waits.max().unwrap() <= Backoff::MAX + Duration::from_millis(2));
        assert_eq!(run.metrics.spans_exported.get(), 2);
        let failures = &run.metrics.export_failures;
        assert_eq!(failures.with_label_values(&["UNAVAILABLE"]).get(), 40);
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_names_a_time_is_left_alone_until_then() {
        let wait = Duration::from_mins(2);
        let run = run(script([Answer::Http { status: 429, retry_after: Some(wait) }]));
        run.records.push(&["a"]);
        run.until_empty().await;
        let at = run.requests.lock().unwrap()[1].0;
        assert!(at >= wait && at <= wait.mul_f64(1.11), "{at:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn refused_and_rejected_spans_are_counted_and_never_sent_again() {
        let run = run(script([
            Answer::Http { status: 400, retry_after: None },
            Answer::Accepted { rejected: 1 },
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
    async fn a_span_waits_for_company_but_a_tenth_of_a_second() {
        let run = run(script([]));
        let begun = Instant::now();
        run.records.push(&["a"]);
        run.until_empty().await;
        assert!(begun.elapsed() <= Duration::from_millis(120), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_sends_what_waits() {
        let run = run(script([]));
        run.records.push(&["a", "b"]);
        run.stop.send(Drain::default()).unwrap();
        assert_eq!(run.task.await.unwrap(), 0);
        assert_eq!(run.metrics.spans_exported.get(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_with_nothing_waiting_is_immediate() {
        let run = run(script([]));
        let begun = Instant::now();
        run.stop.send(Drain::default()).unwrap();
        assert_eq!(run.task.await.unwrap(), 0);
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_without_a_collector_ends_and_tells_what_is_left() {
        let run = run(Script { otherwise_silent: true, ..Script::default() });
        run.records.push(&["a", "b"]);
        sleep(Duration::from_mins(30)).await;
        let before = run.requests.lock().unwrap().len();
        let begun = Instant::now();
        run.stop.send(Drain::default()).unwrap();
        assert_eq!(run.task.await.unwrap(), 2);
        assert!(begun.elapsed() <= Duration::from_secs(21), "{:?}", begun.elapsed());
        // It tried at once, and then again and again.
        assert!(run.requests.lock().unwrap().len() > before + 10);
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_with_a_mute_collector_ends_in_time() {
        struct Mute;
        impl Transport for Mute {
            async fn send(&mut self, _: Bytes) -> Answer {
                std::future::pending().await
            }
            fn peer(&self) -> &'static str {
                "http://localhost:4317"
            }
        }
        let records = Records::default();
        records.push(&["a"]);
        let sender = Sender::new(records, Mute, encoder(), Metrics::new().unwrap());
        let begun = Instant::now();
        let left = sender.run(async { Drain::default() }).await;
        assert_eq!(left, 1);
        assert!(begun.elapsed() <= Duration::from_secs(6), "{:?}", begun.elapsed());
    }
}
