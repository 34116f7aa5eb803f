//! Parses trace contexts from annotations, which any user can write: strictly by W3C, so that a
//! doubtful value makes no link.

use serde::{Deserialize, Serialize};

use crate::trace::model::{
    observation::Carrier,
    span::{SpanId, TraceId},
    trace_state,
};

/// The flag `sampled`, the only one of which every version knows the meaning.
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
    /// Parses a carrier by [W3C Trace Context](https://www.w3.org/TR/trace-context/#traceparent-header):
    /// a `traceparent` has exactly 55 characters in version 00, and
    /// [a later version](https://www.w3.org/TR/trace-context/#versioning-of-traceparent) may append `-`
    /// and more.
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
        let version = hexadecimal(version)?;
        match (version, rest) {
            (0xff, _) => return Err(InvalidContext::Version),
            (_, []) => {}
            (0, _) => return Err(InvalidContext::Length),
            (_, [b'-', ..]) => {}
            _ => return Err(InvalidContext::Format),
        }
        let trace_id = hexadecimal(trace)?;
        let span_id = hexadecimal(span)?;
        let flags =
            u8::try_from(hexadecimal(flags)?).map_err(|_too_long| InvalidContext::Format)?;
        if trace_id == 0 {
            return Err(InvalidContext::ZeroTraceId);
        }
        Ok(Self {
            trace_id: TraceId(trace_id),
            span_id: match u64::try_from(span_id) {
                Ok(0) | Err(_) => return Err(InvalidContext::ZeroSpanId),
                Ok(id) => SpanId(id),
            },
            flags: if version == 0 { flags } else { flags & SAMPLED },
            trace_state: carrier.tracestate.as_deref().and_then(trace_state::parse),
            baggage: carrier.baggage.clone(),
        })
    }

    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED == SAMPLED
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

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn parse(traceparent: &str) -> Result<TraceContext, InvalidContext> {
        TraceContext::parse(&Carrier { traceparent: traceparent.into(), ..Carrier::default() })
    }

    #[test]
    fn valid_traceparent_gives_its_ids_and_flags() {
        for (version, flags, rest, expected) in [
            ("00", "00", "", 0x00),
            ("00", "01", "", 0x01),
            ("00", "02", "", 0x02),
            ("00", "03", "", 0x03),
            ("00", "fe", "", 0xfe),
            ("00", "ff", "", 0xff),
            // A later version may add fields, and give the other flags another meaning.
            ("01", "00", "", 0x00),
            ("01", "01", "-", 0x01),
            ("01", "03", "-0", 0x01),
            ("cc", "ff", "-new fields", 0x01),
            ("fe", "fe", "-UPPER-é", 0x00),
        ] {
            let text = format!("{version}-{TRACE}-{SPAN}-{flags}{rest}");
            let context = parse(&text).unwrap();
            assert_eq!(context.trace_id.to_string(), TRACE, "{text}");
            assert_eq!(context.span_id.to_string(), SPAN, "{text}");
            assert_eq!(context.flags, expected, "{text}");
            assert_eq!(context.is_sampled(), expected & 1 == 1, "{text}");
        }
    }

    #[test]
    fn ids_need_only_one_bit() {
        for trace in ["00000000000000000000000000000001", "80000000000000000000000000000000"] {
            for span in ["0000000000000001", "8000000000000000", "ffffffffffffffff"] {
                let context = parse(&format!("00-{trace}-{span}-01")).unwrap();
                assert_eq!(context.trace_id.to_string(), trace);
                assert_eq!(context.span_id.to_string(), span);
            }
        }
    }

    #[test]
    fn traceparent_that_breaks_the_specification_is_invalid() {
        use InvalidContext::{Format, Length, Version, ZeroSpanId, ZeroTraceId};
        let with = |version: &str, trace: &str, span: &str, flags: &str| {
            format!("{version}-{trace}-{span}-{flags}")
        };
        let good = with("00", TRACE, SPAN, "01");
        let zeros = "0".repeat(32);
        for (text, expected) in [
            (String::new(), Length),
            (with("00", "1", "1", "01"), Length),
            (with("00", TRACE, SPAN, "0"), Length),
            // More than version 00 has.
            (format!("{good}-"), Length),
            (format!("{good}-01"), Length),
            (format!("{good}."), Length),
            (format!("{good} "), Length),
            (format!("{good}\n"), Length),
            // Versions.
            (with("ff", TRACE, SPAN, "01"), Version),
            (format!("{}-more", with("ff", TRACE, SPAN, "01")), Version),
            (with("0", TRACE, SPAN, "01"), Length),
            (with("000", TRACE, SPAN, "01"), Format),
            (with("0000", TRACE, SPAN, "01"), Format),
            (with("0x", TRACE, SPAN, "01"), Format),
            (with(".0", TRACE, SPAN, "01"), Format),
            (with("CC", TRACE, SPAN, "01"), Format),
            (format!("{}.more", with("cc", TRACE, SPAN, "01")), Format),
            (format!("{}0", with("cc", TRACE, SPAN, "01")), Format),
            // Trace ids.
            (with("00", &zeros, SPAN, "01"), ZeroTraceId),
            (with("cc", &zeros, SPAN, "01"), ZeroTraceId),
            (with("00", &TRACE.to_uppercase(), SPAN, "01"), Format),
            (with("00", &TRACE.replace('c', "."), SPAN, "01"), Format),
            (with("00", &TRACE.replacen('0', "+", 1), SPAN, "01"), Format),
            (with("00", TRACE.trim_start_matches('0'), SPAN, "01"), Length),
            (with("00", &format!("{TRACE}0"), SPAN, "01"), Format),
            // Span ids.
            (with("00", TRACE, &"0".repeat(16), "01"), ZeroSpanId),
            (with("00", TRACE, &SPAN.to_uppercase(), "01"), Format),
            (with("00", TRACE, &SPAN.replacen('b', "g", 1), "01"), Format),
            (with("00", TRACE, SPAN.trim_start_matches('b'), "01"), Length),
            (with("00", TRACE, &format!("{SPAN}0"), "01"), Format),
            // Flags.
            (with("00", TRACE, SPAN, "1"), Length),
            (with("00", TRACE, SPAN, "001"), Length),
            (with("00", TRACE, SPAN, ".1"), Format),
            (with("00", TRACE, SPAN, "0A"), Format),
            (with("00", TRACE, SPAN, "0\0"), Format),
            (with("00", TRACE, SPAN, "-1"), Format),
            // Separators and whitespace.
            (good.replace('-', "_"), Format),
            (good.replace('-', " "), Format),
            (format!(" {good}"), Format),
            (format!("\t{good}"), Format),
            (good.replacen("00", "００", 1), Format),
        ] {
            assert_eq!(parse(&text), Err(expected), "{text:?}");
        }
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
