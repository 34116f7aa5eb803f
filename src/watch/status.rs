//! Reads what convergence needs to know out of a status.

use serde::de::{IgnoredAny, MapAccess};
use serde_json::value::RawValue;

use super::lenient::{Fields, Fill, FillItems, boxed, cut, fill, int, is_true, text, time};
use crate::trace::model::observation::{Condition, Container, StatusFacts, Terminated};

const MAX_CONDITIONS: usize = 64;
const MAX_CONTAINERS: usize = 64;
const MAX_MESSAGE: usize = 256;

pub(super) fn read(raw: &RawValue) -> StatusFacts {
    let mut status = Status::default();
    // What was read before something strange stays.
    fill(raw.get(), &mut status).unwrap_or_default();
    let Status { mut facts, parents, init_containers, containers } = status;
    facts.conditions.retain(|condition| !condition.kind.is_empty());
    facts.of_parents = parents.into_iter().flat_map(|parent| parent.conditions).collect();
    facts.of_parents.retain(|condition| !condition.kind.is_empty());
    facts.of_parents.truncate(MAX_CONDITIONS);
    facts.containers = init_containers
        .into_iter()
        .map(|container| Container { init: true, ..container })
        .chain(containers)
        .filter(|container| !container.name.is_empty())
        .take(MAX_CONTAINERS)
        .collect();
    facts
}

#[derive(Default)]
struct Status {
    facts: StatusFacts,
    parents: Vec<Parent>,
    init_containers: Vec<Container>,
    containers: Vec<Container>,
}

impl<'de> Fields<'de> for Status {
    fn field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        let facts = &mut self.facts;
        facts.present = true;
        let number = match key {
            "conditions" => {
                let to = &mut facts.conditions;
                to.clear();
                return map.next_value_seed(FillItems { to, max: MAX_CONDITIONS });
            }
            "parents" => {
                self.parents.clear();
                let to = &mut self.parents;
                return map.next_value_seed(FillItems { to, max: MAX_CONDITIONS });
            }
            "initContainerStatuses" | "containerStatuses" => {
                let to = if key == "containerStatuses" {
                    &mut self.containers
                } else {
                    &mut self.init_containers
                };
                to.clear();
                return map.next_value_seed(FillItems { to, max: MAX_CONTAINERS });
            }
            "loadBalancer" => {
                let mut balancer = LoadBalancer::default();
                map.next_value_seed(Fill(&mut balancer))?;
                facts.has_ingress = balancer.has_ingress;
                return Ok(());
            }
            "phase" | "reason" | "currentRevision" | "updateRevision" => {
                let value = boxed(map.next_value()?);
                *match key {
                    "phase" => &mut facts.phase,
                    "reason" => &mut facts.reason,
                    "currentRevision" => &mut facts.current_revision,
                    _ => &mut facts.update_revision,
                } = value;
                return Ok(());
            }
            "startTime" | "lastScaleTime" => {
                let value = time(map.next_value()?);
                *match key {
                    "startTime" => &mut facts.start_time,
                    _ => &mut facts.last_scale,
                } = value;
                return Ok(());
            }
            "observedGeneration" => &mut facts.observed_generation,
            "replicas" => &mut facts.replicas,
            "updatedReplicas" => &mut facts.updated_replicas,
            "readyReplicas" => &mut facts.ready_replicas,
            "availableReplicas" => &mut facts.available_replicas,
            "fullyLabeledReplicas" => &mut facts.fully_labeled_replicas,
            "currentReplicas" => &mut facts.current_replicas,
            "desiredReplicas" => &mut facts.desired_replicas,
            "desiredNumberScheduled" => &mut facts.desired_number_scheduled,
            "currentNumberScheduled" => &mut facts.current_number_scheduled,
            "updatedNumberScheduled" => &mut facts.updated_number_scheduled,
            "numberAvailable" => &mut facts.number_available,
            "numberReady" => &mut facts.number_ready,
            "active" => &mut facts.active,
            "succeeded" => &mut facts.succeeded,
            "failed" => &mut facts.failed,
            _ => return pass(map),
        };
        *number = int(map.next_value()?);
        Ok(())
    }
}

fn pass<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(drop)
}

