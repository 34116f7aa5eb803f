//! Reads marks by which operators show what belongs to an object of theirs (`docs/causes.md`, Marks).

use std::{borrow::Cow, sync::Arc};

use serde_json::value::RawValue;

use super::{
    field,
    json::{RawField, find, text},
    wire::RawObject,
};
use crate::{
    config::settings::{OwnerMarkSettings, OwnerSettings, WatchSettings},
    trace::model::{
        object::GroupKind,
        observation::{OwnerMark, OwnerReference, Reference},
        path::{Segment, segments},
    },
};

/// Owners read of one mark, which may be a list of names.
const MAX_OWNERS_OF_MARK: usize = 16;

/// Without a controller reference, the first reference that `causes.owners` names is one.
pub(super) fn promote_reference(
    owners: &mut [OwnerReference],
    kind: &GroupKind,
    settings: &WatchSettings,
) {
    if owners.is_empty() || owners.iter().any(|owner| owner.controller) {
        return;
    }
    let by_reference = || {
        let is_by_reference =
            |row: &&OwnerSettings| matches!(row.mark, OwnerMarkSettings::Reference);
        settings.owners.iter().filter(is_by_reference).filter(|row| is_of(row, kind))
    };
    let is_owner = |owner: &&mut OwnerReference| {
        by_reference().any(|row| {
            let selector = row.owner.as_ref();
            selector.is_some_and(|of| of.selects(&owner.kind.group, &owner.kind.kind))
        })
    };
    if let Some(owner) = owners.iter_mut().find(is_owner) {
        owner.controller = true;
    }
}

fn is_of(row: &OwnerSettings, kind: &GroupKind) -> bool {
    row.child.as_ref().is_none_or(|child| child.selects(&kind.group, &kind.kind))
}

/// An object that may have marks.
pub(super) struct Marked<'a, 'de> {
    pub(super) object: &'a RawObject<'de>,
    pub(super) kind: &'a GroupKind,
    pub(super) labels: &'a [RawField<'de>],
    pub(super) annotations: &'a [RawField<'de>],
}

impl Marked<'_, '_> {
    /// The owners that the marks of `causes.owners` name.
    pub(super) fn owners(&self, settings: &WatchSettings) -> Vec<OwnerMark> {
        let rows = settings.owners.iter().filter(|row| is_of(row, self.kind));
        rows.flat_map(|row| match &row.mark {
            OwnerMarkSettings::Name { name, namespace, kind } => {
                self.owners_by_name(row, name, namespace.as_deref(), kind.as_deref())
            }
            OwnerMarkSettings::Reference | OwnerMarkSettings::Field { .. } => Vec::new(),
        })
        .take(MAX_OWNERS_OF_MARK)
        .collect()
    }

    fn owners_by_name(
        &self,
        row: &OwnerSettings,
        name_path: &str,
        namespace: Option<&str>,
        kind: Option<&str>,
    ) -> Vec<OwnerMark> {
        let Some(names) = self.text_at(name_path) else { return Vec::new() };
        let Some(kind) = self.owner_kind(row, kind) else { return Vec::new() };
        let namespace = match namespace {
            Some(path) if path.contains(['.', '[']) => self.text_at(path),
            literal => literal.map(Cow::Borrowed),
        };
        let owner = |named: &str| {
            let (own_namespace, name) = split_name(named)?;
            let namespace = own_namespace.or(namespace.as_deref());
            Some(OwnerMark {
                owner: Reference {
                    kind: kind.clone(),
                    namespace: namespace.map(Arc::from),
                    name: Arc::from(name),
                },
                path: name_path.into(),
            })
        };
        names.split(',').filter_map(owner).collect()
    }

    fn owner_kind(&self, row: &OwnerSettings, kind: Option<&str>) -> Option<GroupKind> {
        let group = row.owner.as_ref().map_or(&*self.kind.group, |owner| &*owner.group);
        let named = row.owner.as_ref().and_then(|owner| owner.kind.as_deref());
        match named {
            Some(kind) => Some(GroupKind::new(group, kind)),
            None => Some(GroupKind::new(group, &self.text_at(kind?)?)),
        }
    }

    fn text_at(&self, path: &str) -> Option<Cow<'_, str>> {
        text(self.value_at(path)?).filter(|text| !text.is_empty())
    }

    fn value_at(&self, path: &str) -> Option<&RawValue> {
        let path = segments(path);
        match &*path {
            [Segment::Field("metadata"), Segment::Field("labels"), key] => {
                find(self.labels, key.name())
            }
            [Segment::Field("metadata"), Segment::Field("annotations"), key] => {
                find(self.annotations, key.name())
            }
            [first, rest @ ..] => {
                let first = self.object.content_field(first.name())?;
                rest.iter().try_fold(first, |value, segment| field::child(value, *segment))
            }
            [] => None,
        }
    }
}

/// The namespace, where the mark has one, and the name of an owner. Argo CD writes
/// `namespace_name:group/kind:…`; neither `_` nor `:` can be part of a name.
fn split_name(mark: &str) -> Option<(Option<&str>, &str)> {
    let mark = mark.split(':').next()?.trim();
    let (namespace, name) = match mark.split_once('_') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, mark),
    };
    (!name.is_empty()).then_some((namespace, name))
}
