//! Forms of answers in vLLM's words, beside OpenAI's, which know JSON alone.
//!
//! Source: vLLM's reference of its OpenAI-compatible server: `structured_outputs`, and the `guided_` fields of its older
//! releases.

mod expression;

use crate::failure::Failure;
use inference::Format;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

/// Bytes of a grammar, or of all choices together.
const MOST_BYTES: usize = 64 * 1024;
/// Texts to choose from.
const MOST_CHOICES: usize = 1024;

/// The form of an answer; exactly one of these.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct StructuredOutputs {
    /// A JSON Schema, or its text.
    pub json: Option<Value>,
    /// Any JSON object.
    pub json_object: Option<bool>,
    /// A regular expression that the answer matches from beginning to end; at most 4 KiB and 64 classes of characters. It has no
    /// look-around, no word boundaries, no references back, and `^` and `$` at its edges alone.
    pub regex: Option<String>,
    /// The answer is one of these texts; at most 1024, and 64 KiB together.
    pub choice: Option<Vec<String>>,
    /// A grammar in llguidance's dialect of Lark; at most 64 KiB.
    pub grammar: Option<String>,
}

enum Asked {
    Json(Value),
    Object,
    Regex(String),
    Choice(Vec<String>),
    Grammar(String),
}

impl StructuredOutputs {
    /// What is asked for, each with the field's name.
    fn asked(self, prefix: &str) -> Vec<(String, Asked)> {
        let Self { json, json_object, regex, choice, grammar } = self;
        let all = [
            ("json", json.map(Asked::Json)),
            ("json_object", json_object.filter(|wanted| *wanted).map(|_| Asked::Object)),
            ("regex", regex.map(Asked::Regex)),
            ("choice", choice.map(Asked::Choice)),
            ("grammar", grammar.map(Asked::Grammar)),
        ];
        all.into_iter().filter_map(|(name, asked)| Some((format!("{prefix}{name}"), asked?))).collect()
    }
}

/// The form that these fields ask for. `guided` holds the older fields.
///
/// # Errors
/// More than one form, an object that names none, or a form that makes no sense; with the field's name.
pub fn form(structured: Option<StructuredOutputs>, guided: StructuredOutputs) -> Result<Option<Format>, Failure> {
    let named = structured.is_some();
    let mut asked = structured.unwrap_or_default().asked("structured_outputs.");
    if named && asked.is_empty() {
        let message = "structured_outputs takes one of json, json_object, regex, choice and grammar.";
        return Err(Failure::invalid("structured_outputs", None, message));
    }
    asked.extend(guided.asked("guided_"));
    let mut asked = asked.into_iter();
    let Some((field, wanted)) = asked.next() else { return Ok(None) };
    if let Some((other, _)) = asked.next() {
        let message = format!("{other} does not go together with {field}: an answer has one form.");
        return Err(Failure::invalid(other, "conflicting_formats", message));
    }
    wanted.format(&field).map(Some)
}

/// The form that is asked for in OpenAI's words, or in those of [`form`]. `usual` is the name of the former.
///
/// # Errors
/// It is asked for in both.
pub fn one_of(usual: &str, asked: Option<Format>, structured: Option<Format>) -> Result<Option<Format>, Failure> {
    if asked.is_some() && structured.is_some() {
        let message = format!("{usual} does not go together with structured_outputs or a guided field: an answer has one form.");
        return Err(Failure::invalid(usual, "conflicting_formats", message));
    }
    Ok(asked.or(structured))
}

impl Asked {
    fn format(self, field: &str) -> Result<Format, Failure> {
        match self {
            Self::Json(schema) => json_schema(field, schema),
            Self::Object => Ok(Format::JsonSchema(json!({ "type": "object" }))),
            Self::Regex(pattern) => expression(field, pattern),
            Self::Choice(texts) => choice(field, texts),
            Self::Grammar(text) => fits(field, text.len(), MOST_BYTES).map(|()| Format::Lark(text)),
        }
    }
}

fn fits(field: &str, bytes: usize, most: usize) -> Result<(), Failure> {
    if (1..=most).contains(&bytes) {
        return Ok(());
    }
    Err(Failure::invalid(field, "out_of_range", format!("{field} has 1 to {most} bytes, not {bytes}.")))
}

fn json_schema(field: &str, schema: Value) -> Result<Format, Failure> {
    let schema = match schema {
        Value::String(text) => {
            serde_json::from_str(&text).map_err(|error| Failure::invalid(field, None, format!("{field} is not JSON: {error}.")))?
        }
        other => other,
    };
    if !schema.is_object() && !schema.is_boolean() {
        return Err(Failure::invalid(field, None, format!("{field} is a JSON Schema, which is an object.")));
    }
    Ok(Format::JsonSchema(schema))
}

