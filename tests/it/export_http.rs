//! OTLP over HTTP against a scripted receiver.

use std::time::Duration;

use expect_test::expect;
use spanlink::{
    config::settings::{Compression, Protocol},
    export::{
        response::{Acceptance, Response},
        retry_after::RetryAfter,
        sender::Drain,
    },
};

use crate::{
    export_support::{Export, http, missing_reason, names, send_once, settings},
    scripted_receiver::{Receiver, Reply},
};

#[tokio::test]
async fn spans_of_all_services_arrive_in_one_request() {
    let receiver = Receiver::http([], None).await;
    let export = Export::start(&http(&receiver));
    export.push("deployment-controller", &["update Deployment"]).await;
    export.push("pod-lifecycle", &["create Pod"]).await;
    let requests = receiver.requests(1).await;
    assert_eq!(
        names(&requests[0]),
        ["deployment-controller: update Deployment", "pod-lifecycle: create Pod"]
    );
    assert_eq!(requests[0].headers["content-type"], "application/x-protobuf");
    assert_eq!(export.stop(Drain::default()).await, 0);
}

#[tokio::test]
async fn every_status_is_returned_with_and_without_retry_after() {
    const STATUSES: [u16; 17] =
        [301, 307, 400, 401, 403, 404, 408, 409, 413, 415, 429, 500, 501, 502, 503, 504, 599];
    let script = STATUSES
        .into_iter()
        .flat_map(|status| [Reply::Http(status, None), Reply::Http(status, Some("7"))]);
    let receiver = Receiver::http(script, None).await;
    let settings = http(&receiver);
    for status in STATUSES {
        assert_eq!(send_once(&settings).await, Response::http(status, None));
        let retry_after = RetryAfter::Delay(Duration::from_secs(7));
        assert_eq!(send_once(&settings).await, Response::http(status, Some(retry_after)));
    }
}

#[tokio::test]
async fn date_in_retry_after_is_compared_with_the_date_of_the_response() {
    let script =
        [Reply::Http(503, Some("Sun, 06 Nov 1994 08:49:37 GMT")), Reply::Http(503, Some("?"))];
    let receiver = Receiver::http(script, None).await;
    let settings = http(&receiver);
    let past = RetryAfter::Delay(Duration::ZERO);
    assert_eq!(send_once(&settings).await, Response::http(503, Some(past)));
    assert_eq!(send_once(&settings).await, Response::http(503, None));
}

#[tokio::test]
async fn retryable_request_is_sent_again_unchanged_and_acknowledged_once_accepted() {
    let receiver =
        Receiver::http([Reply::Http(503, None), Reply::Http(429, Some("0"))], None).await;
    let export = Export::start(&http(&receiver));
    export.push("s", &["a", "b"]).await;
    let requests = receiver.requests(3).await;
    assert_eq!(requests[0].request, requests[2].request);
    let metrics = export.metrics.clone();
    assert_eq!(export.stop(Drain::default()).await, 0);
    assert_eq!(metrics.spans_exported.get(), 2);
    assert_eq!(metrics.export_failures.with_label_values(&["503"]).get(), 1);
}

#[tokio::test]
async fn partial_success_returns_the_number_of_rejected_spans() {
    let receiver = Receiver::http([Reply::Reject(3)], None).await;
    let message = Some("over quota: secret".into());
    let acceptance = Acceptance { rejected: 3, message, foreign: None };
    assert_eq!(send_once(&http(&receiver)).await, Response::Accepted(acceptance));
}

#[tokio::test]
async fn cut_connection_is_reestablished() {
    let receiver = Receiver::http([], None).await;
    receiver.cut_connections(2);
    let export = Export::start(&http(&receiver));
    export.push("s", &["a"]).await;
    assert_eq!(names(&receiver.requests(1).await[0]), ["s: a"]);
    assert_eq!(receiver.cuts_left(), 0);
    assert_eq!(export.stop(Drain::default()).await, 0);
}

#[tokio::test]
async fn headers_and_gzip_reach_the_receiver() {
    let receiver = Receiver::http([], None).await;
    let mut settings = http(&receiver);
    settings.headers.insert("X-Tenant".to_owned(), "t1".to_owned());
    settings.compression = Compression::Gzip;
    assert_eq!(send_once(&settings).await, Response::Accepted(Acceptance::default()));
    let requests = receiver.requests(1).await;
    assert_eq!(requests[0].headers["x-tenant"], "t1");
    assert_eq!(requests[0].headers["content-encoding"], "gzip");
    assert_eq!(names(&requests[0]), ["s: n"]);
}

#[tokio::test]
async fn request_without_a_response_is_abandoned_after_its_timeout() {
    let receiver = Receiver::http([Reply::None], None).await;
    let mut settings = http(&receiver);
    settings.timeout = Duration::from_millis(50);
    expect!["http://127.0.0.1:PORT did not respond within 50ms"]
        .assert_eq(&missing_reason(send_once(&settings).await, receiver.address));
}

#[tokio::test]
async fn missing_receiver_is_named_in_the_reason() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let settings = settings(Protocol::HttpProtobuf, format!("http://{address}/v1/traces"));
    expect!["no collector listens at http://127.0.0.1:PORT (connection refused): is it running, and is this its address?"].assert_eq(&missing_reason(send_once(&settings).await, address));
}

#[tokio::test]
async fn receiver_of_the_other_protocol_is_suggested_in_the_reason() {
    let receiver = Receiver::grpc([], None).await;
    let response = send_once(&http(&receiver)).await;
    let reason = missing_reason(response, receiver.address);
    assert!(reason.contains("does it require TLS (https://), or OTLP's other"), "{reason}");
}
