//! Several completions at the same time.

use std::time::Duration;

use worker_protocol::{ChatRole, Event};

use crate::harness::{ask, clever, filler, message, quick};

#[tokio::test]
async fn a_short_answer_overtakes_long_ones() {
    let alone = quick().await;
    let mut long = Vec::new();
    for n in 0..3 {
        let mut reply = alone.client.open(ask(&format!("Write a long essay about the number {n}."), 90)).await;
        reply.first_text().await;
        long.push(tokio::spawn(reply.rest()));
    }
    let short = alone.client.run(ask("Say hello.", 5)).await;
    assert!(short.places.is_empty());
    for task in long {
        let long = task.await.unwrap();
        assert!(long.done().1.completion_tokens > 30, "{long:?}");
        assert!(short.at < long.at, "If you are here because this failed: sequences no longer run in common steps.");
    }
}

#[tokio::test]
async fn a_long_prompt_does_not_stop_a_running_answer() {
    let alone = quick().await;
    let mut reader = alone.client.open(ask("Write a long essay about rivers.", 400)).await;
    reader.first_text().await;
    let mut prompt = alone.client.open(ask(&filler(800), 1)).await;
    assert!(matches!(prompt.next().await, Some(Event::Started { .. })));
    let mut prompt = tokio::spawn(async move { prompt.first_text().await });
    let mut pieces = 0;
    loop {
        tokio::select! {
            _ = &mut prompt => break,
            event = reader.next() => { assert!(matches!(event, Some(Event::Text { .. })), "{event:?}"); pieces += 1; }
        }
    }
    assert!(pieces >= 5, "{pieces} pieces during the prefill. If you are here because this failed: prompts are not computed in chunks.");
}

#[tokio::test]
async fn cancelling_frees_the_slot_quickly() {
    let alone = quick().await;
    for http1 in [false, true] {
        let client = if http1 { alone.client.http1() } else { alone.client.clone() };
        let mut reply = client.open(ask("Write a very long essay about mountains.", 900)).await;
        reply.first_text().await;
        drop(reply);
        let took = alone.client.until(|status| status.busy == 0).await;
        assert!(took < Duration::from_millis(1500), "{took:?}, http1: {http1}");
    }
}

#[tokio::test]
async fn cancelling_works_during_prefill() {
    let alone = quick().await;
    let mut reply = alone.client.open(ask(&filler(900), 1)).await;
    assert!(matches!(reply.next().await, Some(Event::Started { .. })));
    drop(reply);
    let took = alone.client.until(|status| status.busy == 0).await;
    assert!(took < Duration::from_millis(1500), "{took:?}");
}

#[tokio::test]
async fn the_queue_tells_places_and_is_bounded() {
    let alone = quick().await;
    let mut running = Vec::new();
    for n in 0..4 {
        let mut reply = alone.client.open(ask(&format!("Write a long essay about the number {n}."), 900)).await;
        reply.first_text().await;
        running.push(reply);
    }
    let mut first = alone.client.open(ask("Say hello.", 3)).await;
    assert!(matches!(first.next().await, Some(Event::Queued { place: 0, .. })));
    let mut second = alone.client.open(ask("Say hello.", 3)).await;
    assert!(matches!(second.next().await, Some(Event::Queued { place: 1, .. })));
    let status = alone.client.status().await;
    assert_eq!((status.busy, status.queued), (4, 2));
    let refused = alone.client.run(ask("Say hello.", 3)).await.failed();
    assert_eq!(refused.0, worker_protocol::FailCode::Overloaded, "{}", refused.1);
    drop(first);
    assert!(matches!(second.next().await, Some(Event::Queued { place: 0, .. })));
    drop(running);
    assert!(second.rest().await.done().1.completion_tokens > 0);
}

#[tokio::test]
async fn a_greedy_answer_is_the_same_alone_and_beside_others() {
    let alone = clever().await;
    // The scores depend a little on how prompts are cut into steps and on who else is in a step, since the
    // activations are quantised. So the answer must be one without close calls; somebody else's cells in it
    // would show all the same.
    let question = || {
        let mut request = ask("Count from one to thirty in digits, separated by commas.", 24);
        request.messages.push(message(ChatRole::Assistant, "1, 2, 3,"));
        request.continue_last = true;
        request
    };
    let by_itself = alone.client.run(question()).await.text();
    let others: Vec<_> = (0..3)
        .map(|n| {
            let client = alone.client.clone();
            tokio::spawn(async move { client.run(ask(&format!("Write an essay about the number {n}."), 40)).await })
        })
        .collect();
    let beside = alone.client.run(question()).await.text();
    for other in others {
        other.await.unwrap().done();
    }
    assert!(by_itself.trim_start().starts_with("4, 5, 6"), "{by_itself}");
    assert_eq!(by_itself, beside, "If you are here because this failed: sequences see each other's cells.");
}

#[tokio::test]
async fn the_counters_add_up() {
    let alone = quick().await;
    let before = alone.client.status().await.totals;
    let first = alone.client.run(ask("Say hello.", 5)).await.done().1;
    let second = alone.client.run(ask("Say goodbye.", 5)).await.done().1;
    let mut cancelled = alone.client.open(ask("Write an essay.", 500)).await;
    let Some(Event::Started { prompt_tokens, cached_tokens }) = cancelled.next().await else { panic!("not started") };
    cancelled.first_text().await;
    drop(cancelled);
    alone.client.until(|status| status.busy == 0).await;
    alone.client.run(ask(&filler(2000), 5)).await.failed();
    let after = alone.client.status().await.totals;
    assert_eq!(after.requests - before.requests, 3, "refused requests do not count");
    assert_eq!(after.prompt_tokens - before.prompt_tokens, u64::from(first.prompt_tokens + second.prompt_tokens + prompt_tokens));
    assert_eq!(after.cached_tokens - before.cached_tokens, u64::from(first.cached_tokens + second.cached_tokens + cached_tokens));
    let completed = after.completion_tokens - before.completion_tokens;
    assert!(completed > u64::from(first.completion_tokens + second.completion_tokens), "a cancelled answer's tokens count");
}
