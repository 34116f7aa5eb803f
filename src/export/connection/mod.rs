//! The connection to the collector, below both protocols: TCP, a proxy, TLS, and the headers that
//! every request has.

mod connect_error;
mod connector;
mod credentials;
mod pem;
mod proxy;
mod stream;
mod tls;

use std::{
    collections::BTreeMap,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Buf;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use tower_service::Service;

use self::{
    connector::{Connector, KEEP_ALIVE},
    credentials::Credentials,
};
use super::{endpoint::Endpoint, error::ClientError};
use crate::config::settings::ExportSettings;

pub(super) use self::{
    connect_error::{ConnectError, ProxyError},
    connector::HttpVersion,
};
/// Why a request got no response.
pub(super) type RequestError = hyper_util::client::legacy::Error;

/// Names this exporter to receivers, as the specification asks:
/// <https://opentelemetry.io/docs/specs/otel/protocol/exporter/#user-agent>.
const USER_AGENT: &str = concat!(
    "spanlink/",
    env!("CARGO_PKG_VERSION"),
    " OTel-OTLP-Exporter-Rust/",
    env!("CARGO_PKG_VERSION")
);

/// Sends HTTP requests to the collector, and connects again when a connection was lost. It is a
/// tower service, so that layers can judge responses before tonic does.
pub(super) struct Connection<B> {
    client: Client<Connector, B>,
    headers: Arc<HeaderMap>,
    credentials: Credentials,
}

impl<B> Connection<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Buf + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Reads and checks every file that the settings name, without connecting.
    ///
    /// # Errors
    /// When a header, a file or the proxy of the settings is invalid.
    pub(super) fn new(
        settings: &ExportSettings,
        endpoint: &Endpoint,
        version: HttpVersion,
    ) -> Result<Self, ClientError> {
        let connector = Connector::new(settings, endpoint, version)?;
        let mut headers = headers(&settings.headers)?;
        headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(USER_AGENT));
        if let Some(value) = connector.forward_proxy_authorization() {
            headers.insert(header::PROXY_AUTHORIZATION, value);
        }
        let credentials = Credentials::new(settings, endpoint)?;
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http2_only(version == HttpVersion::Http2)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(KEEP_ALIVE)
            .build(connector);
        Ok(Self { client, headers: Arc::new(headers), credentials })
    }
}

impl<B> Service<Request<B>> for Connection<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Buf + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Incoming>;
    type Error = RequestError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let Self { client, headers, credentials } = self.clone();
        Box::pin(async move {
            for (name, value) in headers.iter() {
                // The headers of the protocol are not replaced.
                request.headers_mut().entry(name).or_insert_with(|| value.clone());
            }
            if let Some(value) = credentials.authorization().await {
                request.headers_mut().entry(header::AUTHORIZATION).or_insert(value);
            }
            client.request(request).await
        })
    }
}

impl<B> Clone for Connection<B> {
    fn clone(&self) -> Self {
        Self {
            client: self.client.clone(),
            headers: Arc::clone(&self.headers),
            credentials: self.credentials.clone(),
        }
    }
}

impl<B> fmt::Debug for Connection<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers usually carry credentials.
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

fn headers(settings: &BTreeMap<String, String>) -> Result<HeaderMap, ClientError> {
    let mut headers = HeaderMap::new();
    for (name, value) in settings {
        let invalid = || ClientError::Header { name: name.clone() };
        let key = HeaderName::from_bytes(name.as_bytes()).ok().ok_or_else(invalid)?;
        let mut value = HeaderValue::from_str(value).ok().ok_or_else(invalid)?;
        value.set_sensitive(true); // Headers usually carry credentials.
        headers.insert(key, value);
    }
    Ok(headers)
}
