//! The response to an export request, and what OTLP requires to be done after it.
//!
//! The rules are OTLP's: <https://opentelemetry.io/docs/specs/otlp/#otlpgrpc-response> and
//! <https://opentelemetry.io/docs/specs/otlp/#otlphttp-response>.

use std::{fmt, time::Duration};

use super::retry_after::RetryAfter;
use crate::trace::model::time::Timestamp;

/// The result of one export request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// The receiver has the spans, except for those that a partial success rejects.
    Accepted(Acceptance),
    /// The receiver, or a proxy in front of it, responded with an error.
    Error(ErrorResponse),
    /// The body of the response exceeds the limit of a client. OTLP forbids a retry: the receiver has
    /// processed the request.
    TooLong,
    /// No response arrived.
    Missing(NoResponse),
}

/// A response that accepts the request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acceptance {
    /// Spans that the receiver rejected (partial success).
    pub rejected: u64,
    /// The message of a partial success, cleaned for the log. With no rejected spans it is a warning.
    /// <https://opentelemetry.io/docs/specs/otlp/#partial-success>
    pub message: Option<Box<str>>,
    /// The response is not one of OTLP, as the login page of a proxy: the spans may have reached no
    /// receiver.
    pub foreign: Option<ForeignResponse>,
}

/// A successful response that is not one of OTLP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignResponse {
    pub http_status: u16,
    /// The media type, cleaned for the log; empty if the response has none.
    pub content_type: Box<str>,
}

/// A response that does not accept the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorResponse {
    /// The status of the protocol: of gRPC, or of HTTP.
    pub code: ResponseCode,
    /// The HTTP status of a gRPC response without a gRPC status. `code` was derived from it.
    pub http_status: Option<u16>,
    /// The earliest time of a retry: from `RetryInfo` of gRPC or `Retry-After` of HTTP.
    pub retry_after: Option<RetryAfter>,
    /// The message of the receiver, cleaned. It may contain data of the request, so it is not logged.
    pub message: Option<Box<str>>,
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
    /// The spans are delivered, except for those that a partial success rejected. A partial success
    /// must not be retried.
    Accepted,
    /// Send the same request again, not before the delay that the receiver requested.
    Retry { requested_delay: Option<Duration> },
    /// The request is too large for the receiver or a proxy in front of it, which may accept the same
    /// spans in smaller requests.
    Split,
    /// The request must not be retried.
    Refused,
}

/// A response in one word, for logs and metrics: `UNAVAILABLE`, `503`, `timeout`, `connection`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseCode {
    Ok,
    Grpc(tonic::Code),
    Http(u16),
    /// The response exceeds the limit of a client.
    TooLong,
    Timeout,
    Connection,
}

const PAYLOAD_TOO_LARGE: u16 = 413;

impl Response {
    /// A gRPC status other than OK.
    pub fn grpc(code: tonic::Code, retry_after: Option<RetryAfter>) -> Self {
        Self::error(ResponseCode::Grpc(code), retry_after)
    }

    /// An HTTP status other than 2xx.
    pub fn http(status: u16, retry_after: Option<RetryAfter>) -> Self {
        Self::error(ResponseCode::Http(status), retry_after)
    }

    fn error(code: ResponseCode, retry_after: Option<RetryAfter>) -> Self {
        Self::Error(ErrorResponse { code, http_status: None, retry_after, message: None })
    }

    /// `now` is the time of the response: a receiver may request a retry at a point in time.
    pub fn disposition(&self, now: Timestamp) -> Disposition {
        match self {
            Self::Accepted(_) => Disposition::Accepted,
            Self::Error(error) => error.disposition(now),
            Self::TooLong => Disposition::Refused,
            Self::Missing(_) => Disposition::Retry { requested_delay: None },
        }
    }

    pub fn code(&self) -> ResponseCode {
        match self {
            Self::Accepted(_) => ResponseCode::Ok,
            Self::Error(error) => error.code,
            Self::TooLong => ResponseCode::TooLong,
            Self::Missing(NoResponse::TimedOut(_)) => ResponseCode::Timeout,
            Self::Missing(NoResponse::Failed(_)) => ResponseCode::Connection,
        }
    }

    /// The HTTP status from which the code of a gRPC response was derived.
    pub(super) fn http_status(&self) -> Option<u16> {
        match self {
            Self::Error(error) => error.http_status,
            Self::Accepted(_) | Self::TooLong | Self::Missing(_) => None,
        }
    }
}

impl ErrorResponse {
    fn disposition(&self, now: Timestamp) -> Disposition {
        use tonic::Code as C;
        let has_retry_after = self.retry_after.is_some();
        // A proxy that limits requests of gRPC has no gRPC status for it.
        if self.http_status == Some(PAYLOAD_TOO_LARGE) {
            return Disposition::Split;
        }
        let is_retryable = match self.code {
            ResponseCode::Http(PAYLOAD_TOO_LARGE) => return Disposition::Split,
            ResponseCode::Http(status) => matches!(status, 429 | 502 | 503 | 504),
            // Either a quota that recovers, or a request that is always too large. Only for the first
            // a receiver sends RetryInfo.
            ResponseCode::Grpc(C::ResourceExhausted) if !has_retry_after => {
                return Disposition::Split;
            }
            ResponseCode::Grpc(code) => is_retryable(code),
            ResponseCode::Ok | ResponseCode::TooLong => false,
            ResponseCode::Timeout | ResponseCode::Connection => true,
        };
        if is_retryable {
            let requested_delay = self.retry_after.map(|retry_after| retry_after.delay(now));
            Disposition::Retry { requested_delay }
        } else {
            Disposition::Refused
        }
    }
}

