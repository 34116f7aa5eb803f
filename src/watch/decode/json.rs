//! Reads JSON leniently: a field of the wrong type is absent and never fails its object.
//!
//! Values stay [`RawValue`]s, slices of the received text, until a caller asks for one of them.

use std::{borrow::Cow, fmt};

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use crate::trace::model::time::Timestamp;

/// A struct that is filled field by field from a JSON object.
pub(super) trait ReadField<'de> {
    /// Stores the value of `key`, or skips it; takes exactly one value from `map`.
    fn read_field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error>;
}

/// Fills the target from a JSON object and ignores any other JSON value.
pub(super) struct ObjectSeed<'t, T>(pub(super) &'t mut T);

/// Appends the first `max` items of a JSON array and ignores any other JSON value.
pub(super) struct ArraySeed<'t, T> {
    pub(super) target: &'t mut Vec<T>,
    pub(super) max: usize,
}

/// Fills `target` from the text of a JSON object. After an error, the fields read so far stay.
pub(super) fn read_object<'de, T: ReadField<'de>>(
    text: &'de str,
    target: &mut T,
) -> serde_json::Result<()> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    ObjectSeed(target).deserialize(&mut deserializer)?;
    deserializer.end()
}

pub(super) fn skip_value<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(drop)
}

/// Visitor methods for the JSON types that neither seed reads.
macro_rules! ignore_scalars {
    () => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("JSON")
        }
        fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
            Ok(())
        }
        fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
            Ok(())
        }
        fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
            Ok(())
        }
        fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
            Ok(())
        }
        fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
            Ok(())
        }
        fn visit_unit<E: Error>(self) -> Result<(), E> {
            Ok(())
        }
    };
}

impl<'de, T: ReadField<'de>> DeserializeSeed<'de> for ObjectSeed<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: ReadField<'de>> Visitor<'de> for ObjectSeed<'_, T> {
    type Value = ();

    ignore_scalars!();

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key()? {
            self.0.read_field(&key, &mut map)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        while array.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

impl<'de, T: ReadField<'de> + Default> DeserializeSeed<'de> for ArraySeed<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: ReadField<'de> + Default> Visitor<'de> for ArraySeed<'_, T> {
    type Value = ();

    ignore_scalars!();

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        while self.target.len() < self.max {
            let mut item = T::default();
            if array.next_element_seed(ObjectSeed(&mut item))?.is_none() {
                return Ok(());
            }
            self.target.push(item);
        }
        while array.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// An object key, borrowed from the text unless it contains escapes.
struct Key<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E: Error>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }
            fn visit_str<E: Error>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

/// One field of a JSON object: its key, and its value as unparsed text.
pub(super) type RawField<'de> = (Cow<'de, str>, &'de RawValue);

/// The fields of a JSON object in the order written; empty for any other value.
pub(super) fn fields_of(raw: &RawValue) -> Vec<RawField<'_>> {
    struct FieldsVisitor;
    impl<'de> Visitor<'de> for FieldsVisitor {
        type Value = Vec<RawField<'de>>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut fields = Vec::new();
            while let Some((Key(key), value)) = map.next_entry()? {
                fields.push((key, value));
            }
            Ok(fields)
        }
    }
    let mut deserializer = serde_json::Deserializer::from_str(raw.get());
    deserializer.deserialize_map(FieldsVisitor).unwrap_or_default()
}

/// The first `max` items of a JSON array; empty for any other value.
pub(super) fn items_of(raw: &RawValue, max: usize) -> Vec<&RawValue> {
    struct ItemsVisitor {
        max: usize,
    }
    impl<'de> Visitor<'de> for ItemsVisitor {
        type Value = Vec<&'de RawValue>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
            let mut items = Vec::new();
            while items.len() < self.max {
                match array.next_element()? {
                    Some(item) => items.push(item),
                    None => return Ok(items),
                }
            }
            while array.next_element::<IgnoredAny>()?.is_some() {}
            Ok(items)
        }
    }
    let mut deserializer = serde_json::Deserializer::from_str(raw.get());
    deserializer.deserialize_seq(ItemsVisitor { max }).unwrap_or_default()
}

/// The value of `key`. Of duplicate keys the last one counts, as in Go's JSON decoder.
pub(super) fn find<'de>(fields: &[RawField<'de>], key: &str) -> Option<&'de RawValue> {
    fields.iter().rev().find(|(name, _)| name == key).map(|(_, value)| *value)
}

pub(super) fn find_text<'de>(fields: &[RawField<'de>], key: &str) -> Option<Cow<'de, str>> {
    find(fields, key).and_then(text)
}

/// The fields of the object at `key`; empty when the value is absent or not an object.
pub(super) fn find_fields<'de>(fields: &[RawField<'de>], key: &str) -> Vec<RawField<'de>> {
    find(fields, key).map(fields_of).unwrap_or_default()
}

/// A JSON string, unescaped.
pub(super) fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inside = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if inside.contains('\\') {
        serde_json::from_str(raw.get()).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inside))
    }
}

pub(super) fn boxed_text(raw: &RawValue) -> Option<Box<str>> {
    text(raw).map(Into::into)
}

pub(super) fn non_empty_text(raw: &RawValue) -> Option<Cow<'_, str>> {
    text(raw).filter(|text| !text.is_empty())
}

pub(super) fn integer(raw: &RawValue) -> Option<i64> {
    raw.get().parse().ok()
}

/// An integer, also one that is written as a text.
pub(super) fn integer_or_text(raw: &RawValue) -> Option<i64> {
    integer(raw).or_else(|| text(raw)?.parse().ok())
}

pub(super) fn is_true(raw: &RawValue) -> bool {
    raw.get() == "true"
}

/// An RFC 3339 time.
pub(super) fn timestamp(raw: &RawValue) -> Option<Timestamp> {
    Timestamp::parse(&text(raw)?)
}

/// The first `max` characters of `text`.
pub(super) fn truncate(text: &str, max: usize) -> Box<str> {
    match text.char_indices().nth(max) {
        Some((end, _)) if text.len() > max => text.get(..end).unwrap_or_default().into(),
        _ => text.into(),
    }
}

/// The group of an `apiVersion`; empty for the core group.
pub(super) fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// Replaces control characters and lone surrogates, which make a JSON parser refuse the text.
///
/// The API server writes neither, but an aggregated API server may.
pub(super) fn repair(text: &str) -> String {
    let mut repaired = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(char) = rest.next() {
        match char {
            '\\' => match rest.next() {
                Some('u') if is_surrogate(rest.as_str()) => {
                    repaired.push_str("\\ufffd");
                    rest.by_ref().take(4).for_each(drop);
                }
                Some(escaped) => repaired.extend(['\\', escaped]),
                None => {}
            },
            char if char.is_control() => repaired.push(' '),
            char => repaired.push(char),
        }
    }
    repaired
}

/// Whether the four digits after `\u` are one half of a surrogate pair.
fn is_surrogate(digits: &str) -> bool {
    matches!(digits.as_bytes(), [b'd' | b'D', b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F', _, _, ..])
}
