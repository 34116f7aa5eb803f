//! A causal tree as one JSON document, for other programs.

use serde_json::{Map, Value as Json, json};

use super::{
    assemble::{CausalTree, Content, Node},
    limits::Incomplete,
    stored_span::{Emitter, StoredSpan, link_role},
    summary::Summary,
    text::UiLink,
};
use crate::trace::{
    model::span::{Link, SpanStatus, Value},
    spans::attributes,
};

/// The tree as JSON: `spans` has every node in the order of the printed tree, with its `depth` and its
/// `cause`. It is flat because a tree may be deeper than parsers allow.
pub fn to_json(tree: &CausalTree, incomplete: &[Incomplete], ui_link: &UiLink<'_>) -> Json {
    let summary = Summary::new(tree);
    let nodes = tree.roots.iter().flat_map(|root| tree.walk(*root));
    let spans: Vec<Json> = nodes
        .filter_map(|(index, depth)| Some(node_json(tree, index, tree.nodes.get(index)?, depth)))
        .collect();
    let traces: Vec<Json> = summary
        .traces
        .iter()
        .map(|trace_id| {
            json!({
                "trace_id": trace_id.to_string(),
                "asked": tree.asked.contains(trace_id),
                "url": ui_link(*trace_id),
            })
        })
        .collect();
    let incomplete: Vec<Json> = incomplete
        .iter()
        .map(|each| json!({ "reason": each.name(), "message": each.to_string() }))
        .collect();
    let slowest = summary.slowest.as_ref().map(|slowest| {
        json!({
            "kind": slowest.kind,
            "name": slowest.name,
            "phase": slowest.phase,
            "reason": slowest.reason,
            "duration_seconds": slowest.duration.map(|duration| duration.as_secs_f64()),
        })
    });
    json!({
        "complete": incomplete.is_empty(),
        "incomplete": incomplete,
        "traces": traces,
        "summary": {
            "spans": summary.spans,
            "duration_seconds": summary.extent.as_secs_f64(),
            "outcomes": summary.outcomes,
            "in_progress": summary.open,
            "slowest": slowest,
        },
        "spans": spans,
    })
}

fn node_json(tree: &CausalTree, index: usize, node: &Node, depth: usize) -> Json {
    let mut fields = Map::new();
    fields.insert("depth".to_owned(), json!(depth));
    fields.insert("trace_id".to_owned(), json!(node.trace_id().to_string()));
    let cause = node.parent.and_then(|parent| tree.nodes.get(parent));
    fields.insert("cause".to_owned(), cause.map_or(Json::Null, |cause| cause_json(node, cause)));
    if node.was_circular {
        fields.insert("circular".to_owned(), json!(true));
    }
    match &node.content {
        Content::Span(stored) => add_span(&mut fields, tree, index, stored),
        Content::MissingSpan { span_id, owner, .. } => {
            fields.insert("missing".to_owned(), json!(true));
            fields.insert("span_id".to_owned(), json!(span_id.to_string()));
            fields.insert("owner".to_owned(), json!(owner));
        }
        Content::MissingTrace(_) => {
            fields.insert("missing".to_owned(), json!(true));
        }
    }
    Json::Object(fields)
}

fn cause_json(node: &Node, cause: &Node) -> Json {
    let span_id = match &cause.content {
        Content::Span(stored) => Some(stored.span.span_id),
        Content::MissingSpan { span_id, .. } => Some(*span_id),
        Content::MissingTrace(_) => None,
    };
    let stored = node.span();
    json!({
        "trace_id": cause.trace_id().to_string(),
        "span_id": span_id.map(|id| id.to_string()),
        "via": node.via.name(),
        "rule": stored.and_then(|stored| stored.text(attributes::CAUSE_RULE)),
        "ambiguous": stored.is_some_and(|stored| stored.flag(attributes::CAUSE_AMBIGUOUS)),
    })
}

fn add_span(fields: &mut Map<String, Json>, tree: &CausalTree, index: usize, stored: &StoredSpan) {
    let span = &stored.span;
    let mut add = |key: &str, value: Json| drop(fields.insert(key.to_owned(), value));
    add("span_id", json!(span.span_id.to_string()));
    add("name", json!(span.name));
    add("service", json!(span.service));
    add("start", json!(span.start.to_string()));
    add("end", json!(span.end.to_string()));
    add("duration_seconds", json!(span.end.since(span.start).as_secs_f64()));
    if let SpanStatus::Error(message) = &span.status {
        add("error", json!(message));
    }
    if stored.emitter == Emitter::Spanlink {
        add("role", json!(format!("{:?}", span.role).to_lowercase()));
    }
    if stored.is_change() {
        let object = &span.object;
        add(
            "object",
            json!({
                "kind": object.kind.to_string(),
                "namespace": object.namespace,
                "name": object.name,
                "cluster": stored.cluster,
            }),
        );
        add("outcome", json!(tree.outcome(index)));
    }
    let attributes: Map<String, Json> = span
        .attributes
        .iter()
        .map(|each| (each.key.to_string(), value_json(&each.value)))
        .collect();
    add("attributes", Json::Object(attributes));
    if !span.links.is_empty() {
        add("links", span.links.iter().map(link_json).collect());
    }
}

fn link_json(link: &Link) -> Json {
    json!({
        "trace_id": link.trace_id.to_string(),
        "span_id": link.span_id.to_string(),
        "role": link_role(link),
    })
}

fn value_json(value: &Value) -> Json {
    match value {
        Value::Text(text) => json!(text),
        Value::Int(int) => json!(int),
        Value::Bool(bool) => json!(bool),
        Value::Texts(texts) => json!(texts),
    }
}
