//! Reads one field of an object by its path, and nothing beside it.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::{
    body::{find, items},
    lenient::{cut, pairs, text},
};
use crate::trace::model::path::Segment;

/// Items of a list that are looked through.
const MAX_ITEMS: usize = 256;
/// Of a word; longer ones are cut.
const MAX_WORD: usize = 256;
/// By which lists tell their items apart.
const KEYS: [&str; 4] = ["type", "name", "key", "id"];

/// The scalar at `path` below `value`, as text: `Healthy`, `true`, `3`. `None`: there is nothing, or
/// something else.
pub(super) fn word(value: &RawValue, path: &[Segment<'_>]) -> Option<Box<str>> {
    let value = path.iter().try_fold(value, |at, segment| step(at, *segment))?;
    match value.get().as_bytes().first()? {
        b'{' | b'[' | b'n' => None,
        b'"' => text(value).map(|text| cut(&text, MAX_WORD)),
        _ => Some(cut(value.get(), MAX_WORD)),
    }
}

fn step<'de>(value: &'de RawValue, segment: Segment<'_>) -> Option<&'de RawValue> {
    let key = segment.name();
    if !value.get().starts_with('[') {
        return find(&pairs(value), key);
    }
    items(value, MAX_ITEMS).into_iter().find(|item| {
        let fields = pairs(item);
        KEYS.iter().any(|name| find(&fields, name).is_some_and(|own| scalar(own) == key))
    })
}

fn scalar(raw: &RawValue) -> Cow<'_, str> {
    text(raw).unwrap_or_else(|| raw.get().into())
}
