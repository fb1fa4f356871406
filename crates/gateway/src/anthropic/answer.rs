//! An answer in one piece: blocks of content.

use super::events::Ending;
use crate::{
    chat::{
        Named,
        answer::{Choice, Collected},
    },
    follow::finish_reason,
    usage::Cost,
};
use axum::{
    Json,
    response::{IntoResponse, Response},
};
use contract::chat::AnswerStats;
use inference::{Finish, ToolCall};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// Clients give back only thoughts with a signature, as Anthropic demands it. Nobody here reads it.
pub const SIGNATURE: &str = "kontor";

/// A whole answer, or the beginning of a stream.
#[derive(Serialize, ToSchema)]
#[schema(as = AnthropicAnswer)]
pub struct Message<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    role: &'static str,
    model: &'a str,
    content: Vec<Block<'a>>,
    #[schema(required)]
    stop_reason: Option<&'static str>,
    /// The text of `stop_sequences` that ended it, if one did.
    #[schema(required)]
    stop_sequence: Option<&'a str>,
    usage: Usage,
}

#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = AnthropicAnswerBlock)]
pub enum Block<'a> {
    Text {
        text: &'a str,
    },
    Thinking {
        thinking: &'a str,
        signature: &'static str,
    },
    ToolUse {
        id: &'a str,
        name: &'a str,
        #[schema(value_type = Object)]
        input: Map<String, Value>,
    },
}

/// All three kinds of input together are the prompt. The prefix cache keeps what it can without being asked, so nothing is
/// written into it at a price of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = AnthropicUsage)]
pub struct Usage {
    input_tokens: u32,
    cache_creation_input_tokens: u32,
    cache_read_input_tokens: u32,
    output_tokens: u32,
    #[serde(flatten)]
    cost: Cost,
}

impl Usage {
    /// Before the end, when nobody knows what it will have cost.
    pub fn new(prompt_tokens: u32, cached_tokens: u32, output_tokens: u32) -> Self {
        let input_tokens = prompt_tokens.saturating_sub(cached_tokens);
        let cost = Cost::default();
        Self { input_tokens, cache_creation_input_tokens: 0, cache_read_input_tokens: cached_tokens, output_tokens, cost }
    }

    pub fn of(stats: &AnswerStats, cost: Cost) -> Self {
        Self { cost, ..Self::new(stats.prompt_tokens, stats.cached_tokens, stats.completion_tokens) }
    }
}

impl<'a> Message<'a> {
    pub fn new(named: &'a Named, content: Vec<Block<'a>>, stop_reason: Option<&'static str>, usage: Usage) -> Self {
        let id = format!("msg_{}", named.usage);
        Self { id, kind: "message", role: "assistant", model: &named.model, content, stop_reason, stop_sequence: None, usage }
    }
}

/// An object, as clients demand it: theirs end with an error of their own on anything else. Where a model wrote no object,
/// the tool is called without arguments; what it says to that is the model's occasion to try again.
pub fn input(call: &ToolCall) -> Map<String, Value> {
    serde_json::from_str(&call.arguments).unwrap_or_default()
}

/// Why it ended, and the text of `stop_sequences` that ended it, if one did. An answer that calls tools is told so even where
/// a server says that it simply ended: programs call tools for no other reason.
pub fn ending<'a>(finish: Option<Finish>, stats: &AnswerStats, stop: Option<&'a str>, calls: bool) -> Ending<'a> {
    let reason = |stop_reason| Ending { stop_reason, stop_sequence: None };
    match finish_reason(finish, stats) {
        "length" => reason("max_tokens"),
        "content_filter" => reason("refusal"),
        "tool_calls" => reason("tool_use"),
        _ if calls => reason("tool_use"),
        _ if stop.is_some() => Ending { stop_reason: "stop_sequence", stop_sequence: stop },
        _ => reason("end_turn"),
    }
}

pub fn respond(collected: &Collected, named: &Named, thoughts: bool) -> Response {
    let (nothing, stats) = (Choice::default(), &collected.stats);
    let choice = collected.choices.first().unwrap_or(&nothing);
    let mut content = Vec::with_capacity(choice.calls.len() + 2);
    if thoughts && !choice.reasoning.is_empty() {
        content.push(Block::Thinking { thinking: &choice.reasoning, signature: SIGNATURE });
    }
    // Programs look at the first block without asking whether there is one.
    if !choice.text.is_empty() || (choice.calls.is_empty() && content.is_empty()) {
        content.push(Block::Text { text: &choice.text });
    }
    content.extend(choice.calls.iter().map(|call| Block::ToolUse { id: &call.id, name: &call.name, input: input(call) }));
    let Ending { stop_reason, stop_sequence } = ending(choice.finish, stats, collected.stop.as_deref(), !choice.calls.is_empty());
    let message = Message::new(named, content, Some(stop_reason), Usage::of(stats, collected.cost()));
    Json(Message { stop_sequence, ..message }).into_response()
}

#[cfg(test)]
mod tests {
    use super::{Usage, ending, input};
    use contract::chat::AnswerStats;
    use inference::{Finish, ToolCall};
    use serde_json::{Value, json};

    #[test]
    fn arguments_become_an_object_whatever_they_are() {
        let given = |arguments: &str| Value::Object(input(&ToolCall { arguments: arguments.into(), ..ToolCall::default() }));
        assert_eq!(given(r#"{"town": "Kiel"}"#), json!({ "town": "Kiel" }));
        for wrong in ["", "[1]", "\"Kiel\"", "{\"town\": ", "null"] {
            assert_eq!(given(wrong), json!({}), "{wrong}");
        }
    }

    #[test]
    fn reasons_are_said_in_other_words() {
        let reason = |finish, calls| ending(finish, &AnswerStats::default(), None, calls).stop_reason;
        assert_eq!((reason(Some(Finish::Stop), false), reason(Some(Finish::Length), true)), ("end_turn", "max_tokens"));
        assert_eq!((reason(Some(Finish::ToolCalls), true), reason(Some(Finish::Stop), true)), ("tool_use", "tool_use"));
        assert_eq!(reason(Some(Finish::ContentFilter), true), "refusal");
        let stats = AnswerStats { finish_reason: "length".into(), ..AnswerStats::default() };
        assert_eq!(ending(None, &stats, Some("END"), false).stop_reason, "max_tokens");
        let stopped = |calls| {
            let told = ending(Some(Finish::Stop), &AnswerStats::default(), Some("END"), calls);
            (told.stop_reason, told.stop_sequence)
        };
        assert_eq!((stopped(false), stopped(true)), (("stop_sequence", Some("END")), ("tool_use", None)));
    }

    #[test]
    fn what_the_cache_gave_is_not_counted_twice() {
        let usage = serde_json::to_value(Usage::new(12, 4, 3)).unwrap();
        let expected = json!({ "input_tokens": 8, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4, "output_tokens": 3 });
        assert_eq!(usage, expected);
    }
}
