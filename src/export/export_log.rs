//! Logs failures of export: one line when it starts to fail, one when it recovers, and one per minute
//! for lost spans.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    refusal::RefusalReason,
    response::{ForeignResponse, NoResponse, Response, ResponseCode},
};

/// The last lines of each kind and their times: a long outage must not fill the log.
#[derive(Debug, Default)]
pub(super) struct ExportLog {
    failing_since: Option<Instant>,
    has_warned: bool,
    last_warning: Option<Instant>,
    last_loss: Option<Instant>,
    /// Spans lost since the last line about losses.
    lost_spans: usize,
    last_split: Option<Instant>,
    last_foreign: Option<Instant>,
    messages: MessageLog,
}

impl ExportLog {
    /// Between two lines of the same kind.
    const MIN_INTERVAL: Duration = Duration::from_mins(1);
    /// Between two lines of the same kind about a state that may last.
    const REMINDER_INTERVAL: Duration = Duration::from_mins(10);

    /// Since when the receiver does not respond; `None` if it responded to the last request.
    pub(super) fn failing_since(&self) -> Option<Instant> {
        self.failing_since
    }

    /// Records an attempt that will be retried.
    pub(super) fn record_failure(&mut self, response: &Response) -> Option<Line> {
        self.failing_since.get_or_insert_with(Instant::now);
        if self.has_warned || is_recent(self.last_warning, Self::MIN_INTERVAL) {
            return None;
        }
        self.has_warned = true;
        self.last_warning = Some(Instant::now());
        let reason = match response {
            Response::Missing(NoResponse::TimedOut(reason) | NoResponse::Failed(reason)) => {
                Some(reason.clone())
            }
            Response::Accepted(_) | Response::Error(_) | Response::TooLong => None,
        };
        Some(Line::Failing { code: response.code(), http_status: response.http_status(), reason })
    }

    /// Records that the receiver has responded.
    pub(super) fn record_recovery(&mut self) -> Option<Line> {
        self.failing_since = None;
        std::mem::take(&mut self.has_warned).then_some(Line::Recovered)
    }

    /// Records a request of several spans that was refused as too large.
    pub(super) fn record_split(
        &mut self,
        response: &Response,
        request_bytes: usize,
    ) -> Option<Line> {
        if is_recent(self.last_split, Self::REMINDER_INTERVAL) {
            return None;
        }
        self.last_split = Some(Instant::now());
        let (code, http_status) = (response.code(), response.http_status());
        Some(Line::Split { code, http_status, request_bytes })
    }

    /// Records spans that leave the queue without being delivered. `is_kept`: they are in quarantine.
    pub(super) fn record_refusal(
        &mut self,
        spans: usize,
        reason: &RefusalReason,
        is_kept: bool,
    ) -> Option<Line> {
        let spans = self.lose(spans)?;
        Some(match reason {
            RefusalReason::Response { code, http_status, .. } => {
                Line::Refused { spans, code: *code, http_status: *http_status, is_kept }
            }
            RefusalReason::Oversized => Line::Oversized { spans, is_kept },
            RefusalReason::Undecodable => Line::Undecodable { spans },
        })
    }

    /// Records spans that a partial success rejected. A new message has a line at once.
    pub(super) fn record_rejection(
        &mut self,
        spans: u64,
        message: Option<Box<str>>,
    ) -> Option<Line> {
        let spans = usize::try_from(spans).unwrap_or(usize::MAX);
        let message = message.and_then(|message| self.messages.insert(message));
        if message.is_some() {
            self.last_loss = None;
        }
        Some(Line::Rejected { spans: self.lose(spans)?, message })
    }

    /// Records a message of a receiver that accepted every span.
    pub(super) fn record_warning(&mut self, message: Box<str>) -> Option<Line> {
        let message = self.messages.insert(message)?;
        Some(Line::Warning { message })
    }

    /// Records a success that is not a response of OTLP.
    pub(super) fn record_foreign(&mut self, response: ForeignResponse) -> Option<Line> {
        if is_recent(self.last_foreign, Self::REMINDER_INTERVAL) {
            return None;
        }
        self.last_foreign = Some(Instant::now());
        Some(Line::Foreign(response))
    }

    /// Counts lost spans. Returns the number since the last line about losses if one is due.
    fn lose(&mut self, spans: usize) -> Option<usize> {
        self.lost_spans = self.lost_spans.saturating_add(spans);
        if is_recent(self.last_loss, Self::MIN_INTERVAL) {
            return None;
        }
        self.last_loss = Some(Instant::now());
        Some(std::mem::take(&mut self.lost_spans))
    }
}

