//! A request in Anthropic's words.

use super::messages;
use serde_json::{Map, Value, json};
use worker_protocol::{ChatRole, Format, Generate, Tool, ToolChoice};

/// The tool that an answer in JSON is asked for as: forced, its input is the answer.
const ANSWER: &str = "answer";
/// The fewest tokens that thinking can be given.
const LEAST_THINKING: u32 = 1024;

/// The whole request. `longest_answer` bounds every answer.
///
/// # Errors
/// A sentence for the caller that names the field.
pub(super) fn body(request: &Generate, model: &str, longest_answer: u32) -> Result<Value, String> {
    refuse_unknown(request)?;
    let mut body = prompt(request, model)?;
    let sampling = &request.sampling;
    let max_tokens = sampling.max_tokens.unwrap_or(longest_answer).min(longest_answer);
    body.insert("max_tokens".into(), max_tokens.into());
    body.insert("stream".into(), true.into());
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.into(), value);
        }
    };
    put("temperature", sampling.temperature.map(Into::into));
    put("top_p", sampling.top_p.map(Into::into));
    put("top_k", sampling.top_k.filter(|top_k| *top_k > 0).map(Into::into));
    put("stop_sequences", (!request.stop.is_empty()).then(|| json!(request.stop)));
    put("thinking", thinking(request, max_tokens)?);
    Ok(body.into())
}

/// What the prompt is made of.
///
/// # Errors
/// A sentence for the caller that names the field.
pub(super) fn prompt(request: &Generate, model: &str) -> Result<Map<String, Value>, String> {
    if request.raw {
        return Err("prompt: this model's server knows conversations alone; ask /v1/chat/completions".into());
    }
    let mut prompt = Map::new();
    prompt.insert("model".into(), model.into());
    if let Some(system) = messages::system(&request.messages) {
        prompt.insert("system".into(), system.into());
    }
    prompt.insert("messages".into(), messages::turns(request)?.into());
    match &request.format {
        None if request.tools.is_empty() => {}
        None => {
            prompt.insert("tools".into(), request.tools.iter().map(tool).collect::<Result<Value, _>>()?);
            if let Some(choice) = tool_choice(request) {
                prompt.insert("tool_choice".into(), choice);
            }
        }
        Some(format) => {
            prompt.insert("tools".into(), json!([answer_tool(request, format)?]));
            prompt.insert("tool_choice".into(), json!({"type": "tool", "name": ANSWER}));
        }
    }
    Ok(prompt)
}

/// What the API has no word for, unless it is asked for in a way that changes nothing.
fn refuse_unknown(request: &Generate) -> Result<(), String> {
    let sampling = &request.sampling;
    let set = |value: Option<f32>, off: f32| value.is_some_and(|value| (value - off).abs() > f32::EPSILON);
    let unknown = [
        ("n", request.n > 1),
        ("logprobs", request.logprobs.is_some()),
        ("logit_bias", !request.logit_bias.is_empty()),
        ("seed", sampling.seed.is_some()),
        ("min_p", set(sampling.min_p, 0.0)),
        ("typical_p", set(sampling.typical_p, 1.0)),
        ("repeat_penalty", set(sampling.repeat_penalty, 1.0)),
        ("frequency_penalty", set(sampling.frequency_penalty, 0.0)),
        ("presence_penalty", set(sampling.presence_penalty, 0.0)),
    ];
    if let Some((field, _)) = unknown.iter().find(|(_, asked)| *asked) {
        return Err(format!("{field}: this model's server does not know it; leave it out or take another model"));
    }
    if sampling.temperature.is_some_and(|temperature| temperature > 1.0) {
        return Err("temperature: this model's server takes 0 to 1".into());
    }
    Ok(())
}

