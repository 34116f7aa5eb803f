//! Every tracked object, and the indices by which one is found without looking at all of them.
//!
//! | index | answers |
//! | --- | --- |
//! | by UID | the table itself |
//! | by name | which object does a reference name? Only of kinds that were asked for |
//! | by owner | which objects does this one control? Pods left out: nothing asks for them |
//! | by cause | which changes did this change cause? |
//! | by child | which objects name this one as their own? |
//! | by scale target | which autoscalers scale this object? |
//! | dependents | which deleted objects own others that exist? |
//! | open | which objects have a change without an outcome? |
//! | timers | whose deadline is next? |
//!
//! An index is updated where the table is: in the methods here that insert, update or forget.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use crate::trace::{
    model::{
        id::ChangeKey,
        interner::Interner,
        kind,
        object::{GroupKind, Uid},
        observation::{Body, Reference, WatchId},
        time::Timestamp,
    },
    object::{
        change::{Change, Decision, MAX_DEPTH, Report},
        retention,
        tracked::TrackedObject,
    },
    state::{
        children::{self, ChildIndex},
        dependents::Dependents,
        dirty_map::DirtyMap,
        index_keys::{controller, is_gone, is_indexed_by_owner, owner_uids, scale_target},
        multi_map::{add_to, remove_from},
        names::NameIndex,
    },
};

#[derive(Debug, Default)]
pub(crate) struct Objects {
    table: DirtyMap<Uid, Box<TrackedObject>>,
    names: NameIndex,
    by_owner: HashMap<Uid, HashSet<Uid>>,
    by_cause: HashMap<ChangeKey, HashSet<ChangeKey>>,
    by_child: ChildIndex,
    by_scale_target: HashMap<Reference, HashSet<Uid>>,
    dependents: Dependents,
    open: HashSet<Uid>,
    timers: BTreeSet<(Timestamp, Uid)>,
    counts: HashMap<GroupKind, i64>,
    interner: Interner,
}

impl Objects {
    pub(crate) fn get(&self, uid: &Uid) -> Option<&TrackedObject> {
        self.table.get(uid).map(Box::as_ref)
    }

    /// Access to facts without an index. [`Self::reschedule`] must be called after a change of them.
    pub(crate) fn get_mut(&mut self, uid: &Uid) -> Option<&mut TrackedObject> {
        self.table.get_mut(uid).map(Box::as_mut)
    }

    pub(crate) fn contains(&self, uid: &Uid) -> bool {
        self.table.contains_key(uid)
    }

    pub(crate) fn insert(&mut self, mut object: Box<TrackedObject>) {
        object.share_names(&mut self.interner);
        self.index(&object);
        let uid = object.uid().clone();
        self.table.insert(uid.clone(), object);
        self.index_referenced_kinds(&uid);
    }

    /// Takes over what rarely changes.
    pub(crate) fn read_body(&mut self, uid: &Uid, body: &Body) {
        let Some(object) = self.table.get_mut(uid) else { return };
        let controller_before = controller(object);
        let target_before = scale_target(object);
        let owners_before = owner_uids(object);
        let exists = object.gone.is_none();
        self.by_child.remove(object);
        object.read_body(body);
        object.share_names(&mut self.interner);
        self.by_child.insert(object);
        let owners = owner_uids(object);
        let controller = controller(object);
        let target = scale_target(object);
        if controller_before != controller && is_indexed_by_owner(object) {
            remove_from(&mut self.by_owner, controller_before.as_ref(), uid);
            add_to(&mut self.by_owner, controller, uid.clone());
        }
        if target_before != target {
            remove_from(&mut self.by_scale_target, target_before.as_ref(), uid);
            add_to(&mut self.by_scale_target, target, uid.clone());
        }
        if exists && owners_before != owners {
            self.dependents.remove(uid, &owners_before);
            self.dependents.add(uid, &owners, |owner| is_gone(&self.table, owner));
        }
        self.index_referenced_kinds(uid);
    }

    pub(crate) fn forget(&mut self, uid: &Uid) {
        let Some(object) = self.table.remove(uid) else { return };
        if let Some(timer) = object.timer {
            self.timers.remove(&(timer, uid.clone()));
        }
        self.open.remove(uid);
        self.names.remove(&object);
        self.by_child.remove(&object);
        if is_indexed_by_owner(&object) {
            remove_from(&mut self.by_owner, controller(&object).as_ref(), uid);
        }
        remove_from(&mut self.by_scale_target, scale_target(&object).as_ref(), uid);
        for change in &object.changes {
            self.unlink_cause(change);
        }
        self.dependents.unmark_deleted(uid);
        if object.gone.is_none() {
            self.count(object.kind(), -1);
            self.dependents.remove(uid, &owner_uids(&object));
        }
    }

