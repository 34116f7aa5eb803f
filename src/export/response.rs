//! The response to an export request, and what OTLP requires to be done after it.
//!
//! The rules are OTLP's: <https://opentelemetry.io/docs/specs/otlp/#otlpgrpc-response> and
//! <https://opentelemetry.io/docs/specs/otlp/#otlphttp-response>.

use std::{fmt, time::Duration};

use tonic_types::StatusExt as _;

/// The result of one export request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// The receiver accepted the spans, except for the number it `rejected` (partial success).
    Accepted { rejected: u64 },
    /// A gRPC status other than OK.
    Grpc {
        code: tonic::Code,
        /// Present only if the receiver sent a `RetryInfo`: a retry makes sense, after this delay.
        retry_delay: Option<Duration>,
    },
    /// An HTTP status other than 2xx.
    Http { status: u16, retry_after: Option<Duration> },
    /// No response arrived.
    Missing(NoResponse),
}

/// Why no response arrived, with a text for logs that names what an operator can check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoResponse {
    TimedOut(String),
    Failed(String),
}

/// How to proceed with the spans of a request after its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    Accepted,
    /// A partial success: it must not be retried.
    /// <https://opentelemetry.io/docs/specs/otlp/#partial-success>
    PartiallyAccepted {
        rejected: u64,
    },
    /// Send the same request again, not before the delay that the receiver requested.
    Retry {
        requested_delay: Option<Duration>,
    },
    /// The request must not be retried.
    Refused {
        code: ResponseCode,
    },
}

/// A response in one word, for logs and metrics: `UNAVAILABLE`, `503`, `timeout`, `connection`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseCode {
    Ok,
    Grpc(tonic::Code),
    Http(u16),
    Timeout,
    Connection,
}

impl Response {
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Accepted { rejected: 0 } => Disposition::Accepted,
            Self::Accepted { rejected } => Disposition::PartiallyAccepted { rejected: *rejected },
            Self::Grpc { code, retry_delay } if is_retryable(*code, retry_delay.is_some()) => {
                Disposition::Retry { requested_delay: *retry_delay }
            }
            Self::Http { status: 429 | 502 | 503 | 504, retry_after } => {
                Disposition::Retry { requested_delay: *retry_after }
            }
            Self::Grpc { .. } | Self::Http { .. } => Disposition::Refused { code: self.code() },
            Self::Missing(_) => Disposition::Retry { requested_delay: None },
        }
    }

    pub fn code(&self) -> ResponseCode {
        match self {
            Self::Accepted { .. } => ResponseCode::Ok,
            Self::Grpc { code, .. } => ResponseCode::Grpc(*code),
            Self::Http { status, .. } => ResponseCode::Http(*status),
            Self::Missing(NoResponse::TimedOut(_)) => ResponseCode::Timeout,
            Self::Missing(NoResponse::Failed(_)) => ResponseCode::Connection,
        }
    }
}

fn is_retryable(code: tonic::Code, has_retry_info: bool) -> bool {
    use tonic::Code as C;
    match code {
        C::Cancelled
        | C::DeadlineExceeded
        | C::Aborted
        | C::OutOfRange
        | C::Unavailable
        | C::DataLoss => true,
        // Either a quota that recovers, or a request that is always too large. Only for the first a
        // receiver sends RetryInfo.
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

impl fmt::Display for ResponseCode {
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

/// The delay of the `RetryInfo` among the status details; zero if it has no delay.
pub(super) fn retry_delay(status: &tonic::Status) -> Option<Duration> {
    let info = status.get_details_retry_info()?;
    Some(info.retry_delay.unwrap_or_default())
}

/// Parses `Retry-After`: seconds, or an HTTP date. A date is compared with the `Date` of the same
/// response, because the clock of the receiver may differ from ours.
/// <https://www.rfc-editor.org/rfc/rfc9110#field.retry-after>
pub(super) fn parse_retry_after(value: &str, date: Option<&str>) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = parse_http_date(value)?;
    let now = parse_http_date(date?)?;
    Some(Duration::try_from(until.duration_since(now)).unwrap_or_default())
}

fn parse_http_date(text: &str) -> Option<jiff::Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use expect_test::expect;
    use tonic_types::{ErrorDetail, Help, RetryInfo};

    use super::*;

    #[test]
    fn grpc_status_is_retried_if_otlp_lists_it_as_retryable() {
        let describe = |disposition| match disposition {
            Disposition::Retry { requested_delay } => format!("retry {requested_delay:?}"),
            other => format!("{other:?}"),
        };
        let lines: Vec<String> = (1..=16)
            .map(|code| {
                let code = tonic::Code::from_i32(code);
                let with_delay =
                    |retry_delay| describe(Response::Grpc { code, retry_delay }.disposition());
                let (without, with) = (with_delay(None), with_delay(Some(Duration::from_secs(7))));
                let with = if without == with { "the same".to_owned() } else { with };
                format!("{}: {without}; with RetryInfo: {with}", ResponseCode::Grpc(code))
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
    fn only_four_http_statuses_are_retried() {
        let retried: Vec<u16> = (300..600)
            .filter(|status| {
                let response = Response::Http { status: *status, retry_after: None };
                match response.disposition() {
                    Disposition::Retry { requested_delay: None } => true,
                    Disposition::Refused { code } => {
                        assert_eq!(code, ResponseCode::Http(*status));
                        false
                    }
                    other => panic!("{other:?}"),
                }
            })
            .collect();
        assert_eq!(retried, [429, 502, 503, 504]);
    }

    #[test]
    fn partial_success_is_not_retried() {
        assert_eq!(Response::Accepted { rejected: 0 }.disposition(), Disposition::Accepted);
        let disposition = Response::Accepted { rejected: 3 }.disposition();
        assert_eq!(disposition, Disposition::PartiallyAccepted { rejected: 3 });
    }

    #[test]
    fn request_without_a_response_is_retried() {
        for reason in [NoResponse::TimedOut(String::new()), NoResponse::Failed(String::new())] {
            let disposition = Response::Missing(reason).disposition();
            assert_eq!(disposition, Disposition::Retry { requested_delay: None });
        }
    }

    #[test]
    fn retry_info_is_found_among_the_status_details() {
        let status = |info: RetryInfo| {
            let help = ErrorDetail::from(Help::new(Vec::new()));
            tonic::Status::with_error_details_vec(
                tonic::Code::Unavailable,
                "",
                vec![help, info.into()],
            )
        };
        let delay = Duration::from_millis(2_500);
        assert_eq!(retry_delay(&status(RetryInfo::new(Some(delay)))), Some(delay));
        assert_eq!(retry_delay(&status(RetryInfo::new(None))), Some(Duration::ZERO));
        let with_details = |details: &'static [u8]| {
            tonic::Status::with_details(tonic::Code::Unavailable, "", Bytes::from_static(details))
        };
        assert_eq!(retry_delay(&with_details(b"")), None);
        assert_eq!(retry_delay(&with_details(b"\xff\xff")), None);
    }

    #[test]
    fn retry_after_is_seconds_or_an_http_date() {
        let now = Some("Sun, 06 Nov 1994 08:49:07 GMT");
        let after = |value| parse_retry_after(value, now);
        assert_eq!(after("120"), Some(Duration::from_mins(2)));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(after("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(after("soon"), None);
        assert_eq!(parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", None), None);
    }
}