/// Half of the answer for thoughts, where it has room for them and they are asked for.
fn thinking(request: &Generate, max_tokens: u32) -> Result<Option<Value>, String> {
    // Its thoughts before a call would have to be sent back with a signature that only its own clients keep.
    let after_a_call = request.messages.last().is_some_and(|message| message.role == ChatRole::Tool);
    if request.think != Some(true) || after_a_call || max_tokens <= LEAST_THINKING {
        return Ok(None);
    }
    let forced = request.format.is_some() || matches!(request.tool_choice, ToolChoice::Required | ToolChoice::Named(_));
    if forced {
        return Err("reasoning_effort: this model's server does not think where the answer's form or a call is demanded".into());
    }
    let sampling = &request.sampling;
    let chosen =
        [("temperature", sampling.temperature.is_some()), ("top_p", sampling.top_p.is_some()), ("top_k", sampling.top_k.is_some())];
    match chosen.iter().find(|(_, chosen)| *chosen) {
        Some((field, _)) => Err(format!("{field}: this model's server does not take it while the model thinks")),
        None if request.continue_last => Err("reasoning_effort: this model's server does not think where an answer is continued".into()),
        None => Ok(Some(json!({"type": "enabled", "budget_tokens": (max_tokens / 2).max(LEAST_THINKING)}))),
    }
}

fn tool(tool: &Tool) -> Result<Value, String> {
    if tool.name.contains('.') {
        return Err(format!("tools: this model's server takes no dots in names, as in {}", tool.name));
    }
    let mut told = json!({"name": tool.name, "input_schema": of_an_object(&tool.parameters)});
    if let Some(description) = &tool.description {
        told["description"] = description.as_str().into();
    }
    Ok(told)
}

/// The API wants it said that arguments are an object.
fn of_an_object(schema: &Value) -> Value {
    let mut schema = if schema.is_object() { schema.clone() } else { json!({}) };
    if schema.get("type").is_none() {
        schema["type"] = "object".into();
    }
    schema
}

fn tool_choice(request: &Generate) -> Option<Value> {
    let mut choice = match &request.tool_choice {
        ToolChoice::None => return Some(json!({"type": "none"})),
        ToolChoice::Auto if !request.single_tool_call => return None,
        ToolChoice::Auto => json!({"type": "auto"}),
        ToolChoice::Required => json!({"type": "any"}),
        ToolChoice::Named(name) => json!({"type": "tool", "name": name}),
    };
    if request.single_tool_call {
        choice["disable_parallel_tool_use"] = true.into();
    }
    Some(choice)
}

fn answer_tool(request: &Generate, format: &Format) -> Result<Value, String> {
    let Format::JsonSchema(schema) = format else {
        return Err("structured_outputs: this model's server knows JSON schemas alone".into());
    };
    if !request.tools.is_empty() {
        return Err("response_format: this model's server takes a schema or tools, not both".into());
    }
    if request.continue_last {
        return Err("response_format: this model's server cannot continue an answer in JSON".into());
    }
    if !schema.is_object() || schema.get("type").is_some_and(|of| of != "object") {
        return Err("response_format: this model's server answers with objects alone".into());
    }
    Ok(json!({"name": ANSWER, "description": "Gives the answer.", "input_schema": of_an_object(schema)}))
}

#[cfg(test)]
mod tests {
    use super::body;
    use contract::model::Sampling;
    use serde_json::{Value, json};
    use worker_protocol::{ChatMessage, ChatRole, Format, Generate, Tool, ToolChoice};

    fn asking() -> Generate {
        Generate { messages: vec![ChatMessage::new(ChatRole::User, "hi")], ..Generate::default() }
    }

    fn sampled(sampling: Sampling) -> Generate {
        Generate { sampling, ..asking() }
    }

    fn tool(name: &str, parameters: Value) -> Tool {
        Tool { name: name.into(), description: Some("Adds.".into()), parameters }
    }

    #[test]
    fn only_what_was_asked_for_is_sent_and_a_length_is_always() {
        let expected = json!({
            "model": "theirs", "max_tokens": 4000, "stream": true,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        });
        assert_eq!(body(&asking(), "theirs", 4000).unwrap(), expected);
        for (asked, sent) in [(7, 7), (9000, 4000)] {
            let request = sampled(Sampling { max_tokens: Some(asked), ..Sampling::default() });
            assert_eq!(body(&request, "m", 4000).unwrap()["max_tokens"], sent);
        }
    }

