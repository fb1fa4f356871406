//! Answers that must look like something, and what is told about their tokens.

use serde_json::{Value, json};
use worker_protocol::{FailCode, Finish, Format};

use crate::harness::{ask, clever, quick};

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 30},
            "population": {"type": "integer", "minimum": 0},
            "rivers": {"type": "array", "items": {"type": "string", "maxLength": 20}, "maxItems": 3}
        },
        "required": ["city", "population", "rivers"],
        "additionalProperties": false
    })
}

#[tokio::test]
async fn a_schema_is_kept_at_every_temperature() {
    let alone = quick().await;
    for seed in 0..6 {
        let mut request = ask("Tell me about Cologne.", 200);
        request.sampling.temperature = Some(0.5 + 0.3 * f32::from(u8::try_from(seed).unwrap()));
        request.sampling.seed = Some(seed);
        request.format = Some(Format::JsonSchema(schema()));
        let ended = alone.client.run(request).await;
        assert_eq!(ended.done().0, Finish::Stop, "{ended:?}");
        let value: Value = serde_json::from_str(&ended.text()).unwrap_or_else(|error| panic!("{error}: {}", ended.text()));
        assert!(value["city"].is_string() && value["population"].is_u64() && value["rivers"].is_array(), "{value}");
    }
}

#[tokio::test]
async fn a_regular_expression_is_kept() {
    let alone = clever().await;
    let mut request = ask("Name a date.", 20);
    request.format = Some(Format::Regex("[0-9]{2}\\.[0-9]{2}\\.[0-9]{4}".into()));
    let ended = alone.client.run(request).await;
    assert_eq!((ended.text().len(), ended.done().0), (10, Finish::Stop), "{ended:?}");
    assert!(ended.text().split('.').all(|part| part.bytes().all(|byte| byte.is_ascii_digit())), "{}", ended.text());
}

#[tokio::test]
async fn a_grammar_is_kept() {
    let alone = clever().await;
    let mut request = ask("Is the sky blue on a clear day?", 20);
    request.format = Some(Format::Lark("start: \"yes\" | \"no\"".into()));
    assert_eq!(alone.client.run(request).await.text(), "yes");
}

#[tokio::test]
async fn each_of_several_answers_is_one_of_the_texts_to_choose_from() {
    let alone = quick().await;
    let texts = ["yes (of course)", "no [never]"];
    let mut request = ask("Is the sky blue on a clear day?", 40);
    request.n = 3;
    request.format = Some(Format::Choice(texts.map(String::from).to_vec()));
    let ended = alone.client.run(request).await;
    assert_eq!(ended.choices.len(), 3, "{ended:?}");
    assert!(ended.choices.values().all(|text| texts.contains(&text.as_str())), "{:?}", ended.choices);
}

#[tokio::test]
async fn a_format_that_makes_no_sense_is_refused_with_its_reason() {
    let alone = quick().await;
    let nested = json!({"type": "object", "properties": {"a": false, "b": {"type": "array", "items": {"type": "nonsense"}}}});
    for (field, format) in [
        ("response_format: the JSON schema cannot be used: ", Format::JsonSchema(json!({"type": "nonsense"}))),
        ("response_format: the JSON schema cannot be used at properties.b.items: ", Format::JsonSchema(nested)),
        ("structured_outputs: ", Format::Regex("(".into())),
        ("structured_outputs: ", Format::Lark("start: missing".into())),
        ("structured_outputs: ", Format::Regex("x".repeat(300 << 10))),
    ] {
        let mut request = ask("x", 5);
        request.format = Some(format);
        let (code, message) = alone.client.run(request).await.failed();
        assert!(code == FailCode::Invalid && message.starts_with(field), "{message}");
    }
}

#[tokio::test]
async fn log_probabilities_are_told() {
    let alone = clever().await;
    let mut request = ask("What is 2 + 3? Answer with the number only.", 5);
    request.logprobs = Some(3);
    let ended = alone.client.run(request).await;
    let first = &ended.logprobs[0];
    assert_eq!(first.bytes, b"5", "{first:?}");
    assert!(first.logprob > -1.0 && first.logprob <= 0.0, "{first:?}");
    assert_eq!(first.top.len(), 3);
    assert_eq!((&first.top[0].bytes, first.top[0].logprob), (&first.bytes, first.logprob), "greedy takes the likeliest");
    assert!(first.top.windows(2).all(|pair| pair[0].logprob >= pair[1].logprob), "{first:?}");
    assert_eq!(u32::try_from(ended.logprobs.len()).unwrap(), ended.done().1.completion_tokens);
    let none = alone.client.run(ask("Say hello.", 5)).await;
    assert!(none.logprobs.is_empty());
}

#[tokio::test]
async fn a_bias_forbids_and_forces() {
    let alone = clever().await;
    let question = || ask("What is 2 + 3? Answer with the number only.", 1);
    let mut request = question();
    request.logprobs = Some(1);
    let usual = alone.client.run(request).await;
    assert_eq!(usual.text(), "5");
    // Find the token by trying: digits are single tokens of this vocabulary, from "0" on.
    let mut forced = question();
    forced.logit_bias = [(15, 100.0)].into();
    assert_eq!(alone.client.run(forced).await.text(), "0");
    let mut wrong = question();
    wrong.logit_bias = [(-1, 1.0)].into();
    assert!(alone.client.run(wrong).await.failed().1.contains("logit_bias"));
}

#[tokio::test]
async fn an_answer_does_not_end_early_if_it_must_not() {
    let alone = clever().await;
    let mut request = ask("Say hi.", 40);
    request.ignore_end = true;
    let (finish, usage) = alone.client.run(request).await.done();
    assert_eq!((finish, usage.completion_tokens), (Finish::Length, 40));
}
