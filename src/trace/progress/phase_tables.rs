//! The phases of each kind: their actors, and what ends them.
//!
//! Decided by status, conditions and finalizers alone, except for pulled images, which only
//! Kubernetes Events report
//! ([Pod lifecycle](https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-conditions),
//! [finalizers](https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/)).
//! The phases of a kind are a row in `PhaseTable::for_change` and a table.

use std::time::Duration;

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
        judgement::Urgency,
        problem::{Blocker, Problem},
        resize::is_resizing,
        status::{condition, is_observed, observed},
    },
};

pub(crate) const OBSERVE: &str = "observe";
pub(crate) const INIT: &str = "init";
pub(crate) const FINALIZE: &str = "finalize";
pub(crate) const RUN: &str = "run";

/// A Pod that ran for less, by the whole seconds of the API, has no phase `run`: whether it took any time
/// is not known.
const MIN_RUN: Duration = Duration::from_secs(2);

/// Init containers remembered of one Pod: as many containers as are read of a status.
const MAX_CONTAINERS: usize = 64;

#[derive(Debug)]
pub(crate) struct PhaseRule {
    pub(crate) name: &'static str,
    pub(crate) actor: fn(&PhaseFacts) -> Actor,
    /// Whether the change has this phase, as far as is known.
    pub(crate) is_present: fn(&PhaseFacts) -> bool,
    /// When it began, where that is not the end of the phase before.
    pub(crate) begin: fn(&PhaseFacts) -> Option<Timestamp>,
    pub(crate) end: fn(&PhaseInput<'_>, &PhaseFacts) -> Option<Timestamp>,
    /// A problem that the status does not show.
    pub(crate) problem: fn(&PhaseFacts) -> Option<Problem>,
    /// Each init container is a phase within it.
    pub(crate) has_containers: bool,
}

/// The defaults: the object's controller acts, from the end of the phase before.
const PHASE: PhaseRule = PhaseRule {
    name: "",
    actor: |_| Actor::Controller,
    is_present: |_| true,
    begin: |_| None,
    end: |_, _| None,
    problem: |_| None,
    has_containers: false,
};

/// Which phases a change has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum PhaseTable {
    Pod,
    Termination,
    Finalization,
    Job,
    Roll,
    Claim,
    PodResize,
    ClaimResize,
    Observation,
}

impl PhaseTable {
    /// `None` for changes without known phases.
    pub(crate) fn for_change(kind: &GroupKind, verb: Verb) -> Option<Self> {
        match (verb, &*kind.group, &*kind.kind) {
            (Verb::Delete, "", "Pod") => Some(Self::Termination),
            (Verb::Delete, ..) => Some(Self::Finalization),
            (Verb::Create, "", "Pod") => Some(Self::Pod),
            (_, "batch", "Job") => Some(Self::Job),
            (_, "apps", "StatefulSet" | "DaemonSet") => Some(Self::Roll),
            (Verb::Create, "", "PersistentVolumeClaim") => Some(Self::Claim),
            (Verb::Update, "", "PersistentVolumeClaim") => Some(Self::ClaimResize),
            (Verb::Update, "", "Pod") => Some(Self::PodResize),
            _ if kind::change_detection(kind) == ChangeDetection::Generation => {
                Some(Self::Observation)
            }
            _ => None,
        }
    }

    pub(crate) fn rules(self) -> &'static [PhaseRule] {
        match self {
            Self::Pod => &POD,
            Self::Termination => &TERMINATION,
            Self::Finalization => &FINALIZATION,
            Self::Job => &JOB,
            Self::Roll => &ROLL,
            Self::Claim => &CLAIM,
            Self::PodResize => &POD_RESIZE,
            Self::ClaimResize => &CLAIM_RESIZE,
            Self::Observation => &OBSERVATION,
        }
    }
}

