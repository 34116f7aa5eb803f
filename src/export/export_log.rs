//! Logs failures of export: one line when it starts to fail, one when it recovers, and one per minute
//! for lost spans.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::response::{NoResponse, Response, ResponseCode};

/// The last lines of each kind and their times: a long outage must not fill the log.
#[derive(Debug, Default)]
pub(super) struct ExportLog {
    is_failing: bool,
    has_warned: bool,
    last_warning: Option<Instant>,
    last_loss: Option<Instant>,
    /// Spans lost since the last line about losses.
    lost_spans: usize,
}

impl ExportLog {
    /// Between two lines of the same kind.
    const MIN_INTERVAL: Duration = Duration::from_mins(1);

    /// Whether the receiver responded to the last request.
    pub(super) fn is_healthy(&self) -> bool {
        !self.is_failing
    }

    /// Records an attempt that will be retried.
    pub(super) fn record_failure(&mut self, response: &Response) -> Option<Line> {
        self.is_failing = true;
        if self.has_warned || is_recent(self.last_warning) {
            return None;
        }
        self.has_warned = true;
        self.last_warning = Some(Instant::now());
        let reason = match response {
            Response::Missing(NoResponse::TimedOut(reason) | NoResponse::Failed(reason)) => {
                Some(reason.clone())
            }
            Response::Accepted { .. } | Response::Grpc { .. } | Response::Http { .. } => None,
        };
        Some(Line::Failing { code: response.code(), reason })
    }

    /// Records that the receiver has responded.
    pub(super) fn record_recovery(&mut self) -> Option<Line> {
        self.is_failing = false;
        std::mem::take(&mut self.has_warned).then_some(Line::Recovered)
    }

    /// Records spans that will not be delivered.
    pub(super) fn record_loss(&mut self, spans: usize, loss: SpanLoss) -> Option<Line> {
        self.lost_spans = self.lost_spans.saturating_add(spans);
        if is_recent(self.last_loss) {
            return None;
        }
        self.last_loss = Some(Instant::now());
        Some(Line::Lost { spans: std::mem::take(&mut self.lost_spans), loss })
    }
}

fn is_recent(last: Option<Instant>) -> bool {
    last.is_some_and(|last| last.elapsed() < ExportLog::MIN_INTERVAL)
}

/// A line for the log. It has codes and texts of ours, never a receiver's, which may contain data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    Failing {
        code: ResponseCode,
        reason: Option<String>,
    },
    Recovered,
    Lost {
        /// Spans lost since the last such line, for whatever reason.
        spans: usize,
        /// The latest reason.
        loss: SpanLoss,
    },
}

impl Line {
    pub(super) fn log(self, endpoint: &str) {
        match self {
            Self::Failing { code, reason: None } => {
                warn!(endpoint, %code, "Export failed; retrying, spans are queued.");
            }
            Self::Failing { code, reason: Some(reason) } => {
                warn!(endpoint, %code, %reason, "Export failed; retrying, spans are queued.");
            }
            Self::Recovered => info!(endpoint, "Export recovered."),
            Self::Lost { spans, loss: SpanLoss::Oversized } => {
                warn!(spans, "Dropped spans larger than the maximum request size.");
            }
            Self::Lost { spans, loss: SpanLoss::Undecodable } => {
                warn!(spans, "Dropped records of the outbox that cannot be decoded.");
            }
            Self::Lost { spans, loss: SpanLoss::Rejected } => {
                warn!(endpoint, spans, "Partial success: the collector rejected some spans.");
            }
            Self::Lost { spans, loss: SpanLoss::Refused(code) } => {
                let hint = hint(code);
                warn!(
                    endpoint,
                    spans,
                    %code,
                    "The collector rejected spans with a non-retryable error; dropped{hint}"
                );
            }
        }
    }
}

/// Why spans are not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpanLoss {
    Oversized,
    Undecodable,
    Rejected,
    Refused(ResponseCode),
}

fn hint(code: ResponseCode) -> &'static str {
    use ResponseCode as R;
    use tonic::Code as C;
    match code {
        R::Http(404 | 405) | R::Grpc(C::Unimplemented | C::NotFound) => {
            ": does the endpoint receive traces, with this protocol and at this path?"
        }
        R::Http(401 | 403) | R::Grpc(C::Unauthenticated | C::PermissionDenied) => {
            ": are the credentials in the configured headers right?"
        }
        R::Http(301 | 302 | 307 | 308) => ": redirects are not followed.",
        R::Ok | R::Grpc(_) | R::Http(_) | R::Timeout | R::Connection => ".",
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn outage_is_logged_in_two_lines_however_long_it_lasts() {
        let unavailable = Response::Http { status: 503, retry_after: None };
        let mut log = ExportLog::default();
        let mut lines = Vec::new();
        for _ in 0..100 {
            lines.extend(log.record_failure(&unavailable));
            tokio::time::advance(Duration::from_secs(30)).await;
        }
        assert!(!log.is_healthy());
        for _ in 0..100 {
            lines.extend(log.record_recovery());
        }
        assert!(log.is_healthy());
        let refused = Response::Missing(NoResponse::Failed("connection refused".to_owned()));
        lines.extend(log.record_failure(&refused));
        lines.extend(log.record_recovery());
        let lines: Vec<String> = lines.iter().map(|line| format!("{line:?}")).collect();
        expect![[r#"
            Failing { code: Http(503), reason: None }
            Recovered
            Failing { code: Connection, reason: Some("connection refused") }
            Recovered"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn losses_are_summed_up_to_one_line_per_minute() {
        let mut log = ExportLog::default();
        let refused = SpanLoss::Refused(ResponseCode::Http(401));
        assert_eq!(log.record_loss(1, refused), Some(Line::Lost { spans: 1, loss: refused }));
        assert_eq!(log.record_loss(2, refused), None);
        assert_eq!(log.record_loss(3, refused), None);
        tokio::time::advance(Duration::from_mins(1)).await;
        let loss = SpanLoss::Rejected;
        assert_eq!(log.record_loss(4, loss), Some(Line::Lost { spans: 9, loss }));
    }
}
