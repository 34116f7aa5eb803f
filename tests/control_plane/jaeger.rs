//! Jaeger: its configuration, and what tests ask it.

use anyhow::{Context, Result, ensure};
use reqwest::{StatusCode, Url};
use serde_json::{Value, json};

use super::ports;

/// Where Jaeger listens; the same after a restart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    query: u16,
    query_grpc: u16,
    otlp_grpc: u16,
    otlp_http: u16,
}

impl Ports {
    pub(crate) fn free() -> Result<Self> {
        Ok(Self {
            query: ports::free()?,
            query_grpc: ports::free()?,
            otlp_grpc: ports::free()?,
            otlp_http: ports::free()?,
        })
    }

    /// Jaeger as it is without a configuration (all in memory), but for the ports.
    pub(crate) fn configuration(self) -> String {
        let listen = |port: u16| json!({ "endpoint": format!("127.0.0.1:{port}") });
        json!({
            "service": {
                "extensions": ["jaeger_storage", "jaeger_query"],
                "pipelines": { "traces": {
                    "receivers": ["otlp"],
                    // Without the batch processor: acknowledged spans can be queried at once.
                    "exporters": ["jaeger_storage_exporter"],
                } },
                // Its own metrics would take a fixed port.
                "telemetry": { "metrics": { "level": "none" } },
            },
            "extensions": {
                "jaeger_storage": { "backends": { "memory": { "memory": { "max_traces": 100_000 } } } },
                "jaeger_query": {
                    "storage": { "traces": "memory" },
                    "http": listen(self.query),
                    "grpc": listen(self.query_grpc),
                },
            },
            "receivers": { "otlp": { "protocols": {
                "grpc": listen(self.otlp_grpc),
                "http": listen(self.otlp_http),
            } } },
            "exporters": { "jaeger_storage_exporter": { "trace_storage": "memory" } },
        })
        .to_string()
    }
}

/// A client of the running Jaeger. Jaeger keeps traces in memory: a restarted one has none.
#[derive(Clone, Debug)]
pub(crate) struct Jaeger {
    ports: Ports,
    client: reqwest::Client,
}

impl Jaeger {
    pub(crate) fn new(ports: Ports) -> Result<Self> {
        Ok(Self { ports, client: http_client()? })
    }

    /// The endpoint for OTLP over gRPC.
    pub(crate) fn otlp_grpc(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.otlp_grpc)
    }

    /// The endpoint for OTLP over HTTP, without the path `/v1/traces`.
    pub(crate) fn otlp_http(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.otlp_http)
    }

    /// The UI and the HTTP API.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.query)
    }

    /// The names of the services it has seen.
    pub(crate) async fn services(&self) -> Result<Value> {
        let answer = self.get("/api/services", &[]).await?;
        answer.context("Jaeger has no /api/services")
    }

    /// One trace (`traceID`, `spans`, `processes`), or nothing where Jaeger has no such trace.
    pub(crate) async fn trace(&self, id: &str) -> Result<Option<Value>> {
        let traces = self.get(&format!("/api/traces/{id}"), &[]).await?;
        Ok(traces.and_then(|traces| traces.get(0).cloned()))
    }

    /// One trace as OTLP/JSON, which has all that was sent: the other answers leave out attributes of
    /// links.
    pub(crate) async fn otlp(&self, id: &str) -> Result<Value> {
        let trace = self.ask(&format!("/api/v3/traces/{id}"), &[]).await?;
        let mut trace = trace.with_context(|| format!("Jaeger has no trace {id}"))?;
        Ok(trace["result"].take())
    }

    /// The traces with a span of `service` that has all the `tags`, newest first.
    pub(crate) async fn find(&self, service: &str, tags: &[(&str, &str)]) -> Result<Vec<Value>> {
        let tags: serde_json::Map<String, Value> =
            tags.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let tags = Value::Object(tags).to_string();
        let query =
            [("service", service), ("tags", &tags), ("limit", "1000"), ("lookback", "custom")];
        match self.get("/api/traces", &query).await? {
            Some(Value::Array(traces)) => Ok(traces),
            _ => Ok(Vec::new()),
        }
    }

    /// The `data` of an answer; nothing where Jaeger answers 404.
    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Option<Value>> {
        Ok(self.ask(path, query).await?.and_then(|mut body| body.get_mut("data").map(Value::take)))
    }

    /// An answer; nothing where Jaeger answers 404.
    async fn ask(&self, path: &str, query: &[(&str, &str)]) -> Result<Option<Value>> {
        let mut url = Url::parse(&self.url()).context("make Jaeger's URL")?;
        url.set_path(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let answer = self.client.get(url.clone()).send().await;
        let answer = answer.with_context(|| format!("GET {url}"))?;
        let status = answer.status();
        let body = answer.bytes().await.with_context(|| format!("read the answer to GET {url}"))?;
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&body);
        ensure!(status.is_success(), "Jaeger answered GET {url} with {status}: {text}");
        serde_json::from_slice(&body).with_context(|| format!("read {text} as JSON")).map(Some)
    }
}

/// The span of a client that changes the cluster inside a trace of its own.
#[derive(Clone, Debug)]
pub(crate) struct PersonSpan<'a> {
    pub(crate) trace_id: &'a str,
    pub(crate) span_id: &'a str,
    pub(crate) name: &'a str,
    /// Unix nanoseconds.
    pub(crate) started: i128,
    pub(crate) ended: i128,
}

impl PersonSpan<'_> {
    /// Sends the span to a receiver of OTLP over HTTP; `url` is without `/v1/traces`.
    pub(crate) async fn send(&self, url: &str) -> Result<()> {
        let request = json!({ "resourceSpans": [{
            "resource": { "attributes": [
                { "key": "service.name", "value": { "stringValue": "person" } },
            ] },
            "scopeSpans": [{ "spans": [{
                "traceId": self.trace_id,
                "spanId": self.span_id,
                "name": self.name,
                "kind": 1,
                "startTimeUnixNano": self.started.to_string(),
                "endTimeUnixNano": self.ended.to_string(),
            }] }],
        }] });
        let sent = http_client()?
            .post(format!("{url}/v1/traces"))
            .header("content-type", "application/json")
            .body(request.to_string())
            .send()
            .await?;
        sent.error_for_status().context("send a person's span")?;
        Ok(())
    }
}

/// A client for plain HTTP on this machine.
pub(crate) fn http_client() -> Result<reqwest::Client> {
    // reqwest needs a TLS provider even without TLS; a second installation does no harm.
    rustls::crypto::ring::default_provider().install_default().ok();
    reqwest::Client::builder().no_proxy().build().context("make an HTTP client")
}
