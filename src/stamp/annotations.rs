//! The annotations of a trace context.

/// The annotation that identifies a span, by KEP-5915:
/// <https://github.com/kubernetes/enhancements/issues/5915>. The others stand beside it.
pub const TRACEPARENT: &str = "tracing.k8s.io/traceparent";
pub const TRACESTATE: &str = "tracing.k8s.io/tracestate";
pub const BAGGAGE: &str = "tracing.k8s.io/baggage";

/// A trace context as annotations. The caller validates the values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotations {
    values: [(&'static str, Option<String>); 3],
}

impl Annotations {
    /// An annotation without a value is not added. Where it exists beside a replaced `traceparent`, it
    /// becomes empty, as it belongs to another trace.
    pub const fn new(
        traceparent: String,
        tracestate: Option<String>,
        baggage: Option<String>,
    ) -> Self {
        Self {
            values: [
                (TRACEPARENT, Some(traceparent)),
                (TRACESTATE, tracestate),
                (BAGGAGE, baggage),
            ],
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, Option<&str>)> {
        self.values.iter().map(|(name, value)| (*name, value.as_deref()))
    }

    pub(super) fn present(&self) -> Vec<(&'static str, &str)> {
        self.all().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}
