//! OTLP over gRPC: <https://opentelemetry.io/docs/specs/otlp/#otlpgrpc>.
//!
//! A unary call is one HTTP/2 request, so it is made here and not by a client of gRPC: those derive
//! statuses from malformed responses that decide about spans.
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>

use std::{error::Error, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderValue, Method, Uri, Version, header, uri::PathAndQuery};
use http_body_util::Full;
use tower_service::Service as _;

use super::{
    connection::{Connection, HttpVersion},
    encode::GRPC_PATH,
    endpoint::Endpoint,
    error::ClientError,
    grpc_response,
    gzip::gzip,
    response::Response,
};
use crate::config::settings::{Compression, ExportSettings};

#[derive(Debug)]
pub(super) struct GrpcClient {
    connection: Connection<Full<Bytes>>,
    uri: Uri,
    compression: Compression,
    timeout: Duration,
}

impl GrpcClient {
    pub(super) fn new(settings: &ExportSettings, endpoint: &Endpoint) -> Result<Self, ClientError> {
        let connection = Connection::new(settings, endpoint, HttpVersion::Http2)?;
        let mut parts = endpoint.origin().into_parts();
        parts.path_and_query = Some(PathAndQuery::from_static(GRPC_PATH));
        let uri = Uri::from_parts(parts).unwrap_or_default();
        let (compression, timeout) = (settings.compression, settings.timeout);
        Ok(Self { connection, uri, compression, timeout })
    }

    pub(super) async fn send(&mut self, message: Bytes, endpoint: &Endpoint) -> Response {
        let request = self.request(&message);
        match tokio::time::timeout(self.timeout, self.call(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => Response::Missing(endpoint.failed(&*error)),
            Err(_elapsed) => Response::Missing(endpoint.timed_out(self.timeout)),
        }
    }

    async fn call(
        &mut self,
        request: http::Request<Full<Bytes>>,
    ) -> Result<Response, Box<dyn Error + Send + Sync>> {
        let response = self.connection.call(request).await?;
        Ok(grpc_response::read(response).await?)
    }

    /// Creates the request of a unary call.
    fn request(&self, message: &[u8]) -> http::Request<Full<Bytes>> {
        let body = match self.compression {
            Compression::None => frame(0, message),
            Compression::Gzip => frame(1, &gzip(message)),
        };
        let mut request = http::Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = Version::HTTP_2;
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        if let Some(timeout) = grpc_timeout(self.timeout) {
            headers.insert("grpc-timeout", timeout);
        }
        if self.compression == Compression::Gzip {
            headers.insert("grpc-encoding", HeaderValue::from_static("gzip"));
            headers.insert("grpc-accept-encoding", HeaderValue::from_static("gzip"));
        }
        request
    }
}

/// A message with its prefix: whether it is compressed, and its length.
fn frame(compressed: u8, message: &[u8]) -> Bytes {
    let len = u32::try_from(message.len()).expect("requests have at most 1 GiB");
    let mut frame = BytesMut::with_capacity(1 + size_of_val(&len) + message.len());
    frame.put_u8(compressed);
    frame.put_u32(len);
    frame.extend_from_slice(message);
    frame.freeze()
}

/// The value of `grpc-timeout`: at most eight digits and a unit. `None` if they cannot express the
/// duration, which is no limit then.
fn grpc_timeout(timeout: Duration) -> Option<HeaderValue> {
    const VALUE_MAX: u128 = 99_999_999;
    let units = [
        (timeout.as_millis(), "m"),
        (timeout.as_secs().into(), "S"),
        ((timeout.as_secs() / 60).into(), "M"),
        ((timeout.as_secs() / 3600).into(), "H"),
    ];
    let (value, unit) = units.into_iter().find(|(value, _)| *value <= VALUE_MAX)?;
    // A limit below a millisecond is not zero, which would have passed already.
    HeaderValue::try_from(format!("{}{unit}", value.max(1))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeout_of_any_length_has_at_most_eight_digits() {
        let text = |timeout| grpc_timeout(timeout).map(|value| value.to_str().unwrap().to_owned());
        for (timeout, expected) in [
            (Duration::from_nanos(1), "1m"),
            (Duration::from_secs(10), "10000m"),
            (Duration::from_secs(100_000), "100000S"),
            (Duration::from_secs(1 << 32), "71582788M"),
            (Duration::from_millis(i64::MAX.unsigned_abs()), ""),
            (Duration::MAX, ""),
        ] {
            assert_eq!(text(timeout).unwrap_or_default(), expected, "{timeout:?}");
        }
    }
}
