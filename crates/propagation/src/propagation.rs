//! Injects and extracts contexts and starts the spans of reconciliations.

use std::{collections::BTreeMap, sync::Arc};

use opentelemetry::{
    Context,
    baggage::{BaggageExt as _, KeyValueMetadata},
    propagation::TextMapPropagator,
    trace::{Link, Span, SpanContext, SpanKind, TraceContextExt as _, Tracer},
};

use crate::{
    Labels, NoMetrics, Outcome, PropagationMetrics, TRACEPARENT_ANNOTATION, TRACESTATE_ANNOTATION,
    Traceparent,
    carrier::{AnnotationCarrier, ReadOnlyCarrier},
    tracestate,
};

/// The annotations of an object.
pub type Annotations = BTreeMap<String, String>;

/// What a reconcile span is where the object carries no valid context. With one, it is always a new
/// root with a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReconcileStart {
    /// A new root without a link, by the text of the KEP.
    #[default]
    NewRoot,
    /// A child of the span in the context that the caller passes, if there is one, by the draft of the
    /// helpers in Go (`component-base/tracing`).
    ChildOfContext,
}

/// Reads and writes contexts for one controller. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Propagation {
    is_enabled: bool,
    component: Arc<str>,
    controller: Arc<str>,
    node: Option<Arc<str>>,
    metrics: Arc<dyn PropagationMetrics>,
    /// For what W3C Trace Context does not carry, such as baggage.
    additional: Option<Arc<dyn TextMapPropagator + Send + Sync>>,
}

impl Propagation {
    /// For a controller of a program, which the labels `component` and `controller` of the metrics name.
    pub fn new(component: &str, controller: &str) -> Self {
        Self {
            is_enabled: true,
            component: component.into(),
            controller: controller.into(),
            node: None,
            metrics: Arc::new(NoMetrics),
            additional: None,
        }
    }

    /// The switch of the KEP's feature gate `AsyncTraceContextPropagation`. Without it, nothing is
    /// injected or extracted, reconcile spans have no links, and nothing is counted.
    #[must_use]
    pub fn with_enabled(self, is_enabled: bool) -> Self {
        Self { is_enabled, ..self }
    }

    /// The label `node` of the extracted contexts, for agents such as a kubelet.
    #[must_use]
    pub fn with_node(self, node: &str) -> Self {
        Self { node: Some(node.into()), ..self }
    }

    #[must_use]
    pub fn with_metrics(self, metrics: impl PropagationMetrics + 'static) -> Self {
        Self { metrics: Arc::new(metrics), ..self }
    }

    /// A propagator that reads and writes further annotations, such as the SDK's `BaggagePropagator` for
    /// `tracing.k8s.io/baggage`. It must not write `traceparent` and `tracestate`.
    #[must_use]
    pub fn with_additional_propagator(
        self,
        propagator: impl TextMapPropagator + Send + Sync + 'static,
    ) -> Self {
        Self { additional: Some(Arc::new(propagator)), ..self }
    }

    pub fn is_enabled(&self) -> bool {
        self.is_enabled
    }

    /// Writes the span of a context to the annotations of an object that is about to be created, or whose
    /// spec is about to be changed. A context that the object carried is replaced.
    ///
    /// Returns whether it wrote anything: without a valid span in the context, the annotations stay as
    /// they are. `resource_kind` is a label of the metrics: `Deployment`.
    pub fn inject_context(
        &self,
        context: &Context,
        resource_kind: &str,
        annotations: &mut Annotations,
    ) -> bool {
        if !self.is_enabled {
            return false;
        }
        let span = context.span();
        let traceparent = Traceparent::from_span_context(span.span_context());
        let outcome = if traceparent.is_some() { Outcome::Success } else { Outcome::Error };
        self.metrics.count_injected(&self.labels(resource_kind), outcome);
        let Some(traceparent) = traceparent else { return false };
        annotations.insert(TRACEPARENT_ANNOTATION.into(), traceparent.to_string());
        match tracestate::parse(&span.span_context().trace_state().header()) {
            Some(state) => drop(annotations.insert(TRACESTATE_ANNOTATION.into(), state.into())),
            // That of the replaced context.
            None => drop(annotations.remove(TRACESTATE_ANNOTATION)),
        }
        if let Some(propagator) = &self.additional {
            propagator.inject_context(context, &mut AnnotationCarrier::new(annotations));
        }
        true
    }

    /// Reads the context that an object carries, as the remote span of a context that is otherwise
    /// `context`. Returns `context` itself where there is none or an invalid one.
    pub fn extract_context(
        &self,
        context: &Context,
        resource_kind: &str,
        annotations: &Annotations,
    ) -> Context {
        let Some(span_context) = self.extract_span_context(resource_kind, annotations) else {
            return context.clone();
        };
        let extracted = context.with_remote_span_context(span_context);
        match &self.additional {
            Some(propagator) => {
                propagator.extract_with_context(&extracted, &ReadOnlyCarrier::new(annotations))
            }
            None => extracted,
        }
    }

    /// Reads the context that an object carries: the target of a link. `None` where there is none or an
    /// invalid one.
    pub fn extract_span_context(
        &self,
        resource_kind: &str,
        annotations: &Annotations,
    ) -> Option<SpanContext> {
        let traceparent = annotations.get(TRACEPARENT_ANNOTATION).filter(|_| self.is_enabled)?;
        let parsed = traceparent.parse::<Traceparent>();
        let outcome = if parsed.is_ok() { Outcome::Success } else { Outcome::Error };
        self.metrics.count_extracted(&self.labels(resource_kind), outcome);
        let state = annotations.get(TRACESTATE_ANNOTATION).map(String::as_str);
        Some(parsed.ok()?.span_context(state))
    }

    /// Starts the span of a reconciliation, of kind CONSUMER: a new root with a link to the context that
    /// the object carries. `start` decides about objects without a valid one.
    ///
    /// The span is in the returned context, which has the values of `context`. It ends with
    /// `context.span().end()`, or when the last copy of the context is dropped.
    pub fn start_reconcile_span<T>(
        &self,
        context: &Context,
        tracer: &T,
        name: &str,
        resource_kind: &str,
        annotations: &Annotations,
        start: ReconcileStart,
    ) -> Context
    where
        T: Tracer,
        T::Span: Span + Send + Sync + 'static,
    {
        let carried = self.extract_span_context(resource_kind, annotations);
        let is_root = carried.is_some() || start == ReconcileStart::NewRoot;
        let links = carried.into_iter().map(Link::with_context).collect();
        let builder =
            tracer.span_builder(name.to_owned()).with_kind(SpanKind::Consumer).with_links(links);
        let parent = if is_root { without_span(context) } else { context.clone() };
        context.with_span(tracer.build_with_context(builder, &parent))
    }

    fn labels<'a>(&'a self, resource_kind: &'a str) -> Labels<'a> {
        Labels {
            component: &self.component,
            controller: &self.controller,
            resource_kind,
            node: self.node.as_deref(),
        }
    }
}

/// A context without a span, with the baggage, which span processors read. An invalid span in its place
/// would be a parent that is not sampled, which makes the SDK's default sampler drop the root.
fn without_span(context: &Context) -> Context {
    let baggage = context.baggage().iter().map(|(key, (value, metadata))| {
        KeyValueMetadata::new(key.clone(), value.clone(), metadata.clone())
    });
    let root = Context::new().with_baggage(baggage);
    if context.is_telemetry_suppressed() { root.with_telemetry_suppressed() } else { root }
}
