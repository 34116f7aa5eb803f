//! OTLP over gRPC against a scripted receiver.

use std::time::Duration;

use expect_test::expect;
use spanlink::{
    config::settings::{Compression, Protocol},
    export::{
        client::Client,
        response::{Acceptance, ErrorResponse, Response, ResponseCode},
        retry_after::RetryAfter,
        sender::Drain,
    },
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::Code;

use crate::{
    export_support::{Export, grpc, missing_reason, names, send_once, settings},
    scripted_receiver::{Receiver, Reply},
};

#[tokio::test]
async fn spans_of_all_services_arrive_in_one_request() {
    let receiver = Receiver::grpc([], None).await;
    let export = Export::start(&grpc(&receiver));
    export.push("deployment-controller", &["update Deployment"]).await;
    export.push("pod-lifecycle", &["create Pod", "delete Pod"]).await;
    let requests = receiver.requests(1).await;
    expect![[r#"
        deployment-controller: update Deployment
        pod-lifecycle: create Pod
        pod-lifecycle: delete Pod"#]]
    .assert_eq(&names(&requests[0]).join("\n"));
    let metrics = export.metrics.clone();
    assert_eq!(export.stop(Drain::default()).await, 0);
    assert_eq!(metrics.spans_exported.get(), 3);
}

#[tokio::test]
async fn every_status_code_is_returned_with_and_without_retry_info() {
    let codes = || (1..=16).map(Code::from_i32);
    let wait = Some(Duration::from_millis(2_500));
    let script = codes().flat_map(|code| [Reply::Grpc(code, None), Reply::Grpc(code, wait)]);
    let receiver = Receiver::grpc(script, None).await;
    let settings = grpc(&receiver);
    let retry_after = wait.map(RetryAfter::Delay);
    for code in codes() {
        for retry_after in [None, retry_after] {
            let error = ErrorResponse {
                code: ResponseCode::Grpc(code),
                http_status: None,
                retry_after,
                message: Some("secret".into()),
            };
            assert_eq!(send_once(&settings).await, Response::Error(error));
        }
    }
}

#[tokio::test]
async fn retryable_request_is_sent_again_unchanged_and_acknowledged_once_accepted() {
    let wait = Some(Duration::from_millis(1));
    let script = [Reply::Grpc(Code::Unavailable, None), Reply::Grpc(Code::ResourceExhausted, wait)];
    let receiver = Receiver::grpc(script, None).await;
    let export = Export::start(&grpc(&receiver));
    export.push("s", &["a", "b"]).await;
    let requests = receiver.requests(3).await;
    assert_eq!(requests[0].request, requests[1].request);
    assert_eq!(requests[0].request, requests[2].request);
    let metrics = export.metrics.clone();
    assert_eq!(export.stop(Drain::default()).await, 0);
    assert_eq!(metrics.spans_exported.get(), 2);
    assert_eq!(receiver.requests(3).await.len(), 3);
}

#[tokio::test]
async fn refused_request_is_followed_by_the_next_spans() {
    let receiver =
        Receiver::grpc([Reply::Grpc(Code::InvalidArgument, None), Reply::Reject(1)], None).await;
    let export = Export::start(&grpc(&receiver));
    export.push("s", &["a"]).await;
    receiver.requests(1).await;
    export.push("s", &["b", "c"]).await;
    receiver.requests(2).await;
    let metrics = export.metrics.clone();
    assert_eq!(export.stop(Drain::default()).await, 0);
    assert_eq!(metrics.spans_dropped.with_label_values(&["refused"]).get(), 1);
    assert_eq!(metrics.spans_dropped.with_label_values(&["rejected"]).get(), 1);
    assert_eq!(metrics.spans_exported.get(), 1);
}

#[tokio::test]
async fn cut_connection_is_reestablished() {
    let receiver = Receiver::grpc([], None).await;
    receiver.cut_connections(2);
    let export = Export::start(&grpc(&receiver));
    export.push("s", &["a"]).await;
    assert_eq!(names(&receiver.requests(1).await[0]), ["s: a"]);
    assert_eq!(receiver.cuts_left(), 0);
    assert_eq!(export.stop(Drain::default()).await, 0);
}

#[tokio::test]
async fn headers_and_gzip_reach_the_receiver() {
    let receiver = Receiver::grpc([], None).await;
    let mut settings = grpc(&receiver);
    settings.headers.insert("X-Tenant".to_owned(), "t1".to_owned());
    settings.compression = Compression::Gzip;
    assert_eq!(send_once(&settings).await, Response::Accepted(Acceptance::default()));
    let requests = receiver.requests(1).await;
    assert_eq!(requests[0].headers["x-tenant"], "t1");
    assert_eq!(requests[0].headers["grpc-encoding"], "gzip");
    assert_eq!(names(&requests[0]), ["s: n"]);
}

#[tokio::test]
async fn request_without_a_response_is_abandoned_after_its_timeout() {
    let receiver = Receiver::grpc([Reply::None], None).await;
    let mut settings = grpc(&receiver);
    settings.timeout = Duration::from_millis(50);
    expect!["http://127.0.0.1:PORT did not respond within 50ms"]
        .assert_eq(&missing_reason(send_once(&settings).await, receiver.address));
}

#[tokio::test]
async fn missing_receiver_is_named_in_the_reason() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let settings = settings(Protocol::Grpc, format!("http://{address}"));
    expect!["no collector listens at http://127.0.0.1:PORT (connection refused): is it running, and is this its address?"].assert_eq(&missing_reason(send_once(&settings).await, address));
}

#[tokio::test]
async fn receiver_of_the_other_protocol_is_suggested_in_the_reason() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        connection.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n400 Bad Request").await.unwrap();
        connection.read_to_end(&mut Vec::new()).await.ok();
    });
    let settings = settings(Protocol::Grpc, format!("http://{address}"));
    let reason = missing_reason(send_once(&settings).await, address);
    assert!(reason.contains("does it require TLS (https://), or OTLP's other"), "{reason}");
    server.abort();
}

#[tokio::test]
async fn stop_without_a_collector_returns_the_number_of_remaining_records() {
    let receiver = Receiver::grpc([], None).await;
    receiver.cut_connections(usize::MAX);
    let export = Export::start(&grpc(&receiver));
    export.push("s", &["a", "b"]).await;
    let short = Duration::from_millis(300);
    assert_eq!(export.stop(Drain { responding: short, unresponsive: short }).await, 2);
}

#[tokio::test]
async fn invalid_endpoint_is_rejected_with_an_example_of_a_valid_one() {
    let errors: Vec<String> = ["collector:4317", "grpc://collector", "http://", ""]
        .into_iter()
        .map(|endpoint| {
            Client::new(&settings(Protocol::Grpc, endpoint.to_owned())).unwrap_err().to_string()
        })
        .collect();
    expect![[r#"
        invalid endpoint "collector:4317" (option otlp.endpoint): write it as http://collector:4317
        invalid endpoint "grpc://collector" (option otlp.endpoint): write it as http://collector:4317
        invalid endpoint "http://" (option otlp.endpoint): write it as http://collector:4317
        invalid endpoint "" (option otlp.endpoint): write it as http://collector:4317"#]]
    .assert_eq(&errors.join("\n"));
}
