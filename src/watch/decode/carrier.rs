//! Reads what an object carries for its spans: a trace context, in any configured place and format, and
//! the values of attributes.

use std::collections::HashMap;

use opentelemetry::{baggage::BaggageExt as _, propagation::TextMapPropagator as _};
use opentelemetry_sdk::propagation::BaggagePropagator;
use serde_json::value::RawValue;
use spanlink_propagation::{Traceparent, tracestate::MAX_LIST};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{
    field,
    json::{RawField, fields_of, find, find_fields, find_text, text, truncate},
    wire::RawObject,
};
use crate::{
    config::settings::{CarrierFormat, CarrierPlace, CarrierSettings, WatchSettings},
    trace::model::{
        object::GroupKind,
        observation::{Carrier, is_in_status},
        path::{is_within, segments},
    },
};

/// A traceparent has 55 bytes. A longer value is truncated here and stays invalid.
const MAX_TRACEPARENT: usize = 256;
/// Longer baggage is ignored: the
/// [W3C limit](https://www.w3.org/TR/baggage/#limits) that propagators have to support.
const MAX_BAGGAGE: usize = 8192;
/// Longer values of attributes are truncated to this many characters.
const MAX_ATTRIBUTE: usize = 256;
/// A JSON carrier longer than this is invalid.
const MAX_JSON: usize = 16_384;

/// Values that one entry of the configuration may select: a suffix may match several annotations.
const MAX_CANDIDATES: usize = 8;

/// The parts of an object that may carry a trace context.
#[derive(Clone, Copy)]
pub(super) struct Carriers<'a, 'de> {
    pub(super) annotations: &'a [RawField<'de>],
    /// `None`: a template, of which only annotations are read.
    pub(super) object: Option<&'a RawObject<'de>>,
    pub(super) settings: &'a WatchSettings,
}

impl Carriers<'_, '_> {
    /// The first valid carrier, in the order of the configuration. Without one, the first that is not
    /// empty, so that it is reported as invalid.
    pub(super) fn first(self) -> Option<Carrier> {
        let mut invalid = None;
        let candidates =
            self.settings.carriers.iter().flat_map(|configured| self.candidates(configured));
        for carrier in candidates.filter(|carrier| !carrier.traceparent.is_empty()) {
            if carrier.traceparent.parse::<Traceparent>().is_ok() {
                return Some(carrier);
            }
            invalid.get_or_insert(carrier);
        }
        invalid
    }

    fn candidates(self, configured: &CarrierSettings) -> Vec<Carrier> {
        let format = configured.format;
        match &configured.place {
            CarrierPlace::Annotation(key) => self.in_annotation(key, format).into_iter().collect(),
            CarrierPlace::AnnotationSuffix(suffix) => {
                let keys = self.annotations.iter().map(|(key, _)| &**key);
                let mut keys: Vec<&str> = keys.filter(|key| key.ends_with(&**suffix)).collect();
                // The order in which a map was written has no meaning.
                keys.sort_unstable();
                keys.dedup();
                let keys = keys.into_iter().take(MAX_CANDIDATES);
                keys.filter_map(|key| self.in_annotation(key, format)).collect()
            }
            CarrierPlace::Field(path) => self.in_field(path, format).into_iter().collect(),
        }
    }

    fn in_annotation(self, key: &str, format: CarrierFormat) -> Option<Carrier> {
        let value = find(self.annotations, key)?;
        if format == CarrierFormat::Pair {
            return self.in_pair(key, value);
        }
        let sibling = |name: &str| {
            let prefix = key.strip_suffix("traceparent")?;
            find(self.annotations, &format!("{prefix}{name}"))
        };
        self.read_value(key, value, format, sibling)
    }

    /// Neither of the two annotations has flags. Their trace was recorded, as a rule: it counts as
    /// sampled.
    fn in_pair(self, key: &str, trace_id: &RawValue) -> Option<Carrier> {
        let span_key = format!("{}span-id", key.strip_suffix("trace-id")?);
        // A trace id alone names no span to link to.
        let span_id = find_text(self.annotations, &span_key).filter(|id| !id.is_empty())?;
        let traceparent = format!("00-{}-{span_id}-01", text(trace_id)?);
        Some(Carrier {
            key: key.into(),
            traceparent: truncate_bytes(&traceparent, MAX_TRACEPARENT),
            ..Carrier::default()
        })
    }

    fn in_field(self, path: &str, format: CarrierFormat) -> Option<Carrier> {
        let object = self.object?;
        let value = field_of(object, path)?;
        let sibling = |name: &str| {
            let parent = path.strip_suffix("traceparent")?;
            field_of(object, &format!("{parent}{name}"))
        };
        // A field can be a map itself, where an annotation can only be the text of one.
        let carrier = if value.get().starts_with('{') {
            let fields = fields_of(value);
            self.read_parts(path, find(&fields, "traceparent")?, |name| find(&fields, name))
        } else {
            self.read_value(path, value, format, sibling)?
        };
        Some(Carrier { is_field: true, ..carrier })
    }

