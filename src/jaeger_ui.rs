//! A configuration of the Jaeger UI with links from an annotated trace to the changes it caused.
//!
//! Jaeger shows a span link only on the span that has it, not on the span it points to. A
//! [link pattern](https://www.jaegertracing.io/docs/2.19/deployment/frontend-ui/#link-patterns) turns
//! the id of the shown trace into a search, which needs the name of one service.

use serde_json::{Value, json};

use crate::{
    config::settings::Settings,
    trace::model::{kind, object::GroupKind},
};

/// The search begins a minute before the annotated trace, as clocks differ. In µs.
const SEARCH_FROM: i64 = -60_000_000;
/// The search ends an hour after the annotated trace. In µs.
const SEARCH_UNTIL: i64 = 3_600_000_000;

/// Returns the configuration for the option `query.ui.config_file` of Jaeger, and the entries of
/// `watch` that it has no links for: the service of a custom resource is the field manager that
/// writes its status, which is not known beforehand, unless the entry names a `service`.
pub fn jaeger_ui(settings: &Settings) -> (Value, Vec<String>) {
    let (services, unknown) = services(settings);
    let forward = services.iter().map(|service| {
        json!({
            "type": "traces",
            "url": format!(
                "/search?service={service}&limit=100&lookback=custom\
                 &start=#{{startTime | add {SEARCH_FROM}}}&end=#{{endTime | add {SEARCH_UNTIL}}}\
                 &tags=%7B%22spanlink.origin.trace_id%22%3A%22#{{traceID}}%22%7D"
            ),
            "text": format!("Kubernetes changes this trace caused ({service})"),
        })
    });
    let back = [
        (
            "spanlink.origin.trace_id",
            "/trace/#{spanlink.origin.trace_id}",
            "Open the trace that caused this",
        ),
        (
            "spanlink.context.span_id",
            "/trace/#{spanlink.context.trace_id}?uiFind=#{spanlink.context.span_id}",
            "Open the annotated span",
        ),
        (
            "spanlink.owner.name",
            "/trace/#{spanlink.owner.trace_id}?uiFind=#{spanlink.owner.span_id}",
            "Open the owner's change",
        ),
    ]
    .map(|(key, url, text)| json!({ "type": "tags", "key": key, "url": url, "text": text }));
    let configuration = json!({
        "topTagPrefixes": [
            "spanlink.change.", "spanlink.outcome", "spanlink.context", "spanlink.owner",
            "spanlink.", "k8s.namespace", "k8s.deployment.name", "k8s.pod.name",
        ],
        "linkPatterns": forward.chain(back).collect::<Vec<_>>(),
    });
    (configuration, unknown)
}

/// The services of the watched kinds, each once, in the order of `watch`; and the entries whose
/// service is not known.
fn services(settings: &Settings) -> (Vec<&str>, Vec<String>) {
    let mut services = Vec::new();
    let mut unknown = Vec::new();
    for entry in &settings.watch.kinds {
        let shipped = || {
            let kind = GroupKind::new(&entry.selector.group, entry.selector.kind.as_deref()?);
            // The search for its Deployment finds its changes too.
            if (&*kind.group, &*kind.kind) == ("apps", "ReplicaSet") {
                return Some(None);
            }
            kind::service(&kind).map(Some)
        };
        match entry.service.as_deref().map(Some).or_else(shipped) {
            Some(Some(service)) if !services.contains(&service) => services.push(service),
            Some(_) => {}
            None => unknown.push(entry.selector.to_string()),
        }
    }
    (services, unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(yaml: &str) -> Settings {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), yaml).unwrap();
        Settings::load(Some(file.path()), []).unwrap()
    }

    #[test]
    fn every_service_of_a_watched_kind_has_a_link() {
        let settings = settings(
            "watch:\n- kind: Deployment.apps\n- kind: ReplicaSet.apps\n- kind: Pod\n\
             - {kind: ConfigMap, service: config}\n- {kind: Widget.example.com, service: config}\n\
             - kind: Gadget.example.com\n- kind: \"*.example.org\"\n",
        );
        let (services, unknown) = services(&settings);
        assert_eq!(services, ["deployment-controller", "pod-lifecycle", "config"]);
        assert_eq!(unknown, ["Gadget.example.com", "*.example.org"]);
    }
}
