//! Each option that changes spans, by a daemon beside the real API server: all that Jaeger
//! has of a namespace, compared with what was done there.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use expect_test::expect;
use serde_json::{Value, json};
use spanlink::trace::model::span::{Role, Span};

use crate::{
    control_plane::{shared, until},
    daemon::Daemon,
    in_jaeger::tree_until,
    live::beside,
    scene::{Scene, deployment, image_patch, stamped, traceparent},
    span_tree::attribute,
    widgets,
};

/// A scene with a daemon beside it that has options.
struct Stage {
    scene: Scene<'static>,
    daemon: Daemon,
}

impl Stage {
    /// `options` with `NAMESPACE` for the namespace's name, in `watch` too.
    async fn begin(name: &str, kinds: &[&str], options: &str) -> Result<Self> {
        let plane = shared().await?;
        let namespace = plane.namespace(name).await?;
        if kinds.iter().any(|kind| kind.starts_with("Widget.")) {
            widgets::define(plane, &namespace).await?;
        }
        let options = options.replace("NAMESPACE", &namespace);
        let daemon = beside(plane, &options).await?;
        let kinds: Vec<String> =
            kinds.iter().map(|kind| kind.replace("NAMESPACE", &namespace)).collect();
        let scene = Scene::quiet_in(plane, namespace, &kinds).await?;
        Ok(Self { scene, daemon })
    }

    /// Nothing is left to do, in the cluster and in the daemon, once `last` is exported.
    async fn tree(&self, last: &str) -> Result<(String, Vec<Span>)> {
        self.scene.settled().await?;
        let jaeger = self.scene.plane.jaeger()?;
        tree_until(last, &self.daemon, &jaeger, &self.scene.namespace).await
    }

    /// Returns when the daemon has received the event: later ones come from other watches.
    async fn annotate_namespace(&self, annotation: &str) -> Result<()> {
        let metric = "spanlink_watch_events_total{kind=\"Namespace\",type=\"applied\"}";
        let before = self.daemon.metric(metric).await?;
        let namespace = format!("namespace/{}", self.scene.namespace);
        self.scene.kubectl(&["annotate", &namespace, annotation]).await?;
        until("the daemon to receive the event", Duration::from_mins(1), async || {
            ensure!(self.daemon.metric(metric).await? > before, "it has not");
            Ok(())
        })
        .await
    }

    /// Returns when the daemon has received so many of these events, and so all earlier ones of their watch.
    async fn events(&self, kind: &str, what: &str, count: f64) -> Result<()> {
        let metric = format!("spanlink_watch_events_total{{kind=\"{kind}\",type=\"{what}\"}}");
        until(&metric, Duration::from_mins(1), async || {
            let events = self.daemon.metric(&metric).await?;
            ensure!(events >= count, "{events} of {count}");
            Ok(())
        })
        .await
    }

    async fn configure(&self, name: &str, metadata: &Value, data: &Value) -> Result<()> {
        let mut object = json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": data });
        object["metadata"] = metadata.clone();
        object["metadata"]["name"] = json!(name);
        self.scene.apply(&object).await
    }
}

const ROLLOUT: [&str; 3] = ["Deployment.apps", "ReplicaSet.apps", "Pod"];

/// Those kinds, with a ConfigMap beside them.
const AND_SETTINGS: [&str; 4] = ["Deployment.apps", "ReplicaSet.apps", "Pod", "ConfigMap"];

/// An entry of `watch` for each of them.
fn watch(kinds: &[&str]) -> String {
    kinds.iter().fold("watch:\n".to_owned(), |watch, kind| {
        watch + &format!("  - {{kind: {kind}, namespaces: [NAMESPACE]}}\n")
    })
}

/// A Deployment of another name, with these annotations.
fn deployment_named(name: &str, annotations: &Value) -> Value {
    let mut object = deployment();
    object["metadata"] = json!({ "name": name, "annotations": annotations });
    object["spec"]["selector"]["matchLabels"]["app"] = json!(name);
    object["spec"]["template"]["metadata"]["labels"]["app"] = json!(name);
    object
}

