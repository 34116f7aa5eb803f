//! Jaeger's HTTP API v3: <https://www.jaegertracing.io/docs/latest/architecture/apis/>.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    answer::{Found, ReadTrace, SEARCH_TRACES_MAX, Window},
    decode,
    error::BackendError,
    http::{Answer, HttpClient},
};
use crate::{
    causal_tree::{Search, StoredSpan},
    trace::model::span::TraceId,
};

const API: &str = "Jaeger's API";
const JSON: &str = "application/json";
const SERVICES: &str = "api/v3/services";
const TRACES: &str = "api/v3/traces";
/// The search of Jaeger's UI, see [`Jaeger::ignores_attributes`].
const TRACES_OF_UI: &str = "api/traces";

/// A search names one service, so each is searched; at most so many.
const SERVICES_MAX: usize = 300;
const CONCURRENT_SEARCHES_MAX: usize = 8;

#[derive(Debug)]
pub(super) struct Jaeger {
    http: HttpClient,
    /// Jaeger up to 2.13 and some later versions ignore the attributes of a search by the API v3. Then
    /// the API of its UI is used for searches.
    ignores_attributes: AtomicBool,
}

impl Jaeger {
    pub(super) const fn new(http: HttpClient) -> Self {
        Self { http, ignores_attributes: AtomicBool::new(false) }
    }

