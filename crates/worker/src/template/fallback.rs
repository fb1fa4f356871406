//! Tools for models whose template knows none: said in words, in the form that most models have seen.

use serde_json::json;
use worker_protocol::{ChatMessage, ChatRole, Tool};

use super::described;
use super::texts::python_json;

/// The messages hold calls or their results.
pub fn speaks_of_tools(messages: &[ChatMessage]) -> bool {
    messages.iter().any(|message| message.role == ChatRole::Tool || !message.tool_calls.is_empty())
}

/// The messages with tools, calls and results as text.
pub fn in_words(messages: &[ChatMessage], tools: &[Tool]) -> Vec<ChatMessage> {
    let mut told: Vec<ChatMessage> = Vec::with_capacity(messages.len() + 1);
    let mut rest = messages;
    if !tools.is_empty() {
        let system = messages.first().filter(|first| first.role == ChatRole::System);
        if system.is_some() {
            rest = &messages[1..];
        }
        let before = system.map_or(String::new(), |system| format!("{}\n\n", system.content));
        told.push(ChatMessage::new(ChatRole::System, format!("{before}{}", instruction(tools))));
    }
    for message in rest {
        match message.role {
            ChatRole::Tool => {
                let text = format!("<tool_response>\n{}\n</tool_response>", message.content);
                match told.last_mut() {
                    // Several results belong to one turn, since roles take turns.
                    Some(last) if last.role == ChatRole::User && last.content.starts_with("<tool_response>") => {
                        last.content.push('\n');
                        last.content.push_str(&text);
                    }
                    _ => told.push(ChatMessage::new(ChatRole::User, text)),
                }
            }
            _ => {
                let calls = message.tool_calls.iter().map(|call| {
                    let arguments: serde_json::Value =
                        serde_json::from_str(&call.arguments).unwrap_or_else(|_| call.arguments.as_str().into());
                    format!("<tool_call>\n{}\n</tool_call>", python_json(&json!({"name": call.name, "arguments": arguments})))
                });
                let said = Some(message.content.clone()).filter(|text| !text.is_empty());
                let content = said.into_iter().chain(calls).collect::<Vec<_>>().join("\n");
                told.push(ChatMessage { content, tool_calls: Vec::new(), ..message.clone() });
            }
        }
    }
    told
}

fn instruction(tools: &[Tool]) -> String {
    let described: Vec<String> = tools.iter().map(|tool| python_json(&described(tool))).collect();
    format!(
        "You can call these functions:\n<tools>\n{}\n</tools>\n\nTo call one, write a JSON object with its name and arguments \
         between the marks, and nothing else:\n<tool_call>\n{{\"name\": <function's name>, \"arguments\": <object>}}\n</tool_call>",
        described.join("\n")
    )
}
