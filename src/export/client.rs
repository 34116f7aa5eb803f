//! Sends requests to a collector and returns its responses, by gRPC or HTTP.

use std::fmt;

use bytes::Bytes;

use super::{
    endpoint::Endpoint, error::ClientError, grpc::GrpcClient, http::HttpClient, response::Response,
};
use crate::{
    config::settings::{ExportSettings, Protocol, TlsSettings},
    redacted_url::redact_url,
};

/// The option that most clients are for.
const ENDPOINT: &str = "otlp.endpoint";

/// Sends encoded requests: the [`Client`], or a script in tests.
pub trait Transport: Send {
    /// Sends one encoded `ExportTraceServiceRequest`. Returns once there is a response, or once it is
    /// certain that there will be none.
    fn send(&mut self, request: Bytes) -> impl Future<Output = Response> + Send;
    /// Where requests are sent, without credentials: for logs and the daemon's own spans.
    fn endpoint(&self) -> &str;
}

/// The endpoint of the settings without user, password, path and query, for logs.
pub fn loggable_endpoint(settings: &ExportSettings) -> String {
    match Endpoint::parse(ENDPOINT, &settings.endpoint) {
        Ok(endpoint) => endpoint.as_str().to_owned(),
        Err(_invalid) => redact_url(&settings.endpoint),
    }
}

/// A client of the configured collector. It connects at the first request, and reconnects when a
/// connection was lost.
pub struct Client {
    endpoint: Endpoint,
    protocol: ProtocolClient,
}

enum ProtocolClient {
    Grpc(GrpcClient),
    Http(HttpClient),
}

impl Client {
    /// Creates a client without connecting. It reads and checks every file that the settings name. A
    /// default TLS provider of rustls has to be present.
    ///
    /// # Errors
    /// When the endpoint, a header, a file or the proxy of the settings is invalid.
    pub fn new(settings: &ExportSettings) -> Result<Self, ClientError> {
        Self::for_option(ENDPOINT, settings)
    }

    /// Creates a client for an endpoint that another option sets, which errors name.
    pub(super) fn for_option(
        option: &'static str,
        settings: &ExportSettings,
    ) -> Result<Self, ClientError> {
        let endpoint = Endpoint::parse(option, &settings.endpoint)?;
        if !endpoint.is_tls() && settings.tls != TlsSettings::default() {
            return Err(ClientError::TlsWithoutHttps { endpoint: endpoint.to_string() });
        }
        let protocol = match settings.protocol {
            Protocol::Grpc => ProtocolClient::Grpc(GrpcClient::new(settings, &endpoint)?),
            Protocol::HttpProtobuf => ProtocolClient::Http(HttpClient::new(settings, &endpoint)?),
        };
        Ok(Self { endpoint, protocol })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The path and the query of the endpoint may be secrets.
        f.debug_struct("Client").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Transport for Client {
    async fn send(&mut self, request: Bytes) -> Response {
        match &mut self.protocol {
            ProtocolClient::Grpc(client) => client.send(request, &self.endpoint).await,
            ProtocolClient::Http(client) => client.send(request, &self.endpoint).await,
        }
    }

    fn endpoint(&self) -> &str {
        self.endpoint.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::samples::settings;

    #[test]
    fn endpoint_is_logged_without_its_secrets() {
        let logged = |endpoint: &str| {
            let endpoint = endpoint.to_owned();
            loggable_endpoint(&ExportSettings { endpoint, ..settings() })
        };
        assert_eq!(logged("https://user:secret@c:4318/secret?key=secret"), "https://c:4318");
        assert_eq!(logged("htp://user:secret@c?key=secret"), "htp://c");
    }
}
