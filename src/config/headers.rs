//! Checks the headers of requests to the collector. Names of headers have no case.
//!
//! No message repeats a value: it may be a credential.

use std::{collections::BTreeMap, fmt};

use config::ValueKind;
use http::{HeaderName, HeaderValue};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, Visitor},
};

use super::yaml::{Document, YamlError, path_of_option};

const OPTION: &str = "otlp.headers";
/// Headers that the protocols set themselves. A second value would break the framing of requests or
/// contradict their content.
const RESERVED: [&str; 10] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The option `otlp.headers`, with names in lower case.
#[derive(Clone, Debug, Default)]
pub(super) struct Headers(pub(super) BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeadersVisitor)
    }
}

struct HeadersVisitor;

impl<'de> Visitor<'de> for HeadersVisitor {
    type Value = Headers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of header names and values")
    }

    /// `OTEL_EXPORTER_OTLP_HEADERS` has this form, so it is a likely mistake.
    fn visit_str<E: serde::de::Error>(self, _credentials: &str) -> Result<Headers, E> {
        Err(E::custom("headers are a map, as in {authorization: Bearer …}, and not a text"))
    }

    fn visit_unit<E>(self) -> Result<Headers, E> {
        Ok(Headers::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Headers, A::Error> {
        let mut headers = BTreeMap::new();
        while let Some(name) = entries.next_key::<String>()? {
            let name = name.to_ascii_lowercase();
            let value = entries.next_value_seed(ValueOf(&name))?;
            headers.insert(name, value);
        }
        Ok(Headers(headers))
    }
}

/// Reads the value of the header with this name, and checks both: then an error has the position of
/// the header.
struct ValueOf<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for ValueOf<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        let Self(name) = self;
        let value = String::deserialize(deserializer)?;
        check(name, &value).map_err(D::Error::custom)?;
        if is_reserved(name) {
            return Err(D::Error::custom(reserved(name)));
        }
        Ok(value)
    }
}

/// Checks the syntax of a header
/// ([RFC 9110](https://www.rfc-editor.org/rfc/rfc9110#section-5)).
///
/// # Errors
/// With the name, if that is not what is wrong.
pub(super) fn check(name: &str, value: &str) -> Result<(), String> {
    if HeaderName::from_bytes(name.as_bytes()).is_err() {
        return Err(
            "the name of a header is not valid; write letters, digits and hyphens".to_owned()
        );
    }
    if HeaderValue::from_str(value).is_err() {
        return Err(format!(
            "the value of the header {name} is not valid; remove line breaks and other control \
             characters"
        ));
    }
    Ok(())
}

/// Whether the protocols set the header themselves.
pub(super) fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name) || name.starts_with("grpc-")
}

/// The message about a reserved header.
pub(super) fn reserved(name: &str) -> String {
    format!("the header {name} is set by the protocol and cannot be configured")
}

/// Puts the names of the headers in a file into lower case, so that an environment variable replaces
/// the same header of the file.
///
/// # Errors
/// When the file has the same header twice.
pub(super) fn fold_names(document: &mut Document) -> Result<(), YamlError> {
    let Some(ValueKind::Table(otlp)) = document.options.get_mut("otlp").map(|otlp| &mut otlp.kind)
    else {
        return Ok(());
    };
    let Some(ValueKind::Table(headers)) = otlp.get_mut("headers").map(|value| &mut value.kind)
    else {
        return Ok(());
    };
    let positions = &mut document.positions;
    let position_of = |name: &str| positions.get(&path_of_option(OPTION, name)).copied();
    let mut in_file: Vec<_> = std::mem::take(headers)
        .into_iter()
        .map(|(name, value)| (position_of(&name), name, value))
        .collect();
    in_file.sort_by_key(|(position, ..)| {
        position.map(|position| (position.name.line, position.name.column))
    });
    for (position, name, value) in in_file {
        let folded = name.to_ascii_lowercase();
        if let Some(position) = position {
            if headers.contains_key(&folded) {
                let problem = format!("the header {folded} is set twice; names have no case");
                return Err(YamlError { position: position.name, problem });
            }
            positions.insert(path_of_option(OPTION, &folded), position);
        }
        headers.insert(folded, value);
    }
    Ok(())
}
