//! Compares the spans of two daemons that saw the same changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use spanlink::trace::model::{
    span::{Role, Span, SpanEvent, SpanId},
    time::Timestamp,
};

pub(crate) type Spans = BTreeMap<SpanId, Span>;

/// Whether an attribute depends on times of receipt, as the slowest child does.
fn is_by_receipt(key: &str) -> bool {
    key == "spanlink.time.source" || key.starts_with("spanlink.slowest.")
}

/// Whether the span is an observe phase. It exists only over one second, by times of receipt.
fn is_observing(span: &Span) -> bool {
    span.role == Role::Phase && &*span.name == "observe"
}

/// The spans by id, and the number of repeats. A repeat must be identical.
pub(crate) fn by_id(emitted: impl IntoIterator<Item = Span>) -> Result<(Spans, usize)> {
    let (mut spans, mut repeats) = (BTreeMap::new(), 0);
    for span in emitted.into_iter().filter(|span| !is_observing(span)) {
        let again = span.clone();
        if let Some(before) = spans.insert(span.span_id, span) {
            ensure!(before == again, "exported {before:#?}, then {again:#?}");
            repeats += 1;
        }
    }
    Ok((spans, repeats))
}

/// A span as text without its times.
fn same(span: &Span) -> String {
    let attributes: BTreeMap<&str, String> = span
        .attributes
        .iter()
        .filter(|attribute| !is_by_receipt(&attribute.key))
        .map(|attribute| (&*attribute.key, format!("{:?}", attribute.value)))
        .collect();
    let event = |event: &SpanEvent| format!("{} {:?}", event.name, event.attributes);
    let events = span.events.iter().filter(|event| event.name != "observed");
    let events: Vec<String> = events.map(event).collect();
    format!(
        "{} {} in {} under {:?}, {:?}, {attributes:#?}, {:#?}, {events:#?}",
        span.service, span.name, span.trace_id, span.parent, span.status, span.links
    )
}

fn apart(a: Timestamp, b: Timestamp) -> Duration {
    a.since(b).max(b.since(a))
}

/// Checks that both have the same spans, with the same ids, parents, links, status, events and
/// attributes. Returns the largest difference between their times, and the span with it.
pub(crate) fn how_far_apart<'a>(one: &'a Spans, other: &Spans) -> Result<(Duration, &'a Span)> {
    let names = |spans: &Spans, but: &Spans| -> BTreeSet<String> {
        let more = spans.iter().filter(|(id, _)| !but.contains_key(id));
        more.map(|(_, span)| same(span)).collect()
    };
    let (missing, more) = (names(one, other), names(other, one));
    ensure!(missing.is_empty() && more.is_empty(), "missing: {missing:#?}\nmore: {more:#?}");
    let mut furthest = None;
    for (id, span) in one {
        let twin = &other[id];
        let (expected, actual) = (same(span), same(twin));
        ensure!(expected == actual, "expected {expected}\nexported {actual}");
        let apart = apart(span.start, twin.start).max(apart(span.end, twin.end));
        if furthest.is_none_or(|(most, _)| most < apart) {
            furthest = Some((apart, span));
        }
    }
    furthest.context("no span was exported")
}
