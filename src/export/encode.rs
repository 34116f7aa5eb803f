//! Encodes spans as OTLP, deterministically: equal spans become equal bytes.
//!
//! OTLP's types are used in this file only, so that they do not spread through the crate.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value},
    resource::v1::Resource,
    trace::v1 as otlp,
};
use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint},
};

use super::response::{self, Acceptance};
use crate::{
    config::settings::{ClusterSettings, ExportSettings},
    trace::model::{
        span::{Attribute, Link, Span, SpanEvent, SpanId, SpanStatus, TraceId, Value},
        time::Timestamp,
    },
};

/// The version of the semantic conventions that our attribute names follow:
/// <https://opentelemetry.io/docs/specs/otel/schemas/>.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.37.0";

/// The name of our instrumentation scope.
pub const SCOPE: &str = "spanlink";

/// The gRPC path of OTLP's method for traces.
///
/// <https://opentelemetry.io/docs/specs/otlp/#otlpgrpc>
pub(super) const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Encodes the spans of one cluster: it has every resource attribute except `service.name`, which
/// differs by span.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// Resource attributes by key: the order makes the encoding deterministic.
    resource: BTreeMap<String, String>,
}

impl Encoder {
    /// `cluster_uid` is the UID of the Namespace `kube-system`, `None` if it could not be read.
    pub fn new(
        settings: &ExportSettings,
        cluster: &ClusterSettings,
        cluster_uid: Option<&str>,
    ) -> Self {
        let mut resource = settings.resource.clone();
        resource.retain(|key, _| !describes_this_process(key));
        let cluster_attributes =
            [("k8s.cluster.name", cluster.name.as_deref()), ("k8s.cluster.uid", cluster_uid)];
        for (key, value) in cluster_attributes {
            if let Some(value) = value {
                resource.insert(key.to_owned(), value.to_owned());
            }
        }
        Self { resource }
    }

    /// Encodes a span as a record of the outbox: the length of its service's name in two bytes, the
    /// name, and the span. The resource is left out: a request has it once for all spans of a service.
    pub fn record(&self, span: &Span) -> Bytes {
        let message = message(span);
        let service = shortened(&span.service);
        let mut record = BytesMut::with_capacity(2 + service.len() + message.encoded_len());
        record.extend_from_slice(&u16::try_from(service.len()).unwrap_or(u16::MAX).to_le_bytes());
        record.extend_from_slice(service.as_bytes());
        message.encode(&mut record).expect("a BytesMut grows as needed");
        record.freeze()
    }

    /// The most bytes that a service adds to a request, without its spans.
    pub(super) fn service_len(&self, service: &str) -> usize {
        let around = 3 * LENGTH_MAX + self.resource(service).encoded_len() + scope().encoded_len();
        around + 4 * LENGTH_MAX + 2 * SCHEMA_URL.len()
    }

    /// The most bytes that the span of a record adds to a request.
    pub(super) fn span_len(record: &[u8]) -> usize {
        record.len() + LENGTH_MAX
    }

    /// Encodes an `ExportTraceServiceRequest` with one `ResourceSpans` per service. The bytes of the
    /// spans are copied from their records and not encoded again.
    pub(super) fn request<'a>(
        &self,
        services: impl IntoIterator<Item = (&'a str, Vec<&'a [u8]>)>,
    ) -> Bytes {
        let mut request = BytesMut::new();
        for (service, spans) in services {
            let scope = scope();
            let spans_len: usize = spans.iter().map(|span| field_len(span.len())).sum();
            let scope_spans_len =
                field_len(scope.encoded_len()) + spans_len + field_len(SCHEMA_URL.len());
            let resource = self.resource(service);
            let resource_spans_len = field_len(resource.encoded_len())
                + field_len(scope_spans_len)
                + field_len(SCHEMA_URL.len());

            put_field(&mut request, 1, resource_spans_len); // resource_spans
            put_field(&mut request, 1, resource.encoded_len()); // resource
            resource.encode(&mut request).expect("a BytesMut grows as needed");
            put_field(&mut request, 2, scope_spans_len); // scope_spans
            put_field(&mut request, 1, scope.encoded_len()); // scope
            scope.encode(&mut request).expect("a BytesMut grows as needed");
            for span in spans {
                put_field(&mut request, 2, span.len()); // spans
                request.extend_from_slice(span);
            }
            for _message in ["scope_spans", "resource_spans"] {
                put_field(&mut request, 3, SCHEMA_URL.len()); // schema_url
                request.extend_from_slice(SCHEMA_URL.as_bytes());
            }
        }
        request.freeze()
    }

    /// The same request as a message, for JSON.
    pub(super) fn message(&self, spans: &[Span]) -> ExportTraceServiceRequest {
        let mut services: Vec<(&str, Vec<otlp::Span>)> = Vec::new();
        for span in spans {
            let service = shortened(&span.service);
            match services.iter_mut().find(|(existing, _)| *existing == service) {
                Some((_, spans)) => spans.push(message(span)),
                None => services.push((service, vec![message(span)])),
            }
        }
        let resource_spans = services
            .into_iter()
            .map(|(service, spans)| otlp::ResourceSpans {
                resource: Some(self.resource(service)),
                scope_spans: vec![otlp::ScopeSpans {
                    scope: Some(scope()),
                    spans,
                    schema_url: SCHEMA_URL.to_owned(),
                }],
                schema_url: SCHEMA_URL.to_owned(),
            })
            .collect();
        ExportTraceServiceRequest { resource_spans }
    }

    fn resource(&self, service: &str) -> Resource {
        let mut attributes = vec![text("service.name", service)];
        let others = self.resource.iter().filter(|(key, _)| *key != "service.name");
        attributes.extend(others.map(|(key, value)| text(key, value)));
        Resource { attributes, ..Resource::default() }
    }
}

