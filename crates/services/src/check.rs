//! Input rules that more than one service needs. Field names are the caller's own.

pub(crate) use contract::title::one_line;

use contract::{
    chat::{ATTACHMENT_MAX_BYTES, ATTACHMENTS_MAX, ConversationSettings, MESSAGE_MAX_BYTES, NewAttachment},
    model::Sampling,
};
use domain::{Actor, Error, Result};
use inference::Inference;
use serde_json::Value;
use std::collections::BTreeMap;

/// Longest title, in characters.
pub(crate) const TITLE_MAX_CHARS: usize = 200;
/// Longest system prompt of a chat, in bytes.
pub(crate) const SYSTEM_PROMPT_MAX_BYTES: usize = 16 * 1024;
/// Longest name of an attachment, in characters.
const ATTACHMENT_NAME_MAX_CHARS: usize = 255;
/// Longest search text, in bytes.
const QUERY_MAX_BYTES: usize = 1024;
/// Most tokens that a chat may ask for in one answer.
const MAX_TOKENS_MAX: u32 = 1_000_000;
/// Pairs of metadata, characters of their keys and of their values.
const METADATA_PAIRS: usize = 16;
const METADATA_KEY_CHARS: usize = 64;
const METADATA_VALUE_CHARS: usize = 512;

/// Text as Postgres can store it: without NUL characters.
pub(crate) fn clean(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "") } else { text }
}

