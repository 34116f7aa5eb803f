//! OTLP over HTTP with protobuf bodies: <https://opentelemetry.io/docs/specs/otlp/#otlphttp>.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header, uri::PathAndQuery};
use reqwest::{
    ClientBuilder,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
};

use super::{
    client::USER_AGENT,
    endpoint::Endpoint,
    error::ClientError,
    gzip::gzip,
    http_response,
    response::Response,
    tls::{CONNECT_TIMEOUT, Pem},
};
use crate::config::settings::{Compression, ExportSettings};

const TCP_KEEP_ALIVE: Duration = Duration::from_secs(20);
const HTTPS_PORT: u16 = 443;

#[derive(Debug)]
pub(super) struct HttpClient {
    client: reqwest::Client,
    url: String,
    headers: HeaderMap,
    compression: Compression,
    timeout: Duration,
}

impl HttpClient {
    pub(super) fn new(
        settings: &ExportSettings,
        uri: &http::Uri,
        with_tls: bool,
    ) -> Result<Self, ClientError> {
        let mut url = settings.endpoint.clone();
        let mut headers = headers(settings)?;
        let mut builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_keepalive(TCP_KEEP_ALIVE)
            // A redirected POST becomes a GET, or goes to a host that is not configured.
            .redirect(Policy::none());
        let host = uri.host().unwrap_or_default();
        if is_loopback(host) {
            builder = builder.no_proxy();
        }
        if with_tls {
            builder = configure_tls(builder, settings)?;
            if let (Some(name), Some(authority)) = (&settings.tls.server_name, uri.authority()) {
                // reqwest expects the host of the URL in the certificate. So the URL gets the expected
                // name, and the resolver still returns the addresses of the configured host.
                let port = uri.port_u16().unwrap_or(HTTPS_PORT);
                let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
                url = format!("https://{name}:{port}{path}");
                builder = builder.dns_resolver(FixedResolver { host: host.into(), port });
                if let Ok(value) = HeaderValue::from_str(authority.as_str()) {
                    headers.insert(header::HOST, value);
                }
            }
        } else {
            builder = builder.tls_backend_preconfigured(without_roots());
        }
        let client = builder.build().map_err(|source| ClientError::Http { source })?;
        let (compression, timeout) = (settings.compression, settings.timeout);
        Ok(Self { client, url, headers, compression, timeout })
    }

    pub(super) async fn send(&self, request: Bytes, endpoint: &Endpoint) -> Response {
        // The time limit ends with the head: it decides about the spans.
        match tokio::time::timeout(self.timeout, self.call(request)).await {
            Ok(Ok(response)) => http_response::read(http::Response::from(response)).await,
            Ok(Err(error)) => Response::Missing(endpoint.failed(&error)),
            Err(_) => Response::Missing(endpoint.timed_out(self.timeout)),
        }
    }

    async fn call(&self, request: Bytes) -> Result<reqwest::Response, reqwest::Error> {
        let mut post = self
            .client
            .post(&self.url)
            .headers(self.headers.clone())
            .header(header::CONTENT_TYPE, "application/x-protobuf");
        post = match self.compression {
            Compression::None => post.body(request),
            Compression::Gzip => post.header(header::CONTENT_ENCODING, "gzip").body(gzip(&request)),
        };
        post.send().await
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// A client for `http://` never verifies a certificate, so it does not load the roots of the system:
/// an image without any must not fail.
fn without_roots() -> rustls::ClientConfig {
    rustls::ClientConfig::builder()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
}

fn configure_tls(
    mut builder: ClientBuilder,
    settings: &ExportSettings,
) -> Result<ClientBuilder, ClientError> {
    let pem = Pem::read(&settings.tls)?;
    if let Some((path, ca)) = pem.ca {
        let invalid = |source| ClientError::Certificate { path, source };
        let certificates = reqwest::Certificate::from_pem_bundle(&ca).map_err(invalid)?;
        builder = builder.tls_certs_only(certificates);
    }
    if let Some(identity) = pem.identity {
        let (path, both) = (identity.cert_file, [identity.cert, identity.key].join(&b'\n'));
        let invalid = |source| ClientError::Certificate { path, source };
        builder = builder.identity(reqwest::Identity::from_pem(&both).map_err(invalid)?);
    }
    Ok(builder)
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

/// Resolves every name to the addresses of one host.
#[derive(Clone, Debug)]
struct FixedResolver {
    host: Box<str>,
    port: u16,
}

impl Resolve for FixedResolver {
    fn resolve(&self, _: Name) -> Resolving {
        let Self { host, port } = self.clone();
        Box::pin(async move {
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
