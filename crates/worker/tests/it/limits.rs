//! The context's length, and who may call.

use reqwest::StatusCode;
use worker_protocol::{FailCode, Finish};

use crate::harness::{CONTEXT, TOKEN, ask, filler, quick};

#[tokio::test]
async fn a_prompt_that_does_not_fit_is_refused_while_a_neighbour_goes_on() {
    let alone = quick().await;
    let mut neighbour = alone.client.open(ask("Write an essay about bridges.", 60)).await;
    neighbour.first_text().await;
    let refused = alone.client.run(ask(&filler(2000), 5)).await;
    assert_eq!(refused.started, None, "refused before any decoding");
    let (code, message) = refused.failed();
    assert_eq!(code, FailCode::ContextLengthExceeded);
    let numbers: Vec<u32> = message.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect();
    assert!(matches!(numbers[..], [asked, most] if asked > 1900 && most == CONTEXT - 1), "names both numbers: {message}");
    assert_eq!(neighbour.rest().await.done().1.completion_tokens, 60);
}

#[tokio::test]
async fn an_answer_ends_where_the_context_ends() {
    let alone = quick().await;
    let mut request = ask(&format!("{}\nWrite a very long essay about foxes.", filler(960)), 1);
    request.sampling.max_tokens = None;
    let (finish, usage) = alone.client.run(request).await.done();
    if finish == Finish::Length {
        assert_eq!(usage.prompt_tokens + usage.completion_tokens, CONTEXT);
    }
    assert!(usage.prompt_tokens + usage.completion_tokens <= CONTEXT, "{usage:?}");
}

#[tokio::test]
async fn only_the_holder_of_the_token_gets_in() {
    let alone = quick().await;
    assert_eq!(alone.client.code_with(Some(&format!("Bearer {TOKEN}"))).await, StatusCode::OK);
    for wrong in [None, Some("Bearer "), Some("Bearer wrong"), Some(TOKEN), Some(&*format!("Bearer {TOKEN}x"))] {
        assert_eq!(
            alone.client.code_with(wrong).await,
            StatusCode::UNAUTHORIZED,
            "{wrong:?}. If you are here because this failed: anybody on this machine can use the worker unmetered."
        );
    }
}
