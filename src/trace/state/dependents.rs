//! Finds deleted owners whose dependents exist: the garbage collector will delete those.

use std::collections::{HashMap, HashSet};

use crate::trace::model::object::Uid;

/// The existing objects that name an owner, by that owner, whether or not the owner is tracked.
///
/// A dependent with one owner, as almost all have, is only counted: a set of every Pod would take more
/// memory than the question is worth.
#[derive(Debug, Default)]
pub(crate) struct Dependents {
    /// By owner, the number of dependents that have no other owner.
    sole: HashMap<Uid, u32>,
    /// By owner, the dependents that have several owners.
    shared: HashMap<Uid, HashSet<Uid>>,
    /// Deleted owners that are still tracked and have dependents.
    deleted: HashSet<Uid>,
}

impl Dependents {
    /// Adds an existing object. `is_deleted` returns whether a tracked owner was deleted.
    pub(crate) fn add(
        &mut self,
        dependent: &Uid,
        owners: &[Uid],
        is_deleted: impl Fn(&Uid) -> bool,
    ) {
        match owners {
            [] => {}
            [owner] => *self.sole.entry(owner.clone()).or_default() += 1,
            several => {
                for owner in several {
                    self.shared.entry(owner.clone()).or_default().insert(dependent.clone());
                }
            }
        }
        self.deleted.extend(owners.iter().filter(|owner| is_deleted(owner)).cloned());
    }

    /// Removes an object that was added with these owners.
    pub(crate) fn remove(&mut self, dependent: &Uid, owners: &[Uid]) {
        match owners {
            [] => {}
            [owner] => {
                if let Some(count) = self.sole.get_mut(owner) {
                    *count -= 1;
                    if *count == 0 {
                        self.sole.remove(owner);
                    }
                }
            }
            several => {
                for owner in several {
                    if let Some(dependents) = self.shared.get_mut(owner) {
                        dependents.remove(dependent);
                        if dependents.is_empty() {
                            self.shared.remove(owner);
                        }
                    }
                }
            }
        }
        for owner in owners {
            if !self.has_dependents(owner) {
                self.deleted.remove(owner);
            }
        }
    }

    /// Records that a tracked object was deleted.
    pub(crate) fn mark_deleted(&mut self, owner: &Uid) {
        if self.has_dependents(owner) {
            self.deleted.insert(owner.clone());
        }
    }

    /// Records that an object exists again, or is not tracked any more.
    pub(crate) fn unmark_deleted(&mut self, owner: &Uid) {
        self.deleted.remove(owner);
    }

    /// Deleted owners that have dependents without other owners, or with other owners for which
    /// `is_collected` returns that the garbage collector deletes the dependent with this owner.
    pub(crate) fn deleted_owners(
        &self,
        is_collected: impl Fn(&Uid, &Uid) -> bool,
    ) -> impl Iterator<Item = &Uid> {
        self.deleted.iter().filter(move |owner| {
            let mut shared = self.shared.get(owner).into_iter().flatten();
            self.sole.contains_key(owner) || shared.any(|dependent| is_collected(owner, dependent))
        })
    }

    fn has_dependents(&self, owner: &Uid) -> bool {
        self.sole.contains_key(owner) || self.shared.contains_key(owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table of objects without an index: what the index must agree with.
    #[derive(Default)]
    struct Table {
        dependents: Dependents,
        /// By number: the owners, and whether the object was deleted.
        objects: HashMap<u128, (Vec<Uid>, bool)>,
    }

    impl Table {
        fn is_deleted(&self, uid: &Uid) -> Option<bool> {
            let Uid::Uuid(number) = uid else { return None };
            self.objects.get(number).map(|(_, deleted)| *deleted)
        }

        fn set(&mut self, number: u128, owners: &[u128], deleted: bool) {
            self.forget(number);
            let (uid, owners) = (Uid::Uuid(number), owners.iter().copied().map(Uid::Uuid));
            let owners: Vec<Uid> = owners.collect();
            self.objects.insert(number, (owners.clone(), deleted));
            if deleted {
                self.dependents.mark_deleted(&uid);
            } else {
                let is_deleted: HashMap<Uid, bool> = owners
                    .iter()
                    .map(|owner| (owner.clone(), self.is_deleted(owner) == Some(true)))
                    .collect();
                self.dependents.add(&uid, &owners, |owner| is_deleted[owner]);
            }
        }

        fn forget(&mut self, number: u128) {
            let Some((owners, deleted)) = self.objects.remove(&number) else { return };
            if !deleted {
                self.dependents.remove(&Uid::Uuid(number), &owners);
            }
            self.dependents.unmark_deleted(&Uid::Uuid(number));
        }

        /// Whether every tracked owner of the dependent was deleted, and this is the first of them.
        fn is_collected(&self, owner: &Uid, dependent: &Uid) -> bool {
            let Uid::Uuid(number) = dependent else { return false };
            let owners = &self.objects[number].0;
            let mut tracked = owners.iter().filter(|owner| self.is_deleted(owner).is_some());
            let first = tracked.clone().next();
            first == Some(owner) && tracked.all(|owner| self.is_deleted(owner) == Some(true))
        }

        fn check(&self) {
            let collected = |owner: &Uid, dependent: &Uid| self.is_collected(owner, dependent);
            let found: HashSet<Uid> = self.dependents.deleted_owners(collected).cloned().collect();
            let existing = self.objects.iter().filter(|(_, (_, deleted))| !deleted);
            let expected: HashSet<Uid> = existing
                .flat_map(|(number, (owners, _))| {
                    let dependent = Uid::Uuid(*number);
                    owners.iter().filter(move |owner| self.is_collected(owner, &dependent))
                })
                .cloned()
                .collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn index_agrees_with_a_walk_over_all_objects() {
        for seed in 0..50 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut table = Table::default();
            for _ in 0..200 {
                let number = random.u128(0..12);
                let owners: Vec<u128> =
                    (0..random.usize(0..3)).map(|_| random.u128(0..12)).collect();
                match random.u8(0..4) {
                    0 => table.forget(number),
                    chosen => table.set(number, &owners, chosen == 1),
                }
                table.check();
            }
        }
    }

    #[test]
    fn forgotten_dependents_leave_no_entries() {
        let mut table = Table::default();
        table.set(1, &[], true);
        table.set(2, &[1], false);
        table.set(3, &[1, 4], false);
        table.check();
        for number in [1, 2, 3] {
            table.forget(number);
        }
        let Dependents { sole, shared, deleted } = table.dependents;
        assert!(sole.is_empty() && shared.is_empty() && deleted.is_empty());
    }
}
