//! Applies the environment variables of OpenTelemetry, which replace every other source.
//!
//! The [OTLP exporter's specification](https://opentelemetry.io/docs/specs/otel/protocol/exporter/)
//! defines them, and the one of
//! [variables](https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/)
//! how their values are read. A malformed value counts as unset, with a warning: an operator may have
//! added the variable to a Pod, which shall start all the same. Only an endpoint is refused: the
//! default would send the spans elsewhere.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use percent_encoding::percent_decode_str;

use super::{
    endpoint::{check_url, default_endpoint, is_encrypted, traces_url, with_scheme},
    headers,
    scalars::no_limit_if_zero,
    settings::{Compression, ExportSettings, Protocol, TlsSettings},
};

/// The resource attributes of every span
/// ([Resource SDK](https://opentelemetry.io/docs/specs/otel/resource/sdk/#specifying-resource-information-via-an-environment-variable)).
const RESOURCE_ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";

/// The name of the variable, and what is wrong with its value.
type Problem = (String, String);

/// Replaces what the variables set, and returns a warning about each that is ignored. Where
/// `is_endpoint_set` is false, the endpoint is the default of the protocol.
///
/// # Errors
/// When an endpoint cannot be parsed.
pub(super) fn apply(
    export: &mut ExportSettings,
    is_endpoint_set: bool,
    variables: &BTreeMap<String, String>,
) -> Result<Vec<String>, Problem> {
    let mut environment = Environment { variables, warnings: Vec::new() };
    if let Some((_, protocol)) = environment.get("PROTOCOL", parse_protocol) {
        export.protocol = protocol;
        if !is_endpoint_set {
            default_endpoint(protocol).clone_into(&mut export.endpoint);
        }
    }
    if let Some(endpoint) = environment.endpoint(export.protocol)? {
        export.endpoint = endpoint;
    }
    let protocol = export.protocol;
    if let Some((variable, pairs)) =
        environment.get("HEADERS", |text| parse_headers(text, protocol))
    {
        for (name, value) in pairs {
            // The other headers are still right, and may be what authorizes the requests.
            if headers::is_reserved(&name) {
                let reserved = headers::reserved(&name);
                environment.warnings.push(format!("environment variable {variable}: {reserved}"));
            } else {
                export.headers.insert(name, value);
            }
        }
    }
    if let Some((_, timeout)) = environment.get("TIMEOUT", parse_timeout) {
        export.timeout = timeout;
    }
    if let Some((_, compression)) = environment.get("COMPRESSION", parse_compression) {
        export.compression = compression;
    }
    environment.apply_tls(&mut export.tls, is_encrypted(&export.endpoint));
    let attributes = environment
        .value(RESOURCE_ATTRIBUTES)
        .and_then(|text| environment.parse(RESOURCE_ATTRIBUTES, text, parse_pairs));
    export.resource.extend(attributes.unwrap_or_default());
    Ok(environment.warnings)
}

struct Environment<'a> {
    variables: &'a BTreeMap<String, String>,
    warnings: Vec<String>,
}

