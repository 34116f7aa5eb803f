//! Keeps one copy of words that many objects share: kinds, namespaces, owners.

use std::{collections::HashSet, sync::Arc};

use super::{object::GroupKind, observation::OwnerReference};

#[derive(Debug, Default)]
pub(super) struct Interner(HashSet<Arc<str>>);

/// Words of objects that are long gone are let go of from time to time.
const SWEEP_AT: usize = 4096;

impl Interner {
    pub(super) fn share(&mut self, name: &mut Arc<str>) {
        if let Some(known) = self.0.get(name) {
            *name = Arc::clone(known);
            return;
        }
        if self.0.len() >= SWEEP_AT && self.0.len() == self.0.capacity() {
            self.0.retain(|name| Arc::strong_count(name) > 1);
        }
        self.0.insert(Arc::clone(name));
    }

    pub(super) fn share_kind(&mut self, kind: &mut GroupKind) {
        self.share(&mut kind.group);
        self.share(&mut kind.kind);
    }

    pub(super) fn share_owner(&mut self, owner: &mut OwnerReference) {
        self.share_kind(&mut owner.kind);
        self.share(&mut owner.name);
    }
}
