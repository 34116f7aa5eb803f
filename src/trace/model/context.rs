//! Parses trace contexts from annotations, which any user can write: strictly by W3C, so that a
//! doubtful value makes no link.

use serde::{Deserialize, Serialize};

use crate::trace::model::{
    observation::Carrier,
    span::{SpanId, TraceId},
};

/// Longer tracestates, in bytes, are dropped. Propagators
/// [should pass on at least 512 characters](https://www.w3.org/TR/trace-context/#tracestate-limits);
/// every link to the context stores a copy, so no more are passed on.
pub(crate) const MAX_TRACE_STATE: usize = 512;

/// A strictly parsed `traceparent`, with its `tracestate` as written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct TraceContext {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    /// All eight flag bits; bit 0 is `sampled`.
    pub flags: u8,
    pub trace_state: Option<Box<str>>,
    /// Baggage entries that the configuration exports as attributes.
    pub baggage: Vec<(Box<str>, Box<str>)>,
}

/// Why a `traceparent` is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidContext {
    #[error("a traceparent has 55 characters")]
    Length,
    #[error("a traceparent is VERSION-TRACE-SPAN-FLAGS in lower-case hexadecimal")]
    Format,
    #[error("version ff is forbidden")]
    Version,
    #[error("a trace id of zeros is invalid")]
    ZeroTraceId,
    #[error("a span id of zeros is invalid")]
    ZeroSpanId,
}

impl TraceContext {
    /// By [W3C Trace Context](https://www.w3.org/TR/trace-context/#traceparent-header): exactly 55
    /// characters in version 00; a later version may append `-` and more.
    ///
    /// # Errors
    /// When the value differs from the specification in any way.
    pub fn parse(carrier: &Carrier) -> Result<Self, InvalidContext> {
        let bytes = carrier.traceparent.as_bytes();
        let (core, rest) = bytes.split_at_checked(55).ok_or(InvalidContext::Length)?;
        let fields: Vec<&[u8]> = core.split(|byte| *byte == b'-').collect();
        let [version, trace, span, flags] = *fields.as_slice() else {
            return Err(InvalidContext::Format);
        };
        if (version.len(), trace.len(), span.len(), flags.len()) != (2, 32, 16, 2) {
            return Err(InvalidContext::Format);
        }
        match (hexadecimal(version)?, rest) {
            (0xff, _) => return Err(InvalidContext::Version),
            (_, []) => {}
            (0, _) => return Err(InvalidContext::Length),
            (_, [b'-', ..]) => {}
            _ => return Err(InvalidContext::Format),
        }
        let trace_id = hexadecimal(trace)?;
        let span_id = hexadecimal(span)?;
        let flags = hexadecimal(flags)?;
        if trace_id == 0 {
            return Err(InvalidContext::ZeroTraceId);
        }
        Ok(Self {
            trace_id: TraceId(trace_id),
            span_id: match u64::try_from(span_id) {
                Ok(0) | Err(_) => return Err(InvalidContext::ZeroSpanId),
                Ok(id) => SpanId(id),
            },
            flags: u8::try_from(flags).map_err(|_too_long| InvalidContext::Format)?,
            trace_state: carrier.tracestate.clone().filter(|state| is_trace_state(state)),
            baggage: carrier.baggage.clone(),
        })
    }

    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }
}

fn hexadecimal(digits: &[u8]) -> Result<u128, InvalidContext> {
    digits.iter().try_fold(0_u128, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return Err(InvalidContext::Format),
        };
        Ok(value << 4 | u128::from(digit))
    })
}

/// By [W3C Trace Context](https://www.w3.org/TR/trace-context/#tracestate-header): at most 32
/// `key=value` members of printable ASCII. An invalid one is dropped; the context remains.
fn is_trace_state(state: &str) -> bool {
    fn is_key(key: &str) -> bool {
        !key.is_empty()
            && key.len() <= 256
            && key
                .bytes()
                .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@'))
    }
    fn is_value(value: &str) -> bool {
        value.len() <= 256
            && !value.ends_with(' ')
            && value.bytes().all(|b| (0x20..=0x7e).contains(&b) && b != b',' && b != b'=')
    }
    let members: Vec<&str> =
        state.split(',').map(str::trim).filter(|member| !member.is_empty()).collect();
    !members.is_empty()
        && state.len() <= MAX_TRACE_STATE
        && members.len() <= 32
        && members.iter().all(|member| {
            member.split_once('=').is_some_and(|(key, value)| is_key(key) && is_value(value))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn parse(traceparent: &str) -> Result<TraceContext, InvalidContext> {
        TraceContext::parse(&Carrier { traceparent: traceparent.into(), ..Carrier::default() })
    }

    #[test]
    fn a_valid_traceparent_gives_its_ids_and_flags() {
        let context = parse(GOOD).unwrap();
        assert_eq!(context.trace_id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.span_id.to_string(), "00f067aa0ba902b7");
        assert!(context.is_sampled());
        assert_eq!(parse(&GOOD.replace("-01", "-03")).unwrap().flags, 3);
        assert!(!parse(&GOOD.replace("-01", "-00")).unwrap().is_sampled());
    }

    #[test]
    fn a_later_version_may_append_but_only_behind_a_dash() {
        assert!(parse(&format!("01{}-extra", GOOD.trim_start_matches("00"))).is_ok());
        assert_eq!(
            parse(&format!("01{}x", GOOD.trim_start_matches("00"))),
            Err(InvalidContext::Format)
        );
        assert_eq!(parse(&format!("{GOOD}-x")), Err(InvalidContext::Length));
    }

    #[test]
    fn context_that_violates_the_specification_is_invalid() {
        for (text, error) in [
            ("", InvalidContext::Length),
            ("00-1-1-01", InvalidContext::Length),
            (
                "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
                InvalidContext::ZeroTraceId,
            ),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", InvalidContext::ZeroSpanId),
            ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", InvalidContext::Version),
            ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", InvalidContext::Format),
            ("00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", InvalidContext::Format),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0\0", InvalidContext::Format),
            (" 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0", InvalidContext::Format),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-", InvalidContext::Length),
            ("００-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", InvalidContext::Format),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn a_bad_tracestate_is_dropped_and_the_context_stays() {
        let with = |state: &str| {
            let carrier = Carrier {
                traceparent: GOOD.into(),
                tracestate: Some(state.into()),
                ..Carrier::default()
            };
            TraceContext::parse(&carrier).unwrap().trace_state
        };
        assert_eq!(with("vendor=1,other@t=x").as_deref(), Some("vendor=1,other@t=x"));
        assert_eq!(with("no value"), None);
        assert_eq!(with("UPPER=1"), None);
        assert_eq!(with(""), None);
    }
}