fn is_retryable(code: tonic::Code) -> bool {
    use tonic::Code as C;
    match code {
        C::Cancelled
        | C::DeadlineExceeded
        | C::ResourceExhausted
        | C::Aborted
        | C::OutOfRange
        | C::Unavailable
        | C::DataLoss => true,
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

/// Characters of a receiver's message that are kept.
const MESSAGE_MAX: usize = 200;

/// Makes a text of a receiver fit for one line of a log: without control characters and cut. `None` if
/// nothing remains.
pub(super) fn clean(text: &str) -> Option<Box<str>> {
    let cleaned: String = text
        .trim()
        .chars()
        .map(|c| if is_disruptive(c) { ' ' } else { c })
        .take(MESSAGE_MAX)
        .collect();
    let cleaned = cleaned.trim();
    (!cleaned.is_empty()).then(|| cleaned.into())
}

/// Whether a terminal or a log viewer does something else with a character than to show it: controls,
/// separators of lines, and marks that change the direction of what follows.
fn is_disruptive(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{feff}')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl fmt::Display for ResponseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use tonic::Code as C;
        f.write_str(match self {
            Self::Http(status) => return write!(f, "{status}"),
            Self::TooLong => "response_too_long",
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

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    const NOW: Timestamp = Timestamp::from_nanos(0);

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
                    |retry_after| describe(Response::grpc(code, retry_after).disposition(NOW));
                let delay = RetryAfter::Delay(Duration::from_secs(7));
                let (without, with) = (with_delay(None), with_delay(Some(delay)));
                let with = if without == with { "the same".to_owned() } else { with };
                format!("{}: {without}; with RetryInfo: {with}", ResponseCode::Grpc(code))
            })
            .collect();
        expect![[r#"
            CANCELLED: retry None; with RetryInfo: retry Some(7s)
            UNKNOWN: Refused; with RetryInfo: the same
            INVALID_ARGUMENT: Refused; with RetryInfo: the same
            DEADLINE_EXCEEDED: retry None; with RetryInfo: retry Some(7s)
            NOT_FOUND: Refused; with RetryInfo: the same
            ALREADY_EXISTS: Refused; with RetryInfo: the same
            PERMISSION_DENIED: Refused; with RetryInfo: the same
            RESOURCE_EXHAUSTED: Split; with RetryInfo: retry Some(7s)
            FAILED_PRECONDITION: Refused; with RetryInfo: the same
            ABORTED: retry None; with RetryInfo: retry Some(7s)
            OUT_OF_RANGE: retry None; with RetryInfo: retry Some(7s)
            UNIMPLEMENTED: Refused; with RetryInfo: the same
            INTERNAL: Refused; with RetryInfo: the same
            UNAVAILABLE: retry None; with RetryInfo: retry Some(7s)
            DATA_LOSS: retry None; with RetryInfo: retry Some(7s)
            UNAUTHENTICATED: Refused; with RetryInfo: the same"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[test]
    fn only_four_http_statuses_are_retried_and_one_splits_the_request() {
        let with_disposition = |disposition| -> Vec<u16> {
            (300..600)
                .filter(|status| Response::http(*status, None).disposition(NOW) == disposition)
                .collect()
        };
        let retry = Disposition::Retry { requested_delay: None };
        assert_eq!(with_disposition(retry), [429, 502, 503, 504]);
        assert_eq!(with_disposition(Disposition::Split), [413]);
        assert_eq!(with_disposition(Disposition::Refused).len(), 295);
    }

    #[test]
    fn partial_success_is_not_retried() {
        let acceptance = Acceptance { rejected: 3, ..Acceptance::default() };
        assert_eq!(Response::Accepted(acceptance).disposition(NOW), Disposition::Accepted);
    }

    #[test]
    fn response_over_the_limit_is_not_retried() {
        assert_eq!(Response::TooLong.disposition(NOW), Disposition::Refused);
    }

    #[test]
    fn request_without_a_response_is_retried() {
        for reason in [NoResponse::TimedOut(String::new()), NoResponse::Failed(String::new())] {
            let disposition = Response::Missing(reason).disposition(NOW);
            assert_eq!(disposition, Disposition::Retry { requested_delay: None });
        }
    }

    #[test]
    fn message_is_cut_and_loses_its_control_characters() {
        let clean = |text: &str| clean(text).unwrap_or_default().into_string();
        assert_eq!(clean("use v2\r\n\u{1b}[31mplease\u{202e} "), "use v2   [31mplease");
        assert_eq!(clean(" \0\n "), "");
        assert_eq!(clean(&"é".repeat(500)), "é".repeat(200));
    }
}
