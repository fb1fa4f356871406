//! Calls of tools, and several completions of one prompt.

use serde_json::{Value, json};
use worker_protocol::{ChatMessage, ChatRole, FailCode, Finish, Generate, Tool, ToolCall, ToolChoice};

use crate::harness::{ask, clever, filler, message, quick};

fn tool(name: &str, description: &str, properties: &Value) -> Tool {
    let required: Vec<&String> = properties.as_object().expect("properties").keys().collect();
    let parameters = json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
    Tool { name: name.into(), description: Some(description.into()), parameters }
}

fn tools() -> Vec<Tool> {
    vec![
        tool("get_weather", "Get the current weather of a city", &json!({"city": {"type": "string", "maxLength": 40}})),
        tool("add_numbers", "Add two whole numbers", &json!({"a": {"type": "integer"}, "b": {"type": "integer"}})),
    ]
}

fn with_tools(question: &str) -> Generate {
    Generate { tools: tools(), ..ask(question, 120) }
}

fn arguments(call: &ToolCall) -> Value {
    serde_json::from_str(&call.arguments).unwrap_or_else(|error| panic!("{error}: {}", call.arguments))
}

#[tokio::test]
async fn a_tool_that_must_be_called_is_called_as_its_schema_says() {
    let alone = clever().await;
    let named =
        Generate { tool_choice: ToolChoice::Named("add_numbers".into()), single_tool_call: true, ..with_tools("What is 19 plus 23?") };
    let ended = alone.client.run(named).await;
    assert_eq!((ended.done().0, ended.text().as_str()), (Finish::ToolCalls, ""), "{ended:?}");
    let [call] = ended.calls.as_slice() else { panic!("{ended:?}") };
    assert_eq!((call.name.as_str(), arguments(call)), ("add_numbers", json!({"a": 19, "b": 23})));
    assert!(call.id.starts_with("call_"), "{}", call.id);

    let required =
        Generate { tool_choice: ToolChoice::Required, single_tool_call: true, ..with_tools("How is the weather in Bonn today?") };
    let ended = alone.client.run(required).await;
    assert_eq!((ended.calls[0].name.as_str(), arguments(&ended.calls[0])), ("get_weather", json!({"city": "Bonn"})), "{ended:?}");
}

#[tokio::test]
async fn even_a_model_that_knows_no_tools_can_be_made_to_call_one() {
    let alone = quick().await;
    for seed in 0..3 {
        let mut request = Generate { tool_choice: ToolChoice::Required, ..with_tools("Do something.") };
        request.sampling.temperature = Some(1.0);
        request.sampling.seed = Some(seed);
        request.single_tool_call = true;
        let ended = alone.client.run(request).await;
        let call = &ended.calls[0];
        let given = arguments(call);
        assert!(if call.name == "add_numbers" { given["a"].is_i64() } else { given["city"].is_string() }, "{call:?}");
    }
}

#[tokio::test]
async fn an_answer_follows_from_what_a_tool_said() {
    let alone = clever().await;
    let mut request = with_tools("How is the weather in Bonn?");
    let call = ToolCall { id: "call_1".into(), name: "get_weather".into(), arguments: "{\"city\": \"Bonn\"}".into() };
    request.messages.push(ChatMessage { tool_calls: vec![call], ..message(ChatRole::Assistant, "") });
    let result = "{\"condition\": \"hailstorm\", \"degrees\": 7}";
    request.messages.push(ChatMessage { tool_call_id: Some("call_1".into()), ..message(ChatRole::Tool, result) });
    let ended = alone.client.run(request).await;
    assert!(ended.text().contains("hail") && ended.text().contains('7'), "{}", ended.text());
}

#[tokio::test]
async fn a_tool_whose_schema_makes_no_sense_is_refused() {
    let alone = clever().await;
    let mut request = Generate { tool_choice: ToolChoice::Required, ..with_tools("x") };
    request.tools[0].parameters = json!({"type": "nonsense"});
    assert_eq!(alone.client.run(request).await.failed().0, FailCode::Invalid);
}

#[tokio::test]
async fn several_completions_share_one_prompt() {
    let alone = quick().await;
    let before = alone.client.status().await.totals;
    let mut request = ask(&format!("{}\nTell me a story.", filler(200)), 24);
    request.sampling.temperature = Some(1.2);
    request.n = 3;
    let ended = alone.client.run(request).await;
    let after = alone.client.status().await.totals;
    let texts: Vec<&String> = ended.choices.values().collect();
    assert_eq!(ended.choices.keys().copied().collect::<Vec<_>>(), [0, 1, 2], "{ended:?}");
    assert!(texts[0] != texts[1] && texts[1] != texts[2], "{texts:?}");
    let (_, usage) = ended.done();
    assert!(ended.ends.iter().map(|(choice, _)| *choice).all(|choice| choice > 0) && ended.ends.len() == 2, "{:?}", ended.ends);
    assert_eq!(u64::from(usage.prompt_tokens), after.prompt_tokens - before.prompt_tokens, "the prompt counts once");
    assert_eq!(u64::from(usage.completion_tokens), after.completion_tokens - before.completion_tokens);
    let evaluated = after.evaluated_tokens - before.evaluated_tokens;
    assert!(evaluated < u64::from(usage.prompt_tokens) + 3 * 24 + 32, "{evaluated} tokens for a prompt of {}", usage.prompt_tokens);
}
