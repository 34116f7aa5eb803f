//! Reads fields that name other objects: configured references, and the target of an autoscaler.

use std::{borrow::Cow, sync::Arc};

use super::{
    json::{RawField, fields_of, find, find_text, group_of, items_of, text},
    wire::RawObject,
};
use crate::{
    config::settings::{KindSelector, OwnerMarkSettings, WatchSettings},
    trace::model::{object::GroupKind, observation::Reference},
};

/// References read of one field.
const MAX_REFERENCES: usize = 16;

/// The objects named by the fields that `causes.references` configures for this kind.
pub(super) fn read(
    object: &RawObject<'_>,
    kind: &GroupKind,
    settings: &WatchSettings,
) -> Vec<Reference> {
    let of_this_kind = settings
        .references
        .iter()
        .filter(|reference| reference.from.selects(&kind.group, &kind.kind));
    of_this_kind
        .flat_map(|reference| references_at(object, &reference.field, reference.to.as_ref()))
        .collect()
}

/// The object that a `HorizontalPodAutoscaler` scales.
pub(super) fn read_scale_target(object: &RawObject<'_>, kind: &GroupKind) -> Option<Reference> {
    if !kind.is("autoscaling", "HorizontalPodAutoscaler") {
        return None;
    }
    references_at(object, "spec.scaleTargetRef", None).pop()
}

/// The objects that the fields of `causes.owners` name as the children of this one.
pub(super) fn read_children(
    object: &RawObject<'_>,
    kind: &GroupKind,
    settings: &WatchSettings,
) -> Vec<Reference> {
    let of_this_kind = settings.owners.iter().filter(|row| {
        row.owner.as_ref().is_some_and(|owner| owner.selects(&kind.group, &kind.kind))
    });
    of_this_kind
        .filter_map(|row| match &row.mark {
            OwnerMarkSettings::Field { field, .. } => Some((field, row.child.as_ref())),
            OwnerMarkSettings::Reference | OwnerMarkSettings::Name { .. } => None,
        })
        .flat_map(|(field, child)| references_at(object, field, child))
        .collect()
}

/// Reads a reference, a list of references, or the bare name of an object of kind `target`.
fn references_at(
    object: &RawObject<'_>,
    field: &str,
    target: Option<&KindSelector>,
) -> Vec<Reference> {
    let mut segments = field.split('.');
    let first = segments.next().and_then(|first| object.content_field(first));
    let Some(value) = segments
        .try_fold(first, |value, segment| Some(find(&fields_of(value?), segment)))
        .flatten()
    else {
        return Vec::new();
    };
    if value.get().starts_with('[') {
        let items = items_of(value, MAX_REFERENCES);
        return items.into_iter().filter_map(|item| reference(&fields_of(item), target)).collect();
    }
    let by_name = text(value).and_then(|name| {
        let target = target?;
        Some(Reference {
            kind: GroupKind::new(&target.group, target.kind.as_deref()?),
            namespace: None,
            name: Arc::from(&*name),
        })
    });
    by_name.or_else(|| reference(&fields_of(value), target)).into_iter().collect()
}

/// Reads `apiVersion` or `apiGroup`, `kind`, `name` and `namespace`; `target` stands in for an
/// absent group or kind.
fn reference(fields: &[RawField<'_>], target: Option<&KindSelector>) -> Option<Reference> {
    let group = match (find_text(fields, "apiVersion"), find_text(fields, "apiGroup")) {
        (Some(version), _) => Cow::Owned(group_of(&version).to_owned()),
        (None, Some(group)) => group,
        (None, None) => Cow::Borrowed(target.map_or("", |target| target.group.as_str())),
    };
    let kind = find_text(fields, "kind")
        .or_else(|| target.and_then(|target| target.kind.as_deref()).map(Cow::Borrowed))?;
    Some(Reference {
        kind: GroupKind::new(&group, &kind),
        namespace: find_text(fields, "namespace").map(|namespace| Arc::from(&*namespace)),
        name: Arc::from(&*find_text(fields, "name")?),
    })
}
