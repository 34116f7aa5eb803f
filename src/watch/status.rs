//! Reads what convergence needs to know of a status.

use serde_json::value::RawValue;

use super::lenient::{boxed, cut, each_field, each_item, int, is_true, text};
use crate::trace::{
    observation::{Condition, Container, StatusFacts, Terminated},
    time::Timestamp,
};

const MAX_CONDITIONS: usize = 64;
const MAX_CONTAINERS: usize = 64;
/// Characters of a message that are kept.
const MAX_MESSAGE: usize = 256;

pub(super) fn read_status(raw: &RawValue) -> StatusFacts {
    let mut facts = StatusFacts::default();
    let mut containers = Vec::new();
    each_field(raw.get(), |key, value| {
        facts.present = true;
        match key {
            "observedGeneration" => facts.observed_generation = int(value),
            "conditions" => each_item(value.get(), MAX_CONDITIONS, |item| {
                facts.conditions.extend(read_condition(item));
            }),
            "phase" => facts.phase = boxed(value),
            "reason" => facts.reason = boxed(value),
            "replicas" => facts.replicas = int(value),
            "updatedReplicas" => facts.updated_replicas = int(value),
            "readyReplicas" => facts.ready_replicas = int(value),
            "availableReplicas" => facts.available_replicas = int(value),
            "currentReplicas" => facts.current_replicas = int(value),
            "currentRevision" => facts.current_revision = boxed(value),
            "updateRevision" => facts.update_revision = boxed(value),
            "desiredNumberScheduled" => facts.desired_number_scheduled = int(value),
            "currentNumberScheduled" => facts.current_number_scheduled = int(value),
            "updatedNumberScheduled" => facts.updated_number_scheduled = int(value),
            "numberAvailable" => facts.number_available = int(value),
            "numberReady" => facts.number_ready = int(value),
            "active" => facts.active = int(value),
            "succeeded" => facts.succeeded = int(value),
            "failed" => facts.failed = int(value),
            "initContainerStatuses" => each_item(value.get(), MAX_CONTAINERS, |item| {
                facts.containers.push(read_container(item, true));
            }),
            "containerStatuses" => each_item(value.get(), MAX_CONTAINERS, |item| {
                containers.push(read_container(item, false));
            }),
            "loadBalancer" => each_field(value.get(), |key, value| {
                if key == "ingress" {
                    each_item(value.get(), 1, |_| facts.has_ingress = true);
                }
            }),
            _ => {}
        }
    });
    facts.containers.extend(containers);
    facts
}

/// `None` for entries without a type, as in a list that holds something else than objects.
fn read_condition(raw: &RawValue) -> Option<Condition> {
    let mut condition = Condition::default();
    each_field(raw.get(), |key, value| match key {
        "type" => condition.kind = boxed(value).unwrap_or_default(),
        "status" => condition.status = boxed(value).unwrap_or_default(),
        "reason" => condition.reason = cut(value, MAX_MESSAGE).unwrap_or_default(),
        "message" => condition.message = cut(value, MAX_MESSAGE).unwrap_or_default(),
        "lastTransitionTime" => condition.last_transition = time(value),
        "observedGeneration" => condition.observed_generation = int(value),
        _ => {}
    });
    (!condition.kind.is_empty()).then_some(condition)
}

fn read_container(raw: &RawValue, init: bool) -> Container {
    let mut container = Container { init, ..Container::default() };
    each_field(raw.get(), |key, value| match key {
        "name" => container.name = boxed(value).unwrap_or_default(),
        "ready" => container.ready = is_true(value),
        "started" => container.started = is_true(value),
        "restartCount" => container.restarts = int(value).unwrap_or(0),
        "state" => each_field(value.get(), |key, value| match key {
            "waiting" => container.waiting = read_waiting(value),
            "terminated" => container.terminated = Some(read_terminated(value)),
            "running" => each_field(value.get(), |key, value| {
                if key == "startedAt" {
                    container.running_since = time(value);
                }
            }),
            _ => {}
        }),
        "lastState" => each_field(value.get(), |key, value| {
            if key == "terminated" {
                container.last_terminated = Some(read_terminated(value));
            }
        }),
        _ => {}
    });
    container
}

fn read_waiting(raw: &RawValue) -> Option<(Box<str>, Box<str>)> {
    let mut reason = None;
    let mut message = None;
    each_field(raw.get(), |key, value| match key {
        "reason" => reason = boxed(value),
        "message" => message = cut(value, MAX_MESSAGE),
        _ => {}
    });
    Some((reason?, message.unwrap_or_default()))
}

fn read_terminated(raw: &RawValue) -> Terminated {
    let mut terminated = Terminated::default();
    each_field(raw.get(), |key, value| match key {
        "exitCode" => terminated.exit_code = int(value).unwrap_or(0),
        "reason" => terminated.reason = boxed(value).unwrap_or_default(),
        "finishedAt" => terminated.finished = time(value),
        _ => {}
    });
    terminated
}

pub(super) fn time(raw: &RawValue) -> Option<Timestamp> {
    Timestamp::parse(&text(raw)?)
}
