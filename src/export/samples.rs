//! Sample spans and settings for the tests of this folder.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use proptest::prelude::*;

use super::{
    encode::Encoder,
    response::{Acceptance, NoResponse, Response},
    retry_after::RetryAfter,
};
use crate::{
    config::settings::{
        ClusterSettings, Compression, ExportSettings, Protocol, ProxySettings, TlsSettings,
    },
    trace::model::{
        object::{GroupKind, ObjectRef, Uid},
        span::{Attribute, Link, Role, Span, SpanEvent, SpanId, SpanStatus, TraceId, Value},
        time::Timestamp,
    },
};

/// 2026-01-02T03:04:05Z.
pub(super) const START: Timestamp = Timestamp::from_nanos(1_767_323_045_000_000_000);

pub(super) fn settings() -> ExportSettings {
    ExportSettings {
        endpoint: "http://localhost:4317".to_owned(),
        protocol: Protocol::Grpc,
        headers: [].into(),
        compression: Compression::None,
        timeout: Duration::from_secs(10),
        request_bytes_max: 1 << 20,
        tls: TlsSettings::default(),
        bearer_token_file: None,
        proxy: ProxySettings::default(),
        resource: [("deployment.environment.name".to_owned(), "test".to_owned())].into(),
    }
}

pub(super) fn encoder() -> Encoder {
    let cluster = ClusterSettings { name: Some("prod-eu".to_owned()) };
    Encoder::new(&settings(), &cluster, Some("11111111-2222-3333-4444-555555555555"))
}

pub(super) fn text(key: &'static str, text: &str) -> Attribute {
    Attribute { key: key.into(), value: Value::Text(text.into()) }
}

pub(super) fn int(key: &'static str, int: i64) -> Attribute {
    Attribute { key: key.into(), value: Value::Int(int) }
}

pub(super) fn flag(key: &'static str) -> Attribute {
    Attribute { key: key.into(), value: Value::Bool(true) }
}

pub(super) fn texts(key: &'static str, texts: &[&str]) -> Attribute {
    let texts = texts.iter().map(|text| Box::from(*text)).collect();
    Attribute { key: key.into(), value: Value::Texts(texts) }
}

/// The change span of a created Deployment, with few attributes.
pub(super) fn span(service: &str, name: &str) -> Span {
    Span {
        trace_id: TraceId(0xabcd),
        span_id: SpanId(0x12),
        parent: None,
        parent_is_remote: false,
        trace_state: None,
        role: Role::Change,
        name: name.into(),
        service: service.into(),
        object: ObjectRef {
            kind: GroupKind::new("apps", "Deployment"),
            namespace: Some("shop".into()),
            name: "web".into(),
            uid: Uid::new("7c5c1a1e-0000-4000-8000-000000000001"),
        },
        start: START,
        end: START.plus(Duration::from_micros(1)),
        attributes: vec![text("spanlink.verb", "create"), int("spanlink.generation", 1)],
        links: Vec::new(),
        dropped_links: 0,
        events: Vec::new(),
        status: SpanStatus::Unset,
    }
}

/// The names of the spans in a request, in order.
pub(super) fn span_names(request: &[u8]) -> Vec<String> {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use prost::Message as _;
    let request = ExportTraceServiceRequest::decode(request).unwrap();
    let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).map(|span| span.name).collect()
}

/// A span with every field set.
pub(super) fn full_span() -> Span {
    let mut span = span("deployment-controller", "update Deployment");
    span.parent = Some(SpanId(0x11));
    span.trace_state = Some("vendor=1".into());
    span.attributes.extend([
        flag("spanlink.change.rewound"),
        texts("spanlink.change.fields", &["spec.replicas", "spec.paused"]),
    ]);
    span.links = vec![
        Link {
            trace_id: TraceId(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736),
            span_id: SpanId(0x00f0_67aa_0ba9_02b7),
            trace_state: Some("vendor=abc".into()),
            flags: 1,
            remote: true,
            attributes: vec![text("spanlink.link.role", "context")],
        },
        Link {
            trace_id: TraceId(0xabcc),
            span_id: SpanId(0x10),
            trace_state: None,
            flags: 0,
            remote: false,
            attributes: vec![text("spanlink.link.role", "supersedes")],
        },
    ];
    span.dropped_links = 2;
    span.events = vec![SpanEvent {
        at: START,
        name: "Available".into(),
        attributes: vec![text("status", "False")],
    }];
    span.status = SpanStatus::Error("it failed".into());
    span
}

/// A writer whose text can be read back.
#[derive(Clone, Default)]
pub(super) struct Printed(Arc<Mutex<Vec<u8>>>);

impl Printed {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Ok(mut printed) = self.0.lock() {
            printed.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn grpc_behind_http(status: u16) -> Response {
    match Response::grpc(tonic::Code::Unknown, None) {
        Response::Error(mut error) => {
            error.http_status = Some(status);
            Response::Error(error)
        }
        other => other,
    }
}

/// Any response that a transport returns.
pub(super) fn any_response() -> impl Strategy<Value = Response> {
    let retry_after = prop_oneof![
        Just(None),
        (0_u64..3).prop_map(|seconds| Some(RetryAfter::Delay(Duration::from_secs(seconds)))),
        Just(Some(RetryAfter::At(START))),
    ];
    let acceptance = |rejected| Acceptance { rejected, message: Some("x".into()), foreign: None };
    prop_oneof![
        (0_u64..3).prop_map(move |rejected| Response::Accepted(acceptance(rejected))),
        (1_i32..17, retry_after.clone())
            .prop_map(|(code, after)| Response::grpc(tonic::Code::from_i32(code), after)),
        (300_u16..600, retry_after).prop_map(|(status, after)| Response::http(status, after)),
        Just(Response::http(413, None)),
        Just(grpc_behind_http(413)),
        Just(Response::TooLong),
        Just(Response::Missing(NoResponse::Failed("reset".to_owned()))),
    ]
}
