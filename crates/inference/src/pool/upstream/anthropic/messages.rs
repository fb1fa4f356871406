//! A conversation in Anthropic's words: instructions apart, speakers in turns, calls and results as blocks.

use serde_json::{Map, Value, json};
use worker_protocol::{ChatMessage, ChatRole, ContentPart, Generate, Image, ToolCall};

/// All instructions, wherever they stood: the API has one place for them.
pub(super) fn system(messages: &[ChatMessage]) -> Option<String> {
    let said = |message: &&ChatMessage| message.role == ChatRole::System && !message.content.trim().is_empty();
    let texts: Vec<&str> = messages.iter().filter(said).map(|message| message.content.as_str()).collect();
    (!texts.is_empty()).then(|| texts.join("\n\n"))
}

/// Everything else, what one speaker says in a row as one turn.
///
/// # Errors
/// A sentence for the caller that names the field.
pub(super) fn turns(request: &Generate) -> Result<Vec<Value>, String> {
    let mut turns: Vec<(&str, Vec<Value>)> = Vec::new();
    for message in &request.messages {
        let (speaker, blocks) = match message.role {
            ChatRole::System => continue,
            ChatRole::User => ("user", said(message)),
            ChatRole::Assistant => ("assistant", answer(message)?),
            ChatRole::Tool => ("user", vec![result(message)?]),
        };
        match turns.last_mut() {
            Some((last, said)) if *last == speaker => said.extend(blocks),
            _ => turns.push((speaker, blocks)),
        }
    }
    turns.retain(|(_, blocks)| !blocks.is_empty());
    match turns.last_mut() {
        None => return Err("messages: this model's server wants one that is not an instruction".into()),
        Some(("assistant", blocks)) if request.continue_last => without_trailing_space(blocks),
        Some(("assistant", _)) => return Err("messages: this model's server wants something to answer after the last answer".into()),
        Some(_) => {}
    }
    Ok(turns.into_iter().map(|(role, content)| json!({"role": role, "content": content})).collect())
}

