//! Generated answers: no panic, no hang, and every outcome is one of delivered, retried, refused.
//!
//! `SPANLINK_TEST_ANSWERS` sets their number, `SPANLINK_TEST_SEED` repeats a run.

use std::{env, sync::Arc, time::Duration};

use bytes::Bytes;
use spanlink::{
    config::settings::Protocol::{self, Grpc, HttpProtobuf},
    export::{
        client::{Client, Transport as _},
        response::Disposition,
    },
    trace::model::time::Timestamp,
};
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};

use crate::{
    export_support::settings,
    scripted_answers::{Answer, AnsweringReceiver, End, Headers},
};

const ANSWERS_DEFAULT: usize = 400;
/// Connections at the same time.
const CONCURRENT: usize = 16;
/// The time limit of a request. An answer that stalls takes this long.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest time after which there must be an outcome.
const OUTCOME_TIMEOUT: Duration = Duration::from_secs(20);

fn number(variable: &str, default: u64) -> u64 {
    env::var(variable).map_or(default, |value| value.parse().unwrap())
}

fn pick<'a, T>(random: &mut fastrand::Rng, from: &'a [T]) -> &'a T {
    &from[random.usize(..from.len())]
}

fn bytes(random: &mut fastrand::Rng, max: usize) -> Vec<u8> {
    (0..random.usize(..=max)).map(|_| random.u8(..)).collect()
}

/// Bytes that are allowed in the value of a header, many of them seldom seen.
fn header_value(random: &mut fastrand::Rng) -> Vec<u8> {
    let is_allowed = |byte: &u8| *byte >= 32 && *byte != 127;
    let mut value = bytes(random, 40);
    value.retain(is_allowed);
    value.trim_ascii().to_vec()
}

fn status_headers(random: &mut fastrand::Rng) -> Headers {
    let statuses = ["0", "0", "0", "14", "8", "3", "16", "13", "17", "-1", "", "00", "abc"];
    let mut headers = vec![("grpc-status", pick(random, &statuses).as_bytes().to_vec())];
    if random.bool() {
        let messages: [&[u8]; 5] = [b"ok", b"%", b"%zz", b"d\xe9bord\xe9", b"%E9%00%0A"];
        headers.push(("grpc-message", pick(random, &messages).to_vec()));
    }
    if random.bool() {
        let details: [&[u8]; 6] = [
            b"!!!",
            b"CAgSAXgaMAooZ29v",
            b"CAgaMgoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIGCgQIAhAA",
            b"====",
            b"\xff\xfe",
            b"",
        ];
        headers.push(("grpc-status-details-bin", pick(random, &details).to_vec()));
    }
    headers
}

fn head(random: &mut fastrand::Rng) -> Headers {
    let mut headers = Headers::new();
    let content_types = [
        "application/grpc",
        "application/grpc+proto",
        "application/x-protobuf",
        "text/html; charset=utf-8",
        "text/plain",
        "",
    ];
    if random.u8(..10) > 0 {
        headers.push(("content-type", pick(random, &content_types).as_bytes().to_vec()));
    }
    let delays = ["3", "-1", "1e9", "99999999999999999999", "Sun Nov  6 08:49:37 1994", "soon", ""];
    if random.u8(..4) == 0 {
        headers.push(("retry-after", pick(random, &delays).as_bytes().to_vec()));
    }
    if random.u8(..4) == 0 {
        headers.push(("date", pick(random, &delays).as_bytes().to_vec()));
    }
    if random.u8(..4) == 0 {
        headers.push(("grpc-encoding", pick(random, &["gzip", "br", ""]).as_bytes().to_vec()));
    }
    if random.u8(..4) == 0 {
        headers.push(("x-scripted", header_value(random)));
    }
    headers
}

fn body(random: &mut fastrand::Rng) -> Vec<u8> {
    match random.u8(..8) {
        0 => Vec::new(),
        1 => vec![0; 5],
        2 => b"<html>Sign in</html>".to_vec(),
        3 => b"\x0a\x0f\x12\x0duse v2 please".to_vec(),
        4 => [&[0, 0, 0, 0, 17][..], b"\x0a\x0f\x12\x0duse v2 please"].concat(),
        5 => [&[random.u8(..3), random.u8(..), 0, 0, 4][..], &bytes(random, 8)].concat(),
        6 => vec![b'x'; 100_000],
        _ => bytes(random, 100),
    }
}

fn generate(random: &mut fastrand::Rng, protocol: Protocol) -> Answer {
    let statuses = [200, 200, 200, 200, 204, 301, 400, 401, 404, 413, 429, 500, 502, 503, 504];
    let mut status = *pick(random, &statuses);
    if random.u8(..8) == 0 {
        status = random.u16(200..600);
    }
    let mut answer =
        Answer { status, headers: head(random), body: body(random), ..Answer::default() };
    if protocol == Grpc {
        match random.u8(..10) {
            0 => answer.headers.extend(status_headers(random)),
            1 => {}
            _ => answer.trailers = status_headers(random),
        }
    }
    answer.end = match random.u8(..40) {
        0 => End::Stall,
        1..5 => End::Reset,
        _ => End::Complete,
    };
    if random.u8(..5) == 0 {
        answer.cut = Some(random.usize(..400));
    }
    answer
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Delivered,
    Retried,
    Refused,
}

