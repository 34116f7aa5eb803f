//! `spanlink replay` as a process, with a collector.

use std::{
    collections::BTreeSet,
    process::{Command, Output, Stdio},
};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use tokio::task::spawn_blocking;

use crate::scripted_receiver::{Receiver, Reply};

const RECORDING: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios/undo-and-restart/history.jsonl");

async fn replay(to: &str, endpoint: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spanlink"));
    command.args(["replay", "--to", to, RECORDING]).stdin(Stdio::null());
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

fn span_ids(request: &ExportTraceServiceRequest) -> Vec<Vec<u8>> {
    let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
    scopes.flat_map(|scope| &scope.spans).map(|span| span.span_id.clone()).collect()
}

#[tokio::test]
async fn collector_receives_every_span_that_a_replay_prints() {
    let output = replay("json", "http://127.0.0.1:9").await;
    assert!(output.status.success(), "{output:?}");
    let printed: BTreeSet<Vec<u8>> = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .flat_map(|line| span_ids(&serde_json::from_slice(line).unwrap()))
        .collect();
    assert!(printed.len() > 50, "{}", printed.len());

    // The collector is busy at first; the replay continues meanwhile.
    let receiver = Receiver::grpc([Reply::Grpc(tonic::Code::Unavailable, None)], None).await;
    let endpoint = format!("http://{}", receiver.address);
    let output = replay("otlp", &endpoint).await;
    assert!(output.status.success(), "{output:?}");
    let exported: Vec<Vec<u8>> =
        receiver.accepted().iter().flat_map(|accepted| span_ids(&accepted.request)).collect();
    assert_eq!(exported.len(), printed.len());
    assert_eq!(exported.into_iter().collect::<BTreeSet<_>>(), printed);
}

#[tokio::test]
async fn replay_fails_with_a_count_where_the_collector_accepts_nothing() {
    // Nothing listens at the discard port.
    let output = replay("otlp", "http://127.0.0.1:9").await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("spans were not sent to http://127.0.0.1:9"), "{error}");
}

#[tokio::test]
async fn replay_whose_spans_are_refused_fails_with_a_count() {
    let receiver = Receiver::grpc([Reply::Grpc(tonic::Code::PermissionDenied, None)], None).await;
    let output = replay("otlp", &format!("http://{}", receiver.address)).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("spans were refused by http://127.0.0.1:"), "{error}");
}
