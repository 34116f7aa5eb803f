//! Deserialises options from layered values, whose scalars are all texts.

use std::collections::BTreeMap;

use config::{Value, ValueKind};
use serde::{
    Deserializer,
    de::{
        Error as _, IntoDeserializer, Unexpected, Visitor,
        value::{Error, MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};

/// One value. The option decides how its text is parsed.
pub(super) struct OptionValue(pub(super) Value);

impl OptionValue {
    fn parse<T: std::str::FromStr>(self, expected: &str) -> Result<T, Error> {
        match self.0.kind {
            ValueKind::String(text) => text
                .parse()
                .map_err(|_malformed| Error::custom(format!("{text:?} is not {expected}"))),
            other => Err(Error::invalid_type(unexpected(&other), &expected)),
        }
    }
}

fn unexpected(kind: &ValueKind) -> Unexpected<'_> {
    match kind {
        ValueKind::String(text) => Unexpected::Str(text),
        ValueKind::Array(_) => Unexpected::Seq,
        ValueKind::Table(_) => Unexpected::Map,
        _ => Unexpected::Unit,
    }
}

impl IntoDeserializer<'_, Error> for OptionValue {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! deserialize_whole_numbers {
    ($($method:ident $visit:ident;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.$visit(self.parse("a whole number that is not negative")?)
        }
    )*};
}

impl<'de> Deserializer<'de> for OptionValue {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.kind {
            ValueKind::String(text) => visitor.visit_string(text),
            ValueKind::Array(items) => {
                visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(OptionValue)))
            }
            ValueKind::Table(table) => {
                // The table is unordered. The same mistakes shall give the same message each time.
                let sorted: BTreeMap<String, Value> = table.into_iter().collect();
                let options = sorted.into_iter().map(|(name, value)| (name, Self(value)));
                visitor.visit_map(MapDeserializer::new(options))
            }
            _ => visitor.visit_unit(),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.kind {
            ValueKind::Nil => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let ValueKind::String(text) = &self.0.kind else {
            return Err(Error::invalid_type(unexpected(&self.0.kind), &"true or false"));
        };
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => visitor.visit_bool(true),
            "false" | "no" | "off" | "0" => visitor.visit_bool(false),
            _ => Err(Error::custom(format!("{text:?} is neither true nor false"))),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_f64(self.parse("a number")?)
    }

    deserialize_whole_numbers! {
        deserialize_u32 visit_u32;
        deserialize_u64 visit_u64;
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    /// The options of a map. A text instead of them is not repeated: it may have credentials.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0.kind {
            ValueKind::String(_) => Err(Error::invalid_type(Unexpected::Other("text"), &visitor)),
            _ => self.deserialize_any(visitor),
        }
    }

    /// Every enum of the options is a list of names.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0.kind {
            ValueKind::String(text) => visitor.visit_enum(text.into_deserializer()),
            other => Err(Error::invalid_type(unexpected(&other), &"one word")),
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 u8 u16 f32 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}
