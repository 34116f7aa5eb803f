//! Why a causal tree may lack something.

use std::fmt;

use crate::trace::model::span::TraceId;

/// Something that may be missing from a causal tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Incomplete {
    /// The backend returned a part of a trace, with its explanation.
    PartialTrace { trace_id: TraceId, message: String },
    /// A span links to a trace that the backend does not have.
    TraceNotFound { trace_id: TraceId },
    /// A trace could not be read.
    TraceNotRead { trace_id: TraceId, error: String },
    /// A search failed, or the backend cannot answer it.
    SearchFailed { error: String },
    /// A search was answered only in part, with the reason.
    SearchLimited { message: String },
    /// Further traces belong to the tree.
    TooManyTraces { max: usize },
    /// Further links lead away from the traces that were read.
    TooManyHops { max: usize },
}

impl Incomplete {
    /// Its name in `--json`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::PartialTrace { .. } => "partial_trace",
            Self::TraceNotFound { .. } => "trace_not_found",
            Self::TraceNotRead { .. } => "trace_not_read",
            Self::SearchFailed { .. } => "search_failed",
            Self::SearchLimited { .. } => "search_limited",
            Self::TooManyTraces { .. } => "too_many_traces",
            Self::TooManyHops { .. } => "too_many_hops",
        }
    }
}

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PartialTrace { trace_id, message } if message.is_empty() => {
                write!(f, "the backend returned only a part of trace {trace_id}")
            }
            Self::PartialTrace { trace_id, message } => {
                write!(f, "the backend returned only a part of trace {trace_id}: {message}")
            }
            Self::TraceNotFound { trace_id } => write!(
                f,
                "trace {trace_id} is not in the backend: it was not sampled, is older than the \
                 backend keeps, or belongs to another tenant"
            ),
            Self::TraceNotRead { trace_id, error } => {
                write!(f, "cannot read trace {trace_id}: {error}")
            }
            Self::SearchFailed { error } => write!(f, "a search for linked traces failed: {error}"),
            Self::SearchLimited { message } => {
                write!(f, "a search was answered in part: {message}")
            }
            Self::TooManyTraces { max } => write!(
                f,
                "the limit of {max} was reached, and further traces belong to this tree \
                 (--traces-max raises it)"
            ),
            Self::TooManyHops { max } => {
                write!(f, "links lead further than {max} traces away; those were not followed")
            }
        }
    }
}
