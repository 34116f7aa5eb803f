//! Decides what an answer means: accepted, later again, or never again.
//!
//! Pure. The rules are OTLP's: <https://opentelemetry.io/docs/specs/otlp/#otlpgrpc-response> and
//! <https://opentelemetry.io/docs/specs/otlp/#otlphttp-response>.

use std::{fmt, time::Duration};

use prost::Message as _;

/// What came of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Taken, but for as many spans as it says.
    Accepted {
        rejected: u64,
    },
    /// A gRPC status other than OK.
    Grpc {
        code: tonic::Code,
        /// There is one only if the receiver said that a retry makes sense, and when.
        retry_info: Option<Duration>,
    },
    /// An HTTP status other than 2xx.
    Http {
        status: u16,
        retry_after: Option<Duration>,
    },
    None(Silence),
}

/// Why there is no answer; the text is for people and names what they can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Silence {
    TimedOut(String),
    Failed(String),
}

/// What to do with a request after its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    /// The rest of the spans was taken: a partial success is never retried.
    PartlyAccepted {
        rejected: u64,
    },
    Retry {
        /// What the receiver asked for.
        after: Option<Duration>,
    },
    Refused {
        code: Code,
    },
}

/// An answer in one word, for logs and metrics: `UNAVAILABLE`, `503`, `timeout`, `connection`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Ok,
    Grpc(tonic::Code),
    Http(u16),
    Timeout,
    Connection,
}

impl Answer {
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Accepted { rejected: 0 } => Verdict::Accepted,
            Self::Accepted { rejected } => Verdict::PartlyAccepted { rejected: *rejected },
            Self::Grpc { code, retry_info } if grpc_retryable(*code, retry_info.is_some()) => {
                Verdict::Retry { after: *retry_info }
            }
            Self::Http { status: 429 | 502 | 503 | 504, retry_after } => {
                Verdict::Retry { after: *retry_after }
            }
            Self::Grpc { .. } | Self::Http { .. } => Verdict::Refused { code: self.code() },
            Self::None(_) => Verdict::Retry { after: None },
        }
    }

    pub fn code(&self) -> Code {
        match self {
            Self::Accepted { .. } => Code::Ok,
            Self::Grpc { code, .. } => Code::Grpc(*code),
            Self::Http { status, .. } => Code::Http(*status),
            Self::None(Silence::TimedOut(_)) => Code::Timeout,
            Self::None(Silence::Failed(_)) => Code::Connection,
        }
    }
}

fn grpc_retryable(code: tonic::Code, has_retry_info: bool) -> bool {
    use tonic::Code as C;
    match code {
        C::Cancelled
        | C::DeadlineExceeded
        | C::Aborted
        | C::OutOfRange
        | C::Unavailable
        | C::DataLoss => true,
        // A quota that comes back, or a request that is too large for ever: RetryInfo tells.
        C::ResourceExhausted => has_retry_info,
        C::Ok
        | C::Unknown
        | C::InvalidArgument
        | C::NotFound
        | C::AlreadyExists
        | C::PermissionDenied
        | C::FailedPrecondition
        | C::Unimplemented
        | C::Internal
        | C::Unauthenticated => false,
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use tonic::Code as C;
        f.write_str(match self {
            Self::Http(status) => return write!(f, "{status}"),
            Self::Timeout => "timeout",
            Self::Connection => "connection",
            Self::Ok | Self::Grpc(C::Ok) => "OK",
            Self::Grpc(C::Cancelled) => "CANCELLED",
            Self::Grpc(C::Unknown) => "UNKNOWN",
            Self::Grpc(C::InvalidArgument) => "INVALID_ARGUMENT",
            Self::Grpc(C::DeadlineExceeded) => "DEADLINE_EXCEEDED",
            Self::Grpc(C::NotFound) => "NOT_FOUND",
            Self::Grpc(C::AlreadyExists) => "ALREADY_EXISTS",
            Self::Grpc(C::PermissionDenied) => "PERMISSION_DENIED",
            Self::Grpc(C::ResourceExhausted) => "RESOURCE_EXHAUSTED",
            Self::Grpc(C::FailedPrecondition) => "FAILED_PRECONDITION",
            Self::Grpc(C::Aborted) => "ABORTED",
            Self::Grpc(C::OutOfRange) => "OUT_OF_RANGE",
            Self::Grpc(C::Unimplemented) => "UNIMPLEMENTED",
            Self::Grpc(C::Internal) => "INTERNAL",
            Self::Grpc(C::Unavailable) => "UNAVAILABLE",
            Self::Grpc(C::DataLoss) => "DATA_LOSS",
            Self::Grpc(C::Unauthenticated) => "UNAUTHENTICATED",
        })
    }
}