    /// The object was deleted, or is there again.
    pub(crate) fn set_gone(&mut self, uid: &Uid, gone: Option<Timestamp>) {
        let Some(object) = self.table.get_mut(uid) else { return };
        let was_gone = std::mem::replace(&mut object.gone, gone).is_some();
        if was_gone == gone.is_some() {
            return;
        }
        let (kind, owners) = (object.kind().clone(), owner_uids(object));
        if gone.is_some() {
            self.count(&kind, -1);
            self.dependents.remove(uid, &owners);
            self.dependents.mark_deleted(uid);
        } else {
            self.count(&kind, 1);
            self.dependents.unmark_deleted(uid);
            self.dependents.add(uid, &owners, |owner| is_gone(&self.table, owner));
        }
    }

    /// Adds the newest change of its object.
    pub(crate) fn push_change(&mut self, change: Change) {
        if let Some(object) = self.table.get_mut(&change.key.uid) {
            if change.convergence.is_open() {
                self.open.insert(change.key.uid.clone());
            }
            object.changes.push(change);
        }
    }

    /// A change that turned out to be none.
    pub(crate) fn remove_change(&mut self, key: &ChangeKey) {
        let Some(object) = self.table.get_mut(&key.uid) else { return };
        for change in object.changes.extract_if(.., |change| change.key == *key) {
            remove_from(&mut self.by_cause, change.cause(), &change.key);
        }
    }

    pub(crate) fn decide_change(&mut self, key: &ChangeKey, decision: Decision) {
        let Some(change) = self.table.get_mut(&key.uid).and_then(|o| o.change_mut(key)) else {
            return;
        };
        add_to(&mut self.by_cause, decision.cause.clone(), key.clone());
        change.decide(decision);
    }

    /// Forgets the changes of an object that can be no cause any more.
    pub(crate) fn forget_old_changes(&mut self, uid: &Uid, now: Timestamp) {
        let Some(object) = self.table.get_mut(uid) else { return };
        for change in retention::forget_old_changes(object, now) {
            self.unlink_cause(&change);
        }
    }

    /// `false` where no change of the object is reported yet, so that none can go.
    pub(crate) fn forget_oldest_reported(&mut self, uid: &Uid) -> bool {
        let Some(object) = self.table.get_mut(uid) else { return false };
        let forgotten = retention::forget_oldest_reported(object);
        forgotten.inspect(|change| self.unlink_cause(change)).is_some()
    }

    /// Updates what follows from the object's changes: its timer, and whether it has an open one.
    pub(crate) fn reschedule(&mut self, uid: &Uid, next: Option<Timestamp>) {
        let Some(object) = self.table.get(uid) else { return };
        if object.has_open_change() {
            if !self.open.contains(uid) {
                self.open.insert(uid.clone());
            }
        } else {
            self.open.remove(uid);
        }
        if object.timer == next {
            return;
        }
        if let Some(timer) = object.timer {
            self.timers.remove(&(timer, uid.clone()));
        }
        if let Some(object) = self.table.get_mut(uid) {
            object.timer = next;
            self.timers.extend(next.map(|next| (next, uid.clone())));
        }
    }

    pub(crate) fn next_timer(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Removes the first timer that is due.
    pub(crate) fn pop_timer(&mut self, now: Timestamp) -> Option<(Timestamp, Uid)> {
        if self.next_timer()? > now {
            return None;
        }
        let (at, uid) = self.timers.pop_first()?;
        self.clear_timer(&uid);
        Some((at, uid))
    }

    /// Removes the object's own timer if that is due.
    pub(crate) fn take_timer(&mut self, uid: &Uid, now: Timestamp) -> Option<Timestamp> {
        let at = self.get(uid)?.timer.filter(|at| *at <= now)?;
        self.timers.remove(&(at, uid.clone()));
        self.clear_timer(uid);
        Some(at)
    }

    fn clear_timer(&mut self, uid: &Uid) {
        if let Some(object) = self.table.get_mut(uid) {
            object.timer = None;
        }
    }

    pub(crate) fn change(&self, key: &ChangeKey) -> Option<(&TrackedObject, &Change)> {
        let object = self.get(&key.uid)?;
        Some((object, object.change(key)?))
    }

    pub(crate) fn change_mut(&mut self, key: &ChangeKey) -> Option<&mut Change> {
        self.table.get_mut(&key.uid)?.change_mut(key)
    }

    pub(crate) fn report_mut(&mut self, key: &ChangeKey) -> Option<&mut Report> {
        self.change_mut(key)?.report_mut()
    }

    /// The object that a reference names, as seen from the object that has it.
    pub(crate) fn named(
        &self,
        from: &TrackedObject,
        reference: &Reference,
    ) -> Option<&TrackedObject> {
        let namespace = reference.namespace.as_ref().or_else(|| from.namespace());
        let candidates = self.names.named(&reference.kind, namespace, &reference.name);
        candidates.filter_map(|uid| self.get(uid)).find(|object| object.gone.is_none())
    }

    /// As [`Self::named`], also where the object was deleted lately, and no other has its name.
    pub(crate) fn named_lately(
        &self,
        from: &TrackedObject,
        reference: &Reference,
    ) -> Option<&TrackedObject> {
        self.all_named(from, reference).max_by_key(|named| (named.gone.is_none(), named.gone))
    }

    /// Those that have a name, and those that had it lately.
    pub(crate) fn all_named<'a>(
        &'a self,
        from: &TrackedObject,
        reference: &Reference,
    ) -> impl Iterator<Item = &'a TrackedObject> + use<'a> {
        let namespace = reference.namespace.as_ref().or_else(|| from.namespace());
        let uids = self.names.named(&reference.kind, namespace, &reference.name);
        uids.filter_map(|uid| self.get(uid))
    }

