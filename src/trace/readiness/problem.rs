//! Finds the problem that keeps an object from converging, by its status.
//!
//! A new problem is a row in a table here, and a case in `tests/it/rules_held_up.rs`.

use serde::{Deserialize, Serialize};

use crate::trace::{
    model::{
        object::GroupKind,
        observation::{Condition, Container, StatusFacts, Terminated},
        time::Timestamp,
    },
    readiness::{
        judgement::{Urgency, Why},
        resize,
        status::condition,
    },
};

/// A known reason why an object does not converge.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Problem {
    pub reason: Box<str>,
    pub message: Box<str>,
    /// The container it is about; empty for the object as a whole.
    pub container: Box<str>,
    pub since: Option<Timestamp>,
    pub blocks: Blocker,
    pub urgency: Urgency,
}

/// The progress that a problem blocks: the problem ends once that has happened.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Blocker {
    /// The change of a condition to another status.
    Condition { kind: Box<str>, bad: Box<str> },
    /// The start of the container.
    Start,
    /// That the container keeps running: a restart alone does not end the problem.
    Running,
    /// The end of the phase that reports it.
    Phase,
    /// The binding of a claim to its volume.
    Binding,
    /// That the object is Current: it is over when the verdict has another reason.
    Verdict,
    /// The resize of a claim's volume.
    Resize,
}

/// Conditions that show a problem: the kind of the object (empty group and kind: every kind), the
/// condition, and its status in case of the problem.
const REFUSALS: &[(&str, &str, &str, &str)] = &[
    // Quota and admission; of Deployments, ReplicaSets and ReplicationControllers.
    ("", "", "ReplicaFailure", "True"),
    ("", "Namespace", "NamespaceDeletionDiscoveryFailure", "True"),
    ("", "Namespace", "NamespaceDeletionGroupVersionParsingFailure", "True"),
    ("", "Namespace", "NamespaceDeletionContentFailure", "True"),
    ("", "Namespace", "NamespaceFinalizersRemaining", "True"),
    ("autoscaling", "HorizontalPodAutoscaler", "AbleToScale", "False"),
    ("apiregistration.k8s.io", "APIService", "Available", "False"),
];

/// Reasons of `PodScheduled=False` that do not pass by themselves.
const NOT_SCHEDULED: &[&str] = &["SchedulingGated", "Unschedulable"];

/// Waiting reasons of containers that do not pass by themselves.
const WAITING: &[&str] = &[
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "RunContainerError",
];

/// The problem that a status shows.
pub fn problem(kind: &GroupKind, status: &StatusFacts) -> Option<Problem> {
    match (&*kind.group, &*kind.kind) {
        ("", "Pod") => of_pod(status),
        ("", "PersistentVolumeClaim") => of_claim(status),
        _ => REFUSALS.iter().find_map(|(group, name, refusal, bad)| {
            let is_of = name.is_empty() || kind.is(group, name);
            let conditions = status.conditions.iter().chain(&status.of_parents);
            let mut found = conditions.filter(|c| &*c.kind == *refusal && &*c.status == *bad);
            let found = found.next().filter(|condition| is_of && !passes(condition));
            found.map(of_condition)
        }),
    }
}

/// The problem that keeps an object of any other kind from converging.
pub fn of_verdict(why: &Why) -> Problem {
    Problem {
        reason: why.reason.clone(),
        message: why.message.clone(),
        container: Box::default(),
        since: why.since,
        blocks: Blocker::Verdict,
        urgency: why.urgency,
    }
}

/// Whether the problem passes by itself: a Namespace reports a failure while its Pods terminate.
fn passes(condition: &Condition) -> bool {
    &*condition.kind == "NamespaceDeletionContentFailure"
        && condition.message.contains("unexpected items still remain")
}