/// Splits a record into the name of its service and the encoded span; `None` if it is not a record.
pub(super) fn split_record(record: &[u8]) -> Option<(&str, &[u8])> {
    let (len, rest) = record.split_at_checked(2)?;
    let len = u16::from_le_bytes(len.try_into().ok()?);
    let (service, span) = rest.split_at_checked(usize::from(len))?;
    Some((std::str::from_utf8(service).ok()?, span))
}

/// Decodes the body of a response that accepts a request; `None` if it is not one of OTLP.
///
/// <https://opentelemetry.io/docs/specs/otlp/#partial-success>
pub(super) fn decode_acceptance(body: &[u8]) -> Option<Acceptance> {
    let response = ExportTraceServiceResponse::decode(body).ok()?;
    let Some(partial) = response.partial_success else { return Some(Acceptance::default()) };
    Some(Acceptance {
        rejected: u64::try_from(partial.rejected_spans).unwrap_or(0),
        message: response::clean(&partial.error_message),
        foreign: None,
    })
}

/// Whether a resource attribute describes the process of the daemon, as `OTEL_RESOURCE_ATTRIBUTES`
/// often does. It would be wrong on our spans, which describe other Pods, and would differ after a
/// restart.
fn describes_this_process(key: &str) -> bool {
    matches!(key, "service.instance.id" | "container.id" | "k8s.node.name" | "k8s.container.name")
        || ["k8s.pod.", "process.", "host."].iter().any(|prefix| key.starts_with(prefix))
}

/// The most bytes of a field's key and length: one for a tag below 16, five for a length below 4 GiB.
const LENGTH_MAX: usize = 6;

fn field_len(len: usize) -> usize {
    1 + encoded_len_varint(u64::try_from(len).unwrap_or(u64::MAX)) + len
}

fn put_field(buffer: &mut BytesMut, tag: u32, len: usize) {
    encode_key(tag, WireType::LengthDelimited, buffer);
    encode_varint(u64::try_from(len).unwrap_or(u64::MAX), buffer);
}

/// A record has two bytes for the length of its service. Names in Kubernetes are far shorter than the
/// limit.
fn shortened(service: &str) -> &str {
    service.get(..service.floor_char_boundary(1024)).unwrap_or(service)
}

fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: SCOPE.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

/// Bits of the flags of spans and links. The low byte has the W3C trace flags.
///
/// <https://github.com/open-telemetry/opentelemetry-proto/blob/v1.9.0/opentelemetry/proto/trace/v1/trace.proto>
mod flags {
    pub(super) const SAMPLED: u32 = 0x01;
    pub(super) const HAS_IS_REMOTE: u32 = 0x100;
    pub(super) const IS_REMOTE: u32 = 0x200;
}

fn message(span: &Span) -> otlp::Span {
    otlp::Span {
        trace_id: trace_id(span.trace_id),
        span_id: span_id(span.span_id),
        trace_state: span.trace_state.as_deref().unwrap_or_default().to_owned(),
        parent_span_id: span.parent.map(span_id).unwrap_or_default(),
        flags: flags::SAMPLED | flags::HAS_IS_REMOTE | remote(span.parent_is_remote),
        name: (*span.name).to_owned(),
        kind: otlp::span::SpanKind::Internal.into(),
        start_time_unix_nano: unix_nanos(span.start),
        end_time_unix_nano: unix_nanos(span.end),
        attributes: key_values(&span.attributes),
        dropped_attributes_count: 0,
        events: span.events.iter().map(event).collect(),
        dropped_events_count: 0,
        links: span.links.iter().map(link).collect(),
        dropped_links_count: span.dropped_links,
        status: match &span.status {
            SpanStatus::Unset => None,
            SpanStatus::Error(message) => Some(otlp::Status {
                message: (**message).to_owned(),
                code: otlp::status::StatusCode::Error.into(),
            }),
        },
    }
}

fn remote(is_remote: bool) -> u32 {
    if is_remote { flags::IS_REMOTE } else { 0 }
}

fn link(link: &Link) -> otlp::span::Link {
    otlp::span::Link {
        trace_id: trace_id(link.trace_id),
        span_id: span_id(link.span_id),
        trace_state: link.trace_state.as_deref().unwrap_or_default().to_owned(),
        attributes: key_values(&link.attributes),
        dropped_attributes_count: 0,
        flags: u32::from(link.flags) | flags::HAS_IS_REMOTE | remote(link.remote),
    }
}

