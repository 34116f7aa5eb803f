//! Configuration as it is written in YAML, option by option. Every one is optional.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Deserializer, de::Error as _};

use super::{
    path::{ContentPath, StatusPath},
    settings::{
        CarrierKey, Compression, ContextSampling, ConvergesSettings, KindSelector, Layout,
        MetadataChanges, Protocol, Stale, Startup,
    },
};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) cluster: Cluster,
    pub(super) watch: Option<Vec<Watch>>,
    pub(super) layout: Layout,
    pub(super) project: bool,
    pub(super) cascade_max: Option<u32>,
    pub(super) settle: Option<Length>,
    pub(super) deadline: Option<Length>,
    pub(super) owner_wait: Option<Length>,
    pub(super) stuck_after: Option<Length>,
    pub(super) batch: Option<Length>,
    pub(super) startup: Startup,
    pub(super) metadata_changes: MetadataChanges,
    pub(super) redact: Vec<ContentPath>,
    pub(super) propagation: Propagation,
    pub(super) causes: Causes,
    pub(super) sampling: Sampling,
    pub(super) otlp: Otlp,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) outbox: Outbox,
    pub(super) admin: Admin,
    pub(super) own_traces: OwnTraces,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Cluster {
    pub(super) name: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Watch {
    pub(super) kind: WatchedKind,
    #[serde(default)]
    pub(super) namespaces: Vec<String>,
    pub(super) label_selector: Option<String>,
    pub(super) field_selector: Option<String>,
    pub(super) service: Option<String>,
    #[serde(default)]
    pub(super) ignore: Ignore,
    pub(super) converges: Option<Converges>,
    #[serde(default)]
    pub(super) events: bool,
    #[serde(default)]
    pub(super) values: Vec<ContentPath>,
    #[serde(default)]
    pub(super) redact: Vec<ContentPath>,
    #[serde(default)]
    pub(super) include_labels: Vec<String>,
    #[serde(default)]
    pub(super) include_annotations: Vec<String>,
    pub(super) settle: Option<Length>,
    pub(super) deadline: Option<Length>,
    pub(super) owner_wait: Option<Length>,
    pub(super) stuck_after: Option<Length>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Ignore {
    pub(super) fields: Vec<String>,
    pub(super) managers: Vec<String>,
}

/// `{field: status.health.status, current: [Healthy], failed: [Degraded]}`
#[derive(Clone, Debug)]
pub(super) struct Converges(pub(super) ConvergesSettings);

impl<'de> Deserialize<'de> for Converges {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Written {
            field: StatusPath,
            #[serde(default)]
            current: Vec<Word>,
            #[serde(default)]
            failed: Vec<Word>,
        }
        let Written { field, current, failed } = Written::deserialize(from)?;
        let words = |written: Vec<Word>| written.into_iter().map(|word| word.0).collect::<Vec<_>>();
        let (current, failed) = (words(current), words(failed));
        if current.is_empty() && failed.is_empty() {
            return Err(D::Error::custom(format!(
                "no value of {} means anything; list some in current, in failed, or both",
                field.0
            )));
        }
        let has_failed =
            |word: &String| failed.iter().any(|other| other.eq_ignore_ascii_case(word));
        if let Some(both) = current.iter().find(|word| has_failed(word)) {
            return Err(D::Error::custom(format!(
                "{both:?} cannot mean both: it is in current and in failed"
            )));
        }
        Ok(Self(ConvergesSettings { field: field.0, current, failed }))
    }
}

/// A value of a field as it is compared: `Healthy`, `true`, `3`.
#[derive(Clone, Debug)]
struct Word(String);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Scalar;
        impl serde::de::Visitor<'_> for Scalar {
            type Value = String;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a value: text, a number, true or false")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<String, E> {
                Ok(text.to_owned())
            }
            fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<String, E> {
                Ok(value.to_string())
            }
            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<String, E> {
                Ok(value.to_string())
            }
            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<String, E> {
                Ok(value.to_string())
            }
            fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<String, E> {
                Ok(value.to_string())
            }
        }
        from.deserialize_any(Scalar).map(Self)
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Propagation {
    pub(super) enabled: bool,
}

