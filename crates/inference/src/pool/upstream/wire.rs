//! The OpenAI protocol's words for a request.
//!
//! Source: the chat completions reference; `top_k`, `min_p`, `repeat_penalty`, `chat_template_kwargs` and
//! `continue_final_message` are what llama-server and vLLM add to it, and are sent only if they are asked for.

use super::LengthField;
use serde_json::{Map, Value, json};
use worker_protocol::{ChatMessage, ChatRole, Format, Generate, ToolChoice};

/// Bytes that a token has at least on average, for estimates.
pub(super) const BYTES_PER_TOKEN: usize = 4;

/// The call that it is.
pub(super) fn call(request: &Generate) -> &'static str {
    if request.raw { "completions" } else { "chat/completions" }
}

/// The request's body.
///
/// # Errors
/// A sentence for the caller: what cannot be asked of an upstream.
pub(super) fn body(request: &Generate, model: &str, length: LengthField) -> Result<Value, String> {
    let mut body = Map::new();
    body.insert("model".into(), model.into());
    match request.messages.as_slice() {
        [only] if request.raw => body.insert("prompt".into(), only.content.as_str().into()),
        messages => body.insert("messages".into(), messages.iter().map(message).collect()),
    };
    body.insert("stream".into(), true.into());
    body.insert("stream_options".into(), json!({"include_usage": true}));
    let sampling = &request.sampling;
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.into(), value);
        }
    };
    put(length.name(), sampling.max_tokens.map(Into::into));
    put("temperature", sampling.temperature.map(Into::into));
    put("top_p", sampling.top_p.map(Into::into));
    put("top_k", sampling.top_k.map(Into::into));
    put("min_p", sampling.min_p.map(Into::into));
    put("typical_p", sampling.typical_p.map(Into::into));
    put("repeat_penalty", sampling.repeat_penalty.map(Into::into));
    put("frequency_penalty", sampling.frequency_penalty.map(Into::into));
    put("presence_penalty", sampling.presence_penalty.map(Into::into));
    put("seed", sampling.seed.map(Into::into));
    put("stop", (!request.stop.is_empty()).then(|| json!(request.stop)));
    put("n", (request.n > 1).then(|| request.n.into()));
    // The older interface has a number where the newer one has two fields.
    put("logprobs", request.logprobs.map(|top| if request.raw { top.into() } else { true.into() }));
    put("top_logprobs", request.logprobs.filter(|_| !request.raw).map(Into::into));
    put("logit_bias", (!request.logit_bias.is_empty()).then(|| json!(request.logit_bias)));
    put("chat_template_kwargs", request.think.map(|think| json!({"enable_thinking": think})));
    put("continue_final_message", request.continue_last.then(|| true.into()));
    put("add_generation_prompt", request.continue_last.then(|| false.into()));
    put("response_format", request.format.as_ref().map(format).transpose()?);
    if !request.tools.is_empty() {
        put("tools", Some(request.tools.iter().map(tool).collect()));
        put("tool_choice", tool_choice(&request.tool_choice));
        put("parallel_tool_calls", request.single_tool_call.then(|| false.into()));
    }
    Ok(body.into())
}

fn tool(tool: &worker_protocol::Tool) -> Value {
    let mut function = json!({"name": tool.name, "parameters": tool.parameters});
    if let Some(description) = &tool.description {
        function["description"] = description.as_str().into();
    }
    json!({"type": "function", "function": function})
}

fn tool_choice(choice: &ToolChoice) -> Option<Value> {
    match choice {
        ToolChoice::Auto => None,
        ToolChoice::None => Some("none".into()),
        ToolChoice::Required => Some("required".into()),
        ToolChoice::Named(name) => Some(json!({"type": "function", "function": {"name": name}})),
    }
}

