//! Messages as clients write them: content is a text or a list of parts.

use crate::{
    failure::Failure,
    images::{self, ImageUrl, Images},
    known::Known,
};
use inference::{ChatMessage, ChatRole, ContentPart, ToolCall};
use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};
use std::fmt;
use utoipa::ToSchema;

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ChatMessage)]
pub struct Message {
    role: Role,
    content: Option<Content>,
    /// What an answer of ours thought, as its client gives it back.
    reasoning_content: Option<String>,
    refusal: Option<String>,
    tool_calls: Option<Vec<Call>>,
    tool_call_id: Option<String>,
    // Known, and nothing that a template takes.
    #[serde(rename = "name")]
    #[schema(schema_with = crate::known::schema)]
    _name: Option<Known>,
    #[serde(rename = "annotations")]
    #[schema(schema_with = crate::known::schema)]
    _annotations: Option<Known>,
    #[serde(rename = "audio")]
    #[schema(schema_with = crate::known::schema)]
    _audio: Option<Known>,
    #[serde(rename = "function_call")]
    #[schema(schema_with = crate::known::schema)]
    _function_call: Option<Known>,
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = ChatRole)]
enum Role {
    Developer,
    System,
    User,
    Assistant,
    Tool,
}

#[derive(Debug, ToSchema)]
#[serde(untagged)]
#[schema(as = ChatContent)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ChatContentPart)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    refusal: Option<String>,
    /// In messages of the user, for models that take images.
    image_url: Option<ImageUrl>,
    #[serde(rename = "input_audio")]
    #[schema(schema_with = crate::known::schema)]
    _input_audio: Option<Known>,
    #[serde(rename = "file")]
    #[schema(schema_with = crate::known::schema)]
    _file: Option<Known>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ChatToolCall)]
struct Call {
    id: String,
    function: CalledFunction,
    #[serde(rename = "type")]
    #[schema(schema_with = crate::known::schema)]
    _kind: Option<Known>,
    #[serde(rename = "index")]
    #[schema(schema_with = crate::known::schema)]
    _index: Option<Known>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ChatCalledFunction)]
struct CalledFunction {
    name: String,
    #[serde(default)]
    arguments: String,
}

/// The same for the funnel.
///
/// # Errors
/// A part that no model here takes, or a message that makes no sense; with its path.
pub fn messages(messages: Vec<Message>) -> Result<Vec<ChatMessage>, Failure> {
    let mut images = Images::default();
    messages.into_iter().enumerate().map(|(at, message)| convert(at, message, &mut images)).collect()
}

fn convert(at: usize, message: Message, images: &mut Images) -> Result<ChatMessage, Failure> {
    let role = match message.role {
        Role::Developer | Role::System => ChatRole::System,
        Role::User => ChatRole::User,
        Role::Assistant => ChatRole::Assistant,
        Role::Tool => ChatRole::Tool,
    };
    let calls = message.tool_calls.unwrap_or_default();
    let said = match message.content {
        Some(content) => content.message(at, role, images)?,
        // An answer may consist of calls, or of nothing.
        None if role == ChatRole::Assistant => ChatMessage::new(role, message.refusal.unwrap_or_default()),
        None => return Err(Failure::invalid(format!("messages[{at}].content"), None, "This message has no content.")),
    };
    if role == ChatRole::Tool && message.tool_call_id.is_none() {
        return Err(Failure::invalid(format!("messages[{at}].tool_call_id"), None, "A tool's message names the call that it answers."));
    }
    let call = |call: Call| ToolCall { id: call.id, name: call.function.name, arguments: call.function.arguments };
    Ok(ChatMessage {
        reasoning: message.reasoning_content.filter(|_| role == ChatRole::Assistant),
        tool_calls: calls.into_iter().map(call).collect(),
        tool_call_id: message.tool_call_id,
        ..said
    })
}

