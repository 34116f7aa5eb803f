//! Judges custom resources by the conventions of their authors (`docs/readiness.md`, Custom
//! resources).

use crate::trace::{
    model::observation::{Condition, StatusFacts},
    readiness::status::{Evidence, Status, condition, is_observed},
};

/// Conditions that decide together with `Ready`: Crossplane's `Ready` stays True when a newer spec
/// could not be applied, and `Synced` becomes False.
const BESIDE_READY: &[&str] = &["Synced"];

/// Conditions that decide where there is no `Ready`, all that are present: Cluster API's `Available`,
/// Gateway API's `Accepted`, `Programmed` and `ResolvedRefs`, Tekton's `Succeeded`.
const INSTEAD_OF_READY: &[&str] =
    &["Accepted", "Available", "Programmed", "ResolvedRefs", "Succeeded", "Synced"];

/// Phases with the same meaning in every API. `Running` is not one: for a virtual machine it is the
/// goal, for a workflow it is not.
const FINAL_PHASES: &[&str] =
    &["Active", "Available", "Bound", "Completed", "Healthy", "Provisioned", "Ready", "Succeeded"];
/// Phases of work in progress.
const WORKING_PHASES: &[&str] = &[
    "Creating",
    "Deleting",
    "Initializing",
    "Pending",
    "Progressing",
    "Provisioning",
    "Reconciling",
    "Terminating",
    "Updating",
    "Upgrading",
];

/// A custom resource without a status for the change is not Current: there must be evidence.
pub(crate) fn judge(e: &Evidence<'_>) -> Status {
    let deciding = deciding(e.status);
    if deciding.iter().any(|condition| is_older(condition, e)) {
        return Status::InProgress;
    }
    if !is_evidence(e) {
        return Status::Unknown;
    }
    if deciding.is_empty() {
        return by_phase(e);
    }
    if deciding.iter().all(|condition| &*condition.status == "True") {
        Status::Current { since: deciding.iter().filter_map(|c| c.last_transition).max() }
    } else {
        Status::InProgress
    }
}

fn deciding(status: &StatusFacts) -> Vec<&Condition> {
    let ready = condition(status, "Ready");
    let names = if ready.is_some() { BESIDE_READY } else { INSTEAD_OF_READY };
    let others = status.conditions.iter().chain(&status.of_parents);
    ready.into_iter().chain(others.filter(|other| names.contains(&&*other.kind))).collect()
}

/// Whether the condition was written for an older generation than the change's.
pub(crate) fn is_older(condition: &Condition, e: &Evidence<'_>) -> bool {
    matches!((condition.observed_generation, e.generation), (Some(of), Some(now)) if of < now)
}

/// Whether the status was written by a controller that had observed the change.
pub(crate) fn is_evidence(e: &Evidence<'_>) -> bool {
    e.written_since || is_observed(e.status, e.generation)
}

fn by_phase(e: &Evidence<'_>) -> Status {
    match e.status.phase.as_deref() {
        None => Status::Current { since: None },
        Some("Failed") => Status::Failed {
            reason: e.status.reason.clone().unwrap_or_else(|| "Failed".into()),
            message: "".into(),
            since: None,
        },
        Some(phase) if WORKING_PHASES.contains(&phase) => Status::InProgress,
        Some(phase) if FINAL_PHASES.contains(&phase) || is_observed(e.status, e.generation) => {
            Status::Current { since: None }
        }
        Some(_) => Status::Unknown,
    }
}