impl<'de> Fields<'de> for Condition {
    fn field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "type" => self.kind = boxed(map.next_value()?).unwrap_or_default(),
            "status" => self.status = boxed(map.next_value()?).unwrap_or_default(),
            "reason" => self.reason = boxed(map.next_value()?).unwrap_or_default(),
            "message" => self.message = message(map.next_value()?),
            "lastTransitionTime" => self.last_transition = time(map.next_value()?),
            "observedGeneration" => self.observed_generation = int(map.next_value()?),
            _ => return pass(map),
        }
        Ok(())
    }
}

/// What one Gateway says of a route.
#[derive(Default)]
struct Parent {
    conditions: Vec<Condition>,
}

impl<'de> Fields<'de> for Parent {
    fn field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        if key != "conditions" {
            return pass(map);
        }
        self.conditions.clear();
        map.next_value_seed(FillItems { to: &mut self.conditions, max: MAX_CONDITIONS })
    }
}

fn message(raw: &RawValue) -> Box<str> {
    text(raw).map(|text| cut(&text, MAX_MESSAGE)).unwrap_or_default()
}

#[derive(Default)]
struct LoadBalancer {
    has_ingress: bool,
}

impl<'de> Fields<'de> for LoadBalancer {
    fn field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        if key != "ingress" {
            return pass(map);
        }
        let mut items = Vec::<Anything>::new();
        map.next_value_seed(FillItems { to: &mut items, max: 1 })?;
        self.has_ingress = !items.is_empty();
        Ok(())
    }
}

#[derive(Default)]
struct Anything;

impl<'de> Fields<'de> for Anything {
    fn field<A: MapAccess<'de>>(&mut self, _: &str, map: &mut A) -> Result<(), A::Error> {
        pass(map)
    }
}

impl<'de> Fields<'de> for Container {
    fn field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "name" => self.name = boxed(map.next_value()?).unwrap_or_default(),
            "ready" => self.ready = is_true(map.next_value()?),
            "started" => self.started = is_true(map.next_value()?),
            "restartCount" => self.restarts = int(map.next_value()?).unwrap_or_default(),
            "state" => {
                let mut state = State::default();
                map.next_value_seed(Fill(&mut state))?;
                self.waiting = state.waiting.map(|waiting| (waiting.reason, waiting.message));
                self.running_since = state.running.and_then(|running| running.started);
                self.terminated = state.terminated;
            }
            "lastState" => {
                let mut state = State::default();
                map.next_value_seed(Fill(&mut state))?;
                self.last_terminated = state.terminated;
            }
            _ => return pass(map),
        }
        Ok(())
    }
}

#[derive(Default)]
struct State {
    waiting: Option<Waiting>,
    running: Option<Running>,
    terminated: Option<Terminated>,
}

impl<'de> Fields<'de> for State {
    fn field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "waiting" => fill_some(map, &mut self.waiting),
            "running" => fill_some(map, &mut self.running),
            "terminated" => fill_some(map, &mut self.terminated),
            _ => pass(map),
        }
    }
}

/// An object makes it some, also an empty one; `null` and anything else does not.
fn fill_some<'de, A: MapAccess<'de>, T: Fields<'de> + Default>(
    map: &mut A,
    to: &mut Option<T>,
) -> Result<(), A::Error> {
    let raw: &'de RawValue = map.next_value()?;
    *to = raw.get().starts_with('{').then(|| {
        let mut value = T::default();
        // What was read before something strange stays.
        fill(raw.get(), &mut value).unwrap_or_default();
        value
    });
    Ok(())
}

#[derive(Default)]
struct Waiting {
    reason: Box<str>,
    message: Box<str>,
}

impl<'de> Fields<'de> for Waiting {
    fn field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "reason" => self.reason = boxed(map.next_value()?).unwrap_or_default(),
            "message" => self.message = message(map.next_value()?),
            _ => return pass(map),
        }
        Ok(())
    }
}

#[derive(Default)]
struct Running {
    started: Option<crate::trace::model::time::Timestamp>,
}

impl<'de> Fields<'de> for Running {
    fn field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "startedAt" => self.started = time(map.next_value()?),
            _ => return pass(map),
        }
        Ok(())
    }
}

impl<'de> Fields<'de> for Terminated {
    fn field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "exitCode" => self.exit_code = int(map.next_value()?).unwrap_or_default(),
            "reason" => self.reason = boxed(map.next_value()?).unwrap_or_default(),
            "startedAt" => self.started = time(map.next_value()?),
            "finishedAt" => self.finished = time(map.next_value()?),
            _ => return pass(map),
        }
        Ok(())
    }
}
