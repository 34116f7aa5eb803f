//! Carries OpenTelemetry trace context in the annotations of Kubernetes objects, for controllers in
//! Rust.
//!
//! A controller acts long after the request that created or changed an object has ended.
//! [KEP-5915](https://github.com/kubernetes/enhancements/issues/5915) stores the context of that
//! request in the annotation `tracing.k8s.io/traceparent`: the *producer* writes it together with the
//! object ([`Propagation::inject_context`]), and the *consumer* starts the span of its reconciliation
//! as a new root with a link to it ([`Propagation::start_reconcile_span`]). A link rather than a
//! parent, because the request did not wait for the reconciliation.
//!
//! The crate depends on OpenTelemetry's API and on no Kubernetes client. It reads and writes the map of
//! annotations, which `k8s-openapi` has in `metadata.annotations`, and kube in
//! `ResourceExt::annotations` and `annotations_mut`.
//!
//! # A reconciliation
//!
//! ```
//! use opentelemetry::{global, trace::TraceContextExt as _, Context};
//! use spanlink_propagation::{Annotations, Propagation, ReconcileStart};
//!
//! // Once, when the controller starts.
//! let propagation = Propagation::new("widget-operator", "widget");
//!
//! // In each reconciliation: start a span with a link to the trace in which the object was changed.
//! fn reconcile(propagation: &Propagation, widget: &Annotations) -> Annotations {
//!     let tracer = global::tracer("widget-operator");
//!     let context = propagation.start_reconcile_span(
//!         &Context::current(),
//!         &tracer,
//!         "ReconcileWidget",
//!         "Widget",
//!         widget,
//!         ReconcileStart::NewRoot,
//!     );
//!
//!     // A child that the controller creates carries the context of this reconciliation.
//!     let mut child = Annotations::new();
//!     propagation.inject_context(&context, "ConfigMap", &mut child);
//!     context.span().end();
//!     child
//! }
//! # reconcile(&propagation, &Annotations::new());
//! ```
//!
//! # When to inject
//!
//! When the write is a decision: an object is created, or its spec changes. Not for a status, a
//! heartbeat, a lease or housekeeping, which would replace the context of the decision that they report
//! about. Of an update that changes nothing, keep the value that the object has: another one would be a
//! change, and for a Deployment a new generation.
//!
//! # Differences from OpenTelemetry's propagators
//!
//! Annotations can be written by any user, so they are read strictly by
//! [W3C Trace Context](https://www.w3.org/TR/trace-context/). Beside the propagator of
//! OpenTelemetry for Go 1.45, which the tests compare with:
//!
//! - Every flag of version 00 is accepted, as W3C asks of a receiver (`-ff` too); Go refuses reserved
//!   ones. Flags other than *sampled* and *random* are not passed on by
//!   [`Traceparent::span_context`].
//! - A value of version 00 that ends with one more `-` is invalid. Go accepts it.
//! - Of later versions, only the flag *sampled* is read. Go reads *random*, too.
//! - A `tracestate` of more than 512 characters loses members, long ones first, as the
//!   [limits](https://www.w3.org/TR/trace-context/#tracestate-limits) of W3C allow: annotations of an
//!   object are limited.
//! - [`Propagation::inject_context`] removes a `tracestate` that belongs to the context it replaces. The
//!   propagators leave it.
//!
//! # Features
//!
//! | feature | adds |
//! | --- | --- |
//! | `metrics` | `OtelMetrics`: the two metrics of the KEP by a meter of OpenTelemetry |
//! | `prometheus` | `PrometheusMetrics`: the same in a registry of the crate `prometheus` |
//! | `tracing` | module `span`: links and contexts of spans of the crate `tracing` |

mod carrier;
mod metrics;
mod propagation;
#[cfg(feature = "tracing")]
pub mod span;
mod traceparent;
pub mod tracestate;

#[cfg(feature = "metrics")]
pub use metrics::OtelMetrics;
#[cfg(feature = "prometheus")]
pub use metrics::PrometheusMetrics;
pub use metrics::{
    EXTRACTED_TOTAL, INJECTED_TOTAL, Labels, NoMetrics, Outcome, PropagationMetrics,
};
pub use propagation::{Annotations, Propagation, ReconcileStart};
pub use {
    carrier::{AnnotationCarrier, ReadOnlyCarrier},
    traceparent::{InvalidTraceparent, Traceparent},
};

/// Precedes the keys of a propagator: `traceparent`, `tracestate`, `baggage`.
pub const ANNOTATION_PREFIX: &str = "tracing.k8s.io/";
/// The annotation with a [`Traceparent`].
pub const TRACEPARENT_ANNOTATION: &str = "tracing.k8s.io/traceparent";
/// The annotation with a `tracestate`, which belongs to the `traceparent` beside it.
pub const TRACESTATE_ANNOTATION: &str = "tracing.k8s.io/tracestate";
/// The annotation with W3C Baggage, for propagators that have it.
pub const BAGGAGE_ANNOTATION: &str = "tracing.k8s.io/baggage";
