//! A namespace for one test, the changes it makes there, and a recording of what follows.

use anyhow::{Context, Result, ensure};
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};

use crate::{
    control_plane::ControlPlane,
    killed::Killed,
    recorder::{Objects, Recorder},
};

/// The kinds of a rollout.
pub(crate) const ROLLOUT: [&str; 3] = ["Deployment.apps", "ReplicaSet.apps", "Pod"];

pub(crate) struct Scene<'a> {
    pub(crate) plane: &'a ControlPlane,
    pub(crate) namespace: String,
    pub(crate) recorder: Recorder<'a>,
    /// Watches as well.
    killed: Option<Killed>,
}

impl<'a> Scene<'a> {
    /// Begins a recording of these kinds, in a new namespace whose name starts with `name`.
    pub(crate) async fn begin(
        plane: &'a ControlPlane,
        name: &str,
        kinds: &[impl ToString],
    ) -> Result<Self> {
        Self::begin_in(plane, plane.namespace(name).await?, kinds).await
    }

    /// Begins in an existing namespace. A daemon that is killed repeatedly must export the same spans.
    pub(crate) async fn begin_in(
        plane: &'a ControlPlane,
        namespace: String,
        kinds: &[impl ToString],
    ) -> Result<Self> {
        let mut scene = Self::quiet_in(plane, namespace, kinds).await?;
        scene.killed = Some(scene.recorder.killed().await?);
        Ok(scene)
    }

    /// Begins with this Deployment rolled out.
    pub(crate) async fn rolled_out(
        plane: &'a ControlPlane,
        name: &str,
        kinds: &[impl ToString],
        deployment: &Value,
    ) -> Result<Self> {
        let scene = Self::begin(plane, name, kinds).await?;
        scene.apply(deployment).await?;
        scene.settled().await?;
        Ok(scene)
    }

    /// Begins in an existing namespace, without that daemon.
    pub(crate) async fn quiet_in(
        plane: &'a ControlPlane,
        namespace: String,
        kinds: &[impl ToString],
    ) -> Result<Self> {
        let recorder = Recorder::begin(plane, &namespace, kinds).await?;
        Ok(Self { plane, namespace, recorder, killed: None })
    }

    /// Runs kubectl in the namespace.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.plane.kubectl(&[&["-n", &*self.namespace], arguments].concat()).await
    }

    pub(crate) async fn apply(&self, object: &Value) -> Result<()> {
        self.kubectl_with_input(&["apply", "-f", "-"], object).await
    }

    pub(crate) async fn kubectl_with_input(&self, arguments: &[&str], input: &Value) -> Result<()> {
        let arguments = [&["-n", &*self.namespace], arguments].concat();
        self.plane.kubectl_with_input(&arguments, &input.to_string()).await?;
        Ok(())
    }

    /// Sets an image, stamped or not, in one request.
    pub(crate) async fn patch_image(&self, image: &str, stamp: Option<char>) -> Result<()> {
        let mut patch = image_patch(image);
        if let Some(digit) = stamp {
            patch["metadata"] = json!({ "annotations": stamped(digit) });
        }
        self.kubectl(&["patch", "deployment", "web", "-p", &patch.to_string()]).await?;
        Ok(())
    }

    /// Patches the Deployment `web`, faster than kubectl.
    pub(crate) async fn patch(&self, patch: &Value) -> Result<()> {
        let params =
            PatchParams { field_manager: Some("a-test".to_owned()), ..PatchParams::default() };
        let deployments = self.api("apps/v1", "Deployment").await?;
        deployments.patch("web", &params, &Patch::Strategic(patch)).await?;
        Ok(())
    }

    pub(crate) async fn settled(&self) -> Result<()> {
        self.recorder.settled().await
    }

    /// Waits until the Deployment's controller has observed its generation.
    pub(crate) async fn observed(&self) -> Result<()> {
        let path = "jsonpath={.metadata.generation}";
        let wanted: i64 = self.kubectl(&["get", "deployment", "web", "-o", path]).await?.parse()?;
        self.when("the Deployment to be observed", |objects| {
            let observed = &objects["Deployment/web"]["status"]["observedGeneration"];
            ensure!(*observed == wanted, "{observed} of {wanted}");
            Ok(())
        })
        .await
    }

    pub(crate) async fn at_rest(&self) -> Result<()> {
        self.recorder.at_rest().await
    }

    /// The name of the only Pod.
    pub(crate) async fn the_pod(&self) -> Result<String> {
        self.recorder
            .when("one Pod", |objects| {
                let mut pods = objects.keys().filter_map(|key| key.strip_prefix("Pod/"));
                let pod = pods.next().context("there is none")?;
                ensure!(pods.next().is_none(), "there are more than one");
                Ok(pod.to_owned())
            })
            .await
    }

    pub(crate) async fn when_there_are(&self, kind: &str, wanted: usize) -> Result<()> {
        self.when(&format!("{wanted} of {kind}"), |objects| {
            let there = objects.values().filter(|object| object["kind"] == kind).count();
            ensure!(there == wanted, "there are {there}");
            Ok(())
        })
        .await
    }

    pub(crate) async fn when_a_pod_of(
        &self,
        image: &str,
        what: &str,
        is: impl Fn(&Value) -> bool,
    ) -> Result<()> {
        self.when(&format!("a Pod of {image} that {what}"), |objects| {
            let mut pods = objects.values().filter(|object| object["kind"] == "Pod");
            let is_of = |pod: &Value| pod["spec"]["containers"][0]["image"] == image;
            ensure!(pods.any(|pod| is_of(pod) && is(pod)), "there is none");
            Ok(())
        })
        .await
    }

    pub(crate) async fn when<T>(
        &self,
        what: &str,
        probe: impl Fn(&Objects) -> Result<T>,
    ) -> Result<T> {
        self.recorder.when(what, probe).await
    }

    /// Objects of a kind, for requests that kubectl is too slow for or does not make.
    pub(crate) async fn api(&self, version: &str, kind: &str) -> Result<Api<DynamicObject>> {
        let client = self.plane.client().await?;
        let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Ok(Api::namespaced_with(client, &self.namespace, &resource))
    }

    pub(crate) async fn tree(&self) -> Result<String> {
        let tree = self.recorder.tree().await?;
        if let Some(killed) = &self.killed {
            killed.expect_tree(&tree, &self.recorder.generated()?).await?;
        }
        Ok(tree)
    }
}

pub(crate) fn traceparent(digit: char) -> String {
    let trace: String = std::iter::repeat_n(digit, 32).collect();
    format!("00-{trace}-00f067aa0ba902b7-01")
}

/// Annotations with a stamp.
pub(crate) fn stamped(digit: char) -> Value {
    json!({ "tracing.k8s.io/traceparent": traceparent(digit) })
}

pub(crate) fn image_patch(image: &str) -> Value {
    let containers = json!([{ "name": "web", "image": image }]);
    json!({ "spec": { "template": { "spec": { "containers": containers } } } })
}

/// The pod template of the workload `web`.
pub(crate) fn template() -> Value {
    json!({
        "metadata": { "labels": { "app": "web" } },
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{ "name": "web", "image": "web:1" }],
        },
    })
}

/// A workload `web` of one replica, stamped with 1.
pub(crate) fn workload(kind: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": { "name": "web", "annotations": stamped('1') },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": { "app": "web" } },
            "template": template(),
        },
    })
}

/// A Deployment `web` of one replica, stamped with 1.
pub(crate) fn deployment() -> Value {
    workload("Deployment")
}
