//! Says when export begins to fail and when it works again, and what was lost, in few lines.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::retry::{Answer, Code, Silence};

/// What was logged, and when.
#[derive(Debug, Default)]
pub(super) struct Health {
    failing: bool,
    warned: bool,
    last_warning: Option<Instant>,
    last_loss: Option<Instant>,
    lost: usize,
}

impl Health {
    /// At most one line of a sort in this time.
    const QUIET: Duration = Duration::from_mins(1);

    pub(super) fn answers(&self) -> bool {
        !self.failing
    }

    pub(super) fn fail(&mut self, answer: &Answer) -> Option<Line> {
        self.failing = true;
        if self.warned || self.last_warning.is_some_and(|last| last.elapsed() < Self::QUIET) {
            return None;
        }
        self.warned = true;
        self.last_warning = Some(Instant::now());
        let reason = match answer {
            Answer::None(Silence::TimedOut(reason) | Silence::Failed(reason)) => reason.clone(),
            Answer::Accepted { .. } | Answer::Grpc { .. } | Answer::Http { .. } => String::new(),
        };
        Some(Line::Fails { code: answer.code(), reason })
    }

    pub(super) fn recover(&mut self) -> Option<Line> {
        self.failing = false;
        std::mem::take(&mut self.warned).then_some(Line::Works)
    }

    pub(super) fn lose(&mut self, spans: usize, loss: Loss) -> Option<Line> {
        self.lost = self.lost.saturating_add(spans);
        if self.last_loss.is_some_and(|last| last.elapsed() < Self::QUIET) {
            return None;
        }
        self.last_loss = Some(Instant::now());
        Some(Line::Lost { spans: std::mem::take(&mut self.lost), loss })
    }
}

/// What is worth a line in the log: codes and our own words, never a receiver's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    Fails {
        code: Code,
        reason: String,
    },
    Works,
    /// Since the last such line.
    Lost {
        spans: usize,
        loss: Loss,
    },
}

impl Line {
    pub(super) fn log(self, endpoint: &str) {
        match self {
            Self::Fails { code, reason } if reason.is_empty() => {
                warn!(endpoint, %code, "Export fails and is retried; spans wait.");
            }
            Self::Fails { code, reason } => {
                warn!(endpoint, %code, "Export fails and is retried; spans wait: {reason}");
            }
            Self::Works => info!(endpoint, "Export works again."),
            Self::Lost { spans, loss: Loss::Oversized } => {
                warn!(spans, "No request can hold spans so large; dropped.");
            }
            Self::Lost { spans, loss: Loss::Rejected } => {
                warn!(endpoint, spans, "The collector took a request but not all its spans.");
            }
            Self::Lost { spans, loss: Loss::Refused(code) } => {
                let hint = hint(code);
                warn!(endpoint, spans, %code, "The collector refused spans for good{hint}");
            }
        }
    }
}

/// How spans came to be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    Oversized,
    Rejected,
    Refused(Code),
}

fn hint(code: Code) -> &'static str {
    use tonic::Code as C;
    match code {
        Code::Http(404 | 405) | Code::Grpc(C::Unimplemented | C::NotFound) => {
            ": does the endpoint take traces, by this protocol, at this path?"
        }
        Code::Http(401 | 403) | Code::Grpc(C::Unauthenticated | C::PermissionDenied) => {
            ": are the credentials in the configured headers right?"
        }
        Code::Http(301 | 302 | 307 | 308) => ": redirects are not followed.",
        Code::Ok | Code::Grpc(_) | Code::Http(_) | Code::Timeout | Code::Connection => ".",
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_two_lines_however_long_it_lasts() {
        let unavailable = Answer::Http { status: 503, retry_after: None };
        let mut health = Health::default();
        let mut lines = Vec::new();
        for _ in 0..100 {
            lines.extend(health.fail(&unavailable));
            tokio::time::advance(Duration::from_secs(30)).await;
        }
        assert!(!health.answers());
        for _ in 0..100 {
            lines.extend(health.recover());
        }
        assert!(health.answers());
        lines.extend(health.fail(&Answer::None(Silence::Failed("nobody is there".to_owned()))));
        lines.extend(health.recover());
        let lines: Vec<String> = lines.iter().map(|line| format!("{line:?}")).collect();
        expect![[r#"
            Fails { code: Http(503), reason: "" }
            Works
            Fails { code: Connection, reason: "nobody is there" }
            Works"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn losses_are_added_up_to_a_line_a_minute() {
        let mut health = Health::default();
        let refused = Loss::Refused(Code::Http(401));
        assert_eq!(health.lose(1, refused), Some(Line::Lost { spans: 1, loss: refused }));
        assert_eq!(health.lose(2, refused), None);
        assert_eq!(health.lose(3, refused), None);
        tokio::time::advance(Duration::from_mins(1)).await;
        let loss = Loss::Rejected;
        assert_eq!(health.lose(4, loss), Some(Line::Lost { spans: 9, loss }));
    }
}
