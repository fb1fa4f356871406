//! Values of fields that are known and have no meaning here.

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use std::fmt;
use utoipa::openapi::{Object, ObjectBuilder, schema::SchemaType};

/// What the API's description says of such a field.
pub fn schema() -> Object {
    ObjectBuilder::new().schema_type(SchemaType::AnyValue).description(Some("Taken, and without effect.")).build()
}

/// Takes any value. Unlike `serde::de::IgnoredAny` it does not count as unknown.
#[derive(Clone, Copy, Debug)]
pub struct Known;

impl<'de> Deserialize<'de> for Known {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything)
    }
}

struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = Known;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Known, E> {
        Ok(Known)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Known, E> {
        Ok(Known)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Known, E> {
        Ok(Known)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Known, E> {
        Ok(Known)
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Known, E> {
        Ok(Known)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Known, E> {
        Ok(Known)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Known, A::Error> {
        while values.next_element::<Known>()?.is_some() {}
        Ok(Known)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut values: A) -> Result<Known, A::Error> {
        while values.next_entry::<Known, Known>()?.is_some() {}
        Ok(Known)
    }
}
