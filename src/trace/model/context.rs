//! Trace contexts, as annotations and fields of objects carry them.

use serde::{Deserialize, Serialize};
use spanlink_propagation::{InvalidTraceparent, Traceparent, tracestate};

use crate::trace::model::{
    observation::Carrier,
    span::{SpanId, TraceId},
};

/// The flag `sampled`.
const SAMPLED: u8 = 1;

/// A strictly parsed `traceparent`, with its `tracestate`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct TraceContext {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    /// All eight flag bits; bit 0 is `sampled`. Of versions above 00 only that one is read.
    pub flags: u8,
    /// As written, shortened where it is too long; `None` where it is invalid, which does not
    /// invalidate the `traceparent`.
    pub trace_state: Option<Box<str>>,
    /// Baggage entries that the configuration exports as attributes.
    pub baggage: Vec<(Box<str>, Box<str>)>,
}

impl TraceContext {
    /// Parses a carrier by [W3C Trace Context](https://www.w3.org/TR/trace-context/).
    ///
    /// # Errors
    /// When the `traceparent` differs from the specification in any way.
    pub fn parse(carrier: &Carrier) -> Result<Self, InvalidTraceparent> {
        let traceparent: Traceparent = carrier.traceparent.parse()?;
        Ok(Self {
            trace_id: TraceId(u128::from_be_bytes(traceparent.trace_id.to_bytes())),
            span_id: SpanId(u64::from_be_bytes(traceparent.span_id.to_bytes())),
            flags: traceparent.flags.to_u8(),
            trace_state: carrier.tracestate.as_deref().and_then(tracestate::parse),
            baggage: carrier.baggage.clone(),
        })
    }

    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED == SAMPLED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    #[test]
    fn parsed_context_has_the_ids_in_the_order_written() {
        let carrier =
            Carrier { traceparent: format!("00-{TRACE}-{SPAN}-03").into(), ..Carrier::default() };
        let context = TraceContext::parse(&carrier).unwrap();
        assert_eq!(context.trace_id.to_string(), TRACE);
        assert_eq!(context.span_id.to_string(), SPAN);
        assert_eq!((context.flags, context.is_sampled()), (3, true));
    }

    #[test]
    fn invalid_tracestate_is_dropped_and_the_context_stays() {
        let with = |state: &str| {
            let carrier = Carrier {
                traceparent: format!("00-{TRACE}-{SPAN}-01").into(),
                tracestate: Some(state.into()),
                ..Carrier::default()
            };
            TraceContext::parse(&carrier).unwrap().trace_state
        };
        assert_eq!(with("vendor=1,other@t=x").as_deref(), Some("vendor=1,other@t=x"));
        assert_eq!(with("@vendor=1,other=2"), None);
        assert_eq!(with(""), None);
    }
}
