//! Reads one configured field of an object by its path, without parsing the fields beside it.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::json::{fields_of, find, items_of, text, truncate};
use crate::trace::model::path::Segment;

/// Items of a list that are searched for the one a path names.
const MAX_ITEMS: usize = 256;
/// Longer values are truncated to this many characters.
const MAX_VALUE: usize = 256;
/// Fields that commonly identify the items of a list.
const KEY_FIELDS: [&str; 4] = ["type", "name", "key", "id"];

/// The scalar at `path` below `value`, as text: `Healthy`, `true`, `3`. `None` when the field is
/// absent, null, an object or an array.
pub(super) fn scalar_at(value: &RawValue, path: &[Segment<'_>]) -> Option<Box<str>> {
    let value = path.iter().try_fold(value, |value, segment| child(value, *segment))?;
    match value.get().as_bytes().first()? {
        b'{' | b'[' | b'n' => None,
        b'"' => text(value).map(|text| truncate(&text, MAX_VALUE)),
        _ => Some(truncate(value.get(), MAX_VALUE)),
    }
}

pub(super) fn child<'de>(value: &'de RawValue, segment: Segment<'_>) -> Option<&'de RawValue> {
    let key = segment.name();
    if !value.get().starts_with('[') {
        return find(&fields_of(value), key);
    }
    items_of(value, MAX_ITEMS).into_iter().find(|item| {
        let fields = fields_of(item);
        KEY_FIELDS.iter().any(|name| find(&fields, name).is_some_and(|id| as_text(id) == key))
    })
}

fn as_text(raw: &RawValue) -> Cow<'_, str> {
    text(raw).unwrap_or_else(|| raw.get().into())
}
