//! Prompts without a template: texts, the model's own tokens, and what belongs between two of them.

use worker_protocol::{ChatMessage, ChatRole, Counted, FailCode, Generate};

use crate::harness::{ask, clever, message, quick};

/// A prompt of these messages alone.
fn raw(messages: Vec<ChatMessage>, max_tokens: u32) -> Generate {
    Generate { messages, raw: true, ..ask("", max_tokens) }
}

fn text(text: &str) -> ChatMessage {
    message(ChatRole::User, text)
}

#[tokio::test]
async fn token_ids_are_the_same_prompt_as_their_text() {
    let alone = quick().await;
    let of_text = alone.client.run(raw(vec![text("The capital of France is")], 8)).await;
    let of_ids = alone.client.run(raw(vec![ChatMessage::of_tokens(vec![504, 3575, 282, 4649, 314])], 8)).await;
    assert_eq!((of_ids.started, of_text.started), (Some((5, 0)), Some((5, 0))));
    assert_eq!(of_ids.text(), of_text.text(), "If you are here because this failed: token ids are not taken as they are.");
}

#[tokio::test]
async fn a_token_that_the_model_does_not_have_is_refused_by_its_number() {
    let alone = quick().await;
    for unknown in [49_152, u32::MAX] {
        let request = raw(vec![ChatMessage::of_tokens(vec![504, unknown])], 1);
        let refused = alone.client.run(request.clone()).await;
        assert_eq!(refused.started, None, "refused before any decoding");
        let expected = format!("prompt: there is no token {unknown}; this model's are 0 to 49151");
        assert_eq!(refused.failed(), (FailCode::Invalid, expected.clone()));
        assert_eq!(alone.client.count(request).await, Counted::Refused { code: FailCode::Invalid, message: expected });
    }
}

#[tokio::test]
async fn a_middle_is_filled_in_between_what_comes_before_and_behind() {
    let alone = clever().await;
    let answer = alone.client.run(raw(vec![text("def add(a, b):\n    return"), text("\n\nprint(add(1, 2))\n")], 16)).await;
    assert!(answer.text().contains("a + b"), "{answer:?}");
    // The marks by their numbers: prefix, suffix, middle, in this order.
    let (before, behind) = ("The capital of France is", " and that of Italy is Rome.");
    let marked = alone.client.run(raw(vec![text(before), text(behind)], 8)).await;
    let ids = [151_659, 785, 6722, 315, 9625, 374, 151_661, 323, 429, 315, 15344, 374, 21718, 13, 151_660];
    let by_hand = alone.client.run(raw(vec![ChatMessage::of_tokens(ids.to_vec())], 8)).await;
    let length = u32::try_from(ids.len()).unwrap();
    assert_eq!((marked.started, by_hand.started), (Some((length, 0)), Some((length, 0))));
    assert_eq!(marked.text(), by_hand.text());
    let before = ChatMessage::of_tokens(ids[1..6].to_vec());
    assert_eq!(alone.client.count(raw(vec![before, text(behind)], 8)).await, Counted::Tokens(length), "ids may come before as well");
}

#[tokio::test]
async fn a_model_that_was_not_taught_to_fills_no_middle_in() {
    let alone = quick().await;
    let refused = alone.client.run(raw(vec![text("def add(a, b):"), text("\n")], 8)).await;
    let (code, message) = refused.failed();
    assert_eq!((refused.started, code), (None, FailCode::Unsupported));
    assert!(message.starts_with("suffix: "), "{message}");
    let three = alone.client.run(raw(vec![text("a"), text("b"), text("c")], 8)).await;
    assert_eq!(three.failed().0, FailCode::Invalid, "there is nothing behind what comes behind");
}