/// JSON as Postgres can store it: without NUL characters in texts and names.
pub(crate) fn clean_json(value: &mut Value) {
    match value {
        Value::String(text) => {
            if text.contains('\0') {
                *text = text.replace('\0', "");
            }
        }
        Value::Array(values) => values.iter_mut().for_each(clean_json),
        Value::Object(fields) => {
            if fields.keys().any(|name| name.contains('\0')) {
                *fields = std::mem::take(fields).into_iter().map(|(name, value)| (clean(name), value)).collect();
            }
            fields.values_mut().for_each(clean_json);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Refuses text above `max` bytes.
pub(crate) fn at_most(field: &'static str, text: &str, max: usize) -> Result<()> {
    if text.len() > max {
        return Err(Error::invalid(field, "too_long", format!("{field} may have at most {max} bytes.")));
    }
    Ok(())
}

/// Refuses text without any visible character.
pub(crate) fn required(field: &'static str, text: &str) -> Result<()> {
    if text.trim().is_empty() {
        return Err(Error::invalid(field, "required", format!("{field} must not be empty.")));
    }
    Ok(())
}

/// A question: not empty, unless texts are attached, and within the size limit.
pub(crate) fn question(content: String, attachments: &[NewAttachment]) -> Result<String> {
    let content = clean(content);
    if attachments.is_empty() {
        required("content", &content)?;
    }
    at_most("content", &content, MESSAGE_MAX_BYTES)?;
    Ok(content)
}

/// The texts that come with a question.
pub(crate) fn attachments(attachments: Vec<NewAttachment>) -> Result<Vec<NewAttachment>> {
    if attachments.len() > ATTACHMENTS_MAX {
        return Err(Error::invalid("attachments", "too_many", format!("A question may have at most {ATTACHMENTS_MAX} attachments.")));
    }
    attachments.into_iter().map(attachment).collect()
}

fn attachment(new: NewAttachment) -> Result<NewAttachment> {
    // Control characters would break the headers and lists that show the name.
    let name: String = new.name.chars().filter(|c| !c.is_control()).take(ATTACHMENT_NAME_MAX_CHARS).collect();
    let name = name.trim().to_owned();
    if name.is_empty() {
        return Err(Error::invalid("attachments", "name_required", "An attachment needs a name."));
    }
    if new.content.len() > ATTACHMENT_MAX_BYTES {
        let message = format!("The attachment {name} has more than {ATTACHMENT_MAX_BYTES} bytes.");
        return Err(Error::invalid("attachments", "attachment_too_large", message));
    }
    Ok(NewAttachment { name, content: clean(new.content) })
}

/// A title that a person gives: one line, not empty.
pub(crate) fn title(title: &str) -> Result<String> {
    let title = one_line(title);
    required("title", &title)?;
    if title.chars().count() > TITLE_MAX_CHARS {
        return Err(Error::invalid("title", "too_long", format!("A title may have at most {TITLE_MAX_CHARS} characters.")));
    }
    Ok(title)
}

/// Model, system prompt and sampling of a chat. The model must be granted to the actor.
pub(crate) fn settings(inference: &Inference, actor: &Actor, settings: ConversationSettings) -> Result<ConversationSettings> {
    if let Some(wanted) = &settings.model {
        model("model", inference, actor, wanted)?;
    }
    let system_prompt = clean(settings.system_prompt);
    at_most("system_prompt", &system_prompt, SYSTEM_PROMPT_MAX_BYTES)?;
    sampling(&settings.sampling)?;
    Ok(ConversationSettings { system_prompt, ..settings })
}

/// A model that the actor may use.
pub(crate) fn model(field: &'static str, inference: &Inference, actor: &Actor, wanted: &str) -> Result<()> {
    if inference.models(actor).iter().any(|model| model.id == wanted) {
        return Ok(());
    }
    Err(Error::invalid(field, "unknown_model", "There is no such model for you."))
}

/// Sampling parameters within their ranges.
pub(crate) fn sampling(sampling: &Sampling) -> Result<()> {
    within("temperature", sampling.temperature, 0.0, 2.0)?;
    within("top_p", sampling.top_p, 0.0, 1.0)?;
    within("min_p", sampling.min_p, 0.0, 1.0)?;
    within("repeat_penalty", sampling.repeat_penalty, 1.0, 2.0)?;
    if sampling.max_tokens.is_some_and(|tokens| !(1..=MAX_TOKENS_MAX).contains(&tokens)) {
        return Err(Error::invalid("max_tokens", "out_of_range", format!("max_tokens must lie between 1 and {MAX_TOKENS_MAX}.")));
    }
    Ok(())
}

fn within(field: &'static str, value: Option<f32>, least: f32, most: f32) -> Result<()> {
    match value {
        // `contains` is false for NaN.
        Some(value) if !(least..=most).contains(&value) => {
            Err(Error::invalid(field, "out_of_range", format!("{field} must lie between {least} and {most}.")))
        }
        _ => Ok(()),
    }
}

/// What a program wants kept beside its things, within OpenAI's limits.
pub(crate) fn metadata(metadata: &BTreeMap<String, String>) -> Result<()> {
    let fits = |(key, value): (&String, &String)| {
        (1..=METADATA_KEY_CHARS).contains(&key.chars().count()) && value.chars().count() <= METADATA_VALUE_CHARS
    };
    if metadata.len() > METADATA_PAIRS || !metadata.iter().all(fits) {
        let message = format!(
            "metadata has at most {METADATA_PAIRS} pairs, keys of at most {METADATA_KEY_CHARS} characters and values of at most {METADATA_VALUE_CHARS}."
        );
        return Err(Error::invalid("metadata", "too_large", message));
    }
    Ok(())
}

/// A search text of bearable length.
pub(crate) fn query(query: &str) -> Result<()> {
    at_most("query", query, QUERY_MAX_BYTES)
}

#[cfg(test)]
mod tests {
    use super::{attachments, clean_json, question, sampling, title};
    use contract::{chat::NewAttachment, model::Sampling};
    use domain::{Error, Result};

    fn refused<T: std::fmt::Debug>(result: Result<T>) -> (&'static str, &'static str) {
        match result {
            Err(Error::Invalid { field: Some(field), code, .. }) => (field, code),
            other => panic!("not refused as invalid: {other:?}"),
        }
    }

    #[test]
    fn bad_input_is_refused_with_field_and_code() {
        let file = |name: &str, bytes: usize| NewAttachment { name: name.into(), content: "x".repeat(bytes) };
        assert_eq!(refused(question(" \n".into(), &[])), ("content", "required"));
        assert_eq!(refused(question("x".repeat(65 * 1024), &[])), ("content", "too_long"));
        assert_eq!(refused(attachments(vec![file("a", 1); 11])), ("attachments", "too_many"));
        assert_eq!(refused(attachments(vec![file("\n ", 1)])), ("attachments", "name_required"));
        assert_eq!(refused(attachments(vec![file("a", 2 * 1024 * 1024 + 1)])), ("attachments", "attachment_too_large"));
        assert_eq!(refused(title(" \t")), ("title", "required"));
        assert_eq!(refused(title(&"x".repeat(201))), ("title", "too_long"));
        assert_eq!(refused(sampling(&Sampling { temperature: Some(2.1), ..Sampling::default() })), ("temperature", "out_of_range"));
        assert_eq!(refused(sampling(&Sampling { max_tokens: Some(0), ..Sampling::default() })), ("max_tokens", "out_of_range"));
    }

    #[test]
    fn json_is_cleaned_in_depth() {
        let mut value = serde_json::json!({ "a\0": ["b\0c", { "d": "\0", "e": 1 }], "f": null });
        clean_json(&mut value);
        assert_eq!(value, serde_json::json!({ "a": ["bc", { "d": "", "e": 1 }], "f": null }));
    }

    #[test]
    fn input_is_cleaned() {
        assert_eq!(question("a\0b".into(), &[]).expect("valid"), "ab");
        let file = NewAttachment { name: "a\nb.txt".into(), content: "\0".into() };
        let cleaned = attachments(vec![file]).expect("valid");
        assert_eq!(cleaned[0], NewAttachment { name: "ab.txt".into(), content: String::new() });
        assert!(question(String::new(), &cleaned).is_ok(), "a question may consist of attachments alone");
    }
}
