//! OTLP over gRPC against a scripted receiver.

use std::time::Duration;

use expect_test::expect;
use spanlink::{
    config::settings::{Compression, Protocol},
    export::{client::Client, retry::Answer, sender::Drain},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::Code;

use crate::{
    export_support::{Export, grpc, names, send_once, settings, silence},
    scripted_receiver::{Receiver, Step},
};

#[tokio::test]
async fn spans_of_all_services_arrive_in_one_request() {
    let receiver = Receiver::grpc([], None).await;
    let export = Export::start(&grpc(&receiver));
    export.push("deployment-controller", &["update Deployment"]).await;
    export.push("pod-lifecycle", &["create Pod", "delete Pod"]).await;
    let got = receiver.got(1).await;
    expect![[r#"
        deployment-controller: update Deployment
        pod-lifecycle: create Pod
        pod-lifecycle: delete Pod"#]]
    .assert_eq(&names(&got[0]).join("\n"));
    let metrics = export.metrics.clone();
    assert_eq!(export.stop(Drain::default()).await, 0);
    assert_eq!(metrics.spans_exported.get(), 3);
}

#[tokio::test]
async fn every_code_is_told_with_and_without_retry_info() {
    let codes = || (1..=16).map(Code::from_i32);
    let wait = Some(Duration::from_millis(2_500));
    let script = codes().flat_map(|code| [Step::Grpc(code, None), Step::Grpc(code, wait)]);
    let receiver = Receiver::grpc(script, None).await;
    let settings = grpc(&receiver);
    for code in codes() {
        assert_eq!(send_once(&settings).await, Answer::Grpc { code, retry_info: None });
        assert_eq!(send_once(&settings).await, Answer::Grpc { code, retry_info: wait });
    }
}

#[tokio::test]
async fn what_is_refused_once_is_sent_again_unchanged_and_then_acknowledged() {
    let wait = Some(Duration::from_millis(1));
    let script = [Step::Grpc(Code::Unavailable, None), Step::Grpc(Code::ResourceExhausted, wait)];
    let receiver = Receiver::grpc(script, None).await;
    let export = Export::start(&grpc(&receiver));
    export.push("s", &["a", "b"]).await;
    let got = receiver.got(3).await;
    assert_eq!(got[0].request, got[1].request);
    assert_eq!(got[0].request, got[2].request);
    let metrics = export.metrics.clone();
    assert_eq!(export.stop(Drain::default()).await, 0);
    assert_eq!(metrics.spans_exported.get(), 2);
    assert_eq!(receiver.got(3).await.len(), 3);
}

#[tokio::test]
async fn a_final_refusal_makes_room_for_the_next_spans() {
    let receiver =
        Receiver::grpc([Step::Grpc(Code::InvalidArgument, None), Step::Reject(1)], None).await;
    let export = Export::start(&grpc(&receiver));
    export.push("s", &["a"]).await;
    receiver.got(1).await;
    export.push("s", &["b", "c"]).await;
    receiver.got(2).await;
    let metrics = export.metrics.clone();
    assert_eq!(export.stop(Drain::default()).await, 0);
    assert_eq!(metrics.spans_dropped.with_label_values(&["refused"]).get(), 1);
    assert_eq!(metrics.spans_dropped.with_label_values(&["rejected"]).get(), 1);
    assert_eq!(metrics.spans_exported.get(), 1);
}

#[tokio::test]
async fn a_cut_connection_is_made_again() {
    let receiver = Receiver::grpc([], None).await;
    receiver.cut(2);
    let export = Export::start(&grpc(&receiver));
    export.push("s", &["a"]).await;
    assert_eq!(names(&receiver.got(1).await[0]), ["s: a"]);
    assert_eq!(receiver.cuts_left(), 0);
    assert_eq!(export.stop(Drain::default()).await, 0);
}

#[tokio::test]
async fn headers_and_gzip_reach_the_receiver() {
    let receiver = Receiver::grpc([], None).await;
    let mut settings = grpc(&receiver);
    settings.headers.insert("X-Tenant".to_owned(), "t1".to_owned());
    settings.compression = Compression::Gzip;
    assert_eq!(send_once(&settings).await, Answer::Accepted { rejected: 0 });
    let got = receiver.got(1).await;
    assert_eq!(got[0].headers["x-tenant"], "t1");
    assert_eq!(got[0].headers["grpc-encoding"], "gzip");
    assert_eq!(names(&got[0]), ["s: n"]);
}

#[tokio::test]
async fn a_receiver_that_is_mute_is_given_up_in_time() {
    let receiver = Receiver::grpc([Step::Mute], None).await;
    let mut settings = grpc(&receiver);
    settings.timeout = Duration::from_millis(50);
    expect!["http://127.0.0.1:PORT did not answer within 50ms"]
        .assert_eq(&silence(send_once(&settings).await, receiver.address));
}

#[tokio::test]
async fn nobody_listening_is_said_so() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let settings = settings(Protocol::Grpc, format!("http://{address}"));
    expect!["no collector answers at http://127.0.0.1:PORT (connection refused): is it running, and is this its address?"].assert_eq(&silence(send_once(&settings).await, address));
}

#[tokio::test]
async fn the_other_protocol_is_guessed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        connection.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n400 Bad Request").await.unwrap();
        connection.read_to_end(&mut Vec::new()).await.ok();
    });
    let settings = settings(Protocol::Grpc, format!("http://{address}"));
    let why = silence(send_once(&settings).await, address);
    assert!(why.contains("does it want TLS (https://), or the other"), "{why}");
    server.abort();
}

#[tokio::test]
async fn stopping_without_a_collector_ends_and_tells_what_is_left() {
    let receiver = Receiver::grpc([], None).await;
    receiver.cut(usize::MAX);
    let export = Export::start(&grpc(&receiver));
    export.push("s", &["a", "b"]).await;
    let short = Duration::from_millis(300);
    assert_eq!(export.stop(Drain { answering: short, silent: short }).await, 2);
}

#[tokio::test]
async fn an_endpoint_that_is_none_is_refused_with_what_would_be_right() {
    let errors: Vec<String> = ["collector:4317", "grpc://collector", "http://", ""]
        .into_iter()
        .map(|endpoint| {
            Client::new(&settings(Protocol::Grpc, endpoint.to_owned())).unwrap_err().to_string()
        })
        .collect();
    expect![[r#"
        "collector:4317" is no endpoint: it has the form http://collector:4317
        "grpc://collector" is no endpoint: it has the form http://collector:4317
        "http://" is no endpoint: it has the form http://collector:4317
        "" is no endpoint: it has the form http://collector:4317"#]]
    .assert_eq(&errors.join("\n"));
}
