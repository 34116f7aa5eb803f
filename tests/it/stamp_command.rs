//! `spanlink stamp` as a process in a pipe.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::time::Instant;

use crate::scripted_receiver::{Receiver, Reply};

pub(crate) const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const DEPLOYMENT: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n";
/// An export that fails takes two seconds.
const SOON: Duration = Duration::from_secs(30);

/// A command without the variables of the tests' own environment.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spanlink"));
    command.args(arguments);
    for name in ["TRACEPARENT", "TRACESTATE", "BAGGAGE", "OTEL_SERVICE_NAME"] {
        command.env_remove(name);
    }
    command
}

pub(crate) fn pipe(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn with_annotations(annotations: &[(&str, &str)]) -> String {
    let lines: Vec<String> = annotations
        .iter()
        .map(|(name, value)| format!("    tracing.k8s.io/{name}: \"{value}\"\n"))
        .collect();
    DEPLOYMENT.replace("metadata:\n", &format!("metadata:\n  annotations:\n{}", lines.concat()))
}

/// The only span of the first request.
pub(crate) async fn exported(receiver: &Receiver) -> (String, Span) {
    let requests = tokio::time::timeout(SOON, receiver.requests(1)).await.unwrap();
    let resource_spans = &requests[0].request.resource_spans[0];
    let service = &resource_spans.resource.as_ref().unwrap().attributes[0];
    let span = resource_spans.scope_spans[0].spans[0].clone();
    (format!("{:?}", service.value), span)
}

pub(crate) fn hexadecimal(id: &[u8]) -> String {
    id.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[test]
fn context_of_the_environment_is_written() {
    let mut stamp = command(&["stamp"]);
    stamp.env("TRACEPARENT", TRACEPARENT).env("TRACESTATE", "a=b").env("BAGGAGE", "k=v");
    let output = pipe(&mut stamp, DEPLOYMENT.as_bytes());
    let expected = [("traceparent", TRACEPARENT), ("tracestate", "a=b")];
    assert_eq!(text(&output.stdout), with_annotations(&expected));
    assert_eq!((text(&output.stderr), output.status.code()), ("", Some(0)));

    let output = pipe(stamp.arg("--baggage"), DEPLOYMENT.as_bytes());
    let expected = [("traceparent", TRACEPARENT), ("tracestate", "a=b"), ("baggage", "k=v")];
    assert_eq!(text(&output.stdout), with_annotations(&expected));
}

#[test]
fn context_of_the_arguments_is_written() {
    let mut stamp = command(&["stamp", "--traceparent", TRACEPARENT, "--tracestate", "a=b"]);
    let output = pipe(stamp.env("TRACEPARENT", "another"), DEPLOYMENT.as_bytes());
    let expected = [("traceparent", TRACEPARENT), ("tracestate", "a=b")];
    assert_eq!(text(&output.stdout), with_annotations(&expected));

    let output = pipe(&mut command(&["stamp", "--traceparent", "00-1"]), DEPLOYMENT.as_bytes());
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("--traceparent \"00-1\" is invalid"));
}

#[test]
fn manifests_stay_as_they_are_without_a_context() {
    for value in [None, Some(""), Some("00-1")] {
        let mut stamp = command(&["stamp"]);
        stamp.envs(value.map(|value| ("TRACEPARENT", value)));
        let output = pipe(&mut stamp, DEPLOYMENT.as_bytes());
        assert_eq!((text(&output.stdout), output.status.code()), (DEPLOYMENT, Some(0)));
        assert!(text(&output.stderr).contains("there is no trace context"), "{output:?}");
    }
}

#[test]
fn input_that_cannot_be_stamped_is_passed_on_with_exit_code_1() {
    let broken: [&[u8]; 3] = [
        b"kind: Pod\n---\nkind: [\n",
        b"apiVersion: v1\nkind: Pod\nmetadata:\n  annotations: [a]\n",
        b"name: \xff\n",
    ];
    for (input, problem) in broken.into_iter().zip(["document 2, line 3", "line 4", "UTF-8"]) {
        let output = pipe(command(&["stamp"]).env("TRACEPARENT", TRACEPARENT), input);
        assert_eq!((&*output.stdout, output.status.code()), (input, Some(1)));
        assert!(text(&output.stderr).contains(problem), "{output:?}");
    }
}

#[test]
fn kinds_are_chosen_by_an_option() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n";
    let stamped = |arguments: &[&str]| {
        let mut stamp = command(&[&["stamp", "--traceparent", TRACEPARENT], arguments].concat());
        let output = pipe(&mut stamp, format!("{service}---\n{DEPLOYMENT}").as_bytes());
        text(&output.stdout).matches(TRACEPARENT).count()
    };
    assert_eq!(stamped(&[]), 1);
    assert_eq!(stamped(&["--kinds", "Service"]), 1);
    assert_eq!(stamped(&["--kinds", "default,Service"]), 2);
    assert_eq!(stamped(&["--kinds", "Job.batch"]), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn own_span_is_written_and_exported() {
    let receiver = Receiver::http([], None).await;
    let mut stamp = command(&["stamp", "--span", "deploy shop"]);
    stamp
        .env("TRACEPARENT", TRACEPARENT)
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", receiver.address));
    let output = tokio::task::spawn_blocking(move || pipe(&mut stamp, DEPLOYMENT.as_bytes()));
    let output = output.await.unwrap();
    assert_eq!((text(&output.stderr), output.status.code()), ("", Some(0)));
    let (service, span) = exported(&receiver).await;
    assert!(service.contains("spanlink-cli"), "{service}");
    assert_eq!(span.name, "deploy shop");
    assert_eq!(hexadecimal(&span.parent_span_id), "00f067aa0ba902b7");
    let (trace, id) = (hexadecimal(&span.trace_id), hexadecimal(&span.span_id));
    let expected = with_annotations(&[("traceparent", &format!("00-{trace}-{id}-01"))]);
    assert_eq!(text(&output.stdout), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_export_fails_no_pipe() {
    let refuse = || [(); 64].map(|()| Reply::Http(503, None));
    let receiver = Receiver::http(refuse(), None).await;
    let started = Instant::now();
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1".to_owned()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", receiver.address)),
        // The daemon refuses this configuration.
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json".to_owned()),
    ] {
        let mut stamp = command(&["stamp", "--span", "deploy"]);
        stamp.env(name, value);
        let output = tokio::task::spawn_blocking(move || pipe(&mut stamp, DEPLOYMENT.as_bytes()));
        let output = output.await.unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(text(&output.stdout).contains("tracing.k8s.io/traceparent"));
        assert!(text(&output.stderr).contains("the span of the stamp is lost"), "{output:?}");
    }
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
}

#[test]
fn binary_under_the_name_of_a_plugin_shows_that_name() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("kubectl-spanlink");
    std::os::unix::fs::symlink(Path::new(env!("CARGO_BIN_EXE_spanlink")), &plugin).unwrap();
    let output = Command::new(plugin).args(["stamp", "--help"]).output().unwrap();
    assert!(text(&output.stdout).contains("Usage: kubectl spanlink stamp "), "{output:?}");
}
