//! Finds objects by kind, namespace and name, for the kinds that references name.

use std::{collections::HashMap, sync::Arc};

use crate::trace::{
    model::{
        kind,
        object::{GroupKind, Uid},
    },
    object::tracked::TrackedObject,
    state::dirty_map::DirtyMap,
};

type Name = (Option<Arc<str>>, Arc<str>);

/// A kind is indexed from the first time it is asked for: most kinds, Pods among them, never are.
#[derive(Debug)]
pub(crate) struct NameIndex {
    kinds: HashMap<GroupKind, HashMap<Name, Vec<Uid>>>,
}

impl Default for NameIndex {
    fn default() -> Self {
        // Every object asks for its Namespace.
        Self { kinds: HashMap::from([(kind::namespace(), HashMap::new())]) }
    }
}

impl NameIndex {
    /// Looks at every object once, the first time a kind is asked for.
    pub(crate) fn add_kind(&mut self, kind: &GroupKind, table: &DirtyMap<Uid, Box<TrackedObject>>) {
        if self.kinds.contains_key(kind) {
            return;
        }
        self.kinds.insert(kind.clone(), HashMap::new());
        for object in table.values().filter(|object| object.kind() == kind) {
            self.insert(object);
        }
    }

    pub(crate) fn insert(&mut self, object: &TrackedObject) {
        if let Some(names) = self.kinds.get_mut(object.kind()) {
            let uids = names.entry(name_of(object)).or_default();
            if !uids.contains(object.uid()) {
                uids.push(object.uid().clone());
            }
        }
    }

    pub(crate) fn remove(&mut self, object: &TrackedObject) {
        let Some(names) = self.kinds.get_mut(object.kind()) else { return };
        let name = name_of(object);
        if let Some(uids) = names.get_mut(&name) {
            uids.retain(|uid| uid != object.uid());
            if uids.is_empty() {
                names.remove(&name);
            }
        }
    }

    /// In the order in which they were observed. Cluster-scoped objects have no namespace, whatever
    /// namespace the reference has.
    pub(crate) fn named<'a>(
        &'a self,
        kind: &GroupKind,
        namespace: Option<&Arc<str>>,
        name: &Arc<str>,
    ) -> impl Iterator<Item = &'a Uid> + use<'a> {
        let names = self.kinds.get(kind);
        let find = |namespace: Option<&Arc<str>>| {
            names.and_then(|names| names.get(&(namespace.cloned(), Arc::clone(name))))
        };
        find(namespace).or_else(|| find(None)).into_iter().flatten()
    }

    pub(crate) fn sort_by_age(&mut self, table: &DirtyMap<Uid, Box<TrackedObject>>) {
        for uids in self.kinds.values_mut().flat_map(HashMap::values_mut) {
            uids.sort_by_key(|uid| table.get(uid).map(|object| object.resource_version));
        }
    }
}

fn name_of(object: &TrackedObject) -> Name {
    (object.namespace().cloned(), Arc::clone(object.name()))
}
