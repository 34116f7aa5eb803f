//! The steps of each kind: who does them, and what says that they are over.
//!
//! From status, conditions and finalizers alone, but for what only Events tell: images that are pulled
//! ([Pod lifecycle](https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-conditions),
//! [finalizers](https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/)).
//! A kind's steps are a row in `PhaseTable::of` and a table.

use serde::{Deserialize, Serialize};

use crate::trace::{
    model::{
        id::Verb,
        kind::{self, ChangeDetection},
        kubernetes_event::KubernetesEvent,
        object::GroupKind,
        observation::{Container, StatusFacts},
        span::{Attribute, SpanEvent},
        time::{Timestamp, refine},
    },
    progress::phase::{Actor, PhaseInput, event},
    readiness::{
        problem::{Blocker, Problem},
        status::{condition, is_observed, observed},
    },
};

pub(crate) const OBSERVE: &str = "observe";
pub(crate) const INIT: &str = "init";
pub(crate) const FINALIZE: &str = "finalize";

/// As many as a status is read for.
const MAX_CONTAINERS: usize = 64;

#[derive(Debug)]
pub(crate) struct PhaseRule {
    pub(crate) name: &'static str,
    pub(crate) actor: fn(&PhaseFacts) -> Actor,
    /// Whether there is such a step, as far as is known by now.
    pub(crate) is_there: fn(&PhaseFacts) -> bool,
    /// When it began, where that is not when the one before ended.
    pub(crate) begin: fn(&PhaseInput<'_>) -> Option<Timestamp>,
    pub(crate) end: fn(&PhaseInput<'_>, &PhaseFacts) -> Option<Timestamp>,
    /// What holds it up that no status says.
    pub(crate) problem: fn(&PhaseFacts) -> Option<Problem>,
    /// Init containers are steps within it.
    pub(crate) has_containers: bool,
}

/// A step like most: of the object's own controller, from the end of the one before.
const STEP: PhaseRule = PhaseRule {
    name: "",
    actor: |_| Actor::Controller,
    is_there: |_| true,
    begin: |_| None,
    end: |_, _| None,
    problem: |_| None,
    has_containers: false,
};

/// The steps of one way to deal with a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum PhaseTable {
    Pod,
    Termination,
    Finalization,
    Job,
    Roll,
    Claim,
    Observation,
}

impl PhaseTable {
    /// `None`: nothing is known of how such a change is dealt with.
    pub(crate) fn of(kind: &GroupKind, verb: Verb) -> Option<Self> {
        match (verb, &*kind.group, &*kind.kind) {
            (Verb::Delete, "", "Pod") => Some(Self::Termination),
            (Verb::Delete, ..) => Some(Self::Finalization),
            (Verb::Create, "", "Pod") => Some(Self::Pod),
            (_, "batch", "Job") => Some(Self::Job),
            (_, "apps", "StatefulSet" | "DaemonSet") => Some(Self::Roll),
            (Verb::Create, "", "PersistentVolumeClaim") => Some(Self::Claim),
            _ if kind::change_detection(kind) == ChangeDetection::Generation => {
                Some(Self::Observation)
            }
            _ => None,
        }
    }

    pub(crate) fn steps(self) -> &'static [PhaseRule] {
        match self {
            Self::Pod => &POD,
            Self::Termination => &TERMINATION,
            Self::Finalization => &FINALIZATION,
            Self::Job => &JOB,
            Self::Roll => &ROLL,
            Self::Claim => &CLAIM,
            Self::Observation => &OBSERVATION,
        }
    }
}

