//! Sends requests to a collector and returns its responses, by gRPC or HTTP.

use std::fmt;

use bytes::Bytes;

use super::{
    endpoint::Endpoint, error::ClientError, grpc::GrpcClient, http::HttpClient, response::Response,
};
use crate::config::settings::{ExportSettings, Protocol, TlsSettings};

/// Sends encoded requests: the [`Client`], or a script in tests.
pub trait Transport: Send {
    /// Sends one encoded `ExportTraceServiceRequest`. Returns once there is a response, or once it is
    /// certain that there will be none.
    fn send(&mut self, request: Bytes) -> impl Future<Output = Response> + Send;
    /// Where requests are sent, without credentials: for logs and the daemon's own spans.
    fn endpoint(&self) -> &str;
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
        Self::for_option("otlp.endpoint", settings)
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
