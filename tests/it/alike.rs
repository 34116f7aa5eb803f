//! What two daemons tell of the same changes, compared.

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

/// What depends on when something was received, as times do: so does what took longest.
fn is_by_receipt(key: &str) -> bool {
    key == "spanlink.time.source" || key.starts_with("spanlink.slowest.")
}

/// It is an event, or over a second a step: as it was received.
fn is_observing(span: &Span) -> bool {
    span.role == Role::Phase && &*span.name == "observe"
}

/// By id, and how many were told again. A repeat is the same to the last bit.
pub(crate) fn by_id(told: impl IntoIterator<Item = Span>) -> Result<(Spans, usize)> {
    let (mut spans, mut repeats) = (BTreeMap::new(), 0);
    for span in told.into_iter().filter(|span| !is_observing(span)) {
        let again = span.clone();
        if let Some(before) = spans.insert(span.span_id, span) {
            ensure!(before == again, "told {before:#?}, then {again:#?}");
            repeats += 1;
        }
    }
    Ok((spans, repeats))
}

/// All but the times.
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

/// The same spans with the same ids, parents, links, status, events and attributes. How far their
/// times are apart at most, and in which span.
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
        let (expected, told) = (same(span), same(twin));
        ensure!(expected == told, "expected {expected}\ntold {told}");
        let apart = apart(span.start, twin.start).max(apart(span.end, twin.end));
        if furthest.is_none_or(|(most, _)| most < apart) {
            furthest = Some((apart, span));
        }
    }
    furthest.context("nothing was told")
}
