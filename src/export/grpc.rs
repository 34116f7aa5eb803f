//! OTLP over gRPC: <https://opentelemetry.io/docs/specs/otlp/#otlpgrpc>.

use std::{error::Error as _, time::Duration};

use bytes::{Buf as _, BufMut as _, Bytes};
use http::uri::PathAndQuery;
use tonic::{
    Status,
    body::Body,
    client::Grpc,
    codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use super::{
    connection::{Connection, HttpVersion},
    encode::{GRPC_PATH, rejected_spans},
    endpoint::Endpoint,
    error::ClientError,
    response::{Response, retry_delay},
};
use crate::config::settings::{Compression, ExportSettings};

#[derive(Debug)]
pub(super) struct GrpcClient {
    grpc: Grpc<Connection<Body>>,
    timeout: Duration,
}

impl GrpcClient {
    pub(super) fn new(settings: &ExportSettings, endpoint: &Endpoint) -> Result<Self, ClientError> {
        let connection = Connection::new(settings, endpoint, HttpVersion::Http2)?;
        let mut grpc = Grpc::with_origin(connection, endpoint.origin());
        if settings.compression == Compression::Gzip {
            grpc = grpc
                .send_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Gzip);
        }
        Ok(Self { grpc, timeout: settings.timeout })
    }

    pub(super) async fn send(&mut self, request: Bytes, endpoint: &Endpoint) -> Response {
        match tokio::time::timeout(self.timeout, self.call(request)).await {
            Ok(Ok(body)) => Response::Accepted { rejected: rejected_spans(&body) },
            Ok(Err(status)) => response(&status, endpoint),
            Err(_elapsed) => Response::Missing(endpoint.timed_out(self.timeout)),
        }
    }

    async fn call(&mut self, request: Bytes) -> Result<Bytes, Status> {
        self.grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
        let mut request = tonic::Request::new(request);
        request.set_timeout(self.timeout);
        let path = PathAndQuery::from_static(GRPC_PATH);
        Ok(self.grpc.unary(request, path, EncodedCodec).await?.into_inner())
    }
}

/// A status with a source was created by tonic and not by a receiver: its code is a guess from a
/// connection error, and does not decide about the request.
fn response(status: &Status, endpoint: &Endpoint) -> Response {
    match status.source() {
        Some(source) => Response::Missing(endpoint.failed(source)),
        None => Response::Grpc { code: status.code(), retry_delay: retry_delay(status) },
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
