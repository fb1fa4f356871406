//! Guardrails in the funnel: what they stop reaches no model and no reader, and costs what it took.

use crate::setup::{eventually, read, request, setup};
use domain::Error;
use inference::{ChatMessage, ChatRole, EmbedInput, Format, Options, Outcome, Output, Request, Tool, ToolCall, VectorRequest};
use serde_json::{Value, json};
use std::time::Duration;
use testkit::{
    fake_worker::Script,
    guardrails::{decided, guardrails},
    ledger::{execute_as_owner, ledger},
};

const IBAN: &str = "DE89 3704 0044 0532 0130 00";

fn asks(text: &str) -> Request {
    Request { messages: vec![ChatMessage::new(ChatRole::User, text)], ..request() }
}

#[tokio::test]
async fn what_is_blocked_reaches_no_model_and_costs_nothing() {
    let s = setup().await;
    let rule = json!([{ "name": "accounts", "check": { "kind": "pii", "entities": ["iban"] }, "on": ["input"], "action": "block" }]);
    guardrails(&s.db, s.actor.tenant(), rule).await;
    let refused = s.inference.admit(&s.actor, asks(&format!("Transfer it to {IBAN}."))).await;
    assert!(matches!(&refused, Err(Error::GuardrailBlocked { rule }) if rule == "accounts"), "{refused:?}");
    let refused = s.inference.embed(&s.actor, vec![EmbedInput::Text(IBAN.into())], VectorRequest::default()).await;
    assert!(refused.is_err(), "{refused:?}");
    assert!(s.worker.requests().is_empty() && s.worker.embedded().is_empty());
    assert!(ledger(&s.db).await.is_empty());
    assert_eq!(decided(&s.db, "guardrail.blocked", "accounts").await, 1);
    assert_eq!(s.db.count_as_owner("SELECT count(*) AS value FROM audit_event WHERE detail::text LIKE '%3704%'").await, 0);
    read(&mut s.inference.admit(&s.actor, asks("Transfer it to me.")).await.expect("harmless")).await;
}

#[tokio::test]
async fn what_is_blocked_is_not_counted_either() {
    let s = setup().await;
    let rule = json!([{ "name": "accounts", "check": { "kind": "pii", "entities": ["iban"] }, "on": ["input"], "action": "block" }]);
    guardrails(&s.db, s.actor.tenant(), rule).await;
    let refused = s.inference.count_tokens(&s.actor, asks(&format!("Transfer it to {IBAN}."))).await;
    assert!(
        matches!(&refused, Err(Error::GuardrailBlocked { rule }) if rule == "accounts"),
        "If you are here because this failed: a provider that counts itself gets what rules keep from models. {refused:?}"
    );
    assert_eq!(decided(&s.db, "guardrail.blocked", "accounts").await, 1);
    s.inference.count_tokens(&s.actor, asks("Transfer it to me.")).await.expect("harmless");
}

