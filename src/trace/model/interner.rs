//! Keeps one copy of words that many objects share: kinds, namespaces, owners.

use std::{collections::HashSet, sync::Arc};

use crate::trace::model::{object::GroupKind, observation::OwnerReference};

#[derive(Debug, Default)]
pub(crate) struct Interner(HashSet<Arc<str>>);

/// Words of objects that are long gone are let go of from time to time.
const SWEEP_AT: usize = 4096;

impl Interner {
    pub(crate) fn share(&mut self, name: &mut Arc<str>) {
        if let Some(known) = self.0.get(name) {
            *name = Arc::clone(known);
            return;
        }
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
