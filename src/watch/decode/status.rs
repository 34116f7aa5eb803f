//! Reads the status fields that readiness and phases are decided from.

use serde::de::MapAccess;
use serde_json::value::RawValue;

use super::quantity;
use super::{
    json::{
        ArraySeed, ObjectSeed, ReadField, boxed_text, fields_of, find, integer, integer_or_text,
        is_true, items_of, read_object, skip_value, text, timestamp, truncate,
    },
    signals,
};
use crate::trace::model::{
    kind::is_built_in,
    object::GroupKind,
    observation::{Condition, Container, StatusFacts, Terminated},
    time::Timestamp,
};

/// Conditions read of one object.
const MAX_CONDITIONS: usize = 64;
/// Container statuses read of one Pod.
const MAX_CONTAINERS: usize = 64;
/// Longer messages are truncated to this many characters.
const MAX_MESSAGE: usize = 256;

/// Reads a status; `spec` is that of the same object. Conditions without a type and containers without a name are left out.
pub(super) fn read(raw: &RawValue, kind: &GroupKind, spec: Option<&RawValue>) -> StatusFacts {
    let mut status = RawStatus::default();
    // After an error, the fields read so far are kept.
    read_object(raw.get(), &mut status).unwrap_or_default();
    let RawStatus { mut facts, mut parents, init_containers, containers } = status;
    if !parents.is_empty() {
        // A controller that is gone may have left its entry.
        let named = spec.map(names_of_parents).unwrap_or_default();
        parents
            .retain(|parent| !parent.is_parent || named.is_empty() || named.contains(&parent.name));
    }
    if !is_built_in(kind) {
        facts.signals = Some(Box::new(signals::read(raw)));
    }
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
struct RawStatus {
    facts: StatusFacts,
    parents: Vec<ParentStatus>,
    init_containers: Vec<Container>,
    containers: Vec<Container>,
}

impl RawStatus {
    /// Conditions one level down: of a field that is an object, or of the items of a list.
    fn read_parts(&mut self, raw: &RawValue) {
        let parts =
            if raw.get().starts_with('[') { items_of(raw, MAX_CONDITIONS) } else { vec![raw] };
        for part in parts {
            let mut parent = ParentStatus::default();
            // After an error, the fields read so far are kept.
            read_object(part.get(), &mut parent).unwrap_or_default();
            self.parents.push(parent);
        }
    }
}

impl<'de> ReadField<'de> for RawStatus {
    fn read_field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        let facts = &mut self.facts;
        facts.present = true;
        let number_field = match key {
            "conditions" => {
                let target = &mut facts.conditions;
                target.clear();
                return map.next_value_seed(ArraySeed { target, max: MAX_CONDITIONS });
            }
            "parents" | "ancestors" => {
                let target = &mut self.parents;
                target.clear();
                return map.next_value_seed(ArraySeed { target, max: MAX_CONDITIONS });
            }
            "initContainerStatuses" | "containerStatuses" => {
                let target = if key == "containerStatuses" {
                    &mut self.containers
                } else {
                    &mut self.init_containers
                };
                target.clear();
                return map.next_value_seed(ArraySeed { target, max: MAX_CONTAINERS });
            }
            "loadBalancer" => {
                let mut load_balancer = LoadBalancer::default();
                map.next_value_seed(ObjectSeed(&mut load_balancer))?;
                facts.has_ingress = load_balancer.has_ingress;
                return Ok(());
            }
            "phase" | "reason" | "currentRevision" | "updateRevision" => {
                let value = boxed_text(map.next_value()?);
                *match key {
                    "phase" => &mut facts.phase,
                    "reason" => &mut facts.reason,
                    "currentRevision" => &mut facts.current_revision,
                    _ => &mut facts.update_revision,
                } = value;
                return Ok(());
            }
            "message" => {
                facts.message = text(map.next_value()?).map(|text| truncate(&text, MAX_MESSAGE));
                return Ok(());
            }
            "capacity" => {
                facts.storage = read_storage(map)?.and_then(quantity::bytes);
                return Ok(());
            }
            "allocatedResourceStatuses" => {
                facts.storage_resize = read_storage(map)?.and_then(boxed_text);
                return Ok(());
            }
            "startTime" | "lastScaleTime" => {
                let value = timestamp(map.next_value()?);
                *match key {
                    "startTime" => &mut facts.start_time,
                    _ => &mut facts.last_scale,
                } = value;
                return Ok(());
            }
            "observedGeneration" => {
                facts.observed_generation = integer_or_text(map.next_value()?);
                return Ok(());
            }
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
            "succeeded" => &mut facts.succeeded,
            "failed" => &mut facts.failed,
            // Conditions of parts of the object.
            _ => {
                let raw: &RawValue = map.next_value()?;
                if raw.get().contains("\"conditions\"") && self.parents.len() < MAX_CONDITIONS {
                    self.read_parts(raw);
                }
                return Ok(());
            }
        };
        *number_field = integer(map.next_value()?);
        Ok(())
    }
}

impl<'de> ReadField<'de> for Condition {
    fn read_field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "type" => self.kind = boxed_text(map.next_value()?).unwrap_or_default(),
            "status" => self.status = boxed_text(map.next_value()?).unwrap_or_default(),
            "reason" => self.reason = boxed_text(map.next_value()?).unwrap_or_default(),
            "message" => self.message = message(map.next_value()?),
            "lastTransitionTime" => self.last_transition = timestamp(map.next_value()?),
            "observedGeneration" => self.observed_generation = integer_or_text(map.next_value()?),
            _ => return skip_value(map),
        }
        Ok(())
    }
}

