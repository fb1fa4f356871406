//! An end that the pool asks for: prompt, and with the last counters.

use std::time::{Duration, Instant};

use uuid::Uuid;
use worker_protocol::{Event, FailCode, Usage};

use crate::harness::{ask, filler, quick};

/// From the wish to the last event. A step may be as long as 240 ms where the machine has nothing else to do.
const SOON: Duration = Duration::from_secs(2);

#[tokio::test]
async fn whatever_was_computed_is_told() {
    let alone = quick().await;
    let before = alone.client.status().await.totals;
    let (mut told, mut cut) = (Usage::default(), 0);
    // In the queue, in prefill, after the first tokens; alone and beside others; one completion and three.
    for round in 0_u64..12 {
        let replies = (0..4_u64).map(|n| {
            let client = alone.client.clone();
            let mut request = ask(&format!("{} Write an essay about the number {n}.", filler(usize::try_from(n * 40).unwrap())), 60);
            request.n = if n == 3 { 3 } else { 1 };
            tokio::spawn(async move {
                let id = request.id;
                let reply = client.open(request).await;
                tokio::time::sleep(Duration::from_millis(round * 45 + n * 17)).await;
                client.cancel(id).await;
                let asked = Instant::now();
                let ended = reply.rest().await;
                assert!(asked.elapsed() < SOON, "it took {:?} to end", asked.elapsed());
                ended
            })
        });
        for reply in replies.collect::<Vec<_>>() {
            let ended = reply.await.unwrap();
            let usage = ended.counted();
            told.prompt_tokens += usage.prompt_tokens;
            told.cached_tokens += usage.cached_tokens;
            told.completion_tokens += usage.completion_tokens;
            cut += usize::from(matches!(ended.last, Some(Event::Failed { code: FailCode::Cancelled, .. })));
        }
        // An answer is told of its end a moment before its place is free, and there are just enough.
        alone.client.until(|status| status.busy == 0 && status.queued == 0).await;
    }
    let after = alone.client.status().await.totals;
    let counted = (
        after.prompt_tokens - before.prompt_tokens,
        after.cached_tokens - before.cached_tokens,
        after.completion_tokens - before.completion_tokens,
    );
    assert!(cut > 20, "only {cut} of 48 were cut");
    assert_eq!(
        counted,
        (told.prompt_tokens.into(), told.cached_tokens.into(), told.completion_tokens.into()),
        "If you are here because this failed: a worker computes what nobody is told of, so nobody pays for it."
    );
}

#[tokio::test]
async fn an_unknown_use_is_nobodys_business() {
    let alone = quick().await;
    alone.client.cancel(Uuid::now_v7()).await;
    let request = ask("Say hello.", 5);
    let id = request.id;
    alone.client.run(request).await.done();
    alone.client.cancel(id).await;
    // As above: its place is free a moment after.
    alone.client.until(|status| status.busy == 0).await;
}
