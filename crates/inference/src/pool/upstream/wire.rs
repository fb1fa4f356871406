//! The OpenAI protocol's words for a request.
//!
//! Source: the references of chat completions and of completions; `top_k`, `min_p`, `repeat_penalty`, `chat_template_kwargs` and
//! `continue_final_message` are what llama-server and vLLM add to it, and are sent only if they are asked for;
//! `structured_outputs`, the `guided_` fields and `cache_salt` are vLLM's, and are sent only where the configuration says so.

use super::{
    LengthField, StructuredField,
    content::Content,
    form::Form,
    salt,
    tools::{Called, Choice, Function, OfFunction, call_of, tool, tool_choice},
};
use crate::holds::tokens;
use domain::secret::Secret;
use serde::Serialize;
use std::collections::BTreeMap;
use worker_protocol::{ChatMessage, ChatRole, Generate, Tool};

/// Bytes that a token has at least on average, for estimates.
pub(super) const BYTES_PER_TOKEN: usize = 4;
/// Tokens that a picture counts as in estimates: about what a large one does with Anthropic (1,568 pixels long), and somewhat
/// more than with OpenAI's models that see by tiles of 512 pixels (170 tokens for each of at most eight, and 85).
const TOKENS_OF_AN_IMAGE: usize = 1_600;

/// The call that it is.
pub(super) fn call(request: &Generate) -> &'static str {
    if request.raw { "completions" } else { "chat/completions" }
}

/// What not all servers that speak the protocol have in common.
#[derive(Clone, Debug, Default)]
pub(super) struct Words {
    pub length: LengthField,
    /// How it is told of expressions and grammars; `None`: it knows neither.
    pub structured: Option<StructuredField>,
    /// The key of the salts that part the prefix caches of partitions; `None` sends none.
    pub salt_key: Option<Secret>,
}

/// A request's body.
#[derive(Serialize)]
pub(super) struct Body<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<Prompt<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    suffix: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<Vec<Message<'a>>>,
    stream: bool,
    stream_options: StreamOptions,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_p: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    typical_p: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repeat_penalty: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Logprobs>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logit_bias: Option<&'a BTreeMap<i32, f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chat_template_kwargs: Option<TemplateArguments>,
    #[serde(skip_serializing_if = "Option::is_none")]
    continue_final_message: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    add_generation_prompt: Option<bool>,
    #[serde(flatten)]
    form: Form<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_salt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<Vec<OfFunction<'a, Function<'a>>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
}

