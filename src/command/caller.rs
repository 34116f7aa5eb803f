//! The trace context of the environment, as
//! [OpenTelemetry's environment carriers](https://opentelemetry.io/docs/specs/otel/context/env-carriers/)
//! define it.

use std::env;

use spanlink_propagation::InvalidTraceparent;

use crate::trace::model::{context::TraceContext, observation::Carrier};

pub(super) const TRACEPARENT: &str = "TRACEPARENT";
pub(super) const TRACESTATE: &str = "TRACESTATE";
const BAGGAGE: &str = "BAGGAGE";

/// Longer baggage is not written into annotations:
/// <https://www.w3.org/TR/baggage/#limits>.
const BAGGAGE_LENGTH_MAX: usize = 8192;

/// A valid context, with its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CallerContext {
    pub(super) traceparent: String,
    pub(super) context: TraceContext,
}

impl CallerContext {
    /// The context of the environment; `None` where there is none.
    ///
    /// # Errors
    /// When `TRACEPARENT` is invalid.
    pub(super) fn from_environment() -> Result<Option<Self>, InvalidTraceparent> {
        let traceparent = env::var(TRACEPARENT).unwrap_or_default();
        if traceparent.is_empty() {
            return Ok(None);
        }
        Self::parse(&traceparent, env::var(TRACESTATE).ok().as_deref()).map(Some)
    }

    /// Checks a `traceparent` by W3C's rules. An invalid `tracestate` is left out.
    pub(super) fn parse(
        traceparent: &str,
        tracestate: Option<&str>,
    ) -> Result<Self, InvalidTraceparent> {
        let carrier = Carrier {
            traceparent: traceparent.into(),
            tracestate: tracestate.map(Into::into),
            ..Carrier::default()
        };
        let context = TraceContext::parse(&carrier)?;
        Ok(Self { traceparent: traceparent.to_owned(), context })
    }

    pub(super) fn tracestate(&self) -> Option<String> {
        self.context.trace_state.as_deref().map(str::to_owned)
    }
}

/// The baggage of the environment; `None` where there is none, or where it is too long or has
/// characters that a header cannot have.
pub(super) fn baggage() -> Option<String> {
    let baggage = env::var(BAGGAGE).ok()?;
    let is_valid = (1..=BAGGAGE_LENGTH_MAX).contains(&baggage.len())
        && baggage.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
    is_valid.then_some(baggage)
}
