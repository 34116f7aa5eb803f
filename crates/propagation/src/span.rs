//! Links and contexts of spans of the crate `tracing`, for programs that export them with
//! `tracing-opentelemetry`.
//!
//! ```
//! use spanlink_propagation::{Annotations, Propagation, span};
//! use tracing::info_span;
//!
//! # let propagation = Propagation::new("widget-operator", "widget");
//! # let (widget, mut child) = (Annotations::new(), Annotations::new());
//! // `parent: None` makes it a root, as the KEP asks for.
//! let reconcile = info_span!(parent: None, "ReconcileWidget", otel.kind = "consumer");
//! span::link_context(&propagation, &reconcile, "Widget", &widget);
//! let _entered = reconcile.enter();
//! // …
//! span::inject_current(&propagation, "ConfigMap", &mut child);
//! ```

use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::{Annotations, Propagation};

/// Adds a link to the context that an object carries. Returns whether it carries a valid one.
///
/// The caller decides the parent of the span: with `parent: None` it is a new root.
pub fn link_context(
    propagation: &Propagation,
    span: &Span,
    resource_kind: &str,
    annotations: &Annotations,
) -> bool {
    let carried = propagation.extract_span_context(resource_kind, annotations);
    let is_linked = carried.is_some();
    if let Some(carried) = carried {
        span.add_link(carried);
    }
    is_linked
}

/// Writes the current span to annotations, as [`Propagation::inject_context`] does.
pub fn inject_current(
    propagation: &Propagation,
    resource_kind: &str,
    annotations: &mut Annotations,
) -> bool {
    propagation.is_enabled()
        && propagation.inject_context(&Span::current().context(), resource_kind, annotations)
}
