//! Counts what happens, for `/metrics`: one struct, every name and label in one place.
//!
//! Names follow [OpenMetrics](https://prometheus.io/docs/specs/om/open_metrics_spec/): the unit
//! last, `_total` for counters, `_timestamp_seconds` for points in time. `docs/metrics.md` lists
//! them all.

use std::{collections::BTreeMap, time::Duration};

use prometheus::{
    Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder, core::Collector as _, proto::MetricFamily,
};

/// Every metric of the daemon. Cheap to clone: clones share the same values.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    pub watch_events: IntCounterVec,
    pub watch_bytes: IntCounterVec,
    pub undecodable_objects: IntCounterVec,
    pub health_rule_failures: IntCounterVec,
    pub relists: IntCounterVec,
    pub watch_probes: IntCounterVec,
    pub watch_failures: IntCounterVec,
    pub watch_last_event_timestamp: IntGaugeVec,
    pub watch_synced: IntGaugeVec,
    pub tracked_objects: IntGaugeVec,
    pub changes: IntCounterVec,
    pub ignored_changes: IntCounterVec,
    pub unknown_owners: IntCounterVec,
    pub links: IntCounterVec,
    pub contexts_extracted: IntCounterVec,
    pub unsampled_contexts: IntCounter,
    pub convergences_opened: IntCounter,
    pub convergences_closed: IntCounterVec,
    pub open_convergences: IntGaugeVec,
    pub convergence_duration: HistogramVec,
    pub owner_wait_timeouts: IntCounter,
    pub content_changes_without_generation: IntCounter,
    pub generation_rollbacks: IntCounter,
    pub missed_generations: IntCounter,
    /// Labelled with the name of the bound.
    pub trace_bounds_reached: IntCounterVec,
    pub spans_exported: IntCounter,
    /// Labelled with the reason: see [`SpanDrop`].
    pub spans_dropped: IntCounterVec,
    pub export_failures: IntCounterVec,
    pub export_foreign_responses: IntCounter,
    pub export_duration: Histogram,
    pub outbox_spans: IntGauge,
    pub outbox_bytes: IntGauge,
    pub outbox_write_failures: IntCounter,
    pub outbox_read_failures: IntCounter,
    pub outbox_corruptions: IntCounter,
    pub quarantine_spans: IntGauge,
    pub quarantine_bytes: IntGauge,
    /// Labelled with the code of the response, or with `oversized`.
    pub quarantined_spans: IntCounterVec,
    /// Labelled with the action: `retry`, `drop`, `evict`.
    pub quarantine_removed_spans: IntCounterVec,
}

/// Why spans were dropped; the label `reason` of `spanlink_spans_dropped_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanDrop {
    /// The receiver accepted the request but rejected some of its spans (partial success).
    Rejected,
    /// The receiver answered the whole request with a status that must not be retried.
    Refused,
    /// A single span is larger than the largest request.
    Oversized,
    /// A record of the outbox cannot be decoded, as after a corruption of its file.
    Undecodable,
    /// A span in quarantine had to make room for newer ones.
    QuarantineFull,
}

impl SpanDrop {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Refused => "refused",
            Self::Oversized => "oversized",
            Self::Undecodable => "undecodable",
            Self::QuarantineFull => "quarantine_full",
        }
    }
}

