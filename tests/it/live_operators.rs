//! Objects of widely used operators on the real API server: their definitions are the test's own, their
//! status is written in the stages of the real controllers, and Jaeger shows one chain for each change,
//! with its outcome, its reason and its times.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use expect_test::expect;
use futures::future::try_join_all;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use spanlink::{
    daemon::now,
    trace::model::{
        span::{Role, Span, SpanStatus},
        time::Timestamp,
    },
};

use crate::{
    control_plane::{ControlPlane, shared, until},
    in_jaeger,
    live::beside,
    operator_shapes::{Shape, Stage, shapes},
    span_tree::attribute,
};

const SOON: Duration = Duration::from_mins(2);
/// Between two writes.
const STAGE: Duration = Duration::from_secs(2);
/// The time of a condition is a whole second.
const EARLY: Duration = Duration::from_secs(1);
/// By how much a watch on a busy machine is late.
const LATE: Duration = Duration::from_secs(5);

/// Defines a kind as its operator's manifests do, without a schema.
async fn define(plane: &ControlPlane, shape: &Shape) -> Result<()> {
    let (group, version) = shape.api_version.split_once('/').context("no group")?;
    let subresources = if shape.has_subresource { json!({ "status": {} }) } else { json!({}) };
    let name = format!("{}.{group}", shape.plural);
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": name,
            // The API server refuses a group of its own community without it.
            "annotations": { "api-approved.kubernetes.io": "unapproved, of a test" },
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": { "kind": shape.kind, "plural": shape.plural },
            "versions": [{
                "name": version, "served": true, "storage": true, "subresources": subresources,
                "schema": { "openAPIV3Schema": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                } },
            }],
        },
    });
    plane.apply(&definition.to_string()).await?;
    let name = format!("crd/{name}");
    // kubectl fails while the definition has no status.
    let wait = ["wait", "--for=condition=Established", "--timeout=2m", &name];
    until(&format!("{name} to be served"), SOON, async || plane.kubectl(&wait).await).await?;
    Ok(())
}

/// Writes `status` as a controller does: with the times at which conditions changed, and the observed
/// generation where `"observedGeneration": true` asks for it.
fn completed(mut status: Value, object: &DynamicObject) -> Value {
    let nanos = now().since(Timestamp::from_nanos(0)).as_secs() * 1_000_000_000;
    let whole_second = Timestamp::from_nanos(i64::try_from(nanos).unwrap()).to_string();
    let before = object.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        let mut same = before.iter().filter(|it| it["type"] == condition["type"]);
        let same = same.find(|it| it["status"] == condition["status"]);
        let since = same.map(|it| it["lastTransitionTime"].clone());
        condition["lastTransitionTime"] = since.unwrap_or_else(|| json!(whole_second));
    }
    if status["observedGeneration"] == true {
        status["observedGeneration"] = json!(object.metadata.generation);
    }
    status
}

/// Creates the object and plays its stages. Returns when the last status was written.
async fn play(client: &Client, namespace: &str, shape: &Shape) -> Result<Timestamp> {
    let (group, version) = shape.api_version.split_once('/').context("no group")?;
    let resource = ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: shape.api_version.to_owned(),
        kind: shape.kind.to_owned(),
        plural: shape.plural.to_owned(),
    };
    let objects: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let object = DynamicObject::new("it", &resource).data(json!({ "spec": shape.spec }));
    let mut object = objects.create(&PostParams::default(), &object).await?;
    let mut written = now();
    let manager =
        |name: &str| PatchParams { field_manager: Some(name.to_owned()), ..PatchParams::default() };
    let (person, controller) = (manager("kubectl-patch"), manager("operator"));
    for stage in &shape.stages {
        tokio::time::sleep(STAGE).await;
        object = match stage {
            Stage::Spec(spec) => {
                let patch = Patch::Merge(json!({ "spec": spec }));
                objects.patch("it", &person, &patch).await?
            }
            Stage::Status(status) => {
                let status = json!({ "status": completed(status.clone(), &object) });
                let patch = Patch::Merge(status);
                if shape.has_subresource {
                    objects.patch_status("it", &controller, &patch).await?
                } else {
                    objects.patch("it", &controller, &patch).await?
                }
            }
        };
        written = now();
    }
    Ok(written)
}

