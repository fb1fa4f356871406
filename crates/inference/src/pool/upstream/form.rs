//! What an answer looks like, in the words of OpenAI's protocol and of vLLM.

use super::StructuredField;
use serde::Serialize;
use serde_json::Value;
use worker_protocol::Format;

/// The fields of a request that say so, at most one of them.
#[derive(Default, Serialize)]
pub(super) struct Form<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<ResponseFormat<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    structured_outputs: Option<Structured<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guided_regex: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guided_choice: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guided_grammar: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ResponseFormat<'a> {
    JsonObject,
    JsonSchema { json_schema: NamedSchema<'a> },
}

#[derive(Serialize)]
struct NamedSchema<'a> {
    name: &'static str,
    schema: &'a Value,
    strict: bool,
}

/// vLLM's newer words for what is no schema.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Structured<'a> {
    Regex(&'a str),
    Choice(&'a [String]),
    Grammar(&'a str),
}

impl<'a> Form<'a> {
    /// # Errors
    /// A sentence for the caller: the server is not told of such forms.
    pub(super) fn of(format: &'a Format, structured: Option<StructuredField>) -> Result<Self, String> {
        let none = Self::default();
        match (format, structured) {
            (Format::JsonSchema(schema), _) => Ok(Self { response_format: Some(response_format(schema)), ..none }),
            (Format::Regex(text), Some(StructuredField::StructuredOutputs)) => {
                Ok(Self { structured_outputs: Some(Structured::Regex(text)), ..none })
            }
            (Format::Choice(texts), Some(StructuredField::StructuredOutputs)) => {
                Ok(Self { structured_outputs: Some(Structured::Choice(texts)), ..none })
            }
            (Format::Lark(text), Some(StructuredField::StructuredOutputs)) => {
                Ok(Self { structured_outputs: Some(Structured::Grammar(text)), ..none })
            }
            (Format::Regex(text), Some(StructuredField::Guided)) => Ok(Self { guided_regex: Some(text), ..none }),
            (Format::Choice(texts), Some(StructuredField::Guided)) => Ok(Self { guided_choice: Some(texts), ..none }),
            (Format::Lark(text), Some(StructuredField::Guided)) => Ok(Self { guided_grammar: Some(text), ..none }),
            (Format::Regex(_) | Format::Choice(_) | Format::Lark(_), None) => {
                Err("structured_outputs: this model's server knows JSON schemas alone".into())
            }
        }
    }
}

fn response_format(schema: &Value) -> ResponseFormat<'_> {
    if is_any_object(schema) {
        return ResponseFormat::JsonObject;
    }
    ResponseFormat::JsonSchema { json_schema: NamedSchema { name: "answer", schema, strict: true } }
}

/// It asks for an object and says nothing about it.
fn is_any_object(schema: &Value) -> bool {
    schema.as_object().is_some_and(|fields| fields.len() == 1 && fields.get("type").is_some_and(|of| of == "object"))
}

#[cfg(test)]
mod tests {
    use super::{Form, StructuredField};
    use serde_json::{Value, json};
    use worker_protocol::Format;

    fn told(format: &Format, structured: Option<StructuredField>) -> Result<Value, String> {
        Ok(serde_json::to_value(Form::of(format, structured)?).unwrap())
    }

    #[test]
    fn expressions_choices_and_grammars_are_passed_on_to_those_that_know_them() {
        let (regex, lark) = (Format::Regex("a+".into()), Format::Lark("start: \"a\"".into()));
        let (newer, older) = (Some(StructuredField::StructuredOutputs), Some(StructuredField::Guided));
        assert_eq!(told(&regex, newer).unwrap(), json!({"structured_outputs": {"regex": "a+"}}));
        assert_eq!(told(&lark, newer).unwrap(), json!({"structured_outputs": {"grammar": "start: \"a\""}}));
        assert_eq!(told(&regex, older).unwrap(), json!({"guided_regex": "a+"}));
        assert_eq!(told(&lark, older).unwrap(), json!({"guided_grammar": "start: \"a\""}));
        let choice = Format::Choice(vec!["yes".into(), "no (why?)".into()]);
        assert_eq!(told(&choice, newer).unwrap(), json!({"structured_outputs": {"choice": ["yes", "no (why?)"]}}));
        assert_eq!(told(&choice, older).unwrap(), json!({"guided_choice": ["yes", "no (why?)"]}));
        for format in [&regex, &choice, &lark] {
            assert!(told(format, None).unwrap_err().starts_with("structured_outputs: "));
        }
    }

    #[test]
    fn schemas_are_told_in_words_that_all_servers_know() {
        let object = json!({"response_format": {"type": "json_object"}});
        for structured in [None, Some(StructuredField::StructuredOutputs), Some(StructuredField::Guided)] {
            assert_eq!(told(&Format::JsonSchema(json!({"type": "object"})), structured).unwrap(), object);
        }
    }
}
