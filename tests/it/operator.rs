//! argo-rollouts beside the real control plane: an operator that nothing instrumented. Each thing that
//! a person does with it is one chain in Jaeger, with its outcome.
//!
//! Runs on demand (`CONTRIBUTING.md`), for it builds the operator.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use expect_test::expect;
use serde_json::{Value, json};
use spanlink::trace::model::span::{Role, Span, SpanStatus};

use crate::{
    control_plane::{
        Account, ControlPlane, Options, Server, argo_rollouts_ready, flag, free_port, own,
        to_stderr, until,
    },
    daemon::Daemon,
    in_jaeger,
    live::{Stamp, beside, stamp},
    span_tree::attribute,
};

const SOON: Duration = Duration::from_mins(3);

/// Starts the controller, and returns when it works.
async fn start_operator(plane: &ControlPlane) -> Result<Server> {
    let argo = argo_rollouts_ready(&to_stderr)?;
    // A definition is too long for the annotation of a client-side apply.
    let definitions = argo.definitions.to_string_lossy().into_owned();
    plane.kubectl(&["apply", "--server-side", "-f", &definitions]).await?;
    // kubectl fails while a definition has no status.
    let wait = ["wait", "--for=condition=Established", "--timeout=2m", "crd", "--all"];
    until("the definitions to be served", SOON, async || plane.kubectl(&wait).await).await?;
    let metrics = free_port()?;
    let arguments = vec![
        flag("kubeconfig", plane.kubeconfig(&Account::Admin)),
        flag("leader-elect", "false"),
        flag("healthzPort", free_port()?.to_string()),
        flag("metricsPort", metrics.to_string()),
    ];
    let server = plane.start_beside("rollouts-controller", argo.controller, arguments)?;
    until("argo-rollouts to be ready", SOON, async || {
        let answer = reqwest::get(format!("http://127.0.0.1:{metrics}/metrics")).await;
        let answer = answer.with_context(|| server.log_tail())?;
        ensure!(answer.status().is_success(), "{}", answer.status());
        Ok(())
    })
    .await?;
    Ok(server)
}

/// Writes a recording of the run too, where `OPERATOR_RECORDING` names a file: a wrong chain is
/// replayed from it.
fn record(plane: &ControlPlane, configuration: &str) -> Result<Option<Server>> {
    let Some(file) = std::env::var_os("OPERATOR_RECORDING") else { return Ok(None) };
    let path = plane.folder().join("record.yaml");
    std::fs::write(&path, configuration)?;
    let kubeconfig = flag("kubeconfig", plane.kubeconfig(&Account::Admin));
    let arguments = vec!["record".into(), "-o".into(), file, flag("config", path), kubeconfig];
    let spanlink = env!("CARGO_BIN_EXE_spanlink").into();
    plane.start_beside("recorder", spanlink, arguments).map(Some)
}

/// A Rollout of its own namespace, and what a person does with it.
struct Flow<'a> {
    plane: &'a ControlPlane,
    namespace: String,
}

impl<'a> Flow<'a> {
    async fn begin(plane: &'a ControlPlane, prefix: &str) -> Result<Self> {
        Ok(Self { plane, namespace: plane.namespace(prefix).await? })
    }

