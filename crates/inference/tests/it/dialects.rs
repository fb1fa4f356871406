//! Upstreams that speak other dialects than OpenAI's.

use crate::setup::{asker, eventually, read, request};
use contract::model::Sampling;
use domain::{Actor, Error, SystemClock};
use inference::{Catalogue, ChatMessage, ChatRole, Ended, Inference, Options, Outcome, Output, Request, Tool, Upstream, UpstreamKind};
use serde_json::json;
use std::{sync::Arc, time::Duration};
use testkit::{
    TestDb,
    fake_provider::FakeProvider,
    fake_upstream::FakeUpstream,
    fake_worker::{FAKE_MODEL, fake_model, quick_pool},
    ledger::ledger,
};

const HEAD: &str = r#"{"type":"message_start","message":{"usage":{"input_tokens":12,"cache_creation_input_tokens":5,"cache_read_input_tokens":8,"output_tokens":1}}}"#;
const TEXT: &str = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"A trading house."}}"#;
const END: &str = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":17}}"#;
const STOP: &str = r#"{"type":"message_stop"}"#;
const OVERLOADED: &str = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;

struct World {
    db: TestDb,
    actor: Actor,
    inference: Inference,
}

async fn world(upstreams: Vec<Upstream>) -> World {
    let db = TestDb::new().await;
    let actor = asker(&db).await;
    let (pool, count) = (quick_pool(), upstreams.len());
    for upstream in upstreams {
        pool.add_upstream(upstream).expect("a client");
    }
    eventually("all are ready", || async { pool.describe().matches("ready with").count() == count }).await;
    let inference = Inference::new(db.db.clone(), Catalogue::new(vec![fake_model()]).expect("valid"), pool, Arc::new(SystemClock));
    World { db, actor, inference }
}

fn anthropic(provider: &FakeProvider) -> Upstream {
    provider.config(UpstreamKind::Anthropic { longest_answer: 1000 }, "/v1", FAKE_MODEL)
}

impl World {
    async fn ask(&self, request: Request) -> (String, Ended) {
        read(&mut self.inference.admit(&self.actor, request).await.expect("admitted")).await
    }
}

#[tokio::test]
async fn anthropic_is_asked_in_its_words_and_its_figures_are_the_ledger_s() {
    let provider = FakeProvider::start().await;
    let world = world(vec![anthropic(&provider)]).await;
    provider.streams(&[HEAD, TEXT, END, STOP]);
    let mut asking = request();
    asking.messages.insert(0, ChatMessage::new(ChatRole::System, "Be brief."));
    asking.options.tools = vec![Tool { name: "look_up".into(), description: None, parameters: json!({"type": "object"}) }];
    let (text, ended) = world.ask(asking).await;
    assert_eq!((text.as_str(), ended.outcome, ended.stats.finish_reason.as_str()), ("A trading house.", Outcome::Ok, "stop"));
    let asked = provider.asked().pop().expect("one call");
    assert_eq!(asked.path, "/v1/messages");
    let headers = ["x-api-key", "anthropic-version", "authorization"].map(|name| asked.header(name));
    assert_eq!(headers, ["sk-upstream", "2023-06-01", ""]);
    let expected = json!({
        "model": "their-model", "stream": true, "max_tokens": 1000, "system": "Be brief.",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "What is a kontor?"}]}],
        "tools": [{"name": "look_up", "input_schema": {"type": "object"}}],
    });
    assert_eq!(asked.body, expected);
    world.inference.drain().await;
    let rows = ledger(&world.db).await;
    assert_eq!((rows[0].prompt_tokens, rows[0].cached_tokens, rows[0].completion_tokens), (25, 8, 17));
}

#[tokio::test]
async fn pieces_of_a_text_that_come_together_go_out_together() {
    let provider = FakeProvider::start().await;
    let world = world(vec![anthropic(&provider)]).await;
    provider.streams(&[HEAD, TEXT, TEXT, TEXT, END, STOP]);
    let mut generation = world.inference.admit(&world.actor, request()).await.expect("admitted");
    let mut told = Vec::new();
    while let Some(output) = generation.next().await {
        match output {
            Output::Text { text, .. } => told.push(text),
            Output::End(ended) => assert_eq!((ended.outcome, ended.stats.completion_tokens), (Outcome::Ok, 17)),
            _ => {}
        }
    }
    assert_eq!(told, ["A trading house.".repeat(3)]);
}

