//! Grafana Tempo's HTTP API: <https://grafana.com/docs/tempo/latest/api_docs/>.

use opentelemetry_proto::tonic::trace::v1::TracesData;
use prost::Message as _;
use serde::Deserialize;

use super::{
    answer::{Found, ReadTrace, SEARCH_TRACES_MAX, Window},
    decode,
    error::BackendError,
    http::{Answer, HttpClient},
};
use crate::{
    causal_tree::Search,
    trace::model::{span::TraceId, time::Timestamp},
};

const API: &str = "Tempo's API";
const ECHO: &str = "api/echo";
const BUILD_INFO: &str = "api/status/buildinfo";
const SEARCH: &str = "api/search";
const JSON: &str = "application/json";
/// The JSON of a trace has its ids in base64, which `opentelemetry-proto` does not read.
const PROTOBUF: &str = "application/protobuf";

#[derive(Debug)]
pub(super) struct Tempo {
    http: HttpClient,
}

impl Tempo {
    pub(super) const fn new(http: HttpClient) -> Self {
        Self { http }
    }

    /// Whether this API answers.
    pub(super) async fn is_there(&self) -> Result<bool, BackendError> {
        for path in [ECHO, BUILD_INFO] {
            let is_there = match self.http.get(path, &[], "*/*").await {
                Ok(Answer::Found(body)) if path == ECHO => body.trim_ascii() == b"echo",
                Ok(Answer::Found(body)) => serde_json::from_slice::<BuildInfo>(&body).is_ok(),
                Ok(Answer::NotFound) | Err(BackendError::Status { .. }) => false,
                Err(error) => return Err(error),
            };
            if is_there {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) async fn trace(&self, trace_id: TraceId) -> Result<ReadTrace, BackendError> {
        let path = format!("api/v2/traces/{trace_id}");
        let body = match self.http.get(&path, &[], PROTOBUF).await? {
            Answer::Found(body) => body,
            Answer::NotFound => return Ok(ReadTrace::default()),
        };
        let response = TraceByIdResponse::decode(body).map_err(|source| {
            BackendError::NotProtobuf { url: self.http.shown(&path), api: API, source }
        })?;
        let is_partial = response.status() == PartialStatus::Partial;
        Ok(ReadTrace {
            spans: decode::spans(response.trace.unwrap_or_default().resource_spans),
            partial: is_partial.then_some(response.message),
        })
    }

    pub(super) async fn search(
        &self,
        search: &Search,
        window: Window,
    ) -> Result<Found, BackendError> {
        let seconds = |at: Timestamp| at.nanos().div_euclid(1_000_000_000);
        let query = [
            ("q", trace_ql(search)),
            ("limit", SEARCH_TRACES_MAX.to_string()),
            ("spss", "1".to_owned()),
            // Without both, only what the ingesters still have is searched.
            ("start", seconds(window.from).to_string()),
            ("end", (seconds(window.to) + 1).to_string()),
        ];
        let body = match self.http.get(SEARCH, &query, JSON).await? {
            Answer::Found(body) => body,
            Answer::NotFound => {
                return Err(BackendError::Status {
                    url: self.http.shown(SEARCH),
                    status: 404,
                    message: "Tempo's search is not there".to_owned(),
                });
            }
        };
        let answer: SearchResponse = serde_json::from_slice(&body).map_err(|source| {
            BackendError::NotJson { url: self.http.shown(SEARCH), api: API, source }
        })?;
        let mut found = Found::default();
        if answer.traces.len() >= SEARCH_TRACES_MAX {
            found.limited.insert(format!(
                "Tempo returns at most {SEARCH_TRACES_MAX} traces; a shorter time (--since) finds \
                 the others"
            ));
        }
        if answer.status == "PARTIAL" {
            found.limited.insert(format!("Tempo searched only a part: {}", answer.message));
        }
        // Leading zeros of ids are left out.
        let ids = answer.traces.iter();
        let ids = ids.filter_map(|trace| u128::from_str_radix(&trace.trace_id, 16).ok());
        found.traces = ids.map(TraceId).collect();
        Ok(found)
    }
}

/// The search in TraceQL: <https://grafana.com/docs/tempo/latest/traceql/>.
fn trace_ql(search: &Search) -> String {
    let conditions: Vec<String> = match search {
        Search::Attributes(attributes) => attributes
            .iter()
            .map(|(key, value)| {
                let scope = if key.starts_with("k8s.cluster.") { "resource" } else { "span" };
                format!("{scope}.{} = {}", quoted(key), quoted(value))
            })
            .collect(),
        Search::LinksTo(trace_id) => {
            vec![format!("link:traceID = {}", quoted(&trace_id.to_string()))]
        }
    };
    format!("{{ {} }}", conditions.join(" && "))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// `tempopb.TraceByIDResponse`. Its `Trace` has the encoding of OTLP's `TracesData`.
///
/// <https://github.com/grafana/tempo/blob/v2.9.0/pkg/tempopb/tempo.proto>
#[derive(Clone, PartialEq, prost::Message)]
struct TraceByIdResponse {
    #[prost(message, optional, tag = "1")]
    trace: Option<TracesData>,
    #[prost(enumeration = "PartialStatus", tag = "3")]
    status: i32,
    #[prost(string, tag = "4")]
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
enum PartialStatus {
    Complete = 0,
    Partial = 1,
}

#[derive(Deserialize)]
struct SearchResponse {
    #[serde(default)]
    traces: Vec<TraceSearchMetadata>,
    #[serde(default)]
    status: String,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct TraceSearchMetadata {
    #[serde(rename = "traceID")]
    trace_id: String,
}

#[derive(Deserialize)]
struct BuildInfo {
    #[expect(dead_code, reason = "only its presence is looked at")]
    version: String,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn search_is_written_in_traceql_with_scopes_and_quotes() {
        let attributes = BTreeMap::from([
            ("k8s.object.name", "we\"b".to_owned()),
            ("k8s.cluster.name", "eu".to_owned()),
        ]);
        assert_eq!(
            trace_ql(&Search::Attributes(attributes)),
            r#"{ resource."k8s.cluster.name" = "eu" && span."k8s.object.name" = "we\"b" }"#
        );
        assert_eq!(
            trace_ql(&Search::LinksTo(TraceId(0xab))),
            r#"{ link:traceID = "000000000000000000000000000000ab" }"#
        );
    }
}