    async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.plane.kubectl(&[&["-n", &*self.namespace], arguments].concat()).await
    }

    /// Applies the Rollout, and waits until it is healthy.
    async fn create(&self, replicas: i64, steps: &Value) -> Result<()> {
        let rollout = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout",
            "metadata": { "name": "web", "namespace": self.namespace },
            "spec": {
                "replicas": replicas,
                "progressDeadlineSeconds": 20,
                "selector": { "matchLabels": { "app": "web" } },
                "strategy": { "canary": { "steps": steps } },
                "template": {
                    "metadata": { "labels": { "app": "web" } },
                    "spec": {
                        "terminationGracePeriodSeconds": 1,
                        "containers": [{ "name": "web", "image": "web:1" }],
                    },
                },
            },
        });
        self.plane.apply(&rollout.to_string()).await?;
        self.phase("Healthy", "").await
    }

    async fn patch(&self, patch: &Value) -> Result<()> {
        let patch = patch.to_string();
        self.kubectl(&["patch", "rollout", "web", "--type=merge", "-p", &patch]).await?;
        Ok(())
    }

    /// Writes the status as the operator's kubectl plugin does.
    async fn patch_status(&self, patch: &Value) -> Result<()> {
        let patch = patch.to_string();
        let of = ["patch", "rollout", "web", "--subresource=status", "--type=merge", "-p", &patch];
        self.kubectl(&of).await?;
        Ok(())
    }

    async fn set_image(&self, image: &str, labels: &Value) -> Result<Stamp> {
        let stamp = stamp();
        self.patch(&json!({
            "metadata": { "annotations": { "tracing.k8s.io/traceparent": stamp.traceparent } },
            "spec": { "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{ "name": "web", "image": image }] },
            } },
        }))
        .await?;
        Ok(stamp)
    }

    /// Waits until the operator has observed the spec and reports this phase and step.
    async fn phase(&self, phase: &str, step: &str) -> Result<()> {
        let template = "jsonpath={.metadata.generation} {.status.observedGeneration} \
                        {.status.phase} {.status.currentStepIndex}";
        until(&format!("phase {phase} {step}"), SOON, async || {
            let text = self.kubectl(&["get", "rollout", "web", "-o", template]).await?;
            let words: Vec<&str> = text.split_whitespace().collect();
            let [generation, observed, found, ..] = words.as_slice() else {
                anyhow::bail!("{text}")
            };
            let at_step = step.is_empty() || words.get(3) == Some(&step);
            ensure!(generation == observed && *found == phase && at_step, "{text}");
            Ok(())
        })
        .await
    }

    /// An update in steps: one with a pause by time, one with a pause until a person promotes it.
    async fn canary(&self) -> Result<Stamp> {
        let pause = json!({ "pause": { "duration": "3s" } });
        let steps = json!([{ "setWeight": 34 }, pause, { "setWeight": 67 }, { "pause": {} }]);
        self.create(3, &steps).await?;
        let stamp = self.set_image("web:2", &json!({})).await?;
        self.phase("Paused", "3").await?;
        // Longer than `settle`: the pause of a person is no outcome.
        tokio::time::sleep(Duration::from_secs(4)).await;
        self.patch_status(&json!({ "status": { "pauseConditions": null, "currentStepIndex": 4 } }))
            .await?;
        self.phase("Healthy", "4").await?;
        // The last old Pods end after that.
        tokio::time::sleep(Duration::from_secs(4)).await;
        self.kubectl(&["delete", "rollout", "web"]).await?;
        let gone = ["wait", "--for=delete", "replicaset,pod", "--all", "--timeout=2m"];
        self.kubectl(&gone).await?;
        Ok(stamp)
    }

    /// An update that a person aborts, and a rollback.
    async fn abort(&self) -> Result<Stamp> {
        self.create(2, &json!([{ "setWeight": 50 }, { "pause": {} }])).await?;
        let stamp = self.set_image("web:2", &json!({})).await?;
        self.phase("Paused", "1").await?;
        self.patch_status(&json!({ "status": { "abort": true } })).await?;
        self.phase("Degraded", "").await?;
        tokio::time::sleep(Duration::from_secs(4)).await;
        self.set_image("web:1", &json!({})).await?;
        self.phase("Healthy", "").await?;
        Ok(stamp)
    }

    /// An update whose image cannot be pulled, and its undoing.
    async fn broken(&self) -> Result<Stamp> {
        self.create(2, &json!([{ "setWeight": 50 }])).await?;
        let label = "spanlink.test/behaviour";
        let stamp = self.set_image("web:broken", &json!({ label: "image-pull-back-off" })).await?;
        self.phase("Degraded", "").await?;
        tokio::time::sleep(Duration::from_secs(4)).await;
        self.set_image("web:1", &json!({ label: null })).await?;
        self.phase("Healthy", "").await?;
        Ok(stamp)
    }

    /// Waits until every change has ended and was sent, `last` among them, and returns the spans of
    /// the namespace.
    async fn spans(&self, daemon: &Daemon, last: &str) -> Result<Vec<Span>> {
        let jaeger = self.plane.jaeger()?;
        until("everything to end", SOON, async || {
            let spans = in_jaeger::spans(&jaeger, &self.namespace).await?;
            let text = chains(&spans);
            ensure!(text.contains(last), "{text}");
            daemon.is_at_rest().await.context(text)?;
            in_jaeger::spans(&jaeger, &self.namespace).await
        })
        .await
    }
}

fn is_change(span: &Span) -> bool {
    span.role == Role::Change
}

/// One line a head: what a person did, its outcome, and how many changes of which kind followed.
/// How often a ReplicaSet is scaled is up to chance.
fn chains(spans: &[Span]) -> String {
    let mut heads: Vec<&Span> =
        spans.iter().filter(|span| is_change(span) && span.parent.is_none()).collect();
    heads.sort_by_key(|span| span.start);
    heads.iter().map(|head| chain(head, spans)).collect()
}

