//! Establishes connections: TCP to the collector or to a proxy, the tunnel of the proxy, then TLS.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, Uri};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::time::{Instant, timeout_at};
use tower_service::Service;

use super::{
    connect_error::{CONNECT_TIMEOUT, ConnectError, ProxyError},
    proxy::Proxy,
    stream::{Io, Stream},
    tls::Tls,
};
use crate::{
    config::settings::ExportSettings,
    export::{endpoint::Endpoint, error::ClientError},
};

/// Interval of keep-alive probes of TCP and pings of HTTP/2, and how long the acknowledgement of a
/// ping may take: a dead connection is detected after twice this time.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(20);

const HTTP_1: &[u8] = b"http/1.1";
const HTTP_2: &[u8] = b"h2";

/// The version of HTTP. OTLP over gRPC needs HTTP/2, OTLP over HTTP uses HTTP/1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::export) enum HttpVersion {
    Http1,
    Http2,
}

/// Connects to the one endpoint of its settings.
#[derive(Clone)]
pub(super) struct Connector {
    tcp: HttpConnector,
    route: Arc<Route>,
}

/// The way to the collector.
struct Route {
    proxy: Option<Proxy>,
    tls: Option<Tls>,
    version: HttpVersion,
    /// The authority of the endpoint, always with a port.
    authority: String,
}

impl Connector {
    pub(super) fn new(
        settings: &ExportSettings,
        endpoint: &Endpoint,
        version: HttpVersion,
    ) -> Result<Self, ClientError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false); // TLS is added here, for https.
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEP_ALIVE));
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let tls = if endpoint.is_tls() {
            let protocol = if version == HttpVersion::Http2 { HTTP_2 } else { HTTP_1 };
            Some(Tls::new(&settings.tls, endpoint.host(), protocol)?)
        } else {
            None
        };
        let proxy = Proxy::select(&settings.proxy, endpoint, &settings.tls)?;
        let authority = endpoint.authority_with_port();
        Ok(Self { tcp, route: Arc::new(Route { proxy, tls, version, authority }) })
    }

    /// The header that a proxy requires of a request that it forwards. A tunnel needs none: the proxy
    /// does not see its requests.
    pub(super) fn forward_proxy_authorization(&self) -> Option<HeaderValue> {
        let proxy = self.route.proxy.as_ref().filter(|proxy| self.route.is_forwarded(proxy))?;
        proxy.authorization()
    }

    async fn connect(mut self, uri: Uri) -> Result<TokioIo<Stream>, ConnectError> {
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let route = Arc::clone(&self.route);
        let mut is_forwarded = false;
        let mut io: Box<dyn Io> = match &route.proxy {
            None => Box::new(self.tcp(uri, deadline).await?),
            Some(proxy) => {
                is_forwarded = route.is_forwarded(proxy);
                let failed = |source| ConnectError::Proxy {
                    proxy: proxy.address().to_owned(),
                    variable: proxy.variable(),
                    source,
                };
                let tcp = match self.tcp(proxy.uri().clone(), deadline).await {
                    Ok(tcp) => tcp,
                    Err(error) => return Err(failed(ProxyError::Connect(Box::new(error)))),
                };
                let prepare = proxy.prepare(tcp, (!is_forwarded).then_some(&*route.authority));
                match timeout_at(deadline, prepare).await {
                    Ok(result) => result.map_err(failed)?,
                    Err(_elapsed) => return Err(failed(ProxyError::TimedOut)),
                }
            }
        };
        if let Some(tls) = &route.tls {
            let encrypted = timeout_at(deadline, tls.connect(io)).await;
            let encrypted = encrypted
                .map_err(|_elapsed| ConnectError::TimedOut { handshake: "TLS" })?
                .map_err(|source| ConnectError::Tls { source })?;
            let protocol = encrypted.get_ref().1.alpn_protocol();
            if route.version == HttpVersion::Http2 && protocol != Some(HTTP_2) {
                return Err(ConnectError::NoHttp2);
            }
            io = Box::new(encrypted);
        }
        Ok(TokioIo::new(Stream { io, is_forwarded }))
    }

    async fn tcp(
        &mut self,
        uri: Uri,
        deadline: Instant,
    ) -> Result<tokio::net::TcpStream, ConnectError> {
        match timeout_at(deadline, self.tcp.call(uri)).await {
            Ok(Ok(stream)) => Ok(stream.into_inner()),
            Ok(Err(error)) => Err(ConnectError::Tcp { source: error.into() }),
            Err(_elapsed) => Err(ConnectError::TimedOut { handshake: "TCP" }),
        }
    }
}

impl Route {
    /// An HTTP proxy forwards requests of HTTP/1.1 without TLS; everything else needs a tunnel.
    fn is_forwarded(&self, proxy: &Proxy) -> bool {
        proxy.is_http() && self.tls.is_none() && self.version == HttpVersion::Http1
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.tcp.poll_ready(context).map_err(|error| ConnectError::Tcp { source: error.into() })
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}
