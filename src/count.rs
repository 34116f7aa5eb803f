//! Counts what the trace notes.

use crate::{
    metrics::Metrics,
    trace::{converge::Outcome, output::TraceMetric},
};

/// KEP-5915's labels for who reads annotations.
const COMPONENT: &str = "spanlink";

pub(crate) fn note(metrics: &Metrics, note: &TraceMetric) {
    match note {
        TraceMetric::Change { kind, verb } => {
            metrics.changes.with_label_values(&[&*kind.to_string(), verb.name()]).inc();
        }
        TraceMetric::Ignored { kind } => {
            metrics.changes_ignored.with_label_values(&[&*kind.to_string()]).inc();
        }
        TraceMetric::OwnerUnknown { kind } => {
            metrics.owners_unknown.with_label_values(&[&*kind.to_string()]).inc();
        }
        TraceMetric::Extracted { kind, valid } => {
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
                    .convergence_seconds
                    .with_label_values(&[&*kind.to_string()])
                    .observe(took.as_secs_f64());
            }
        }
        TraceMetric::OwnerLate => metrics.owners_late.inc(),
        TraceMetric::Baseline => metrics.baselines.inc(),
        TraceMetric::Rewound => metrics.rewinds.inc(),
        TraceMetric::Gap { generations } => {
            metrics.gaps.inc_by(u64::try_from(*generations).unwrap_or(0));
        }
    }
}
