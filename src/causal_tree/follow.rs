//! Which traces belong to the same causal tree: those that caused the spans of a trace, and searches
//! for those that it caused.

use std::collections::{BTreeMap, BTreeSet};

use super::stored_span::{Emitter, StoredSpan, link_role};
use crate::trace::{
    model::span::{Attribute, Link, TraceId},
    spans::attributes,
};

/// A search for traces that a backend can answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Search {
    /// Traces with a span that has all of these attributes. `k8s.cluster.name` is one of the resource.
    Attributes(BTreeMap<&'static str, String>),
    /// Traces with a span that links into this trace.
    LinksTo(TraceId),
}

/// Links of the spans of one trace by other emitters that are followed. A queue's consumer may link
/// to thousands of traces that have nothing to do with a change.
const OTHER_LINKS_MAX: usize = 16;

/// The traces that contain causes of these spans, which are those of one trace.
pub fn causing_traces(spans: &[StoredSpan]) -> BTreeSet<TraceId> {
    let mut traces = BTreeSet::new();
    let mut others: Vec<(bool, TraceId)> = Vec::new();
    for stored in spans {
        match stored.emitter {
            Emitter::Spanlink => {
                traces.extend(stored.origin());
                traces.extend(stored.causing_owner().map(|(trace_id, _)| trace_id));
                let contexts = stored.span.links.iter().filter(|link| is_fresh_context(link));
                traces.extend(contexts.map(|link| link.trace_id));
            }
            Emitter::Other => {
                let is_below = stored.span.parent.is_some();
                others.extend(stored.span.links.iter().map(|link| (is_below, link.trace_id)));
            }
        }
    }
    // Those of roots first: a span that continues an annotated trace begins a trace of its own.
    others.sort_unstable();
    others.dedup();
    traces.extend(others.into_iter().take(OTHER_LINKS_MAX).map(|(_, trace_id)| trace_id));
    traces.retain(|trace_id| spans.iter().all(|stored| stored.span.trace_id != *trace_id));
    traces
}

/// Whether the link is to an annotated span that was written for this change.
fn is_fresh_context(link: &Link) -> bool {
    link_role(link) == Some("context")
        && !Attribute::is_set(&link.attributes, attributes::LINK_STALE)
        && !Attribute::is_set(&link.attributes, attributes::LINK_REVIVED)
}

/// Searches that find the traces which this trace caused. `spans` is empty if the backend does not
/// have the trace: the annotated trace may have been sampled away.
pub fn searches_for_caused(trace_id: TraceId, spans: &[StoredSpan]) -> Vec<Search> {
    let by = |key: &'static str| Search::Attributes(BTreeMap::from([(key, trace_id.to_string())]));
    let changes = || spans.iter().filter(|stored| stored.is_change());
    if changes().next().is_none() || changes().any(|stored| stored.origin() == Some(trace_id)) {
        // An annotated trace; with the layout `joined` it contains the changes as well.
        return vec![
            by(attributes::ORIGIN_TRACE_ID),
            by(attributes::CONTEXT_TRACE_ID),
            Search::LinksTo(trace_id),
        ];
    }
    if changes().any(|stored| stored.origin().is_some()) {
        // The search for the origin finds the whole chain, also where it consists of many traces.
        return Vec::new();
    }
    vec![by(attributes::OWNER_TRACE_ID)]
}
