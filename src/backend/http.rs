//! HTTP requests to a backend: headers, tenant, token, TLS, and the bounds of an answer.

use std::{fs, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use reqwest::{Response, Url, redirect::Policy};

use super::{
    error::BackendError,
    settings::{BackendKind, BackendSettings},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A search over much data may take Tempo tens of seconds.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);
/// Bytes of an answer. Tempo returns traces of up to 50 MB by default, Jaeger has no limit.
const BODY_MAX: usize = 256 << 20;
/// Characters of an error message that are shown: it may be a page of HTML.
const MESSAGE_MAX: usize = 300;

#[derive(Debug)]
pub(super) struct HttpClient {
    client: reqwest::Client,
    base: Url,
    headers: HeaderMap,
}

/// A successful answer, or 404 Not Found.
#[derive(Debug)]
pub(super) enum Answer {
    Found(Bytes),
    NotFound,
}

impl HttpClient {
    pub(super) fn new(settings: &BackendSettings, kind: BackendKind) -> Result<Self, BackendError> {
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            // A redirect leads to a login page, or to a host that must not receive the token.
            .redirect(Policy::none());
        if is_loopback(&settings.url) {
            builder = builder.no_proxy();
        }
        if let Some(path) = &settings.ca_file {
            let pem = fs::read(path)
                .map_err(|source| BackendError::ReadFile { path: path.clone(), source })?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|source| BackendError::Certificate { path: path.clone(), source })?;
            builder = builder.tls_certs_only(certificates);
        } else if settings.url.scheme() == "http" {
            // Without TLS no certificate is verified: an image without roots must not fail.
            let config = rustls::ClientConfig::builder()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth();
            builder = builder.tls_backend_preconfigured(config);
        }
        let client = builder.build().map_err(|source| BackendError::Client { source })?;
        Ok(Self { client, base: settings.url.clone(), headers: headers(settings, kind)? })
    }

    /// Requests a path below the address of the backend.
    pub(super) async fn get(
        &self,
        path: &str,
        query: &[(&str, String)],
        accept: &'static str,
    ) -> Result<Answer, BackendError> {
        let url = self.url(path, query);
        let shown = shown(&url);
        let request = self
            .client
            .get(url)
            .headers(self.headers.clone())
            .header(header::ACCEPT, HeaderValue::from_static(accept));
        let answer = async {
            let response = request
                .send()
                .await
                .map_err(|source| BackendError::Unreachable { url: shown.clone(), source })?;
            let (status, redirect) = (response.status(), location(&response));
            let body = body(response, &shown).await?;
            check(status, redirect, body, &shown)
        };
        tokio::time::timeout(REQUEST_TIMEOUT, answer).await.unwrap_or_else(|_elapsed| {
            Err(BackendError::TimedOut { url: shown.clone(), limit: REQUEST_TIMEOUT })
        })
    }

    fn url(&self, path: &str, query: &[(&str, String)]) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/{path}", self.base.path().trim_end_matches('/')));
        url.set_query(None);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// The address of a path, for errors about the content of its answer.
    pub(super) fn shown(&self, path: &str) -> String {
        shown(&self.url(path, &[]))
    }
}

/// The URL as it may be shown: without user, password and query.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Both fail only for URLs without a host, which have neither.
    url.set_username("").ok();
    url.set_password(None).ok();
    url.as_str().trim_end_matches('/').to_owned()
}

fn location(response: &Response) -> Option<String> {
    let location = response.headers().get(header::LOCATION)?;
    Some(one_line(&String::from_utf8_lossy(location.as_bytes())))
}

async fn body(mut response: Response, shown: &str) -> Result<Bytes, BackendError> {
    let mut body = BytesMut::new();
    let cut_short = |source| BackendError::CutShort { url: shown.to_owned(), source };
    while let Some(chunk) = response.chunk().await.map_err(cut_short)? {
        if body.len() + chunk.len() > BODY_MAX {
            return Err(BackendError::TooLong { url: shown.to_owned(), max: BODY_MAX });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn check(
    status: StatusCode,
    redirect: Option<String>,
    body: Bytes,
    shown: &str,
) -> Result<Answer, BackendError> {
    let url = shown.to_owned();
    if status.is_success() {
        return Ok(Answer::Found(body));
    }
    if status == StatusCode::NOT_FOUND {
        return Ok(Answer::NotFound);
    }
    if let Some(location) = redirect.filter(|_| status.is_redirection()) {
        return Err(BackendError::Redirected { url, location });
    }
    let message = message(&body);
    let status = status.as_u16();
    Err(if matches!(status, 401 | 403) {
        BackendError::Refused { url, status, message }
    } else {
        BackendError::Status { url, status, message }
    })
}

/// The message of an error: Jaeger and Grafana wrap it in JSON, Tempo sends plain text.
fn message(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let inner = json.as_ref().and_then(|json| {
        let of_jaeger = json.pointer("/error/message").or_else(|| json.pointer("/errors/0/msg"));
        of_jaeger.or_else(|| json.get("message"))?.as_str()
    });
    one_line(inner.unwrap_or_else(|| text.trim())).chars().take(MESSAGE_MAX).collect()
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn headers(settings: &BackendSettings, kind: BackendKind) -> Result<HeaderMap, BackendError> {
    let mut headers = HeaderMap::new();
    let credential = |text: &str| {
        let mut value = HeaderValue::from_str(text).map_err(|_invalid| BackendError::Credential)?;
        value.set_sensitive(true);
        Ok(value)
    };
    if let Some(tenant) = &settings.tenant {
        headers.insert(HeaderName::from_static(kind.tenant_header()), credential(tenant)?);
    }
    if let Some(token) = &settings.token {
        headers.insert(header::AUTHORIZATION, credential(&format!("Bearer {token}"))?);
    }
    for (name, value) in &settings.headers {
        let invalid = || BackendError::Header { name: name.clone() };
        let key = HeaderName::from_bytes(name.as_bytes()).ok().ok_or_else(invalid)?;
        let mut value = HeaderValue::from_str(value).ok().ok_or_else(invalid)?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    Ok(headers)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_shown_without_credentials() {
        let url = Url::parse("https://user:secret@tempo/tempo/?token=secret#x").unwrap();
        assert_eq!(shown(&url), "https://tempo/tempo");
    }

    #[test]
    fn message_of_an_error_is_found_in_json_and_in_text() {
        let jaeger = br#"{"error":{"httpCode":401,"message":"missing tenant header"}}"#;
        assert_eq!(message(jaeger), "missing tenant header");
        assert_eq!(message(br#"{"errors":[{"code":400,"msg":"bad id"}]}"#), "bad id");
        assert_eq!(message(br#"{"message":"Unauthorized"}"#), "Unauthorized");
        assert_eq!(message(b"no org id\n"), "no org id");
        assert_eq!(message(&[b'a'; 1000]).len(), MESSAGE_MAX);
    }
}
