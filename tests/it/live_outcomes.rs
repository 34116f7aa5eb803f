//! Every outcome, as Jaeger shows it of what happened on the real control plane.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use expect_test::expect;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use spanlink::trace::model::span::{Role, Span, SpanStatus};

use crate::{
    control_plane::{ControlPlane, shared, until},
    in_jaeger,
    live::beside,
    scene::{image_patch, template, workload},
    span_tree::attribute,
    widgets,
};

/// The longest wait is for a deadline of one minute.
const SOON: Duration = Duration::from_mins(3);

/// One line for each change with an outcome, and for each late span.
fn outcomes(spans: &[Span]) -> String {
    let mut lines: Vec<String> = spans
        .iter()
        // How many Pods the overtaken one had made is up to chance.
        .filter(|span| {
            let is_of_well = attribute(span, "k8s.deployment.name").as_deref() == Some("well");
            !matches!((&*span.object.kind.kind, is_of_well), ("ReplicaSet", _) | ("Pod", true))
        })
        .filter_map(|span| {
            let outcome = match span.role {
                Role::Late => "late".to_owned(),
                Role::Change | Role::Reconcile => attribute(span, "spanlink.outcome")?,
                Role::Phase | Role::Stuck | Role::Projection => return None,
            };
            let verb = attribute(span, "spanlink.verb")?;
            let name = &span.object.name;
            // Pods have made-up names; of each owner's there is one.
            let owner =
                attribute(span, "spanlink.owner.name").filter(|_| &*span.object.kind.kind == "Pod");
            let name = owner.map_or_else(
                || name.to_string(),
                |owner| {
                    let owner = owner.rsplit_once('-').map_or(&*owner, |(owner, _)| owner);
                    format!("of {owner}")
                },
            );
            let error = match &span.status {
                SpanStatus::Unset => String::new(),
                SpanStatus::Error(_) => {
                    format!(" {}", attribute(span, "error.type").unwrap_or_default())
                }
            };
            Some(format!("{verb} {} {name} {outcome}{error}\n", span.object.kind.kind))
        })
        .collect();
    lines.sort();
    lines.concat()
}

/// A change that leads to an outcome, in a namespace of its own.
struct Happening<'a> {
    plane: &'a ControlPlane,
    namespace: String,
    /// The group of Widgets that have a deadline.
    hurried: String,
}

impl<'a> Happening<'a> {
    async fn begin(plane: &'a ControlPlane) -> Result<Self> {
        let namespace = plane.namespace("outcomes").await?;
        let hurried = format!("hurried-{namespace}");
        widgets::define(plane, &namespace).await?;
        widgets::define(plane, &hurried).await?;
        Ok(Self { plane, namespace, hurried })
    }

    fn configuration(&self) -> String {
        let Self { namespace, hurried, .. } = self;
        let kinds = ["Deployment.apps", "ReplicaSet.apps", "Pod", "Job.batch"]
            .map(|kind| format!("  - {{kind: {kind}, namespaces: [{namespace}]}}\n"));
        let patient = format!("  - {{kind: \"*.{namespace}.example.com\"}}\n");
        let hurried = format!("  - {{kind: \"*.{hurried}.example.com\", deadline: 5s}}\n");
        // A Pod that crashes is Ready for half a second, or a little more on a busy machine.
        format!("settle: 3s\nstuck_after: 3s\nwatch:\n{}{patient}{hurried}", kinds.concat())
    }