static POD: [PhaseRule; 7] = [
    PhaseRule {
        name: "schedule",
        actor: |_| Actor::Scheduler,
        end: |input, _| is_true(input, "PodScheduled"),
        ..PHASE
    },
    PhaseRule {
        name: "sandbox",
        actor: |_| Actor::Kubelet,
        end: |input, _| is_true(input, "PodReadyToStartContainers"),
        ..PHASE
    },
    // The condition means nothing for a Pod without init containers.
    PhaseRule {
        name: INIT,
        actor: |_| Actor::Kubelet,
        is_present: |facts| !facts.init_containers.is_empty(),
        end: |input, _| is_true(input, "Initialized"),
        has_containers: true,
        ..PHASE
    },
    // Each container starts once its image is pulled: the phase ends with the last pull.
    PhaseRule {
        name: "pull",
        actor: |_| Actor::Kubelet,
        is_present: |facts| facts.is_pulling,
        end: |input, facts| started(input).and_then(|by| Some(facts.pulled?.min(by))),
        ..PHASE
    },
    PhaseRule { name: "start", actor: |_| Actor::Kubelet, end: |input, _| started(input), ..PHASE },
    PhaseRule {
        name: "ready",
        actor: |_| Actor::Kubelet,
        end: |input, _| is_true(input, "Ready"),
        ..PHASE
    },
    // The phase of a failed Pod ends with the outcome, with its error.
    PhaseRule {
        name: RUN,
        actor: |_| Actor::Kubelet,
        is_present: |facts| facts.is_to_finish && !facts.was_short,
        end: |input, _| terminated(input).filter(|_| has_succeeded(input.status)),
        ..PHASE
    },
];

static TERMINATION: [PhaseRule; 2] = [
    PhaseRule {
        name: "terminate",
        actor: |_| Actor::Kubelet,
        is_present: |facts| facts.is_bound,
        end: |input, facts| terminated(input).filter(|_| !facts.finalizers.is_empty()),
        ..PHASE
    },
    FINALIZING,
];

static FINALIZATION: [PhaseRule; 1] = [FINALIZING];

/// Most objects are deleted with their last finalizer: then it ends with the outcome.
const FINALIZING: PhaseRule = PhaseRule {
    name: FINALIZE,
    actor: |facts| finalizer(&facts.held_by),
    is_present: |facts| !facts.held_by.is_empty(),
    end: |input, facts| facts.finalizers.is_empty().then_some(input.seen),
    problem: waits_for_finalizers,
    ..PHASE
};

static JOB: [PhaseRule; 1] = [PhaseRule {
    name: RUN,
    is_present: |facts| facts.started.is_some(),
    begin: |facts| facts.started,
    // The phase of a failed Job ends with the outcome, with its error.
    end: |input, _| is_true(input, "Complete"),
    ..PHASE
}];

/// The Pods are replaced one by one by those of the new revision.
static ROLL: [PhaseRule; 2] = [
    OBSERVING,
    PhaseRule {
        name: "roll",
        is_present: |facts| facts.is_observed && facts.rolls,
        end: |input, facts| (facts.counted >= wanted(input)).then_some(input.seen),
        ..PHASE
    },
];

static CLAIM: [PhaseRule; 2] = [
    PhaseRule {
        name: "provision",
        actor: |facts| facts.provisioner.clone().map_or(Actor::Controller, Actor::Named),
        is_present: |facts| facts.provisioner.is_some(),
        end: |input, facts| facts.has_volume.then_some(input.seen),
        problem: waits_for_a_volume,
        ..PHASE
    },
    PhaseRule {
        name: "bind",
        end: |input, _| (input.status.phase.as_deref() == Some("Bound")).then_some(input.seen),
        ..PHASE
    },
];

static POD_RESIZE: [PhaseRule; 2] =
    [OBSERVING, PhaseRule { actor: |_| Actor::Kubelet, ..RESIZING }];

static CLAIM_RESIZE: [PhaseRule; 1] = [PhaseRule {
    actor: |facts| facts.provisioner.clone().map_or(Actor::Controller, Actor::Named),
    ..RESIZING
}];

const RESIZING: PhaseRule = PhaseRule {
    name: "resize",
    is_present: |facts| facts.is_resized,
    end: |input, _| (!is_resizing(input.spec, input.status)).then_some(input.seen),
    ..PHASE
};

static OBSERVATION: [PhaseRule; 1] = [OBSERVING];

const OBSERVING: PhaseRule = PhaseRule {
    name: OBSERVE,
    is_present: |facts| facts.observes,
    end: |input, facts| facts.is_observed.then_some(input.seen),
    ..PHASE
};