/// The messages of receivers that were logged: each is logged once, and only so many at a time, as a
/// message may differ in every response.
#[derive(Debug, Default)]
struct MessageLog {
    logged: VecDeque<Box<str>>,
    /// Lines since `window_start`.
    lines: usize,
    window_start: Option<Instant>,
}

impl MessageLog {
    const REMEMBERED_MAX: usize = 64;
    const LINES_PER_INTERVAL: usize = 5;

    /// Returns the message if it is to be logged.
    fn insert(&mut self, message: Box<str>) -> Option<Box<str>> {
        if self.logged.contains(&message) {
            return None;
        }
        if !is_recent(self.window_start, ExportLog::MIN_INTERVAL) {
            self.window_start = Some(Instant::now());
            self.lines = 0;
        }
        if self.lines == Self::LINES_PER_INTERVAL {
            return None;
        }
        self.lines += 1;
        if self.logged.len() == Self::REMEMBERED_MAX {
            self.logged.pop_front();
        }
        self.logged.push_back(message.clone());
        Some(message)
    }
}

fn is_recent(last: Option<Instant>, interval: Duration) -> bool {
    last.is_some_and(|last| last.elapsed() < interval)
}

/// A line for the log. It has codes and texts of ours; of a receiver's texts, which may contain data,
/// only the messages of partial successes, which are written for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    Failing {
        code: ResponseCode,
        http_status: Option<u16>,
        reason: Option<String>,
    },
    Recovered,
    Split {
        code: ResponseCode,
        http_status: Option<u16>,
        request_bytes: usize,
    },
    /// In this and the next three, `spans` are those lost since the last such line, for whatever
    /// reason; the line has the latest one.
    Refused {
        spans: usize,
        code: ResponseCode,
        http_status: Option<u16>,
        is_kept: bool,
    },
    Oversized {
        spans: usize,
        is_kept: bool,
    },
    Undecodable {
        spans: usize,
    },
    Rejected {
        spans: usize,
        message: Option<Box<str>>,
    },
    Warning {
        message: Box<str>,
    },
    Foreign(ForeignResponse),
}

/// After a line about spans in quarantine.
const QUARANTINE_ADVICE: &str =
    " List them with spanlink outbox list, and send them again with spanlink outbox retry.";

impl Line {
    pub(super) fn log(self, endpoint: &str) {
        match self {
            Self::Failing { code, http_status, reason } => {
                warn!(
                    endpoint,
                    %code,
                    http_status,
                    reason,
                    "Export failed; retrying, spans are queued."
                );
            }
            Self::Recovered => info!(endpoint, "Export recovered."),
            Self::Split { code, http_status, request_bytes } => warn!(
                endpoint,
                %code,
                http_status,
                request_bytes,
                "The collector refused a request as too large; sending smaller ones. The option \
                 otlp.request_bytes_max limits the size."
            ),
            Self::Refused { spans, code, http_status, is_kept } => {
                let fate = if is_kept { "in quarantine" } else { "dropped" };
                let advice = if is_kept { QUARANTINE_ADVICE } else { "" };
                let hint = hint(code, http_status);
                warn!(
                    endpoint,
                    spans,
                    %code,
                    http_status,
                    "The collector refused spans with a non-retryable error; {fate}{hint}{advice}"
                );
            }
            Self::Oversized { spans, is_kept: true } => warn!(
                spans,
                "Spans larger than the largest request (option otlp.request_bytes_max); in \
                 quarantine.{QUARANTINE_ADVICE}"
            ),
            Self::Oversized { spans, is_kept: false } => {
                warn!(
                    spans,
                    "Dropped spans larger than the largest request (option otlp.request_bytes_max)."
                );
            }
            Self::Undecodable { spans } => {
                warn!(spans, "Dropped records of the outbox that cannot be decoded.");
            }
            Self::Rejected { spans, message } => {
                let message = message.as_deref();
                warn!(
                    endpoint,
                    spans, message, "Partial success: the collector rejected some spans."
                );
            }
            Self::Warning { message } => {
                let message = &*message;
                warn!(endpoint, message, "The collector accepted spans with a warning.");
            }
            Self::Foreign(ForeignResponse { http_status, content_type }) => {
                let content_type = &*content_type;
                warn!(
                    endpoint,
                    http_status,
                    content_type,
                    "The response is not one of OTLP, so the spans may have reached no collector: \
                     is a login page or another server at the endpoint?"
                );
            }
        }
    }
}

