//! Proxies between the daemon and the collector: HTTP with CONNECT, and SOCKS 5.

use std::{
    future::{Ready, ready},
    net::IpAddr,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Uri, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::{
    client::{legacy::connect::proxy::SocksV5, proxy::matcher::Matcher},
    rt::TokioIo,
};
use percent_encoding::percent_decode_str;
use tokio::net::TcpStream;
use tower_service::Service;

use super::{connect_error::ProxyError, stream::Io, tls::Tls};
use crate::{
    config::settings::{ProxySettings, ProxyVariable, TlsSettings},
    export::{
        endpoint::{Endpoint, basic_authorization, port_or},
        error::ClientError,
    },
    redacted_url::redact_url,
};

/// The proxy of the connections to the collector.
pub(super) struct Proxy {
    kind: Kind,
    /// Its host and port; the scheme has no meaning.
    uri: Uri,
    /// Its URL without user and password, for logs.
    address: String,
    /// The environment variable that names it.
    variable: &'static str,
}

enum Kind {
    Http { authorization: Option<HeaderValue>, tls: Option<Tls> },
    Socks5 { login: Option<(String, String)> },
}

impl Proxy {
    /// Selects the proxy of the endpoint. A loopback address has none, as in Go.
    ///
    /// # Errors
    /// When the variable has no valid URL, or a scheme that is not supported.
    pub(super) fn select(
        settings: &ProxySettings,
        endpoint: &Endpoint,
        tls: &TlsSettings,
    ) -> Result<Option<Self>, ClientError> {
        let variable = if endpoint.is_tls() { &settings.https } else { &settings.http };
        match variable {
            Some(variable) if !is_excepted(&settings.exceptions, endpoint) => {
                Self::parse(variable, tls).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn parse(variable: &ProxyVariable, tls: &TlsSettings) -> Result<Self, ClientError> {
        let invalid =
            || ClientError::Proxy { variable: variable.name, proxy: redact_url(&variable.url) };
        let (scheme, rest) = variable.url.split_once("://").unwrap_or(("http", &variable.url));
        let scheme = scheme.to_ascii_lowercase();
        let default_port = match &*scheme {
            "http" => 80,
            "https" => 443,
            "socks5" | "socks5h" => 1080,
            _ => return Err(invalid()),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (userinfo, host_and_port) = match authority.rsplit_once('@') {
            Some((userinfo, host_and_port)) => (Some(userinfo), host_and_port),
            None => (None, authority),
        };
        let uri: Uri = format!("http://{host_and_port}/").parse().ok().ok_or_else(invalid)?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(invalid)?;
        let port = port_or(&uri, default_port).ok_or_else(invalid)?;
        let address = format!("{scheme}://{host}:{port}");
        let tls = if scheme == "https" {
            // The client certificate is for the collector only.
            let tls = TlsSettings { ca_file: tls.ca_file.clone(), ..TlsSettings::default() };
            Some(Tls::new(&tls, host.trim_matches(['[', ']']), b"http/1.1")?)
        } else {
            None
        };
        let kind = if scheme.starts_with("socks5") {
            Kind::Socks5 { login: userinfo.map(login) }
        } else {
            Kind::Http { authorization: userinfo.and_then(basic_authorization), tls }
        };
        let uri = format!("http://{host}:{port}").parse().ok().ok_or_else(invalid)?;
        Ok(Self { kind, uri, address, variable: variable.name })
    }

    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn variable(&self) -> &'static str {
        self.variable
    }

    pub(super) fn is_http(&self) -> bool {
        matches!(self.kind, Kind::Http { .. })
    }

    /// The header `proxy-authorization`.
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        match &self.kind {
            Kind::Http { authorization, .. } => authorization.clone(),
            Kind::Socks5 { .. } => None,
        }
    }

    /// Prepares a connection to the proxy for requests: through a tunnel to `host:port`, or without
    /// one for requests that the proxy forwards.
    pub(super) async fn prepare(
        &self,
        tcp: TcpStream,
        tunnel_to: Option<&str>,
    ) -> Result<Box<dyn Io>, ProxyError> {
        match (&self.kind, tunnel_to) {
            (Kind::Http { authorization, tls }, _) => {
                let io: Box<dyn Io> = match tls {
                    None => Box::new(tcp),
                    Some(tls) => Box::new(tls.connect(tcp).await.map_err(ProxyError::Tls)?),
                };
                match tunnel_to {
                    None => Ok(io),
                    Some(authority) => tunnel(io, authority, authorization.clone()).await,
                }
            }
            (Kind::Socks5 { login }, Some(authority)) => {
                Ok(Box::new(tunnel_by_socks(tcp, authority, login.clone()).await?))
            }
            (Kind::Socks5 { .. }, None) => Ok(Box::new(tcp)),
        }
    }
}

fn login(userinfo: &str) -> (String, String) {
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    (decode(user), decode(password))
}

/// Whether the endpoint is connected to without a proxy.
fn is_excepted(exceptions: &str, endpoint: &Endpoint) -> bool {
    let host = endpoint.host().to_ascii_lowercase();
    let is_loopback_address = host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    if host == "localhost" || is_loopback_address {
        return true;
    }
    let authority = endpoint.authority_with_port().to_ascii_lowercase();
    let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
    // The matcher has neither ports nor a leading `*.`, which both occur in Kubernetes.
    let exceptions: Vec<String> = exceptions
        .to_ascii_lowercase()
        .split(',')
        .map(str::trim)
        .filter_map(|exception| match exception.rsplit_once(':') {
            Some((name, digits)) if !name.contains(':') || name.ends_with(']') => {
                (digits == port).then(|| name.trim_matches(['[', ']']).to_owned())
            }
            _ => Some(exception.trim_matches(['[', ']']).to_owned()),
        })
        .map(|exception| match exception.strip_prefix("*.") {
            Some(domain) => domain.to_owned(),
            None => exception,
        })
        .collect();
    // To the matcher, `*` is every name and no IP address.
    if exceptions.iter().any(|exception| exception == "*") {
        return true;
    }
    let matcher = Matcher::builder().all("http://proxy").no(exceptions.join(",")).build();
    let uri = Uri::builder().scheme("http").authority(authority).path_and_query("/").build();
    uri.is_ok_and(|uri| matcher.intercept(&uri).is_none())
}

/// Opens a tunnel by CONNECT: <https://www.rfc-editor.org/rfc/rfc9110#CONNECT>.
async fn tunnel(
    io: Box<dyn Io>,
    authority: &str,
    authorization: Option<HeaderValue>,
) -> Result<Box<dyn Io>, ProxyError> {
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(io)).await.map_err(ProxyError::Http)?;
    // It ends with the tunnel, or with `sender`.
    tokio::spawn(connection.with_upgrades());
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = http::Method::CONNECT;
    *request.uri_mut() = Uri::try_from(authority).unwrap_or_default();
    if let Ok(host) = HeaderValue::from_str(authority) {
        request.headers_mut().insert(header::HOST, host);
    }
    if let Some(value) = authorization {
        request.headers_mut().insert(header::PROXY_AUTHORIZATION, value);
    }
    let response = sender.send_request(request).await.map_err(ProxyError::Http)?;
    if !response.status().is_success() {
        return Err(ProxyError::Refused(response.status()));
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(ProxyError::Http)?;
    Ok(Box::new(TokioIo::new(upgraded)))
}

/// Opens a tunnel by SOCKS 5. The proxy resolves the host name, as with Go and with `socks5h`.
async fn tunnel_by_socks(
    tcp: TcpStream,
    authority: &str,
    login: Option<(String, String)>,
) -> Result<TcpStream, ProxyError> {
    let mut socks = SocksV5::new(Uri::default(), Established(Some(TokioIo::new(tcp))));
    if let Some((user, password)) = login {
        socks = socks.with_auth(user, password);
    }
    let destination = Uri::builder().scheme("http").authority(authority).path_and_query("/");
    let destination = destination.build().map_err(|error| ProxyError::Socks(error.to_string()))?;
    let stream = socks.call(destination).await;
    let stream = stream.map_err(|error| ProxyError::Socks(error.to_string()))?;
    Ok(stream.into_inner())
}

/// Hands over a connection that is established already.
struct Established(Option<TokioIo<TcpStream>>);

impl Service<Uri> for Established {
    type Response = TokioIo<TcpStream>;
    type Error = Taken;
    type Future = Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(self.0.take().ok_or(Taken))
    }
}

/// The connection was taken before.
#[derive(Debug, thiserror::Error)]
#[error("the connection is in use")]
struct Taken;
