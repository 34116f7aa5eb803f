//! Reads JSON written by others: what has a wrong type is absent, never a failed object.

use std::{borrow::Cow, fmt};

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use crate::trace::model::time::Timestamp;

/// Something filled field by field from a JSON object.
pub(super) trait Fields<'de> {
    /// Must take exactly one value from `map`.
    fn field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error>;
}

/// Fills from an object; from anything else nothing.
pub(super) struct Fill<'t, T>(pub(super) &'t mut T);

/// Fills from an array's first items; from anything else nothing.
pub(super) struct FillItems<'t, T> {
    pub(super) to: &'t mut Vec<T>,
    pub(super) max: usize,
}

pub(super) fn fill<'de, T: Fields<'de>>(text: &'de str, to: &mut T) -> serde_json::Result<()> {
    let mut reader = serde_json::Deserializer::from_str(text);
    Fill(to).deserialize(&mut reader)?;
    reader.end()
}

/// What neither fills, by type.
macro_rules! pass_over_scalars {
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

impl<'de, T: Fields<'de>> DeserializeSeed<'de> for Fill<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de, T: Fields<'de>> Visitor<'de> for Fill<'_, T> {
    type Value = ();

    pass_over_scalars!();

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key()? {
            self.0.field(&key, &mut map)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

impl<'de, T: Fields<'de> + Default> DeserializeSeed<'de> for FillItems<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de, T: Fields<'de> + Default> Visitor<'de> for FillItems<'_, T> {
    type Value = ();

    pass_over_scalars!();

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while self.to.len() < self.max {
            let mut item = T::default();
            if seq.next_element_seed(Fill(&mut item))?.is_none() {
                return Ok(());
            }
            self.to.push(item);
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// A key of an object, borrowed wherever it has no escapes.
struct Key<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Borrowing;
        impl<'de> Visitor<'de> for Borrowing {
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
        reader.deserialize_str(Borrowing)
    }
}

/// Fields of an object as text, in the order written.
#[derive(Default)]
pub(super) struct Pairs<'de>(pub(super) Vec<(Cow<'de, str>, &'de RawValue)>);

impl<'de> Visitor<'de> for Pairs<'de> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some((Key(key), value)) = map.next_entry()? {
            self.0.push((key, value));
        }
        Ok(self)
    }
}

/// The fields of an object; of anything else none.
pub(super) fn pairs(raw: &RawValue) -> Vec<(Cow<'_, str>, &RawValue)> {
    let mut reader = serde_json::Deserializer::from_str(raw.get());
    reader.deserialize_map(Pairs::default()).map(|pairs| pairs.0).unwrap_or_default()
}

pub(super) fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inside = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if inside.contains('\\') {
        serde_json::from_str(raw.get()).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inside))
    }
}

pub(super) fn boxed(raw: &RawValue) -> Option<Box<str>> {
    text(raw).map(Into::into)
}

pub(super) fn int(raw: &RawValue) -> Option<i64> {
    raw.get().parse().ok()
}

pub(super) fn is_true(raw: &RawValue) -> bool {
    raw.get() == "true"
}

pub(super) fn time(raw: &RawValue) -> Option<Timestamp> {
    Timestamp::parse(&text(raw)?)
}

/// The text cut after `max` characters.
pub(super) fn cut(text: &str, max: usize) -> Box<str> {
    match text.char_indices().nth(max) {
        Some((end, _)) if text.len() > max => text.get(..end).unwrap_or_default().into(),
        _ => text.into(),
    }
}

/// JSON made readable that no JSON reader takes: control characters and half surrogate pairs.
/// The API server writes neither.
pub(super) fn mended(text: &str) -> String {
    let mut mended = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(char) = rest.next() {
        match char {
            '\\' => match rest.next() {
                Some('u') if half_surrogate(rest.as_str()) => {
                    mended.push_str("\\ufffd");
                    rest.by_ref().take(4).for_each(drop);
                }
                Some(escaped) => mended.extend(['\\', escaped]),
                None => {}
            },
            char if char.is_control() => mended.push(' '),
            char => mended.push(char),
        }
    }
    mended
}

fn half_surrogate(digits: &str) -> bool {
    matches!(digits.as_bytes(), [b'd' | b'D', b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F', _, _, ..])
}