    /// `sibling` returns the values beside that of a `traceparent`, by their W3C names.
    fn read_value<'v>(
        self,
        key: &str,
        value: &'v RawValue,
        format: CarrierFormat,
        sibling: impl Fn(&str) -> Option<&'v RawValue>,
    ) -> Option<Carrier> {
        let content = text(value)?;
        let is_json = match format {
            CarrierFormat::Json => true,
            CarrierFormat::Auto => content.trim_start().starts_with('{'),
            CarrierFormat::W3c | CarrierFormat::Pair => false,
        };
        if !is_json {
            return Some(self.read_parts(key, value, sibling));
        }
        let json = if content.len() <= MAX_JSON { &*content } else { "" };
        let map: Option<&RawValue> = serde_json::from_str(json).ok();
        let fields = map.map(fields_of).unwrap_or_default();
        // Without a traceparent the whole value stands for it, so that the carrier is reported as
        // invalid instead of being absent. A map of other propagators is none.
        let is_of_another = !fields.is_empty() && find(&fields, "traceparent").is_none();
        if is_of_another {
            return None;
        }
        let traceparent = find(&fields, "traceparent").unwrap_or(value);
        Some(self.read_parts(key, traceparent, |name| find(&fields, name)))
    }

    /// `find_part` returns the values that stand beside the traceparent, by their W3C names.
    fn read_parts<'v>(
        self,
        key: &str,
        traceparent: &RawValue,
        find_part: impl Fn(&str) -> Option<&'v RawValue>,
    ) -> Carrier {
        let keys = &self.settings.baggage;
        let part = |name: &str, max: usize| {
            find_part(name).and_then(text).filter(|text| text.len() <= max).map(Box::from)
        };
        let baggage: Option<Box<str>> =
            if keys.is_empty() { None } else { part("baggage", MAX_BAGGAGE) };
        let baggage = baggage.map(|baggage| allowed_entries(&baggage, keys));
        Carrier {
            key: key.into(),
            is_field: false,
            traceparent: truncate_bytes(&text(traceparent).unwrap_or_default(), MAX_TRACEPARENT),
            tracestate: part("tracestate", MAX_LIST),
            baggage: baggage.unwrap_or_default(),
        }
    }
}

/// A fingerprint of the text of the status fields that may carry a context; 0 where none is configured.
/// The body of an object with another one is read again.
pub(super) fn status_fingerprint(object: &RawObject<'_>, settings: &WatchSettings) -> u64 {
    let fields = settings.carriers.iter().filter_map(|carrier| match &carrier.place {
        CarrierPlace::Field(path) if is_in_status(path) => Some(path),
        _ => None,
    });
    let values = fields.filter_map(|path| field_of(object, path));
    values.fold(0, |seed, value| xxh3_64_with_seed(value.get().as_bytes(), seed))
}

fn field_of<'de>(object: &RawObject<'de>, path: &str) -> Option<&'de RawValue> {
    let path = segments(path);
    let (first, rest) = path.split_first()?;
    let first =
        if first.name() == "status" { object.status } else { object.content_field(first.name()) }?;
    rest.iter().try_fold(first, |value, segment| field::child(value, *segment))
}

/// The values that become attributes of spans, in the order of their keys. Values that the configuration
/// redacts are left out.
pub(super) fn read_attributes(
    kind: &GroupKind,
    labels: &[RawField<'_>],
    annotations: &[RawField<'_>],
    settings: &WatchSettings,
) -> Vec<(Box<str>, Box<str>)> {
    let configured = &settings.attributes;
    let is_redacted = |path: &str| {
        settings.redacted_of(&kind.group, &kind.kind).any(|redacted| is_within(path, redacted))
    };
    let of_labels = configured.from_labels.iter().map(|entry| ("labels", labels, entry));
    let of_annotations =
        configured.from_annotations.iter().map(|entry| ("annotations", annotations, entry));
    let mut attributes: Vec<(Box<str>, Box<str>)> = Vec::new();
    for (place, fields, (key, attribute)) in of_labels.chain(of_annotations) {
        let value = find_text(fields, key).filter(|value| !value.is_empty());
        let is_first = attributes.iter().all(|(other, _)| **other != **attribute);
        if let Some(value) = value
            && is_first
            && !is_redacted(&format!("metadata.{place}[{key}]"))
        {
            attributes.push((attribute.as_str().into(), truncate(&value, MAX_ATTRIBUTE)));
        }
    }
    attributes
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
        let metadata = find_fields(template, "metadata");
        let annotations = find_fields(&metadata, "annotations");
        Carriers { annotations: &annotations, object: None, settings }.first()
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