/// The spans that report the outcome of a change of an object of this kind, in order.
fn outcomes<'s>(spans: &'s [Span], kind: &str) -> Vec<&'s Span> {
    let mut found: Vec<_> = spans
        .iter()
        .filter(|span| span.role == Role::Reconcile && &*span.object.kind.kind == kind)
        .filter(|span| attribute(span, "spanlink.outcome").is_some())
        .collect();
    found.sort_by_key(|span| span.start);
    found
}

/// `create Certificate -> converged`, for every change; a reason and a message in parentheses.
fn line(span: &Span) -> String {
    let verb = attribute(span, "spanlink.verb").unwrap_or_default();
    let outcome = attribute(span, "spanlink.outcome").unwrap_or_default();
    let why = match &span.status {
        SpanStatus::Unset => String::new(),
        SpanStatus::Error(message) => {
            format!(" ({}: {message})", attribute(span, "error.type").unwrap_or_default())
        }
    };
    format!("{verb} {} -> {outcome}{why}\n", span.object.kind.kind)
}

#[tokio::test]
async fn objects_of_operators_are_one_chain_with_outcome_and_times() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("operators").await?;
    let shapes = shapes();
    try_join_all(shapes.iter().map(|shape| define(plane, shape))).await?;
    // Kinds only: the rules are shipped, or general.
    let kinds: Vec<String> = shapes
        .iter()
        .map(|shape| {
            let group = shape.api_version.split('/').next().unwrap_or_default();
            format!("  - {{kind: {}.{group}, namespaces: [{namespace}]}}\n", shape.kind)
        })
        .collect();
    let daemon = beside(plane, &format!("settle: 1s\nwatch:\n{}", kinds.concat())).await?;
    let client = plane.client().await?;
    let written = try_join_all(shapes.iter().map(|shape| play(&client, &namespace, shape))).await?;

    let jaeger = plane.jaeger()?;
    let spans = until("every outcome", SOON, async || {
        daemon.is_at_rest().await?;
        let spans = in_jaeger::spans(&jaeger, &namespace).await?;
        for shape in &shapes {
            let found = outcomes(&spans, shape.kind);
            ensure!(found.len() == shape.changes(), "{}: {found:#?}", shape.kind);
        }
        Ok(spans)
    })
    .await?;
    let mut lines = String::new();
    for (shape, written) in shapes.iter().zip(written) {
        let found = outcomes(&spans, shape.kind);
        for span in &found {
            lines += &line(span);
        }
        let end = found.last().context("no outcome")?.end;
        assert!(
            written.minus(EARLY) <= end && end <= written.plus(LATE),
            "{} was written at {written} and ended at {end}",
            shape.kind
        );
    }
    let heads = spans.iter().filter(|span| span.role == Role::Change && span.parent.is_none());
    let changes: usize = shapes.iter().map(Shape::changes).sum();
    assert_eq!(heads.count(), changes, "each change is a chain of its own");
    expect![[r#"
        create Application -> converged
        update Application -> converged
        create Kustomization -> converged
        create Certificate -> converged
        create Service -> converged
        create Kafka -> converged
        update Kafka -> converged
        create Cluster -> converged
        create Bucket -> converged
        create ScaledObject -> converged
        create Gateway -> converged
        create PipelineRun -> failed (Failed: Tasks Completed: 1 (Failed: 1))
        create SparkApplication -> failed (FAILED: driver container failed with ExitCode: 1)
        create Backup -> failed (PartiallyFailed: status.phase is PartiallyFailed)
    "#]]
    .assert_eq(&lines);
    Ok(())
}
