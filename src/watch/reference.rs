//! Reads fields that name other objects: those that are configured, and what an autoscaler scales.

use std::{borrow::Cow, sync::Arc};

use super::{
    body::{Pair, find, find_text, items},
    decode::{Wire, group_of},
    lenient::{pairs, text},
};
use crate::{
    config::settings::{KindSelector, WatchSettings},
    trace::model::{object::GroupKind, observation::Reference},
};

/// References read of one field.
const MAX_REFERENCES: usize = 16;

/// What configured fields of the object name.
pub(super) fn read(wire: &Wire<'_>, kind: &GroupKind, settings: &WatchSettings) -> Vec<Reference> {
    let of_this_kind = settings
        .references
        .iter()
        .filter(|reference| reference.from.selects(&kind.group, &kind.kind));
    of_this_kind
        .flat_map(|reference| named_by(wire, &reference.field, reference.to.as_ref()))
        .collect()
}

/// What an autoscaler scales.
pub(super) fn scale_target(wire: &Wire<'_>, kind: &GroupKind) -> Option<Reference> {
    if !kind.is("autoscaling", "HorizontalPodAutoscaler") {
        return None;
    }
    named_by(wire, "spec.scaleTargetRef", None).pop()
}

fn named_by(wire: &Wire<'_>, field: &str, to: Option<&KindSelector>) -> Vec<Reference> {
    let mut segments = field.split('.');
    let first = segments.next().and_then(|first| wire.content(first));
    let Some(value) =
        segments.try_fold(first, |at, segment| Some(find(&pairs(at?), segment))).flatten()
    else {
        return Vec::new();
    };
    if value.get().starts_with('[') {
        let items = items(value, MAX_REFERENCES);
        return items.into_iter().filter_map(|item| reference(&pairs(item), to)).collect();
    }
    // Only the name.
    let by_name = text(value).and_then(|name| {
        let to = to?;
        Some(Reference {
            kind: GroupKind::new(&to.group, to.kind.as_deref()?),
            namespace: None,
            name: Arc::from(&*name),
        })
    });
    by_name.or_else(|| reference(&pairs(value), to)).into_iter().collect()
}

/// `apiVersion` or `apiGroup`, `kind`, `name`, `namespace`, as far as they are there.
fn reference(fields: &[Pair<'_>], to: Option<&KindSelector>) -> Option<Reference> {
    let group = match (find_text(fields, "apiVersion"), find_text(fields, "apiGroup")) {
        (Some(version), _) => Cow::Owned(group_of(&version).to_owned()),
        (None, Some(group)) => group,
        (None, None) => Cow::Borrowed(to.map_or("", |to| to.group.as_str())),
    };
    let kind = find_text(fields, "kind")
        .or_else(|| to.and_then(|to| to.kind.as_deref()).map(Cow::Borrowed))?;
    Some(Reference {
        kind: GroupKind::new(&group, &kind),
        namespace: find_text(fields, "namespace").map(|namespace| Arc::from(&*namespace)),
        name: Arc::from(&*find_text(fields, "name")?),
    })
}