#[tokio::test]
async fn json_map_is_a_context_with_its_state_and_allowed_baggage() -> Result<()> {
    let options = "
causes:
  annotations: [{key: example.com/span-context, format: json}, tracing.k8s.io/traceparent]
  baggage: [tenant]
";
    let stage = Stage::begin("carriers", &AND_SETTINGS, &(watch(&AND_SETTINGS) + options)).await?;
    let map = json!({
        "traceparent": traceparent('1'),
        "tracestate": "vendor=abc",
        "baggage": "card=4111,tenant=acme",
    });
    // The first in the configuration that is there counts.
    let annotations = json!({
        "example.com/span-context": map.to_string(),
        "tracing.k8s.io/traceparent": traceparent('9'),
    });
    stage.scene.apply(&deployment_named("web", &annotations)).await?;
    stage.scene.settled().await?;
    let annotations = json!({ "annotations": {
        "tracing.k8s.io/traceparent": traceparent('2'),
        "tracing.k8s.io/tracestate": "congo=t61",
        "tracing.k8s.io/baggage": "tenant=beta;level=1,card=4222",
    } });
    stage.configure("settings", &annotations, &json!({})).await?;
    let (tree, spans) = stage.tree("create ConfigMap").await?;
    expect![[r#"
        create Deployment web g1 -> converged  [context 1…]
          create ReplicaSet web-1 g1 -> converged
            create Pod web-1-a g1 -> converged
        create ConfigMap settings -> converged  [context 2…]
    "#]]
    .assert_eq(&tree);
    let carried = |kind: &str| {
        let is_wanted = |span: &&Span| span.role == Role::Change && *span.object.kind.kind == *kind;
        let span = spans.iter().find(is_wanted)?;
        let link = span.links.first()?;
        Some((link.trace_state.as_deref()?, attribute(span, "tenant")?))
    };
    assert_eq!(carried("Deployment"), Some(("vendor=abc", "acme".to_owned())));
    assert_eq!(carried("ConfigMap"), Some(("congo=t61", "beta".to_owned())));
    assert!(!format!("{spans:?}").contains("card"), "the value is exported without an option");
    Ok(())
}

#[tokio::test]
async fn configured_field_links_to_the_change_in_flight_of_its_target() -> Result<()> {
    let options = "
causes:
  references:
    - {kind: Widget.NAMESPACE.example.com, field: spec.after, to: Widget.NAMESPACE.example.com}
";
    let kinds = ["Widget.NAMESPACE.example.com"];
    let stage = Stage::begin("references", &kinds, &(watch(&kinds) + options)).await?;
    let group = format!("{}.example.com", stage.scene.namespace);
    let make = async |name: &str, after: &str| {
        let widget = json!({
            "apiVersion": format!("{group}/v1"),
            "kind": "Widget",
            "metadata": { "name": name },
            "spec": { "after": after },
        });
        stage.scene.apply(&widget).await
    };
    let finish = async |name: &str| {
        let status = json!({ "status": {
            "observedGeneration": 1,
            "conditions": [{ "type": "Ready", "status": "True", "reason": "AsAsked" }],
        } });
        let status = status.to_string();
        let resource = format!("widgets.{group}/{name}");
        let patch = ["patch", &resource, "--subresource=status", "--type=merge", "-p", &status];
        stage.scene.kubectl(&patch).await
    };
    make("first", "none").await?;
    make("second", "first").await?;
    finish("first").await?;
    finish("second").await?;
    // The object it waits for exists already.
    make("third", "second").await?;
    finish("third").await?;
    let (tree, _) = stage.tree("create Widget third").await?;
    expect![[r#"
        create Widget first g1 -> converged
        create Widget second g1 -> converged  [reference: create Widget first g1]
        create Widget third g1 -> converged
    "#]]
    .assert_eq(&tree);
    Ok(())
}

#[tokio::test]
async fn ignored_change_and_its_children_have_no_spans_and_it_supersedes_nothing() -> Result<()> {
    let options = "
watch:
  - kind: Deployment.apps
    namespaces: [NAMESPACE]
    ignore: {fields: [spec.replicas], managers: [a-robot]}
  - {kind: ReplicaSet.apps, namespaces: [NAMESPACE]}
  - {kind: Pod, namespaces: [NAMESPACE]}
";
    let stage = Stage::begin("ignored", &ROLLOUT, options).await?;
    let scene = &stage.scene;
    let mut object = deployment();
    // Long enough for the scaling to come while it is in flight.
    object["spec"]["minReadySeconds"] = json!(3);
    scene.apply(&object).await?;
    scene.when_there_are("Pod", 1).await?;
    scene.patch(&json!({ "spec": { "replicas": 2 } })).await?;
    scene.settled().await?;
    // It is alone in its trace, with the changes it causes.
    scene.kubectl(&["scale", "deployment/web", "--replicas=1"]).await?;
    scene.settled().await?;
    let by_robot = image_patch("web:2").to_string();
    let patch = ["patch", "deployment", "web", "--field-manager=a-robot", "-p", &by_robot];
    scene.kubectl(&patch).await?;
    scene.settled().await?;
    scene.patch_image("web:3", Some('2')).await?;
    let (tree, _) = stage.tree("update Deployment").await?;
    expect![[r#"
        create Deployment web g1 -> converged  [context 1…]
          create ReplicaSet web-1 g1 -> superseded
            create Pod web-1-a g1 -> converged
          update ReplicaSet web-1 g2 -> converged  [supersedes: create ReplicaSet web-1 g1]  {spec.replicas by kube-controller-manager}
            create Pod web-1-b g1 -> converged
        update Deployment web g5 -> converged  [context 2…]  {spec.template.spec.containers[web].image by kubectl-patch}
          create ReplicaSet web-2 g1 -> converged
            create Pod web-2-a g1 -> converged
          update ReplicaSet web-3 g2 -> converged  {spec.replicas by kube-controller-manager}
            delete Pod web-3-a g2 -> deleted
    "#]]
    .assert_eq(&tree);
    Ok(())
}

#[tokio::test]
async fn labels_and_annotations_are_changes_where_they_are_included() -> Result<()> {
    let options = "
watch:
  - {kind: Deployment.apps, namespaces: [NAMESPACE], include_labels: [team]}
  - kind: ConfigMap
    namespaces: [NAMESPACE]
    include_labels: [team]
    include_annotations: [example.com/owner]
";
    let kinds = ["Deployment.apps", "ConfigMap"];
    let stage = Stage::begin("included", &kinds, options).await?;
    let scene = &stage.scene;
    let mut object = deployment();
    object["spec"]["replicas"] = json!(0);
    scene.apply(&object).await?;
    scene.kubectl(&["label", "deployment/web", "team=shop", "colour=red"]).await?;
    scene.kubectl(&["label", "deployment/web", "--overwrite", "colour=blue"]).await?;
    stage.configure("settings", &json!({}), &json!({ "a": "1" })).await?;
    for change in [
        ["label", "configmap/settings", "team=shop"],
        ["label", "configmap/settings", "colour=red"],
        ["annotate", "configmap/settings", "example.com/owner=me"],
        ["annotate", "configmap/settings", "example.com/other=you"],
        ["label", "configmap/settings", "team-"],
        ["patch", "configmap/settings", "--patch={\"data\":{\"a\":\"2\"}}"],
    ] {
        scene.kubectl(&change).await?;
    }
    let (tree, _) = stage.tree("data.a").await?;
    expect![[r#"
        create Deployment web g1 -> converged  [context 1…]
        update Deployment web g1 -> converged  [context 1…, stale]  (metadata)  {metadata.labels[team] by kubectl-label}
        create ConfigMap settings -> converged
        update ConfigMap settings -> converged  (metadata)  {metadata.labels[team] by kubectl-label}
        update ConfigMap settings -> converged  (metadata)  {metadata.annotations[example.com/owner] by kubectl-annotate}
        update ConfigMap settings -> converged  (metadata)  {metadata.labels[team]}
        update ConfigMap settings -> converged  {data.a by kubectl-patch}
    "#]]
    .assert_eq(&tree);
    Ok(())
}

#[tokio::test]
async fn an_annotation_switches_off_an_object_or_all_of_a_namespace() -> Result<()> {
    let itself = "  - {kind: Namespace, label_selector: kubernetes.io/metadata.name=NAMESPACE}\n";
    let options = watch(&AND_SETTINGS) + itself;
    let stage = Stage::begin("switched-off", &AND_SETTINGS, &options).await?;
    let scene = &stage.scene;
    // The trace has its ReplicaSet and Pod too.
    let off = json!({ "spanlink.io/ignore": "true" });
    scene.apply(&deployment_named("quiet", &off)).await?;
    // Any other word is none.
    scene.apply(&deployment_named("loud", &json!({ "spanlink.io/ignore": "no" }))).await?;
    stage.configure("settings", &json!({}), &json!({ "a": "1" })).await?;
    scene.settled().await?;
    // The daemon is another watcher than the scene, and has to be as far as that each time.
    let ended = "spanlink_convergences_closed_total{outcome=\"converged\"}";
    until("what is loud to have ended", Duration::from_mins(1), async || {
        ensure!(stage.daemon.metric(ended).await? > 2.5, "it has not");
        stage.daemon.is_at_rest().await
    })
    .await?;
    stage.annotate_namespace("spanlink.io/ignore=true").await?;
    scene.apply(&deployment_named("unheard", &json!({}))).await?;
    scene.kubectl(&["patch", "configmap/settings", "--patch={\"data\":{\"b\":\"2\"}}"]).await?;
    scene.when_there_are("Pod", 3).await?;
    scene.kubectl(&["delete", "deployment/loud"]).await?;
    scene.when_there_are("Deployment", 2).await?;
    scene.settled().await?;
    for kind in ROLLOUT {
        stage.events(kind, "deleted", 1.0).await?;
    }
    stage.events("ConfigMap", "applied", 2.0).await?;
    stage.annotate_namespace("spanlink.io/ignore-").await?;
    scene.kubectl(&["patch", "configmap/settings", "--patch={\"data\":{\"c\":\"3\"}}"]).await?;
    let (tree, _) = stage.tree("data.c").await?;
    expect![[r#"
        create Deployment loud g1 -> converged
          create ReplicaSet loud-1 g1 -> converged
            create Pod loud-1-a g1 -> converged
        create ConfigMap settings -> converged
        update ConfigMap settings -> converged  {data.c by kubectl-patch}
    "#]]
    .assert_eq(&tree);
    Ok(())
}

#[tokio::test]
async fn metadata_changes_have_no_spans_where_they_are_ignored_and_their_context_joins_all_the_same()
-> Result<()> {
    let options = watch(&ROLLOUT) + "metadata_changes: ignore\n";
    let stage = Stage::begin("metadata", &ROLLOUT, &options).await?;
    let scene = &stage.scene;
    let mut object = deployment();
    // Else the rollout may be over before the second request.
    object["spec"]["minReadySeconds"] = json!(3);
    scene.apply(&object).await?;
    scene.at_rest().await?;
    scene.kubectl(&["annotate", "deployment/web", "colour=red"]).await?;
    scene.at_rest().await?;
    scene.kubectl(&["set", "image", "deployment/web", "web=web:2"]).await?;
    scene.when_there_are("ReplicaSet", 2).await?;
    scene.patch(&json!({ "metadata": { "annotations": stamped('2') } })).await?;
    let (tree, _) = stage.tree("update Deployment").await?;
    expect![[r#"
        create Deployment web g1 -> converged  [context 1…]
          create ReplicaSet web-1 g1 -> converged
            create Pod web-1-a g1 -> converged
        update Deployment web g3 -> converged  [context 1…, stale]  [context 2…, joined]  {spec.template.spec.containers[web].image by kubectl-set}
          create ReplicaSet web-2 g1 -> converged
            create Pod web-2-a g1 -> converged
          update ReplicaSet web-1 g2 -> converged  {spec.replicas by kube-controller-manager}
            delete Pod web-1-a g2 -> deleted
    "#]]
    .assert_eq(&tree);
    Ok(())
}

#[tokio::test]
async fn stale_contexts_have_no_links_where_they_are_dropped() -> Result<()> {
    let options = watch(&ROLLOUT) + "causes: {stale: drop}\n";
    let stage = Stage::begin("stale-dropped", &ROLLOUT, &options).await?;
    let scene = &stage.scene;
    scene.apply(&deployment()).await?;
    scene.settled().await?;
    scene.kubectl(&["set", "image", "deployment/web", "web=web:2"]).await?;
    scene.settled().await?;
    scene.patch_image("web:3", Some('2')).await?;
    scene.settled().await?;
    scene.kubectl(&["rollout", "undo", "deployment/web", "--to-revision=1"]).await?;
    let (tree, _) = stage.tree("update Deployment web g4").await?;
    expect![[r#"
        create Deployment web g1 -> converged  [context 1…]
          create ReplicaSet web-1 g1 -> converged
            create Pod web-1-a g1 -> converged
        update Deployment web g2 -> converged  {spec.template.spec.containers[web].image by kubectl-set}
          create ReplicaSet web-2 g1 -> converged
            create Pod web-2-a g1 -> converged
          update ReplicaSet web-1 g2 -> converged  {spec.replicas by kube-controller-manager}
            delete Pod web-1-a g2 -> deleted
        update Deployment web g3 -> converged  [context 2…]  {spec.template.spec.containers[web].image by kubectl-patch}
          create ReplicaSet web-3 g1 -> converged
            create Pod web-3-a g1 -> converged
          update ReplicaSet web-2 g2 -> converged  {spec.replicas by kube-controller-manager}
            delete Pod web-2-a g2 -> deleted
        update Deployment web g4 -> converged  [context 1…, revived]  {spec.template.spec.containers[web].image by kubectl}
          update ReplicaSet web-1 g3 -> converged  {spec.replicas by kube-controller-manager}
            create Pod web-1-b g1 -> converged
          update ReplicaSet web-3 g2 -> converged  {spec.replicas by kube-controller-manager}
            delete Pod web-3-a g2 -> deleted
    "#]]
    .assert_eq(&tree);
    Ok(())
}

#[tokio::test]
async fn unsampled_chain_is_counted_and_not_exported() -> Result<()> {
    let options = watch(&ROLLOUT) + "sampling: {ratio: 0}\n";
    let stage = Stage::begin("sampled", &ROLLOUT, &options).await?;
    let scene = &stage.scene;
    let unsampled = traceparent('1').replace("-01", "-00");
    let unsampled = json!({ "tracing.k8s.io/traceparent": unsampled });
    for object in [
        deployment_named("unsampled", &unsampled),
        deployment_named("unstamped", &json!({})),
        deployment_named("sampled", &stamped('2')),
    ] {
        scene.apply(&object).await?;
        scene.settled().await?;
    }
    let (tree, _) = stage.tree("create Deployment").await?;
    expect![[r#"
        create Deployment sampled g1 -> converged  [context 2…]
          create ReplicaSet sampled-1 g1 -> converged
            create Pod sampled-1-a g1 -> converged
    "#]]
    .assert_eq(&tree);
    let closed = "spanlink_convergences_closed_total{outcome=\"converged\"}";
    assert_eq!(stage.daemon.metric(closed).await?.to_string(), "9");
    for kind in ROLLOUT {
        let created = format!("spanlink_changes_total{{kind=\"{kind}\",verb=\"create\"}}");
        assert_eq!(stage.daemon.metric(&created).await?.to_string(), "3", "{kind}");
        let converged = format!("spanlink_convergence_duration_seconds_count{{kind=\"{kind}\"}}");
        assert_eq!(stage.daemon.metric(&converged).await?.to_string(), "3", "{kind}");
    }
    Ok(())
}

#[tokio::test]
async fn without_propagation_spans_link_to_owners_and_not_to_contexts() -> Result<()> {
    let options = watch(&ROLLOUT) + "propagation: {enabled: false}\n";
    let stage = Stage::begin("no-propagation", &ROLLOUT, &options).await?;
    let scene = &stage.scene;
    scene.apply(&deployment()).await?;
    scene.settled().await?;
    let pod = scene.the_pod().await?;
    scene.kubectl(&["delete", "pod", &pod]).await?;
    scene.settled().await?;
    scene.patch_image("web:2", Some('2')).await?;
    let (tree, spans) = stage.tree("update Deployment").await?;
    expect![[r#"
        create Deployment web g1 -> converged
          create ReplicaSet web-1 g1 -> converged
            create Pod web-1-a g1 -> converged
        delete Pod web-1-a g2 -> deleted  [owner, settled: create ReplicaSet web-1 g1]
        create Pod web-1-b g1 -> converged  [owner, settled: create ReplicaSet web-1 g1]  [replaced: delete Pod web-1-a g2]
        update Deployment web g2 -> converged  {spec.template.spec.containers[web].image by kubectl-patch}
          create ReplicaSet web-2 g1 -> converged
            create Pod web-2-a g1 -> converged
          update ReplicaSet web-1 g2 -> converged  {spec.replicas by kube-controller-manager}
            delete Pod web-1-b g2 -> deleted
    "#]]
    .assert_eq(&tree);
    let of_contexts =
        ["spanlink.origin", "spanlink.context", traceparent('1').get(3..35).context("no id")?]
            .map(|mark| format!("{spans:?}").contains(mark));
    assert_eq!(of_contexts, [false; 3]);
    Ok(())
}
