//! Recognises a resize that is not done: of a Pod
//! ([in place](https://kubernetes.io/docs/tasks/configure-pod-container/resize-container-resources/)),
//! or of a claim's volume
//! ([expansion](https://kubernetes.io/docs/concepts/storage/persistent-volumes/#expanding-persistent-volumes-claims)).

use crate::trace::{
    model::observation::{Condition, SpecFacts, StatusFacts},
    readiness::status::condition,
};

/// Conditions that are True while a resize is not done. They are removed when it is.
const UNFINISHED: &[&str] = &[
    // Pods.
    "PodResizePending",
    "PodResizeInProgress",
    // Claims.
    "Resizing",
    "FileSystemResizePending",
    "ModifyingVolume",
];

/// Whether a resize was asked for and is not done.
pub(crate) fn is_resizing(spec: &SpecFacts, status: &StatusFacts) -> bool {
    // The resizer may take a while to report that it has begun.
    let is_too_small =
        spec.requested_storage.zip(status.storage).is_some_and(|(wanted, is)| wanted > is);
    is_too_small
        || status.storage_resize.is_some()
        || UNFINISHED.iter().any(|kind| is_true(status, kind).is_some())
}

/// The condition that shows that a Pod's resize does not advance. `Deferred` is none: the kubelet
/// tries again when other Pods leave the node.
pub(crate) fn pod_refusal(status: &StatusFacts) -> Option<&Condition> {
    let infeasible = is_true(status, "PodResizePending").filter(|c| &*c.reason == "Infeasible");
    infeasible.or_else(|| is_true(status, "PodResizeInProgress").filter(|c| &*c.reason == "Error"))
}

/// The condition that shows that a claim's volume cannot be resized or modified.
pub(crate) fn claim_refusal(status: &StatusFacts) -> Option<&Condition> {
    let refusals = ["ControllerResizeError", "NodeResizeError", "ModifyVolumeError"];
    refusals.iter().find_map(|kind| is_true(status, kind))
}

/// The state of a claim's resize that ends only with another request.
pub(crate) fn infeasible(status: &StatusFacts) -> Option<&str> {
    status.storage_resize.as_deref().filter(|state| state.ends_with("Infeasible"))
}

fn is_true<'a>(status: &'a StatusFacts, kind: &str) -> Option<&'a Condition> {
    condition(status, kind).filter(|condition| &*condition.status == "True")
}
