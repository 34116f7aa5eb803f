//! OTLP over gRPC.

use std::{error::Error as _, time::Duration};

use bytes::{Buf as _, BufMut as _, Bytes};
use http::uri::PathAndQuery;
use tonic::{
    Status,
    client::Grpc,
    codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::{Ascii, MetadataKey, MetadataMap, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use super::{
    client::{ClientError, Pem},
    encode::{GRPC_PATH, rejected},
    reason::{Peer, find},
    retry::{Answer, Silence, retry_info},
};
use crate::config::settings::{Compression, ExportSettings};

/// How long to try for a connection; a request's own timeout counts on.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection nobody answers on is noticed after this and the time again for the answer.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(super) struct GrpcClient {
    grpc: Grpc<Channel>,
    headers: MetadataMap,
    timeout: Duration,
}

impl GrpcClient {
    pub(super) fn new(
        settings: &ExportSettings,
        uri: &http::Uri,
        peer: &Peer,
    ) -> Result<Self, ClientError> {
        let mut endpoint = Endpoint::from(uri.clone())
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_keepalive(Some(KEEP_ALIVE))
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE);
        if peer.tls {
            let grpc = |source| ClientError::Grpc { source };
            endpoint = endpoint.tls_config(tls(settings)?).map_err(grpc)?;
        }
        let mut grpc = Grpc::new(endpoint.connect_lazy());
        if settings.compression == Compression::Gzip {
            grpc = grpc
                .send_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Gzip);
        }
        Ok(Self { grpc, headers: headers(settings)?, timeout: settings.timeout })
    }

    pub(super) async fn send(&mut self, request: Bytes, peer: &Peer) -> Answer {
        match tokio::time::timeout(self.timeout, self.call(request)).await {
            Ok(Ok(answer)) => Answer::Accepted { rejected: rejected(&answer) },
            Ok(Err(status)) if !has_expired(&status) => answer(&status, peer),
            Ok(Err(_)) | Err(_) => Answer::None(Silence::TimedOut(format!(
                "{} did not answer within {:?}",
                peer.shown, self.timeout
            ))),
        }
    }

    async fn call(&mut self, request: Bytes) -> Result<Bytes, Status> {
        self.grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
        let mut request =
            tonic::Request::from_parts(self.headers.clone(), tonic::Extensions::default(), request);
        request.set_timeout(self.timeout);
        let path = PathAndQuery::from_static(GRPC_PATH);
        Ok(self.grpc.unary(request, path, Raw).await?.into_inner())
    }
}

fn tls(settings: &ExportSettings) -> Result<ClientTlsConfig, ClientError> {
    let pem = Pem::read(&settings.tls)?;
    let mut tls = match pem.ca {
        Some((_, ca)) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    if let Some((_, cert, key)) = pem.identity {
        tls = tls.identity(Identity::from_pem(cert, key));
    }
    if let Some(name) = &settings.tls.server_name {
        tls = tls.domain_name(name);
    }
    Ok(tls)
}

fn headers(settings: &ExportSettings) -> Result<MetadataMap, ClientError> {
    let mut headers = MetadataMap::new();
    for (name, value) in &settings.headers {
        // What is wrong with a value is not told: it would be in the log then.
        let wrong = || ClientError::Header { name: name.clone() };
        let key: MetadataKey<Ascii> = name.to_lowercase().parse().ok().ok_or_else(wrong)?;
        let mut value: MetadataValue<Ascii> = value.parse().ok().ok_or_else(wrong)?;
        value.set_sensitive(true); // mostly credentials
        headers.insert(key, value);
    }
    Ok(headers)
}

/// The library keeps the time it tells the receiver as well, and may be first.
fn has_expired(status: &Status) -> bool {
    status.source().is_some_and(|source| find::<tonic::TimeoutExpired>(source).is_some())
}

/// A status with a source was made on our side of the connection: no receiver has answered, and
/// what code the library found for it says nothing about the request.
fn answer(status: &Status, peer: &Peer) -> Answer {
    match status.source() {
        Some(source) => Answer::None(Silence::Failed(peer.why(source))),
        None => Answer::Grpc { code: status.code(), retry_info: retry_info(status.details()) },
    }
}

/// Requests are encoded already, and stay the same bytes in every attempt.
#[derive(Clone, Copy, Debug)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(item.len());
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