impl Default for Propagation {
    fn default() -> Self {
        Self { enabled: true }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Causes {
    pub(super) annotations: Option<Vec<Annotation>>,
    pub(super) baggage: Vec<String>,
    pub(super) stale: Stale,
    pub(super) previous: bool,
    pub(super) references: Vec<Reference>,
}

/// `example.com/traceparent`, or `{key: example.com/span-context, format: json}`.
#[derive(Clone, Debug)]
pub(super) struct Annotation(pub(super) CarrierKey);

impl<'de> Deserialize<'de> for Annotation {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Written;
        impl<'de> serde::de::Visitor<'de> for Written {
            type Value = CarrierKey;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an annotation's key, or a map with key and format (w3c or json)")
            }
            fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<CarrierKey, E> {
                Ok(CarrierKey { key: key.to_owned(), ..CarrierKey::default() })
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                map: A,
            ) -> Result<CarrierKey, A::Error> {
                CarrierKey::deserialize(serde::de::value::MapAccessDeserializer::new(map))
            }
        }
        let carrier = from.deserialize_any(Written)?;
        if carrier.key.is_empty() {
            return Err(D::Error::custom("an annotation has a key"));
        }
        Ok(Self(carrier))
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reference {
    pub(super) kind: Kind,
    pub(super) field: String,
    pub(super) to: Option<Kind>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Sampling {
    pub(super) contexts: ContextSampling,
    pub(super) ratio: Option<Ratio>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Ratio(pub(super) f64);

impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let ratio = f64::deserialize(from)?;
        if (0.0..=1.0).contains(&ratio) {
            Ok(Self(ratio))
        } else {
            Err(D::Error::custom(format!("{ratio} is no share; write a number from 0 to 1")))
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Otlp {
    pub(super) endpoint: Option<String>,
    pub(super) protocol: Protocol,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) compression: Compression,
    pub(super) timeout: Option<Length>,
    pub(super) tls: Tls,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tls {
    pub(super) ca_file: Option<PathBuf>,
    pub(super) cert_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) server_name: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Outbox {
    pub(super) spans_max: Option<usize>,
    pub(super) bytes_max: Option<usize>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Admin {
    pub(super) listen: Option<Listen>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct OwnTraces {
    pub(super) endpoint: Option<String>,
}

/// A duration as people write it: `500ms`, `5m`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Length(pub(super) Duration);

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        parse_duration(&text).map(Self).map_err(D::Error::custom)
    }
}

pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration; write 500ms, 2s, 15m or 24h");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let duration: jiff::SignedDuration = text.parse().map_err(|_unlike| wrong())?;
    let duration = Duration::try_from(duration).map_err(|_negative| wrong())?;
    if duration > Duration::from_hours(24 * 366) {
        return Err(format!("{text:?} is over a year; nobody waits for that"));
    }
    Ok(duration)
}

#[derive(Clone, Debug)]
pub(super) struct Kind(pub(super) KindSelector);

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        KindSelector::parse(&text).map(Self).map_err(D::Error::custom)
    }
}

/// A kind whose objects people and controllers change.
#[derive(Clone, Debug)]
pub(super) struct WatchedKind(pub(super) KindSelector);

impl<'de> Deserialize<'de> for WatchedKind {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Kind(selector) = Kind::deserialize(from)?;
        let is_of_events =
            selector.selects("events.k8s.io", "Event") || selector.selects("", "Event");
        if is_of_events {
            return Err(D::Error::custom(format!(
                "{selector} is no kind that changes; write events: true at the kinds that Events are \
                 about"
            )));
        }
        Ok(Self(selector))
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Listen(pub(super) Option<SocketAddr>);

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        if text == "none" {
            return Ok(Self(None));
        }
        text.parse().map(|address| Self(Some(address))).map_err(|_unlike| {
            D::Error::custom(format!("{text:?} is no address; write 0.0.0.0:9464, or none"))
        })
    }
}
