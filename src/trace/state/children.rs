//! Finds the objects that name an object as their own by a field, such as a `Certificate` its Secret.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use crate::trace::{
    model::object::{GroupKind, Uid},
    object::tracked::TrackedObject,
};

type Name = (GroupKind, Arc<str>);

/// By kind and name; namespaces are compared by the caller.
#[derive(Debug, Default)]
pub(crate) struct ChildIndex(HashMap<Name, BTreeSet<Uid>>);

impl ChildIndex {
    pub(crate) fn insert(&mut self, object: &TrackedObject) {
        for name in names_of(object) {
            self.0.entry(name).or_default().insert(object.uid().clone());
        }
    }

    pub(crate) fn remove(&mut self, object: &TrackedObject) {
        for name in names_of(object) {
            if let Some(owners) = self.0.get_mut(&name) {
                owners.remove(object.uid());
                if owners.is_empty() {
                    self.0.remove(&name);
                }
            }
        }
    }

    /// In the order of their UIDs.
    pub(crate) fn owners_of(&self, child: &TrackedObject) -> impl Iterator<Item = &Uid> {
        // Most clusters have none.
        let name = (!self.0.is_empty()).then(|| (child.kind().clone(), Arc::clone(child.name())));
        name.and_then(|name| self.0.get(&name)).into_iter().flatten()
    }
}

fn names_of(object: &TrackedObject) -> impl Iterator<Item = Name> {
    let references = object.references.iter().flat_map(|references| &references.children);
    references.map(|child| (child.kind.clone(), Arc::clone(&child.name)))
}

/// Whether a field of the owner means this object, and not one of its name in another namespace.
pub(super) fn is_named_by(child: &TrackedObject, owner: &TrackedObject) -> bool {
    let mut children = owner.references.iter().flat_map(|references| &references.children);
    children.any(|named| {
        let namespace = named.namespace.as_ref().or_else(|| owner.namespace());
        named.name == *child.name()
            && named.kind == *child.kind()
            // A cluster-scoped child is in no namespace, whatever names it.
            && (child.namespace().is_none() || namespace == child.namespace())
    })
}
