//! Ids of calls as some templates want them.

use std::collections::HashMap;

use worker_protocol::ChatMessage;

/// Nine letters and digits for an id of whatever form, the same ones for the same id.
pub fn nine(id: &str) -> String {
    if id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return id.to_owned();
    }
    // FNV-1a; two ids of one conversation that collide would only confuse its own model.
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{:09x}", hash & 0xf_ffff_ffff)
}

/// The messages with the ids that Kimi gives its calls, the name and how many there were before: its template tells
/// nothing else of what was called.
pub fn of_kimi(messages: &[ChatMessage]) -> Vec<ChatMessage> {
    let mut messages = messages.to_vec();
    let mut renamed: HashMap<String, String> = HashMap::new();
    let mut calls = 0;
    for message in &mut messages {
        for call in &mut message.tool_calls {
            let id = format!("functions.{}:{calls}", call.name);
            calls += 1;
            renamed.insert(std::mem::replace(&mut call.id, id.clone()), id);
        }
        if let Some(id) = &mut message.tool_call_id
            && let Some(new) = renamed.get(id.as_str())
        {
            id.clone_from(new);
        }
    }
    messages
}

#[cfg(test)]
mod tests {
    use worker_protocol::{ChatRole, ToolCall};

    use super::*;

    #[test]
    fn mistral_gets_ids_of_nine_characters() {
        assert_eq!(nine("abcdefgh1"), "abcdefgh1");
        assert_eq!(nine("call_AbCdEfGhIjKl").len(), 9);
        assert_ne!(nine("call_1"), nine("call_2"));
    }

    #[test]
    fn kimis_ids_are_names_and_numbers_and_answers_follow_their_calls() {
        let call = |id: &str, name: &str| ToolCall { id: id.into(), name: name.into(), arguments: "{}".into() };
        let calls = |calls: Vec<ToolCall>| ChatMessage { tool_calls: calls, ..ChatMessage::new(ChatRole::Assistant, "") };
        let answer = |id: &str| ChatMessage { tool_call_id: Some(id.into()), ..ChatMessage::new(ChatRole::Tool, "so") };
        let messages = [
            calls(vec![call("a", "time"), call("b", "weather")]),
            answer("b"),
            answer("a"),
            // Some clients count anew in each answer.
            calls(vec![call("a", "weather")]),
            answer("a"),
            answer("unknown"),
        ];
        let renamed = of_kimi(&messages);
        let called: Vec<&str> = renamed.iter().flat_map(|message| &message.tool_calls).map(|call| call.id.as_str()).collect();
        assert_eq!(called, ["functions.time:0", "functions.weather:1", "functions.weather:2"]);
        let answered: Vec<&str> = renamed.iter().filter_map(|message| message.tool_call_id.as_deref()).collect();
        assert_eq!(answered, ["functions.weather:1", "functions.time:0", "functions.weather:2", "unknown"]);
    }
}