impl Content {
    fn message(self, at: usize, role: ChatRole, images: &mut Images) -> Result<ChatMessage, Failure> {
        let parts = match self {
            Self::Text(text) => return Ok(ChatMessage::new(role, text)),
            Self::Parts(parts) => parts,
        };
        let path = |number: usize| format!("messages[{at}].content[{number}]");
        let mut said = Vec::with_capacity(parts.len());
        for (number, part) in parts.into_iter().enumerate() {
            match (part.kind.as_str(), part.text, part.refusal) {
                ("text", Some(text), _) | ("refusal", _, Some(text)) => said.push(ContentPart::Text(text)),
                ("image_url", ..) if role != ChatRole::User => return Err(images::misplaced(path(number))),
                ("image_url", ..) => said.push(ContentPart::Image(images.of_part(&path(number), part.image_url)?)),
                ("input_audio" | "file", ..) => {
                    let message = format!("This model takes no parts of the type {}.", part.kind);
                    return Err(Failure::invalid(path(number), images::UNSUPPORTED, message));
                }
                _ => {
                    let message = "A part has a type (text, image_url, …) and what belongs to it.";
                    return Err(Failure::invalid(path(number), None, message));
                }
            }
        }
        Ok(ChatMessage::of(role, said))
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Content;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of parts")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Content, E> {
                Ok(Content::Text(text.to_owned()))
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Content, E> {
                Ok(Content::Text(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Content, A::Error> {
                let mut all = Vec::new();
                while let Some(part) = parts.next_element()? {
                    all.push(part);
                }
                Ok(Content::Parts(all))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::{Message, messages};
    use crate::images::tests::png;
    use inference::{ChatMessage, ChatRole, ContentPart, Detail};
    use serde_json::{Value, json};

    fn read(value: Value) -> Result<Vec<ChatMessage>, String> {
        let read: Vec<Message> = serde_json::from_value(value).map_err(|error| error.to_string())?;
        messages(read).map_err(|failure| failure.event())
    }

    #[test]
    fn content_is_text_or_parts() {
        let read = read(json!([
            { "role": "developer", "content": "Be brief." },
            { "role": "user", "name": "kim", "content": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }] },
        ]))
        .unwrap();
        assert_eq!(read[0], ChatMessage::new(ChatRole::System, "Be brief."));
        assert_eq!(read[1], ChatMessage::new(ChatRole::User, "a\nb"));
    }

    #[test]
    fn calls_and_their_results_come_through() {
        let read = read(json!([
            { "role": "assistant", "content": null, "reasoning_content": "hm",
              "tool_calls": [{ "id": "call_1", "type": "function", "function": { "name": "f", "arguments": "{}" } }] },
            { "role": "tool", "tool_call_id": "call_1", "content": "42" },
        ]))
        .unwrap();
        assert_eq!((read[0].content.as_str(), read[0].reasoning.as_deref()), ("", Some("hm")));
        assert_eq!((read[0].tool_calls[0].id.as_str(), read[0].tool_calls[0].name.as_str()), ("call_1", "f"));
        assert_eq!((read[1].role, read[1].tool_call_id.as_deref()), (ChatRole::Tool, Some("call_1")));
    }

    #[test]
    fn pictures_keep_their_place_among_texts() {
        let url = format!("data:image/png;base64,{}", png(8));
        let image = json!({ "type": "image_url", "image_url": { "url": url, "detail": "low" } });
        let text = |text: &str| json!({ "type": "text", "text": text });
        let content = json!([text("a"), text("b"), image, text("c")]);
        let read = read(json!([{ "role": "system", "content": "x" }, { "role": "user", "content": content }])).unwrap();
        assert_eq!(read[1].content, "a\nb");
        let [ContentPart::Image(image), ContentPart::Text(behind)] = read[1].more.as_slice() else { panic!("{:?}", read[1]) };
        assert_eq!((image.media_type.as_str(), &image.data, image.detail), ("image/png", &png(8), Some(Detail::Low)));
        assert_eq!((behind.as_str(), image.path.as_str()), ("c", "messages[1].content[2]"));
    }

    #[test]
    fn pictures_are_the_user_s() {
        let url = format!("data:image/png;base64,{}", png(8));
        for role in ["system", "developer", "assistant", "tool"] {
            let content = json!([{ "type": "image_url", "image_url": { "url": url } }]);
            let refused = read(json!([{ "role": role, "tool_call_id": "1", "content": content }])).unwrap_err();
            assert!(refused.contains("messages[0].content[0]") && refused.contains("unsupported_content"), "{role}: {refused}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_path() {
        let image = json!([{ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": "data:" } }] }]);
        let refused = read(image).unwrap_err();
        assert!(refused.contains("messages[0].content[0].image_url.url") && refused.contains("invalid_image_url"), "{refused}");
        let audio = read(json!([{ "role": "user", "content": [{ "type": "input_audio", "input_audio": {} }] }])).unwrap_err();
        assert!(audio.contains("messages[0].content[0]") && audio.contains("unsupported_content"), "{audio}");
        assert!(read(json!([{ "role": "user" }])).unwrap_err().contains("messages[0].content"));
        assert!(read(json!([{ "role": "tool", "content": "42" }])).unwrap_err().contains("tool_call_id"));
    }
}
