//! What the indices of objects are made of.

use crate::trace::{
    model::{object::Uid, observation::Reference},
    object::tracked::TrackedObject,
    state::dirty_map::DirtyMap,
};

/// Pods are many, and found by their owner only through the changes that made them.
pub(super) fn is_indexed_by_owner(object: &TrackedObject) -> bool {
    !object.is("", "Pod")
}

pub(super) fn controller(object: &TrackedObject) -> Option<Uid> {
    object.owner.as_ref().map(|owner| owner.uid.clone())
}

pub(super) fn owner_uids(object: &TrackedObject) -> Vec<Uid> {
    object.owners().map(|owner| owner.uid.clone()).collect()
}

pub(super) fn is_gone(table: &DirtyMap<Uid, Box<TrackedObject>>, uid: &Uid) -> bool {
    table.get(uid).is_some_and(|object| object.gone.is_some())
}

pub(super) fn scale_target(object: &TrackedObject) -> Option<Reference> {
    let target = object.references.as_ref()?.scales.as_ref()?;
    let namespace = target.namespace.as_ref().or_else(|| object.namespace()).cloned();
    Some(Reference { namespace, ..target.clone() })
}
