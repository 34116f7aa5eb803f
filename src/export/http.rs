//! OTLP over HTTP with protobuf bodies: <https://opentelemetry.io/docs/specs/otlp/#otlphttp>.

use std::{io::Write as _, time::Duration};

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt as _, Full};
use tower_service::Service as _;

use super::{
    connection::{Connection, HttpVersion, RequestError},
    encode::rejected_spans,
    endpoint::Endpoint,
    error::ClientError,
    response::{Response, parse_retry_after},
};
use crate::config::settings::{Compression, ExportSettings};

/// Bytes of a response body that are read. An `ExportTraceServiceResponse` has a number and a
/// message.
const BODY_MAX: usize = 64 << 10;

pub(super) struct HttpClient {
    connection: Connection<Full<Bytes>>,
    uri: Uri,
    compression: Compression,
    timeout: Duration,
}

impl HttpClient {
    pub(super) fn new(settings: &ExportSettings, endpoint: &Endpoint) -> Result<Self, ClientError> {
        let connection = Connection::new(settings, endpoint, HttpVersion::Http1)?;
        let (compression, timeout) = (settings.compression, settings.timeout);
        Ok(Self { connection, uri: endpoint.uri().clone(), compression, timeout })
    }

    pub(super) async fn send(&mut self, request: Bytes, endpoint: &Endpoint) -> Response {
        match tokio::time::timeout(self.timeout, self.call(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => Response::Missing(endpoint.failed(&error)),
            Err(_) => Response::Missing(endpoint.timed_out(self.timeout)),
        }
    }

    async fn call(&mut self, request: Bytes) -> Result<Response, RequestError> {
        let mut post =
            Request::post(self.uri.clone()).header(header::CONTENT_TYPE, "application/x-protobuf");
        let body = match self.compression {
            Compression::None => request,
            Compression::Gzip => {
                post = post.header(header::CONTENT_ENCODING, "gzip");
                gzip(&request)
            }
        };
        let request = post.body(Full::new(body)).expect("these parts of a request are valid");
        let response = self.connection.call(request).await?;
        if !response.status().is_success() {
            return Ok(error_response(response.status().as_u16(), response.headers()));
        }
        let mut body = Vec::new();
        let mut frames = response.into_body();
        // The status 200 accepts the spans. A body that is cut short does not change that.
        while let Some(Ok(frame)) = frames.frame().await {
            body.extend_from_slice(frame.data_ref().map_or(&[], |data| &**data));
            if body.len() > BODY_MAX {
                break;
            }
        }
        Ok(Response::Accepted { rejected: rejected_spans(&body) })
    }
}

fn error_response(status: u16, headers: &HeaderMap) -> Response {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let retry_after =
        text(header::RETRY_AFTER).and_then(|value| parse_retry_after(value, text(header::DATE)));
    Response::Http { status, retry_after }
}

fn gzip(request: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder
        .write_all(request)
        .and_then(|()| encoder.finish())
        .expect("writing to a Vec does not fail")
        .into()
}