/// What a user says. How closely a picture is to be looked at the API has no word for.
fn said(message: &ChatMessage) -> Vec<Value> {
    let mut blocks = text(&message.content);
    for part in &message.more {
        match part {
            ContentPart::Text(later) => blocks.extend(text(later)),
            ContentPart::Image(Image { media_type, data, .. }) => {
                blocks.push(json!({"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}));
            }
        }
    }
    blocks
}

/// Blocks of nothing but space are refused.
fn text(text: &str) -> Vec<Value> {
    if text.trim().is_empty() { Vec::new() } else { vec![json!({"type": "text", "text": text})] }
}

/// Thoughts are left out: they are taken back only with a signature.
fn answer(message: &ChatMessage) -> Result<Vec<Value>, String> {
    let mut blocks = text(&message.content);
    for call in &message.tool_calls {
        let input = arguments(call)?;
        blocks.push(json!({"type": "tool_use", "id": plain(&call.id), "name": call.name, "input": input}));
    }
    Ok(blocks)
}

fn arguments(call: &ToolCall) -> Result<Map<String, Value>, String> {
    if call.arguments.trim().is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_str(&call.arguments)
        .map_err(|_| format!("messages: the arguments of the call {} are no JSON object, which this model's server demands", call.name))
}

fn result(message: &ChatMessage) -> Result<Value, String> {
    let Some(id) = &message.tool_call_id else {
        return Err("messages: the result of a call lacks its tool_call_id".into());
    };
    let mut block = json!({"type": "tool_result", "tool_use_id": plain(id)});
    if !message.content.trim().is_empty() {
        block["content"] = message.content.as_str().into();
    }
    Ok(block)
}

/// Ids from elsewhere may hold what the API does not take; a call and its result get the same one.
fn plain(id: &str) -> String {
    id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' }).collect()
}

/// An answer to go on from must not end with space; the model says it again.
fn without_trailing_space(blocks: &mut [Value]) {
    if let Some(block) = blocks.last_mut()
        && let Some(text) = block.get("text").and_then(Value::as_str)
    {
        let trimmed = text.trim_end().to_owned();
        block["text"] = trimmed.into();
    }
}

#[cfg(test)]
mod tests {
    use super::{system, turns};
    use serde_json::{Value, json};
    use worker_protocol::{ChatMessage, ChatRole, ContentPart, Detail, Generate, Image, ToolCall};

    fn of(messages: Vec<ChatMessage>) -> Result<Vec<Value>, String> {
        turns(&Generate { messages, ..Generate::default() })
    }

    fn said(role: ChatRole, text: &str) -> ChatMessage {
        ChatMessage::new(role, text)
    }

    fn called(arguments: &str) -> ChatMessage {
        let call = ToolCall { id: "call.1".into(), name: "add".into(), arguments: arguments.into() };
        ChatMessage { tool_calls: vec![call], reasoning: Some("Hm.".into()), ..said(ChatRole::Assistant, "") }
    }

    fn result(id: &str, text: &str) -> ChatMessage {
        ChatMessage { tool_call_id: Some(id.into()), ..said(ChatRole::Tool, text) }
    }

    #[test]
    fn instructions_stand_apart() {
        let messages = [said(ChatRole::System, "Be brief."), said(ChatRole::User, "hi"), said(ChatRole::System, "In German.")];
        assert_eq!(system(&messages).as_deref(), Some("Be brief.\n\nIn German."));
        assert_eq!(system(&messages[1..2]), None);
        assert_eq!(of(messages.to_vec()).unwrap().len(), 1);
        assert!(of(vec![said(ChatRole::System, "Be brief.")]).unwrap_err().starts_with("messages:"));
    }

    #[test]
    fn results_of_calls_are_one_turn_of_the_user_with_what_follows() {
        let messages = vec![
            said(ChatRole::User, "1+1?"),
            called("{\"a\":1}"),
            result("call.1", "2"),
            result("call.2", ""),
            said(ChatRole::User, "So?"),
        ];
        let expected = json!([
            {"role": "user", "content": [{"type": "text", "text": "1+1?"}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "call_1", "name": "add", "input": {"a": 1}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": "2"},
                {"type": "tool_result", "tool_use_id": "call_2"},
                {"type": "text", "text": "So?"},
            ]},
        ]);
        assert_eq!(Value::from(of(messages).unwrap()), expected);
    }

    #[test]
    fn pictures_are_blocks_in_their_order() {
        let image = Image { media_type: "image/jpeg".into(), data: "/9j/".into(), detail: Some(Detail::High), path: "not sent".into() };
        let parts = [ContentPart::Text("This:".into()), ContentPart::Image(image), ContentPart::Text("What is it?".into())];
        let expected = json!([{"role": "user", "content": [
            {"type": "text", "text": "This:"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "/9j/"}},
            {"type": "text", "text": "What is it?"},
        ]}]);
        assert_eq!(Value::from(of(vec![ChatMessage::of(ChatRole::User, parts)]).unwrap()), expected);
    }

    #[test]
    fn arguments_must_be_an_object() {
        let conversation = |arguments| vec![said(ChatRole::User, "1+1?"), called(arguments), result("call.1", "2")];
        assert_eq!(of(conversation("")).unwrap()[1]["content"][0]["input"], json!({}));
        for wrong in ["{\"a\":", "[1]"] {
            assert!(of(conversation(wrong)).unwrap_err().starts_with("messages:"), "{wrong}");
        }
    }

    #[test]
    fn an_answer_is_continued_only_if_that_was_asked_for() {
        let messages = vec![said(ChatRole::User, "Count."), said(ChatRole::Assistant, "One, two, ")];
        assert!(of(messages.clone()).unwrap_err().starts_with("messages:"));
        let going_on = turns(&Generate { messages, continue_last: true, ..Generate::default() }).unwrap();
        assert_eq!(going_on[1]["content"], json!([{"type": "text", "text": "One, two,"}]));
    }
}
