//! OTLP over gRPC: <https://opentelemetry.io/docs/specs/otlp/#otlpgrpc>.

use std::{error::Error, future::poll_fn, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header};
use http_body_util::Full;
use tonic::{
    body::Body,
    codegen::Service as _,
    transport::{Certificate, Channel, ClientTlsConfig, Identity},
};

use super::{
    client::USER_AGENT,
    encode::GRPC_PATH,
    endpoint::{Endpoint, find_cause},
    error::ClientError,
    grpc_response,
    gzip::gzip,
    response::Response,
    tls::{CONNECT_TIMEOUT, Pem},
};
use crate::config::settings::{Compression, ExportSettings};

/// Interval of keep-alive pings, and how long their acknowledgement may take: a dead connection is
/// detected after twice this time.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(super) struct GrpcClient {
    channel: Channel,
    headers: HeaderMap,
    compression: Compression,
    timeout: Duration,
}

impl GrpcClient {
    pub(super) fn new(
        settings: &ExportSettings,
        uri: &Uri,
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
        Ok(Self {
            channel: channel.connect_lazy(),
            headers: headers(settings)?,
            compression: settings.compression,
            timeout: settings.timeout,
        })
    }

    pub(super) async fn send(&mut self, message: Bytes, endpoint: &Endpoint) -> Response {
        let request = self.request(&message);
        match tokio::time::timeout(self.timeout, self.call(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) if find_cause::<tonic::TimeoutExpired>(&*error).is_none() => {
                Response::Missing(endpoint.failed(&*error))
            }
            Ok(Err(_)) | Err(_) => Response::Missing(endpoint.timed_out(self.timeout)),
        }
    }

    async fn call(
        &mut self,
        request: http::Request<Full<Bytes>>,
    ) -> Result<Response, Box<dyn Error + Send + Sync>> {
        poll_fn(|context| self.channel.poll_ready(context)).await?;
        let response = self.channel.call(request.map(Body::new)).await?;
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
        *request.uri_mut() = Uri::from_static(GRPC_PATH);
        *request.version_mut() = Version::HTTP_2;
        let mut headers = self.headers.clone();
        headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(USER_AGENT));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        if let Some(timeout) = grpc_timeout(self.timeout) {
            headers.insert("grpc-timeout", timeout);
        }
        if self.compression == Compression::Gzip {
            headers.insert("grpc-encoding", HeaderValue::from_static("gzip"));
            headers.insert("grpc-accept-encoding", HeaderValue::from_static("gzip"));
        }
        *request.headers_mut() = headers;
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

fn headers(settings: &ExportSettings) -> Result<HeaderMap, ClientError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &settings.headers {
        let invalid = || ClientError::Header { name: name.clone() };
        let key = HeaderName::from_bytes(name.as_bytes()).ok().ok_or_else(invalid)?;
        let mut value = HeaderValue::from_str(value).ok().ok_or_else(invalid)?;
        value.set_sensitive(true); // Headers usually carry credentials.
        headers.insert(key, value);
    }
    Ok(headers)
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
