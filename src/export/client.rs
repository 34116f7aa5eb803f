//! Sends requests to a collector and tells what came of them.

use std::{io, path::PathBuf};

use bytes::Bytes;

use super::{grpc::GrpcClient, http::HttpClient, reason::Peer, retry::Answer};
use crate::config::settings::{ExportSettings, Protocol, TlsSettings};

/// Whatever takes requests: a collector, or a test's script.
pub trait Transport: Send {
    fn send(&mut self, request: Bytes) -> impl Future<Output = Answer> + Send;
    /// For logs.
    fn peer(&self) -> &str;
}

/// Connects when it has something to send, and again whenever it has to.
#[derive(Debug)]
pub struct Client {
    peer: Peer,
    protocol: ProtocolClient,
}

#[derive(Debug)]
enum ProtocolClient {
    Grpc(GrpcClient),
    Http(HttpClient),
}

/// What makes a client impossible, before anything is sent.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{endpoint:?} is no endpoint: it has the form http://collector:4317")]
    Endpoint { endpoint: String },
    #[error("TLS is configured, but {endpoint} is not encrypted: should it be https://?")]
    TlsWithoutHttps { endpoint: String },
    #[error("header {name:?} cannot be sent")]
    Header { name: String },
    #[error("a client certificate takes both tls.cert_file and tls.key_file")]
    HalfIdentity,
    #[error("reading {}", path.display())]
    ReadFile { path: PathBuf, source: io::Error },
    #[error("reading the certificates of {}", path.display())]
    Certificate { path: PathBuf, source: reqwest::Error },
    #[error("setting up TLS for gRPC")]
    Grpc { source: tonic::transport::Error },
    #[error("setting up the HTTP client")]
    Http { source: reqwest::Error },
}

impl Client {
    /// Within a tokio runtime, and with a default TLS provider installed.
    ///
    /// # Errors
    /// When the settings cannot be followed.
    pub fn new(settings: &ExportSettings) -> Result<Self, ClientError> {
        let wrong = |_| ClientError::Endpoint { endpoint: settings.endpoint.clone() };
        let uri: http::Uri = settings.endpoint.parse().map_err(wrong)?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err(ClientError::Endpoint { endpoint: settings.endpoint.clone() });
        }
        let peer = Peer::new(&uri);
        if !peer.tls && settings.tls != TlsSettings::default() {
            return Err(ClientError::TlsWithoutHttps { endpoint: peer.shown });
        }
        let protocol = match settings.protocol {
            Protocol::Grpc => ProtocolClient::Grpc(GrpcClient::new(settings, &uri, &peer)?),
            Protocol::HttpProtobuf => ProtocolClient::Http(HttpClient::new(settings, &uri, &peer)?),
        };
        Ok(Self { peer, protocol })
    }
}

impl Transport for Client {
    async fn send(&mut self, request: Bytes) -> Answer {
        match &mut self.protocol {
            ProtocolClient::Grpc(client) => client.send(request, &self.peer).await,
            ProtocolClient::Http(client) => client.send(request, &self.peer).await,
        }
    }

    fn peer(&self) -> &str {
        &self.peer.shown
    }
}

/// The PEM files of the settings, read.
#[derive(Default)]
pub(super) struct Pem {
    pub(super) ca: Option<(PathBuf, Vec<u8>)>,
    /// Certificate and key.
    pub(super) identity: Option<(PathBuf, Vec<u8>, Vec<u8>)>,
}

impl Pem {
    pub(super) fn read(tls: &TlsSettings) -> Result<Self, ClientError> {
        let read = |path: &PathBuf| {
            std::fs::read(path)
                .map_err(|source| ClientError::ReadFile { path: path.clone(), source })
        };
        let ca = match &tls.ca_file {
            Some(path) => Some((path.clone(), read(path)?)),
            None => None,
        };
        let identity = match (&tls.cert_file, &tls.key_file) {
            (Some(cert), Some(key)) => Some((cert.clone(), read(cert)?, read(key)?)),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(ClientError::HalfIdentity),
        };
        Ok(Self { ca, identity })
    }
}
