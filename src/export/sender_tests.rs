//! When the sender sends, retries, drops and stops, with paused time.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use proptest::prelude::*;
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep},
};

use super::{
    backoff::RetryBackoff,
    batch::Limits,
    client::Transport,
    refusal::{Refusal, RefusalReason},
    response::{Acceptance, Disposition, Response, ResponseCode},
    retry_after::RetryAfter,
    samples::{START, any_response, encoder, grpc_behind_http, span, span_names},
    sender::{Drain, Queue, Sender},
};
use crate::metrics::Metrics;

fn sender<Q: Queue, T: Transport>(queue: Q, transport: T, metrics: Metrics) -> Sender<Q, T> {
    Sender::new(queue, transport, encoder(), Limits::bytes(REQUEST_MAX), metrics, || START)
}

const REQUEST_MAX: usize = 1 << 20;

#[derive(Clone, Default)]
struct Records(Arc<(Mutex<VecDeque<Bytes>>, Notify)>, Arc<Mutex<Vec<Refusal>>>);

impl Records {
    /// The records that will never be delivered, in the order in which they were acknowledged.
    fn refusals(&self) -> Vec<Refusal> {
        self.1.lock().unwrap().clone()
    }

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

    fn acknowledge(&self, count: usize, refusals: &[Refusal]) {
        self.1.lock().unwrap().extend_from_slice(refusals);
        self.0.0.lock().unwrap().drain(..count);
    }

    fn has_quarantine(&self) -> bool {
        false
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
            None => Response::Accepted(Acceptance::default()),
        }
    }

    fn endpoint(&self) -> &'static str {
        "http://localhost:4317"
    }
}

fn unavailable() -> Response {
    Response::grpc(tonic::Code::Unavailable, None)
}

