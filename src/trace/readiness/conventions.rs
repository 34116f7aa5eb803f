//! Judges custom resources: nobody knows their kinds beforehand, but there are conventions.

use crate::trace::{
    model::observation::{Condition, StatusFacts},
    readiness::status::{Evidence, Status, condition, is_observed},
};

/// Where there is a `Ready`, it decides, together with these: Crossplane's `Ready` stays true when a
/// newer spec could not be applied, which `Synced` tells.
const BESIDE_READY: &[&str] = &["Synced"];

/// Where there is none, all of these that are there: Cluster API's `Available`, Gateway API's
/// `Accepted`, `Programmed` and `ResolvedRefs`, Tekton's `Succeeded`.
const INSTEAD_OF_READY: &[&str] =
    &["Accepted", "Available", "Programmed", "ResolvedRefs", "Succeeded", "Synced"];

/// Phases that mean the same wherever they are written. `Running` does not: a virtual machine that
/// runs is what was asked for, a workflow that runs is not over.
const ENDS: &[&str] =
    &["Active", "Available", "Bound", "Completed", "Healthy", "Provisioned", "Ready", "Succeeded"];
const BEGINNINGS: &[&str] = &[
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

/// A custom resource nobody has written a status for is not Current: there must be evidence.
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

/// Written for a generation before the change's.
pub(crate) fn is_older(condition: &Condition, e: &Evidence<'_>) -> bool {
    matches!((condition.observed_generation, e.generation), (Some(of), Some(now)) if of < now)
}

/// The status is the work of somebody who knew of the change.
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
        Some(phase) if BEGINNINGS.contains(&phase) => Status::InProgress,
        Some(phase) if ENDS.contains(&phase) || is_observed(e.status, e.generation) => {
            Status::Current { since: None }
        }
        Some(_) => Status::Unknown,
    }
}