    #[test]
    fn what_it_knows_is_said_in_its_words() {
        let request = Generate {
            stop: vec!["END".into()],
            tools: vec![tool("add", json!({"properties": {"a": {"type": "number"}}}))],
            tool_choice: ToolChoice::Required,
            single_tool_call: true,
            ..sampled(Sampling { temperature: Some(0.5), top_p: Some(0.25), top_k: Some(0), ..Sampling::default() })
        };
        let body = body(&request, "m", 10).unwrap();
        assert_eq!((&body["temperature"], &body["top_p"], body.get("top_k")), (&json!(0.5), &json!(0.25), None));
        assert_eq!(body["stop_sequences"], json!(["END"]));
        let schema = json!({"type": "object", "properties": {"a": {"type": "number"}}});
        assert_eq!(body["tools"], json!([{"name": "add", "description": "Adds.", "input_schema": schema}]));
        assert_eq!(body["tool_choice"], json!({"type": "any", "disable_parallel_tool_use": true}));
    }

    #[test]
    fn what_it_does_not_know_is_refused_by_name() {
        let sampling = Sampling::default;
        let cases = [
            ("n:", Generate { n: 2, ..asking() }),
            ("logprobs:", Generate { logprobs: Some(0), ..asking() }),
            ("logit_bias:", Generate { logit_bias: [(1, 1.0)].into(), ..asking() }),
            ("seed:", sampled(Sampling { seed: Some(1), ..sampling() })),
            ("min_p:", sampled(Sampling { min_p: Some(0.1), ..sampling() })),
            ("frequency_penalty:", sampled(Sampling { frequency_penalty: Some(1.0), ..sampling() })),
            ("temperature:", sampled(Sampling { temperature: Some(1.5), ..sampling() })),
            ("prompt:", Generate { raw: true, ..asking() }),
            ("tools:", Generate { tools: vec![tool("a.b", json!({}))], ..asking() }),
            ("structured_outputs:", Generate { format: Some(Format::Regex("a+".into())), ..asking() }),
            ("response_format:", Generate { format: Some(Format::JsonSchema(json!({"type": "array"}))), ..asking() }),
        ];
        for (field, request) in cases {
            let refused = body(&request, "m", 4000).expect_err(field);
            assert!(refused.starts_with(field), "{field} {refused}");
        }
        let off = Sampling { frequency_penalty: Some(0.0), presence_penalty: Some(0.0), repeat_penalty: Some(1.0), ..sampling() };
        assert!(body(&Generate { n: 1, ..sampled(off) }, "m", 4000).is_ok(), "what changes nothing is no reason to refuse");
    }

    #[test]
    fn an_answer_in_json_is_a_forced_call() {
        let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
        let body = body(&Generate { format: Some(Format::JsonSchema(schema.clone())), ..asking() }, "m", 10).unwrap();
        assert_eq!(body["tool_choice"], json!({"type": "tool", "name": "answer"}));
        assert_eq!(body["tools"][0]["input_schema"], schema);
    }

    #[test]
    fn thinking_takes_half_and_leaves_out_what_it_forbids() {
        let thinking = |request: Generate, longest| body(&Generate { think: Some(true), ..request }, "m", longest);
        assert_eq!(thinking(asking(), 8000).unwrap()["thinking"], json!({"type": "enabled", "budget_tokens": 4000}));
        assert_eq!(thinking(asking(), 1500).unwrap()["thinking"]["budget_tokens"], 1024);
        assert!(thinking(asking(), 1024).unwrap().get("thinking").is_none(), "no room for it");
        let cold = sampled(Sampling { temperature: Some(0.0), ..Sampling::default() });
        assert!(thinking(cold, 8000).unwrap_err().starts_with("temperature:"));
        let forced = Generate { format: Some(Format::JsonSchema(json!({"type": "object"}))), ..asking() };
        assert!(thinking(forced, 8000).unwrap_err().starts_with("reasoning_effort:"));
    }
}