/// `google.rpc.Status`, as much of it as concerns us.
///
/// <https://github.com/googleapis/googleapis/blob/master/google/rpc/status.proto>
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Detail>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
struct Detail {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<RetryDelay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, prost::Message)]
struct RetryDelay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// The `RetryInfo` in a `grpc-status-details-bin`; zero where it names no time.
pub(super) fn retry_info(details: &[u8]) -> Option<Duration> {
    let status = RpcStatus::decode(details).ok()?;
    let is_retry_info = |detail: &&Detail| detail.type_url.ends_with("/google.rpc.RetryInfo");
    let detail = status.details.iter().find(is_retry_info)?;
    let delay = RetryInfo::decode(&*detail.value).ok()?.retry_delay.unwrap_or_default();
    let seconds = u64::try_from(delay.seconds).unwrap_or(0);
    let nanos = u32::try_from(delay.nanos).unwrap_or(0).min(999_999_999);
    Some(Duration::new(seconds, nanos))
}

/// `Retry-After` in seconds or as a date, which counts from the answer's own `Date`: the
/// receiver's clock need not agree with ours.
pub(super) fn retry_after(value: &str, date: Option<&str>) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = instant(value)?;
    let now = instant(date?)?;
    Some(Duration::try_from(until.duration_since(now)).unwrap_or_default())
}

fn instant(http_date: &str) -> Option<jiff::Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(http_date.trim()).ok()
}

