//! Presents annotations to propagators, which read and write keys such as `traceparent`.

use std::collections::BTreeMap;

use opentelemetry::propagation::{Extractor, Injector};

use crate::ANNOTATION_PREFIX;

/// Annotations to which a propagator writes: [`ANNOTATION_PREFIX`] precedes each of its keys.
///
/// For propagators other than that of W3C Trace Context, such as the one for baggage.
/// [`Propagation`](crate::Propagation) writes `traceparent` and `tracestate`.
#[derive(Debug)]
pub struct AnnotationCarrier<'a>(&'a mut BTreeMap<String, String>);

impl<'a> AnnotationCarrier<'a> {
    pub fn new(annotations: &'a mut BTreeMap<String, String>) -> Self {
        Self(annotations)
    }
}

impl Injector for AnnotationCarrier<'_> {
    fn set(&mut self, key: &str, value: String) {
        self.0.insert(format!("{ANNOTATION_PREFIX}{key}"), value);
    }
}

impl Extractor for AnnotationCarrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        ReadOnlyCarrier(self.0).find(key)
    }

    fn keys(&self) -> Vec<&str> {
        ReadOnlyCarrier(self.0).prefixed_keys()
    }
}

/// Annotations from which a propagator reads.
#[derive(Clone, Copy, Debug)]
pub struct ReadOnlyCarrier<'a>(&'a BTreeMap<String, String>);

impl<'a> ReadOnlyCarrier<'a> {
    pub fn new(annotations: &'a BTreeMap<String, String>) -> Self {
        Self(annotations)
    }

    fn find(self, key: &str) -> Option<&'a str> {
        self.0.get(&format!("{ANNOTATION_PREFIX}{key}")).map(String::as_str)
    }

    fn prefixed_keys(self) -> Vec<&'a str> {
        self.0.keys().filter_map(|key| key.strip_prefix(ANNOTATION_PREFIX)).collect()
    }
}

impl Extractor for ReadOnlyCarrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.find(key)
    }

    fn keys(&self) -> Vec<&str> {
        self.prefixed_keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carrier_reads_and_writes_keys_behind_the_prefix_only() {
        let mut annotations = BTreeMap::from([("baggage".to_owned(), "other=1".to_owned())]);
        let mut carrier = AnnotationCarrier::new(&mut annotations);
        assert_eq!(carrier.get("baggage"), None);
        carrier.set("baggage", "tenant=a".into());
        assert_eq!(carrier.get("baggage"), Some("tenant=a"));
        assert_eq!(carrier.keys(), ["baggage"]);
        assert_eq!(annotations["baggage"], "other=1");
        assert_eq!(annotations["tracing.k8s.io/baggage"], "tenant=a");
        assert_eq!(ReadOnlyCarrier::new(&annotations).get("baggage"), Some("tenant=a"));
    }
}
