//! What controllers see of the helpers, with the SDK of OpenTelemetry.

#![expect(clippy::unwrap_used, reason = "a failed test is how these helpers report")]

use std::sync::{Arc, Mutex};

use opentelemetry::{
    Context,
    baggage::BaggageExt as _,
    propagation::{Extractor, Injector, TextMapPropagator, text_map_propagator::FieldIter},
    trace::{SpanContext, SpanId, SpanKind, TraceContextExt as _, TracerProvider as _},
};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use spanlink_propagation::{
    Annotations, Labels, Outcome, Propagation, PropagationMetrics, ReconcileStart,
    TRACEPARENT_ANNOTATION, TRACESTATE_ANNOTATION, Traceparent,
};

const STORED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn annotations(pairs: &[(&str, &str)]) -> Annotations {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn stored(state: Option<&str>) -> SpanContext {
    STORED.parse::<Traceparent>().unwrap().span_context(state)
}

/// Runs one reconciliation and returns its span.
fn reconciled(
    propagation: &Propagation,
    outer: &Context,
    object: &Annotations,
    start: ReconcileStart,
) -> SpanData {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let tracer = provider.tracer("test");
    let context =
        propagation.start_reconcile_span(outer, &tracer, "Reconcile", "Widget", object, start);
    assert!(context.span().span_context().is_valid());
    context.span().end();
    provider.force_flush().unwrap();
    exporter.get_finished_spans().unwrap().remove(0)
}

#[test]
fn reconcile_span_is_a_root_that_links_to_the_carried_context() {
    let propagation = Propagation::new("operator", "widget");
    let outer = Context::new().with_remote_span_context(
        "00-11111111111111111111111111111111-2222222222222222-01"
            .parse::<Traceparent>()
            .unwrap()
            .span_context(None),
    );
    let object =
        annotations(&[(TRACEPARENT_ANNOTATION, STORED), (TRACESTATE_ANNOTATION, "vendor=1")]);
    for start in [ReconcileStart::NewRoot, ReconcileStart::ChildOfContext] {
        let span = reconciled(&propagation, &outer, &object, start);
        assert_eq!(span.span_kind, SpanKind::Consumer);
        assert_eq!(span.parent_span_id, SpanId::INVALID);
        assert_ne!(span.span_context.trace_id(), outer.span().span_context().trace_id());
        assert_eq!(span.links.links.len(), 1);
        assert_eq!(span.links.links[0].span_context, stored(Some("vendor=1")));
    }
}

#[test]
fn forms_differ_where_the_object_carries_no_valid_context() {
    let propagation = Propagation::new("operator", "widget");
    let outer = Context::new().with_remote_span_context(stored(None));
    for object in [annotations(&[]), annotations(&[(TRACEPARENT_ANNOTATION, "invalid")])] {
        let root = reconciled(&propagation, &outer, &object, ReconcileStart::NewRoot);
        assert_eq!(root.parent_span_id, SpanId::INVALID);
        assert_ne!(root.span_context.trace_id(), stored(None).trace_id());
        let child = reconciled(&propagation, &outer, &object, ReconcileStart::ChildOfContext);
        assert_eq!(child.parent_span_id, stored(None).span_id());
        assert!(root.links.links.is_empty() && child.links.links.is_empty());
    }
}

#[test]
fn injected_context_replaces_the_one_before_with_its_tracestate() {
    let propagation = Propagation::new("operator", "widget");
    let mut object = annotations(&[
        (TRACEPARENT_ANNOTATION, "old"),
        (TRACESTATE_ANNOTATION, "old=1"),
        ("team", "a"),
    ]);
    let context = |state| Context::new().with_remote_span_context(stored(state));
    assert!(propagation.inject_context(&context(Some("vendor=1")), "Widget", &mut object));
    assert_eq!(object[TRACEPARENT_ANNOTATION], STORED);
    assert_eq!(object[TRACESTATE_ANNOTATION], "vendor=1");
    assert!(propagation.inject_context(&context(None), "Widget", &mut object));
    assert_eq!(object, annotations(&[(TRACEPARENT_ANNOTATION, STORED), ("team", "a")]));
    let extracted = propagation.extract_context(&Context::new(), "Widget", &object);
    assert_eq!(extracted.span().span_context(), &stored(None));
    // Without a span there is nothing to write.
    let before = object.clone();
    assert!(!propagation.inject_context(&Context::new(), "Widget", &mut object));
    assert_eq!(object, before);
}

#[test]
fn disabled_propagation_writes_reads_and_counts_nothing() {
    let counts = Counts::default();
    let propagation =
        Propagation::new("operator", "widget").with_metrics(counts.clone()).with_enabled(false);
    let mut object = annotations(&[(TRACEPARENT_ANNOTATION, STORED)]);
    let before = object.clone();
    let context = Context::new().with_remote_span_context(stored(Some("vendor=1")));
    assert!(!propagation.inject_context(&context, "Widget", &mut object));
    assert_eq!(object, before);
    assert_eq!(propagation.extract_span_context("Widget", &object), None);
    let span = reconciled(&propagation, &Context::new(), &object, ReconcileStart::NewRoot);
    assert!(span.links.links.is_empty());
    assert_eq!(counts.taken(), Vec::<String>::new());
}

#[derive(Clone, Debug, Default)]
struct Counts(Arc<Mutex<Vec<String>>>);

impl Counts {
    fn add(&self, name: &str, labels: &Labels<'_>, outcome: Outcome) {
        let Labels { component, controller, resource_kind, node } = *labels;
        let result = outcome.name();
        let line = format!("{name} {component} {controller} {resource_kind} {node:?} {result}");
        self.0.lock().unwrap().push(line);
    }

    fn taken(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl PropagationMetrics for Counts {
    fn count_injected(&self, labels: &Labels<'_>, outcome: Outcome) {
        self.add("injected", labels, outcome);
    }

    fn count_extracted(&self, labels: &Labels<'_>, outcome: Outcome) {
        self.add("extracted", labels, outcome);
    }
}

#[test]
fn every_written_and_read_context_is_counted() {
    let counts = Counts::default();
    let propagation =
        Propagation::new("operator", "widget").with_metrics(counts.clone()).with_node("node-1");
    let context = Context::new().with_remote_span_context(stored(None));
    let mut object = Annotations::new();
    propagation.extract_span_context("Widget", &object);
    propagation.inject_context(&Context::new(), "Widget", &mut object);
    propagation.inject_context(&context, "Widget", &mut object);
    propagation.extract_span_context("Widget", &object);
    propagation.extract_span_context("Pod", &annotations(&[(TRACEPARENT_ANNOTATION, "")]));
    assert_eq!(
        counts.taken(),
        [
            "injected operator widget Widget Some(\"node-1\") error",
            "injected operator widget Widget Some(\"node-1\") success",
            "extracted operator widget Widget Some(\"node-1\") success",
            "extracted operator widget Pod Some(\"node-1\") error",
        ]
    );
}

/// As the SDK's `BaggagePropagator`, for one entry.
#[derive(Debug)]
struct Tenant;

impl TextMapPropagator for Tenant {
    fn inject_context(&self, context: &Context, injector: &mut dyn Injector) {
        if let Some(tenant) = context.baggage().get("tenant") {
            injector.set("baggage", format!("tenant={}", tenant.as_str()));
        }
    }

    fn extract_with_context(&self, context: &Context, extractor: &dyn Extractor) -> Context {
        let tenant = extractor.get("baggage").and_then(|entry| entry.strip_prefix("tenant="));
        let entry = |tenant: &str| opentelemetry::KeyValue::new("tenant", tenant.to_owned());
        context.with_baggage(tenant.map(entry))
    }

    fn fields(&self) -> FieldIter<'_> {
        FieldIter::new(&[])
    }
}

#[test]
fn additional_propagator_carries_baggage() {
    let propagation = Propagation::new("operator", "widget").with_additional_propagator(Tenant);
    let context = Context::new()
        .with_remote_span_context(stored(None))
        .with_baggage([opentelemetry::KeyValue::new("tenant", "a")]);
    let mut object = Annotations::new();
    propagation.inject_context(&context, "Widget", &mut object);
    assert_eq!(object["tracing.k8s.io/baggage"], "tenant=a");
    let extracted = propagation.extract_context(&Context::new(), "Widget", &object);
    assert_eq!(extracted.baggage().get("tenant").map(ToString::to_string).as_deref(), Some("a"));
}

#[cfg(feature = "prometheus")]
#[test]
fn registry_has_the_metrics_of_the_proposal() {
    let registry = prometheus::Registry::new();
    let metrics = spanlink_propagation::PrometheusMetrics::new(&registry).unwrap();
    let propagation = Propagation::new("operator", "widget").with_metrics(metrics);
    let context = Context::new().with_remote_span_context(stored(None));
    let mut object = Annotations::new();
    propagation.inject_context(&context, "Widget", &mut object);
    propagation.extract_span_context("Widget", &object);
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    for line in [
        r#"trace_context_annotations_injected_total{component="operator",controller="widget",resource_kind="Widget",result="success"} 1"#,
        r#"trace_context_annotations_extracted_total{component="operator",controller="widget",node="",resource_kind="Widget",result="success"} 1"#,
    ] {
        assert!(text.contains(line), "{text}");
    }
}

#[cfg(feature = "tracing")]
#[test]
fn span_of_tracing_links_to_the_carried_context_and_is_injected() {
    use tracing_subscriber::layer::SubscriberExt as _;

    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let propagation = Propagation::new("operator", "widget");
    let mut child = Annotations::new();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        let outer = tracing::info_span!("outer").entered();
        let reconcile = tracing::info_span!(parent: None, "Reconcile", otel.kind = "consumer");
        let object = annotations(&[(TRACEPARENT_ANNOTATION, STORED)]);
        assert!(spanlink_propagation::span::link_context(
            &propagation,
            &reconcile,
            "Widget",
            &object
        ));
        reconcile.in_scope(|| {
            assert!(spanlink_propagation::span::inject_current(&propagation, "Pod", &mut child));
        });
        drop(reconcile);
        drop(outer);
    });
    provider.force_flush().unwrap();
    let spans = exporter.get_finished_spans().unwrap();
    let reconcile = spans.iter().find(|span| span.name == "Reconcile").unwrap();
    assert_eq!(reconcile.parent_span_id, SpanId::INVALID);
    assert_eq!(reconcile.span_kind, SpanKind::Consumer);
    assert_eq!(reconcile.links.links[0].span_context, stored(None));
    let carried: Traceparent = child[TRACEPARENT_ANNOTATION].parse().unwrap();
    assert_eq!(carried.span_id, reconcile.span_context.span_id());
}
