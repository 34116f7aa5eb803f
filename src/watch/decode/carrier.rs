//! Reads the trace context that an object carries in its annotations, in any configured format.

use std::collections::HashMap;

use opentelemetry::{baggage::BaggageExt as _, propagation::TextMapPropagator as _};
use opentelemetry_sdk::propagation::BaggagePropagator;
use serde_json::value::RawValue;
use spanlink_propagation::tracestate::MAX_LIST;

use super::json::{RawField, fields_of, find, find_fields, find_text, text};
use crate::{
    config::settings::{CarrierFormat, WatchSettings},
    trace::model::observation::Carrier,
};

/// A traceparent has 55 bytes. A longer value is truncated here and stays invalid.
const MAX_TRACEPARENT: usize = 256;
/// Longer baggage is ignored: the
/// [W3C limit](https://www.w3.org/TR/baggage/#limits) that propagators have to support.
const MAX_BAGGAGE: usize = 8192;
/// A JSON carrier longer than this is invalid.
const MAX_JSON: usize = 16_384;

/// The carrier in the first configured annotation that is present, valid or not.
pub(super) fn read(annotations: &[RawField<'_>], settings: &WatchSettings) -> Option<Carrier> {
    settings.annotations.iter().find_map(|configured| {
        let value = find(annotations, &configured.key)?;
        Some(match configured.format {
            CarrierFormat::W3c => {
                let sibling = |name: &str| {
                    let prefix = configured.key.strip_suffix("traceparent")?;
                    find(annotations, &format!("{prefix}{name}"))
                };
                from_parts(&configured.key, value, sibling, settings)
            }
            CarrierFormat::Json => {
                let json = text(value).filter(|text| text.len() <= MAX_JSON).unwrap_or_default();
                let map: Option<&RawValue> = serde_json::from_str(&json).ok();
                let fields = map.map(fields_of).unwrap_or_default();
                // Without a traceparent the whole value stands for it, so that the carrier is
                // reported as invalid instead of being absent.
                let traceparent = find(&fields, "traceparent").unwrap_or(value);
                from_parts(&configured.key, traceparent, |name| find(&fields, name), settings)
            }
        })
    })
}

/// `find_part` returns the values that stand beside the traceparent, by their W3C names.
fn from_parts<'a>(
    key: &str,
    traceparent: &RawValue,
    find_part: impl Fn(&str) -> Option<&'a RawValue>,
    settings: &WatchSettings,
) -> Carrier {
    let part = |name: &str, max: usize| {
        find_part(name).and_then(text).filter(|text| text.len() <= max).map(Box::from)
    };
    let baggage: Option<Box<str>> =
        if settings.baggage.is_empty() { None } else { part("baggage", MAX_BAGGAGE) };
    let baggage = baggage.map(|baggage| allowed_entries(&baggage, &settings.baggage));
    Carrier {
        key: key.into(),
        traceparent: truncate_bytes(&text(traceparent).unwrap_or_default(), MAX_TRACEPARENT),
        tracestate: part("tracestate", MAX_LIST),
        baggage: baggage.unwrap_or_default(),
    }
}

/// The baggage entries that may become attributes, in the order of the configuration.
fn allowed_entries(baggage: &str, keys: &[String]) -> Vec<(Box<str>, Box<str>)> {
    let headers = HashMap::from([("baggage".to_owned(), baggage.to_owned())]);
    let context = BaggagePropagator::new().extract(&headers);
    let entry = |key: &String| {
        let value = context.baggage().get(key)?;
        Some((key.as_str().into(), value.as_str().into()))
    };
    keys.iter().filter_map(entry).collect()
}

fn truncate_bytes(text: &str, max: usize) -> Box<str> {
    text.get(..text.floor_char_boundary(max)).unwrap_or_default().into()
}

/// The traceparents in the templates of a spec, which the object's children inherit.
pub(super) fn read_templates(spec: &[RawField<'_>], settings: &WatchSettings) -> Vec<Box<str>> {
    let job = find_fields(spec, "jobTemplate");
    let job_spec = find_fields(&job, "spec");
    let in_template = |template: &[RawField<'_>]| {
        read(&find_fields(&find_fields(template, "metadata"), "annotations"), settings)
    };
    [
        in_template(&find_fields(spec, "template")),
        in_template(&job),
        in_template(&find_fields(&job_spec, "template")),
    ]
    .into_iter()
    .flatten()
    .map(|carrier| carrier.traceparent)
    .collect()
}

/// Whether the value of an annotation is `true`.
pub(super) fn is_set(annotations: &[RawField<'_>], key: &str) -> bool {
    find_text(annotations, key).is_some_and(|text| text == "true")
}
