//! How long a prompt is, without a token of an answer.

use serde_json::json;
use worker_protocol::{ChatRole, Counted, FailCode, Generate, Tool, ToolChoice};

use crate::harness::{CONTEXT, ask, clever, filler, message, own, quick};

fn tokens(counted: Counted) -> u32 {
    match counted {
        Counted::Tokens(tokens) => tokens,
        refused @ Counted::Refused { .. } => panic!("{refused:?}"),
    }
}

#[tokio::test]
async fn a_prompt_is_as_long_as_it_was_counted() {
    let alone = clever().await;
    let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    let tool = Tool { name: "get_weather".into(), description: Some("The weather of a city".into()), parameters };
    let plain = ask("How is the weather in Bonn?", 1);
    let mut instructed = Generate { tools: vec![tool], ..plain.clone() };
    instructed.messages.insert(0, message(ChatRole::System, "Be brief."));
    let forbidden = Generate { tools: instructed.tools.clone(), tool_choice: ToolChoice::None, ..plain.clone() };
    let raw = Generate { raw: true, ..plain.clone() };
    let before = alone.client.status().await.totals;
    let mut counts = Vec::new();
    for request in [&plain, &instructed, &forbidden, &raw] {
        counts.push(tokens(alone.client.count(request.clone()).await));
    }
    assert_eq!(alone.client.status().await.totals, before, "nothing was computed for it");
    for (request, counted) in [plain, instructed, forbidden, raw].into_iter().zip(&counts) {
        assert_eq!(alone.client.run(request).await.started.map(|(tokens, _)| tokens), Some(*counted));
    }
    assert!(counts[1] > counts[0] && counts[2] == counts[0] && counts[3] < counts[0], "{counts:?}");
}

#[tokio::test]
async fn a_prompt_that_does_not_fit_is_counted_all_the_same() {
    let alone = quick().await;
    assert!(tokens(alone.client.count(ask(&filler(2000), 1)).await) > CONTEXT);
}

#[tokio::test]
async fn counting_takes_nobodys_place() {
    let own = own(|options| options.queue_limit = 1).await;
    let client = &own.client;
    let mut answers = Vec::new();
    for n in 0..5 {
        let mut request = ask(&format!("Write a long essay about the number {n}."), 900);
        request.tenant = "flood".into();
        request.ignore_end = true;
        answers.push(client.open(request).await);
    }
    client.until(|status| (status.busy, status.queued) == (4, 1)).await;
    let quiet = Generate { tenant: "quiet".into(), ..ask("How long is this?", 1) };
    assert!(
        tokens(client.count(quiet).await) > 0,
        "If you are here because this failed: nobody can count a prompt while others fill the queue."
    );
    let status = client.status().await;
    assert_eq!((status.busy, status.queued), (4, 1), "If you are here because this failed: a count turns somebody else's request away.");
    drop(answers);
    own.stop().await;
}

#[tokio::test]
async fn what_makes_no_prompt_is_refused() {
    let alone = quick().await;
    for wrong in [Generate::default(), Generate { model: "no-such".into(), ..ask("x", 1) }] {
        let refused = alone.client.count(wrong).await;
        assert!(matches!(refused, Counted::Refused { code: FailCode::Invalid, .. }), "{refused:?}");
    }
}
