//! The metrics of one kind, looked up once per watch.

use prometheus::{IntCounter, IntGauge};

use crate::{metrics::Metrics, trace::model::time::Timestamp};

pub(super) struct Counters {
    pub(super) kind: String,
    metrics: Metrics,
    pub(super) applied: IntCounter,
    pub(super) deleted: IntCounter,
    pub(super) listed: IntCounter,
    pub(super) bookmarks: IntCounter,
    bytes: IntCounter,
    pub(super) undecodable: IntCounter,
    pub(super) health_rule_failures: IntCounter,
    last_event: IntGauge,
}

impl Counters {
    pub(super) fn new(metrics: &Metrics, kind: &str) -> Self {
        let events = |name| metrics.watch_events.with_label_values(&[kind, name]);
        Self {
            applied: events("applied"),
            deleted: events("deleted"),
            listed: events("listed"),
            bookmarks: events("bookmark"),
            bytes: metrics.watch_bytes.with_label_values(&[kind]),
            health_rule_failures: metrics.health_rule_failures.with_label_values(&[kind]),
            undecodable: metrics.undecodable_objects.with_label_values(&[kind]),
            last_event: metrics.watch_last_event_timestamp.with_label_values(&[kind]),
            kind: kind.to_owned(),
            metrics: metrics.clone(),
        }
    }

    pub(super) fn count_bytes(&self, bytes: usize, at: Timestamp) {
        self.bytes.inc_by(bytes as u64);
        self.last_event.set(at.nanos() / 1_000_000_000);
    }

    // The reasons of relists, failures and probes are many and rare: their metrics are looked up.

    pub(super) fn count_relist(&self, reason: &str) {
        self.metrics.relists.with_label_values(&[&self.kind, reason]).inc();
    }

    pub(super) fn count_failure(&self, reason: &str) {
        self.metrics.watch_failures.with_label_values(&[&self.kind, reason]).inc();
    }

    pub(super) fn count_probe(&self, result: &str) {
        self.metrics.watch_probes.with_label_values(&[&self.kind, result]).inc();
    }
}