/// The outcome of a complete answer, by the documents and not by the code.
fn expected(protocol: Protocol, answer: &Answer) -> Option<Outcome> {
    use Outcome::{Delivered, Refused, Retried};
    let value = |headers: &Headers, name| {
        let found = headers.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    };
    if protocol == HttpProtobuf {
        return Some(match answer.status {
            200..300 => Delivered,
            429 | 502 | 503 | 504 => Retried,
            _ => Refused,
        });
    }
    let by_http = match answer.status {
        429 | 502 | 503 | 504 => Retried,
        _ => Refused,
    };
    let content_type = value(&answer.headers, "content-type");
    let is_grpc = content_type.is_none_or(|text| text.starts_with("application/grpc"));
    let in_trailers = is_grpc && answer.status == 200;
    let status = value(&answer.headers, "grpc-status")
        .or_else(|| value(&answer.trailers, "grpc-status").filter(|_| in_trailers));
    Some(match status.as_deref() {
        Some("0") if answer.status == 200 => Delivered,
        None | Some("0") => by_http,
        Some("14") => Retried,
        // It depends on the details.
        Some("8") => return None,
        Some(_) => Refused,
    })
}

/// Whether the message alone ends the call: its length is over the limit.
fn is_too_long(answer: &Answer) -> bool {
    let [flag, length @ ..] = answer.body.first_chunk::<5>().copied().unwrap_or([9; 5]);
    flag <= 1 && u32::from_be_bytes(length) > 4 << 20
}

async fn check(seed: u64, protocol: Protocol) -> Outcome {
    let mut random = fastrand::Rng::with_seed(seed);
    let answer = generate(&mut random, protocol);
    let scripted = answer.clone();
    let receiver = AnsweringReceiver::start(protocol, move |_, _| scripted.clone()).await;
    let endpoint = match protocol {
        Grpc => format!("http://{}", receiver.address),
        HttpProtobuf => format!("http://{}/v1/traces", receiver.address),
    };
    let mut settings = settings(protocol, endpoint);
    settings.timeout = REQUEST_TIMEOUT;
    let mut client = Client::new(&settings).unwrap();
    let context = format!("SPANLINK_TEST_SEED={seed} {protocol:?} {answer:?}");
    let sent = timeout(OUTCOME_TIMEOUT, client.send(Bytes::from_static(b"request"))).await;
    assert!(sent.is_ok(), "no outcome: {context}");
    let response = sent.unwrap();
    let outcome = match response.disposition(Timestamp::default()) {
        Disposition::Accepted => Outcome::Delivered,
        Disposition::Retry { .. } => Outcome::Retried,
        // Of a single span.
        Disposition::Split | Disposition::Refused => Outcome::Refused,
    };
    let expected = expected(protocol, &answer);
    let is_whole = answer.cut.is_none() && answer.end == End::Complete;
    if is_whole && !is_too_long(&answer) {
        assert!(expected.is_none_or(|expected| expected == outcome), "{outcome:?}: {context}");
    } else if protocol == HttpProtobuf && answer.cut.is_none() && answer.end == End::Stall {
        assert_eq!(expected, Some(outcome), "{context}");
    } else if !is_too_long(&answer) {
        // An interrupted answer may have arrived as far as it decides.
        let is_allowed = outcome == Outcome::Retried || expected.is_none_or(|e| e == outcome);
        assert!(is_allowed, "{outcome:?}: {context}");
    }
    outcome
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_generated_answer_has_an_outcome() {
    let answers = number("SPANLINK_TEST_ANSWERS", u64::try_from(ANSWERS_DEFAULT).unwrap());
    let first_seed = number("SPANLINK_TEST_SEED", fastrand::u64(..u64::MAX / 2));
    let places = Arc::new(Semaphore::new(CONCURRENT));
    let mut checks = JoinSet::new();
    for number in 0..answers {
        let places = Arc::clone(&places);
        let protocol = if number % 2 == 0 { Grpc } else { HttpProtobuf };
        checks.spawn(async move {
            let _place = places.acquire_owned().await.unwrap();
            check(first_seed + number, protocol).await
        });
    }
    let mut outcomes = [0; 3];
    while let Some(checked) = checks.join_next().await {
        outcomes[checked.unwrap() as usize] += 1;
    }
    let [delivered, retried, refused] = outcomes;
    println!("seed {first_seed}: {delivered} delivered, {retried} retried, {refused} refused");
    assert!(outcomes.iter().all(|count| *count > 0), "{outcomes:?}");
}
