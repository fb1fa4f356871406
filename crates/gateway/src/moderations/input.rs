//! What is looked at: a text, several, or the parts of one input in the shape of OpenAI's newer moderation, of which texts are
//! taken.

use crate::{failure::Failure, images::UNSUPPORTED, known::Known, openapi::text_or_list};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use services::guardrails::MOST_TEXTS;
use std::fmt;
use utoipa::{
    ToSchema,
    openapi::{
        Ref, Schema, Type,
        schema::{AnyOfBuilder, ObjectBuilder},
    },
};

/// What the API's description says of [`Input`].
pub fn schema() -> Schema {
    let text = ObjectBuilder::new().schema_type(Type::String);
    text_or_list(AnyOfBuilder::new().item(text).item(Ref::from_schema_name(Part::name())))
}

/// The elements of an input, as they came.
#[derive(Debug)]
pub struct Input(Vec<Element>);

#[derive(Debug)]
enum Element {
    Text(String),
    Part(Part),
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ModerationPart)]
pub struct Part {
    /// `text`; nothing here looks at pictures.
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    #[serde(rename = "image_url")]
    #[schema(schema_with = crate::known::schema)]
    _image_url: Option<Known>,
}

/// The texts of an input.
#[derive(Debug, PartialEq, Eq)]
pub struct Texts {
    pub all: Vec<String>,
    /// They are parts of one input, which has one result.
    pub together: bool,
}

impl Input {
    /// # Errors
    /// A part that is no text, or parts beside texts; with its path.
    pub fn texts(self) -> Result<Texts, Failure> {
        let together = matches!(self.0.first(), Some(Element::Part(_)));
        let text = |(at, element): (usize, Element)| {
            let refused = |code: Option<&'static str>, message: &str| Err(Failure::invalid(format!("input[{at}]"), code, message));
            match element {
                Element::Text(text) if !together => Ok(text),
                Element::Part(Part { kind, text: Some(text), .. }) if together && kind == "text" => Ok(text),
                Element::Part(Part { kind, .. }) if kind != "text" => {
                    refused(Some(UNSUPPORTED), "Nothing here looks at pictures: parts are of the type text.")
                }
                Element::Part(Part { text: None, .. }) => refused(None, "This part has no text."),
                Element::Text(_) | Element::Part(_) => refused(None, "An input has texts or parts, not both."),
            }
        };
        let all = self.0.into_iter().enumerate().map(text).collect::<Result<_, _>>()?;
        Ok(Texts { all, together })
    }
}

impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Whole;
        impl<'de> Visitor<'de> for Whole {
            type Value = Input;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, or an array of strings or of parts")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Input, E> {
                Ok(Input(vec![Element::Text(text.to_owned())]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Input, A::Error> {
                let mut all = Vec::new();
                while let Some(element) = elements.next_element()? {
                    all.push(element);
                    // Refused while it is read: a body of commas would take many times its own room.
                    if all.len() > MOST_TEXTS {
                        return Err(de::Error::custom(format_args!("there must be 1 to {MOST_TEXTS} texts")));
                    }
                }
                Ok(Input(all))
            }
        }
        deserializer.deserialize_any(Whole)
    }
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Element;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a part")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Element, E> {
                Ok(Element::Text(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Element, A::Error> {
                Part::deserialize(MapAccessDeserializer::new(fields)).map(Element::Part)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::{Input, MOST_TEXTS, Texts};
    use serde_json::{Value, json};

    fn read(value: Value) -> Result<Texts, String> {
        let input: Input = serde_json::from_value(value).map_err(|error| error.to_string())?;
        input.texts().map_err(|failure| failure.event())
    }

    fn texts(all: &[&str], together: bool) -> Result<Texts, String> {
        Ok(Texts { all: all.iter().map(|text| (*text).to_owned()).collect(), together })
    }

    #[test]
    fn texts_stand_for_themselves_and_parts_for_one_input() {
        assert_eq!(read(json!("a")), texts(&["a"], false));
        assert_eq!(read(json!(["a", "b"])), texts(&["a", "b"], false));
        assert_eq!(read(json!([])), texts(&[], false));
        assert_eq!(read(json!([{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }])), texts(&["a", "b"], true));
    }

    #[test]
    fn what_is_no_text_is_refused_with_its_path() {
        let text = json!({ "type": "text", "text": "a" });
        let picture = json!({ "type": "image_url", "image_url": { "url": "data:," } });
        let refused = |value: Value| read(value).unwrap_err();
        for (value, path) in [(json!([text, picture]), "input[1]"), (json!([picture]), "input[0]"), (json!(["a", picture]), "input[1]")] {
            let told = refused(value);
            assert!(told.contains(&format!(r#""param":"{path}","code":"unsupported_content""#)), "{told}");
        }
        assert!(refused(json!([{ "type": "text" }])).contains("input[0]"));
        for mixed in [json!(["a", text]), json!([text, "a"])] {
            let told = refused(mixed);
            assert!(told.contains("not both") && told.contains("input[1]"), "{told}");
        }
        assert!(refused(json!(vec![""; MOST_TEXTS + 1])).contains(&format!("1 to {MOST_TEXTS} texts")));
        assert!(refused(json!(7)).contains("a string, or an array of strings or of parts"));
        assert!(refused(json!([7])).contains("a string or a part"));
    }
}
