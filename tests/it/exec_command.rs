//! `spanlink exec`: environment, exit codes, signals, the exported span.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use opentelemetry_proto::tonic::{common::v1::any_value::Value, trace::v1::Span};

use crate::{
    scripted_receiver::Receiver,
    stamp_command::{TRACEPARENT, command, exported, hexadecimal},
};

const NOWHERE: &str = "http://127.0.0.1:1";

fn exec(arguments: &[&str], endpoint: &str) -> Command {
    let mut command = command(&[&["exec"], arguments].concat());
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    command
}

async fn output_of(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn attribute(span: &Span, key: &str) -> String {
    let attribute = span.attributes.iter().find(|attribute| attribute.key == key);
    match attribute.and_then(|attribute| attribute.value.clone()?.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(int)) => int.to_string(),
        other => format!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn command_has_the_context_of_its_span_and_the_span_its_end() {
    let receiver = Receiver::grpc([], None).await;
    let script = "echo $TRACEPARENT $TRACESTATE $BAGGAGE; exit 3";
    let mut exec = exec(
        &["--name", "deploy", "--", "sh", "-c", script],
        &format!("http://{}", receiver.address),
    );
    exec.env("TRACEPARENT", TRACEPARENT).env("TRACESTATE", "a=b").env("BAGGAGE", "k=v");
    let output = output_of(exec).await;
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let (_, span) = exported(&receiver).await;
    assert_eq!(span.name, "deploy");
    assert_eq!(hexadecimal(&span.trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(hexadecimal(&span.parent_span_id), "00f067aa0ba902b7");
    let context = format!("00-{}-{}-01", hexadecimal(&span.trace_id), hexadecimal(&span.span_id));
    assert_eq!(stdout(&output), format!("{context} a=b k=v\n"));
    assert_eq!(attribute(&span, "process.exit.code"), "3");
    assert_eq!(attribute(&span, "process.executable.name"), "sh");
    assert_eq!(attribute(&span, "error.type"), "3");
    assert_eq!(span.status.as_ref().unwrap().message, "exit code 3");
    assert!(span.start_time_unix_nano < span.end_time_unix_nano);
}

#[tokio::test(flavor = "multi_thread")]
async fn span_without_a_parent_is_the_root_of_a_new_trace() {
    let receiver = Receiver::grpc([], None).await;
    let endpoint = format!("http://{}", receiver.address);
    let mut exec = exec(&["/bin/sh", "-c", "echo $TRACEPARENT $TRACESTATE"], &endpoint);
    // A state without a valid parent is of another trace.
    exec.env("TRACEPARENT", "invalid").env("TRACESTATE", "a=b");
    let output = output_of(exec).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let (_, span) = exported(&receiver).await;
    assert_eq!((&*span.name, &*span.parent_span_id, &span.status), ("sh", &[][..], &None));
    let context = format!("00-{}-{}-01", hexadecimal(&span.trace_id), hexadecimal(&span.span_id));
    assert_eq!(stdout(&output), format!("{context}\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn unsampled_parent_makes_an_unsampled_span_that_is_not_exported() {
    let receiver = Receiver::grpc([], None).await;
    let mut exec =
        exec(&["sh", "-c", "echo $TRACEPARENT"], &format!("http://{}", receiver.address));
    exec.env("TRACEPARENT", TRACEPARENT.replace("-01", "-00"));
    let output = output_of(exec).await;
    assert!(stdout(&output).ends_with("-00\n"), "{output:?}");
    assert!(receiver.accepted().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_code_is_that_of_the_command_and_a_failed_export_does_not_change_it() {
    for (arguments, expected) in [
        (&["true"][..], 0),
        (&["sh", "-c", "exit 255"], 255),
        (&["sh", "-c", "kill -TERM $$"], 128 + 15),
        (&["sh", "-c", "kill -KILL $$"], 128 + 9),
        (&["/nonexistent/command"], 127),
        (&["/etc/hostname"], 126),
    ] {
        let output = output_of(exec(arguments, NOWHERE)).await;
        assert_eq!(output.status.code(), Some(expected), "{arguments:?} {output:?}");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains("the span of the command is lost"), "{errors}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_are_passed_on_to_the_command() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1] {
        let name = signal.as_str().trim_start_matches("SIG");
        let script =
            format!("trap 'echo got; exit 9' {name}; echo ready; while :; do sleep 0.05; done");
        let mut child = exec(&["sh", "-c", &script], NOWHERE)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        kill(pid, signal).unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "got", "{signal}");
        let status = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
        assert_eq!(status.code(), Some(9), "{signal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stamp_within_a_span_needs_no_argument() {
    let stamp = env!("CARGO_BIN_EXE_spanlink");
    let pod = "'{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"a\"}}'";
    let script = format!("echo $TRACEPARENT; echo {pod} | {stamp} stamp");
    let output = output_of(exec(&["sh", "-c", &script], NOWHERE)).await;
    let output = stdout(&output);
    let (context, pod) = output.split_once('\n').unwrap();
    let expected = format!("{{\"tracing.k8s.io/traceparent\":\"{context}\"}}");
    assert!(pod.contains(&expected), "{output}");
}
