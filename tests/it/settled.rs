//! Checks that the controllers have finished: every object has reached its desired state.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::recorder::Objects;

/// # Errors
/// If an object has not reached its desired state: which object, and why.
pub(crate) fn settled(objects: &Objects) -> Result<()> {
    for (key, object) in objects {
        let metadata = &object["metadata"];
        ensure!(metadata["deletionTimestamp"].is_null(), "{key} is being deleted");
        for owner in references(object) {
            let is_there = objects.values().any(|other| other["metadata"]["uid"] == owner["uid"]);
            // The state of an unrecorded kind is unknown.
            let is_known = objects.values().any(|other| other["kind"] == owner["kind"])
                || matches!(owner["kind"].as_str(), Some("Deployment" | "ReplicaSet" | "Widget"));
            ensure!(is_there || !is_known, "{key} has outlived its owner");
        }
        let (spec, status) = (&object["spec"], &object["status"]);
        let is_as_wanted = match object["kind"].as_str() {
            Some("Deployment") => {
                has_observed(object)
                    && [
                        &status["replicas"],
                        &status["updatedReplicas"],
                        &status["availableReplicas"],
                    ]
                    .iter()
                    .all(|count| int(count) == int(&spec["replicas"]))
            }
            Some("ReplicaSet") => {
                let pods = objects.values().filter(|pod| {
                    let is_over =
                        matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
                    pod["kind"] == "Pod" && controller(pod)["uid"] == metadata["uid"] && !is_over
                });
                has_observed(object)
                    && pods.count() == usize::try_from(int(&spec["replicas"]))?
                    && [&status["replicas"], &status["availableReplicas"]]
                        .iter()
                        .all(|count| int(count) == int(&spec["replicas"]))
            }
            Some("StatefulSet") => {
                let strategy = &spec["updateStrategy"];
                let kept = int(&strategy["rollingUpdate"]["partition"]);
                let updated = int(&spec["replicas"]) - kept;
                has_observed(object)
                    && [&status["replicas"], &status["availableReplicas"]]
                        .iter()
                        .all(|count| int(count) == int(&spec["replicas"]))
                    && (strategy["type"] == "OnDelete"
                        || int(&status["updatedReplicas"]) >= updated)
            }
            Some("DaemonSet") => {
                let wanted = int(&status["desiredNumberScheduled"]);
                has_observed(object)
                    && wanted > 0
                    && int(&status["numberAvailable"]) == wanted
                    && int(&status["updatedNumberScheduled"]) == wanted
            }
            Some("Pod") => {
                matches!(status["phase"].as_str(), Some("Succeeded" | "Failed"))
                    || has_condition(object, "Ready")
            }
            Some("Job") => has_condition(object, "Complete") || has_condition(object, "Failed"),
            Some("CronJob") => status["active"].is_null(),
            Some("Widget") => has_observed(object),
            _ => true,
        };
        ensure!(is_as_wanted, "{key} is not as it is wanted: {spec:#}, {status:#}");
    }
    Ok(())
}

/// The owner reference of the controller; null if there is none.
pub(crate) fn controller(object: &Value) -> Value {
    let found = references(object).find(|reference| reference["controller"] == true);
    found.cloned().unwrap_or_default()
}

fn references(object: &Value) -> impl Iterator<Item = &Value> {
    object["metadata"]["ownerReferences"].as_array().into_iter().flatten()
}

fn has_observed(object: &Value) -> bool {
    object["status"]["observedGeneration"] == object["metadata"]["generation"]
}

fn has_condition(object: &Value, kind: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|it| it["type"] == kind && it["status"] == "True")
}

fn int(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}
