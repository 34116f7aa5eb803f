//! What becomes of spans after each kind of answer, on both protocols, in memory and on disk: nothing
//! is lost that was not refused for good.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use spanlink::{
    config::settings::Protocol::{self, Grpc, HttpProtobuf},
    metrics::Metrics,
    outbox::{Limits, Outbox},
};

use crate::{
    export_support::{Export, settings},
    scripted_answers::{Answer, AnsweringReceiver, End},
};

/// What has to become of the spans of the first request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The first answer accepts them: they are not sent again.
    Delivered,
    /// The same request is sent again.
    Retried,
    /// They are not sent again: in quarantine on disk, dropped and counted in memory.
    Refused,
    /// They are sent again in smaller requests.
    Split,
}

const SPANS: usize = 8;

fn kinds() -> Vec<(&'static str, Protocol, Answer, Fate)> {
    use Fate::{Delivered, Refused, Retried, Split};
    let status = |trailers: &[(&'static str, &str)]| Answer::grpc(trailers, b"");
    let html = |status| Answer::new(status, &[("content-type", "text/html")], b"<html>");
    let message_not_utf8 = Answer {
        trailers: vec![("grpc-status", b"14".to_vec()), ("grpc-message", b"d\xe9bord".to_vec())],
        ..status(&[])
    };
    let quota = "CAgaMwoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIHCgUQgMLXLw";
    let mut kinds = vec![
        ("accepted", Grpc, Answer::accept(Grpc), Delivered),
        ("without a message", Grpc, status(&[("grpc-status", "0")]), Delivered),
        ("UNAVAILABLE", Grpc, status(&[("grpc-status", "14")]), Retried),
        (
            "details that are not base64",
            Grpc,
            status(&[("grpc-status", "14"), ("grpc-status-details-bin", "!!!")]),
            Retried,
        ),
        ("message that is not UTF-8", Grpc, message_not_utf8, Retried),
        (
            "message that is badly encoded",
            Grpc,
            status(&[("grpc-status", "14"), ("grpc-message", "100%zz%")]),
            Retried,
        ),
        ("INVALID_ARGUMENT", Grpc, status(&[("grpc-status", "3")]), Refused),
        ("RESOURCE_EXHAUSTED", Grpc, status(&[("grpc-status", "8")]), Split),
        (
            "RESOURCE_EXHAUSTED with RetryInfo",
            Grpc,
            status(&[("grpc-status", "8"), ("grpc-status-details-bin", quota)]),
            Retried,
        ),
        (
            "message of 5 MiB",
            Grpc,
            Answer::grpc(&[], &[&[0, 0, 0x50, 0, 0][..], &[b'x'; 9000]].concat()),
            Refused,
        ),
        ("no trailers", Grpc, Answer::grpc(&[], &[0; 5]), Refused),
        ("stream reset", Grpc, Answer::accept(Grpc).with_end(End::Reset), Retried),
        ("page with 401", Grpc, html(401), Refused),
        ("page with 403", Grpc, html(403), Refused),
        ("page with 404", Grpc, html(404), Refused),
        ("page with 413", Grpc, html(413), Split),
        ("page with 200", Grpc, html(200), Refused),
        ("accepted", HttpProtobuf, Answer::accept(HttpProtobuf), Delivered),
        ("page with 200", HttpProtobuf, html(200), Delivered),
        ("body that stalls", HttpProtobuf, html(200).with_end(End::Stall), Delivered),
        ("body that is reset", HttpProtobuf, html(200).with_end(End::Reset), Delivered),
        ("400", HttpProtobuf, html(400), Refused),
        ("401", HttpProtobuf, html(401), Refused),
        ("413", HttpProtobuf, html(413), Split),
        (
            "partial success of 0",
            HttpProtobuf,
            Answer::new(
                200,
                &[("content-type", "application/x-protobuf")],
                b"\x0a\x0f\x12\x0duse v2 please",
            ),
            Delivered,
        ),
    ];
    for status in [429, 502, 503, 504] {
        kinds.push(("page of a proxy", Grpc, html(status), Retried));
        kinds.push(("page of a proxy", HttpProtobuf, html(status), Retried));
    }
    kinds
}

fn span_names(message: &Bytes) -> Vec<String> {
    let request = ExportTraceServiceRequest::decode(message.clone()).unwrap();
    let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).map(|span| span.name).collect()
}

async fn check(name: &str, protocol: Protocol, answer: Answer, fate: Fate, outbox: Outbox) {
    let receiver = AnsweringReceiver::start(protocol, move |number, _| match number {
        0 => answer.clone(),
        _ => Answer::accept(protocol),
    })
    .await;
    let endpoint = match protocol {
        Grpc => format!("http://{}", receiver.address),
        HttpProtobuf => format!("http://{}/v1/traces", receiver.address),
    };
    let names: Vec<String> = (0..SPANS).map(|number| format!("span {number}")).collect();
    let all = u64::try_from(SPANS).unwrap();
    let pushed: Vec<&str> = names.iter().map(String::as_str).collect();
    let is_on_disk = outbox.is_on_disk();
    let context = format!("{name}, {protocol:?}, on disk: {is_on_disk}");
    let export = Export::start_with(&settings(protocol, endpoint), outbox, Metrics::new().unwrap());
    export.push_all("s", &pushed).await;
    let settled = async {
        while receiver.received().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        export.until_empty().await;
    };
    let settled = tokio::time::timeout(Duration::from_secs(20), settled).await;
    assert!(settled.is_ok(), "{context}: {} requests", receiver.received().len());
    let requests = receiver.received();
    assert_eq!(span_names(&requests[0]), names, "{context}");
    let rest: Vec<String> = requests[1..].iter().flat_map(span_names).collect();
    let dropped = export.metrics.spans_dropped.with_label_values(&["refused"]).get();
    // On disk, spans that are refused are kept.
    let dropped = if is_on_disk {
        assert_eq!(dropped, 0, "{context}");
        u64::try_from(export.outbox.quarantined()).unwrap()
    } else {
        dropped
    };
    let exported = export.metrics.spans_exported.get();
    match fate {
        Fate::Delivered => {
            assert_eq!((requests.len(), exported, dropped), (1, all, 0), "{context}");
        }
        Fate::Refused => {
            assert_eq!((requests.len(), exported, dropped), (1, 0, all), "{context}");
        }
        Fate::Retried => {
            assert_eq!((requests.len(), exported, dropped), (2, all, 0), "{context}");
            assert_eq!(requests[0], requests[1], "{context}");
        }
        Fate::Split => {
            assert_eq!((exported, dropped), (all, 0), "{context}");
            assert_eq!(rest, names, "{context}: every span once, in order");
            assert!(requests[1..].iter().all(|request| request.len() < requests[0].len()));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_answer_loses_nothing_that_was_not_refused_for_good() {
    let directory = tempfile::tempdir().unwrap();
    let mut checks = tokio::task::JoinSet::new();
    for (number, (name, protocol, answer, fate)) in kinds().into_iter().enumerate() {
        let limits = Limits { quarantine_bytes_max: 1 << 20, ..Limits::records(usize::MAX) };
        let path = directory.path().join(number.to_string());
        let on_disk = Outbox::on_disk(&path, limits, Metrics::new().unwrap()).unwrap();
        let in_memory = Outbox::in_memory(Limits::records(100), Metrics::new().unwrap());
        for outbox in [in_memory, on_disk] {
            let answer = answer.clone();
            checks.spawn(async move { check(name, protocol, answer, fate, outbox).await });
        }
    }
    while let Some(checked) = checks.join_next().await {
        checked.unwrap();
    }
}

#[tokio::test]
async fn request_names_the_product_and_its_version() {
    for protocol in [Grpc, HttpProtobuf] {
        let receiver = match protocol {
            Grpc => crate::scripted_receiver::Receiver::grpc([], None).await,
            HttpProtobuf => crate::scripted_receiver::Receiver::http([], None).await,
        };
        let endpoint = format!("http://{}/v1/traces", receiver.address);
        let endpoint = if protocol == Grpc { endpoint.replace("/v1/traces", "") } else { endpoint };
        crate::export_support::send_once(&settings(protocol, endpoint)).await;
        let headers: BTreeMap<String, String> = receiver.requests(1).await[0].headers.clone();
        let product = format!("spanlink/{}", env!("CARGO_PKG_VERSION"));
        assert!(headers["user-agent"].starts_with(&product), "{headers:?}");
    }
}