fn chain(head: &Span, spans: &[Span]) -> String {
    let in_chain = || spans.iter().filter(|span| span.trace_id == head.trace_id);
    let of_head = |span: &&Span| span.object == head.object;
    // Of its own convergence: a write of the spec by the operator itself has a span below it.
    let is_outcome = |span: &&Span| {
        span.span_id == head.span_id
            || (span.role == Role::Reconcile && span.parent == Some(head.span_id))
    };
    let outcome = in_chain()
        .filter(is_outcome)
        .find_map(|span| Some((attribute(span, "spanlink.outcome")?, span)));
    let (outcome, why) = match outcome {
        Some((outcome, span)) => match &span.status {
            SpanStatus::Error(message) => (outcome, format!(" ({message})")),
            SpanStatus::Unset => (outcome, String::new()),
        },
        None => Default::default(),
    };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for span in in_chain().filter(|span| !of_head(span)) {
        let verb = match span.role {
            Role::Change => attribute(span, "spanlink.verb").unwrap_or_default(),
            Role::Stuck => format!("stuck {}", attribute(span, "error.type").unwrap_or_default()),
            _ => continue,
        };
        *counts.entry(format!("{verb} {}", span.object.kind.kind)).or_default() += 1;
    }
    let counts: Vec<String> = counts
        .iter()
        .map(|(of, count)| match &**of {
            "update ReplicaSet" => of.clone(),
            _ => format!("{count} {of}"),
        })
        .collect();
    let verb = attribute(head, "spanlink.verb").unwrap_or_default();
    let (kind, name) = (&head.object.kind.kind, &head.object.name);
    format!("{verb} {kind} {name} -> {outcome}{why}: {}\n", counts.join(", "))
}

/// How many Pods a search for the origin finds created.
fn pods_of_origin(spans: &[Span], stamp: &Stamp) -> usize {
    let of_origin = |span: &&Span| {
        attribute(span, "spanlink.origin.trace_id").as_deref() == Some(&*stamp.trace_id)
            && attribute(span, "spanlink.verb").as_deref() == Some("create")
    };
    spans
        .iter()
        .filter(|span| is_change(span))
        .filter(|s| &*s.object.kind.kind == "Pod")
        .filter(of_origin)
        .count()
}

#[tokio::test]
#[ignore = "builds argo-rollouts, which takes minutes; CONTRIBUTING.md has the command"]
async fn each_thing_done_with_argo_rollouts_is_one_chain() -> Result<()> {
    let plane = own(&Options::default().with_jaeger()).await?;
    let _operator = start_operator(&plane).await?;
    let [canary, abort, broken] = [
        Flow::begin(&plane, "canary").await?,
        Flow::begin(&plane, "abort").await?,
        Flow::begin(&plane, "broken").await?,
    ];
    let namespaces = [&canary, &abort, &broken].map(|flow| flow.namespace.as_str()).join(", ");
    // Kinds only: the rule of Rollouts is shipped.
    let kinds = ["Rollout.argoproj.io", "ReplicaSet.apps", "Pod"]
        .map(|kind| format!("  - {{kind: {kind}, namespaces: [{namespaces}]}}\n"));
    let configuration = format!("settle: 1s\nstuck_after: 3s\nwatch:\n{}", kinds.concat());
    let daemon = beside(&plane, &configuration).await?;
    let _recorder = record(&plane, &configuration)?;
    let (of_canary, of_abort, of_broken) =
        tokio::try_join!(canary.canary(), abort.abort(), broken.broken())?;

    let spans = canary.spans(&daemon, "2 delete ReplicaSet").await?;
    assert_eq!(pods_of_origin(&spans, &of_canary), 3);
    expect![[r#"
        create Rollout web -> converged: 3 create Pod, 1 create ReplicaSet, update ReplicaSet
        update Rollout web -> converged: 3 create Pod, 1 create ReplicaSet, 3 delete Pod, update ReplicaSet
        delete Rollout web -> deleted: 3 delete Pod, 2 delete ReplicaSet
    "#]]
    .assert_eq(&chains(&spans));
    let spans = abort.spans(&daemon, "update Rollout web -> converged").await?;
    // One of the new version, and one of the old version that takes its place again.
    assert_eq!(pods_of_origin(&spans, &of_abort), 2);
    expect![[r#"
        create Rollout web -> converged: 2 create Pod, 1 create ReplicaSet, update ReplicaSet
        update Rollout web -> failed (RolloutAborted: Rollout aborted update to revision 2): 2 create Pod, 1 create ReplicaSet, 2 delete Pod, update ReplicaSet
        update Rollout web -> converged: 
    "#]]
    .assert_eq(&chains(&spans));
    let spans = broken.spans(&daemon, "1 delete Pod").await?;
    assert_eq!(pods_of_origin(&spans, &of_broken), 1);
    expect![[r#"
        create Rollout web -> converged: 2 create Pod, 1 create ReplicaSet, update ReplicaSet
        update Rollout web -> failed (ProgressDeadlineExceeded: ReplicaSet "web-7d9bc7d5d5" has timed out progressing.): 1 create Pod, 1 create ReplicaSet, 1 stuck ImagePullBackOff Pod, update ReplicaSet
        update Rollout web -> converged: 1 delete Pod, update ReplicaSet
    "#]].assert_eq(&chains(&spans));
    Ok(())
}