/// Facts from earlier observations that decide about phases.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub(crate) struct PhaseFacts {
    init_containers: Vec<Box<str>>,
    /// The kubelet pulls an image; and when the last one was pulled.
    is_pulling: bool,
    pulled: Option<Timestamp>,
    /// The Job had ended before the change.
    had_ended: bool,
    /// Since when the Pods of the Job may run.
    started: Option<Timestamp>,
    /// The Pod shall succeed rather than keep running.
    is_to_finish: bool,
    /// It has succeeded in next to no time.
    was_short: bool,
    /// A resize was observed.
    is_resized: bool,
    /// The controller reports the generation it has observed.
    observes: bool,
    /// The generation of the change is observed.
    is_observed: bool,
    /// The Pods are replaced one by one.
    rolls: bool,
    /// The provisioner of a claim's volume.
    provisioner: Option<Box<str>>,
    /// The claim has its volume.
    has_volume: bool,
    /// Finalizers that remain on an object that is being deleted.
    finalizers: Vec<Box<str>>,
    /// The first of them, when they last delayed the deletion.
    held_by: Box<str>,
    /// The Pod has a node, whose kubelet stops its containers.
    is_bound: bool,
    /// Failed attempts, or Pods of the new revision.
    counted: i64,
}

impl PhaseFacts {
    pub(crate) fn before(kind: &GroupKind, status: &StatusFacts) -> Self {
        let has = |end: &str| {
            condition(status, end).is_some_and(|condition| &*condition.status == "True")
        };
        Self {
            had_ended: has("Complete") || has("Failed"),
            observes: kind::observes(kind),
            rolls: kind.is("apps", "StatefulSet") || kind.is("apps", "DaemonSet"),
            counted: status.failed.unwrap_or(0),
            ..Self::default()
        }
    }

    /// Takes in an observation. Returns what happened as span events.
    pub(crate) fn update(&mut self, input: &PhaseInput<'_>) -> Vec<SpanEvent> {
        let mut events = Vec::new();
        for container in input.status.containers.iter().filter(|container| container.init) {
            let is_new = !self.init_containers.contains(&container.name);
            if is_new && self.init_containers.len() < MAX_CONTAINERS {
                self.init_containers.push(container.name.clone());
            }
        }
        // `startTime` remains for a while in the status of a Job that is to be suspended.
        if self.started.is_none() && !self.had_ended && !input.spec.suspended {
            self.started = input.status.start_time.map(|at| refine(Some(at), input.seen));
        }
        self.is_to_finish = input.is_to_finish;
        self.was_short = has_succeeded(input.status) && run_time(input.status) < MIN_RUN;
        self.is_resized |= is_resizing(input.spec, input.status);
        self.observes |= observed(input.status).is_some();
        let is_first = !self.is_observed;
        self.is_observed |= is_observed(input.status, input.generation);
        if let Some(body) = input.body {
            if let Some(claim) = &body.claim {
                self.has_volume = claim.has_volume;
                self.provisioner.clone_from(&claim.provisioner);
            }
            let removed = self.finalizers.iter().filter(|old| !body.finalizers.contains(old));
            events.extend(removed.map(|finalizer| removal(finalizer, input.seen)));
            if body.deletion.is_some() {
                self.finalizers.clone_from(&body.finalizers);
            }
        }
        self.is_bound |= is_bound(input.status);
        // The kubelet stops the containers first: only finalizers that outlive them delay a Pod.
        if let Some(first) = self.finalizers.first()
            && (!self.is_bound || terminated(input).is_some())
        {
            self.held_by.clone_from(first);
        }
        events.extend(self.count("attempt failed", "failed", input.status.failed, input.seen));
        if self.rolls && self.is_observed {
            events.extend(self.update_roll(input, is_first));
        }
        events
    }

    /// The first status of the generation shows whether any Pod is to be replaced.
    fn update_roll(&mut self, input: &PhaseInput<'_>, is_first: bool) -> Option<SpanEvent> {
        let status = input.status;
        let updated = status.updated_number_scheduled.or(status.updated_replicas);
        let is_done = updated.unwrap_or(0) >= wanted(input);
        // With OnDelete, Pods are replaced only when a person deletes them.
        let on_delete = input.spec.update_strategy.as_deref() == Some("OnDelete");
        self.rolls = !(on_delete || (is_first && is_done));
        if !self.rolls {
            return None;
        }
        self.count("pods updated", "updated", updated, input.seen)
    }

