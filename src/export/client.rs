//! Sends requests to a collector and returns its responses, by gRPC or HTTP.

use bytes::Bytes;

use super::{
    endpoint::Endpoint, error::ClientError, grpc::GrpcClient, http::HttpClient, response::Response,
};
use crate::config::settings::{ExportSettings, Protocol, TlsSettings};

/// The product that requests name, on both protocols.
/// <https://opentelemetry.io/docs/specs/otel/protocol/exporter/#user-agent>
pub(super) const USER_AGENT: &str =
    concat!("OTel-OTLP-Exporter-spanlink/", env!("CARGO_PKG_VERSION"));

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
#[derive(Debug)]
pub struct Client {
    endpoint: Endpoint,
    protocol: ProtocolClient,
}

#[derive(Debug)]
enum ProtocolClient {
    Grpc(GrpcClient),
    Http(HttpClient),
}

impl Client {
    /// Creates a client without connecting. A tokio runtime and a default TLS provider of rustls have
    /// to be present.
    ///
    /// # Errors
    /// When the endpoint, a header or a TLS file of the settings is invalid.
    pub fn new(settings: &ExportSettings) -> Result<Self, ClientError> {
        let invalid = || ClientError::Endpoint { endpoint: settings.endpoint.clone() };
        let uri: http::Uri = settings.endpoint.parse().ok().ok_or_else(invalid)?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err(invalid());
        }
        let endpoint = Endpoint::new(&uri);
        if !endpoint.is_tls() && settings.tls != TlsSettings::default() {
            return Err(ClientError::TlsWithoutHttps { endpoint: endpoint.to_string() });
        }
        let protocol = match settings.protocol {
            Protocol::Grpc => {
                ProtocolClient::Grpc(GrpcClient::new(settings, &uri, endpoint.is_tls())?)
            }
            Protocol::HttpProtobuf => {
                ProtocolClient::Http(HttpClient::new(settings, &uri, endpoint.is_tls())?)
            }
        };
        Ok(Self { endpoint, protocol })
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