    /// The objects that name an object as their own, in the order of their UIDs.
    pub(crate) fn naming<'a>(
        &'a self,
        child: &'a TrackedObject,
    ) -> impl Iterator<Item = &'a TrackedObject> {
        let owners = self.by_child.owners_of(child).filter_map(|uid| self.get(uid));
        owners.filter(|owner| children::is_named_by(child, owner))
    }

    /// The objects that the configured fields of an object name.
    pub(crate) fn referenced_by<'a>(
        &'a self,
        object: &'a TrackedObject,
    ) -> impl Iterator<Item = &'a TrackedObject> {
        let references = object.references.iter().flat_map(|references| &references.to);
        references.filter_map(|reference| self.named(object, reference))
    }

    /// The Namespace that an object is in. A Namespace can be created again under its name: then the
    /// object is in the newest one that is no younger than itself.
    pub(crate) fn namespace_of(&self, object: &TrackedObject) -> Option<&TrackedObject> {
        let of_this_name = || {
            let uids = self.names.named(&kind::namespace(), None, object.namespace()?);
            Some(uids.filter_map(|uid| self.get(uid)))
        };
        let newest = of_this_name()?.last()?;
        if object.created >= newest.created {
            return Some(newest);
        }
        let older = of_this_name()?.filter(|other| other.created <= object.created);
        older.max_by_key(|other| other.created).or(Some(newest))
    }

    /// The objects, Pods left out, that an object controls.
    pub(crate) fn controlled_by(&self, owner: &Uid) -> impl Iterator<Item = &TrackedObject> {
        self.by_owner.get(owner).into_iter().flatten().filter_map(|uid| self.get(uid))
    }

    /// The autoscalers of an object.
    pub(crate) fn autoscalers_of<'a>(
        &'a self,
        object: &'a TrackedObject,
    ) -> impl Iterator<Item = &'a TrackedObject> {
        let target = Reference {
            kind: object.kind().clone(),
            namespace: object.namespace().cloned(),
            name: Arc::clone(object.name()),
        };
        self.by_scale_target
            .get(&target)
            .into_iter()
            .flatten()
            .filter_map(|uid| self.get(uid))
            .filter(|autoscaler| autoscaler.gone.is_none())
    }

    /// The changes that a change caused, as far as they are kept.
    pub(crate) fn caused_by(
        &self,
        cause: &ChangeKey,
    ) -> impl Iterator<Item = (&TrackedObject, &Change)> {
        self.by_cause.get(cause).into_iter().flatten().filter_map(|key| self.change(key))
    }

    /// Everything below a change, depth first.
    pub(crate) fn descendants_of<'a>(
        &'a self,
        cause: &'a ChangeKey,
    ) -> impl Iterator<Item = (&'a TrackedObject, &'a Change)> {
        let mut waiting: Vec<(&ChangeKey, usize)> = vec![(cause, 0)];
        std::iter::from_fn(move || {
            let (key, depth) = waiting.pop()?;
            if depth < usize::from(MAX_DEPTH) {
                let below = self.by_cause.get(key).into_iter().flatten();
                waiting.extend(below.map(|key| (key, depth + 1)));
            }
            Some(key)
        })
        .skip(1)
        .filter_map(|key| self.change(key))
    }

    /// The causes of a change, from the nearest up to the head.
    pub(crate) fn causes_of<'a>(
        &'a self,
        change: &'a Change,
    ) -> impl Iterator<Item = &'a ChangeKey> {
        std::iter::successors(change.cause(), move |key| self.change(key)?.1.cause())
            .take(MAX_DEPTH.into())
    }

    /// A change and its causes, from itself up to the head.
    pub(crate) fn chain_from(&self, key: &ChangeKey) -> Vec<ChangeKey> {
        let change = self.change(key).map(|(_, change)| change);
        let causes = change.into_iter().flat_map(|change| self.causes_of(change));
        std::iter::once(key).chain(causes).cloned().collect()
    }

    /// Changes without an outcome.
    pub(crate) fn open_changes(&self) -> impl Iterator<Item = (&TrackedObject, &Change)> {
        self.open
            .iter()
            .filter_map(|uid| self.get(uid))
            .flat_map(|object| object.changes.iter().map(move |change| (object, change)))
            .filter(|(_, change)| change.convergence.is_open())
    }

    /// Deletions of owners whose dependents exist: the garbage collector will delete those. It may take
    /// a minute for kinds that it has only just discovered. A dependent with several owners counts for
    /// the first of them, once all that are tracked were deleted.
    pub(crate) fn deletions_with_dependents(&self) -> impl Iterator<Item = &Change> {
        let is_collected = |owner: &Uid, dependent: &Uid| {
            let owners = self.get(dependent).into_iter().flat_map(TrackedObject::owners);
            let mut tracked = owners.filter_map(|owner| self.get(&owner.uid)).peekable();
            tracked.peek().is_some_and(|first| first.uid() == owner)
                && tracked.all(|owner| owner.gone.is_some())
        };
        let owners = self.dependents.deleted_owners(is_collected);
        owners.filter_map(|owner| self.get(owner)?.deletion())
    }

    /// The objects that a watch reported last. Looks at every object: for the end of a list or of a
    /// watch, whose cost grows with the kind in any case.
    pub(crate) fn of_watch(&self, watch: WatchId) -> impl Iterator<Item = &TrackedObject> {
        self.table.values().map(Box::as_ref).filter(move |object| object.watch == watch)
    }

    /// Objects that exist, by kind.
    pub(crate) fn counts(&self) -> &HashMap<GroupKind, i64> {
        &self.counts
    }

    /// The entries that may have changed since the last call; `None` for a forgotten object.
    pub(crate) fn take_dirty(&mut self) -> impl Iterator<Item = (Uid, Option<&TrackedObject>)> {
        let dirty = self.table.take_dirty();
        dirty.into_iter().map(|uid| {
            let object = self.table.get(&uid).map(Box::as_ref);
            (uid, object)
        })
    }

    pub(crate) fn start_recording(&mut self) {
        self.table.start_recording();
    }

    pub(crate) fn mark_all(&mut self) {
        self.table.mark_all();
    }

    /// Inserts an object from a checkpoint. Its changes keep their causes, and it its timer.
    pub(crate) fn restore(&mut self, mut object: Box<TrackedObject>) {
        for change in &mut object.changes {
            change.share_owner_chain(&mut self.interner);
            add_to(&mut self.by_cause, change.cause().cloned(), change.key.clone());
        }
        if object.has_open_change() {
            self.open.insert(object.uid().clone());
        }
        self.timers.extend(object.timer.map(|timer| (timer, object.uid().clone())));
        self.insert(object);
    }

    /// A checkpoint has no order: of several Namespaces of one name the newest comes last.
    pub(crate) fn finish_restoring(&mut self) {
        self.names.sort_by_age(&self.table);
    }

    fn index(&mut self, object: &TrackedObject) {
        let uid = object.uid();
        self.names.insert(object);
        self.by_child.insert(object);
        if is_indexed_by_owner(object) {
            add_to(&mut self.by_owner, controller(object), uid.clone());
        }
        add_to(&mut self.by_scale_target, scale_target(object), uid.clone());
        if object.gone.is_none() {
            self.count(object.kind(), 1);
            self.dependents.add(uid, &owner_uids(object), |owner| is_gone(&self.table, owner));
        } else {
            self.dependents.mark_deleted(uid);
        }
    }

    /// The names of the kinds that an object refers to are indexed from then on.
    fn index_referenced_kinds(&mut self, uid: &Uid) {
        let references = self.table.get(uid).and_then(|object| object.references.as_deref());
        let Some(references) = references else { return };
        let named = references.owners.iter().chain(&references.children);
        let all = references.to.iter().chain(&references.scales).chain(named);
        let kinds: Vec<GroupKind> = all.map(|reference| reference.kind.clone()).collect();
        for kind in kinds {
            self.names.add_kind(&kind, &self.table);
        }
    }

    fn unlink_cause(&mut self, change: &Change) {
        remove_from(&mut self.by_cause, change.cause(), &change.key);
    }

    fn count(&mut self, kind: &GroupKind, step: i64) {
        match self.counts.get_mut(kind) {
            Some(count) => *count += step,
            None => drop(self.counts.insert(kind.clone(), step)),
        }
    }
}
