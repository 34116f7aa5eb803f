//! Finds the trace context that an object carries in its annotations, in any configured form.

use std::collections::HashMap;

use opentelemetry::{baggage::BaggageExt as _, propagation::TextMapPropagator as _};
use opentelemetry_sdk::propagation::BaggagePropagator;
use serde_json::value::RawValue;

use super::{
    body::{Pair, find, find_text},
    lenient::{pairs, text},
};
use crate::{
    config::settings::{CarrierFormat, WatchSettings},
    trace::model::observation::Carrier,
};

/// A traceparent has 55 characters; longer ones are cut and stay recognisably wrong.
const MAX_TRACEPARENT: usize = 256;
/// Longer ones are left away: W3C asks for 512 characters to be passed on.
const MAX_TRACESTATE: usize = 4096;
/// [W3C Baggage](https://www.w3.org/TR/baggage/#limits): what is to be passed on.
const MAX_BAGGAGE: usize = 8192;
/// More than all three may have; longer maps are no carriers.
const MAX_JSON: usize = 16_384;

/// The first configured annotation that is there, whatever it holds.
pub(super) fn read(annotations: &[Pair<'_>], settings: &WatchSettings) -> Option<Carrier> {
    settings.annotations.iter().find_map(|carrier| {
        let value = find(annotations, &carrier.key)?;
        Some(match carrier.format {
            CarrierFormat::W3c => {
                let beside = |name: &str| {
                    let prefix = carrier.key.strip_suffix("traceparent")?;
                    find(annotations, &format!("{prefix}{name}"))
                };
                of_parts(&carrier.key, value, beside, settings)
            }
            CarrierFormat::Json => {
                let map = text(value).filter(|text| text.len() <= MAX_JSON).unwrap_or_default();
                let map: Option<&RawValue> = serde_json::from_str(&map).ok();
                let fields = map.map(pairs).unwrap_or_default();
                // Without one, what there is stays recognisably wrong.
                let traceparent = find(&fields, "traceparent").unwrap_or(value);
                of_parts(&carrier.key, traceparent, |name| find(&fields, name), settings)
            }
        })
    })
}

fn of_parts<'a>(
    key: &str,
    traceparent: &RawValue,
    beside: impl Fn(&str) -> Option<&'a RawValue>,
    settings: &WatchSettings,
) -> Carrier {
    let beside = |name: &str, max: usize| {
        beside(name).and_then(text).filter(|text| text.len() <= max).map(Box::from)
    };
    let baggage: Option<Box<str>> =
        if settings.baggage.is_empty() { None } else { beside("baggage", MAX_BAGGAGE) };
    Carrier {
        key: key.into(),
        traceparent: cut_bytes(&text(traceparent).unwrap_or_default(), MAX_TRACEPARENT),
        tracestate: beside("tracestate", MAX_TRACESTATE),
        baggage: baggage.map(|baggage| allowed(&baggage, &settings.baggage)).unwrap_or_default(),
    }
}

/// The entries that may become attributes, in the order they are allowed.
fn allowed(baggage: &str, keys: &[String]) -> Vec<(Box<str>, Box<str>)> {
    let carrier = HashMap::from([("baggage".to_owned(), baggage.to_owned())]);
    let context = BaggagePropagator::new().extract(&carrier);
    let entry = |key: &String| {
        let value = context.baggage().get(key)?;
        Some((key.as_str().into(), value.as_str().into()))
    };
    keys.iter().filter_map(entry).collect()
}

fn cut_bytes(text: &str, max: usize) -> Box<str> {
    text.get(..text.floor_char_boundary(max)).unwrap_or_default().into()
}

/// What templates in a spec carry, from which the object makes children.
pub(super) fn of_templates(spec: &[Pair<'_>], settings: &WatchSettings) -> Vec<Box<str>> {
    let job = pairs_of(spec, "jobTemplate");
    let job_spec = pairs_of(&job, "spec");
    let of = |template: &[Pair<'_>]| {
        read(&pairs_of(&pairs_of(template, "metadata"), "annotations"), settings)
    };
    [of(&pairs_of(spec, "template")), of(&job), of(&pairs_of(&job_spec, "template"))]
        .into_iter()
        .flatten()
        .map(|carrier| carrier.traceparent)
        .collect()
}

fn pairs_of<'de>(fields: &[Pair<'de>], key: &str) -> Vec<Pair<'de>> {
    find(fields, key).map(pairs).unwrap_or_default()
}

/// Whether an annotation says `true`.
pub(super) fn is_set(annotations: &[Pair<'_>], key: &str) -> bool {
    find_text(annotations, key).is_some_and(|text| text == "true")
}
