//! Counts what happens, for `/metrics`: one struct, every name and label in one place.

use std::time::Duration;

use prometheus::{
    Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

/// Cheap to clone: every metric is shared.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    pub watch_events: IntCounterVec,
    pub watch_bytes: IntCounterVec,
    pub undecodable: IntCounterVec,
    pub relists: IntCounterVec,
    pub watch_failures: IntCounterVec,
    pub watch_last_event: IntGaugeVec,
    pub watch_synced: IntGaugeVec,
    pub objects: IntGaugeVec,
    pub changes: IntCounterVec,
    pub changes_ignored: IntCounterVec,
    pub owners_unknown: IntCounterVec,
    pub links: IntCounterVec,
    pub contexts_extracted: IntCounterVec,
    pub convergences_opened: IntCounter,
    pub convergences_closed: IntCounterVec,
    pub convergences_open: IntGaugeVec,
    pub convergence_seconds: HistogramVec,
    pub owners_late: IntCounter,
    pub baselines: IntCounter,
    pub rewinds: IntCounter,
    pub gaps: IntCounter,
    pub spans_exported: IntCounter,
    pub spans_rejected: IntCounter,
    /// Spans of requests the receiver refused for good.
    pub spans_refused: IntCounter,
    pub export_failures: IntCounterVec,
    pub export_seconds: Histogram,
    pub outbox_spans: IntGauge,
    pub outbox_bytes: IntGauge,
    pub outbox_write_failures: IntCounter,
    pub outbox_read_failures: IntCounter,
    pub outbox_damaged: IntCounter,
}

/// Seconds from a Pod's blink to a day's Job.
const CONVERGENCE_BUCKETS: &[f64] =
    &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 86400.0];

impl Metrics {
    #[expect(clippy::too_many_lines, reason = "a list, as long as there are metrics")]
    /// # Errors
    /// When the process collector cannot be registered, which takes a registry that has one.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let r = &registry;
        #[cfg(target_os = "linux")]
        r.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        Ok(Self {
            watch_events: counters(
                r,
                "spanlink_watch_events_total",
                "Watch events read.",
                &["kind", "type"],
            )?,
            watch_bytes: counters(
                r,
                "spanlink_watch_bytes_total",
                "Bytes read from lists and watches.",
                &["kind"],
            )?,
            undecodable: counters(
                r,
                "spanlink_undecodable_objects_total",
                "Watch events and list items that could not be read and were skipped.",
                &["kind"],
            )?,
            relists: counters(
                r,
                "spanlink_relists_total",
                "Lists after the first, by what made them necessary.",
                &["kind", "reason"],
            )?,
            watch_failures: counters(
                r,
                "spanlink_watch_failures_total",
                "Lists and watches that failed, by HTTP status or what happened.",
                &["kind", "reason"],
            )?,
            watch_last_event: gauges(
                r,
                "spanlink_watch_last_event_seconds",
                "Unix time of the last event or bookmark.",
                &["kind"],
            )?,
            watch_synced: gauges(
                r,
                "spanlink_watch_synced",
                "1 once the kind's first list is complete, or not needed.",
                &["kind"],
            )?,
            objects: gauges(r, "spanlink_objects", "Objects known.", &["kind"])?,
            changes: counters(r, "spanlink_changes_total", "Changes seen.", &["kind", "verb"])?,
            changes_ignored: counters(
                r,
                "spanlink_changes_ignored_total",
                "Changes that configuration or an annotation says nobody wants to hear of.",
                &["kind"],
            )?,
            owners_unknown: counters(
                r,
                "spanlink_owners_unknown_total",
                "Changes whose owner is of a kind that is not watched, or long gone.",
                &["kind"],
            )?,
            links: counters(r, "spanlink_links_total", "Span links made, by role.", &["role"])?,
            contexts_extracted: counters(
                r,
                "trace_context_annotations_extracted_total",
                "Trace context annotations read (KEP-5915).",
                &["component", "controller", "resource_kind", "result"],
            )?,
            convergences_opened: counter(
                r,
                "spanlink_convergences_opened_total",
                "Convergences begun.",
            )?,
            convergences_closed: counters(
                r,
                "spanlink_convergences_closed_total",
                "Convergences ended.",
                &["outcome"],
            )?,
            convergences_open: gauges(
                r,
                "spanlink_convergences_open",
                "Convergences that have not ended, by what they wait for.",
                &["kind", "waiting_for"],
            )?,
            convergence_seconds: {
                let opts = HistogramOpts::new(
                    "spanlink_convergence_seconds",
                    "From a change to its outcome `converged`.",
                )
                .buckets(CONVERGENCE_BUCKETS.to_vec());
                let metric = HistogramVec::new(opts, &["kind"])?;
                r.register(Box::new(metric.clone()))?;
                metric
            },
            owners_late: counter(
                r,
                "spanlink_owners_late_total",
                "Changes decided without their owner's watch, which was later than owner_wait.",
            )?,
            baselines: counter(
                r,
                "spanlink_baselines_total",
                "Objects whose content moved without a generation (bindings, new defaults).",
            )?,
            rewinds: counter(
                r,
                "spanlink_rewinds_total",
                "Objects whose generation went back (etcd restored).",
            )?,
            gaps: counter(
                r,
                "spanlink_gaps_total",
                "Generations that were overwritten before they could be seen.",
            )?,
            spans_exported: counter(
                r,
                "spanlink_spans_exported_total",
                "Spans a receiver has accepted.",
            )?,
            spans_rejected: counter(
                r,
                "spanlink_spans_rejected_total",
                "Spans a receiver rejected in a partial success.",
            )?,
            spans_refused: counter(
                r,
                "spanlink_spans_refused_total",
                "Spans of requests a receiver refused for good.",
            )?,
            export_failures: counters(
                r,
                "spanlink_export_failures_total",
                "Export requests that failed, by code; retried where OTLP lets them be.",
                &["code"],
            )?,
            export_seconds: {
                let metric = Histogram::with_opts(HistogramOpts::new(
                    "spanlink_export_seconds",
                    "Duration of export requests.",
                ))?;
                r.register(Box::new(metric.clone()))?;
                metric
            },
            outbox_spans: gauge(r, "spanlink_outbox_spans", "Spans waiting for export.")?,
            outbox_bytes: gauge(r, "spanlink_outbox_bytes", "Bytes waiting for export.")?,
            outbox_write_failures: counter(
                r,
                "spanlink_outbox_write_failures_total",
                "Writes of the outbox's file that failed; tried again until they succeed.",
            )?,
            outbox_read_failures: counter(
                r,
                "spanlink_outbox_read_failures_total",
                "Reads of the outbox's file that failed; it is opened anew then.",
            )?,
            outbox_damaged: counter(
                r,
                "spanlink_outbox_damaged_total",
                "Damaged files set aside; records that were whole are kept.",
            )?,
            registry,
        })
    }

    /// Prometheus text exposition.
    ///
    /// # Errors
    /// When a metric cannot be encoded.
    pub fn text(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    pub fn observe_export(&self, took: Duration) {
        self.export_seconds.observe(took.as_secs_f64());
    }
}

fn counter(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntCounter> {
    let metric = IntCounter::new(name, help)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntCounterVec> {
    let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntGauge> {
    let metric = IntGauge::new(name, help)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn gauges(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntGaugeVec> {
    let metric = IntGaugeVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}
