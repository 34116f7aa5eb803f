//! Decides whether the controller of an object wrote a change of its spec itself, as a part of the
//! change that is in flight (`docs/causes.md`, The controller's own write).

use crate::trace::{
    cause::find::is_recent,
    model::{
        field_manager::{KUBECTL, Manager, Managers, StatusWriter},
        id::Verb,
        kind,
        observation::Body,
        time::Timestamp,
    },
    object::{
        change::{Change, OwnWrite, Scope},
        detect::ObjectDiff,
        new_change::remaining_values,
        tracked::TrackedObject,
    },
    rules::Rules,
    state::objects::Objects,
};

/// The change in flight that a write of the controller at `resource_version` is a part of: the newest
/// one, an ignored one only where there is no other.
pub(crate) fn joined_change<'a>(
    object: &'a TrackedObject,
    rules: &Rules,
    resource_version: u64,
    api_at: Timestamp,
) -> Option<&'a Change> {
    let limits = rules.limits(object.kind(), object.spec.progress_deadline_seconds);
    let mut in_flight = object.changes.iter().rev().filter(|change| {
        change.is_of_work()
            && !change.key.is_deletion()
            && change.resource_version < resource_version
            // The write itself may have made the object Current.
            && change.until.is_none_or(|until| until >= resource_version)
            && is_recent(change, api_at, limits.deadline)
    });
    let newest = in_flight.next()?;
    if !newest.ignored {
        return Some(newest);
    }
    in_flight.find(|change| !change.ignored).or(Some(newest))
}

/// Whether the controller of the object wrote a difference. The controllers of built-in kinds share
/// one field manager, so its name would prove nothing for those; and whoever scales by `/scale` is not
/// the controller.
pub(crate) fn detect(
    object: &TrackedObject,
    difference: &ObjectDiff,
    body: Option<&Body>,
    managers: &Managers,
    manager: Option<&Manager>,
) -> OwnWrite {
    let (Some(body), Some(manager)) = (body, manager) else { return OwnWrite::No };
    let is_possible = difference.verb == Verb::Update
        && difference.scope == Scope::Spec
        && !difference.rewound
        && !kind::is_built_in(object.kind())
        && !manager.name.starts_with(KUBECTL)
        && manager.subresource.is_empty();
    if !is_possible {
        return OwnWrite::No;
    }
    let paths = remaining_values(&difference.fields, body);
    // A removal proves only its own write, not those that were missed before it.
    let is_proven = difference.missed == 0 || !paths.is_empty();
    if !is_proven || !managers.wrote_all(&manager.name, &paths, &body.content) {
        return OwnWrite::No;
    }
    match managers.status_writer() {
        StatusWriter::One(writer) if writer == manager.name => OwnWrite::Yes,
        StatusWriter::Nobody => OwnWrite::Undetermined,
        StatusWriter::One(_) | StatusWriter::Several => OwnWrite::No,
    }
}

/// Whether the field manager of an undetermined write made something that the object controls, which
/// only its controller does.
pub(crate) fn has_made_child(objects: &Objects, object: &TrackedObject, write: &Change) -> bool {
    let Some(manager) = write.report().and_then(|report| report.manager.as_ref()) else {
        return false;
    };
    let is_by_it = |change: &Change| {
        let maker = change.report().and_then(|report| report.owner_manager.as_ref());
        maker.is_some_and(|maker| *maker == manager.name)
    };
    // Pods are found by what caused them.
    let caused = object.changes.iter().flat_map(|change| objects.caused_by(&change.key));
    let mut controlled = objects.controlled_by(object.uid());
    controlled.any(|child| child.changes.iter().any(is_by_it))
        || caused.into_iter().any(|(_, change)| is_by_it(change))
}