/// In seconds: from a Pod that starts at once to a Job that runs for a day.
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
            undecodable_objects: counters(
                r,
                "spanlink_undecodable_objects_total",
                "Watch events and list items that could not be decoded and were skipped.",
                &["kind"],
            )?,
            health_rule_failures: counters(
                r,
                "spanlink_health_rule_failures_total",
                "Evaluations of health rules that failed; such objects count as unknown.",
                &["kind"],
            )?,
            relists: counters(
                r,
                "spanlink_relists_total",
                "Lists after the first, by the reason for listing again.",
                &["kind", "reason"],
            )?,
            watch_probes: counters(
                r,
                "spanlink_watch_probes_total",
                "Reads of one object that check whether a silent watch still follows the API server.",
                &["kind", "result"],
            )?,
            watch_failures: counters(
                r,
                "spanlink_watch_failures_total",
                "Lists and watches that failed, by HTTP status or kind of failure.",
                &["kind", "reason"],
            )?,
            watch_last_event_timestamp: gauges(
                r,
                "spanlink_watch_last_event_timestamp_seconds",
                "Unix time of the last event or bookmark.",
                &["kind"],
            )?,
            watch_synced: gauges(
                r,
                "spanlink_watch_synced",
                "1 once every watch of the kind has listed or resumed, else 0.",
                &["kind"],
            )?,
            tracked_objects: gauges(r, "spanlink_tracked_objects", "Objects tracked.", &["kind"])?,
            changes: counters(r, "spanlink_changes_total", "Changes detected.", &["kind", "verb"])?,
            ignored_changes: counters(
                r,
                "spanlink_ignored_changes_total",
                "Changes without spans, because the configuration or an annotation ignores them.",
                &["kind"],
            )?,
            unknown_owners: counters(
                r,
                "spanlink_unknown_owners_total",
                "Changes whose owner is not tracked: its kind is not watched, or it was deleted.",
                &["kind"],
            )?,
            links: counters(r, "spanlink_links_total", "Span links created, by role.", &["role"])?,
            contexts_extracted: counters(
                r,
                "trace_context_annotations_extracted_total",
                "Trace context annotations read (KEP-5915).",
                &["component", "controller", "resource_kind", "result"],
            )?,
            unsampled_contexts: counter(
                r,
                "spanlink_contexts_unsampled_total",
                "Valid trace contexts read without the flag sampled.",
            )?,
            convergences_opened: counter(
                r,
                "spanlink_convergences_opened_total",
                "Convergences started.",
            )?,
            convergences_closed: counters(
                r,
                "spanlink_convergences_closed_total",
                "Convergences that reached an outcome.",
                &["outcome"],
            )?,
            open_convergences: gauges(
                r,
                "spanlink_open_convergences",
                "Convergences without an outcome yet, by what they wait for.",
                &["kind", "waiting_for"],
            )?,
            convergence_duration: {
                let opts = HistogramOpts::new(
                    "spanlink_convergence_duration_seconds",
                    "From a change to its outcome `converged`.",
                )
                .buckets(CONVERGENCE_BUCKETS.to_vec());
                let metric = HistogramVec::new(opts, &["kind"])?;
                r.register(Box::new(metric.clone()))?;
                metric
            },
            owner_wait_timeouts: counter(
                r,
                "spanlink_owner_wait_timeouts_total",
                "Changes decided after owner_wait, before the watch of their owner had caught up.",
            )?,
            content_changes_without_generation: counter(
                r,
                "spanlink_content_changes_without_generation_total",
                "Content that changed in the same generation (bindings, new defaults): no change.",
            )?,
            generation_rollbacks: counter(
                r,
                "spanlink_generation_rollbacks_total",
                "Objects whose generation went back, as after etcd was restored.",
            )?,
            missed_generations: counter(
                r,
                "spanlink_missed_generations_total",
                "Generations that were overwritten before they were observed.",
            )?,
            trace_bounds_reached: counters(
                r,
                "spanlink_trace_bounds_reached_total",
                "Times that a bounded table of the trace was full, by the name of the bound.",
                &["bound"],
            )?,
            spans_exported: counter(
                r,
                "spanlink_spans_exported_total",
                "Spans that the receiver accepted.",
            )?,
            spans_dropped: counters(
                r,
                "spanlink_spans_dropped_total",
                "Spans that were lost, by reason: rejected, refused, oversized, undecodable, \
                 quarantine_full.",
                &["reason"],
            )?,
            export_failures: counters(
                r,
                "spanlink_export_failures_total",
                "Export requests that failed, by code; retried where OTLP allows it.",
                &["code"],
            )?,
            export_foreign_responses: counter(
                r,
                "spanlink_export_foreign_responses_total",
                "Successful responses that are not responses of OTLP, as the login page of a proxy.",
            )?,
            export_duration: {
                let metric = Histogram::with_opts(HistogramOpts::new(
                    "spanlink_export_duration_seconds",
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
                "Writes of the outbox file that failed; each is retried until it succeeds.",
            )?,
            outbox_read_failures: counter(
                r,
                "spanlink_outbox_read_failures_total",
                "Reads of the outbox file that failed; it is reopened after each.",
            )?,
            outbox_corruptions: counter(
                r,
                "spanlink_outbox_corruptions_total",
                "Corrupt outbox files that were set aside; their intact records are kept.",
            )?,
            quarantine_spans: gauge(
                r,
                "spanlink_quarantine_spans",
                "Spans in quarantine, because the receiver refused them.",
            )?,
            quarantine_bytes: gauge(r, "spanlink_quarantine_bytes", "Bytes in quarantine.")?,
            quarantined_spans: counters(
                r,
                "spanlink_quarantined_spans_total",
                "Spans that went to quarantine, by the code of the response, or oversized.",
                &["code"],
            )?,
            quarantine_removed_spans: counters(
                r,
                "spanlink_quarantine_removed_spans_total",
                "Spans that left quarantine: retried or dropped by a user, or evicted by newer ones.",
                &["action"],
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
        self.export_duration.observe(took.as_secs_f64());
    }

    /// Counts spans that went to quarantine.
    pub fn quarantine(&self, code: &str, spans: usize) {
        self.quarantined_spans.with_label_values(&[code]).inc_by(spans as u64);
    }

    /// Counts spans that a user retried or dropped.
    pub fn remove_quarantined_spans(&self, action: &str, spans: usize) {
        self.quarantine_removed_spans.with_label_values(&[action]).inc_by(spans as u64);
    }

    /// Counts spans that had to leave quarantine for newer ones.
    pub fn evict_quarantined_spans(&self, spans: usize) {
        self.remove_quarantined_spans("evict", spans);
        self.drop_spans(SpanDrop::QuarantineFull, spans as u64);
    }

    pub fn drop_spans(&self, reason: SpanDrop, spans: u64) {
        self.spans_dropped.with_label_values(&[reason.name()]).inc_by(spans);
    }
}

/// Sets the gauges of these label values and removes all others. A scrape in between sees old or new
/// values, but never none.
pub fn replace_gauges(gauges: &IntGaugeVec, values: &BTreeMap<Vec<String>, i64>) {
    for (labels, value) in values {
        gauges.with_label_values(labels).set(*value);
    }
    let families = gauges.collect();
    for metric in families.iter().flat_map(MetricFamily::get_metric) {
        // Labels are sorted by name, as in the declarations here.
        let labels: Vec<String> =
            metric.get_label().iter().map(|label| label.value().to_owned()).collect();
        if !values.contains_key(&labels) {
            gauges.remove_label_values(&labels).ok();
        }
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
