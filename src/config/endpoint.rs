//! Checks the URL of a collector, and derives the one for traces from a base URL.
//!
//! No message repeats the URL: its user, password, path and query may be credentials.

use std::{fmt, str::FromStr as _};

use http::{Uri, uri::InvalidUri};
use serde::{Deserialize, Deserializer, de::Error as _};

use super::settings::Protocol;

const EXAMPLE: &str = "write it as http://collector:4317, or with https:// for TLS";
/// Where a receiver of OTLP over HTTP accepts traces
/// ([OTLP](https://opentelemetry.io/docs/specs/otlp/#otlphttp-request)).
const TRACES_PATH: &str = "/v1/traces";

/// The endpoint that the specification gives each protocol.
pub(super) const fn default_endpoint(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Grpc => "http://localhost:4317",
        Protocol::HttpProtobuf => "http://localhost:4318/v1/traces",
    }
}

/// An `http://` or `https://` URL with a host.
#[derive(Clone, Debug)]
pub(super) struct EndpointUrl(pub(super) String);

impl<'de> Deserialize<'de> for EndpointUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        check_url(&text).map_err(D::Error::custom)?;
        Ok(Self(text))
    }
}

/// Checks that the text is an `http://` or `https://` URL with a host, and with a port from 1 to
/// 65535 if it has one.
///
/// # Errors
/// With what is wrong and how an endpoint is written.
pub(super) fn check_url(text: &str) -> Result<(), String> {
    let Some((scheme, _)) = text.split_once("://") else {
        return Err(format!("the endpoint has no scheme; {EXAMPLE}"));
    };
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Err(format!("the scheme of the endpoint is neither http nor https; {EXAMPLE}"));
    }
    let uri = Uri::from_str(text)
        .map_err(|error: InvalidUri| format!("the endpoint is not a URL ({error}); {EXAMPLE}"))?;
    if uri.host().is_none_or(str::is_empty) {
        return Err(format!("the endpoint has no host; {EXAMPLE}"));
    }
    let port = port_text(&uri);
    if !port.is_empty() && !port.parse::<u16>().is_ok_and(|port| port > 0) {
        return Err(format!("the port of the endpoint is not a number from 1 to 65535; {EXAMPLE}"));
    }
    Ok(())
}

/// The port as it is written; empty without one. [`Uri::port`] has none for a wrong one.
fn port_text(uri: &Uri) -> &str {
    let authority = uri.authority().map_or("", http::uri::Authority::as_str);
    let host_and_port = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let rest = host_and_port.strip_prefix(uri.host().unwrap_or_default()).unwrap_or_default();
    rest.strip_prefix(':').unwrap_or_default()
}

/// Gives an address without a scheme, as gRPC clients accept it, the scheme that the variable
/// `OTEL_EXPORTER_OTLP_INSECURE` chooses.
///
/// # Errors
/// When the address is a name that only a resolver of other gRPC clients understands: `unix:/x`.
pub(super) fn with_scheme(address: &str, is_insecure: bool) -> Result<String, String> {
    if address.contains("://") {
        return Ok(address.to_owned());
    }
    let host_and_port = address.split('/').next().unwrap_or_default();
    if host_and_port.ends_with(':') {
        return Err(format!("the endpoint is not an address of a host; {EXAMPLE}"));
    }
    let scheme = if is_insecure { "http" } else { "https" };
    Ok(format!("{scheme}://{address}"))
}

/// The URL for traces below a base URL: `v1/traces` is relative to its path, and its query is kept.
pub(super) fn traces_url(base: &str) -> String {
    let end = base.find(['?', '#']).unwrap_or(base.len());
    let (path, rest) = base.split_at(end);
    let query = rest.split('#').next().unwrap_or_default();
    format!("{}{TRACES_PATH}{query}", path.trim_end_matches('/'))
}

/// Whether connections to the endpoint use TLS.
pub(super) fn is_encrypted(endpoint: &str) -> bool {
    endpoint.split_once("://").is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("https"))
}

/// A URL as it may be logged: scheme, host and port.
pub(super) struct Redacted<'a>(pub(super) &'a Uri);