fn script(responses: impl IntoIterator<Item = Response>) -> Script {
    Script { responses: Arc::new(Mutex::new(responses.into_iter().collect())), ..Script::default() }
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
    let sender = sender(records.clone(), script, metrics.clone());
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
    let run = run(script([Response::http(429, Some(RetryAfter::Delay(wait)))]));
    run.records.push(&["a"]);
    run.until_empty().await;
    let elapsed = run.requests.lock().unwrap()[1].0;
    assert!(elapsed >= wait && elapsed <= wait.mul_f64(1.11), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn refused_and_rejected_spans_are_counted_and_not_sent_again() {
    let run = run(script([
        Response::http(400, None),
        Response::Accepted(Acceptance { rejected: 1, ..Acceptance::default() }),
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
    let sender = sender(records, Unresponsive, Metrics::new().unwrap());
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
        std::future::pending::<()>().await;
    }

    fn take(&self, _: usize, _: usize) -> Vec<Bytes> {
        let mut takes = self.takes.lock().unwrap();
        *takes += 1;
        assert!(*takes < 10, "the sender polls a queue that it cannot read");
        Vec::new()
    }

    fn acknowledge(&self, _: usize, _: &[Refusal]) {}

    fn has_quarantine(&self) -> bool {
        false
    }

    fn len(&self) -> usize {
        1
    }
}

#[tokio::test(start_paused = true)]
async fn stop_with_an_unreadable_queue_waits_for_the_end_of_the_drain() {
    let takes = Arc::default();
    let queue = Unreadable { takes: Arc::clone(&takes) };
    let sender = sender(queue, script([]), Metrics::new().unwrap());
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

#[tokio::test(start_paused = true)]
async fn refused_records_are_acknowledged_with_their_reason() {
    let error = |response| match response {
        Response::Error(mut error) => {
            error.message = Some("no such tenant".into());
            Response::Error(error)
        }
        other => other,
    };
    let run = run(script([error(Response::grpc(tonic::Code::InvalidArgument, None))]));
    run.records.push(&["a"]);
    run.records.0.0.lock().unwrap().push_back(Bytes::from_static(&[9, 0, 1]));
    run.records.push(&[&"x".repeat(REQUEST_MAX), "b"]);
    run.until_empty().await;
    let refusal = RefusalReason::Response {
        code: ResponseCode::Grpc(tonic::Code::InvalidArgument),
        http_status: None,
        message: Some("no such tenant".into()),
    };
    assert_eq!(refusal.to_string(), "INVALID_ARGUMENT: no such tenant");
    let expected = [
        Refusal { positions: vec![2], reason: RefusalReason::Oversized },
        Refusal { positions: vec![1], reason: RefusalReason::Undecodable },
        Refusal { positions: vec![0, 3], reason: refusal },
    ];
    assert_eq!(run.records.refusals(), expected);
}

#[tokio::test(start_paused = true)]
async fn refused_requests_are_followed_by_a_rest() {
    let run = run(script((0..20).map(|_| Response::http(400, None))));
    for _ in 0..20 {
        run.records.push(&["a"]);
        run.until_empty().await;
    }
    let started = run.requests.lock().unwrap().clone();
    let rests = started.windows(2).map(|pair| pair[1].0.saturating_sub(pair[0].0));
    assert!(rests.min().unwrap() >= Duration::from_millis(100));
}

/// Refuses requests larger than a limit, as a proxy does.
#[derive(Clone)]
struct Limited {
    bytes_max: usize,
    response: Response,
    requests: Arc<Mutex<Vec<(usize, bool)>>>,
    accepted: Arc<Mutex<Vec<String>>>,
}

impl Limited {
    fn new(bytes_max: usize, response: Response) -> Self {
        Self { bytes_max, response, requests: Arc::default(), accepted: Arc::default() }
    }
}

impl Transport for Limited {
    async fn send(&mut self, request: Bytes) -> Response {
        let is_accepted = request.len() <= self.bytes_max;
        self.requests.lock().unwrap().push((request.len(), is_accepted));
        if !is_accepted {
            return self.response.clone();
        }
        self.accepted.lock().unwrap().extend(span_names(&request));
        Response::Accepted(Acceptance::default())
    }

    fn endpoint(&self) -> &'static str {
        "http://localhost:4317"
    }
}

#[tokio::test(start_paused = true)]
async fn too_large_request_is_halved_until_it_is_accepted() {
    for response in [
        Response::http(413, None),
        Response::grpc(tonic::Code::ResourceExhausted, None),
        grpc_behind_http(413),
    ] {
        let limited = Limited::new(20_000, response);
        let records = Records::default();
        let names: Vec<String> = (0..1_000).map(|number| format!("span {number}")).collect();
        records.push(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let metrics = Metrics::new().unwrap();
        let sender = sender(records.clone(), limited.clone(), metrics.clone());
        assert_eq!(sender.run(async { Drain::default() }).await, 0);
        assert_eq!(*limited.accepted.lock().unwrap(), names, "every span once, in order");
        assert_eq!(records.refusals(), []);
        assert_eq!(metrics.spans_exported.get(), 1_000);
        let requests = limited.requests.lock().unwrap();
        let refused = requests.iter().filter(|(_, is_accepted)| !is_accepted).count();
        assert!(refused <= 5, "{refused} of {} requests were refused", requests.len());
    }
}

#[tokio::test(start_paused = true)]
async fn single_span_that_is_too_large_is_refused_and_the_others_are_delivered() {
    let limited = Limited::new(2_000, Response::http(413, None));
    let records = Records::default();
    let large = "x".repeat(2_000);
    records.push(&["a", "b", &large, "c"]);
    let metrics = Metrics::new().unwrap();
    let sender = sender(records.clone(), limited.clone(), metrics.clone());
    assert_eq!(sender.run(async { Drain::default() }).await, 0);
    assert_eq!(*limited.accepted.lock().unwrap(), ["a", "b", "c"]);
    let refusals = records.refusals();
    assert_eq!(refusals.len(), 1);
    assert_eq!(refusals[0].positions.len(), 1);
    assert_eq!(refusals[0].reason.to_string(), "413");
    assert_eq!(metrics.spans_dropped.with_label_values(&["refused"]).get(), 1);
}

#[tokio::test(start_paused = true)]
async fn drain_without_a_limit_waits_for_a_slow_receiver() {
    struct Slow;
    impl Transport for Slow {
        async fn send(&mut self, _: Bytes) -> Response {
            sleep(Duration::from_mins(5)).await;
            Response::Accepted(Acceptance::default())
        }
        fn endpoint(&self) -> &'static str {
            "http://localhost:4317"
        }
    }
    let records = Records::default();
    records.push(&["a"]);
    let sender = sender(records, Slow, Metrics::new().unwrap());
    let drain = Drain { responding: Duration::MAX, unresponsive: Duration::from_secs(20) };
    assert_eq!(sender.run(async move { drain }).await, 0);
}

#[tokio::test(start_paused = true)]
async fn stop_does_not_shorten_a_requested_delay() {
    let wait = Duration::from_secs(10);
    let run = run(script([Response::http(503, Some(RetryAfter::Delay(wait)))]));
    run.records.push(&["a"]);
    sleep(Duration::from_secs(1)).await;
    run.stop.send(Drain::default()).unwrap();
    assert_eq!(run.task.await.unwrap(), 0);
    assert!(run.requests.lock().unwrap()[1].0 >= wait);
}

proptest! {
    #[test]
    fn any_responses_deliver_or_refuse_each_span_once_and_with_rests(
        responses in prop::collection::vec(any_response(), 0..40),
        spans in 1_usize..40,
    ) {
        let names: Vec<String> = (0..spans).map(|number| format!("{number:02}")).collect();
        let records = Records::default();
        records.push(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let script = script(responses.clone());
        let requests = Arc::clone(&script.requests);
        let sender = sender(records.clone(), script, Metrics::new().unwrap());
        let drain = Drain { responding: Duration::MAX, unresponsive: Duration::MAX };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let remaining = runtime.block_on(sender.run(async move { drain }));
        prop_assert_eq!(remaining, 0);

        let requests = requests.lock().unwrap();
        let accepted = || Response::Accepted(Acceptance::default());
        let responses = responses.into_iter().chain(std::iter::repeat_with(accepted));
        let mut delivered = Vec::new();
        for (number, ((at, request), response)) in requests.iter().zip(responses).enumerate() {
            let spans = span_names(request);
            let rest = requests.get(number + 1).map(|(next, _)| next.saturating_sub(*at));
            let has_rested = rest.is_none_or(|rest| rest >= Duration::from_millis(99));
            match response.disposition(START) {
                Disposition::Accepted => delivered.extend(spans),
                Disposition::Split if spans.len() > 1 => {}
                Disposition::Split | Disposition::Refused => prop_assert!(has_rested),
                Disposition::Retry { .. } => {
                    prop_assert!(has_rested);
                    prop_assert_eq!(request, &requests[number + 1].1);
                }
            }
        }
        prop_assert!(delivered.is_sorted(), "{delivered:?}");
        let refused: usize =
            records.refusals().iter().map(|refusal| refusal.positions.len()).sum();
        delivered.dedup();
        prop_assert_eq!(delivered.len() + refused, spans);
    }
}
