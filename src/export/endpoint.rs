//! The address of the collector, and why a request to it got no response.

use std::{error::Error, fmt, io, time::Duration};

use super::response::NoResponse;
use crate::error_chain::causes;

/// Where requests are sent, as it may be logged: without user, password, path and query.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    /// `http://collector:4317`
    address: String,
    tls: bool,
}

impl Endpoint {
    pub(super) fn new(uri: &http::Uri) -> Self {
        let scheme = uri.scheme_str().unwrap_or("http");
        let host = uri.host().unwrap_or_default();
        let address = match uri.port() {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        };
        Self { address, tls: scheme == "https" }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.address
    }

    pub(super) fn is_tls(&self) -> bool {
        self.tls
    }

    /// The request was abandoned after `timeout`.
    pub(super) fn timed_out(&self, timeout: Duration) -> NoResponse {
        NoResponse::TimedOut(format!("{self} did not respond within {timeout:?}"))
    }

    /// The request failed before a response arrived.
    pub(super) fn failed(&self, error: &(dyn Error + 'static)) -> NoResponse {
        NoResponse::Failed(self.explain(error))
    }

    /// Explains an error by itself and its causes, with what an operator can check. The libraries'
    /// own texts ("transport error") name neither.
    fn explain(&self, error: &(dyn Error + 'static)) -> String {
        if let Some(error) = find_cause::<rustls::Error>(error) {
            return self.explain_tls(error);
        }
        if let Some(error) = find_cause::<io::Error>(error) {
            use io::ErrorKind as K;
            match error.kind() {
                K::ConnectionRefused => {
                    return format!(
                        "no collector listens at {self} (connection refused): is it running, and \
                         is this its address?"
                    );
                }
                K::TimedOut | K::HostUnreachable | K::NetworkUnreachable => {
                    return format!("{self} cannot be reached ({})", error.kind());
                }
                _ => {}
            }
        }
        let innermost = causes(error).last().map(ToString::to_string).unwrap_or_default();
        if innermost.contains("lookup address") {
            return format!("the host name of {self} cannot be resolved ({innermost})");
        }
        if let Some(alert) = innermost.strip_prefix("received fatal alert: ") {
            return self.explain_tls_alert(alert);
        }
        if !self.tls && is_other_protocol(error, &innermost) {
            return format!(
                "the server at {self} does not respond like a collector ({innermost}): does it \
                 require TLS (https://), or OTLP's other protocol (gRPC usually has port 4317, \
                 http/protobuf port 4318)?"
            );
        }
        // A server that restarts looks the same as one that requires TLS.
        let hint = if self.tls { "a client certificate (tls.cert_file)" } else { "TLS (https://)" };
        format!(
            "the connection to {self} failed ({innermost}); if this continues: does it require {hint}?"
        )
    }

    fn explain_tls(&self, error: &rustls::Error) -> String {
        match error {
            rustls::Error::InvalidMessage(_) => {
                format!("the server at {self} does not use TLS: should the endpoint be http://?")
            }
            rustls::Error::InvalidCertificate(reason) => format!(
                "the certificate of {self} is not trusted ({reason}): is the right authority \
                 configured (tls.ca_file), and the right name (tls.server_name)?"
            ),
            rustls::Error::AlertReceived(alert) => self.explain_tls_alert(&format!("{alert:?}")),
            other => format!("the TLS connection to {self} failed ({other})"),
        }
    }

    fn explain_tls_alert(&self, alert: &str) -> String {
        format!(
            "{self} rejected the TLS connection ({alert}): does it require a client certificate \
             (tls.cert_file, tls.key_file)?"
        )
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

/// Whether the server sent something other than the expected HTTP: usually a TLS alert, or OTLP's
/// other protocol. The libraries have no public types for this, only texts.
fn is_other_protocol(error: &(dyn Error + 'static), innermost: &str) -> bool {
    const PARSE_ERRORS: [&str; 5] = [
        "invalid HTTP",
        "unexpected message",
        "frame with invalid size",
        "HTTP/0.9",
        "protocol error",
    ];
    PARSE_ERRORS.iter().any(|text| innermost.contains(text))
        || causes(error).any(|error| error.to_string().contains("FRAME_SIZE_ERROR"))
}

/// Finds the first cause of this type. An [`io::Error`] does not return the error it wraps as its
/// source, so wrapped errors are searched too.
pub(super) fn find_cause<'a, E: Error + 'static>(
    error: &'a (dyn Error + 'static),
) -> Option<&'a E> {
    causes(error).find_map(|error| {
        error.downcast_ref::<E>().or_else(|| {
            let wrapped = error.downcast_ref::<io::Error>()?.get_ref()?;
            let wrapped: &(dyn Error + 'static) = wrapped;
            wrapped
                .downcast_ref::<E>()
                .or_else(|| wrapped.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref::<E>())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_is_displayed_without_credentials() {
        let uri = http::Uri::from_static("https://user:secret@collector:4318/v1/traces?key=secret");
        let endpoint = Endpoint::new(&uri);
        assert_eq!((endpoint.as_str(), endpoint.is_tls()), ("https://collector:4318", true));
    }

    #[test]
    fn tls_error_is_found_inside_nested_io_errors() {
        let inner = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        let error = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, inner));
        let endpoint = Endpoint::new(&http::Uri::from_static("https://collector"));
        assert_eq!(
            endpoint.explain(&error),
            "the server at https://collector does not use TLS: should the endpoint be http://?"
        );
    }
}
