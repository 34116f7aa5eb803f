//! Counts injected and extracted contexts under the names of KEP-5915.

use std::fmt::Debug;

/// The metric that counts written contexts.
pub const INJECTED_TOTAL: &str = "trace_context_annotations_injected_total";
/// The metric that counts contexts that were read.
pub const EXTRACTED_TOTAL: &str = "trace_context_annotations_extracted_total";

#[cfg(any(feature = "metrics", feature = "prometheus"))]
const INJECTED_HELP: &str = "Trace contexts written to annotations (KEP-5915).";
#[cfg(any(feature = "metrics", feature = "prometheus"))]
const EXTRACTED_HELP: &str = "Trace context annotations read (KEP-5915).";

/// The labels of both metrics, besides `result`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Labels<'a> {
    /// The program: `kube-controller-manager`, `widget-operator`.
    pub component: &'a str,
    /// The controller in the program.
    pub controller: &'a str,
    /// The kind of the annotated object: `Deployment`.
    pub resource_kind: &'a str,
    /// The Node, where the program is an agent of one. A label of the extracted contexts only.
    pub node: Option<&'a str>,
}

/// The label `result`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// Injected: there was no valid span context. Extracted: the annotation is invalid.
    Error,
}

impl Outcome {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
        }
    }
}

/// Receives what [`Propagation`](crate::Propagation) counts.
///
/// An object without a context annotation counts as nothing.
pub trait PropagationMetrics: Debug + Send + Sync {
    fn count_injected(&self, labels: &Labels<'_>, outcome: Outcome);
    fn count_extracted(&self, labels: &Labels<'_>, outcome: Outcome);
}

/// Counts nothing: the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMetrics;

impl PropagationMetrics for NoMetrics {
    fn count_injected(&self, _: &Labels<'_>, _: Outcome) {}
    fn count_extracted(&self, _: &Labels<'_>, _: Outcome) {}
}

#[cfg(feature = "metrics")]
mod otel {
    use opentelemetry::{
        KeyValue,
        metrics::{Counter, Meter},
    };

    use super::{
        EXTRACTED_HELP, EXTRACTED_TOTAL, INJECTED_HELP, INJECTED_TOTAL, Labels, Outcome,
        PropagationMetrics,
    };

    /// The metrics as counters of OpenTelemetry.
    #[derive(Debug)]
    pub struct OtelMetrics {
        injected: Counter<u64>,
        extracted: Counter<u64>,
    }

    impl OtelMetrics {
        pub fn new(meter: &Meter) -> Self {
            let counter = |name: &'static str, help: &'static str| {
                meter.u64_counter(name).with_description(help).build()
            };
            Self {
                injected: counter(INJECTED_TOTAL, INJECTED_HELP),
                extracted: counter(EXTRACTED_TOTAL, EXTRACTED_HELP),
            }
        }
    }

    impl PropagationMetrics for OtelMetrics {
        fn count_injected(&self, labels: &Labels<'_>, outcome: Outcome) {
            self.injected.add(1, &attributes(labels, outcome, None));
        }

        fn count_extracted(&self, labels: &Labels<'_>, outcome: Outcome) {
            self.extracted.add(1, &attributes(labels, outcome, labels.node));
        }
    }

    fn attributes(labels: &Labels<'_>, outcome: Outcome, node: Option<&str>) -> Vec<KeyValue> {
        let text = |key: &'static str, value: &str| KeyValue::new(key, value.to_owned());
        let common = [
            text("component", labels.component),
            text("controller", labels.controller),
            text("resource_kind", labels.resource_kind),
            text("result", outcome.name()),
        ];
        common.into_iter().chain(node.map(|node| text("node", node))).collect()
    }
}
#[cfg(feature = "metrics")]
pub use otel::OtelMetrics;

#[cfg(feature = "prometheus")]
mod in_prometheus {
    use prometheus::{IntCounterVec, Opts, Registry};

    use super::{
        EXTRACTED_HELP, EXTRACTED_TOTAL, INJECTED_HELP, INJECTED_TOTAL, Labels, Outcome,
        PropagationMetrics,
    };

    /// The metrics as counters in a registry of the crate `prometheus`.
    #[derive(Clone, Debug)]
    pub struct PrometheusMetrics {
        injected: IntCounterVec,
        extracted: IntCounterVec,
    }

    impl PrometheusMetrics {
        /// # Errors
        /// When the registry has metrics of these names already.
        pub fn new(registry: &Registry) -> prometheus::Result<Self> {
            let counters = |name: &str, help: &str, labels: &[&str]| {
                let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
                registry.register(Box::new(counters.clone()))?;
                Ok::<_, prometheus::Error>(counters)
            };
            Ok(Self {
                injected: counters(
                    INJECTED_TOTAL,
                    INJECTED_HELP,
                    &["component", "controller", "resource_kind", "result"],
                )?,
                extracted: counters(
                    EXTRACTED_TOTAL,
                    EXTRACTED_HELP,
                    &["component", "controller", "resource_kind", "result", "node"],
                )?,
            })
        }
    }

    impl PropagationMetrics for PrometheusMetrics {
        fn count_injected(&self, labels: &Labels<'_>, outcome: Outcome) {
            let Labels { component, controller, resource_kind, node: _ } = *labels;
            let values = [component, controller, resource_kind, outcome.name()];
            self.injected.with_label_values(&values).inc();
        }

        fn count_extracted(&self, labels: &Labels<'_>, outcome: Outcome) {
            let Labels { component, controller, resource_kind, node } = *labels;
            // To Prometheus, a label with an empty value is an absent one.
            let node = node.unwrap_or_default();
            let values = [component, controller, resource_kind, outcome.name(), node];
            self.extracted.with_label_values(&values).inc();
        }
    }
}
#[cfg(feature = "prometheus")]
pub use in_prometheus::PrometheusMetrics;
