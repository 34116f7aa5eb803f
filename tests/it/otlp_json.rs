//! Parses spans from OTLP/JSON, as the daemon prints it and as Jaeger returns it.

use std::{borrow::Cow, sync::Arc};

use anyhow::{Context, Result};
use serde_json::Value as Json;
use spanlink::trace::model::{
    object::{GroupKind, ObjectRef, Uid},
    span::{Attribute, Link, Role, Span, SpanEvent, SpanId, SpanStatus, TraceId, Value},
    time::Timestamp,
};

/// Parses every span of a request.
pub(crate) fn spans(request: &Json) -> Result<Vec<Span>> {
    let mut spans = Vec::new();
    for resource_spans in items(&request["resourceSpans"]) {
        let resource = attributes(&resource_spans["resource"]);
        let service = text(&resource, "service.name").context("no service.name")?;
        for span in items(&resource_spans["scopeSpans"]).flat_map(|scope| items(&scope["spans"])) {
            spans.push(parse(span, &service).with_context(|| format!("parse {span:#}"))?);
        }
    }
    Ok(spans)
}

fn parse(span: &Json, service: &Arc<str>) -> Result<Span> {
    let attributes = attributes(span);
    let attribute = |key: &str| text(&attributes, key);
    let name = span["name"].as_str().unwrap_or_default();
    let parent = span["parentSpanId"].as_str().filter(|id| !id.is_empty());
    Ok(Span {
        trace_id: trace_id(span)?,
        span_id: span_id(&span["spanId"])?,
        parent: parent.map(|_| span_id(&span["parentSpanId"])).transpose()?,
        parent_is_remote: false,
        trace_state: trace_state(span),
        role: match name.split_once(' ') {
            None => Role::Phase,
            Some(("reconcile", _)) => Role::Reconcile,
            Some(("stuck", _)) => Role::Stuck,
            Some(("late", _)) => Role::Late,
            Some(_) => Role::Change,
        },
        name: name.into(),
        service: Arc::clone(service),
        object: ObjectRef {
            kind: GroupKind::new("", &attribute("k8s.object.kind").unwrap_or_default()),
            namespace: attribute("k8s.namespace.name"),
            name: attribute("k8s.object.name").unwrap_or_default(),
            uid: Uid::new(&attribute("k8s.object.uid").unwrap_or_default()),
        },
        start: time(&span["startTimeUnixNano"])?,
        end: time(&span["endTimeUnixNano"])?,
        links: items(&span["links"]).map(link).collect::<Result<_>>()?,
        dropped_links: 0,
        events: items(&span["events"]).map(event).collect::<Result<_>>()?,
        status: match span["status"]["code"].as_i64() {
            Some(2) => {
                SpanStatus::Error(span["status"]["message"].as_str().unwrap_or_default().into())
            }
            _ => SpanStatus::Unset,
        },
        attributes,
    })
}

fn link(link: &Json) -> Result<Link> {
    let flags = link["flags"].as_u64().unwrap_or_default();
    Ok(Link {
        trace_id: trace_id(link)?,
        span_id: span_id(&link["spanId"])?,
        trace_state: trace_state(link),
        flags: u8::try_from(flags & 0xff)?,
        remote: flags & 0x200 != 0,
        attributes: attributes(link),
    })
}

fn event(event: &Json) -> Result<SpanEvent> {
    Ok(SpanEvent {
        at: time(&event["timeUnixNano"])?,
        name: event["name"].as_str().unwrap_or_default().to_owned().into(),
        attributes: attributes(event),
    })
}

fn attributes(of: &Json) -> Vec<Attribute> {
    let attribute = |pair: &Json| {
        Some(Attribute {
            key: Cow::Owned(pair["key"].as_str()?.to_owned()),
            value: value(&pair["value"])?,
        })
    };
    items(&of["attributes"]).filter_map(attribute).collect()
}

fn value(value: &Json) -> Option<Value> {
    let (kind, value) = value.as_object()?.iter().next()?;
    Some(match &**kind {
        "stringValue" => Value::Text(value.as_str()?.into()),
        "intValue" => Value::Int(int(value)?),
        "boolValue" => Value::Bool(value.as_bool()?),
        "arrayValue" => Value::Texts(
            items(&value["values"])
                .filter_map(|item| Some(item["stringValue"].as_str()?.into()))
                .collect(),
        ),
        _ => return None,
    })
}

fn text(attributes: &[Attribute], key: &str) -> Option<Arc<str>> {
    match &attributes.iter().find(|attribute| attribute.key == key)?.value {
        Value::Text(text) => Some(Arc::clone(text)),
        _ => None,
    }
}

fn trace_state(of: &Json) -> Option<Box<str>> {
    of["traceState"].as_str().filter(|text| !text.is_empty()).map(Into::into)
}

fn trace_id(of: &Json) -> Result<TraceId> {
    let digits = of["traceId"].as_str().context("no trace id")?;
    Ok(TraceId(u128::from_str_radix(digits, 16)?))
}

fn span_id(id: &Json) -> Result<SpanId> {
    Ok(SpanId(u64::from_str_radix(id.as_str().context("no span id")?, 16)?))
}

fn time(nanos: &Json) -> Result<Timestamp> {
    Ok(Timestamp::from_nanos(int(nanos).context("no time")?))
}

/// Integers of 64 bits are strings in OTLP/JSON.
fn int(value: &Json) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

fn items(list: &Json) -> impl Iterator<Item = &Json> {
    list.as_array().into_iter().flatten()
}
