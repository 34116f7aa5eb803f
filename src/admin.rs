//! Serves `/livez`, `/readyz` and `/metrics` over HTTP.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
    routing::get,
};
use tokio::net::TcpListener;

use crate::{metrics::Metrics, trace::model::time::Timestamp};

/// The event loop reports at least this often, or `/livez` fails.
const REPORT_INTERVAL_MAX: Duration = Duration::from_secs(30);
/// Missing until the first watch is known.
const DISCOVERY: &str = "discovery";

/// The health of the daemon: written by its tasks, read by the probes. Cheap to clone: clones share
/// the same state.
#[derive(Clone, Debug, Default)]
pub struct Health {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    life: Life,
    /// Whether each watch, and every other precondition of readiness, is synced.
    synced: BTreeMap<String, bool>,
}

#[derive(Debug, Default)]
enum Life {
    /// The event loop does not run yet. A large outbox takes long to open, and a restart would only
    /// begin again, so this counts as live.
    #[default]
    Starting,
    Running {
        last_report: Timestamp,
    },
    Failed {
        reason: String,
    },
}

/// The answer to a liveness probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Liveness {
    Starting,
    Live,
    /// The event loop has not reported for 30 s.
    Stalled,
    /// A task failed; the process is about to end.
    Failed(String),
}

impl Liveness {
    fn response(self) -> (StatusCode, String) {
        let (status, text) = match self {
            Self::Starting => (StatusCode::OK, "starting".to_owned()),
            Self::Live => (StatusCode::OK, "ok".to_owned()),
            Self::Stalled => (StatusCode::SERVICE_UNAVAILABLE, "event loop stalled".to_owned()),
            Self::Failed(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason),
        };
        (status, text + "\n")
    }
}

impl Health {
    /// Records that the event loop runs.
    pub fn report_running(&self, now: Timestamp) {
        let mut state = self.lock();
        if !matches!(state.life, Life::Failed { .. }) {
            state.life = Life::Running { last_report: now };
        }
    }

    /// Records that a task failed: from now on the daemon is not live.
    pub fn fail(&self, reason: &str) {
        self.lock().life = Life::Failed { reason: reason.to_owned() };
    }

    /// Records whether a watch (`Pod in namespace shop`), or another precondition of readiness, is
    /// synced.
    pub fn set_synced(&self, name: &str, is_synced: bool) {
        self.lock().synced.insert(name.to_owned(), is_synced);
    }

    pub fn liveness(&self, now: Timestamp) -> Liveness {
        match &self.lock().life {
            Life::Starting => Liveness::Starting,
            Life::Running { last_report } if now.since(*last_report) < REPORT_INTERVAL_MAX => {
                Liveness::Live
            }
            Life::Running { .. } => Liveness::Stalled,
            Life::Failed { reason } => Liveness::Failed(reason.clone()),
        }
    }

    /// The names of everything that is not synced yet. Ready is who misses nothing.
    pub fn missing(&self) -> Vec<String> {
        let synced = &self.lock().synced;
        if synced.is_empty() {
            return vec![DISCOVERY.to_owned()];
        }
        let missing = synced.iter().filter(|(_, is_synced)| !**is_synced);
        missing.map(|(name, _)| name.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves the probes and the metrics for as long as it is polled.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    health: Health,
    metrics: Metrics,
    now: fn() -> Timestamp,
) -> io::Result<()> {
    let live = health.clone();
    let router = Router::new()
        .route("/livez", get(move || async move { live.liveness(now()).response() }))
        .route("/readyz", get(move || async move { readiness(&health.missing()) }))
        .route("/metrics", get(move || async move { exposition(&metrics) }));
    axum::serve(listener, router).await
}

/// One line for each thing that is missing.
fn readiness(missing: &[String]) -> (StatusCode, String) {
    if missing.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let names = missing.join("\nnot synced: ");
    (StatusCode::SERVICE_UNAVAILABLE, format!("not synced: {names}\n"))
}

fn exposition(metrics: &Metrics) -> Response {
    match metrics.text() {
        Ok(text) => ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_nanos(1_000_000_000_000);

    #[test]
    fn daemon_is_live_while_the_event_loop_reports() {
        let health = Health::default();
        assert_eq!(health.liveness(NOW), Liveness::Starting);
        assert_eq!(health.liveness(NOW).response().0, StatusCode::OK);
        health.report_running(NOW);
        assert_eq!(health.liveness(NOW.plus(Duration::from_secs(29))), Liveness::Live);
        let stalled = health.liveness(NOW.plus(Duration::from_secs(30)));
        assert_eq!(stalled, Liveness::Stalled);
        assert_eq!(stalled.response().0, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn failed_daemon_is_never_live_again() {
        let health = Health::default();
        health.report_running(NOW);
        health.fail("the task sender failed: panicked");
        health.report_running(NOW);
        let (status, text) = health.liveness(NOW).response();
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(text, "the task sender failed: panicked\n");
    }

    #[test]
    fn daemon_is_ready_when_every_watch_is_synced() {
        let health = Health::default();
        assert_eq!(health.missing(), ["discovery"]);
        health.set_synced("Pod in namespace a", false);
        health.set_synced("Pod in namespace b", false);
        health.set_synced("Deployment.apps", true);
        health.set_synced("Pod in namespace a", true);
        let (status, text) = readiness(&health.missing());
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(text, "not synced: Pod in namespace b\n");
        health.set_synced("Pod in namespace b", true);
        assert_eq!(readiness(&health.missing()), (StatusCode::OK, "ok\n".to_owned()));
    }
}
