//! Keeps one copy of names that many objects share: kinds, namespaces, owners.

use std::{collections::HashSet, sync::Arc};

use crate::trace::model::{object::GroupKind, observation::OwnerReference};

#[derive(Debug, Default)]
pub(crate) struct Interner(HashSet<Arc<str>>);

/// From this size on, names that no object uses any more are dropped before the set grows.
const SWEEP_AT: usize = 4096;

impl Interner {
    /// Returns the shared copy of a name.
    pub(crate) fn intern(&mut self, name: &str) -> Arc<str> {
        if let Some(shared) = self.0.get(name) {
            return Arc::clone(shared);
        }
        let name = Arc::from(name);
        self.insert(&name);
        name
    }

    /// Replaces a name by the shared copy.
    pub(crate) fn share(&mut self, name: &mut Arc<str>) {
        match self.0.get(name) {
            Some(shared) => *name = Arc::clone(shared),
            None => self.insert(name),
        }
    }

    fn insert(&mut self, name: &Arc<str>) {
        if self.0.len() >= SWEEP_AT && self.0.len() == self.0.capacity() {
            self.0.retain(|name| Arc::strong_count(name) > 1);
        }
        self.0.insert(Arc::clone(name));
    }

    pub(crate) fn share_kind(&mut self, kind: &mut GroupKind) {
        self.share(&mut kind.group);
        self.share(&mut kind.kind);
    }

    pub(crate) fn share_owner(&mut self, owner: &mut OwnerReference) {
        self.share_kind(&mut owner.kind);
        self.share(&mut owner.name);
    }
}
