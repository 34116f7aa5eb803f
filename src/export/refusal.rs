//! Why records of the outbox were not delivered.

use std::fmt;

use super::response::{Response, ResponseCode};
use crate::metrics::SpanDrop;

/// Records that leave the queue without being delivered, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Positions among the records that are acknowledged, ascending: 0 is the oldest record.
    pub positions: Vec<usize>,
    pub reason: RefusalReason,
}

/// Why a record was not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefusalReason {
    /// The receiver refused the request with a status that must not be retried.
    Response {
        code: ResponseCode,
        /// The HTTP status of a gRPC response without a gRPC status.
        http_status: Option<u16>,
        /// The message of the receiver, cleaned. It may contain data of the request, so it is not
        /// logged.
        message: Option<Box<str>>,
    },
    /// The record alone exceeds the largest request.
    Oversized,
    /// The record is not a span, as after a corruption of the outbox.
    Undecodable,
}

impl RefusalReason {
    pub(super) fn from_response(response: Response) -> Self {
        let (code, http_status) = (response.code(), response.http_status());
        let message = match response {
            Response::Error(error) => error.message,
            Response::Accepted(_) | Response::TooLong | Response::Missing(_) => None,
        };
        Self::Response { code, http_status, message }
    }

    /// Whether the record can be delivered once the receiver or the configuration has changed.
    pub(super) fn is_retryable(&self) -> bool {
        match self {
            Self::Response { .. } | Self::Oversized => true,
            Self::Undecodable => false,
        }
    }

    pub(super) fn metric(&self) -> SpanDrop {
        match self {
            Self::Response { .. } => SpanDrop::Refused,
            Self::Oversized => SpanDrop::Oversized,
            Self::Undecodable => SpanDrop::Undecodable,
        }
    }
}

/// `INVALID_ARGUMENT: span has no name`, `400`, `oversized`.
impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Response { code, http_status, message } => {
                write!(f, "{code}")?;
                if let Some(status) = http_status {
                    write!(f, " (HTTP {status})")?;
                }
                match message {
                    Some(message) => write!(f, ": {message}"),
                    None => Ok(()),
                }
            }
            Self::Oversized | Self::Undecodable => f.write_str(self.metric().name()),
        }
    }
}
