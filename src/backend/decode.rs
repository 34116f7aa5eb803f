//! Decodes OTLP spans, as both backends return them.
//!
//! OTLP's types are used in this folder only in what the backends answer.

use std::{borrow::Cow, sync::Arc};

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value},
    trace::v1 as otlp,
};

use crate::{
    causal_tree::StoredSpan,
    trace::model::{
        object::{GroupKind, ObjectRef, Uid},
        span::{Attribute, Link, Role, Span, SpanEvent, SpanId, SpanStatus, TraceId, Value},
        time::Timestamp,
    },
};

/// The W3C trace flags, and whether the span linked to is of another process
/// (<https://github.com/open-telemetry/opentelemetry-proto/blob/v1.9.0/opentelemetry/proto/trace/v1/trace.proto>).
const TRACE_FLAGS: u32 = 0xff;
const IS_REMOTE: u32 = 0x200;

/// Decodes every span. Spans without valid ids are left out: nothing can refer to them.
pub(super) fn spans(resource_spans: Vec<otlp::ResourceSpans>) -> Vec<StoredSpan> {
    let mut decoded = Vec::new();
    for of_resource in resource_spans {
        let resource = attributes(of_resource.resource.unwrap_or_default().attributes);
        let text = |key: &str| {
            resource.iter().find(|attribute| attribute.key == key).and_then(|attribute| {
                match &attribute.value {
                    Value::Text(text) => Some(Arc::clone(text)),
                    Value::Int(_) | Value::Bool(_) | Value::Texts(_) => None,
                }
            })
        };
        let service = text("service.name").unwrap_or_else(|| "unknown service".into());
        let cluster = text("k8s.cluster.name");
        let spans = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        decoded.extend(spans.filter_map(|span| {
            Some(StoredSpan::new(decode(span, Arc::clone(&service))?, cluster.clone()))
        }));
    }
    decoded
}

fn decode(span: otlp::Span, service: Arc<str>) -> Option<Span> {
    let start = time(span.start_time_unix_nano);
    let is_error = |status: &otlp::Status| status.code() == otlp::status::StatusCode::Error;
    Some(Span {
        trace_id: trace_id(&span.trace_id)?,
        span_id: span_id(&span.span_id)?,
        parent: span_id(&span.parent_span_id),
        parent_is_remote: span.flags & IS_REMOTE != 0,
        trace_state: Some(span.trace_state).filter(|state| !state.is_empty()).map(Into::into),
        // `StoredSpan` reads the role and the object from the attributes.
        role: Role::Phase,
        object: ObjectRef {
            kind: GroupKind::new("", ""),
            namespace: None,
            name: "".into(),
            uid: Uid::new(""),
        },
        name: printable(&span.name).into(),
        service,
        start,
        end: time(span.end_time_unix_nano).max(start),
        attributes: attributes(span.attributes),
        links: span.links.into_iter().filter_map(link).collect(),
        dropped_links: span.dropped_links_count,
        events: span
            .events
            .into_iter()
            .map(|event| SpanEvent {
                at: time(event.time_unix_nano),
                name: Cow::Owned(printable(&event.name).into_owned()),
                attributes: attributes(event.attributes),
            })
            .collect(),
        status: match span.status.filter(is_error) {
            Some(status) => SpanStatus::Error(printable(&status.message).into()),
            None => SpanStatus::Unset,
        },
    })
}

fn link(link: otlp::span::Link) -> Option<Link> {
    Some(Link {
        trace_id: trace_id(&link.trace_id)?,
        span_id: span_id(&link.span_id)?,
        trace_state: Some(link.trace_state).filter(|state| !state.is_empty()).map(Into::into),
        flags: u8::try_from(link.flags & TRACE_FLAGS).unwrap_or_default(),
        remote: link.flags & IS_REMOTE != 0,
        attributes: attributes(link.attributes),
    })
}

fn attributes(pairs: Vec<KeyValue>) -> Vec<Attribute> {
    let attribute = |pair: KeyValue| {
        let value = value(pair.value?)?;
        Some(Attribute { key: Cow::Owned(printable(&pair.key).into_owned()), value })
    };
    pairs.into_iter().filter_map(attribute).collect()
}

/// Values of a type that spanlink never writes are kept as text, or left out.
fn value(value: AnyValue) -> Option<Value> {
    Some(match value.value? {
        any_value::Value::StringValue(text) => Value::Text(printable(&text).into()),
        any_value::Value::BoolValue(bool) => Value::Bool(bool),
        any_value::Value::IntValue(int) => Value::Int(int),
        any_value::Value::DoubleValue(double) => Value::Text(double.to_string().into()),
        any_value::Value::ArrayValue(array) => {
            let text = |value: AnyValue| match value.value? {
                any_value::Value::StringValue(text) => Some(printable(&text).into()),
                _ => None,
            };
            Value::Texts(array.values.into_iter().filter_map(text).collect())
        }
        _ => return None,
    })
}

/// Control characters could move the cursor of a terminal, or hide what is printed.
fn printable(text: &str) -> Cow<'_, str> {
    if text.contains(char::is_control) {
        Cow::Owned(text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
    } else {
        Cow::Borrowed(text)
    }
}

fn trace_id(bytes: &[u8]) -> Option<TraceId> {
    let id = u128::from_be_bytes(bytes.try_into().ok()?);
    Some(TraceId(id)).filter(|id| id.0 != 0)
}

fn span_id(bytes: &[u8]) -> Option<SpanId> {
    let id = u64::from_be_bytes(bytes.try_into().ok()?);
    Some(SpanId(id)).filter(|id| id.0 != 0)
}

fn time(unix_nanos: u64) -> Timestamp {
    Timestamp::from_nanos(i64::try_from(unix_nanos).unwrap_or(i64::MAX))
}
