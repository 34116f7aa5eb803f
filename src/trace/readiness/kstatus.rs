//! Judges a status by the rules of kstatus, with the deviations that `docs/readiness.md` lists
//! (`docs/readiness.md`, Deviations from kstatus).
//!
//! Source of the rules: [kstatus](https://github.com/kubernetes-sigs/cli-utils/tree/v0.37.2/pkg/kstatus/status).
//! A new kind needs a row in `rule`, a function, and a case in `tests/it/kstatus_kinds.rs`.

use crate::trace::{
    model::{
        kind::is_built_in,
        object::GroupKind,
        observation::{Condition, SpecFacts, StatusFacts, Terminated},
        time::Timestamp,
    },
    readiness::{
        resize::is_resizing,
        status::{Evidence, Status, condition, is_observed, is_older},
    },
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
        ("", "PersistentVolumeClaim") => claim,
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
/// `Suspended=True` counts while the spec asks for it: it stays for a while after the Job is resumed.
fn job(e: &Evidence<'_>) -> Status {
    match first_true(e.status, &["Complete", "Failed"]) {
        Some(condition) if &*condition.kind == "Failed" => failed(condition),
        Some(condition) => Status::Current { since: condition.last_transition },
        None => when(is_true(e, "Suspended").filter(|_| e.spec.suspended)),
    }
}

/// Controllers whose Pods run until they are deleted, also where their containers are not restarted, as
/// those of a virtual machine and of a game server.
const KEEPS_RUNNING: &[(&str, &str)] = &[
    ("", "ReplicationController"),
    ("apps", "DaemonSet"),
    ("apps", "ReplicaSet"),
    ("apps", "StatefulSet"),
    ("agones.dev", "GameServer"),
    ("kubevirt.io", "VirtualMachineInstance"),
];

/// Whether a Pod shall succeed rather than keep running: its controller makes Pods that are not always
/// restarted, as a Job does, a Tekton `TaskRun` or the driver of a Spark application.
pub fn is_to_finish(spec: &SpecFacts, controller: Option<&GroupKind>) -> bool {
    let may_end = spec.restart_policy.as_deref().is_some_and(|policy| policy != "Always");
    may_end
        && controller.is_some_and(|controller| {
            !KEEPS_RUNNING.iter().any(|(group, kind)| controller.is(group, kind))
        })
}

/// Deviations: phase Failed is a failure; a Pod that is to finish has converged when it succeeded, not
/// when it was Ready; a Pod that cannot be scheduled or started has a `Problem`, but has not failed
/// yet; a Pod is not done while it is resized.
fn pod(e: &Evidence<'_>) -> Status {
    match e.status.phase.as_deref() {
        Some("Succeeded") => Status::Current { since: last_finished(e.status) },
        Some("Failed") => Status::Failed {
            reason: pod_failure(e.status),
            message: pod_failure_message(e.status),
            since: last_finished(e.status),
        },
        Some("Running") if !e.is_to_finish && !is_resizing(e.spec, e.status) => {
            when(is_true(e, "Ready"))
        }
        _ => Status::InProgress,
    }
}

fn pod_failure(status: &StatusFacts) -> Box<str> {
    let reason = status.reason.as_ref().filter(|reason| !reason.is_empty());
    let of_container = || Some(failed_container(status)?.1.reason.clone());
    reason
        .cloned()
        .or_else(|| of_container().filter(|reason| !reason.is_empty()))
        .unwrap_or_else(|| "Failed".into())
}

/// The kubelet explains a Pod that it rejected or evicted; else a container has failed.
fn pod_failure_message(status: &StatusFacts) -> Box<str> {
    let message = status.message.as_ref().filter(|message| !message.is_empty());
    let of_container = || {
        let (name, run) = failed_container(status)?;
        Some(format!("container {name} ended with exit code {}", run.exit_code).into())
    };
    message.cloned().or_else(of_container).unwrap_or_default()
}

fn failed_container(status: &StatusFacts) -> Option<(&str, &Terminated)> {
    let mut ended =
        status.containers.iter().filter_map(|c| Some((&*c.name, c.terminated.as_ref()?)));
    ended.find(|(_, run)| run.exit_code != 0)
}

fn last_finished(status: &StatusFacts) -> Option<Timestamp> {
    status.containers.iter().filter_map(|c| c.terminated.as_ref()?.finished).max()
}

/// Deviation: a claim is not done while its volume is resized.
fn claim(e: &Evidence<'_>) -> Status {
    when_done(e.status.phase.as_deref() == Some("Bound") && !is_resizing(e.spec, e.status))
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
