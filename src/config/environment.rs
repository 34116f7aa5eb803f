//! Applies the environment variables of OpenTelemetry, which replace every other source.
//!
//! The [OTLP exporter's specification](https://opentelemetry.io/docs/specs/otel/protocol/exporter/)
//! defines them: a variable for traces replaces the one for all signals.

use std::{collections::BTreeMap, time::Duration};

use super::settings::{Compression, Protocol, Settings};

/// The name of the variable, and what is wrong with its value.
type Problem = (String, String);

pub(super) const fn default_endpoint(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Grpc => "http://localhost:4317",
        Protocol::HttpProtobuf => "http://localhost:4318/v1/traces",
    }
}

pub(super) fn apply(
    settings: &mut Settings,
    variables: &BTreeMap<String, String>,
) -> Result<(), Problem> {
    let get = |name: &str| {
        let for_traces = format!("OTEL_EXPORTER_OTLP_TRACES_{name}");
        let for_all_signals = format!("OTEL_EXPORTER_OTLP_{name}");
        [for_traces, for_all_signals].into_iter().find_map(|name| {
            let value = variables.get(&name).filter(|value| !value.is_empty())?;
            Some((name, value.clone()))
        })
    };
    let export = &mut settings.export;
    if let Some((name, value)) = get("PROTOCOL") {
        let before = export.protocol;
        export.protocol = match value.as_str() {
            "grpc" => Protocol::Grpc,
            "http/protobuf" => Protocol::HttpProtobuf,
            other => {
                return Err((
                    name,
                    format!("unsupported protocol {other:?}; use grpc or http/protobuf"),
                ));
            }
        };
        if export.endpoint == default_endpoint(before) {
            default_endpoint(export.protocol).clone_into(&mut export.endpoint);
        }
    }
    if let Some((name, value)) = get("ENDPOINT") {
        let is_general = !name.contains("TRACES");
        export.endpoint = if is_general && export.protocol == Protocol::HttpProtobuf {
            format!("{}/v1/traces", value.trim_end_matches('/'))
        } else {
            value
        };
    }
    if let Some((name, value)) = get("HEADERS") {
        export.headers.extend(parse_pairs(&name, &value)?);
    }
    if let Some((name, value)) = get("TIMEOUT") {
        let millis: u64 = value
            .parse()
            .map_err(|_malformed| (name, format!("{value:?} is not a number of milliseconds")))?;
        export.timeout = Duration::from_millis(millis);
    }
    if let Some((name, value)) = get("COMPRESSION") {
        export.compression = match value.as_str() {
            "gzip" => Compression::Gzip,
            "none" => Compression::None,
            other => {
                return Err((name, format!("unsupported compression {other:?}; use gzip or none")));
            }
        };
    }
    let file = |name: &str| get(name).map(|(_, path)| path.into());
    export.tls.ca_file = file("CERTIFICATE").or_else(|| export.tls.ca_file.take());
    export.tls.cert_file = file("CLIENT_CERTIFICATE").or_else(|| export.tls.cert_file.take());
    export.tls.key_file = file("CLIENT_KEY").or_else(|| export.tls.key_file.take());
    if let Some(value) = variables.get("OTEL_RESOURCE_ATTRIBUTES") {
        export.resource.extend(parse_pairs("OTEL_RESOURCE_ATTRIBUTES", value)?);
    }
    Ok(())
}

/// Parses `key=value,key=value`, percent-encoded as
/// [W3C baggage](https://www.w3.org/TR/baggage/#header-content).
fn parse_pairs(name: &str, text: &str) -> Result<Vec<(String, String)>, Problem> {
    text.split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| (name.to_owned(), "expected key=value,key=value".to_owned()))?;
            Ok((percent_decode(key.trim()), percent_decode(value.trim())))
        })
        .collect()
}

fn percent_decode(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| *byte == b'%');
        let value = digits
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        decoded.push(value.unwrap_or(*byte));
        rest = after.get(if value.is_some() { 2 } else { 0 }..).unwrap_or_default();
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