    /// Whether this API answers.
    pub(super) async fn is_there(&self) -> Result<bool, BackendError> {
        match self.http.get(SERVICES, &[], JSON).await {
            // Some servers answer any path with a page.
            Ok(Answer::Found(body)) => Ok(serde_json::from_slice::<Services>(&body).is_ok()),
            // A gateway may refuse a path that its backend does not have.
            Ok(Answer::NotFound) | Err(BackendError::Status { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn trace(&self, trace_id: TraceId) -> Result<ReadTrace, BackendError> {
        let path = format!("{TRACES}/{trace_id}");
        // Without `raw`, Jaeger moves spans to where it believes that clocks differ.
        let query = [("raw_traces", "true".to_owned()), ("rawTraces", "true".to_owned())];
        let spans = match self.http.get(&path, &query, JSON).await? {
            Answer::Found(body) => self.spans(&path, &body)?,
            Answer::NotFound => Vec::new(),
        };
        Ok(ReadTrace { spans, partial: None })
    }

    pub(super) async fn search(
        &self,
        search: &Search,
        window: Window,
    ) -> Result<Found, BackendError> {
        let mut found = Found::default();
        let mut services = self.services().await?;
        if services.len() > SERVICES_MAX {
            found.limited.insert(format!(
                "only {SERVICES_MAX} of {} services were searched, because Jaeger searches one at a \
                 time",
                services.len()
            ));
            services.truncate(SERVICES_MAX);
        }
        let mut searches = stream::iter(services)
            .map(|service| async move {
                let found = match search {
                    Search::Attributes(attributes) => {
                        self.search_service(&service, attributes, window).await
                    }
                    Search::LinksTo(trace_id) => self.scan_links(&service, *trace_id, window).await,
                };
                found.map(|found| (service, found))
            })
            .buffer_unordered(CONCURRENT_SEARCHES_MAX);
        while let Some(of_service) = searches.next().await {
            let (service, of_service) = of_service?;
            if of_service.count >= SEARCH_TRACES_MAX {
                found.limited.insert(format!(
                    "Jaeger returns at most {SEARCH_TRACES_MAX} traces of a service, and {service} \
                     has more; a shorter time (--since) finds them"
                ));
            }
            found.traces.extend(of_service.traces);
        }
        Ok(found)
    }

    async fn services(&self) -> Result<Vec<String>, BackendError> {
        match self.http.get(SERVICES, &[], JSON).await? {
            Answer::Found(body) => Ok(self.json::<Services>(SERVICES, &body)?.services),
            Answer::NotFound => Err(BackendError::Status {
                url: self.http.shown(SERVICES),
                status: 404,
                message: "Jaeger's API v3 is not there".to_owned(),
            }),
        }
    }

    async fn search_service(
        &self,
        service: &str,
        attributes: &BTreeMap<&'static str, String>,
        window: Window,
    ) -> Result<FoundOfService, BackendError> {
        let as_json = serde_json::to_string(attributes).unwrap_or_default();
        if !self.ignores_attributes.load(Ordering::Relaxed) {
            let found = self.search_v3(service, attributes, &as_json, window).await?;
            if let Some(found) = found {
                return Ok(found);
            }
            self.ignores_attributes.store(true, Ordering::Relaxed);
        }
        let micros = |nanos: i64| (nanos / 1000).to_string();
        let query = [
            ("service", service.to_owned()),
            ("tags", as_json),
            ("start", micros(window.from.nanos())),
            ("end", micros(window.to.nanos())),
            ("limit", SEARCH_TRACES_MAX.to_string()),
        ];
        let traces = match self.http.get(TRACES_OF_UI, &query, JSON).await? {
            Answer::Found(body) => self.json::<TracesOfUi>(TRACES_OF_UI, &body)?.data,
            Answer::NotFound => Vec::new(),
        };
        let ids = traces.iter().filter_map(|trace| u128::from_str_radix(&trace.trace_id, 16).ok());
        Ok(FoundOfService { count: traces.len(), traces: ids.map(TraceId).collect() })
    }

    /// Jaeger cannot search by links, so the traces of the service are read and compared.
    async fn scan_links(
        &self,
        service: &str,
        target: TraceId,
        window: Window,
    ) -> Result<FoundOfService, BackendError> {
        let spans = self.find_traces(service, None, window).await?;
        let links =
            |stored: &&StoredSpan| stored.span.links.iter().any(|link| link.trace_id == target);
        let traces = traces_of(spans.iter().filter(links));
        Ok(FoundOfService { count: traces_of(spans.iter()).len(), traces })
    }

    /// `None` if Jaeger returned a trace that does not match: it ignores the attributes.
    async fn search_v3(
        &self,
        service: &str,
        attributes: &BTreeMap<&'static str, String>,
        as_json: &str,
        window: Window,
    ) -> Result<Option<FoundOfService>, BackendError> {
        let spans = self.find_traces(service, Some(as_json), window).await?;
        let matches = |span: &&StoredSpan| {
            attributes.iter().all(|(key, value)| span.has_attribute(key, value))
        };
        let matching = traces_of(spans.iter().filter(matches));
        let returned = traces_of(spans.iter()).len();
        let all_match = matching.len() == returned;
        Ok(all_match.then_some(FoundOfService { count: returned, traces: matching }))
    }

    /// The spans of the newest traces of a service.
    async fn find_traces(
        &self,
        service: &str,
        attributes: Option<&str>,
        window: Window,
    ) -> Result<Vec<StoredSpan>, BackendError> {
        let attributes = attributes.map(|attributes| ("query.attributes", attributes.to_owned()));
        let mut query: Vec<(&str, String)> = attributes.into_iter().collect();
        // The names are those of fields of protobuf. Older versions know only the first spelling.
        for [old, new] in [
            ["query.service_name", "query.serviceName"],
            ["query.start_time_min", "query.startTimeMin"],
            ["query.start_time_max", "query.startTimeMax"],
            ["query.num_traces", "query.searchDepth"],
        ] {
            let value = match old {
                "query.service_name" => service.to_owned(),
                "query.start_time_min" => window.from.to_string(),
                "query.start_time_max" => window.to.to_string(),
                _ => SEARCH_TRACES_MAX.to_string(),
            };
            query.extend([(old, value.clone()), (new, value)]);
        }
        match self.http.get(TRACES, &query, JSON).await? {
            Answer::Found(body) => self.spans(TRACES, &body),
            Answer::NotFound => Ok(Vec::new()),
        }
    }

    /// The spans of an answer. The traces of an answer are merged; a streamed answer has several
    /// documents.
    fn spans(&self, path: &str, body: &Bytes) -> Result<Vec<StoredSpan>, BackendError> {
        let mut spans = Vec::new();
        for document in serde_json::Deserializer::from_slice(body).into_iter::<Value>() {
            let mut document = document.map_err(|source| self.not_json(path, source))?;
            complete_empty_values(&mut document);
            let wrapper: Wrapper =
                serde_json::from_value(document).map_err(|source| self.not_json(path, source))?;
            spans.extend(decode::spans(wrapper.result.resource_spans));
        }
        Ok(spans)
    }

    fn json<T: DeserializeOwned>(&self, path: &str, body: &Bytes) -> Result<T, BackendError> {
        serde_json::from_slice(body).map_err(|source| self.not_json(path, source))
    }

    fn not_json(&self, path: &str, source: serde_json::Error) -> BackendError {
        BackendError::NotJson { url: self.http.shown(path), api: API, source }
    }
}

struct FoundOfService {
    /// Traces that were returned.
    count: usize,
    traces: BTreeSet<TraceId>,
}

fn traces_of<'a>(spans: impl Iterator<Item = &'a StoredSpan>) -> BTreeSet<TraceId> {
    spans.map(|stored| stored.span.trace_id).collect()
}

/// Empty lists are left out of an answer. Another field means that it is another server's.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Services {
    #[serde(default)]
    services: Vec<String>,
}

#[derive(Deserialize)]
struct Wrapper {
    result: TracesData,
}

#[derive(Deserialize)]
struct TracesData {
    #[serde(default, rename = "resourceSpans")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Deserialize)]
struct TracesOfUi {
    data: Vec<TraceOfUi>,
}

#[derive(Deserialize)]
struct TraceOfUi {
    #[serde(rename = "traceID")]
    trace_id: String,
}

/// Adds the lists that protobuf's JSON leaves out when they are empty, and `opentelemetry-proto`
/// requires.
fn complete_empty_values(document: &mut Value) {
    let mut pending = vec![document];
    while let Some(value) = pending.pop() {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    if let ("arrayValue" | "kvlistValue", Value::Object(list)) =
                        (&**name, &mut *value)
                    {
                        list.entry("values").or_insert_with(|| Value::Array(Vec::new()));
                    }
                    pending.push(value);
                }
            }
            Value::Array(items) => pending.extend(items),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}
