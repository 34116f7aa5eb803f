//! OTLP over gRPC: <https://opentelemetry.io/docs/specs/otlp/#otlpgrpc>.

use std::{error::Error as _, time::Duration};

use bytes::{Buf as _, BufMut as _, Bytes};
use http::uri::PathAndQuery;
use tonic::{
    Status,
    client::Grpc,
    codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::{Ascii, MetadataKey, MetadataMap, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Identity},
};

use super::{
    encode::{GRPC_PATH, decode_acceptance},
    endpoint::{Endpoint, find_cause},
    error::ClientError,
    response::Response,
    retry_after::RetryAfter,
    tls::{CONNECT_TIMEOUT, Pem},
};
use crate::config::settings::{Compression, ExportSettings};

/// Interval of keep-alive pings, and how long their acknowledgement may take: a dead connection is
/// detected after twice this time.
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
        with_tls: bool,
    ) -> Result<Self, ClientError> {
        let mut channel = Channel::builder(uri.clone())
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_keepalive(Some(KEEP_ALIVE))
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE);
        if with_tls {
            let invalid = |source| ClientError::Grpc { source };
            channel = channel.tls_config(tls_config(settings)?).map_err(invalid)?;
        }
        let mut grpc = Grpc::new(channel.connect_lazy());
        if settings.compression == Compression::Gzip {
            grpc = grpc
                .send_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Gzip);
        }
        Ok(Self { grpc, headers: headers(settings)?, timeout: settings.timeout })
    }

    pub(super) async fn send(&mut self, request: Bytes, endpoint: &Endpoint) -> Response {
        match tokio::time::timeout(self.timeout, self.call(request)).await {
            Ok(Ok(body)) => Response::Accepted(decode_acceptance(&body).unwrap_or_default()),
            Ok(Err(status)) if !is_timeout(&status) => response(&status, endpoint),
            Ok(Err(_)) | Err(_) => Response::Missing(endpoint.timed_out(self.timeout)),
        }
    }

    async fn call(&mut self, request: Bytes) -> Result<Bytes, Status> {
        self.grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
        let mut request =
            tonic::Request::from_parts(self.headers.clone(), tonic::Extensions::default(), request);
        request.set_timeout(self.timeout);
        let path = PathAndQuery::from_static(GRPC_PATH);
        Ok(self.grpc.unary(request, path, EncodedCodec).await?.into_inner())
    }
}

fn tls_config(settings: &ExportSettings) -> Result<ClientTlsConfig, ClientError> {
    let pem = Pem::read(&settings.tls)?;
    let mut config = match pem.ca {
        Some((_, ca)) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    if let Some(identity) = pem.identity {
        config = config.identity(Identity::from_pem(identity.cert, identity.key));
    }
    if let Some(name) = &settings.tls.server_name {
        config = config.domain_name(name);
    }
    Ok(config)
}

fn headers(settings: &ExportSettings) -> Result<MetadataMap, ClientError> {
    let mut headers = MetadataMap::new();
    for (name, value) in &settings.headers {
        let invalid = || ClientError::Header { name: name.clone() };
        let key: MetadataKey<Ascii> = name.to_lowercase().parse().ok().ok_or_else(invalid)?;
        let mut value: MetadataValue<Ascii> = value.parse().ok().ok_or_else(invalid)?;
        value.set_sensitive(true); // Headers usually carry credentials.
        headers.insert(key, value);
    }
    Ok(headers)
}

/// tonic enforces the `grpc-timeout` of the request on the client's side too, and its timer may fire
/// before ours.
fn is_timeout(status: &Status) -> bool {
    status.source().is_some_and(|source| find_cause::<tonic::TimeoutExpired>(source).is_some())
}

/// A status with a source was created by tonic and not by a receiver: its code is a guess from a
/// connection error, and does not decide about the request.
fn response(status: &Status, endpoint: &Endpoint) -> Response {
    match status.source() {
        Some(source) => Response::Missing(endpoint.failed(source)),
        None => Response::grpc(status.code(), RetryAfter::from_status_details(b"")),
    }
}

/// Passes messages through as bytes: requests are already encoded, and have to stay the same bytes in
/// every attempt.
#[derive(Clone, Copy, Debug)]
struct EncodedCodec;

impl Codec for EncodedCodec {
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

impl Encoder for EncodedCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(item.len());
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for EncodedCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
