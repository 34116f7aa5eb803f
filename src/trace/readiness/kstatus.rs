//! Judges a status by the rules of kstatus, with the deviations that `docs/readiness.md` lists
//! (`docs/readiness.md`, Deviations from kstatus).
//!
//! Source of the rules: [kstatus](https://github.com/kubernetes-sigs/cli-utils/tree/v0.37.2/pkg/kstatus/status).
//! A new kind needs a row in `rule`, a function, and a case in `tests/it/kstatus_kinds.rs`.

use crate::trace::{
    model::{
        kind::is_built_in,
        object::GroupKind,
        observation::{Condition, StatusFacts},
        time::Timestamp,
    },
    readiness::status::{Evidence, Status, condition, is_observed, is_older},
};

/// Kinds that no controller reconciles, or whose controllers write no result: such a change has
/// converged when it is observed.
pub fn has_nothing_to_wait_for(kind: &GroupKind) -> bool {
    is_built_in(kind) && rule(kind).is_none()
}

type Rule = fn(&Evidence<'_>) -> Status;

fn rule(kind: &GroupKind) -> Option<Rule> {
    Some(match (&*kind.group, &*kind.kind) {
        ("apps", "Deployment") => deployment,
        ("apps", "ReplicaSet") | ("", "ReplicationController") => replica_set,
        ("apps", "StatefulSet") => stateful_set,
        ("apps", "DaemonSet") => daemon_set,
        ("batch", "Job") => job,
        ("", "Pod") => pod,
        ("", "Namespace") => |e| by_phase(e, &["Active"]),
        ("", "Node") => node,
        ("", "PersistentVolume") => persistent_volume,
        ("", "PersistentVolumeClaim") => |e| by_phase(e, &["Bound"]),
        ("", "Service") => service,
        ("apiextensions.k8s.io", "CustomResourceDefinition") => crd,
        ("autoscaling", "HorizontalPodAutoscaler") => autoscaler,
        ("policy", "PodDisruptionBudget") => disruption_budget,
        ("networking.k8s.io", "Ingress") => ingress,
        ("apiregistration.k8s.io", "APIService") => |e| when(is_true(e, "Available")),
        _ => return None,
    })
}

/// The verdict about the status of a built-in kind.
pub(super) fn judge(e: &Evidence<'_>) -> Status {
    // Conditions of the old generation remain in the status: observedGeneration comes first.
    if let (Some(observed), Some(generation)) = (e.status.observed_generation, e.generation)
        && observed < generation
    {
        return Status::InProgress;
    }
    if e.spec.paused && e.status.observed_generation.is_some() {
        return Status::Paused;
    }
    match first_true(e.status, &["Reconciling", "Stalled"]) {
        Some(c) if &*c.kind == "Reconciling" || is_older(c, e) => {
            return Status::InProgress;
        }
        // A condition from before the change is not evidence for the change.
        Some(stalled) if e.written_since || is_observed(e.status, e.generation) => {
            return failed(stalled);
        }
        Some(_) | None => {}
    }
    match rule(e.kind) {
        Some(rule) => rule(e),
        None => Status::Current { since: None },
    }
}

fn deployment(e: &Evidence<'_>) -> Status {
    if e.status.observed_generation.is_none() {
        return Status::InProgress;
    }
    let progressing = condition(e.status, "Progressing");
    if let Some(condition) = progressing
        && &*condition.reason == "ProgressDeadlineExceeded"
    {
        return failed(condition);
    }
    let wanted = e.spec.replicas.unwrap_or(1);
    let status = e.status;
    let (updated, total) = (count(status.updated_replicas), count(status.replicas));
    let (available, ready) = (count(status.available_replicas), count(status.ready_replicas));
    // Without a deadline (the API server's default is 600 s) the condition is not maintained.
    let never = i64::from(i32::MAX);
    let has_no_deadline = e.spec.progress_deadline_seconds.unwrap_or(never) == never;
    let rolled_out = has_no_deadline
        || progressing
            .is_some_and(|c| &*c.status == "True" && &*c.reason == "NewReplicaSetAvailable");
    let done = total == wanted
        && updated >= wanted
        && available >= updated
        && ready >= wanted
        && rolled_out
        && is_true(e, "Available").is_some();
    when_done(done)
}

fn replica_set(e: &Evidence<'_>) -> Status {
    let wanted = e.spec.replicas.unwrap_or(1);
    let done = e.status.observed_generation.is_some()
        && is_true(e, "ReplicaFailure").is_none()
        && count(e.status.replicas) <= wanted
        && count(e.status.fully_labeled_replicas) >= wanted
        && count(e.status.available_replicas) >= wanted
        && count(e.status.ready_replicas) >= wanted;
    when_done(done)
}

fn stateful_set(e: &Evidence<'_>) -> Status {
    if e.status.observed_generation.is_none() {
        return Status::InProgress;
    }
    // With OnDelete the controller waits for a person to delete Pods.
    if e.spec.update_strategy.as_deref() == Some("OnDelete") {
        return Status::Current { since: None };
    }
    let wanted = e.spec.replicas.unwrap_or(1);
    let status = e.status;
    if count(status.replicas) != wanted || count(status.ready_replicas) < wanted {
        return Status::InProgress;
    }
    let updated = count(status.updated_replicas);
    let done = match e.spec.partition {
        // Includes the API server's default, 0.
        Some(partition) => updated >= wanted.saturating_sub(partition),
        None => {
            count(status.current_replicas) >= wanted
                && status.current_revision == status.update_revision
        }
    };
    when_done(done)
}

fn daemon_set(e: &Evidence<'_>) -> Status {
    let (Some(_), Some(_), Some(desired)) =
        (e.generation, e.status.observed_generation, e.status.desired_number_scheduled)
    else {
        return Status::InProgress;
    };
    let on_delete = e.spec.update_strategy.as_deref() == Some("OnDelete");
    let done = count(e.status.current_number_scheduled) >= desired
        && (on_delete || count(e.status.updated_number_scheduled) >= desired)
        && count(e.status.number_available) >= desired
        && count(e.status.number_ready) >= desired;
    when_done(done)
}

/// Deviation: a running Job has not converged (upstream calls it Current once it has started).
/// `SuccessCriteriaMet` and `FailureTarget` come first; only `Complete` and `Failed` are verdicts.
fn job(e: &Evidence<'_>) -> Status {
    match first_true(e.status, &["Complete", "Failed"]) {
        Some(condition) if &*condition.kind == "Failed" => failed(condition),
        Some(condition) => Status::Current { since: condition.last_transition },
        None => when(is_true(e, "Suspended")),
    }
}

/// Deviations: phase Failed is a failure; a Job's Pod has converged when it succeeded, not when it
/// was Ready; a Pod that cannot be scheduled or started has a `Problem`, but has not failed yet.
fn pod(e: &Evidence<'_>) -> Status {
    let finishes =
        e.of_a_job && e.spec.restart_policy.as_deref().is_some_and(|policy| policy != "Always");
    match e.status.phase.as_deref() {
        Some("Succeeded") => Status::Current { since: last_finished(e.status) },
        Some("Failed") => Status::Failed {
            reason: pod_failure(e.status),
            message: "".into(),
            since: last_finished(e.status),
        },
        Some("Running") if !finishes => when(is_true(e, "Ready")),
        _ => Status::InProgress,
    }
}

fn pod_failure(status: &StatusFacts) -> Box<str> {
    let of_a_container = || {
        status.containers.iter().filter_map(|c| c.terminated.as_ref()).find(|t| t.exit_code != 0)
    };
    match &status.reason {
        Some(reason) => reason.clone(),
        None => of_a_container().map_or_else(|| "Failed".into(), |t| t.reason.clone()),
    }
}

fn last_finished(status: &StatusFacts) -> Option<Timestamp> {
    status.containers.iter().filter_map(|c| c.terminated.as_ref()?.finished).max()
}

fn service(e: &Evidence<'_>) -> Status {
    let waits = e.spec.service_type.as_deref() == Some("LoadBalancer") && !e.status.has_ingress;
    when_done(!waits)
}

fn crd(e: &Evidence<'_>) -> Status {
    for condition in &e.status.conditions {
        match (&*condition.kind, &*condition.status) {
            ("NamesAccepted", "False") => return failed(condition),
            ("Established", "False") if &*condition.reason != "Installing" => {
                return failed(condition);
            }
            ("Established", "True") => return when(Some(condition)),
            _ => {}
        }
    }
    Status::InProgress
}

/// A controller need not assign an address, and without one the status does not show whether there
/// is a controller at all.
fn ingress(e: &Evidence<'_>) -> Status {
    if e.status.has_ingress { Status::Current { since: None } } else { Status::Unknown }
}

/// Current once it is observed and its target exists. Missing metrics (`ScalingActive`) come and go
/// in an autoscaler's life, and do not belong to its change.
fn autoscaler(e: &Evidence<'_>) -> Status {
    let able = condition(e.status, "AbleToScale").is_none_or(|c| &*c.status != "False");
    when_done(e.status.observed_generation.is_some() && able)
}

/// Deviation: a budget that cannot be computed (`SyncFailed`) does not protect anything yet.
fn disruption_budget(e: &Evidence<'_>) -> Status {
    let failed = e.status.conditions.iter().any(|condition| {
        &*condition.kind == "DisruptionAllowed"
            && &*condition.status != "True"
            && &*condition.reason == "SyncFailed"
    });
    when_done(e.status.observed_generation.is_some() && !failed)
}

fn node(e: &Evidence<'_>) -> Status {
    match condition(e.status, "Ready") {
        // The kubelet has not reported for a while.
        Some(ready) if &*ready.status == "Unknown" => Status::Unknown,
        _ => when(is_true(e, "Ready")),
    }
}

fn persistent_volume(e: &Evidence<'_>) -> Status {
    if e.status.phase.as_deref() == Some("Failed") {
        return Status::Failed {
            reason: e.status.reason.clone().unwrap_or_else(|| "Failed".into()),
            message: "".into(),
            since: None,
        };
    }
    by_phase(e, &["Available", "Bound", "Released"])
}

fn by_phase(e: &Evidence<'_>, current: &[&str]) -> Status {
    when_done(e.status.phase.as_deref().is_some_and(|phase| current.contains(&phase)))
}

/// Current since the condition became True, in progress without it.
fn when(condition: Option<&Condition>) -> Status {
    condition.map_or(Status::InProgress, |c| Status::Current { since: c.last_transition })
}

fn when_done(done: bool) -> Status {
    if done { Status::Current { since: None } } else { Status::InProgress }
}

fn failed(condition: &Condition) -> Status {
    Status::Failed {
        reason: condition.reason_or_kind().into(),
        message: condition.message.clone(),
        since: condition.last_transition,
    }
}

fn count(value: Option<i64>) -> i64 {
    value.unwrap_or(0)
}

fn is_true<'a>(e: &Evidence<'a>, kind: &str) -> Option<&'a Condition> {
    condition(e.status, kind).filter(|condition| &*condition.status == "True")
}

/// The first condition in the status that is True and of one of these kinds.
fn first_true<'a>(status: &'a StatusFacts, kinds: &[&str]) -> Option<&'a Condition> {
    let is_one = |c: &&Condition| &*c.status == "True" && kinds.contains(&&*c.kind);
    status.conditions.iter().find(is_one)
}

/// The progress of a rollout as counters. A counter counts as progress when it exceeds its highest
/// value so far.
pub fn progress(kind: &GroupKind, status: &StatusFacts) -> [i64; 4] {
    if kind.is("", "Pod") {
        let conditions = status.conditions.iter().filter(|c| &*c.status == "True").count();
        return [i64::try_from(conditions).unwrap_or(0), 0, 0, 0];
    }
    [
        count(status.updated_replicas.or(status.updated_number_scheduled)),
        count(status.ready_replicas.or(status.number_ready)),
        count(status.available_replicas.or(status.number_available)),
        count(status.succeeded),
    ]
}
