//! The address of the collector.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderValue, Uri, uri::PathAndQuery};
use percent_encoding::percent_decode_str;

use super::error::ClientError;
use crate::redacted_url::redact_url;

/// Where requests are sent. It is displayed without user, password, path and query, which may be
/// secrets.
#[derive(Clone)]
pub(super) struct Endpoint {
    /// `http://collector:4317`
    address: String,
    /// The whole endpoint, without user and password.
    uri: Uri,
    /// The `authorization` header from the user and password.
    authorization: Option<HeaderValue>,
    is_tls: bool,
}

impl Endpoint {
    /// Parses the value of an option.
    ///
    /// # Errors
    /// When it is no `http://` or `https://` URL with a host.
    pub(super) fn parse(option: &'static str, text: &str) -> Result<Self, ClientError> {
        let invalid = || ClientError::Endpoint { option, endpoint: redact_url(text) };
        let mut parts = text.parse::<Uri>().ok().ok_or_else(invalid)?.into_parts();
        let scheme = parts.scheme.as_ref().map(http::uri::Scheme::as_str);
        let is_tls = match scheme {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(invalid()),
        };
        let authority = parts.authority.take().ok_or_else(invalid)?;
        let (authorization, host_and_port) = match authority.as_str().rsplit_once('@') {
            Some((userinfo, host_and_port)) => (basic_authorization(userinfo), host_and_port),
            None => (None, authority.as_str()),
        };
        let address = format!("{}://{host_and_port}", if is_tls { "https" } else { "http" });
        let host_and_port = host_and_port.parse().ok().ok_or_else(invalid)?;
        parts.authority = Some(host_and_port);
        let uri = Uri::from_parts(parts).ok().ok_or_else(invalid)?;
        if uri.host().is_none_or(str::is_empty) || port_or(&uri, 0).is_none() {
            return Err(invalid());
        }
        Ok(Self { address, uri, authorization, is_tls })
    }

    pub(super) fn as_str(&self) -> &str {
        &self.address
    }

    /// The whole endpoint, without user and password.
    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Scheme, host and port.
    pub(super) fn origin(&self) -> Uri {
        let mut parts = self.uri.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::from_static("/"));
        Uri::from_parts(parts).unwrap_or_default()
    }

    pub(super) fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// The host, without the brackets of an IPv6 address.
    pub(super) fn host(&self) -> &str {
        self.uri.host().unwrap_or_default().trim_matches(['[', ']'])
    }

    /// The host and the port, for a proxy.
    pub(super) fn authority_with_port(&self) -> String {
        let default_port = if self.is_tls { 443 } else { 80 };
        let port = self.uri.port_u16().unwrap_or(default_port);
        format!("{}:{port}", self.uri.host().unwrap_or_default())
    }

    /// The `authorization` header from the user and password of the endpoint.
    pub(super) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }
}

/// The port of a URL, or `default` if it has none; `None` if it is not a number.
pub(super) fn port_or(uri: &Uri, default: u16) -> Option<u16> {
    let authority = uri.authority()?.as_str();
    let after_host = authority.rsplit_once(']').map_or(authority, |(_, rest)| rest);
    match after_host.rsplit_once(':') {
        Some((_, digits)) => digits.parse().ok(),
        None => Some(default),
    }
}

/// The header from the `user:password` of a URL.
/// <https://www.rfc-editor.org/rfc/rfc7617#section-2>
pub(super) fn basic_authorization(userinfo: &str) -> Option<HeaderValue> {
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    if user.is_empty() && password.is_empty() {
        return None;
    }
    let mut plain: Vec<u8> = percent_decode_str(user).collect();
    plain.push(b':');
    plain.extend(percent_decode_str(password));
    let text = format!("Basic {}", BASE64_STANDARD.encode(plain));
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_is_displayed_without_credentials() {
        let url = "https://us%65r:s%40cret@collector:4318/v1/traces?key=secret";
        let endpoint = Endpoint::parse("o", url).unwrap();
        assert_eq!((endpoint.as_str(), endpoint.is_tls()), ("https://collector:4318", true));
        assert_eq!(
            format!("{endpoint} {endpoint:?}"),
            "https://collector:4318 https://collector:4318"
        );
        assert_eq!(endpoint.uri(), "https://collector:4318/v1/traces?key=secret");
        let expected = format!("Basic {}", BASE64_STANDARD.encode("user:s@cret"));
        assert_eq!(endpoint.authorization().unwrap(), expected.as_str());
    }

    #[test]
    fn endpoint_without_a_host_is_invalid() {
        for text in [
            "",
            "http://",
            "http://:4317",
            "collector:4317",
            "grpc://c",
            "http://user@",
            "http://a:b",
            "http://a:",
            "http://[::1]:99999",
        ] {
            assert!(Endpoint::parse("o", text).is_err(), "{text}");
        }
    }

    #[test]
    fn port_for_a_proxy_is_that_of_the_scheme_by_default() {
        let authority = |url| Endpoint::parse("o", url).unwrap().authority_with_port();
        assert_eq!(authority("http://a"), "a:80");
        assert_eq!(authority("https://a/v1/traces"), "a:443");
        assert_eq!(authority("https://[::1]:4317"), "[::1]:4317");
    }
}