static POD: [PhaseRule; 6] = [
    PhaseRule {
        name: "schedule",
        actor: |_| Actor::Scheduler,
        end: |look, _| is_true(look, "PodScheduled"),
        ..STEP
    },
    PhaseRule {
        name: "sandbox",
        actor: |_| Actor::Kubelet,
        end: |look, _| is_true(look, "PodReadyToStartContainers"),
        ..STEP
    },
    // Only of Pods that have init containers: of others the condition says nothing.
    PhaseRule {
        name: INIT,
        actor: |_| Actor::Kubelet,
        is_there: |learnt| !learnt.init_containers.is_empty(),
        end: |look, _| is_true(look, "Initialized"),
        has_containers: true,
        ..STEP
    },
    // Containers are started one by one, each once its image is there: it ends with the last of them.
    PhaseRule {
        name: "pull",
        actor: |_| Actor::Kubelet,
        is_there: |learnt| learnt.is_pulling,
        end: |look, learnt| started(look).and_then(|by| Some(learnt.pulled?.min(by))),
        ..STEP
    },
    PhaseRule { name: "start", actor: |_| Actor::Kubelet, end: |look, _| started(look), ..STEP },
    PhaseRule {
        name: "ready",
        actor: |_| Actor::Kubelet,
        end: |look, _| is_true(look, "Ready"),
        ..STEP
    },
];

static TERMINATION: [PhaseRule; 2] = [
    PhaseRule {
        name: "terminate",
        actor: |_| Actor::Kubelet,
        is_there: |learnt| learnt.is_bound,
        end: |look, learnt| terminated(look).filter(|_| !learnt.finalizers.is_empty()),
        ..STEP
    },
    FINALIZING,
];

static FINALIZATION: [PhaseRule; 1] = [FINALIZING];

/// Most objects are gone with their last finalizer: then it ends with the outcome.
const FINALIZING: PhaseRule = PhaseRule {
    name: FINALIZE,
    actor: |learnt| finalizer(&learnt.held_by),
    is_there: |learnt| !learnt.held_by.is_empty(),
    end: |look, learnt| learnt.finalizers.is_empty().then_some(look.seen),
    problem: waits_for_finalizers,
    ..STEP
};

static JOB: [PhaseRule; 1] = [PhaseRule {
    name: "run",
    is_there: |learnt| learnt.has_begun,
    begin: |look| Some(refine(Some(look.status.start_time?), look.seen)),
    // One that fails ends with the outcome, and with its error.
    end: |look, _| is_true(look, "Complete"),
    ..STEP
}];

/// A new revision gets its Pods one by one.
static ROLL: [PhaseRule; 2] = [
    OBSERVING,
    PhaseRule {
        name: "roll",
        is_there: |learnt| learnt.is_observed && learnt.rolls,
        end: |look, learnt| (learnt.counted >= wanted(look)).then_some(look.seen),
        ..STEP
    },
];

static CLAIM: [PhaseRule; 2] = [
    PhaseRule {
        name: "provision",
        actor: |learnt| learnt.provisioner.clone().map_or(Actor::Controller, Actor::Named),
        is_there: |learnt| learnt.provisioner.is_some(),
        end: |look, learnt| learnt.has_volume.then_some(look.seen),
        problem: waits_for_a_volume,
        ..STEP
    },
    PhaseRule {
        name: "bind",
        end: |look, _| (look.status.phase.as_deref() == Some("Bound")).then_some(look.seen),
        ..STEP
    },
];

static OBSERVATION: [PhaseRule; 1] = [OBSERVING];

const OBSERVING: PhaseRule = PhaseRule {
    name: OBSERVE,
    is_there: |learnt| learnt.observes,
    end: |look, learnt| learnt.is_observed.then_some(look.seen),
    ..STEP
};

/// What is learnt on the way, for steps that need to know.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "facts, each on its own")]
pub(crate) struct PhaseFacts {
    init_containers: Vec<Box<str>>,
    /// An image that was not there; and when the last of such came.
    is_pulling: bool,
    pulled: Option<Timestamp>,
    /// A Job that had ended before.
    was_over: bool,
    /// A Job's Pods may run.
    has_begun: bool,
    /// Its controller says which generation it has observed.
    observes: bool,
    /// The change's.
    is_observed: bool,
    /// Its Pods are made anew one by one.
    rolls: bool,
    /// Of a claim: who makes its volume.
    provisioner: Option<Box<str>>,
    /// A claim has its volume.
    has_volume: bool,
    /// Of what is going: those that remain.
    finalizers: Vec<Box<str>>,
    /// The first of them when they last held it.
    held_by: Box<str>,
    /// A Pod has a node: a kubelet has its containers to stop.
    is_bound: bool,
    /// Failed attempts, or Pods of the new revision.
    counted: i64,
}