impl<'a> Environment<'a> {
    /// The value of a variable. An empty one counts as unset.
    fn value(&self, variable: &str) -> Option<&'a str> {
        let value = self.variables.get(variable)?.trim();
        (!value.is_empty()).then_some(value)
    }

    /// The variable for traces, then the one for all signals, with their values.
    fn values(&self, name: &str) -> impl Iterator<Item = (String, &'a str)> {
        [format!("OTEL_EXPORTER_OTLP_TRACES_{name}"), format!("OTEL_EXPORTER_OTLP_{name}")]
            .into_iter()
            .filter_map(|variable| {
                let value = self.value(&variable)?;
                Some((variable, value))
            })
    }

    /// The first of the two variables with a well-formed value, and that value.
    fn get<T>(
        &mut self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<(String, T)> {
        let values: Vec<_> = self.values(name).collect();
        values.into_iter().find_map(|(variable, value)| {
            let parsed = self.parse(&variable, value, &parse)?;
            Some((variable, parsed))
        })
    }

    /// Parses the value of a variable; `None` with a warning if it is malformed.
    fn parse<T>(
        &mut self,
        variable: &str,
        value: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let parsed = check_unicode(value).and_then(|()| parse(value));
        parsed.map_err(|problem| self.warn(variable, &problem)).ok()
    }

    fn warn(&mut self, variable: &str, problem: &str) {
        self.warnings.push(format!("environment variable {variable} is ignored: {problem}"));
    }

    /// The variable for traces has the whole URL, the one for all signals a base URL.
    fn endpoint(&mut self, protocol: Protocol) -> Result<Option<String>, Problem> {
        let Some((variable, value)) = self.values("ENDPOINT").next() else { return Ok(None) };
        let is_base = !variable.contains("TRACES");
        let endpoint = match protocol {
            Protocol::Grpc => {
                let insecure = self.get("INSECURE", parse_boolean);
                with_scheme(value, insecure.is_some_and(|(_, insecure)| insecure))
            }
            Protocol::HttpProtobuf => Ok(value.to_owned()),
        };
        let checked =
            check_unicode(value).and(endpoint).and_then(|url| check_url(&url).map(|()| url));
        match checked {
            Ok(url) if is_base && protocol == Protocol::HttpProtobuf => Ok(Some(traces_url(&url))),
            Ok(url) => Ok(Some(url)),
            Err(problem) => Err((variable, problem)),
        }
    }

    /// A certificate belongs to an encrypted connection, and a client's certificate to its key;
    /// variables that have no use otherwise are ignored.
    fn apply_tls(&mut self, tls: &mut TlsSettings, is_encrypted: bool) {
        let mut file = |name: &str| -> Option<(String, PathBuf)> {
            let (variable, path) = self.get(name, |path| Ok(path.into()))?;
            if is_encrypted {
                return Some((variable, path));
            }
            self.warn(&variable, "the endpoint is not encrypted; write https:// for TLS");
            None
        };
        if let Some((_, path)) = file("CERTIFICATE") {
            tls.ca_file = Some(path);
        }
        let (cert, key) = (file("CLIENT_CERTIFICATE"), file("CLIENT_KEY"));
        match (cert, key, tls.cert_file.is_some(), tls.key_file.is_some()) {
            (Some((variable, _)), None, _, false) => {
                self.warn(&variable, "the key of the certificate is not set");
            }
            (None, Some((variable, _)), false, _) => {
                self.warn(&variable, "the certificate of the key is not set");
            }
            (cert, key, ..) => {
                tls.cert_file = cert.map(|(_, path)| path).or_else(|| tls.cert_file.take());
                tls.key_file = key.map(|(_, path)| path).or_else(|| tls.key_file.take());
            }
        }
    }
}

/// Bytes of a variable that are not UTF-8 arrive as replacement characters.
fn check_unicode(value: &str) -> Result<(), String> {
    if value.contains(char::REPLACEMENT_CHARACTER) {
        return Err("the value is not valid UTF-8; unset the variable or correct it".to_owned());
    }
    Ok(())
}

fn parse_protocol(text: &str) -> Result<Protocol, String> {
    match text.to_ascii_lowercase().as_str() {
        "grpc" => Ok(Protocol::Grpc),
        "http/protobuf" => Ok(Protocol::HttpProtobuf),
        _ => Err(format!("unsupported protocol {text:?}; use grpc or http/protobuf")),
    }
}

fn parse_compression(text: &str) -> Result<Compression, String> {
    match text.to_ascii_lowercase().as_str() {
        "gzip" => Ok(Compression::Gzip),
        "none" => Ok(Compression::None),
        _ => Err(format!("unsupported compression {text:?}; use gzip or none")),
    }
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    // A sign is not a part of a number here: `u64` would accept `+5`.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()).then_some(text);
    let millis = digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| {
        format!("{text:?} is not a number of milliseconds; write 10000 for ten seconds")
    })?;
    Ok(no_limit_if_zero(Duration::from_millis(millis)))
}

fn parse_boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

fn parse_headers(text: &str, protocol: Protocol) -> Result<Vec<(String, String)>, String> {
    let mut headers = Vec::new();
    for (name, value) in parse_pairs(text)? {
        let name = name.to_ascii_lowercase();
        headers::check(&name, &value)?;
        if protocol == Protocol::Grpc && name.ends_with("-bin") {
            return Err(format!("the header {name} would have a binary value over gRPC"));
        }
        headers.push((name, value));
    }
    Ok(headers)
}

/// Parses `key=value,key=value`, percent-encoded as
/// [W3C baggage](https://www.w3.org/TR/baggage/#header-content). The messages do not repeat the
/// text: a value may be a credential.
fn parse_pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    for (index, pair) in text.split(',').map(str::trim).enumerate() {
        // Where a template joins parts, some are empty.
        if pair.is_empty() {
            continue;
        }
        let number = index + 1;
        let (key, value) = pair
            .split_once('=')
            .filter(|(key, _)| !key.trim().is_empty())
            .ok_or_else(|| format!("pair {number} is not key=value"))?;
        let decode =
            |text| percent_decode(text).map_err(|problem| format!("pair {number} {problem}"));
        pairs.push((decode(key.trim())?, decode(value.trim())?));
    }
    Ok(pairs)
}

fn percent_decode(text: &str) -> Result<String, &'static str> {
    let is_escape = |rest: &str| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !text.split('%').skip(1).all(is_escape) {
        return Err("has a % without two hexadecimal digits; write % as %25");
    }
    match percent_decode_str(text).decode_utf8() {
        Ok(decoded) => Ok(decoded.into_owned()),
        Err(_invalid) => Err("is not UTF-8 once it is decoded"),
    }
}