    async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.plane.kubectl(&[&["-n", &*self.namespace], arguments].concat()).await
    }

    fn widget(&self, group: &str, name: &str) -> String {
        json!({
            "apiVersion": format!("{group}.example.com/v1"), "kind": "Widget",
            "metadata": { "name": name, "namespace": self.namespace }, "spec": { "size": 1 },
        })
        .to_string()
    }

    /// Acts as the controller of the object with a deadline.
    async fn slow_is_ready(&self, ready: &str) -> Result<()> {
        let resource = format!("widgets.{}.example.com", self.hurried);
        let condition = json!({ "type": "Ready", "status": ready, "reason": "AsItIs" });
        let status = json!({ "status": { "observedGeneration": 1, "conditions": [condition] } });
        let status = status.to_string();
        let of = ["patch", &resource, "slow", "--subresource=status", "--type=merge"];
        self.kubectl(&[&of[..], &["-p", &status]].concat()).await?;
        Ok(())
    }

    fn workload(&self, name: &str) -> Value {
        let mut object = workload("Deployment");
        object["metadata"] = json!({ "name": name, "namespace": self.namespace });
        object["spec"]["selector"]["matchLabels"] = json!({ "app": name });
        object["spec"]["template"]["metadata"]["labels"] = json!({ "app": name });
        object
    }

    fn pod(&self, name: &str, metadata: &Value) -> String {
        let mut pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
            "spec": { "containers": template()["spec"]["containers"] } });
        pod["metadata"]["name"] = json!(name);
        pod["metadata"]["namespace"] = json!(self.namespace);
        pod.to_string()
    }

    async fn apply_all(&self) -> Result<()> {
        // One never has a status; the other is not ready for longer than its deadline.
        self.plane.apply(&self.widget(&self.namespace, "silent")).await?;
        self.plane.apply(&self.widget(&self.hurried, "slow")).await?;
        self.slow_is_ready("False").await?;
        self.plane.apply(&self.workload("well").to_string()).await?;
        let mut bad = self.workload("bad");
        bad["spec"]["progressDeadlineSeconds"] = json!(5);
        bad["spec"]["template"]["metadata"]["labels"]["spanlink.test/behaviour"] =
            json!("image-pull-back-off");
        self.plane.apply(&bad.to_string()).await?;
        // It fails as soon as it has run, as kwok's chaos has it: Current, not for long enough.
        let chaos = "pod-container-running-failed.stage.kwok.x-k8s.io";
        let at_once = json!({ "labels": { chaos: "true" }, "annotations": {
            format!("{chaos}/delay"): "1ms", format!("{chaos}/jitter-delay"): "1ms" } });
        self.plane.apply(&self.pod("chaos", &at_once)).await?;
        let crashes = json!({ "labels": { "spanlink.test/behaviour": "crash-loop-back-off" } });
        self.plane.apply(&self.pod("crashes", &crashes)).await?;
        let mut run = template();
        run["spec"]["restartPolicy"] = json!("Never");
        run["metadata"]["labels"] = json!({ "spanlink.test/behaviour": "failing-job" });
        let job = json!({ "apiVersion": "batch/v1", "kind": "Job",
            "metadata": { "name": "job", "namespace": self.namespace },
            "spec": { "backoffLimit": 0, "template": run } });
        self.plane.apply(&job.to_string()).await?;
        Ok(())
    }

    async fn pause_resume_and_overtake(&self) -> Result<()> {
        let status = ["rollout", "status", "deployment/well", "--timeout=120s"];
        self.kubectl(&status).await?;
        self.kubectl(&["rollout", "pause", "deployment/well"]).await?;
        let observed = "jsonpath={.status.observedGeneration}";
        until("the pause to be observed", SOON, async || {
            let observed = self.kubectl(&["get", "deployment", "well", "-o", observed]).await?;
            ensure!(observed == "2", "{observed}");
            Ok(())
        })
        .await?;
        self.kubectl(&["rollout", "resume", "deployment/well"]).await?;
        self.kubectl(&status).await?;
        // The first is overtaken before its Pod can be ready: kubectl would be too slow.
        let client = self.plane.client().await?;
        let deployments: Api<Deployment> = Api::namespaced(client, &self.namespace);
        deployments.get("well").await?;
        for image in ["web:2", "web:3"] {
            let patch = Patch::Strategic(image_patch(image));
            deployments.patch("well", &PatchParams::default(), &patch).await?;
        }
        self.kubectl(&status).await?;
        Ok(())
    }

    /// Waits until a convergence in Jaeger has ended so.
    async fn ended(&self, name: &str, outcome: &str) -> Result<Span> {
        let jaeger = self.plane.jaeger()?;
        until(&format!("{name} to be {outcome}"), SOON, async || {
            let spans = in_jaeger::spans(&jaeger, &self.namespace).await?;
            let all = outcomes(&spans);
            let mut ended = spans.into_iter().filter(|span| {
                span.role == Role::Reconcile
                    && &*span.object.name == name
                    && attribute(span, "spanlink.outcome").as_deref() == Some(outcome)
            });
            ended.next().context(all)
        })
        .await
    }
}

#[tokio::test]
async fn every_outcome_agrees_with_the_cluster() -> Result<()> {
    let plane = shared().await?;
    let it = Happening::begin(plane).await?;
    let daemon = beside(plane, &it.configuration()).await?;
    it.apply_all().await?;
    it.pause_resume_and_overtake().await?;

    it.ended("slow", "timed_out").await?;
    it.slow_is_ready("True").await?;
    it.ended("chaos", "failed").await?;
    it.ended("job", "failed").await?;
    let failed = it.ended("bad", "failed").await?;
    let longest = |key: &str| attribute(&failed, &format!("spanlink.slowest.{key}"));
    assert_eq!(longest("kind").as_deref(), Some("Pod"));
    assert_eq!(longest("phase").as_deref(), Some("start"));
    assert_eq!(longest("reason").as_deref(), Some("ImagePullBackOff"));

    let jaeger = plane.jaeger()?;
    let crash = until("the Pod that crashes to be stuck", SOON, async || {
        let spans = in_jaeger::spans(&jaeger, &it.namespace).await?;
        let crashes = |span: &Span| span.role == Role::Stuck && &*span.object.name == "crashes";
        spans.into_iter().find(crashes).context("it is not")
    })
    .await?;
    let SpanStatus::Error(message) = &crash.status else { panic!("{crash:?}") };
    assert!(message.starts_with("exit code 1 (Error): back-off"), "{message}");
    it.kubectl(&["delete", "pod", "crashes"]).await?;
    it.kubectl(&["delete", "deployment", "bad", "well", "--cascade=foreground"]).await?;

    it.ended("silent", "unknown").await?;
    let spans = until("all outcomes", SOON, async || {
        daemon.is_at_rest().await?;
        let spans = in_jaeger::spans(&jaeger, &it.namespace).await?;
        ensure!(spans.iter().any(|span| span.role == Role::Late), "nothing was late");
        Ok(spans)
    })
    .await?;
    expect![[r#"
        create Deployment bad failed ProgressDeadlineExceeded
        create Deployment well converged
        create Job job failed BackoffLimitExceeded
        create Pod chaos failed containerFailed
        create Pod crashes superseded
        create Pod of bad superseded
        create Pod of job failed Error
        create Widget silent unknown
        create Widget slow late
        create Widget slow timed_out timeout
        delete Deployment bad deleted
        delete Deployment well deleted
        delete Pod crashes deleted
        delete Pod of bad deleted
        update Deployment well converged
        update Deployment well converged
        update Deployment well paused
        update Deployment well superseded
    "#]]
    .assert_eq(&outcomes(&spans));
    Ok(())
}