impl fmt::Display for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(uri) = self;
        write!(f, "{}://{}", uri.scheme_str().unwrap_or("http"), uri.host().unwrap_or_default())?;
        match uri.port_u16() {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// Warns about a URL for OTLP over HTTP that has no path.
pub(super) fn missing_path(protocol: Protocol, endpoint: &str) -> Option<String> {
    let uri = Uri::from_str(endpoint).ok()?;
    if protocol != Protocol::HttpProtobuf || !matches!(uri.path(), "" | "/") {
        return None;
    }
    let address = Redacted(&uri);
    Some(format!(
        "the endpoint has no path, so spans are sent to {address}/; a receiver of OTLP over HTTP \
         usually accepts traces at {address}{TRACES_PATH}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_has_a_known_scheme_a_host_and_a_valid_port() {
        for url in [
            "http://collector:4317",
            "HTTPS://collector",
            "http://[::1]:4317",
            "http://collector:/v1/traces",
            "https://user:p%40ss@collector:4318/v1/traces?api-key=abc#part",
        ] {
            assert_eq!(check_url(url), Ok(()), "{url}");
        }
        for (url, problem) in [
            ("collector:4317", "no scheme"),
            ("localhost", "no scheme"),
            ("", "no scheme"),
            ("htp://user:s3cret@h/v1/traces?api-key=s3cret", "neither http nor https"),
            ("dns:///s3cret:4317", "neither http nor https"),
            ("://s3cret", "neither http nor https"),
            ("http://", "not a URL"),
            ("http://:4317", "no host"),
            ("http://user:s3cret@", "not a URL"),
            ("http://s3cret host:4317", "not a URL"),
            ("http://user:s3cret@collector:99999", "from 1 to 65535"),
            ("http://collector:0", "from 1 to 65535"),
            ("http://collector:http", "from 1 to 65535"),
        ] {
            let refusal = check_url(url).expect_err(url);
            assert!(refusal.contains(problem) && !refusal.contains("s3cret"), "{url}: {refusal}");
        }
    }

    #[test]
    fn traces_have_a_path_below_that_of_the_base_url() {
        for (base, traces) in [
            ("http://c:4318", "http://c:4318/v1/traces"),
            ("http://c:4318/", "http://c:4318/v1/traces"),
            ("http://c:4318/otlp", "http://c:4318/otlp/v1/traces"),
            ("http://c:4318/otlp/?token=x/y", "http://c:4318/otlp/v1/traces?token=x/y"),
            ("http://c:4318?token=x", "http://c:4318/v1/traces?token=x"),
            ("http://c:4318/otlp#part", "http://c:4318/otlp/v1/traces"),
            ("http://c:4318/otlp?a=b#part?", "http://c:4318/otlp/v1/traces?a=b"),
        ] {
            assert_eq!(traces_url(base), traces, "{base}");
        }
    }

    #[test]
    fn address_without_a_scheme_is_encrypted_unless_insecure() {
        assert_eq!(with_scheme("c:4317", false).unwrap(), "https://c:4317");
        assert_eq!(with_scheme("c:4317", true).unwrap(), "http://c:4317");
        assert_eq!(with_scheme("[::1]:4317", true).unwrap(), "http://[::1]:4317");
        assert_eq!(with_scheme("http://c:4317", false).unwrap(), "http://c:4317");
        assert_eq!(with_scheme("https://c:4317", true).unwrap(), "https://c:4317");
        assert!(with_scheme("unix:/run/otlp.sock", true).is_err());
    }

    #[test]
    fn http_endpoint_without_a_path_is_warned_about_without_its_credentials() {
        let endpoint = "http://user:s3cret@c:4318?key=s3cret";
        let warning = missing_path(Protocol::HttpProtobuf, endpoint).unwrap();
        assert!(warning.contains("http://c:4318/v1/traces") && !warning.contains("s3cret"));
        assert_eq!(missing_path(Protocol::Grpc, endpoint), None);
        assert_eq!(missing_path(Protocol::HttpProtobuf, "http://c:4318/v1/traces"), None);
    }
}
