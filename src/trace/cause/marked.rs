//! Finds the owner of an object that has no controller reference, by the marks that its operator
//! leaves (`docs/causes.md`, Marks).

use std::{sync::Arc, time::Duration};

use crate::trace::{
    model::{field_manager::KUBECTL, object::GroupKind, observation::OwnerReference},
    object::{
        change::{Change, MarkedOwner},
        tracked::TrackedObject,
    },
    rules::{OwnerField, Rules},
    state::objects::Objects,
};

/// An owner that was deleted longer ago did not do it: the garbage collector knows no marks.
const DELETED_OWNER_WAIT: Duration = Duration::from_secs(5);

/// What the marks of an object are looked up in.
#[derive(Clone, Copy)]
pub(crate) struct MarkReader<'a> {
    pub(crate) objects: &'a Objects,
    pub(crate) rules: &'a Rules,
}

/// The owner that a mark names.
pub(crate) struct FoundOwner {
    pub(crate) reference: OwnerReference,
    /// The field manager that the owner's controller writes the object with.
    pub(crate) manager: Option<Box<str>>,
}

impl<'a> MarkReader<'a> {
    /// The owner with a change in flight, else the first. `None` where the object has a controller.
    pub(crate) fn find(self, object: &TrackedObject, change: &Change) -> Option<FoundOwner> {
        let mut named = self.owners(object, change);
        let first = named.next()?;
        let is_in_flight = |(owner, _): &(&TrackedObject, Option<Box<str>>)| {
            let mut changes = owner.changes.iter();
            changes.any(|older| older.is_in_flight_at(change.resource_version))
        };
        let (owner, manager) =
            if is_in_flight(&first) { first } else { named.find(is_in_flight).unwrap_or(first) };
        let reference = OwnerReference {
            kind: owner.kind().clone(),
            name: Arc::clone(owner.name()),
            uid: owner.uid().clone(),
            controller: true,
        };
        Some(FoundOwner { reference, manager })
    }

    /// The tracked objects that marks name as the owner, each with the manager of the mark.
    pub(crate) fn owners(
        self,
        object: &'a TrackedObject,
        change: &'a Change,
    ) -> impl Iterator<Item = (&'a TrackedObject, Option<Box<str>>)> {
        let by_mark = marks_of(change).filter_map(move |mark| {
            Some((self.objects.named_lately(object, &mark.owner)?, mark.manager.clone()))
        });
        // A deletion has no writer: people delete what a field names as often as operators do.
        let by_field = (!has_controller(change) && !change.key.is_deletion())
            .then(|| self.objects.naming(object))
            .into_iter()
            .flatten()
            .filter(move |owner| self.is_by_operator(owner, object, change))
            .map(|owner| (owner, writer_of(change).map(Box::from)));
        by_mark.chain(by_field).filter(move |(owner, _)| {
            let is_there =
                owner.gone.is_none_or(|gone| change.received <= gone.plus(DELETED_OWNER_WAIT));
            is_there && owner.uid() != object.uid()
        })
    }

    /// The kinds of the owners that marks may name.
    pub(crate) fn kinds(
        self,
        object: &'a TrackedObject,
        change: &'a Change,
    ) -> impl Iterator<Item = &'a GroupKind> {
        let by_field =
            self.fields_of(object).filter(|_| !has_controller(change) && !change.key.is_deletion());
        marks_of(change).map(|mark| &mark.owner.kind).chain(by_field.map(|field| &field.owner))
    }

    fn fields_of(self, child: &'a TrackedObject) -> impl Iterator<Item = &'a OwnerField> {
        let fields = self.rules.owner_fields.iter();
        fields.filter(|field| field.child.as_ref().is_some_and(|kind| kind == child.kind()))
    }

    /// Whether a change of a child that a field of `owner` names is the doing of the owner's
    /// controller: people make such objects too.
    fn is_by_operator(self, owner: &TrackedObject, child: &TrackedObject, change: &Change) -> bool {
        let is_row = |field: &&OwnerField| {
            field.owner == *owner.kind()
                && field.child.as_ref().is_none_or(|kind| kind == child.kind())
        };
        let Some(row) = self.rules.owner_fields.iter().find(is_row) else { return false };
        let Some(writer) = writer_of(change) else { return row.managers.is_empty() };
        match &owner.service {
            _ if !row.managers.is_empty() => {
                row.managers.iter().any(|manager| **manager == *writer)
            }
            Some(controller) => **controller == *writer,
            None => !writer.starts_with(KUBECTL),
        }
    }
}

fn writer_of(change: &Change) -> Option<&str> {
    Some(&*change.report()?.manager.as_ref()?.name)
}

fn has_controller(change: &Change) -> bool {
    change.controller().is_some()
}

/// The marks that a controller wrote: a person who writes one means something else by it, or has
/// copied it with the object.
fn marks_of(change: &Change) -> impl Iterator<Item = &MarkedOwner> {
    let marks = change.report().map(|report| &report.owner_marks);
    let by_person =
        |mark: &MarkedOwner| mark.manager.as_ref().is_some_and(|name| name.starts_with(KUBECTL));
    marks.into_iter().flatten().filter(move |mark| !has_controller(change) && !by_person(mark))
}
