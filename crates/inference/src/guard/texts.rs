//! All texts that go to a model, whatever field of a request they hide in.

use super::patterns::unescaped;
use crate::admit::Options;
use guardrails::{Part, Role};
use serde_json::Value;
use worker_protocol::{ChatMessage, ChatRole, ContentPart, EmbedInput, Format, Tool};

/// Texts in JSON that is kept as text: they are looked at as what they say, not as they are written.
#[derive(Default)]
pub(super) struct Unpacked {
    arguments: Vec<Option<Arguments>>,
}

/// What a call's arguments say.
struct Arguments {
    before: Value,
    now: Value,
}

impl Unpacked {
    /// Reads the arguments of all calls. What is no JSON is looked at as it is.
    pub(super) fn of(messages: &[ChatMessage]) -> Self {
        let calls = messages.iter().flat_map(|message| &message.tool_calls);
        let read = |text: &str| serde_json::from_str::<Value>(text).ok().map(|before| Arguments { now: before.clone(), before });
        Self { arguments: calls.map(|call| read(&call.arguments)).collect() }
    }

    /// Writes back those that were changed; the others stay as they are written.
    pub(super) fn pack(self, messages: &mut [ChatMessage]) {
        let calls = messages.iter_mut().flat_map(|message| &mut message.tool_calls);
        for (call, arguments) in calls.zip(self.arguments) {
            if let Some(Arguments { now, .. }) = arguments.filter(|arguments| arguments.now != arguments.before) {
                call.arguments = now.to_string();
            }
        }
    }
}

/// Texts of a conversation and of what goes with it, each with who wrote it.
pub(super) fn of_completion<'a>(messages: &'a mut [ChatMessage], options: &'a mut Options, unpacked: &'a mut Unpacked) -> Vec<Part<'a>> {
    let mut parts = Vec::new();
    let mut arguments = unpacked.arguments.iter_mut();
    for message in messages {
        let role = match message.role {
            ChatRole::System => Role::System,
            ChatRole::User => Role::User,
            ChatRole::Assistant => Role::Assistant,
            ChatRole::Tool => Role::Tool,
        };
        let mut add = |text| parts.push(Part { role, text });
        // Token ids in its place come no further where rules look at texts.
        add(&mut message.content);
        for part in &mut message.more {
            if let ContentPart::Text(text) = part {
                add(text);
            }
        }
        message.reasoning.as_mut().into_iter().for_each(&mut add);
        message.tool_call_id.as_mut().into_iter().for_each(&mut add);
        for call in &mut message.tool_calls {
            add(&mut call.id);
            add(&mut call.name);
            match arguments.next() {
                Some(Some(arguments)) => strings(&mut arguments.now, &mut add),
                _ => add(&mut call.arguments),
            }
        }
    }
    let mut add = |text| parts.push(Part { role: Role::User, text });
    for Tool { name: _, description, parameters } in &mut options.tools {
        // A name is an identifier, checked before.
        description.as_mut().into_iter().for_each(&mut add);
        strings(parameters, &mut add);
    }
    options.stop.iter_mut().for_each(&mut add);
    match &mut options.format {
        Some(Format::JsonSchema(schema)) => strings(schema, &mut add),
        Some(Format::Choice(texts)) => texts.iter_mut().for_each(&mut add),
        // Looked at by themselves: what is put in their place would be read as a pattern.
        Some(Format::Regex(_) | Format::Lark(_)) | None => {}
    }
    parts
}

/// Texts that become vectors.
pub(super) fn of_inputs(inputs: &mut [EmbedInput]) -> Vec<Part<'_>> {
    let texts = inputs.iter_mut().flat_map(|input| match input {
        EmbedInput::Text(text) => [Some(text), None],
        // Where rules look at texts, these come no further.
        EmbedInput::Tokens(_) => [None, None],
        EmbedInput::Pair { query, document } => [Some(query), Some(document)],
    });
    texts.flatten().map(|text| Part { role: Role::User, text }).collect()
}

/// What a request says, but for what set up the chat or the program: each text once, and patterns in both forms that
/// [`super::patterns`] looks at.
pub(super) fn said_in_completion(messages: &mut [ChatMessage], options: &mut Options) -> Vec<String> {
    let patterns = match &options.format {
        Some(Format::Regex(pattern) | Format::Lark(pattern)) => vec![pattern.clone(), unescaped(pattern)],
        _ => Vec::new(),
    };
    let mut unpacked = Unpacked::of(messages);
    let parts = of_completion(messages, options, &mut unpacked);
    let texts = parts.into_iter().filter(|part| part.role != Role::System).map(|part| String::clone(part.text));
    once_each(texts.chain(patterns).collect())
}

/// The same of what becomes vectors.
pub(super) fn said_in_inputs(inputs: &mut [EmbedInput]) -> Vec<String> {
    once_each(of_inputs(inputs).into_iter().map(|part| String::clone(part.text)).collect())
}

/// Each text that says something, once.
pub(super) fn once_each(mut texts: Vec<String>) -> Vec<String> {
    texts.retain(|text| !text.trim().is_empty());
    texts.sort_unstable();
    texts.dedup();
    texts
}

/// All strings in JSON but the names of fields.
pub(super) fn strings<'a>(value: &'a mut Value, add: &mut impl FnMut(&'a mut String)) {
    match value {
        Value::String(text) => add(text),
        Value::Array(values) => values.iter_mut().for_each(|value| strings(value, add)),
        Value::Object(fields) => fields.values_mut().for_each(|value| strings(value, add)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Bytes of all texts of a conversation.
pub(crate) fn bytes(messages: &[ChatMessage]) -> usize {
    let of = |message: &ChatMessage| {
        let calls: usize = message.tool_calls.iter().map(|call| call.arguments.len() + call.name.len() + call.id.len()).sum();
        let later: usize = message.later_texts().map(str::len).sum();
        message.content.len() + later + message.reasoning.as_ref().map_or(0, String::len) + calls
    };
    messages.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::{Unpacked, of_completion};
    use crate::admit::Options;
    use worker_protocol::{ChatMessage, ChatRole, ToolCall};

    #[test]
    fn arguments_are_written_anew_only_if_what_they_say_was_changed() {
        let written = ["{ \"to\" : \"me\" }", "{ \"to\" : \"you\" }", "no JSON"];
        let calls = written.map(|arguments| ToolCall { id: String::new(), name: String::new(), arguments: arguments.into() });
        let mut messages = vec![ChatMessage { tool_calls: calls.to_vec(), ..ChatMessage::new(ChatRole::Assistant, "") }];
        let (mut options, mut unpacked) = (Options::default(), Unpacked::of(&messages));
        for part in of_completion(&mut messages, &mut options, &mut unpacked) {
            if part.text.as_str() == "you" {
                *part.text = "them".into();
            }
        }
        unpacked.pack(&mut messages);
        let packed: Vec<&str> = messages[0].tool_calls.iter().map(|call| call.arguments.as_str()).collect();
        assert_eq!(packed, [written[0], "{\"to\":\"them\"}", written[2]]);
    }
}