/// An entry of `status.parents` or `status.ancestors` of Gateway API: the conditions that one parent
/// reports.
#[derive(Default)]
struct ParentStatus {
    /// Of the parent, from its `parentRef`.
    name: Box<str>,
    /// It is an entry of `parents`, which the spec names, and not of `ancestors`.
    is_parent: bool,
    conditions: Vec<Condition>,
}

impl<'de> ReadField<'de> for ParentStatus {
    fn read_field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "conditions" => {
                self.conditions.clear();
                map.next_value_seed(ArraySeed { target: &mut self.conditions, max: MAX_CONDITIONS })
            }
            "parentRef" => {
                let reference: &RawValue = map.next_value()?;
                let name = find(&fields_of(reference), "name").and_then(boxed_text);
                self.name = name.unwrap_or_default();
                self.is_parent = true;
                Ok(())
            }
            _ => skip_value(map),
        }
    }
}

/// The names in `spec.parentRefs`.
fn names_of_parents(spec: &RawValue) -> Vec<Box<str>> {
    let parents = find(&fields_of(spec), "parentRefs").map(|raw| items_of(raw, MAX_CONDITIONS));
    let names = parents.into_iter().flatten();
    names.filter_map(|parent| find(&fields_of(parent), "name").and_then(boxed_text)).collect()
}

fn message(raw: &RawValue) -> Box<str> {
    text(raw).map(|text| truncate(&text, MAX_MESSAGE)).unwrap_or_default()
}

/// The value of `storage` in a map by resource.
fn read_storage<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<&'de RawValue>, A::Error> {
    let mut by_resource = ByResource::default();
    map.next_value_seed(ObjectSeed(&mut by_resource))?;
    Ok(by_resource.storage)
}

#[derive(Default)]
struct ByResource<'de> {
    storage: Option<&'de RawValue>,
}

impl<'de> ReadField<'de> for ByResource<'de> {
    fn read_field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        if key != "storage" {
            return skip_value(map);
        }
        self.storage = Some(map.next_value()?);
        Ok(())
    }
}

#[derive(Default)]
struct LoadBalancer {
    has_ingress: bool,
}

impl<'de> ReadField<'de> for LoadBalancer {
    fn read_field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        if key != "ingress" {
            return skip_value(map);
        }
        let mut items = Vec::<AnyValue>::new();
        map.next_value_seed(ArraySeed { target: &mut items, max: 1 })?;
        self.has_ingress = !items.is_empty();
        Ok(())
    }
}

/// An array item of which only the presence counts.
#[derive(Default)]
struct AnyValue;

impl<'de> ReadField<'de> for AnyValue {
    fn read_field<A: MapAccess<'de>>(&mut self, _: &str, map: &mut A) -> Result<(), A::Error> {
        skip_value(map)
    }
}

impl<'de> ReadField<'de> for Container {
    fn read_field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "name" => self.name = boxed_text(map.next_value()?).unwrap_or_default(),
            "ready" => self.ready = is_true(map.next_value()?),
            "state" => {
                let mut state = ContainerState::default();
                map.next_value_seed(ObjectSeed(&mut state))?;
                self.waiting = state.waiting.map(|waiting| (waiting.reason, waiting.message));
                self.running_since = state.running.and_then(|running| running.started);
                self.terminated = state.terminated;
            }
            "lastState" => {
                let mut state = ContainerState::default();
                map.next_value_seed(ObjectSeed(&mut state))?;
                self.last_terminated = state.terminated;
            }
            _ => return skip_value(map),
        }
        Ok(())
    }
}

#[derive(Default)]
struct ContainerState {
    waiting: Option<ContainerWaiting>,
    running: Option<ContainerRunning>,
    terminated: Option<Terminated>,
}

impl<'de> ReadField<'de> for ContainerState {
    fn read_field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "waiting" => read_optional(map, &mut self.waiting),
            "running" => read_optional(map, &mut self.running),
            "terminated" => read_optional(map, &mut self.terminated),
            _ => skip_value(map),
        }
    }
}

/// Sets `target` when the value is an object, even an empty one; clears it for any other value.
fn read_optional<'de, A: MapAccess<'de>, T: ReadField<'de> + Default>(
    map: &mut A,
    target: &mut Option<T>,
) -> Result<(), A::Error> {
    let raw: &'de RawValue = map.next_value()?;
    *target = raw.get().starts_with('{').then(|| {
        let mut value = T::default();
        // After an error, the fields read so far are kept.
        read_object(raw.get(), &mut value).unwrap_or_default();
        value
    });
    Ok(())
}

#[derive(Default)]
struct ContainerWaiting {
    reason: Box<str>,
    message: Box<str>,
}

impl<'de> ReadField<'de> for ContainerWaiting {
    fn read_field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "reason" => self.reason = boxed_text(map.next_value()?).unwrap_or_default(),
            "message" => self.message = message(map.next_value()?),
            _ => return skip_value(map),
        }
        Ok(())
    }
}

#[derive(Default)]
struct ContainerRunning {
    started: Option<Timestamp>,
}

impl<'de> ReadField<'de> for ContainerRunning {
    fn read_field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "startedAt" => self.started = timestamp(map.next_value()?),
            _ => return skip_value(map),
        }
        Ok(())
    }
}

impl<'de> ReadField<'de> for Terminated {
    fn read_field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "exitCode" => self.exit_code = integer(map.next_value()?).unwrap_or_default(),
            "reason" => self.reason = boxed_text(map.next_value()?).unwrap_or_default(),
            "startedAt" => self.started = timestamp(map.next_value()?),
            "finishedAt" => self.finished = timestamp(map.next_value()?),
            _ => return skip_value(map),
        }
        Ok(())
    }
}
