//! Messages as Anthropic's clients write them: content is a text or a list of blocks, and what tools answered is a block
//! of the user's.

use crate::{
    failure::Failure,
    images::{self, Images, Source},
    known::Known,
    openapi,
};
use inference::{ChatMessage, ChatRole, ContentPart, ToolCall};
use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};
use serde_json::{Map, Value};
use std::fmt;
use utoipa::{ToSchema, openapi::Schema};

/// How a coding tool begins the system's text for Anthropic's bookkeeping. What follows is different in each request, and
/// nothing behind it would come out of the prefix cache.
const BOOKKEEPING: &str = "x-anthropic-billing-header:";

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AnthropicMessage)]
pub struct Message {
    role: Role,
    #[schema(schema_with = content)]
    content: Content,
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = AnthropicRole)]
enum Role {
    System,
    User,
    Assistant,
}

/// What the API's description says of [`Content`].
pub fn content() -> Schema {
    openapi::text_or::<Block>()
}

/// A text counts as one block.
#[derive(Debug)]
pub struct Content(Vec<Block>);

#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(as = AnthropicBlock)]
pub struct Block {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    thinking: Option<String>,
    /// Of a call, as `name` and `input` are.
    id: Option<String>,
    name: Option<String>,
    #[schema(value_type = Option<Object>)]
    input: Option<Map<String, Value>>,
    /// Of a result, as `content` and `is_error` are.
    tool_use_id: Option<String>,
    #[schema(schema_with = content)]
    content: Option<Content>,
    is_error: Option<bool>,
    /// Keep what leads up to the end of this message computed for as long as there is room.
    #[schema(value_type = Option<Object>)]
    cache_control: Option<Known>,
    // Known, and nothing that a template takes.
    #[serde(rename = "signature")]
    #[schema(schema_with = crate::known::schema)]
    _signature: Option<Known>,
    #[serde(rename = "data")]
    #[schema(schema_with = crate::known::schema)]
    _data: Option<Known>,
    #[serde(rename = "citations")]
    #[schema(schema_with = crate::known::schema)]
    _citations: Option<Known>,
    #[serde(rename = "caller")]
    #[schema(schema_with = crate::known::schema)]
    _caller: Option<Known>,
    /// Of an image, in messages of the user, for models that take images.
    source: Option<Source>,
}

/// The same for the funnel, the system's text first, and how many of them at the beginning are to be kept computed.
///
/// # Errors
/// A block that no model here takes, or a message that makes no sense; with its path.
pub fn messages(system: Option<Content>, messages: Vec<Message>) -> Result<(Vec<ChatMessage>, u32), Failure> {
    let mut said = Vec::with_capacity(messages.len() + 1);
    let (mut pinned, mut images) = (0, Images::default());
    let marked = system.as_ref().is_some_and(Content::is_marked);
    let system = system.map(|system| system.text("system")).transpose()?.unwrap_or_default();
    let system = without_bookkeeping(&system);
    if !system.is_empty() {
        said.push(ChatMessage::new(ChatRole::System, system));
        pinned = usize::from(marked);
    }
    for (at, Message { role, content }) in messages.into_iter().enumerate() {
        let path = format!("messages[{at}].content");
        let marked = content.is_marked();
        match role {
            Role::System => said.push(ChatMessage::new(ChatRole::System, content.text(&path)?)),
            Role::User => user(content, &path, &mut images)?.into_iter().for_each(|message| add(&mut said, message)),
            Role::Assistant => add(&mut said, assistant(content, &path)?),
        }
        if marked {
            pinned = said.len();
        }
    }
    Ok((said, u32::try_from(pinned).unwrap_or(u32::MAX)))
}

fn without_bookkeeping(system: &str) -> &str {
    if system.starts_with(BOOKKEEPING) { system.split_once('\n').map_or("", |(_, rest)| rest) } else { system }
}

