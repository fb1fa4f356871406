//! What becomes vectors, in all shapes that OpenAI has for it.

use inference::EmbedInput;
use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Unexpected, Visitor},
};
use std::fmt;
use utoipa::openapi::{
    Array, Schema, Type,
    schema::{AnyOfBuilder, ObjectBuilder},
};

/// What the API's description says of [`Inputs`].
pub fn schema() -> Schema {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let token = || ObjectBuilder::new().schema_type(Type::Integer);
    let shapes = AnyOfBuilder::new().item(text()).item(Array::new(text())).item(Array::new(token()));
    shapes.item(Array::new(Array::new(token()))).build().into()
}

/// One input or several: a text, texts, the tokens of a text, or the tokens of several.
#[derive(Debug)]
pub struct Inputs(pub Vec<EmbedInput>);

impl<'de> Deserialize<'de> for Inputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Whole)
    }
}

struct Whole;

impl<'de> Visitor<'de> for Whole {
    type Value = Inputs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, or an array of strings, of token ids or of arrays of token ids")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Inputs, E> {
        Ok(Inputs(vec![EmbedInput::Text(text.to_owned())]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Inputs, A::Error> {
        let (mut inputs, mut tokens) = (Vec::new(), Vec::new());
        while let Some(element) = elements.next_element()? {
            match element {
                Element::Input(input) => inputs.push(input),
                Element::Token(token) => tokens.push(token),
            }
        }
        match (inputs.is_empty(), tokens.is_empty()) {
            (_, true) => Ok(Inputs(inputs)),
            (true, false) => Ok(Inputs(vec![EmbedInput::Tokens(tokens)])),
            (false, false) => Err(de::Error::custom("token ids are one input, and other inputs cannot stand beside them")),
        }
    }
}

/// An input, or a token of the only one.
enum Element {
    Input(EmbedInput),
    Token(u32),
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Part)
    }
}

struct Part;

impl<'de> Visitor<'de> for Part {
    type Value = Element;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a token id or an array of token ids")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Element, E> {
        Ok(Element::Input(EmbedInput::Text(text.to_owned())))
    }

    fn visit_u64<E: de::Error>(self, token: u64) -> Result<Element, E> {
        u32::try_from(token).map(Element::Token).map_err(|_| E::invalid_value(Unexpected::Unsigned(token), &self))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Element, A::Error> {
        let mut tokens = Vec::new();
        while let Some(token) = elements.next_element()? {
            tokens.push(token);
        }
        Ok(Element::Input(EmbedInput::Tokens(tokens)))
    }
}

#[cfg(test)]
mod tests {
    use super::Inputs;
    use inference::EmbedInput;

    fn read(json: &str) -> Result<Vec<EmbedInput>, String> {
        serde_json::from_str::<Inputs>(json).map(|inputs| inputs.0).map_err(|error| error.to_string())
    }

    #[test]
    fn all_four_shapes_are_taken() {
        let text = |text: &str| EmbedInput::Text(text.into());
        assert_eq!(read(r#""a""#), Ok(vec![text("a")]));
        assert_eq!(read(r#"["a","b"]"#), Ok(vec![text("a"), text("b")]));
        assert_eq!(read("[1,2,3]"), Ok(vec![EmbedInput::Tokens(vec![1, 2, 3])]));
        assert_eq!(read("[[1,2],[3]]"), Ok(vec![EmbedInput::Tokens(vec![1, 2]), EmbedInput::Tokens(vec![3])]));
        assert_eq!(read("[]"), Ok(Vec::new()));
    }

    #[test]
    fn what_is_none_of_them_is_refused_in_words() {
        let cases = [
            ("7", "expected a string, or an array of strings, of token ids or of arrays of token ids"),
            ("[1.5]", "expected a string, a token id or an array of token ids"),
            ("[-1]", "expected a string, a token id or an array of token ids"),
            ("[4294967296]", "expected a string, a token id or an array of token ids"),
            (r#"[["a"]]"#, "expected u32"),
            (r#"[1,"a"]"#, "cannot stand beside them"),
        ];
        for (json, expected) in cases {
            let told = read(json).unwrap_err();
            assert!(told.contains(expected), "{json}: {told}");
        }
    }
}
