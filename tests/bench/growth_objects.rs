//! The objects of the growth benchmark, as the API server sends them.

use serde_json::{Value, json};
use spanlink::trace::model::object::Uid;
use xxhash_rust::xxh3::xxh3_128;

/// `apiVersion` and kind; the constants below are indices.
pub(crate) const KINDS: [(&str, &str); 6] = [
    ("v1", "Namespace"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "ReplicaSet"),
    ("v1", "Pod"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("example.com/v1", "Widget"),
];
pub(crate) const NAMESPACE: usize = 0;
pub(crate) const DEPLOYMENT: usize = 1;
pub(crate) const REPLICA_SET: usize = 2;
pub(crate) const POD: usize = 3;
pub(crate) const AUTOSCALER: usize = 4;
pub(crate) const WIDGET: usize = 5;

pub(crate) fn object(
    id: usize,
    namespace: &str,
    name: &str,
    owner: Option<(usize, &str)>,
) -> Value {
    let (api_version, kind) = KINDS[id];
    let mut object = json!({
        "apiVersion": api_version, "kind": kind,
        "metadata": { "name": name, "uid": uid(kind, namespace, name), "generation": 1,
            "creationTimestamp": "2026-11-24T09:00:00Z" },
        "spec": {}, "status": {},
    });
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = json!(namespace);
    }
    if let Some((id, name)) = owner {
        let (api_version, kind) = KINDS[id];
        object["metadata"]["ownerReferences"] = json!([{ "apiVersion": api_version, "kind": kind,
            "name": name, "uid": uid(kind, namespace, name), "controller": true }]);
    }
    object
}

/// A UUID, as of objects of an API server: a `Uid` that is other text takes more memory.
fn uid(kind: &str, namespace: &str, name: &str) -> String {
    Uid::Uuid(xxh3_128(format!("{kind} {namespace}/{name}").as_bytes())).to_string()
}

fn template(image: usize) -> Value {
    json!({ "spec": { "containers": [{ "name": "web", "image": format!("web:{image}") }] } })
}

pub(crate) fn deployment(namespace: &str, name: &str, image: usize) -> Value {
    let mut object = object(DEPLOYMENT, namespace, name, None);
    object["metadata"]["generation"] = json!(image);
    object["spec"] = json!({ "replicas": 6, "template": template(image) });
    object["status"] = json!({ "observedGeneration": image.saturating_sub(1) });
    object
}

/// The Deployment once its rollout is complete.
pub(crate) fn settled(mut object: Value) -> Value {
    let replicas = object["spec"]["replicas"].clone();
    object["status"] = json!({
        "observedGeneration": object["metadata"]["generation"], "replicas": replicas,
        "updatedReplicas": replicas, "readyReplicas": replicas, "availableReplicas": replicas,
        "conditions": [{ "type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable" }],
    });
    object
}

pub(crate) fn replica_set(namespace: &str, web: &str, image: usize, replicas: usize) -> Value {
    let name = format!("{web}-{image}");
    let mut object = object(REPLICA_SET, namespace, &name, Some((DEPLOYMENT, web)));
    object["metadata"]["generation"] = json!(replicas + 1);
    object["spec"] = json!({ "replicas": replicas, "template": template(image) });
    object["status"] = json!({ "observedGeneration": replicas + 1, "replicas": replicas,
        "readyReplicas": replicas, "availableReplicas": replicas });
    object
}

pub(crate) fn pod(namespace: &str, web: &str, image: usize, index: usize) -> Value {
    let set = format!("{web}-{image}");
    let name = format!("{set}-{index}");
    let mut object = object(POD, namespace, &name, Some((REPLICA_SET, &set)));
    object["spec"] = template(image)["spec"].clone();
    object["status"] = json!({ "phase": "Pending" });
    object
}

pub(crate) fn running_pod(namespace: &str, web: &str, image: usize, index: usize) -> Value {
    let mut object = pod(namespace, web, image, index);
    object["status"] = json!({ "phase": "Running",
        "conditions": [{ "type": "Ready", "status": "True" }],
        "containerStatuses": [{ "name": "web", "ready": true,
            "state": { "running": { "startedAt": "2026-11-24T09:00:00Z" } } }] });
    object
}