/// Turns of one side that follow each other are one turn, as Anthropic has it; many templates refuse two.
fn add(said: &mut Vec<ChatMessage>, message: ChatMessage) {
    match said.last_mut().filter(|last| last.role == message.role && message.role != ChatRole::Tool) {
        Some(last) => {
            if last.more.is_empty() {
                join(&mut last.content, &message.content);
            } else if !message.content.is_empty() {
                last.more.push(ContentPart::Text(message.content));
            }
            last.more.extend(message.more);
            if let Some(thoughts) = message.reasoning {
                join(last.reasoning.get_or_insert_default(), &thoughts);
            }
            last.tool_calls.extend(message.tool_calls);
        }
        None => said.push(message),
    }
}

fn join(text: &mut String, more: &str) {
    if !text.is_empty() && !more.is_empty() {
        text.push('\n');
    }
    text.push_str(more);
}

/// Results of tools come first: templates want them right behind the calls.
fn user(content: Content, path: &str, images: &mut Images) -> Result<Vec<ChatMessage>, Failure> {
    let (mut said, mut parts) = (Vec::new(), Vec::new());
    for (number, block) in content.0.into_iter().enumerate() {
        let path = format!("{path}[{number}]");
        match (block.kind.as_str(), block.text, block.tool_use_id) {
            ("text", Some(text), _) => parts.push(ContentPart::Text(text)),
            ("image", ..) => parts.push(ContentPart::Image(images.of_source(&path, block.source)?)),
            ("tool_result", _, Some(id)) => said.push(result(id, block.content, block.is_error, &path)?),
            (kind, ..) => return Err(unfit(kind, path)),
        }
    }
    if !parts.is_empty() {
        said.push(ChatMessage::of(ChatRole::User, parts));
    }
    if said.is_empty() {
        return Err(Failure::invalid(path, None, "This message has no content."));
    }
    Ok(said)
}

fn result(id: String, content: Option<Content>, is_error: Option<bool>, path: &str) -> Result<ChatMessage, Failure> {
    let text = content.map(|content| content.text(&format!("{path}.content"))).transpose()?.unwrap_or_default();
    // Templates have no other place for it.
    let text = if is_error == Some(true) { format!("Error: {text}") } else { text };
    Ok(ChatMessage { tool_call_id: Some(id), ..ChatMessage::new(ChatRole::Tool, text) })
}

fn assistant(content: Content, path: &str) -> Result<ChatMessage, Failure> {
    let (mut texts, mut thoughts, mut tool_calls) = (Vec::new(), Vec::new(), Vec::new());
    for (number, block) in content.0.into_iter().enumerate() {
        match (block.kind.as_str(), block.text, block.thinking, block.id, block.name) {
            ("text", Some(text), ..) => texts.push(text),
            ("thinking", _, Some(thought), ..) => thoughts.push(thought),
            // Only who wrote it can read it.
            ("redacted_thinking", ..) => {}
            ("tool_use", _, _, Some(id), Some(name)) => {
                let arguments = Value::Object(block.input.unwrap_or_default()).to_string();
                tool_calls.push(ToolCall { id, name, arguments });
            }
            (kind, ..) => return Err(unfit(kind, format!("{path}[{number}]"))),
        }
    }
    let reasoning = (!thoughts.is_empty()).then(|| thoughts.join("\n"));
    Ok(ChatMessage { reasoning, tool_calls, ..ChatMessage::new(ChatRole::Assistant, texts.join("\n")) })
}

fn unfit(kind: &str, path: String) -> Failure {
    match kind {
        "text" | "thinking" | "tool_use" | "tool_result" => {
            Failure::invalid(path, None, format!("A block of the type {kind} lacks something, or belongs into another role's message."))
        }
        "image" => images::misplaced(path),
        _ => Failure::invalid(path, images::UNSUPPORTED, format!("This model takes no blocks of the type {kind}.")),
    }
}

impl Content {
    /// A client wants what leads up to here to be cached.
    fn is_marked(&self) -> bool {
        self.0.iter().any(|block| block.cache_control.is_some() || block.content.as_ref().is_some_and(Self::is_marked))
    }