/// Waits that grow with every failure in a row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(200);
    pub const MAX: Duration = Duration::from_secs(30);
    /// Whatever a receiver asks for: a mistake of its must not silence us for a day.
    pub const ASKED_MAX: Duration = Duration::from_mins(10);

    /// How long to wait after one more failure. `chance`, from 0 to 1, spreads many clients whom
    /// one outage has brought into step.
    pub fn next(&mut self, asked: Option<Duration>, chance: f64) -> Duration {
        let own = Self::FIRST.saturating_mul(1 << self.failures.min(10)).min(Self::MAX);
        self.failures = self.failures.saturating_add(1);
        match asked {
            // Never earlier than asked.
            Some(asked) if !asked.is_zero() => {
                asked.min(Self::ASKED_MAX).mul_f64(1.0 + chance / 10.0).min(Self::ASKED_MAX)
            }
            Some(_) | None => own.mul_f64(0.5 + chance / 2.0),
        }
    }

    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn grpc_answers_are_retried_exactly_as_otlp_says() {
        let word = |verdict| match verdict {
            Verdict::Retry { after } => format!("retry {after:?}"),
            other => format!("{other:?}"),
        };
        let lines: Vec<String> = (1..=16)
            .map(|code| {
                let code = tonic::Code::from_i32(code);
                let of = |retry_info| word(Answer::Grpc { code, retry_info }.verdict());
                let (without, with) = (of(None), of(Some(Duration::from_secs(7))));
                let with = if without == with { "the same".to_owned() } else { with };
                format!("{}: {without}; with RetryInfo: {with}", Code::Grpc(code))
            })
            .collect();
        expect![[r#"
            CANCELLED: retry None; with RetryInfo: retry Some(7s)
            UNKNOWN: Refused { code: Grpc(Unknown) }; with RetryInfo: the same
            INVALID_ARGUMENT: Refused { code: Grpc(InvalidArgument) }; with RetryInfo: the same
            DEADLINE_EXCEEDED: retry None; with RetryInfo: retry Some(7s)
            NOT_FOUND: Refused { code: Grpc(NotFound) }; with RetryInfo: the same
            ALREADY_EXISTS: Refused { code: Grpc(AlreadyExists) }; with RetryInfo: the same
            PERMISSION_DENIED: Refused { code: Grpc(PermissionDenied) }; with RetryInfo: the same
            RESOURCE_EXHAUSTED: Refused { code: Grpc(ResourceExhausted) }; with RetryInfo: retry Some(7s)
            FAILED_PRECONDITION: Refused { code: Grpc(FailedPrecondition) }; with RetryInfo: the same
            ABORTED: retry None; with RetryInfo: retry Some(7s)
            OUT_OF_RANGE: retry None; with RetryInfo: retry Some(7s)
            UNIMPLEMENTED: Refused { code: Grpc(Unimplemented) }; with RetryInfo: the same
            INTERNAL: Refused { code: Grpc(Internal) }; with RetryInfo: the same
            UNAVAILABLE: retry None; with RetryInfo: retry Some(7s)
            DATA_LOSS: retry None; with RetryInfo: retry Some(7s)
            UNAUTHENTICATED: Refused { code: Grpc(Unauthenticated) }; with RetryInfo: the same"#]].assert_eq(&lines.join("\n"));
    }

    #[test]
    fn four_http_answers_are_retried_and_no_other() {
        let retried: Vec<u16> = (300..600)
            .filter(|status| {
                let answer = Answer::Http { status: *status, retry_after: None };
                match answer.verdict() {
                    Verdict::Retry { after: None } => true,
                    Verdict::Refused { code } => {
                        assert_eq!(code, Code::Http(*status));
                        false
                    }
                    other => panic!("{other:?}"),
                }
            })
            .collect();
        assert_eq!(retried, [429, 502, 503, 504]);
    }

    #[test]
    fn a_partial_success_is_never_retried() {
        assert_eq!(Answer::Accepted { rejected: 0 }.verdict(), Verdict::Accepted);
        let verdict = Answer::Accepted { rejected: 3 }.verdict();
        assert_eq!(verdict, Verdict::PartlyAccepted { rejected: 3 });
    }

    #[test]
    fn without_an_answer_a_request_is_retried() {
        for silence in [Silence::TimedOut(String::new()), Silence::Failed(String::new())] {
            assert_eq!(Answer::None(silence).verdict(), Verdict::Retry { after: None });
        }
    }

    #[test]
    fn retry_info_is_found_among_the_details() {
        let details = |delay: Option<RetryDelay>| {
            let info = RetryInfo { retry_delay: delay }.encode_to_vec();
            let other = Detail { type_url: "x/google.rpc.Help".to_owned(), value: vec![1, 2] };
            let retry = Detail {
                type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
                value: info,
            };
            RpcStatus { details: vec![other, retry] }.encode_to_vec()
        };
        let delay = RetryDelay { seconds: 2, nanos: 500_000_000 };
        assert_eq!(retry_info(&details(Some(delay))), Some(Duration::from_millis(2500)));
        let negative = RetryDelay { seconds: -1, nanos: -5 };
        assert_eq!(retry_info(&details(Some(negative))), Some(Duration::ZERO));
        assert_eq!(retry_info(&details(None)), Some(Duration::ZERO));
        assert_eq!(retry_info(b""), None);
        assert_eq!(retry_info(b"\xff\xff"), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Some("Sun, 06 Nov 1994 08:49:07 GMT");
        let after = |value| retry_after(value, now);
        assert_eq!(after("120"), Some(Duration::from_mins(2)));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(after("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(after("soon"), None);
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", None), None);
    }

    #[test]
    fn waits_double_up_to_half_a_minute_and_honour_what_is_asked_up_to_ten() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..10).map(|_| backoff.next(None, 1.0).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        assert_eq!(backoff.next(None, 0.0), Duration::from_secs(15));
        assert_eq!(backoff.next(Some(Duration::from_secs(2)), 0.0), Duration::from_secs(2));
        assert_eq!(backoff.next(Some(Duration::MAX), 1.0), Backoff::ASKED_MAX);
        backoff.reset();
        assert_eq!(backoff.next(Some(Duration::ZERO), 1.0), Duration::from_millis(200));
    }
}
