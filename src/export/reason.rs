//! Says why no answer came, in words one can act on.

use std::{error::Error, io};

/// Where requests go, as it may be logged: without user, password, path or query.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// `http://collector:4317`
    pub(super) shown: String,
    pub(super) tls: bool,
}

impl Peer {
    pub(super) fn new(uri: &http::Uri) -> Self {
        let scheme = uri.scheme_str().unwrap_or("http");
        let host = uri.host().unwrap_or_default();
        let shown = match uri.port() {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        };
        Self { shown, tls: scheme == "https" }
    }

    /// From what failed and everything below it.
    pub(super) fn why(&self, error: &(dyn Error + 'static)) -> String {
        let shown = &self.shown;
        if let Some(error) = find::<rustls::Error>(error) {
            return self.tls_failed(error);
        }
        if let Some(error) = find::<io::Error>(error) {
            use io::ErrorKind as K;
            match error.kind() {
                K::ConnectionRefused => {
                    return format!(
                        "no collector answers at {shown} (connection refused): is it running, \
                         and is this its address?"
                    );
                }
                K::TimedOut | K::HostUnreachable | K::NetworkUnreachable => {
                    return format!("no collector can be reached at {shown} ({})", error.kind());
                }
                _ => {}
            }
        }
        let innermost = chain(error).last().map(ToString::to_string).unwrap_or_default();
        if innermost.contains("lookup address") {
            return format!("the name in {shown} is unknown ({innermost})");
        }
        if let Some(alert) = innermost.strip_prefix("received fatal alert: ") {
            return self.refused_by_tls(alert);
        }
        if !self.tls && is_foreign(error, &innermost) {
            return format!(
                "what listens at {shown} does not answer as a collector would ({innermost}): does \
                 it want TLS (https://), or the other of OTLP's protocols (gRPC is usual at port \
                 4317, http/protobuf at 4318)?"
            );
        }
        // A collector that goes away looks the same as one that dislikes how we come.
        let hint = if self.tls { "a client certificate (tls.cert_file)" } else { "TLS (https://)" };
        format!(
            "the connection to {shown} failed ({innermost}); if that goes on: does it want {hint}?"
        )
    }

    fn tls_failed(&self, error: &rustls::Error) -> String {
        let shown = &self.shown;
        match error {
            rustls::Error::InvalidMessage(_) => {
                format!("what listens at {shown} does not speak TLS: should it be http://?")
            }
            rustls::Error::InvalidCertificate(why) => format!(
                "the certificate of {shown} is not trusted ({why}): does its authority have to be \
                 named (tls.ca_file), or the name in it (tls.server_name)?"
            ),
            rustls::Error::AlertReceived(alert) => self.refused_by_tls(&format!("{alert:?}")),
            other => format!("the TLS connection to {shown} failed ({other})"),
        }
    }

    fn refused_by_tls(&self, alert: &str) -> String {
        let shown = &self.shown;
        format!(
            "{shown} refuses the TLS connection ({alert}): does it want a client certificate \
             (tls.cert_file, tls.key_file)?"
        )
    }
}

/// Bytes came, but not HTTP as expected: mostly a TLS alert, or the other of OTLP's protocols.
fn is_foreign(error: &(dyn Error + 'static), innermost: &str) -> bool {
    let parsed = [
        "invalid HTTP",
        "unexpected message",
        "frame with invalid size",
        "HTTP/0.9",
        "protocol error",
    ];
    parsed.iter().any(|text| innermost.contains(text))
        || chain(error).any(|error| error.to_string().contains("FRAME_SIZE_ERROR"))
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

/// The first error of this type, also inside an [`io::Error`], which hides what it wraps.
pub(super) fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    chain(error).find_map(|error| {
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
    fn a_peer_is_shown_without_its_credentials() {
        let uri = http::Uri::from_static("https://user:secret@collector:4318/v1/traces?key=secret");
        let peer = Peer::new(&uri);
        assert_eq!((peer.shown.as_str(), peer.tls), ("https://collector:4318", true));
    }

    #[test]
    fn tls_errors_are_found_where_io_errors_hide_them() {
        let inner = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        let error = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, inner));
        let peer = Peer { shown: "https://collector".to_owned(), tls: true };
        assert_eq!(
            peer.why(&error),
            "what listens at https://collector does not speak TLS: should it be http://?"
        );
    }
}
