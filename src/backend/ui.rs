//! Addresses of traces in the UIs of Jaeger and Grafana.

use reqwest::Url;
use serde_json::{Value, json};

use super::settings::BackendKind;
use crate::trace::model::span::TraceId;

/// The path of a data source behind Grafana's proxy:
/// <https://grafana.com/docs/grafana/latest/developers/http_api/data_source/#data-source-proxy-calls>.
const GRAFANA_PROXY: &str = "/api/datasources/proxy/uid/";

/// The address of a trace, if the backend has a UI. Tempo has none without Grafana.
pub(super) fn url(backend: &Url, kind: BackendKind, trace_id: TraceId) -> Option<String> {
    let mut url = backend.clone();
    url.set_query(None);
    url.set_username("").ok();
    url.set_password(None).ok();
    if let Some((grafana, uid)) = backend.path().split_once(GRAFANA_PROXY) {
        let uid = uid.split('/').next().unwrap_or_default();
        url.set_path(&format!("{grafana}/explore"));
        url.query_pairs_mut()
            .append_pair("schemaVersion", "1")
            .append_pair("panes", &pane(uid, kind, trace_id).to_string());
        return Some(url.into());
    }
    if kind == BackendKind::Tempo {
        return None;
    }
    url.set_path(&format!("{}/trace/{trace_id}", backend.path().trim_end_matches('/')));
    Some(url.into())
}

/// Grafana's state of Explore with a query for one trace.
fn pane(uid: &str, kind: BackendKind, trace_id: TraceId) -> Value {
    let (data_source, query_type) = match kind {
        BackendKind::Jaeger => ("jaeger", None),
        BackendKind::Tempo => ("tempo", Some("traceql")),
    };
    let query = json!({
        "refId": "A",
        "datasource": {"type": data_source, "uid": uid},
        "queryType": query_type,
        "query": trace_id.to_string(),
    });
    json!({"trace": {"datasource": uid, "queries": [query]}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(backend: &str, kind: BackendKind) -> Option<String> {
        url(&Url::parse(backend).unwrap(), kind, TraceId(0xab))
    }

    #[test]
    fn jaeger_and_grafana_have_a_page_for_a_trace_and_tempo_alone_has_none() {
        let id = "000000000000000000000000000000ab";
        assert_eq!(
            address("http://user:secret@jaeger:16686/jaeger/", BackendKind::Jaeger),
            Some(format!("http://jaeger:16686/jaeger/trace/{id}"))
        );
        assert_eq!(address("http://tempo:3200", BackendKind::Tempo), None);
        let grafana = "https://grafana/sub/api/datasources/proxy/uid/abc/";
        let url = Url::parse(&address(grafana, BackendKind::Tempo).unwrap()).unwrap();
        assert_eq!(url.path(), "/sub/explore");
        let panes = url.query_pairs().find(|(name, _)| name == "panes").unwrap().1.into_owned();
        let panes: Value = serde_json::from_str(&panes).unwrap();
        assert_eq!(panes["trace"]["queries"][0]["query"], id);
        assert_eq!(panes["trace"]["queries"][0]["datasource"]["uid"], "abc");
    }
}
