//! A configuration for Jaeger's UI that leads forward: from an annotated trace to what it caused.
//!
//! Jaeger shows a span link at its source only. A
//! [link pattern](https://www.jaegertracing.io/docs/2.19/deployment/frontend-ui/#link-patterns) turns
//! the trace id shown into a search, for which one service must be named.

use serde_json::{Value, json};

use crate::{
    config::settings::Settings,
    trace::model::{kind, object::GroupKind},
};

/// Begins a minute before the annotated trace does, for clocks that differ: µs.
const BEFORE: i64 = -60_000_000;
/// Ends an hour after it: µs.
const AFTER: i64 = 3_600_000_000;

/// For `query.ui.config_file`, and the entries of `watch` it cannot lead to: custom resources are
/// told under the name of whoever writes their status, unless the entry names a `service`.
pub fn jaeger_ui(settings: &Settings) -> (Value, Vec<String>) {
    let (services, unknown) = services(settings);
    let forward = services.iter().map(|service| {
        json!({
            "type": "traces",
            "url": format!(
                "/search?service={service}&limit=100&lookback=custom\
                 &start=#{{startTime | add {BEFORE}}}&end=#{{endTime | add {AFTER}}}\
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

/// Each service of what is watched, once, in the order of `watch`; and the entries without one.
fn services(settings: &Settings) -> (Vec<&str>, Vec<String>) {
    let mut services = Vec::new();
    let mut unknown = Vec::new();
    for entry in &settings.watch.kinds {
        let known = || {
            let kind = GroupKind::new(&entry.selector.group, entry.selector.kind.as_deref()?);
            // What people change is above it, and found by the same search.
            if (&*kind.group, &*kind.kind) == ("apps", "ReplicaSet") {
                return Some(None);
            }
            kind::service(&kind).map(Some)
        };
        match entry.service.as_deref().map(Some).or_else(known) {
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
    fn it_leads_to_the_services_of_what_is_watched() {
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