#[tokio::test]
async fn one_that_is_overloaded_passes_on_by_status_or_within_its_stream() {
    let (provider, second) = (FakeProvider::start().await, FakeUpstream::start().await);
    let world = world(vec![anthropic(&provider), Upstream { order: 2, ..second.config("second", FAKE_MODEL) }]).await;
    provider.answers(529, OVERLOADED);
    provider.streams(&[HEAD, OVERLOADED]);
    for _ in 0..2 {
        let (text, ended) = world.ask(request()).await;
        assert_eq!((text.as_str(), ended.outcome), ("one two three", Outcome::Ok), "{ended:?}");
        assert_eq!(ended.stats.prompt_tokens, 20, "the figures are those of the one that answered");
    }
    assert_eq!((provider.asked().len(), second.requests().len()), (2, 2));
    provider.streams(&[HEAD, TEXT, OVERLOADED]);
    let (text, ended) = world.ask(request()).await;
    assert_eq!((text.as_str(), ended.outcome), ("A trading house.", Outcome::Failed), "what was said is not said again");
    assert!(matches!(ended.error, Some(Error::Unavailable { what: "model", .. })), "{:?}", ended.error);
}

#[tokio::test]
async fn what_anthropic_cannot_do_is_refused_by_name_and_never_sent() {
    let provider = FakeProvider::start().await;
    let world = world(vec![anthropic(&provider)]).await;
    let (_, ended) = world.ask(Request { options: Options { n: 2, ..Options::default() }, ..request() }).await;
    let Some(Error::Invalid { code: "model_refused", message, .. }) = &ended.error else { panic!("{:?}", ended.error) };
    assert!(message.starts_with("n:"), "{message}");
    assert!(provider.asked().is_empty());
}

#[tokio::test]
async fn what_anthropic_cannot_do_is_done_by_another_one_that_can() {
    let (provider, second) = (FakeProvider::start().await, FakeUpstream::start().await);
    let world = world(vec![anthropic(&provider), Upstream { order: 2, ..second.config("second", FAKE_MODEL) }]).await;
    let sampling = Sampling { min_p: Some(0.1), ..Sampling::default() };
    // More often than a circuit breaker would bear.
    for _ in 0..6 {
        let asking = Request { sampling: sampling.clone(), ..request() };
        let (text, ended) = world.ask(asking).await;
        assert_eq!((text.as_str(), ended.outcome), ("one two three", Outcome::Ok), "{ended:?}");
    }
    assert!(provider.asked().is_empty());
    provider.streams(&[HEAD, TEXT, END, STOP]);
    assert_eq!(world.ask(request()).await.0, "A trading house.", "it is not blamed for what it was not asked");
}

#[tokio::test]
async fn a_call_that_breaks_off_before_it_was_told_is_left_to_another_one() {
    let (provider, second) = (FakeProvider::start().await, FakeUpstream::start().await);
    let world = world(vec![anthropic(&provider), Upstream { order: 2, ..second.config("second", FAKE_MODEL) }]).await;
    let begin = r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t1","name":"look_up","input":{}}}"#;
    let piece = r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"what\":\"a kontor"}}"#;
    provider.streams(&[HEAD, begin, piece]);
    let (text, ended) = world.ask(request()).await;
    assert_eq!((text.as_str(), ended.outcome), ("one two three", Outcome::Ok), "nobody had heard anything of the call: {ended:?}");
    assert_eq!(second.requests().len(), 1);
    world.inference.drain().await;
    let rows = ledger(&world.db).await;
    assert_eq!((rows[0].prompt_tokens, rows[0].completion_tokens), (20, 3), "the figures are those of the one that answered");
}

