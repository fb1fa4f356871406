//! Ways to store keys and values, and to compute attention: none may lose what was said.

use tokio_util::sync::CancellationToken;
use worker::{CacheType, Error, FlashAttention, Options};
use worker_protocol::{ChatRole, Generate};

use crate::harness::{Pool, QUICK, TOKEN, ask, filler, message, options, own};

const TWELVE: &str = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,";
const FIFTEEN: &str = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,";

/// Counts on from `so_far`, which even the small model does as long as it sees what it said. Long enough to be kept.
fn counting(partition: &str, so_far: &str) -> Generate {
    let question = format!("{} Never mind. Count from one to fifty in digits, separated by commas.", filler(80));
    let mut request = ask(&question, 24);
    request.partition = partition.into();
    request.messages.push(message(ChatRole::Assistant, so_far));
    request.continue_last = true;
    request
}

/// Answers from what it computes, from what it has computed, and from some of both.
async fn counts_on(client: &Pool) {
    let first = client.run(counting("kinds", TWELVE)).await;
    assert!(first.text().contains("13, 14, 15"), "{first:?}");
    let computed = first.done().1;
    assert_eq!(computed.cached_tokens, 0);
    let again = client.run(counting("kinds", TWELVE)).await;
    assert_eq!(again.done().1.cached_tokens, computed.prompt_tokens - 1, "{again:?}");
    assert!(again.text().contains("13, 14, 15"), "out of the cells: {again:?}");
    let further = client.run(counting("kinds", FIFTEEN)).await;
    assert!(further.done().1.cached_tokens + 8 >= computed.prompt_tokens, "{further:?} after {computed:?}");
    assert!(further.text().contains("16, 17, 18"), "behind the cells: {further:?}");
}

#[tokio::test]
async fn keys_and_values_of_eight_bits() {
    let own = own(|options| options.cache_type = CacheType::Q8_0).await;
    counts_on(&own.client).await;
    own.stop().await;
}

#[tokio::test]
async fn keys_and_values_of_four_bits() {
    let own = own(|options| options.cache_type = CacheType::Q4_0).await;
    counts_on(&own.client).await;
    own.stop().await;
}

#[tokio::test]
async fn attention_in_one_go() {
    for cache_type in [CacheType::F16, CacheType::Q8_0] {
        let own = own(|options| {
            options.cache_type = cache_type;
            options.flash_attention = FlashAttention::On;
        })
        .await;
        counts_on(&own.client).await;
        own.stop().await;
    }
}

#[tokio::test]
async fn quantised_values_without_attention_in_one_go_are_refused_by_name() {
    for cache_type in [CacheType::Q8_0, CacheType::Q4_0] {
        let mut model = options("smollm2-135m-instruct-q4_1.gguf", QUICK);
        (model.cache_type, model.flash_attention) = (cache_type, FlashAttention::Off);
        let result = worker::run_with(Options::new(TOKEN, [model]), CancellationToken::new(), |_| Ok(())).await;
        match result {
            Err(Error::Option { name: "flash_attention", problem }) => assert!(problem.contains("cache_type"), "{problem}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn what_was_kept_is_of_use_to_the_same_kind_alone() {
    use FlashAttention::{Auto, Off, On};
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    let start = |cache_type: CacheType, flash_attention: FlashAttention| {
        let kept = kept.clone();
        own(move |options| {
            (options.cache_type, options.flash_attention, options.state_dir) = (cache_type, flash_attention, Some(kept));
        })
    };
    let cached = async |cache_type: CacheType, flash_attention: FlashAttention| {
        let worker = start(cache_type, flash_attention).await;
        let cached = worker.client.run(counting("kept", TWELVE)).await.done().1.cached_tokens;
        worker.stop().await;
        cached
    };
    let first = start(CacheType::Q8_0, Auto).await;
    let computed = first.client.run(counting("kept", TWELVE)).await.done().1;
    first.stop().await;
    let second = start(CacheType::Q8_0, Auto).await;
    let again = second.client.run(counting("kept", TWELVE)).await;
    assert_eq!(again.done().1.cached_tokens, computed.prompt_tokens - 1, "{again:?}");
    assert!(again.text().contains("13, 14, 15"), "out of the file: {again:?}");
    second.stop().await;
    assert_eq!(cached(CacheType::F16, Auto).await, 0, "another kind of values");
    assert_eq!(cached(CacheType::F16, On).await, 0, "values lie otherwise where attention is computed in one go");
    assert_eq!(cached(CacheType::F16, Off).await, 0);
    // As after an update.
    let index = kept.join("index.json");
    let mut of_another: serde_json::Value = serde_json::from_slice(&std::fs::read(&index).unwrap()).unwrap();
    of_another["fingerprint"]["llama"] = "0.0.1".into();
    std::fs::write(&index, of_another.to_string()).unwrap();
    assert_eq!(cached(CacheType::F16, Off).await, 0, "If you are here because this failed: another llama.cpp's cells are loaded.");
    assert_eq!(cached(CacheType::F16, Off).await, computed.prompt_tokens - 1, "its own ones are");
}
