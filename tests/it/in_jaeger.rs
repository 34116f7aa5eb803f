//! What a stock Jaeger has of one namespace, as the same text that recordings are told in.

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use spanlink::trace::model::span::{Role, Span};

use crate::{
    control_plane::{Jaeger, until},
    daemon::Daemon,
    otlp_json,
    told::{Generated, attribute, told},
};

/// Every span of the namespace, whatever service told it. By OTLP: what Jaeger's UI asks for knows
/// no attributes of links.
pub(crate) async fn spans(jaeger: &Jaeger, namespace: &str) -> Result<Vec<Span>> {
    let services = jaeger.services().await?;
    let services = services.as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut traces = BTreeSet::new();
    for service in services {
        for trace in jaeger.find(service, &[("k8s.namespace.name", namespace)]).await? {
            traces.insert(trace["traceID"].as_str().context("a trace without id")?.to_owned());
        }
    }
    let mut spans = Vec::new();
    for trace in traces {
        spans.extend(otlp_json::spans(&jaeger.otlp(&trace).await?)?);
    }
    Ok(spans)
}

/// Waits until a row with `last` in it is there and has an outcome, and the daemon has nothing more
/// to tell.
pub(crate) async fn told_until(
    last: &str,
    daemon: &Daemon,
    jaeger: &Jaeger,
    namespace: &str,
) -> Result<(String, Vec<Span>)> {
    until(&format!("all up to {last}"), Duration::from_mins(2), async || {
        daemon.is_at_rest().await?;
        let spans = spans(jaeger, namespace).await?;
        let ids: HashSet<_> = spans.iter().map(|span| span.span_id).collect();
        let orphan = spans.iter().find(|span| span.parent.is_some_and(|id| !ids.contains(&id)));
        ensure!(orphan.is_none(), "its parent is not there yet: {orphan:?}");
        let text = told(&spans, &generated(&spans));
        let mut rows = text.lines().filter(|row| row.contains(last));
        ensure!(rows.any(|row| !row.contains("->  ") && !row.ends_with("-> ")), "{text}");
        Ok((text, spans))
    })
    .await
}

/// Names that begin with their owner's were made up by its controller.
fn generated(spans: &[Span]) -> Generated {
    let changes = spans.iter().filter(|span| span.role == Role::Change);
    let made_up = changes.filter_map(|span| {
        let owner = attribute(span, "spanlink.owner.name")?;
        span.object.name.strip_prefix(&*owner)?.strip_prefix('-')?;
        Some((span.object.name.to_string(), owner))
    });
    made_up.collect()
}