/// What is to be gone on from, in the older interface.
#[derive(Serialize)]
#[serde(untagged)]
enum Prompt<'a> {
    Text(&'a str),
    Tokens(&'a [u32]),
}

impl<'a> Prompt<'a> {
    fn of(message: &'a ChatMessage) -> Self {
        if message.tokens.is_empty() { Self::Text(&message.content) } else { Self::Tokens(&message.tokens) }
    }
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

/// The older interface has a number where the newer one has two fields.
#[derive(Serialize)]
#[serde(untagged)]
enum Logprobs {
    Wanted(bool),
    Top(u8),
}

#[derive(Serialize)]
struct TemplateArguments {
    enable_thinking: bool,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Content<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<OfFunction<'a, Called<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
}

/// What is asked for, and nothing else.
///
/// # Errors
/// A sentence for the caller: what cannot be asked of an upstream.
pub(super) fn body<'a>(request: &'a Generate, model: &'a str, words: &Words) -> Result<Body<'a>, String> {
    let (prompt, suffix, messages) = match request.messages.as_slice() {
        [only] if request.raw => (Some(Prompt::of(only)), None, None),
        [before, behind] if request.raw => (Some(Prompt::of(before)), Some(behind.content.as_str()), None),
        messages => (None, None, Some(messages.iter().map(message).collect())),
    };
    let sampling = &request.sampling;
    let bounded = |field: LengthField| sampling.max_tokens.filter(|_| words.length == field);
    let with_tools = !request.tools.is_empty();
    Ok(Body {
        model,
        prompt,
        suffix,
        messages,
        stream: true,
        stream_options: StreamOptions { include_usage: true },
        max_tokens: bounded(LengthField::MaxTokens),
        max_completion_tokens: bounded(LengthField::MaxCompletionTokens),
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        min_p: sampling.min_p,
        typical_p: sampling.typical_p,
        repeat_penalty: sampling.repeat_penalty,
        frequency_penalty: sampling.frequency_penalty,
        presence_penalty: sampling.presence_penalty,
        seed: sampling.seed,
        stop: Some(request.stop.as_slice()).filter(|stop| !stop.is_empty()),
        n: Some(request.n).filter(|n| *n > 1),
        logprobs: request.logprobs.map(|top| if request.raw { Logprobs::Top(top) } else { Logprobs::Wanted(true) }),
        top_logprobs: request.logprobs.filter(|_| !request.raw),
        logit_bias: Some(&request.logit_bias).filter(|bias| !bias.is_empty()),
        chat_template_kwargs: request.think.map(|enable_thinking| TemplateArguments { enable_thinking }),
        continue_final_message: request.continue_last.then_some(true),
        add_generation_prompt: request.continue_last.then_some(false),
        form: request.format.as_ref().map(|format| Form::of(format, words.structured)).transpose()?.unwrap_or_default(),
        cache_salt: words.salt_key.as_ref().map(|key| salt::of(key, &request.partition)),
        tools: with_tools.then(|| request.tools.iter().map(tool).collect()),
        tool_choice: tool_choice(&request.tool_choice).filter(|_| with_tools),
        parallel_tool_calls: (with_tools && request.single_tool_call).then_some(false),
    })
}

fn message(message: &ChatMessage) -> Message<'_> {
    let role = match message.role {
        ChatRole::System => "system",
        ChatRole::User => "user",
        ChatRole::Assistant => "assistant",
        ChatRole::Tool => "tool",
    };
    Message {
        role,
        content: Content::of(message),
        tool_calls: message.tool_calls.iter().map(call_of).collect(),
        tool_call_id: message.tool_call_id.as_deref(),
    }
}

/// About how many tokens the prompt has, where the server does not tell, or not yet.
pub(super) fn estimate(request: &Generate) -> u32 {
    let calls = |message: &ChatMessage| message.tool_calls.iter().map(|call| call.name.len() + call.arguments.len()).sum::<usize>();
    let texts = |message: &ChatMessage| message.content.len() + message.later_texts().map(str::len).sum::<usize>();
    let messages: usize = request.messages.iter().map(|message| texts(message) + calls(message)).sum();
    let images = request.messages.iter().flat_map(ChatMessage::images).count();
    let length = |of: &Tool| serde_json::to_vec(&tool(of)).map_or(0, |told| told.len());
    let tools: usize = request.tools.iter().map(length).sum();
    let given = tokens(&request.messages);
    u32::try_from((messages + tools).div_ceil(BYTES_PER_TOKEN) + images * TOKENS_OF_AN_IMAGE + given).unwrap_or(u32::MAX)
}

/// About how many tokens a text has.
pub(super) fn tokens_in(text: &str) -> u32 {
    u32::try_from(text.len().div_ceil(BYTES_PER_TOKEN)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::{LengthField, StructuredField, Words, call, estimate};
    use contract::model::Sampling;
    use domain::secret::Secret;
    use serde_json::{Value, json};
    use worker_protocol::{ChatMessage, ChatRole, ContentPart, Format, Generate, Image, Tool, ToolCall, ToolChoice};

    fn body(request: &Generate, model: &str) -> Result<Value, String> {
        sent(request, model, &Words::default())
    }

    /// As the server reads it.
    fn sent(request: &Generate, model: &str, words: &Words) -> Result<Value, String> {
        let text = serde_json::to_string(&super::body(request, model, words)?).unwrap();
        Ok(serde_json::from_str(&text).unwrap())
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
    fn all_that_can_be_asked_for_is_sent_in_its_words() {
        let sampling = Sampling {
            temperature: Some(0.7),
            top_p: Some(0.95),
            top_k: Some(40),
            min_p: Some(0.05),
            typical_p: Some(0.9),
            repeat_penalty: Some(1.1),
            frequency_penalty: Some(-0.2),
            presence_penalty: Some(0.3),
            seed: Some(7),
            max_tokens: Some(100),
        };
        let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
        let request = Generate {
            messages: vec![ChatMessage::new(ChatRole::System, "Be brief."), ChatMessage::new(ChatRole::Assistant, "One, ")],
            sampling,
            stop: vec!["END".into()],
            n: 3,
            logprobs: Some(5),
            logit_bias: [(17, -100.0), (3, 0.1)].into(),
            think: Some(false),
            continue_last: true,
            format: Some(Format::JsonSchema(schema.clone())),
            tools: vec![Tool { name: "add".into(), description: Some("Adds.".into()), parameters: json!({"type": "object"}) }],
            tool_choice: ToolChoice::Required,
            single_tool_call: true,
            ..Generate::default()
        };
        let mut expected = json!({
            "model": "m", "stream": true, "stream_options": {"include_usage": true},
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "assistant", "content": "One, "}],
            // The very numbers that were asked for, not their neighbours of twice the precision.
            "temperature": 0.7, "top_p": 0.95, "top_k": 40, "min_p": 0.05, "typical_p": 0.9, "repeat_penalty": 1.1,
            "frequency_penalty": -0.2, "presence_penalty": 0.3, "seed": 7, "max_completion_tokens": 100,
            "stop": ["END"], "n": 3, "logprobs": true, "top_logprobs": 5, "logit_bias": {"3": 0.1, "17": -100.0},
            "chat_template_kwargs": {"enable_thinking": false}, "continue_final_message": true, "add_generation_prompt": false,
            "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": true}},
            "tools": [{"type": "function", "function": {
                "name": "add", "description": "Adds.", "parameters": {"type": "object"}
            }}],
            "tool_choice": "required", "parallel_tool_calls": false,
        });
        let words = Words { length: LengthField::MaxCompletionTokens, ..Words::default() };
        assert_eq!(sent(&request, "m", &words).unwrap(), expected);
        let without = Generate { tools: Vec::new(), format: Some(Format::JsonSchema(json!({"type": "object"}))), ..request };
        for field in ["tools", "tool_choice", "parallel_tool_calls"] {
            expected.as_object_mut().unwrap().remove(field);
        }
        expected["response_format"] = json!({"type": "json_object"});
        assert_eq!(sent(&without, "m", &words).unwrap(), expected, "choices of no tools are none");
    }

    #[test]
    fn a_raw_prompt_is_asked_of_the_older_interface() {
        let request =
            Generate { messages: vec![ChatMessage::new(ChatRole::User, "Once")], raw: true, logprobs: Some(2), ..Generate::default() };
        assert_eq!(call(&request), "completions");
        let body = body(&request, "m").unwrap();
        assert_eq!((&body["prompt"], &body["logprobs"]), (&json!("Once"), &json!(2)));
        assert!(body.get("messages").is_none() && body.get("top_logprobs").is_none() && body.get("suffix").is_none());
    }

    #[test]
    fn token_ids_and_what_comes_behind_a_raw_prompt_are_sent_as_they_are() {
        let messages = vec![ChatMessage::of_tokens(vec![1, 151_659]), ChatMessage::new(ChatRole::User, "\nreturn")];
        let request = Generate { messages, raw: true, ..Generate::default() };
        let body = body(&request, "m").unwrap();
        assert_eq!((&body["prompt"], &body["suffix"]), (&json!([1, 151_659]), &json!("\nreturn")));
        assert_eq!(estimate(&request), 2 + 2, "ids are counted as such, a text by its bytes");
    }

    #[test]
    fn a_picture_counts_in_estimates_whatever_its_bytes() {
        let image = |bytes| {
            let (media_type, data) = ("image/png".into(), "A".repeat(bytes));
            ContentPart::Image(Image { media_type, data, detail: None, path: String::new() })
        };
        let text = |text: &str| ContentPart::Text(text.into());
        let messages = vec![ChatMessage::of(ChatRole::User, [text("This:"), image(8), text("and this?"), image(100_000)])];
        assert_eq!(estimate(&Generate { messages, ..Generate::default() }), 14u32.div_ceil(4) + 2 * 1_600);
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
        let called = json!([{"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{\"a\":1}"}}]);
        assert_eq!(body["messages"][0], json!({"role": "assistant", "content": "", "tool_calls": called}));
        assert_eq!(body["tools"], json!([{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]));
        assert_eq!(body["messages"][1], json!({"role": "tool", "content": "2", "tool_call_id": "c1"}));
        assert_eq!(body["tool_choice"], json!({"type": "function", "function": {"name": "add"}}));
        assert_eq!((&body["max_tokens"], &body["n"]), (&json!(5), &json!(2)));
    }

    #[test]
    fn tools_are_part_of_the_estimate() {
        let tool = Tool { name: "add".into(), description: None, parameters: json!({"type": "object"}) };
        let told = r#"{"type":"function","function":{"name":"add","parameters":{"type":"object"}}}"#;
        let request = Generate { messages: vec![ChatMessage::new(ChatRole::User, "hi")], tools: vec![tool], ..Generate::default() };
        assert_eq!(estimate(&request) as usize, ("hi".len() + told.len()).div_ceil(4));
    }

    #[test]
    fn a_grammar_that_it_does_not_know_is_refused() {
        let request = Generate { format: Some(Format::Regex("a+".into())), ..Generate::default() };
        assert!(body(&request, "m").is_err());
        let words = Words { structured: Some(StructuredField::StructuredOutputs), ..Words::default() };
        assert_eq!(sent(&request, "m", &words).unwrap()["structured_outputs"], json!({"regex": "a+"}));
    }

    #[test]
    fn partitions_are_parted_by_a_salt_that_does_not_name_them() {
        let salt = |partition: &str, key: Option<&str>| {
            let request = Generate { partition: partition.into(), ..Generate::default() };
            let words = Words { salt_key: key.map(Secret::new), ..Words::default() };
            sent(&request, "m", &words).unwrap().get("cache_salt").map(|salt| salt.as_str().unwrap().to_owned())
        };
        let one = salt("tenant-one", Some("key"));
        assert_eq!(salt("tenant-one", Some("key")), one, "a prefix is found again");
        assert!(one.as_ref().is_some_and(|salt| salt.len() == 64 && !salt.contains("tenant")), "{one:?}");
        assert_ne!(salt("tenant-two", Some("key")), one);
        assert_ne!(salt("tenant-one", Some("another key")), one, "who does not have the key cannot tell whose salt it is");
        assert_eq!(salt("tenant-one", None), None);
    }
}
