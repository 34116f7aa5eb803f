//! Answers whether the daemon lives, whether it is ready, and what it has counted.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
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

/// The loop turns at least this often, or it does not live.
const BEAT_MAX: Duration = Duration::from_secs(30);

/// What the daemon knows of its own health. Cheap to clone; every clone is the same.
#[derive(Clone, Debug, Default)]
pub struct Health {
    beat: Arc<AtomicI64>,
    kinds: Arc<Mutex<BTreeMap<String, bool>>>,
}

impl Health {
    /// The loop has turned.
    pub fn beat(&self, now: Timestamp) {
        self.beat.store(now.nanos(), Ordering::Relaxed);
    }

    /// A kind, or what else is to be there at the start, is expected (`false`) or complete (`true`).
    pub fn synced(&self, kind: &str, synced: bool) {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.insert(kind.to_owned(), synced);
    }

    pub fn is_live(&self, now: Timestamp) -> bool {
        let beat = Timestamp::from_nanos(self.beat.load(Ordering::Relaxed));
        now.since(beat) < BEAT_MAX
    }

    /// Kinds whose first list is not complete; one entry where no kind is known yet.
    pub fn missing(&self) -> Vec<String> {
        let kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        if kinds.is_empty() {
            return vec!["discovery".to_owned()];
        }
        kinds.iter().filter(|(_, synced)| !**synced).map(|(kind, _)| kind.clone()).collect()
    }
}

/// Serves `/livez`, `/readyz` and `/metrics` for as long as it is polled.
///
/// # Errors
/// When the listener breaks.
pub async fn serve(
    listener: TcpListener,
    health: Health,
    metrics: Metrics,
    clock: fn() -> Timestamp,
) -> std::io::Result<()> {
    let live = health.clone();
    let livez = move || async move {
        if live.is_live(clock()) {
            (StatusCode::OK, "ok\n".to_owned())
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "the loop does not turn\n".to_owned())
        }
    };
    let readyz = move || async move {
        let missing = health.missing();
        if missing.is_empty() {
            (StatusCode::OK, "ok\n".to_owned())
        } else {
            let missing = missing.join("\nnot synced: ");
            (StatusCode::SERVICE_UNAVAILABLE, format!("not synced: {missing}\n"))
        }
    };
    let exposition = move || async move { exposition(&metrics) };
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(exposition));
    axum::serve(listener, router).await
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

    #[test]
    fn it_lives_while_the_loop_turns() {
        let health = Health::default();
        let now = Timestamp::from_nanos(1_000_000_000_000);
        assert!(!health.is_live(now));
        health.beat(now);
        assert!(health.is_live(now.plus(Duration::from_secs(29))));
        assert!(!health.is_live(now.plus(Duration::from_secs(30))));
    }

    #[test]
    fn it_is_ready_when_every_kind_is_synced() {
        let health = Health::default();
        assert_eq!(health.missing(), ["discovery"]);
        health.synced("Pod", false);
        health.synced("Deployment.apps", true);
        assert_eq!(health.missing(), ["Pod"]);
        health.synced("Pod", true);
        assert!(health.missing().is_empty());
    }
}