    /// Where there can be nothing but text.
    fn text(self, path: &str) -> Result<String, Failure> {
        let mut texts = Vec::with_capacity(self.0.len());
        for (number, block) in self.0.into_iter().enumerate() {
            match (block.kind.as_str(), block.text) {
                ("text", Some(text)) => texts.push(text),
                (kind, _) => return Err(unfit(kind, format!("{path}[{number}]"))),
            }
        }
        Ok(texts.join("\n"))
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Content;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of blocks")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Content, E> {
                Ok(Content(vec![Block { kind: "text".into(), text: Some(text.into()), ..Block::default() }]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut blocks: A) -> Result<Content, A::Error> {
                let mut all = Vec::new();
                while let Some(block) = blocks.next_element()? {
                    all.push(block);
                }
                Ok(Content(all))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::{Content, Message, messages};
    use crate::images::tests::png;
    use inference::{ChatMessage, ChatRole, ContentPart};
    use serde_json::{Value, json};

    fn read(system: Value, said: Value) -> Result<Vec<ChatMessage>, String> {
        read_with_pins(system, said).map(|(said, _)| said)
    }

    fn read_with_pins(system: Value, said: Value) -> Result<(Vec<ChatMessage>, u32), String> {
        let system: Option<Content> = serde_json::from_value(system).map_err(|error| error.to_string())?;
        let said: Vec<Message> = serde_json::from_value(said).map_err(|error| error.to_string())?;
        messages(system, said).map_err(|failure| failure.event())
    }

    #[test]
    fn content_is_text_or_blocks() {
        let cached = json!({ "type": "text", "text": "Be brief.", "cache_control": { "type": "ephemeral" } });
        let system = json!([cached, { "type": "text", "text": "Be kind." }]);
        let said = json!([{ "role": "user", "content": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }] }]);
        let read_as_blocks = read(system, said).unwrap();
        assert_eq!(read_as_blocks[0], ChatMessage::new(ChatRole::System, "Be brief.\nBe kind."));
        assert_eq!(read_as_blocks[1], ChatMessage::new(ChatRole::User, "a\nb"));
        assert_eq!(read(json!("Be brief.\nBe kind."), json!([{ "role": "user", "content": "a\nb" }])).unwrap(), read_as_blocks);
        assert_eq!(read(json!(""), json!([{ "role": "user", "content": "a" }])).unwrap().len(), 1);
    }

    #[test]
    fn what_is_marked_for_the_cache_is_pinned_with_all_before_it() {
        let block =
            |marked: bool| json!([{ "type": "text", "text": "a", "cache_control": marked.then(|| json!({ "type": "ephemeral" })) }]);
        let pinned = |system: Value, marks: [bool; 3]| {
            let said: Vec<Value> = marks
                .into_iter()
                .zip(["user", "assistant", "user"])
                .map(|(marked, role)| json!({ "role": role, "content": block(marked) }))
                .collect();
            read_with_pins(system, said.into()).unwrap().1
        };
        assert_eq!(pinned(block(false), [false; 3]), 0);
        assert_eq!(pinned(block(true), [false; 3]), 1);
        assert_eq!(pinned(block(true), [false, true, false]), 3);
        assert_eq!(pinned(Value::Null, [true, false, false]), 1);
        let result = json!([{ "type": "tool_result", "tool_use_id": "c", "content": block(true) }, { "type": "text", "text": "b" }]);
        assert_eq!(read_with_pins(Value::Null, json!([{ "role": "user", "content": result }])).unwrap().1, 2, "the whole turn");
        let empty = json!([{ "type": "text", "text": "", "cache_control": { "type": "ephemeral" } }]);
        assert_eq!(read_with_pins(empty, json!([{ "role": "user", "content": "a" }])).unwrap().1, 0);
    }

    #[test]
    fn calls_thoughts_and_results_come_through() {
        let said = json!([
            { "role": "user", "content": "How is the weather in Kiel and Husum?" },
            { "role": "assistant", "content": [
                { "type": "thinking", "thinking": "hm", "signature": "s" },
                { "type": "redacted_thinking", "data": "x" },
                { "type": "text", "text": "I look." },
                { "type": "tool_use", "id": "call_1", "name": "weather", "input": { "town": "Kiel", "days": 1 } },
                { "type": "tool_use", "id": "call_2", "name": "weather", "input": {} },
            ] },
            { "role": "user", "content": [
                { "type": "text", "text": "Quick." },
                { "type": "tool_result", "tool_use_id": "call_1", "content": [{ "type": "text", "text": "rain" }] },
                { "type": "tool_result", "tool_use_id": "call_2", "content": "no such town", "is_error": true },
            ] },
        ]);
        let read = read(Value::Null, said).unwrap();
        let [_, answer, rain, none, quick] = read.as_slice() else { panic!("{read:?}") };
        assert_eq!((answer.content.as_str(), answer.reasoning.as_deref()), ("I look.", Some("hm")));
        assert_eq!((answer.tool_calls[0].name.as_str(), answer.tool_calls[1].arguments.as_str()), ("weather", "{}"));
        assert_eq!(serde_json::from_str::<Value>(&answer.tool_calls[0].arguments).unwrap(), json!({ "town": "Kiel", "days": 1 }));
        assert_eq!((rain.role, rain.content.as_str(), rain.tool_call_id.as_deref()), (ChatRole::Tool, "rain", Some("call_1")));
        assert_eq!((none.content.as_str(), none.tool_call_id.as_deref()), ("Error: no such town", Some("call_2")));
        assert_eq!(*quick, ChatMessage::new(ChatRole::User, "Quick."));
    }

    #[test]
    fn turns_of_one_side_become_one() {
        let said = json!([{ "role": "user", "content": "a" }, { "role": "user", "content": "b" }, { "role": "assistant", "content": "c" }]);
        let read = read(Value::Null, said).unwrap();
        assert_eq!(read, [ChatMessage::new(ChatRole::User, "a\nb"), ChatMessage::new(ChatRole::Assistant, "c")]);
    }

    #[test]
    fn pictures_keep_their_place_among_texts() {
        let image = json!({ "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": png(8) } });
        let text = |text: &str| json!({ "type": "text", "text": text });
        let said = json!([
            { "role": "user", "content": [text("a"), image, text("b")] },
            { "role": "user", "content": [text("c"), image] },
        ]);
        let read = read(Value::Null, said).unwrap();
        assert_eq!((read.len(), read[0].content.as_str()), (1, "a"));
        let [ContentPart::Image(first), ContentPart::Text(b), ContentPart::Text(c), ContentPart::Image(second)] = read[0].more.as_slice()
        else {
            panic!("{read:?}")
        };
        assert_eq!((b.as_str(), c.as_str(), &first.data, &second.data), ("b", "c", &png(8), &png(8)));
        assert_eq!((first.path.as_str(), second.path.as_str()), ("messages[0].content[1]", "messages[1].content[1]"));
    }

