//! OTLP over HTTP with protobuf bodies.

use std::{io::Write as _, net::SocketAddr, time::Duration};

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderName, HeaderValue, header, uri::PathAndQuery};
use reqwest::{
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
};

use super::{
    client::{ClientError, Pem},
    encode::rejected,
    grpc::CONNECT_TIMEOUT,
    reason::Peer,
    retry::{Answer, Silence, retry_after},
};
use crate::config::settings::{Compression, ExportSettings};

/// Read of an answer's body; more has nothing to say to us.
const ANSWER_MAX: usize = 64 << 10;

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
        peer: &Peer,
    ) -> Result<Self, ClientError> {
        let mut url = settings.endpoint.clone();
        let mut headers = headers(settings)?;
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_keepalive(Duration::from_secs(20))
            // A POST that is redirected comes out as a GET, or elsewhere than configured.
            .redirect(Policy::none());
        let host = uri.host().unwrap_or_default();
        if is_loopback(host) {
            builder = builder.no_proxy();
        }
        if peer.tls {
            builder = with_tls(builder, settings)?;
            if let (Some(name), Some(authority)) = (&settings.tls.server_name, uri.authority()) {
                // The client expects the URL's name in the certificate, so the URL gets that name
                // and the connection still goes where it was configured to go.
                let port = uri.port_u16().unwrap_or(443);
                let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
                url = format!("https://{name}:{port}{path}");
                builder = builder.dns_resolver(Elsewhere { host: host.into(), port });
                if let Ok(value) = HeaderValue::from_str(authority.as_str()) {
                    headers.insert(header::HOST, value);
                }
            }
        } else {
            // Without TLS the system's roots need not exist.
            let none = rustls::ClientConfig::builder()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth();
            builder = builder.tls_backend_preconfigured(none);
        }
        let client = builder.build().map_err(|source| ClientError::Http { source })?;
        let (compression, timeout) = (settings.compression, settings.timeout);
        Ok(Self { client, url, headers, compression, timeout })
    }

    pub(super) async fn send(&self, request: Bytes, peer: &Peer) -> Answer {
        match tokio::time::timeout(self.timeout, self.call(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Answer::None(Silence::Failed(peer.why(&error))),
            Err(_) => Answer::None(Silence::TimedOut(format!(
                "{} did not answer within {:?}",
                peer.shown, self.timeout
            ))),
        }
    }

    async fn call(&self, request: Bytes) -> Result<Answer, reqwest::Error> {
        let mut post = self
            .client
            .post(&self.url)
            .headers(self.headers.clone())
            .header(header::CONTENT_TYPE, "application/x-protobuf");
        post = match self.compression {
            Compression::None => post.body(request),
            Compression::Gzip => post.header(header::CONTENT_ENCODING, "gzip").body(gzip(&request)),
        };
        let mut response = post.send().await?;
        if !response.status().is_success() {
            return Ok(refusal(response.status().as_u16(), response.headers()));
        }
        let mut body = Vec::new();
        // Once it has said 200, what becomes of the body does not change that it took the spans.
        while let Ok(Some(chunk)) = response.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_MAX {
                break;
            }
        }
        Ok(Answer::Accepted { rejected: rejected(&body) })
    }
}

fn refusal(status: u16, headers: &HeaderMap) -> Answer {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let retry_after =
        text(header::RETRY_AFTER).and_then(|value| retry_after(value, text(header::DATE)));
    Answer::Http { status, retry_after }
}

fn gzip(request: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder
        .write_all(request)
        .and_then(|()| encoder.finish())
        .expect("writing to memory does not fail")
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

fn with_tls(
    mut builder: reqwest::ClientBuilder,
    settings: &ExportSettings,
) -> Result<reqwest::ClientBuilder, ClientError> {
    let pem = Pem::read(&settings.tls)?;
    if let Some((path, ca)) = pem.ca {
        let wrong = |source| ClientError::Certificate { path, source };
        let certificates = reqwest::Certificate::from_pem_bundle(&ca).map_err(wrong)?;
        builder = builder.tls_certs_only(certificates);
    }
    if let Some((path, mut cert, key)) = pem.identity {
        cert.push(b'\n');
        cert.extend_from_slice(&key);
        let wrong = |source| ClientError::Certificate { path, source };
        builder = builder.identity(reqwest::Identity::from_pem(&cert).map_err(wrong)?);
    }
    Ok(builder)
}

fn headers(settings: &ExportSettings) -> Result<HeaderMap, ClientError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &settings.headers {
        // What is wrong with a value is not told: it would be in the log then.
        let wrong = || ClientError::Header { name: name.clone() };
        let key = HeaderName::from_bytes(name.as_bytes()).ok().ok_or_else(wrong)?;
        let mut value = HeaderValue::from_str(value).ok().ok_or_else(wrong)?;
        value.set_sensitive(true); // mostly credentials
        headers.insert(key, value);
    }
    Ok(headers)
}

/// Every name leads to one host.
#[derive(Clone, Debug)]
struct Elsewhere {
    host: Box<str>,
    port: u16,
}

impl Resolve for Elsewhere {
    fn resolve(&self, _: Name) -> Resolving {
        let Self { host, port } = self.clone();
        Box::pin(async move {
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
