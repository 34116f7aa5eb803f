//! OTLP over HTTP against a scripted receiver.

use std::time::Duration;

use expect_test::expect;
use spanlink::{
    config::settings::{Compression, Protocol},
    export::{retry::Answer, sender::Drain},
};

use crate::{
    export_support::{Export, http, names, send_once, settings, silence},
    scripted_receiver::{Receiver, Step},
};

#[tokio::test]
async fn spans_of_all_services_arrive_in_one_request() {
    let receiver = Receiver::http([], None).await;
    let export = Export::start(&http(&receiver));
    export.push("deployment-controller", &["update Deployment"]).await;
    export.push("pod-lifecycle", &["create Pod"]).await;
    let got = receiver.got(1).await;
    assert_eq!(
        names(&got[0]),
        ["deployment-controller: update Deployment", "pod-lifecycle: create Pod"]
    );
    assert_eq!(got[0].headers["content-type"], "application/x-protobuf");
    assert_eq!(export.stop(Drain::default()).await, 0);
}

#[tokio::test]
async fn every_status_is_told_with_and_without_retry_after() {
    const STATUSES: [u16; 17] =
        [301, 307, 400, 401, 403, 404, 408, 409, 413, 415, 429, 500, 501, 502, 503, 504, 599];
    let script = STATUSES
        .into_iter()
        .flat_map(|status| [Step::Http(status, None), Step::Http(status, Some("7"))]);
    let receiver = Receiver::http(script, None).await;
    let settings = http(&receiver);
    for status in STATUSES {
        assert_eq!(send_once(&settings).await, Answer::Http { status, retry_after: None });
        let retry_after = Some(Duration::from_secs(7));
        assert_eq!(send_once(&settings).await, Answer::Http { status, retry_after });
    }
}

#[tokio::test]
async fn a_date_to_retry_after_counts_from_the_receivers_own_clock() {
    let script =
        [Step::Http(503, Some("Sun, 06 Nov 1994 08:49:37 GMT")), Step::Http(503, Some("?"))];
    let receiver = Receiver::http(script, None).await;
    let settings = http(&receiver);
    let past = Some(Duration::ZERO);
    assert_eq!(send_once(&settings).await, Answer::Http { status: 503, retry_after: past });
    assert_eq!(send_once(&settings).await, Answer::Http { status: 503, retry_after: None });
}

#[tokio::test]
async fn what_is_refused_once_is_sent_again_unchanged_and_then_acknowledged() {
    let receiver = Receiver::http([Step::Http(503, None), Step::Http(429, Some("0"))], None).await;
    let export = Export::start(&http(&receiver));
    export.push("s", &["a", "b"]).await;
    let got = receiver.got(3).await;
    assert_eq!(got[0].request, got[2].request);
    let metrics = export.metrics.clone();
    assert_eq!(export.stop(Drain::default()).await, 0);
    assert_eq!(metrics.spans_exported.get(), 2);
    assert_eq!(metrics.export_failures.with_label_values(&["503"]).get(), 1);
}

#[tokio::test]
async fn a_partial_success_is_counted() {
    let receiver = Receiver::http([Step::Reject(3)], None).await;
    assert_eq!(send_once(&http(&receiver)).await, Answer::Accepted { rejected: 3 });
}

#[tokio::test]
async fn a_cut_connection_is_made_again() {
    let receiver = Receiver::http([], None).await;
    receiver.cut(2);
    let export = Export::start(&http(&receiver));
    export.push("s", &["a"]).await;
    assert_eq!(names(&receiver.got(1).await[0]), ["s: a"]);
    assert_eq!(receiver.cuts_left(), 0);
    assert_eq!(export.stop(Drain::default()).await, 0);
}

#[tokio::test]
async fn headers_and_gzip_reach_the_receiver() {
    let receiver = Receiver::http([], None).await;
    let mut settings = http(&receiver);
    settings.headers.insert("X-Tenant".to_owned(), "t1".to_owned());
    settings.compression = Compression::Gzip;
    assert_eq!(send_once(&settings).await, Answer::Accepted { rejected: 0 });
    let got = receiver.got(1).await;
    assert_eq!(got[0].headers["x-tenant"], "t1");
    assert_eq!(got[0].headers["content-encoding"], "gzip");
    assert_eq!(names(&got[0]), ["s: n"]);
}

#[tokio::test]
async fn a_receiver_that_is_mute_is_given_up_in_time() {
    let receiver = Receiver::http([Step::Mute], None).await;
    let mut settings = http(&receiver);
    settings.timeout = Duration::from_millis(50);
    expect!["http://127.0.0.1:PORT did not answer within 50ms"]
        .assert_eq(&silence(send_once(&settings).await, receiver.address));
}

#[tokio::test]
async fn nobody_listening_is_said_so() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let settings = settings(Protocol::HttpProtobuf, format!("http://{address}/v1/traces"));
    expect!["no collector answers at http://127.0.0.1:PORT (connection refused): is it running, and is this its address?"].assert_eq(&silence(send_once(&settings).await, address));
}

#[tokio::test]
async fn the_other_protocol_is_guessed() {
    let receiver = Receiver::grpc([], None).await;
    let answer = send_once(&http(&receiver)).await;
    let why = silence(answer, receiver.address);
    assert!(why.contains("does it want TLS (https://), or the other"), "{why}");
}
