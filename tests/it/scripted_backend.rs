//! Jaeger and Tempo on 127.0.0.1, as their documentation describes their answers, with spans that the
//! test gives.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use opentelemetry_proto::tonic::{
    common::v1::{KeyValue, any_value},
    trace::v1::{ResourceSpans, ScopeSpans, Span, TracesData},
};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

/// Which API is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    Tempo,
    /// Jaeger with searches by attributes.
    Jaeger,
}

/// What is stored, and what the server refuses.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    pub(crate) spans: Vec<ResourceSpans>,
    /// Traces that are returned as a part, with this explanation.
    pub(crate) partial: BTreeMap<String, String>,
    /// The only tenant with data. Requests without a tenant are refused.
    pub(crate) tenant: Option<String>,
    /// Requests without this token are redirected to a login page.
    pub(crate) token: Option<String>,
    /// The path below which the API is served, as by Grafana's proxy.
    pub(crate) base: String,
    /// Searches are answered in part, with this explanation.
    pub(crate) partial_search: Option<String>,
}

#[derive(Debug)]
pub(crate) struct ScriptedBackend {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    serving: JoinHandle<()>,
}

#[derive(Clone)]
struct Served {
    api: Api,
    stored: Arc<Stored>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl ScriptedBackend {
    pub(crate) async fn start(api: Api, stored: Stored) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let base = stored.base.clone();
        let served = Served { api, stored: Arc::new(stored), requests: Arc::clone(&requests) };
        let path = |path: &str| format!("{base}{path}");
        let app = match api {
            Api::Tempo => Router::new()
                .route(&path("/api/echo"), get(|| async { "echo" }))
                .route(&path("/api/v2/traces/{id}"), get(tempo_trace))
                .route(&path("/api/search"), get(tempo_search)),
            Api::Jaeger => Router::new()
                .route(&path("/api/v3/services"), get(jaeger_services))
                .route(&path("/api/v3/traces/{id}"), get(jaeger_trace))
                .route(&path("/api/v3/traces"), get(jaeger_search)),
        };
        let app = app.with_state(served);
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, requests, serving }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The searches that were received, in the backend's language.
    pub(crate) fn searches(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for ScriptedBackend {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Served {
    /// The response to a request that is not allowed, or the spans that it may see.
    #[expect(clippy::result_large_err, reason = "the error is the response")]
    fn visible(&self, headers: &HeaderMap) -> Result<&[ResourceSpans], Response> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(token) = &self.stored.token
            && text("authorization") != Some(&format!("Bearer {token}"))
        {
            let location = [(header::LOCATION, "/login")];
            return Err((StatusCode::FOUND, location, "").into_response());
        }
        let name = match self.api {
            Api::Tempo => "x-scope-orgid",
            Api::Jaeger => "x-tenant",
        };
        match (&self.stored.tenant, text(name)) {
            (None, _) => Ok(&self.stored.spans),
            (Some(_), None) => Err((StatusCode::UNAUTHORIZED, "no org id\n").into_response()),
            (Some(tenant), Some(given)) if given == tenant => Ok(&self.stored.spans),
            (Some(_), Some(_)) => Ok(&[]),
        }
    }
}

async fn tempo_trace(
    State(served): State<Served>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    assert_eq!(headers.get("accept").unwrap(), "application/protobuf");
    let spans = match served.visible(&headers) {
        Ok(spans) => trace(spans, &id),
        Err(response) => return response,
    };
    if spans.is_empty() {
        return (StatusCode::NOT_FOUND, "trace not found").into_response();
    }
    let message = served.stored.partial.get(&id);
    // TraceByIDResponse {1 trace, 2 metrics, 3 status, 4 message}
    let mut response = Vec::new();
    let trace = TracesData { resource_spans: spans }.encode_to_vec();
    prost::encoding::bytes::encode(1, &trace, &mut response);
    prost::encoding::bytes::encode(2, &vec![0x08, 0x01], &mut response);
    prost::encoding::int32::encode(3, &i32::from(message.is_some()), &mut response);
    prost::encoding::string::encode(4, &message.cloned().unwrap_or_default(), &mut response);
    ([(header::CONTENT_TYPE, "application/protobuf")], response).into_response()
}

async fn tempo_search(
    State(served): State<Served>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let spans = match served.visible(&headers) {
        Ok(spans) => spans,
        Err(response) => return response,
    };
    let query = parameters(query);
    for required in ["start", "end", "limit"] {
        query[required].parse::<u64>().unwrap();
    }
    let q = &query["q"];
    served.requests.lock().unwrap().push(q.clone());
    let inner = q.trim_start_matches("{ ").trim_end_matches(" }");
    let conditions: Vec<(&str, &str)> = inner
        .split(" && ")
        .map(|condition| {
            let (key, value) = condition.split_once(" = ").unwrap();
            (key, value.trim_matches('"'))
        })
        .collect();
    let holds = |resource: &ResourceSpans, span: &Span, (key, value): &(&str, &str)| {
        if *key == "link:traceID" {
            return span.links.iter().any(|link| hex(&link.trace_id) == *value);
        }
        match key.split_once('.').unwrap() {
            ("span", key) => has(&span.attributes, key.trim_matches('"'), value),
            ("resource", key) => {
                let resource = resource.resource.clone().unwrap_or_default();
                has(&resource.attributes, key.trim_matches('"'), value)
            }
            _ => false,
        }
    };
    let ids = ids(spans, |resource, span| {
        conditions.iter().all(|condition| holds(resource, span, condition))
    });
    // Tempo leaves out leading zeros.
    let traces: Vec<Value> =
        ids.iter().map(|id| json!({ "traceID": id.trim_start_matches('0') })).collect();
    let mut answer = json!({ "traces": traces, "metrics": { "inspectedBytes": "1" } });
    if let Some(message) = &served.stored.partial_search {
        answer["status"] = json!("PARTIAL");
        answer["message"] = json!(message);
    }
    as_json(&answer)
}

async fn jaeger_services(State(served): State<Served>, headers: HeaderMap) -> Response {
    let spans = match served.visible(&headers) {
        Ok(spans) => spans,
        Err(response) => return response,
    };
    let services: BTreeSet<String> = spans.iter().map(service).collect();
    as_json(&json!({ "services": services }))
}

async fn jaeger_trace(
    State(served): State<Served>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    match served.visible(&headers) {
        Ok(spans) => jaeger_answer(trace(spans, &id)),
        Err(response) => response,
    }
}

async fn jaeger_search(
    State(served): State<Served>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let spans = match served.visible(&headers) {
        Ok(spans) => spans,
        Err(response) => return response,
    };
    let query = parameters(query);
    let attributes = query.get("query.attributes").map_or("{}", String::as_str);
    served.requests.lock().unwrap().push(attributes.to_owned());
    let attributes: BTreeMap<String, String> = serde_json::from_str(attributes).unwrap();
    for required in ["query.startTimeMin", "query.startTimeMax"] {
        query[required].parse::<jiff::Timestamp>().unwrap();
    }
    let ids = ids(spans, |resource, span| {
        service(resource) == query["query.serviceName"]
            && attributes.iter().all(|(key, value)| has(&span.attributes, key, value))
    });
    let limit: usize = query["query.searchDepth"].parse().unwrap();
    let found: Vec<ResourceSpans> =
        ids.iter().take(limit).flat_map(|id| trace(spans, id)).collect();
    jaeger_answer(found)
}

/// All traces are merged into one, and none is an error.
fn jaeger_answer(mut spans: Vec<ResourceSpans>) -> Response {
    if spans.is_empty() {
        let error = json!({ "error": { "httpCode": 404, "message": "No traces found" } });
        return (StatusCode::NOT_FOUND, error.to_string()).into_response();
    }
    // Most of Jaeger's stores drop the attributes of links.
    for span in spans.iter_mut().flat_map(|resource| &mut resource.scope_spans) {
        let links = span.spans.iter_mut().flat_map(|span| &mut span.links);
        links.for_each(|link| link.attributes.clear());
    }
    as_json(&json!({ "result": TracesData { resource_spans: spans } }))
}

/// The spans of one trace.
fn trace(spans: &[ResourceSpans], id: &str) -> Vec<ResourceSpans> {
    let of_trace = |scope: &ScopeSpans| ScopeSpans {
        spans: scope.spans.iter().filter(|span| hex(&span.trace_id) == id).cloned().collect(),
        ..scope.clone()
    };
    let parts = spans.iter().map(|resource| ResourceSpans {
        scope_spans: resource.scope_spans.iter().map(of_trace).collect(),
        ..resource.clone()
    });
    parts
        .filter(|resource| resource.scope_spans.iter().any(|scope| !scope.spans.is_empty()))
        .collect()
}

fn ids(
    spans: &[ResourceSpans],
    matches: impl Fn(&ResourceSpans, &Span) -> bool,
) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for resource in spans {
        for span in resource.scope_spans.iter().flat_map(|scope| &scope.spans) {
            if matches(resource, span) {
                ids.insert(hex(&span.trace_id));
            }
        }
    }
    ids
}

fn has(attributes: &[KeyValue], key: &str, value: &str) -> bool {
    attributes.iter().filter(|pair| pair.key == key).any(|pair| {
        let stored = pair.value.as_ref().and_then(|value| value.value.as_ref());
        matches!(stored, Some(any_value::Value::StringValue(text)) if text == value)
    })
}

fn service(resource: &ResourceSpans) -> String {
    let attributes = resource.resource.clone().unwrap_or_default().attributes;
    let name = attributes.into_iter().find(|pair| pair.key == "service.name");
    match name.and_then(|pair| pair.value).and_then(|value| value.value) {
        Some(any_value::Value::StringValue(text)) => text,
        _ => String::new(),
    }
}

/// A trace id as text.
pub(crate) fn hex(id: &[u8]) -> String {
    format!("{:032x}", u128::from_be_bytes(id.try_into().unwrap()))
}

fn parameters(query: Option<String>) -> BTreeMap<String, String> {
    let url = format!("http://localhost/?{}", query.unwrap_or_default());
    reqwest::Url::parse(&url).unwrap().query_pairs().into_owned().collect()
}

fn as_json(answer: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response()
}