fn format(format: &Format) -> Result<Value, String> {
    match format {
        Format::JsonSchema(schema) if *schema == json!({"type": "object"}) => Ok(json!({"type": "json_object"})),
        Format::JsonSchema(schema) => {
            Ok(json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": true}}))
        }
        Format::Regex(_) | Format::Lark(_) => Err("response_format: this model's server knows JSON schemas, but no other grammars".into()),
    }
}

fn message(message: &ChatMessage) -> Value {
    let role = match message.role {
        ChatRole::System => "system",
        ChatRole::User => "user",
        ChatRole::Assistant => "assistant",
        ChatRole::Tool => "tool",
    };
    let mut value = json!({"role": role, "content": message.content});
    if !message.tool_calls.is_empty() {
        let call = |call: &worker_protocol::ToolCall| json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}});
        value["tool_calls"] = message.tool_calls.iter().map(call).collect();
    }
    if let Some(id) = &message.tool_call_id {
        value["tool_call_id"] = id.as_str().into();
    }
    value
}

/// About how many tokens the prompt has, where the server does not tell, or not yet.
pub(super) fn estimate(request: &Generate) -> u32 {
    let calls = |message: &ChatMessage| message.tool_calls.iter().map(|call| call.name.len() + call.arguments.len()).sum::<usize>();
    let messages: usize = request.messages.iter().map(|message| message.content.len() + calls(message)).sum();
    let tools: usize = request.tools.iter().map(|described| tool(described).to_string().len()).sum();
    u32::try_from((messages + tools).div_ceil(BYTES_PER_TOKEN)).unwrap_or(u32::MAX)
}

/// About how many tokens a text has.
pub(super) fn tokens_in(text: &str) -> u32 {
    u32::try_from(text.len().div_ceil(BYTES_PER_TOKEN)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::{LengthField, call};
    use contract::model::Sampling;
    use serde_json::{Value, json};
    use worker_protocol::{ChatMessage, ChatRole, Format, Generate, Tool, ToolCall, ToolChoice};

    fn body(request: &Generate, model: &str) -> Result<Value, String> {
        super::body(request, model, LengthField::MaxTokens)
    }

    #[test]
    fn only_what_was_asked_for_is_sent() {
        let request = Generate { messages: vec![ChatMessage::new(ChatRole::User, "hi")], ..Generate::default() };
        let expected = json!({
            "model": "theirs", "messages": [{"role": "user", "content": "hi"}],
            "stream": true, "stream_options": {"include_usage": true}
        });
        assert_eq!(body(&request, "theirs").unwrap(), expected);
    }

    #[test]
    fn a_raw_prompt_is_asked_of_the_older_interface() {
        let request =
            Generate { messages: vec![ChatMessage::new(ChatRole::User, "Once")], raw: true, logprobs: Some(2), ..Generate::default() };
        assert_eq!(call(&request), "completions");
        let body = body(&request, "m").unwrap();
        assert_eq!((&body["prompt"], &body["logprobs"]), (&json!("Once"), &json!(2)));
        assert!(body.get("messages").is_none() && body.get("top_logprobs").is_none());
    }

    #[test]
    fn tools_and_their_results_are_said_in_its_words() {
        let call = ToolCall { id: "c1".into(), name: "add".into(), arguments: "{\"a\":1}".into() };
        let messages = vec![
            ChatMessage { tool_calls: vec![call], ..ChatMessage::new(ChatRole::Assistant, "") },
            ChatMessage { tool_call_id: Some("c1".into()), ..ChatMessage::new(ChatRole::Tool, "2") },
        ];
        let tool = Tool { name: "add".into(), description: None, parameters: json!({"type": "object"}) };
        let request = Generate {
            messages,
            tools: vec![tool],
            tool_choice: ToolChoice::Named("add".into()),
            sampling: Sampling { max_tokens: Some(5), ..Sampling::default() },
            n: 2,
            ..Generate::default()
        };
        let body = body(&request, "m").unwrap();
        assert_eq!(body["messages"][0]["tool_calls"][0]["function"], json!({"name": "add", "arguments": "{\"a\":1}"}));
        assert_eq!(body["messages"][1], json!({"role": "tool", "content": "2", "tool_call_id": "c1"}));
        assert_eq!(body["tool_choice"], json!({"type": "function", "function": {"name": "add"}}));
        assert_eq!((&body["max_tokens"], &body["n"]), (&json!(5), &json!(2)));
    }

    #[test]
    fn a_grammar_that_it_does_not_know_is_refused() {
        let request = Generate { format: Some(Format::Regex("a+".into())), ..Generate::default() };
        assert!(body(&request, "m").is_err());
    }
}