impl PhaseFacts {
    pub(crate) fn before(kind: &GroupKind, status: &StatusFacts) -> Self {
        let has = |end: &str| condition(status, end).is_some_and(|it| &*it.status == "True");
        Self {
            was_over: has("Complete") || has("Failed"),
            observes: kind::observes(kind),
            rolls: kind.is("apps", "StatefulSet") || kind.is("apps", "DaemonSet"),
            counted: status.failed.unwrap_or(0),
            ..Self::default()
        }
    }

    /// Takes in what an observation says. Returns what happened.
    pub(crate) fn learn(&mut self, look: &PhaseInput<'_>) -> Vec<SpanEvent> {
        let mut events = Vec::new();
        for container in look.status.containers.iter().filter(|container| container.init) {
            let is_new = !self.init_containers.contains(&container.name);
            if is_new && self.init_containers.len() < MAX_CONTAINERS {
                self.init_containers.push(container.name.clone());
            }
        }
        self.has_begun |= look.status.start_time.is_some() && !self.was_over;
        self.observes |= observed(look.status).is_some();
        let is_first = !self.is_observed;
        self.is_observed |= is_observed(look.status, look.generation);
        if let Some(body) = look.body {
            if let Some(claim) = &body.claim {
                self.has_volume = claim.has_volume;
                self.provisioner.clone_from(&claim.provisioner);
            }
            let removed = self.finalizers.iter().filter(|old| !body.finalizers.contains(old));
            events.extend(removed.map(|finalizer| removal(finalizer, look.seen)));
            if body.deletion.is_some() {
                self.finalizers.clone_from(&body.finalizers);
            }
        }
        self.is_bound |= is_bound(look.status);
        // The kubelet comes first: only what outlives the containers holds a Pod.
        if let Some(first) = self.finalizers.first()
            && (!self.is_bound || terminated(look).is_some())
        {
            self.held_by.clone_from(first);
        }
        events.extend(self.count("attempt failed", "failed", look.status.failed, look.seen));
        if self.rolls && self.is_observed {
            events.extend(self.learn_of_roll(look, is_first));
        }
        events
    }

    /// The first status of its generation says whether there is anything to roll.
    fn learn_of_roll(&mut self, look: &PhaseInput<'_>, is_first: bool) -> Option<SpanEvent> {
        let status = look.status;
        let updated = status.updated_number_scheduled.or(status.updated_replicas);
        let is_done = updated.unwrap_or(0) >= wanted(look);
        // Under OnDelete it is left to whoever deletes Pods.
        let on_delete = look.spec.update_strategy.as_deref() == Some("OnDelete");
        self.rolls = !(on_delete || (is_first && is_done));
        if !self.rolls {
            return None;
        }
        self.count("pods updated", "updated", updated, look.seen)
    }

    /// Only of what the kubelet has to fetch it says `Pulling`; init containers' are part of `init`.
    pub(crate) fn hear(&mut self, remark: &KubernetesEvent) {
        if self.init_containers.contains(&remark.container) {
            return;
        }
        match &*remark.reason {
            "Pulling" => self.is_pulling = true,
            "Pulled" => self.pulled = self.pulled.max(Some(refine(Some(remark.last), remark.at))),
            _ => {}
        }
    }

    /// Those that remained until the object was gone.
    pub(crate) fn finalized(&self, at: Timestamp) -> Vec<SpanEvent> {
        self.finalizers.iter().map(|finalizer| removal(finalizer, at)).collect()
    }

    fn count(
        &mut self,
        name: &'static str,
        key: &'static str,
        now: Option<i64>,
        seen: Timestamp,
    ) -> Option<SpanEvent> {
        let now = now.filter(|now| *now > self.counted)?;
        self.counted = now;
        Some(event(name, seen, [Attribute::int(key, now)]))
    }
}

