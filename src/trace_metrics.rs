//! Adds the metric updates that the trace returns to the metrics of the daemon.

use crate::{
    metrics::Metrics,
    trace::{progress::outcome::Outcome, spans::output::TraceMetric},
};

/// The labels `component` and `controller` of
/// [KEP-5915](https://github.com/kubernetes/enhancements/issues/5915)'s metric: the reader of the
/// annotations.
const COMPONENT: &str = "spanlink";

pub(crate) fn count(metrics: &Metrics, update: &TraceMetric) {
    match update {
        TraceMetric::Change { kind, verb } => {
            metrics.changes.with_label_values(&[&*kind.to_string(), verb.name()]).inc();
        }
        TraceMetric::Ignored { kind } => {
            metrics.ignored_changes.with_label_values(&[&*kind.to_string()]).inc();
        }
        TraceMetric::OwnerUnknown { kind } => {
            metrics.unknown_owners.with_label_values(&[&*kind.to_string()]).inc();
        }
        TraceMetric::Extracted { kind, valid, sampled } => {
            if *valid && !sampled {
                metrics.unsampled_contexts.inc();
            }
            let result = if *valid { "success" } else { "invalid" };
            metrics
                .contexts_extracted
                .with_label_values(&[COMPONENT, COMPONENT, &*kind.kind, result])
                .inc();
        }
        TraceMetric::Link { role } => metrics.links.with_label_values(&[*role]).inc(),
        TraceMetric::Opened => metrics.convergences_opened.inc(),
        TraceMetric::Closed { kind, outcome, took } => {
            metrics.convergences_closed.with_label_values(&[outcome.name()]).inc();
            if *outcome == Outcome::Converged {
                metrics
                    .convergence_duration
                    .with_label_values(&[&*kind.to_string()])
                    .observe(took.as_secs_f64());
            }
        }
        TraceMetric::OwnerWaitTimeout => metrics.owner_wait_timeouts.inc(),
        TraceMetric::ContentWithoutGeneration => metrics.content_changes_without_generation.inc(),
        TraceMetric::GenerationRollback => metrics.generation_rollbacks.inc(),
        TraceMetric::BoundReached { bound } => {
            metrics.trace_bounds_reached.with_label_values(&[bound.name()]).inc();
        }
        TraceMetric::MissedGenerations { generations } => {
            metrics.missed_generations.inc_by(u64::try_from(*generations).unwrap_or(0));
        }
    }
}