/// Checked here because only here it is known which field the expression came in.
fn expression(field: &str, pattern: String) -> Result<Format, Failure> {
    fits(field, pattern.len(), expression::MOST_BYTES)?;
    let wrong = |why: String| Failure::invalid(field, "invalid_regex", format!("{field} cannot be used: {why}."));
    expression::check(&pattern).map_err(wrong)?;
    Ok(Format::Regex(pattern))
}

fn choice(field: &str, texts: Vec<String>) -> Result<Format, Failure> {
    if !(1..=MOST_CHOICES).contains(&texts.len()) {
        return Err(Failure::invalid(field, "out_of_range", format!("{field} has 1 to {MOST_CHOICES} texts.")));
    }
    fits(field, texts.iter().map(String::len).sum(), MOST_BYTES)?;
    Ok(Format::Choice(texts))
}

#[cfg(test)]
mod tests {
    use super::{MOST_BYTES, StructuredOutputs, expression, form, one_of};
    use inference::Format;
    use serde_json::{Value, json};

    fn asked(structured: Value, guided: Value) -> Result<Option<Format>, String> {
        let structured: Option<StructuredOutputs> = serde_json::from_value(structured).unwrap();
        let guided: StructuredOutputs = serde_json::from_value(guided).unwrap();
        form(structured, guided).map_err(|failure| failure.event())
    }

    #[test]
    fn both_generations_of_fields_mean_the_same() {
        let object = Format::JsonSchema(json!({ "type": "object" }));
        let cases = [
            (json!({ "regex": r"^\d{3}$" }), Format::Regex(r"^\d{3}$".into())),
            (json!({ "choice": ["yes", "no (why?)"] }), Format::Choice(vec!["yes".into(), "no (why?)".into()])),
            (json!({ "json": { "type": "object" } }), object.clone()),
            (json!({ "json": r#"{"type":"object"}"# }), object.clone()),
            (json!({ "grammar": "start: \"a\"" }), Format::Lark("start: \"a\"".into())),
        ];
        for (fields, expected) in cases {
            assert_eq!(asked(fields.clone(), json!({})).unwrap().as_ref(), Some(&expected), "{fields}");
            assert_eq!(asked(Value::Null, fields).unwrap(), Some(expected));
        }
        assert_eq!(asked(json!({ "json_object": true }), json!({})).unwrap(), Some(object));
        assert_eq!(asked(Value::Null, json!({})).unwrap(), None);
    }

    #[test]
    fn there_is_one_form() {
        let param = |name: &str| format!(r#""param":"{name}""#);
        let two = asked(json!({ "regex": "a", "choice": ["a"] }), json!({})).unwrap_err();
        assert!(two.contains(&param("structured_outputs.choice")) && two.contains("conflicting_formats"), "{two}");
        let both = asked(json!({ "regex": "a" }), json!({ "regex": "a" })).unwrap_err();
        assert!(both.contains(&param("guided_regex")), "{both}");
        for none in [json!({}), json!({ "json_object": false }), json!({ "regex": null })] {
            assert!(asked(none, json!({})).unwrap_err().contains(&param("structured_outputs")));
        }
        let format = || Some(Format::Regex("a".into()));
        assert!(one_of("response_format", format(), format()).unwrap_err().event().contains(&param("response_format")));
        assert_eq!(one_of("response_format", None, format()).unwrap(), format());
        assert_eq!(one_of("response_format", format(), None).unwrap(), format());
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let wrong = [
            ("guided_regex", json!({ "regex": "(" })),
            ("guided_regex", json!({ "regex": "a(?=b)" })),
            ("guided_regex", json!({ "regex": r"\bword\b" })),
            ("guided_regex", json!({ "regex": "" })),
            ("guided_regex", json!({ "regex": "x".repeat(expression::MOST_BYTES + 1) })),
            ("guided_regex", json!({ "regex": "\\w".repeat(100) })),
            ("guided_choice", json!({ "choice": [] })),
            ("guided_choice", json!({ "choice": vec!["x"; 1025] })),
            ("guided_choice", json!({ "choice": ["x".repeat(MOST_BYTES + 1)] })),
            ("guided_json", json!({ "json": "{" })),
            ("guided_json", json!({ "json": [1] })),
            ("guided_grammar", json!({ "grammar": "x".repeat(MOST_BYTES + 1) })),
        ];
        for (field, fields) in wrong {
            let told = asked(Value::Null, fields).unwrap_err();
            assert!(told.contains(&format!(r#""param":"{field}""#)), "{told}");
        }
    }
}