    /// The kubelet reports `Pulling` only for images that are not on the node. Those of init
    /// containers are part of phase `init`.
    pub(crate) fn record_event(&mut self, event: &KubernetesEvent) {
        if self.init_containers.contains(&event.container) {
            return;
        }
        match &*event.reason {
            "Pulling" => self.is_pulling = true,
            "Pulled" => self.pulled = self.pulled.max(Some(refine(Some(event.last), event.at))),
            _ => {}
        }
    }

    /// The removals of the finalizers that remained until the object was deleted.
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

fn is_true(input: &PhaseInput<'_>, kind: &str) -> Option<Timestamp> {
    let condition =
        condition(input.status, kind).filter(|condition| &*condition.status == "True")?;
    Some(refine(condition.last_transition, input.seen))
}

/// When the last container started, once all have.
fn started(input: &PhaseInput<'_>) -> Option<Timestamp> {
    let mut containers =
        input.status.containers.iter().filter(|container| !container.init).peekable();
    containers.peek()?;
    containers.try_fold(Timestamp::default(), |last, container| {
        Some(last.max(first_start(container, input.seen)?))
    })
}

/// The earliest start in the status; a restart overwrites `startedAt`.
fn first_start(container: &Container, seen: Timestamp) -> Option<Timestamp> {
    let over = container.last_terminated.as_ref().or(container.terminated.as_ref());
    let by_run = over.map(|run| run.started.or(container.running_since));
    let running = || container.running_since.map(Some);
    Some(refine(by_run.or_else(running)?, seen))
}

/// Binding a Pod sets this condition together with the name of the node.
fn is_bound(status: &StatusFacts) -> bool {
    let scheduled = condition(status, "PodScheduled").is_some_and(|c| &*c.status == "True");
    scheduled || !status.containers.is_empty()
}

/// When the last container ended, once none runs.
fn terminated(input: &PhaseInput<'_>) -> Option<Timestamp> {
    let containers = &input.status.containers;
    if containers.is_empty() || containers.iter().any(|container| container.running_since.is_some())
    {
        return None;
    }
    let ends = containers.iter().filter_map(|container| container.terminated.as_ref()?.finished);
    Some(refine(ends.max(), input.seen))
}

fn has_succeeded(status: &StatusFacts) -> bool {
    status.phase.as_deref() == Some("Succeeded")
}

/// How long the containers ran, from the first start to the last end, by the API's times alone.
fn run_time(status: &StatusFacts) -> Duration {
    let runs = || status.containers.iter().filter_map(|container| container.terminated.as_ref());
    let first = runs().filter_map(|run| run.started).min();
    let last = runs().filter_map(|run| run.finished).max();
    first.zip(last).map_or(Duration::ZERO, |(first, last)| last.since(first))
}

/// The init containers that have ended, in their order, each with its end.
pub(crate) fn init_containers(input: &PhaseInput<'_>) -> Vec<(Box<str>, Timestamp)> {
    let over = |container: &Container| {
        let terminated = container.terminated.as_ref()?;
        Some((container.name.clone(), refine(terminated.finished, input.seen)))
    };
    input.status.containers.iter().filter(|container| container.init).filter_map(over).collect()
}

/// The number of Pods that shall have the new revision.
fn wanted(input: &PhaseInput<'_>) -> i64 {
    let of_set = || input.spec.replicas.unwrap_or(1) - input.spec.partition.unwrap_or(0);
    input.status.desired_number_scheduled.unwrap_or_else(of_set).max(0)
}

/// The actor that removes a finalizer: Kubernetes' own controllers by name, others by the finalizer.
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

/// The finalizers of the garbage collector are left out: it waits for the objects below, which are
/// reported.
fn waits_for_finalizers(facts: &PhaseFacts) -> Option<Problem> {
    let others: Vec<&str> = facts
        .finalizers
        .iter()
        .map(AsRef::as_ref)
        .filter(|name| !matches!(*name, "foregroundDeletion" | "orphan" | "kubernetes"))
        .collect();
    (!others.is_empty()).then(|| waiting("SomeFinalizersRemain", others.join(", ")))
}

fn waits_for_a_volume(facts: &PhaseFacts) -> Option<Problem> {
    let provisioner = facts.provisioner.as_ref()?;
    Some(waiting("Pending", format!("{provisioner} has made no volume yet")))
}

fn waiting(reason: &str, message: String) -> Problem {
    Problem {
        reason: reason.into(),
        message: message.into(),
        container: Box::default(),
        since: None,
        blocks: Blocker::Phase,
        urgency: Urgency::Failure,
    }
}