fn of_pod(status: &StatusFacts) -> Option<Problem> {
    let not_scheduled = condition(status, "PodScheduled")
        .filter(|c| &*c.status == "False" && NOT_SCHEDULED.contains(&&*c.reason));
    if let Some(condition) = not_scheduled {
        return Some(of_condition(condition));
    }
    // The containers are ready, but a readiness gate of the Pod is not.
    let gated = || {
        let ready = condition(status, "Ready")?;
        (&*ready.status == "False" && &*ready.reason == "ReadinessGatesNotReady")
            .then(|| of_condition(ready))
    };
    let resize = || resize::pod_refusal(status).map(of_condition);
    status.containers.iter().find_map(of_container).or_else(gated).or_else(resize)
}

/// A lost volume is lost for good. A pending claim need not have a problem: it may wait for its first
/// Pod.
fn of_claim(status: &StatusFacts) -> Option<Problem> {
    let refusal = resize::claim_refusal(status);
    let of_claim = |reason: &str, message: &str, blocks| Problem {
        reason: reason.into(),
        message: message.into(),
        container: Box::default(),
        since: None,
        blocks,
        urgency: Urgency::Failure,
    };
    let lost = status.phase.as_deref().filter(|phase| *phase == "Lost");
    let explanation = || refusal.map_or("", |condition| &*condition.message);
    lost.map(|lost| of_claim(lost, "", Blocker::Binding))
        .or_else(|| Some(of_claim(resize::infeasible(status)?, explanation(), Blocker::Resize)))
        .or_else(|| refusal.map(of_condition))
}

fn of_condition(condition: &Condition) -> Problem {
    Problem {
        reason: condition.reason_or_kind().into(),
        message: condition.message.clone(),
        container: Box::default(),
        since: condition.last_transition,
        blocks: Blocker::Condition { kind: condition.kind.clone(), bad: condition.status.clone() },
        urgency: Urgency::Failure,
    }
}

fn of_container(container: &Container) -> Option<Problem> {
    let (reason, message) = container.waiting.as_ref()?;
    if !WAITING.contains(&&**reason) {
        return None;
    }
    let crashes = &**reason == "CrashLoopBackOff";
    let last = container.last_terminated.as_ref().filter(|_| crashes);
    Some(Problem {
        // The kubelet alternates between the two; the problem is the same.
        reason: if &**reason == "ErrImagePull" {
            "ImagePullBackOff".into()
        } else {
            reason.clone()
        },
        message: last.map_or_else(|| message.clone(), |last| with_exit(last, message)),
        container: container.name.clone(),
        since: None,
        blocks: if crashes { Blocker::Running } else { Blocker::Start },
        urgency: Urgency::Failure,
    })
}

/// `exit code 137 (OOMKilled): back-off 10s restarting failed container=web …`
fn with_exit(last: &Terminated, message: &str) -> Box<str> {
    let code = last.exit_code;
    let ended = match &*last.reason {
        "" => format!("exit code {code}"),
        reason => format!("exit code {code} ({reason})"),
    };
    if message.is_empty() { ended.into() } else { format!("{ended}: {message}").into() }
}

impl Problem {
    /// Whether what it blocks has come true. Until then it lasts: a restart does not end a
    /// CrashLoopBackOff.
    pub fn is_over(&self, status: &StatusFacts) -> bool {
        match &self.blocks {
            Blocker::Condition { kind, bad } => {
                let mut conditions = status.conditions.iter().chain(&status.of_parents);
                conditions.all(|condition| condition.kind != *kind || condition.status != *bad)
            }
            Blocker::Start => self.container(status).is_some_and(|container| {
                container.running_since.is_some() || container.terminated.is_some()
            }),
            Blocker::Running => self.container(status).is_some_and(|container| {
                let ended_well =
                    container.terminated.as_ref().is_some_and(|run| run.exit_code == 0);
                container.ready || (container.init && ended_well)
            }),
            Blocker::Phase | Blocker::Verdict => true,
            Blocker::Binding => status.phase.as_deref() == Some("Bound"),
            Blocker::Resize => resize::infeasible(status).is_none(),
        }
    }

    fn container<'a>(&self, status: &'a StatusFacts) -> Option<&'a Container> {
        status.containers.iter().find(|container| container.name == self.container)
    }
}