    #[test]
    fn what_differs_in_each_request_is_kept_from_the_prefix_cache() {
        let said = || json!([{ "role": "user", "content": "a" }]);
        let system = json!([{ "type": "text", "text": "x-anthropic-billing-header: cch=1f;" }, { "type": "text", "text": "Be brief." }]);
        assert_eq!(read(system, said()).unwrap()[0], ChatMessage::new(ChatRole::System, "Be brief."));
        assert_eq!(read(json!("x-anthropic-billing-header: cch=1f;"), said()).unwrap().len(), 1);
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_path() {
        let refused = |blocks: Value| read(Value::Null, json!([{ "role": "user", "content": blocks }])).unwrap_err();
        let image = json!({ "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "" } });
        let seen = refused(json!([image]));
        assert!(seen.contains(r#""param":"messages[0].content[0].source.data""#) && seen.contains("invalid_image_format"), "{seen}");
        let seen = refused(json!([{ "type": "document", "source": { "type": "base64", "media_type": "application/pdf", "data": "" } }]));
        assert!(seen.contains(r#""param":"messages[0].content[0]""#) && seen.contains("unsupported_content"), "{seen}");
        let seen = refused(json!([{ "type": "tool_result", "tool_use_id": "call_1", "content": [image] }]));
        assert!(seen.contains(r#""param":"messages[0].content[0].content[0]""#), "{seen}");
        assert!(refused(json!([{ "type": "tool_use", "id": "call_1", "name": "f", "input": {} }])).contains("another role"));
        assert!(refused(json!([])).contains("no content") && refused(json!(7)).contains("a string or an array of blocks"));
    }
}