#[tokio::test]
async fn the_model_sees_pseudonyms_and_the_reader_does_not() {
    let s = setup().await;
    let rule = json!([{ "name": "people", "check": { "kind": "pii" }, "on": ["input"], "action": "mask" }]);
    guardrails(&s.db, s.actor.tenant(), rule).await;
    s.worker.script(Script::answer("Pay [IBAN_1] and no other.").calls("pay", r#"{"to":"[IBAN_1]"}"#));
    let mut generation = s.inference.admit(&s.actor, asks(&format!("Pay {IBAN}. I repeat: {IBAN}"))).await.expect("admitted");
    let (mut text, mut arguments) = (String::new(), String::new());
    while let Some(output) = generation.next().await {
        match output {
            Output::Text { text: more, .. } => text.push_str(&more),
            Output::ToolCall { call, .. } => arguments = call.arguments,
            _ => {}
        }
    }
    assert_eq!(text, format!("Pay {IBAN} and no other."));
    assert_eq!(arguments, format!(r#"{{"to":"{IBAN}"}}"#));
    let seen = s.worker.requests().remove(0).messages.remove(0).content;
    assert_eq!(seen, "Pay [IBAN_1]. I repeat: [IBAN_1]", "If you are here because this failed: personal data reaches the model.");
    assert_eq!(decided(&s.db, "guardrail.masked", "people").await, 1);
}

#[tokio::test]
async fn an_answer_ends_before_what_it_must_not_say() {
    let s = setup().await;
    let rule = json!([{ "name": "accounts", "check": { "kind": "pii", "entities": ["iban"] }, "on": ["output"], "action": "block" }]);
    guardrails(&s.db, s.actor.tenant(), rule).await;
    s.worker.script(Script::answer(&format!("The account is {IBAN} of course, and there is more to say about it.")).hangs_after(40));
    let (text, ended) = read(&mut s.ask().await).await;
    assert_eq!(text.trim_end(), "The account is");
    assert_eq!(ended.outcome, Outcome::Failed);
    assert!(matches!(&ended.error, Some(Error::GuardrailBlocked { rule }) if rule == "accounts"), "{ended:?}");
    // What the model computed was computed.
    let (row, totals) = (s.only_use().await, s.worker.totals());
    assert_eq!((row.outcome.as_deref(), u64::from(row.completion_tokens.unsigned_abs())), (Some("failed"), totals.completion_tokens));
    eventually("the decision is audited", || async { decided(&s.db, "guardrail.blocked", "accounts").await == 1 }).await;
}

#[tokio::test]
async fn nothing_goes_around_in_another_field() {
    let s = setup().await;
    let rule = json!([{ "name": "project", "check": { "kind": "words", "words": ["Kranich"] }, "on": ["input"], "action": "block" }]);
    guardrails(&s.db, s.actor.tenant(), rule).await;
    let word = || "It is Kranich.".to_owned();
    let tool = |description: &str, schema: Value| Tool { name: "t".into(), description: Some(description.into()), parameters: schema };
    let with = |options| Request { options, ..asks("x") };
    let formed = |format| with(Options { format: Some(format), ..Options::default() });
    let said = |message| Request { messages: vec![message, ChatMessage::new(ChatRole::User, "x")], ..request() };
    let call = |arguments: &str| ToolCall { id: "1".into(), name: "t".into(), arguments: arguments.into() };
    let raw = |messages| Request { messages, options: Options { raw: true, ..Options::default() }, ..request() };
    let hidden = [
        ("system prompt", said(ChatMessage::new(ChatRole::System, word()))),
        ("thoughts", said(ChatMessage { reasoning: Some(word()), ..ChatMessage::new(ChatRole::Assistant, "y") })),
        ("a tool's result", said(ChatMessage::new(ChatRole::Tool, word()))),
        (
            "escaped arguments",
            said(ChatMessage { tool_calls: vec![call(r#"{"a":["Kra\u006eich"]}"#)], ..ChatMessage::new(ChatRole::Assistant, "") }),
        ),
        ("a call's id", said(ChatMessage { tool_call_id: Some(word()), ..ChatMessage::new(ChatRole::Tool, "y") })),
        ("a tool's description", with(Options { tools: vec![tool("Kranich", json!({}))], ..Options::default() })),
        ("a tool's schema", with(Options { tools: vec![tool("", json!({ "enum": ["Kranich"] }))], ..Options::default() })),
        ("a schema", formed(Format::JsonSchema(json!({ "const": "Kranich" })))),
        ("a choice", formed(Format::Choice(vec!["yes".into(), word()]))),
        ("an expression", formed(Format::Regex("(Kranich|Storch)".into()))),
        ("an expression's escapes", formed(Format::Regex(r"(Kr\x61nich\.|Storch)".into()))),
        ("a grammar", formed(Format::Lark("start: \"Kranich\"".into()))),
        ("a stop text", with(Options { stop: vec![word()], ..Options::default() })),
        ("what comes behind a raw prompt", raw(vec![ChatMessage::new(ChatRole::User, "x"), ChatMessage::new(ChatRole::User, word())])),
    ];
    for (where_, request) in hidden {
        let refused = s.inference.admit(&s.actor, request).await;
        assert!(
            matches!(refused, Err(Error::GuardrailBlocked { .. })),
            "If you are here because this failed: rules do not see {where_}. {refused:?}"
        );
    }
    assert!(s.worker.requests().is_empty());
}

#[tokio::test]
async fn token_ids_go_to_a_model_only_where_no_rule_reads_what_is_asked() {
    let s = setup().await;
    let ids = || Request {
        messages: vec![ChatMessage::of_tokens(vec![1, 2, 3])],
        options: Options { raw: true, ..Options::default() },
        ..request()
    };
    let watched = json!([{ "name": "accounts", "check": { "kind": "pii" }, "on": ["output"], "action": "mask" }]);
    guardrails(&s.db, s.actor.tenant(), watched).await;
    s.worker.script(Script::answer(&format!("It is {IBAN}")));
    let (text, _) = read(&mut s.inference.admit(&s.actor, ids()).await.expect("nothing to read")).await;
    assert!(text.contains("[IBAN"), "If you are here because this failed: token ids keep a rule from an answer. {text}");
    assert_eq!(s.worker.requests()[0].messages[0].tokens, [1, 2, 3]);
    let s = setup().await;
    let reading = json!([{ "name": "project", "check": { "kind": "words", "words": ["Kranich"] }, "on": ["input"], "action": "log" }]);
    guardrails(&s.db, s.actor.tenant(), reading).await;
    let refused = s.inference.admit(&s.actor, ids()).await;
    assert!(
        matches!(refused, Err(Error::Invalid { field: Some("messages"), code: "unreadable", .. })),
        "If you are here because this failed: token ids go round the guardrails. {refused:?}"
    );
    assert!(s.worker.requests().is_empty() && ledger(&s.db).await.is_empty());
}

#[tokio::test]
async fn texts_to_choose_from_are_masked_and_a_pattern_is_refused() {
    let s = setup().await;
    let rule = json!([{ "name": "people", "check": { "kind": "pii" }, "on": ["input"], "action": "mask" }]);
    guardrails(&s.db, s.actor.tenant(), rule).await;
    let formed = |format| Request { options: Options { format: Some(format), ..Options::default() }, ..asks("x") };
    s.worker.script(Script::answer("[IBAN_1]"));
    let choice = formed(Format::Choice(vec![IBAN.into(), "none (yet)".into()]));
    let (text, _) = read(&mut s.inference.admit(&s.actor, choice).await.expect("admitted")).await;
    assert_eq!(text, IBAN);
    let seen = s.worker.requests().remove(0).format;
    assert_eq!(seen, Some(Format::Choice(vec!["[IBAN_1]".into(), "none (yet)".into()])));
    for pattern in [r"anna@example\.org", "(anna@example.org|none)"] {
        let refused = s.inference.admit(&s.actor, formed(Format::Regex(pattern.into()))).await;
        assert!(
            matches!(&refused, Err(Error::GuardrailBlocked { rule }) if rule == "people"),
            "If you are here because this failed: personal data reaches the model, or an answer matches another pattern. {refused:?}"
        );
    }
    assert_eq!(s.worker.requests().len(), 1);
    assert_eq!(decided(&s.db, "guardrail.blocked", "people").await, 2);
    read(&mut s.inference.admit(&s.actor, formed(Format::Regex(r"\d{3}\.\d".into()))).await.expect("harmless")).await;
}

#[tokio::test]
async fn what_is_held_back_comes_in_its_place() {
    let s = setup().await;
    let rule = json!([{ "name": "accounts", "check": { "kind": "pii" }, "on": ["output"], "action": "mask" }]);
    guardrails(&s.db, s.actor.tenant(), rule).await;
    s.worker.script(Script::answer("Let me see").thinks("The number 12").calls("look", r#"{ "at": "mail@example.org" }"#));
    let mut generation = s.ask().await;
    let mut told = String::new();
    while let Some(output) = generation.next().await {
        match output {
            Output::Reasoning { text, .. } => told.push_str(&text.to_uppercase()),
            Output::Text { text, .. } => told.push_str(&text),
            Output::ToolCall { call, .. } => told.push_str(&call.arguments),
            _ => {}
        }
    }
    assert_eq!(told, r#"THE NUMBER 12Let me see{"at":"[EMAIL]"}"#);
}

#[tokio::test]
async fn what_only_warns_passes_and_is_told() {
    let s = setup().await;
    let rules = json!([
        { "name": "project", "check": { "kind": "words", "words": ["Kranich"] }, "on": ["input"], "action": "warn" },
        { "name": "noted", "check": { "kind": "words", "words": ["Kranich"] }, "on": ["input"], "action": "log" },
    ]);
    guardrails(&s.db, s.actor.tenant(), rules).await;
    let mut generation = s.inference.admit(&s.actor, asks("What is the project Kranich?")).await.expect("admitted");
    let (_, ended) = read(&mut generation).await;
    assert_eq!(ended.outcome, Outcome::Ok);
    assert_eq!(generation.route().expect("answered").warnings, ["project"]);
    for (action, rule) in [("guardrail.warned", "project"), ("guardrail.noted", "noted")] {
        assert_eq!(decided(&s.db, action, rule).await, 1, "{rule}");
    }
}

#[tokio::test]
async fn rules_are_those_of_the_tenant_and_new_ones_hold_within_two_seconds() {
    let s = setup().await;
    let other = testkit::tenant(&s.db, "b").await;
    let rule = json!([{ "name": "all", "check": { "kind": "words", "words": ["kontor"] }, "on": ["input"], "action": "block" }]);
    guardrails(&s.db, other.id, rule.clone()).await;
    read(&mut s.ask().await).await;
    guardrails(&s.db, s.actor.tenant(), rule).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(matches!(s.inference.admit(&s.actor, request()).await, Err(Error::GuardrailBlocked { .. })));
}

#[tokio::test]
async fn rules_that_nobody_can_read_let_nothing_pass() {
    let s = setup().await;
    execute_as_owner(
        &s.db,
        &format!("INSERT INTO guardrail_policy (tenant_id, policy) VALUES ('{}', '{{\"rules\": 7}}')", s.actor.tenant()),
    )
    .await;
    let refused = s.inference.admit(&s.actor, request()).await;
    assert!(matches!(refused, Err(Error::Unavailable { what: "guardrails", .. })), "{refused:?}");
}
