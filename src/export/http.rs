//! OTLP over HTTP with protobuf bodies: <https://opentelemetry.io/docs/specs/otlp/#otlphttp>.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use tower_service::Service as _;

use super::{
    connection::{Connection, HttpVersion, RequestError},
    endpoint::Endpoint,
    error::ClientError,
    gzip::gzip,
    http_response,
    response::Response,
};
use crate::config::settings::{Compression, ExportSettings};

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
        // The time limit ends with the head: it decides about the spans.
        match tokio::time::timeout(self.timeout, self.call(request)).await {
            Ok(Ok(response)) => http_response::read(response).await,
            Ok(Err(error)) => Response::Missing(endpoint.failed(&error)),
            Err(_elapsed) => Response::Missing(endpoint.timed_out(self.timeout)),
        }
    }

    async fn call(&mut self, request: Bytes) -> Result<http::Response<Incoming>, RequestError> {
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
        self.connection.call(request).await
    }
}
