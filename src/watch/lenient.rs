//! Reads JSON leniently: what is of a wrong type is absent, however deep or large it is.
//!
//! Values are handed on as raw text, which is skipped without recursion: ten thousand levels of
//! nesting are as good as one.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer as _,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// Calls `each` with every field of an object; does nothing with anything else.
pub(super) fn each_field<'a>(json: &'a str, each: impl FnMut(&str, &'a RawValue)) {
    struct Fields<F>(F);
    impl<'de, F: FnMut(&str, &'de RawValue)> Visitor<'de> for Fields<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
            while let Some(Text(key)) = map.next_key()? {
                (self.0)(&key, map.next_value()?);
            }
            Ok(())
        }
    }
    serde_json::Deserializer::from_str(json).deserialize_map(Fields(each)).ok();
}

/// Calls `each` with the first `most` items of an array; does nothing with anything else.
pub(super) fn each_item<'a>(json: &'a str, most: usize, each: impl FnMut(&'a RawValue)) {
    struct Items<F>(F, usize);
    impl<'de, F: FnMut(&'de RawValue)> Visitor<'de> for Items<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
            let mut read = 0;
            while let Some(item) = items.next_element()? {
                if read < self.1 {
                    (self.0)(item);
                }
                read += 1;
            }
            Ok(())
        }
    }
    serde_json::Deserializer::from_str(json).deserialize_seq(Items(each, most)).ok();
}

/// Borrows where there is nothing to unescape.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

pub(super) fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text<'_>>(raw.get()).ok().map(|text| text.0)
}

pub(super) fn boxed(raw: &RawValue) -> Option<Box<str>> {
    text(raw).map(Box::from)
}

/// At most `most` characters of it.
pub(super) fn cut(raw: &RawValue, most: usize) -> Option<Box<str>> {
    let text = text(raw)?;
    let end = text.char_indices().nth(most).map_or(text.len(), |(at, _)| at);
    text.get(..end).map(Box::from)
}

pub(super) fn int(raw: &RawValue) -> Option<i64> {
    raw.get().parse().ok()
}

pub(super) fn is_true(raw: &RawValue) -> bool {
    raw.get() == "true"
}
