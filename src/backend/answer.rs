//! What a backend is asked for, and what it answers.

use std::collections::BTreeSet;

use crate::{
    causal_tree::StoredSpan,
    trace::model::{span::TraceId, time::Timestamp},
};

/// The time that is searched for traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub from: Timestamp,
    pub to: Timestamp,
}

/// A trace as the backend returned it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReadTrace {
    /// Empty if the backend does not have the trace.
    pub spans: Vec<StoredSpan>,
    /// The backend's explanation, if this is only a part of the trace.
    pub partial: Option<String>,
}

/// The traces that a search found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub traces: BTreeSet<TraceId>,
    /// Why there may be more.
    pub limited: BTreeSet<String>,
}

/// Traces that one search returns. With more, the answer is marked as limited.
pub(super) const SEARCH_TRACES_MAX: usize = 100;