fn event(event: &SpanEvent) -> otlp::span::Event {
    otlp::span::Event {
        time_unix_nano: unix_nanos(event.at),
        name: event.name.clone().into_owned(),
        attributes: key_values(&event.attributes),
        dropped_attributes_count: 0,
    }
}

fn key_values(attributes: &[Attribute]) -> Vec<KeyValue> {
    let value = |value: &Value| match value {
        Value::Text(text) => any_value::Value::StringValue((**text).to_owned()),
        Value::Int(int) => any_value::Value::IntValue(*int),
        Value::Bool(bool) => any_value::Value::BoolValue(*bool),
        Value::Texts(texts) => any_value::Value::ArrayValue(ArrayValue {
            values: texts
                .iter()
                .map(|text| wrapped(any_value::Value::StringValue((**text).to_owned())))
                .collect(),
        }),
    };
    attributes.iter().map(|each| key_value(&each.key, value(&each.value))).collect()
}

fn text(key: &str, text: &str) -> KeyValue {
    key_value(key, any_value::Value::StringValue(text.to_owned()))
}

fn key_value(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(wrapped(value)), ..KeyValue::default() }
}

fn wrapped(value: any_value::Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn trace_id(id: TraceId) -> Vec<u8> {
    id.0.to_be_bytes().to_vec()
}

fn span_id(id: SpanId) -> Vec<u8> {
    id.0.to_be_bytes().to_vec()
}

/// A time before 1970 can only be from a wrong clock, and becomes 1970: the cast would make it a time
/// after 2500.
fn unix_nanos(at: Timestamp) -> u64 {
    u64::try_from(at.nanos()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;
    use crate::export::samples::{encoder, full_span, settings, span};

    #[test]
    fn record_consists_of_a_service_and_a_span() {
        let record = encoder().record(&span("web-controller", "create Deployment"));
        let (service, encoded) = split_record(&record).unwrap();
        assert_eq!(service, "web-controller");
        let decoded = otlp::Span::decode(encoded).unwrap();
        assert_eq!(decoded, message(&span("web-controller", "create Deployment")));
        assert_eq!(split_record(&[9, 0, 1]), None);
        assert_eq!(split_record(&[9]), None);
    }

    #[test]
    fn flags_distinguish_remote_links_from_local_ones() {
        let message = message(&full_span());
        let links: Vec<u32> = message.links.iter().map(|link| link.flags).collect();
        expect!["span 0x101, links [301, 100]"]
            .assert_eq(&format!("span {:#x}, links {links:x?}", message.flags));
        assert_eq!(message.kind, 1);
        assert_eq!(message.dropped_links_count, 2);
        assert_eq!(message.trace_state, "vendor=1");
        assert_eq!(message.links[0].trace_state, "vendor=abc");
    }

    #[test]
    fn resource_describes_the_cluster_and_not_the_process() {
        let mut settings = settings();
        for key in ["k8s.pod.name", "service.instance.id", "process.pid", "service.name"] {
            settings.resource.insert(key.to_owned(), "ours".to_owned());
        }
        settings.resource.insert("k8s.cluster.name".to_owned(), "from the environment".to_owned());
        let cluster = ClusterSettings { name: Some("prod-eu".to_owned()) };
        let encoder = Encoder::new(&settings, &cluster, Some("u-1"));
        let resource = encoder.resource("job-controller");
        let lines: Vec<String> = resource
            .attributes
            .iter()
            .map(|each| match each.value.as_ref().and_then(|value| value.value.as_ref()) {
                Some(any_value::Value::StringValue(text)) => format!("{}={text}", each.key),
                other => panic!("{other:?}"),
            })
            .collect();
        expect![[r"
            service.name=job-controller
            deployment.environment.name=test
            k8s.cluster.name=prod-eu
            k8s.cluster.uid=u-1"]]
        .assert_eq(&lines.join("\n"));
    }

    #[test]
    fn rejected_spans_are_read_from_a_response_and_zero_from_any_other_body() {
        use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;
        let body = |rejected_spans| {
            let partial = ExportTracePartialSuccess { rejected_spans, ..Default::default() };
            ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec()
        };
        let rejected = |body: &[u8]| decode_acceptance(body).map(|acceptance| acceptance.rejected);
        assert_eq!(rejected(&body(3)), Some(3));
        assert_eq!(rejected(&body(-3)), Some(0));
        assert_eq!(rejected(b""), Some(0));
        assert_eq!(rejected(b"<html>"), None);
    }

    proptest! {
        #[test]
        fn encoding_is_deterministic(
            name in ".{0,40}", service in ".{0,20}", id: u128, int: i64, key in "[a-z.]{1,20}",
        ) {
            let make = || {
                let mut span = full_span();
                span.name = name.as_str().into();
                span.service = Arc::from(service.as_str());
                span.trace_id = TraceId(id);
                span.attributes.push(Attribute { key: key.clone().into(), value: Value::Int(int) });
                span
            };
            prop_assert_eq!(encoder().record(&make()), encoder().record(&make()));
        }
    }
}
