//! A replay whose collector is configured by OpenTelemetry's variables: the spans arrive, once.

use std::{
    fs,
    process::{Command, Output, Stdio},
};

use tokio::task::spawn_blocking;

use crate::scripted_receiver::{Received, Receiver};

/// Its kinds are custom resources and what they own: none of them is watched by default.
const RECORDING: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios/several-owners/history.jsonl");

/// Replays with the variables, in which `ADDRESS` is the receiver's, and a file without `watch`.
async fn replay(receiver: &Receiver, file: &str, variables: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spanlink.yaml");
    fs::write(&path, file).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_spanlink"));
    command.args(["replay", "--to", "otlp", RECORDING, "--config"]).arg(&path);
    command.env_clear().stdin(Stdio::null());
    for (name, value) in variables {
        command.env(name, value.replace("ADDRESS", &receiver.address.to_string()));
    }
    let output = spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{variables:?}: {output:?}");
    output
}

/// The only request of a replay, and what the replay logged.
async fn exported(
    receiver: &Receiver,
    file: &str,
    variables: &[(&str, &str)],
) -> (Received, String) {
    let output = replay(receiver, file, variables).await;
    let accepted = receiver.accepted();
    assert_eq!(accepted.len(), 1, "{accepted:?}");
    (accepted[0].clone(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn base_url_with_a_query_and_a_header_in_any_case_reach_an_http_receiver() {
    let receiver = Receiver::http([], None).await;
    let file = "otlp: {headers: {x-scope-orgid: file}}\n";
    let variables = [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "HTTP/Protobuf"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://ADDRESS?token=x"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "X-Scope-OrgID=environment"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "GZIP"),
    ];
    let (request, log) = exported(&receiver, file, &variables).await;
    assert_eq!(request.headers["x-scope-orgid"], "environment");
    assert_eq!(request.headers["content-encoding"], "gzip");
    assert_eq!(log, "");
}

#[tokio::test]
async fn address_without_a_scheme_reaches_a_grpc_receiver() {
    let receiver = Receiver::grpc([], None).await;
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "ADDRESS"),
        ("OTEL_EXPORTER_OTLP_INSECURE", "True"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "X-Scope-OrgID=environment"),
    ];
    let (request, log) = exported(&receiver, "", &variables).await;
    assert_eq!(request.headers["x-scope-orgid"], "environment");
    assert_eq!(log, "");
}

#[tokio::test]
async fn no_limit_and_the_longest_timeout_are_none_on_both_protocols() {
    for timeout in ["0", "9223372036854775807"] {
        let receiver = Receiver::grpc([], None).await;
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://ADDRESS"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", timeout),
        ];
        let (_, log) = exported(&receiver, "", &variables).await;
        assert_eq!(log, "");
        let receiver = Receiver::http([], None).await;
        let variables =
            [variables[0], variables[1], ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")];
        let (_, log) = exported(&receiver, "", &variables).await;
        assert_eq!(log, "");
    }
}

#[tokio::test]
async fn malformed_variables_are_logged_and_the_spans_arrive() {
    let receiver = Receiver::grpc([], None).await;
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://ADDRESS"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_RESOURCE_ATTRIBUTES", "team=infra,oops"),
    ];
    let (request, log) = exported(&receiver, "", &variables).await;
    for (variable, _) in &variables[1..] {
        assert!(log.contains(&format!("environment variable {variable} is ignored: ")), "{log}");
    }
    let resources = &request.request.resource_spans;
    let mut attributes = resources.iter().filter_map(|of| of.resource.as_ref());
    let has_team = attributes.any(|of| of.attributes.iter().any(|pair| pair.key == "team"));
    assert!(!has_team, "{resources:?}");
}
