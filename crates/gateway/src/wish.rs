//! Fields that are known and of which nothing but the default is done. Whoever asks for more is told so, as of a field that
//! nobody knows.

use crate::known::Known;
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned, MapAccess, SeqAccess, Visitor},
};
use std::fmt;
use utoipa::openapi::{Object, ObjectBuilder, schema::SchemaType};

/// What the API's description says of such a field.
pub fn schema() -> Object {
    let text = "Taken. Only the default is done: other values have no effect and are named in `x-kontor-ignored-fields`.";
    ObjectBuilder::new().schema_type(SchemaType::AnyValue).description(Some(text)).build()
}

/// A body that may ask for what is known and not done.
pub trait Unmet: DeserializeOwned {
    /// Paths of the fields that do.
    fn unmet(&self) -> Vec<&'static str> {
        Vec::new()
    }
}

/// The names of those that hold.
pub fn named<const N: usize>(all: [(&'static str, bool); N]) -> Vec<&'static str> {
    all.into_iter().filter_map(|(name, unmet)| unmet.then_some(name)).collect()
}

/// What is asked for, as far as it matters; kept small, whatever was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// `null`, `false`, 0, or an empty text, list or object.
    Nothing,
    /// A text, or a list of one.
    Word(String),
    Something,
}

impl Wish {
    fn of(something: bool) -> Self {
        if something { Self::Something } else { Self::Nothing }
    }
}

/// Whether more is asked for than nothing or one of these words, which mean what is done anyway.
pub fn beyond(wish: Option<&Wish>, usual: &[&str]) -> bool {
    match wish {
        None | Some(Wish::Nothing) => false,
        Some(Wish::Word(word)) => !usual.contains(&word.as_str()),
        Some(Wish::Something) => true,
    }
}

/// The same of a field that is text.
pub fn other_than(text: Option<&str>, usual: &[&str]) -> bool {
    text.is_some_and(|text| !usual.contains(&text))
}

impl<'de> Deserialize<'de> for Wish {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything)
    }
}

struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = Wish;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_bool<E: de::Error>(self, wanted: bool) -> Result<Wish, E> {
        Ok(Wish::of(wanted))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Wish, E> {
        Ok(Wish::of(number != 0))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Wish, E> {
        Ok(Wish::of(number != 0))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Wish, E> {
        Ok(Wish::of(number != 0.0))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Wish, E> {
        Ok(if text.is_empty() { Wish::Nothing } else { Wish::Word(text.to_owned()) })
    }

    fn visit_unit<E: de::Error>(self) -> Result<Wish, E> {
        Ok(Wish::Nothing)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Wish, A::Error> {
        let Some(first) = values.next_element::<Wish>()? else { return Ok(Wish::Nothing) };
        let mut alone = true;
        while values.next_element::<Known>()?.is_some() {
            alone = false;
        }
        Ok(match first {
            Wish::Word(word) if alone => Wish::Word(word),
            _ => Wish::Something,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut values: A) -> Result<Wish, A::Error> {
        let mut something = false;
        while values.next_entry::<Known, Known>()?.is_some() {
            something = true;
        }
        Ok(Wish::of(something))
    }
}

#[cfg(test)]
mod tests {
    use super::{Wish, beyond, named, other_than};
    use serde_json::json;

    #[test]
    fn more_than_the_default_is_a_wish() {
        let cases = [
            (json!(null), false),
            (json!(false), false),
            (json!(0), false),
            (json!(0.0), false),
            (json!(""), false),
            (json!([]), false),
            (json!({}), false),
            (json!("auto"), false),
            (json!(["auto"]), false),
            (json!(true), true),
            (json!(-1), true),
            (json!(2), true),
            (json!(0.5), true),
            (json!("flex"), true),
            (json!(["flex"]), true),
            (json!(["auto", "flex"]), true),
            (json!([null]), true),
            (json!([["auto"], 1]), true),
            (json!({ "type": "auto" }), true),
        ];
        for (value, expected) in cases {
            let wish: Option<Wish> = serde_json::from_value(value.clone()).unwrap();
            assert_eq!(beyond(wish.as_ref(), &["auto"]), expected, "{value}");
        }
        assert!(!other_than(None, &["auto"]) && !other_than(Some("auto"), &["auto"]) && other_than(Some("flex"), &["auto"]));
        assert_eq!(named([("a", true), ("b", false)]), ["a"]);
    }
}