fn hint(code: ResponseCode, http_status: Option<u16>) -> &'static str {
    use ResponseCode as R;
    use tonic::Code as C;
    match (code, http_status) {
        (R::Http(404 | 405) | R::Grpc(C::Unimplemented | C::NotFound), _) => {
            ": does the endpoint take traces, with this protocol and at this path?"
        }
        (R::Http(401 | 403) | R::Grpc(C::Unauthenticated | C::PermissionDenied), _) => {
            ": are the credentials in the configured headers right?"
        }
        (R::Http(301 | 302 | 303 | 307 | 308), _)
        | (R::Grpc(_), Some(301 | 302 | 303 | 307 | 308)) => ": redirects are not followed.",
        (R::Grpc(_), Some(200)) => {
            ": the response has no gRPC status. Does a proxy in front of the collector pass the \
             trailers of HTTP/2?"
        }
        (R::Http(413) | R::Grpc(C::ResourceExhausted), _) | (R::Grpc(_), Some(413)) => {
            ": even a request with one span is too large."
        }
        (R::TooLong, _) => ": its response is larger than a client of OTLP reads.",
        (R::Ok | R::Grpc(_) | R::Http(_) | R::Timeout | R::Connection, _) => ".",
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn outage_is_logged_in_two_lines_however_long_it_lasts() {
        let unavailable = Response::http(503, None);
        let mut log = ExportLog::default();
        let mut lines = Vec::new();
        let started = Instant::now();
        for _ in 0..100 {
            lines.extend(log.record_failure(&unavailable));
            tokio::time::advance(Duration::from_secs(30)).await;
        }
        assert_eq!(log.failing_since(), Some(started));
        for _ in 0..100 {
            lines.extend(log.record_recovery());
        }
        assert_eq!(log.failing_since(), None);
        let refused = Response::Missing(NoResponse::Failed("connection refused".to_owned()));
        lines.extend(log.record_failure(&refused));
        lines.extend(log.record_recovery());
        let lines: Vec<String> = lines.iter().map(|line| format!("{line:?}")).collect();
        expect![[r#"
            Failing { code: Http(503), http_status: None, reason: None }
            Recovered
            Failing { code: Connection, http_status: None, reason: Some("connection refused") }
            Recovered"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn losses_are_summed_up_to_one_line_per_minute() {
        let mut log = ExportLog::default();
        let code = ResponseCode::Http(401);
        let refused = RefusalReason::Response { code, http_status: None, message: None };
        let line = Some(Line::Refused { spans: 1, code, http_status: None, is_kept: false });
        assert_eq!(log.record_refusal(1, &refused, false), line);
        assert_eq!(log.record_refusal(2, &refused, false), None);
        assert_eq!(log.record_refusal(3, &refused, false), None);
        tokio::time::advance(Duration::from_mins(1)).await;
        let line = Some(Line::Rejected { spans: 9, message: None });
        assert_eq!(log.record_rejection(4, None), line);
    }

    #[tokio::test(start_paused = true)]
    async fn message_of_a_receiver_is_logged_once() {
        let mut log = ExportLog::default();
        let message = || Box::from("use v2 please");
        let line = Some(Line::Warning { message: message() });
        assert_eq!(log.record_warning(message()), line);
        assert_eq!(log.record_warning(message()), None);
        tokio::time::advance(Duration::from_hours(1)).await;
        assert_eq!(log.record_warning(message()), None);
        let line = Some(Line::Rejected { spans: 2, message: None });
        assert_eq!(log.record_rejection(2, Some(message())), line);
        let new = || Some(Box::from("over quota"));
        let line = Some(Line::Rejected { spans: 1, message: new() });
        assert_eq!(log.record_rejection(1, new()), line);
        assert_eq!(log.record_rejection(1, new()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn messages_that_all_differ_do_not_fill_the_log() {
        let mut log = ExportLog::default();
        let mut lines = 0;
        for number in 0..1_000 {
            lines += usize::from(log.record_warning(format!("span {number}").into()).is_some());
            tokio::time::advance(Duration::from_millis(59)).await;
        }
        assert_eq!(lines, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn foreign_responses_are_logged_every_ten_minutes() {
        let mut log = ExportLog::default();
        let page = || ForeignResponse { http_status: 200, content_type: "text/html".into() };
        let mut lines = 0;
        for _ in 0..30 {
            lines += usize::from(log.record_foreign(page()).is_some());
            tokio::time::advance(Duration::from_mins(1)).await;
        }
        assert_eq!(lines, 3);
    }
}
