//! The counts of `/metrics` agree with the spans in Jaeger.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use spanlink::trace::model::span::{Role, Span};

use crate::{
    control_plane::shared,
    in_jaeger::tree_until,
    live::{beside, only},
    scene::{ROLLOUT, Scene, deployment},
    span_tree::attribute,
};

#[tokio::test]
async fn convergence_seconds_are_the_durations_of_converged_spans() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("durations").await?;
    let daemon = beside(plane, &only(&namespace)).await?;
    let scene = Scene::quiet_in(plane, namespace, &ROLLOUT).await?;
    let mut object = deployment();
    object["spec"]["replicas"] = json!(3);
    scene.apply(&object).await?;
    scene.settled().await?;
    scene.patch_image("web:2", None).await?;
    scene.settled().await?;
    let jaeger = plane.jaeger()?;
    let (_, spans) = tree_until("update Deployment", &daemon, &jaeger, &scene.namespace).await?;
    for kind in ROLLOUT {
        let (name, _) = kind.split_once('.').unwrap_or((kind, ""));
        let converged = |span: &&Span| {
            *span.object.kind.kind == *name
                && matches!(span.role, Role::Change | Role::Reconcile)
                && attribute(span, "spanlink.outcome").as_deref() == Some("converged")
        };
        let lasted: Vec<Duration> =
            spans.iter().filter(converged).map(|span| span.end.since(span.start)).collect();
        let metric = async |part: &str| {
            let name = format!("spanlink_convergence_duration_seconds_{part}{{kind=\"{kind}\"}}");
            daemon.metric(&name).await
        };
        assert!(lasted.len() > 1, "{kind}: {lasted:?}");
        assert_eq!(metric("count").await?.to_string(), lasted.len().to_string(), "{kind}");
        let total: Duration = lasted.iter().sum();
        let apart = (total.as_secs_f64() - metric("sum").await?).abs();
        assert!(apart < 1e-6, "{kind}: {apart} s apart");
    }
    Ok(())
}
