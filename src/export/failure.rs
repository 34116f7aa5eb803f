//! Why a request got no response, in a sentence that names what an operator can check.

use std::{error::Error, io, time::Duration};

use http::StatusCode;
use rustls::{CertificateError, OtherError};

use super::{
    connection::{ConnectError, ProxyError},
    endpoint::Endpoint,
    response::NoResponse,
};
use crate::error_chain::causes;

impl Endpoint {
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
        match find_cause::<ConnectError>(error) {
            Some(ConnectError::Proxy { proxy, variable, source }) => {
                let proxy = format!("the proxy {proxy} (environment variable {variable})");
                return self.explain_proxy(&proxy, source);
            }
            Some(ConnectError::NoHttp2) => {
                return format!(
                    "the server at {self} does not offer HTTP/2, which gRPC needs: should \
                     otlp.protocol be http/protobuf?"
                );
            }
            Some(error @ ConnectError::TimedOut { .. }) => {
                return format!("{self} cannot be reached ({error})");
            }
            Some(ConnectError::Tcp { .. } | ConnectError::Tls { .. }) | None => {}
        }
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
        if !self.is_tls() && is_other_protocol(error, &innermost) {
            return format!(
                "the server at {self} does not respond like a collector ({innermost}): does it \
                 require TLS (https://), or OTLP's other protocol (gRPC usually has port 4317, \
                 http/protobuf port 4318)?"
            );
        }
        // A server that restarts looks the same as one that requires TLS.
        let hint =
            if self.is_tls() { "a client certificate (tls.cert_file)" } else { "TLS (https://)" };
        format!(
            "the connection to {self} failed ({innermost}); if this continues: does it require {hint}?"
        )
    }

    fn explain_tls(&self, error: &rustls::Error) -> String {
        match error {
            rustls::Error::InvalidMessage(_) => {
                format!("the server at {self} does not use TLS: should the endpoint be http://?")
            }
            rustls::Error::InvalidCertificate(reason) => self.explain_certificate(reason),
            rustls::Error::AlertReceived(alert) => self.explain_tls_alert(&format!("{alert:?}")),
            other => format!("the TLS connection to {self} failed ({other})"),
        }
    }

    fn explain_certificate(&self, reason: &CertificateError) -> String {
        let webpki_error = match reason {
            CertificateError::Other(OtherError(error)) => error.downcast_ref::<webpki::Error>(),
            _ => None,
        };
        let hint = match (reason, webpki_error) {
            (_, Some(webpki::Error::CaUsedAsEndEntity)) => {
                "it is an authority itself (CA:TRUE), which no server may present: issue a certificate \
                 from it for the server, or a self-signed one that is none (openssl req -x509 -addext \
                 basicConstraints=critical,CA:FALSE …)"
            }
            (_, Some(webpki::Error::EndEntityUsedAsCa)) => {
                "it was issued by a certificate that is not an authority (CA:FALSE): issue that one \
                 again with basicConstraints=CA:TRUE"
            }
            (_, Some(webpki::Error::UnsupportedCertVersion)) => {
                "it has X.509 version 1, and TLS needs version 3: issue it again with its names as \
                 subjectAltName"
            }
            (CertificateError::Expired | CertificateError::ExpiredContext { .. }, _) => {
                "renew it, or check the clock of this machine"
            }
            (CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }, _) => {
                "check the clock of this machine"
            }
            (
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                _,
            ) => {
                "is the host of the endpoint right? If it is, set tls.server_name to a name that the \
                 certificate has"
            }
            (CertificateError::UnknownIssuer | CertificateError::BadSignature, _) => {
                "tls.ca_file should have the certificate of the authority that issued it"
            }
            _ => "is the right authority configured (tls.ca_file)?",
        };
        format!("the certificate of {self} is not trusted ({reason}): {hint}")
    }

    fn explain_proxy(&self, proxy: &str, error: &ProxyError) -> String {
        let innermost = causes(error).last().map(ToString::to_string).unwrap_or_default();
        match error {
            ProxyError::Connect(_) => {
                format!("{proxy} cannot be reached ({innermost}): is it running at this address?")
            }
            ProxyError::Tls(_) => format!("the TLS connection to {proxy} failed ({innermost})"),
            ProxyError::Refused(StatusCode::PROXY_AUTHENTICATION_REQUIRED) => format!(
                "{proxy} requires other credentials (status 407): write them into its URL, as in \
                 http://user:password@proxy:3128"
            ),
            ProxyError::Refused(status) => format!(
                "{proxy} opened no tunnel to {self} (status {}): does it allow this host and port, \
                 and can it reach them?",
                status.as_u16()
            ),
            ProxyError::Http(_) => {
                format!("{proxy} does not respond like an HTTP proxy ({innermost})")
            }
            ProxyError::Socks(reason) => format!("{proxy} opened no tunnel to {self} ({reason})"),
            ProxyError::TimedOut => format!("{proxy} opened no tunnel to {self} ({error})"),
        }
    }

    /// Explains why the server closed the TLS connection, by the name of its alert:
    /// <https://www.rfc-editor.org/rfc/rfc8446#section-6.2>.
    fn explain_tls_alert(&self, alert: &str) -> String {
        let hint = match alert {
            "UnknownCA"
            | "BadCertificate"
            | "UnsupportedCertificate"
            | "CertificateUnknown"
            | "AccessDenied"
            | "DecryptError" => {
                "does it trust the authority of the client certificate (tls.cert_file)?"
            }
            "CertificateExpired" => "has the client certificate (tls.cert_file) expired?",
            "CertificateRevoked" => "was the client certificate (tls.cert_file) revoked?",
            "UnrecognisedName" => "does it serve this host, or another one (tls.server_name)?",
            "ProtocolVersion" => "it has neither TLS 1.2 nor TLS 1.3",
            "NoApplicationProtocol" => {
                "does it serve OTLP's other protocol (otlp.protocol)? gRPC needs HTTP/2, and \
                 http/protobuf HTTP/1.1"
            }
            _ => "does it require a client certificate (tls.cert_file, tls.key_file)?",
        };
        format!("{self} rejected the TLS connection ({alert}): {hint}")
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
    fn tls_error_is_found_inside_nested_io_errors() {
        let inner = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        let error = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, inner));
        let endpoint = Endpoint::parse("o", "https://collector").unwrap();
        assert_eq!(
            endpoint.explain(&error),
            "the server at https://collector does not use TLS: should the endpoint be http://?"
        );
    }
}
