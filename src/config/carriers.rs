//! Reads the option `causes.annotations`: where objects may carry a trace context.

use serde::{Deserialize, Deserializer, de::Error as _};

use super::{
    file::Carrier,
    paths::CarrierPath,
    settings::{CarrierFormat, CarrierPlace, CarrierSettings},
};

/// The carriers without the option, in order of preference: that of
/// [KEP-5915](https://github.com/kubernetes/enhancements/issues/5915), that of Argo Workflows, the bare
/// name of the W3C header, and those of Tekton.
const DEFAULT_KEYS: [&str; 6] = [
    "tracing.k8s.io/traceparent",
    "opentelemetry.io/traceparent",
    "traceparent",
    "tekton.dev/pipelinerunSpanContext",
    "tekton.dev/taskrunSpanContext",
    "tekton.dev/customrunSpanContext",
];

pub(super) fn default_carriers() -> Vec<CarrierSettings> {
    DEFAULT_KEYS.into_iter().map(CarrierSettings::annotation).collect()
}

/// `example.com/traceparent`, `*/traceparent`, or a map with `key` or `field`, and `format`.
impl<'de> Deserialize<'de> for Carrier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CarrierVisitor;
        impl<'de> serde::de::Visitor<'de> for CarrierVisitor {
            type Value = Carrier;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(
                    "the key of an annotation, or a map with key or field, and format (auto, w3c, \
                     json or pair)",
                )
            }
            fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<Carrier, E> {
                let format = CarrierFormat::default();
                Ok(Carrier { key: Some(key.to_owned()), field: None, format })
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Carrier, A::Error> {
                // The derived function of `remote = "Self"`.
                Carrier::deserialize(serde::de::value::MapAccessDeserializer::new(map))
            }
        }
        let carrier = deserializer.deserialize_any(CarrierVisitor)?;
        carrier.place().map(|_| carrier.clone()).map_err(D::Error::custom)
    }
}

impl Carrier {
    /// `None` for an entry that was refused when it was read.
    pub(super) fn settings(self) -> Option<CarrierSettings> {
        Some(CarrierSettings { place: self.place().ok()?, format: self.format })
    }

    fn place(&self) -> Result<CarrierPlace, String> {
        place_of(self.key.clone(), self.field.clone(), self.format)
    }
}

fn place_of(
    key: Option<String>,
    field: Option<CarrierPath>,
    format: CarrierFormat,
) -> Result<CarrierPlace, String> {
    let is_pair = format == CarrierFormat::Pair;
    match (key, field) {
        (Some(key), None) if key.is_empty() => {
            Err("the key of an annotation cannot be empty".to_owned())
        }
        (Some(key), None) if is_pair && !key.ends_with("trace-id") => Err(format!(
            "{key:?} is not the key of a pair; write the key that ends with trace-id, beside which the \
             one with span-id is read"
        )),
        (Some(key), None) => match key.strip_prefix('*') {
            None if key.contains('*') => Err(format!(
                "{key:?} has a * that is not at its beginning; write */traceparent for every key that \
                 ends so"
            )),
            None => Ok(CarrierPlace::Annotation(key)),
            Some(suffix) if !suffix.starts_with('/') || suffix.contains('*') => Err(format!(
                "{key:?} is not a suffix; write */ and the name of the annotation: */traceparent"
            )),
            Some(suffix) => Ok(CarrierPlace::AnnotationSuffix(suffix.to_owned())),
        },
        (None, Some(_)) if is_pair => {
            Err("a field cannot have the format pair; write auto, w3c or json".to_owned())
        }
        (None, Some(field)) => Ok(CarrierPlace::Field(field.0)),
        (Some(_), Some(_)) => Err("key and field exclude each other; write two entries".to_owned()),
        (None, None) => Err("missing option \"key\" or \"field\"".to_owned()),
    }
}