fn removal(finalizer: &str, at: Timestamp) -> SpanEvent {
    event("finalizer removed", at, [Attribute::text("finalizer", finalizer)])
}

fn is_true(look: &PhaseInput<'_>, kind: &str) -> Option<Timestamp> {
    let condition =
        condition(look.status, kind).filter(|condition| &*condition.status == "True")?;
    Some(refine(condition.last_transition, look.seen))
}

/// All containers have run, whatever became of them.
fn started(look: &PhaseInput<'_>) -> Option<Timestamp> {
    let mut containers =
        look.status.containers.iter().filter(|container| !container.init).peekable();
    containers.peek()?;
    containers.try_fold(Timestamp::default(), |last, container| {
        Some(last.max(first_start(container, look.seen)?))
    })
}

/// The earliest that its status still tells; a restart overwrites `startedAt`.
fn first_start(container: &Container, seen: Timestamp) -> Option<Timestamp> {
    let over = container.last_terminated.as_ref().or(container.terminated.as_ref());
    let by_run = over.map(|run| run.started.or(container.running_since));
    let running = || container.running_since.map(Some);
    Some(refine(by_run.or_else(running)?, seen))
}

/// Binding a Pod sets the condition with the node's name.
fn is_bound(status: &StatusFacts) -> bool {
    let scheduled = condition(status, "PodScheduled").is_some_and(|c| &*c.status == "True");
    scheduled || !status.containers.is_empty()
}

/// No container runs any more.
fn terminated(look: &PhaseInput<'_>) -> Option<Timestamp> {
    let containers = &look.status.containers;
    if containers.is_empty() || containers.iter().any(|it| it.running_since.is_some()) {
        return None;
    }
    let ends = containers.iter().filter_map(|container| container.terminated.as_ref()?.finished);
    Some(refine(ends.max(), look.seen))
}

/// Init containers that are over, in their order, each with its end.
pub(crate) fn init_containers(look: &PhaseInput<'_>) -> Vec<(Box<str>, Timestamp)> {
    let over = |container: &Container| {
        let terminated = container.terminated.as_ref()?;
        Some((container.name.clone(), refine(terminated.finished, look.seen)))
    };
    look.status.containers.iter().filter(|container| container.init).filter_map(over).collect()
}

/// How many Pods are to be of the new revision.
fn wanted(look: &PhaseInput<'_>) -> i64 {
    let of_set = || look.spec.replicas.unwrap_or(1) - look.spec.partition.unwrap_or(0);
    look.status.desired_number_scheduled.unwrap_or_else(of_set).max(0)
}

/// Who is to act next: of finalizers that Kubernetes' own controllers remove, the controller.
fn finalizer(name: &str) -> Actor {
    Actor::Named(match name {
        "foregroundDeletion" | "orphan" => "garbage-collector-controller".into(),
        "kubernetes" => "namespace-controller".into(),
        "batch.kubernetes.io/job-tracking" => "job-controller".into(),
        "kubernetes.io/pvc-protection" => "persistentvolumeclaim-protection-controller".into(),
        "kubernetes.io/pv-protection" => "persistentvolume-protection-controller".into(),
        other => other.into(),
    })
}

/// Not those of the garbage collector: where it waits, it waits for what is told below.
fn waits_for_finalizers(learnt: &PhaseFacts) -> Option<Problem> {
    let others: Vec<&str> = learnt
        .finalizers
        .iter()
        .map(AsRef::as_ref)
        .filter(|name| !matches!(*name, "foregroundDeletion" | "orphan" | "kubernetes"))
        .collect();
    (!others.is_empty()).then(|| waiting("SomeFinalizersRemain", others.join(", ")))
}

fn waits_for_a_volume(learnt: &PhaseFacts) -> Option<Problem> {
    let provisioner = learnt.provisioner.as_ref()?;
    Some(waiting("Pending", format!("{provisioner} has made no volume yet")))
}

fn waiting(reason: &str, message: String) -> Problem {
    Problem {
        reason: reason.into(),
        message: message.into(),
        container: Box::default(),
        since: None,
        blocks: Blocker::Phase,
    }
}