#[tokio::test]
async fn an_answer_that_breaks_off_in_a_call_is_paid_for_and_not_made_again() {
    let (provider, second) = (FakeProvider::start().await, FakeUpstream::start().await);
    let world = world(vec![anthropic(&provider), Upstream { order: 2, ..second.config("second", FAKE_MODEL) }]).await;
    let begin = r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t1","name":"look_up","input":{}}}"#;
    let piece = r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"what\":\"a kontor"}}"#;
    provider.streams(&[HEAD, TEXT, begin, piece]);
    let (text, ended) = world.ask(request()).await;
    assert_eq!((text.as_str(), ended.outcome), ("A trading house.", Outcome::Failed));
    assert!(second.requests().is_empty());
    world.inference.drain().await;
    let rows = ledger(&world.db).await;
    assert_eq!(rows[0].prompt_tokens, 25);
    assert!(rows[0].completion_tokens > 5, "text and call: {}", rows[0].completion_tokens);
}

#[tokio::test]
async fn an_event_without_end_is_not_kept() {
    let provider = FakeProvider::start().await;
    let world = world(vec![Upstream { first: Duration::from_secs(20), ..anthropic(&provider) }]).await;
    provider.answers(200, &format!("data: {}\n", "x".repeat(16 * 1024)).repeat(5 * 64));
    let (_, ended) = world.ask(request()).await;
    let Some(Error::Internal(error)) = &ended.error else { panic!("{:?}", ended.error) };
    assert!(error.to_string().contains("an event is longer"), "{error}");
}

#[tokio::test]
async fn a_prompt_is_counted_by_anthropic_itself() {
    let provider = FakeProvider::start().await;
    let world = world(vec![anthropic(&provider)]).await;
    provider.answers(200, r#"{"input_tokens":42}"#);
    assert_eq!(world.inference.count_tokens(&world.actor, request()).await.expect("a count"), 42);
    let asked = provider.asked().pop().expect("one call");
    assert_eq!((asked.path.as_str(), asked.body.get("max_tokens")), ("/v1/messages/count_tokens", None));
}

#[tokio::test]
async fn a_server_that_does_not_count_completes_all_the_same() {
    let provider = FakeProvider::start().await;
    let world = world(vec![anthropic(&provider)]).await;
    // As often as would open the circuit breaker.
    for _ in 0..5 {
        provider.answers(404, "{}");
        let refused = world.inference.count_tokens(&world.actor, request()).await;
        assert!(matches!(refused, Err(Error::Unavailable { what: "model", .. })), "{refused:?}");
    }
    provider.streams(&[HEAD, TEXT, END, STOP]);
    assert_eq!(world.ask(request()).await.0, "A trading house.", "a count tells nothing about completions");
    provider.answers(405, "{}");
    assert_eq!(world.inference.count_tokens(&world.actor, request()).await.expect("an estimate"), 5, "17 bytes");
}

#[tokio::test]
async fn a_provider_is_not_polled_more_often_than_it_was_said_unless_it_is_lost() {
    let provider = FakeProvider::start().await;
    let world = world(vec![Upstream { believed: Duration::from_secs(60), ..anthropic(&provider) }]).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(provider.polls().len(), 1, "the pool asks every 50 ms");
    assert_eq!((provider.polls()[0].path.as_str(), provider.polls()[0].header("x-api-key")), ("/v1/models?limit=1", "sk-upstream"));
    // An answer without an end is a lost connection.
    provider.streams(&[HEAD, TEXT]);
    assert_eq!(world.ask(request()).await.1.outcome, Outcome::Failed);
    eventually("it is polled again", || async { provider.polls().len() == 2 }).await;
}

#[tokio::test]
async fn azure_has_the_deployment_in_its_address() {
    let provider = FakeProvider::start().await;
    let azure = UpstreamKind::Azure { api_version: "2024-10-21".into() };
    let world = world(vec![provider.config(azure, "", FAKE_MODEL)]).await;
    let said = r#"{"choices":[{"index":0,"delta":{"content":"A trading house."},"finish_reason":"stop"}]}"#;
    // It begins with what its content filter thinks of the prompt.
    provider.streams(&[r#"{"choices":[],"prompt_filter_results":[{"prompt_index":0}]}"#, said, "[DONE]"]);
    assert_eq!(world.ask(request()).await.0, "A trading house.");
    let asked = provider.asked().pop().expect("one call");
    assert_eq!(asked.path, "/openai/deployments/their-model/chat/completions?api-version=2024-10-21");
    assert_eq!((asked.header("api-key"), asked.header("authorization")), ("sk-upstream", ""));
    assert_eq!(provider.polls()[0].path, "/openai/models?api-version=2024-10-21");
}
