//! What becomes vectors or is gone on from, in all shapes that OpenAI has for it.

use inference::{EmbedInput, MOST_TOKENS};
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

/// One input or several, at most `MOST`: a text, texts, the tokens of a text, or the tokens of several.
#[derive(Debug)]
pub struct Inputs<const MOST: usize>(pub Vec<Input>);

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    Text(String),
    /// The model's own tokens.
    Tokens(Vec<u32>),
}

impl From<Input> for EmbedInput {
    fn from(input: Input) -> Self {
        match input {
            Input::Text(text) => Self::Text(text),
            Input::Tokens(tokens) => Self::Tokens(tokens),
        }
    }
}

impl<'de, const MOST: usize> Deserialize<'de> for Inputs<MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Whole::<MOST>)
    }
}

struct Whole<const MOST: usize>;

impl<'de, const MOST: usize> Visitor<'de> for Whole<MOST> {
    type Value = Inputs<MOST>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, or an array of strings, of token ids or of arrays of token ids")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Inputs(vec![Input::Text(text.to_owned())]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let (mut inputs, mut tokens, mut all) = (Vec::new(), Vec::new(), 0);
        while let Some(element) = elements.next_element::<Element>()? {
            match element {
                Element::Input(input) => {
                    all += if let Input::Tokens(tokens) = &input { tokens.len() } else { 0 };
                    inputs.push(input);
                }
                Element::Token(token) => {
                    all += 1;
                    tokens.push(token);
                }
            }
            // Refused while it is read: a body of commas would take many times its own room.
            if inputs.len() > MOST {
                return Err(de::Error::custom(format_args!("there must be 1 to {MOST}")));
            }
            if all > MOST_TOKENS {
                return Err(too_many_tokens());
            }
        }
        match (inputs.is_empty(), tokens.is_empty()) {
            (_, true) => Ok(Inputs(inputs)),
            (true, false) => Ok(Inputs(vec![Input::Tokens(tokens)])),
            (false, false) => Err(de::Error::custom("token ids are one input, and other inputs cannot stand beside them")),
        }
    }
}

/// An input, or a token of the only one.
enum Element {
    Input(Input),
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
        Ok(Element::Input(Input::Text(text.to_owned())))
    }

    fn visit_u64<E: de::Error>(self, token: u64) -> Result<Element, E> {
        u32::try_from(token).map(Element::Token).map_err(|_| E::invalid_value(Unexpected::Unsigned(token), &self))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Element, A::Error> {
        let mut tokens = Vec::new();
        while let Some(token) = elements.next_element::<u32>()? {
            tokens.push(token);
            if tokens.len() > MOST_TOKENS {
                return Err(too_many_tokens());
            }
        }
        Ok(Element::Input(Input::Tokens(tokens)))
    }
}

fn too_many_tokens<E: de::Error>() -> E {
    E::custom(format_args!("all of them together may have at most {MOST_TOKENS} tokens"))
}

#[cfg(test)]
mod tests {
    use super::{Input, Inputs, MOST_TOKENS};

    const MOST: usize = 100;

    fn read(json: &str) -> Result<Vec<Input>, String> {
        serde_json::from_str::<Inputs<MOST>>(json).map(|inputs| inputs.0).map_err(|error| error.to_string())
    }

    #[test]
    fn all_four_shapes_are_taken() {
        let text = |text: &str| Input::Text(text.into());
        assert_eq!(read(r#""a""#), Ok(vec![text("a")]));
        assert_eq!(read(r#"["a","b"]"#), Ok(vec![text("a"), text("b")]));
        assert_eq!(read("[1,2,3]"), Ok(vec![Input::Tokens(vec![1, 2, 3])]));
        assert_eq!(read("[[1,2],[3]]"), Ok(vec![Input::Tokens(vec![1, 2]), Input::Tokens(vec![3])]));
        assert_eq!(read("[]"), Ok(Vec::new()));
    }

    #[test]
    fn what_is_too_much_is_refused_while_it_is_read() {
        let many = |element: &str, count: usize| format!("[{}]", vec![element; count].join(","));
        assert_eq!(read(&many("[]", MOST)).map(|inputs| inputs.len()), Ok(MOST));
        let half = many("1", MOST_TOKENS / 2);
        assert_eq!(read(&many(&half, 2)).map(|inputs| inputs.len()), Ok(2));
        // Behind what is too much, nothing is read: it is no JSON any more.
        let cases = [
            (format!("[{},", vec!["[]"; MOST + 1].join(",")), "there must be 1 to 100"),
            (format!("[{},", vec!["1"; MOST_TOKENS + 1].join(",")), "at most 300000 tokens"),
            (format!("[[{},", vec!["1"; MOST_TOKENS + 1].join(",")), "at most 300000 tokens"),
            (format!("[{half},{half},[1],"), "at most 300000 tokens"),
        ];
        for (json, expected) in cases {
            let told = read(&json).unwrap_err();
            assert!(told.contains(expected), "If you are here because this failed: a body fills the memory. {told}");
        }
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
