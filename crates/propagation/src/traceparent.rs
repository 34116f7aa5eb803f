//! Reads and writes a `traceparent`, strictly by W3C: any user can write annotations, and a doubtful
//! value must make no link.

use std::{fmt, str::FromStr};

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId};

use crate::tracestate;

/// The flag `sampled`, the only one that every version has.
const SAMPLED: u8 = 1;
/// The flag `random` of [level 2](https://www.w3.org/TR/trace-context-2/#random-trace-id-flag).
const RANDOM: u8 = 2;
/// The length of version 00.
const LENGTH: usize = 55;

/// A valid `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traceparent {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    /// All eight bits as written; of versions above 00 only `sampled`.
    pub flags: TraceFlags,
}

/// Why a `traceparent` is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTraceparent {
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

impl FromStr for Traceparent {
    type Err = InvalidTraceparent;

    /// Parses by [W3C Trace Context](https://www.w3.org/TR/trace-context/#traceparent-header): exactly 55
    /// characters in version 00, and
    /// [a later version](https://www.w3.org/TR/trace-context/#versioning-of-traceparent) may append `-`
    /// and more.
    fn from_str(text: &str) -> Result<Self, InvalidTraceparent> {
        use InvalidTraceparent::{Format, Length, Version, ZeroSpanId, ZeroTraceId};
        let (core, rest) = text.as_bytes().split_at_checked(LENGTH).ok_or(Length)?;
        let fields: Vec<&[u8]> = core.split(|byte| *byte == b'-').collect();
        let [version, trace_id, span_id, flags] = *fields.as_slice() else { return Err(Format) };
        let [version] = hexadecimal::<1>(version)?;
        let trace_id = hexadecimal::<16>(trace_id)?;
        let span_id = hexadecimal::<8>(span_id)?;
        let [flags] = hexadecimal::<1>(flags)?;
        match (version, rest) {
            (0xff, _) => return Err(Version),
            (_, []) | (1.., [b'-', ..]) => {}
            (0, _) => return Err(Length),
            _ => return Err(Format),
        }
        if trace_id == [0; 16] {
            return Err(ZeroTraceId);
        }
        if span_id == [0; 8] {
            return Err(ZeroSpanId);
        }
        Ok(Self {
            trace_id: TraceId::from_bytes(trace_id),
            span_id: SpanId::from_bytes(span_id),
            flags: TraceFlags::new(if version == 0 { flags } else { flags & SAMPLED }),
        })
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace_id, self.span_id, self.flags.to_u8())
    }
}

impl Traceparent {
    /// `None` for an invalid span context. Only flags that are defined are written.
    pub fn from_span_context(context: &SpanContext) -> Option<Self> {
        context.is_valid().then(|| Self {
            trace_id: context.trace_id(),
            span_id: context.span_id(),
            flags: defined(context.trace_flags()),
        })
    }

    /// The span context of a remote span, with the `tracestate` beside it. One that is invalid does not
    /// invalidate the context; it is left out.
    pub fn span_context(self, tracestate: Option<&str>) -> SpanContext {
        let state = tracestate.and_then(tracestate::to_trace_state).unwrap_or_default();
        SpanContext::new(self.trace_id, self.span_id, defined(self.flags), true, state)
    }
}

fn defined(flags: TraceFlags) -> TraceFlags {
    TraceFlags::new(flags.to_u8() & (SAMPLED | RANDOM))
}

fn hexadecimal<const N: usize>(digits: &[u8]) -> Result<[u8; N], InvalidTraceparent> {
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return Err(InvalidTraceparent::Format);
    }
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(InvalidTraceparent::Format),
    };
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn parse(text: &str) -> Result<Traceparent, InvalidTraceparent> {
        text.parse()
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
            assert_eq!(context.flags.to_u8(), expected, "{text}");
            assert_eq!(context.flags.is_sampled(), expected & 1 == 1, "{text}");
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
        use InvalidTraceparent::{Format, Length, Version, ZeroSpanId, ZeroTraceId};
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
    fn written_traceparent_reads_back_with_its_defined_flags() {
        for (flags, expected) in [("00", "00"), ("01", "01"), ("03", "03"), ("fe", "02")] {
            let read = parse(&format!("00-{TRACE}-{SPAN}-{flags}")).unwrap();
            let written = Traceparent::from_span_context(&read.span_context(None)).unwrap();
            assert_eq!(written.to_string(), format!("00-{TRACE}-{SPAN}-{expected}"));
            assert_eq!(parse(&written.to_string()), Ok(written));
        }
        assert_eq!(Traceparent::from_span_context(&SpanContext::NONE), None);
    }
}
