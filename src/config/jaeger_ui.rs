//! A configuration for Jaeger's UI that leads forward: from an annotated trace to what it caused.
//!
//! Jaeger shows a span link at its source only; a [link pattern](https://www.jaegertracing.io/docs/latest/frontend-ui/#link-patterns)
//! makes a search by the trace id shown, for which a service must be named.

use serde_json::{Value, json};

use super::settings::Settings;

/// Controllers whose objects people change themselves.
const SERVICES: [&str; 6] = [
    "deployment-controller",
    "statefulset-controller",
    "daemonset-controller",
    "cronjob-controller",
    "job-controller",
    "pod-lifecycle",
];

pub fn jaeger_ui(settings: &Settings) -> Value {
    let configured = settings.watch.kinds.iter().filter_map(|kind| kind.service.as_deref());
    let mut services: Vec<&str> = SERVICES.to_vec();
    services.extend(configured.filter(|service| !SERVICES.contains(service)));
    let forward = services.into_iter().map(|service| {
        json!({
            "type": "traces",
            "url": format!(
                "/search?service={service}&limit=100&lookback=custom\
                 &start=#{{startTime | add -60000000}}&end=#{{endTime | add 3600000000}}\
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
    json!({
        "topTagPrefixes": [
            "spanlink.change.", "spanlink.outcome", "spanlink.context", "spanlink.owner",
            "spanlink.", "k8s.namespace", "k8s.deployment.name", "k8s.pod.name",
        ],
        "linkPatterns": forward.chain(back).collect::<Vec<_>>(),
    })
}
