//! Says when export begins to fail and when it works again, and what was lost, in few lines.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::retry::{Answer, Silence};

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

    pub(super) fn fail(&mut self, answer: &Answer, endpoint: &str) {
        self.failing = true;
        if self.warned || self.last_warning.is_some_and(|last| last.elapsed() < Self::QUIET) {
            return;
        }
        self.warned = true;
        self.last_warning = Some(Instant::now());
        let code = answer.code();
        match answer {
            Answer::None(Silence::TimedOut(reason) | Silence::Failed(reason)) => {
                warn!(endpoint, %code, "Export fails and is retried; spans wait: {reason}");
            }
            Answer::Accepted { .. } | Answer::Grpc { .. } | Answer::Http { .. } => {
                warn!(endpoint, %code, "Export fails and is retried; spans wait.");
            }
        }
    }

    pub(super) fn recover(&mut self, endpoint: &str) {
        self.failing = false;
        if std::mem::take(&mut self.warned) {
            info!(endpoint, "Export works again.");
        }
    }

    pub(super) fn lose(&mut self, spans: usize, code: &str) {
        self.lost = self.lost.saturating_add(spans);
        if self.last_loss.is_some_and(|last| last.elapsed() < Self::QUIET) {
            return;
        }
        self.last_loss = Some(Instant::now());
        let spans = std::mem::take(&mut self.lost);
        warn!(spans, code, "The collector refused spans for good; they are not sent again.");
    }
}
