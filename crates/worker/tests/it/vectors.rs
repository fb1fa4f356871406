//! Embeddings and reranking, against the same arithmetic done by hand.

use std::time::Duration;

use tempfile::NamedTempFile;
use uuid::Uuid;
use worker_protocol::{Embed, EmbedInput, FailCode, ModelKind};

use crate::bert::{Bert, CONTEXT, Pooling, WIDTH};
use crate::harness::{Own, ask, own};

const TEXTS: [&str; 4] = ["the kontor trades in salt", "a bank", "ships sail to bergen", "the river"];

async fn worker(pooling: Pooling) -> (Own, Bert, NamedTempFile) {
    let (bert, file) = (Bert::new(pooling), NamedTempFile::new().unwrap());
    bert.write(file.path());
    let path = file.path().to_owned();
    let own = own(|options| {
        options.path = path;
        options.context_length = None;
    })
    .await;
    (own, bert, file)
}

fn texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Embed {
    let inputs = texts.into_iter().map(|text| EmbedInput::Text(text.into())).collect();
    Embed { id: Uuid::now_v7(), tenant: "t".into(), inputs, ..Embed::default() }
}

fn pairs(pairs: &[(&str, &str)]) -> Embed {
    let pair = |(query, document): &(&str, &str)| EmbedInput::Pair { query: (*query).into(), document: (*document).into() };
    Embed { inputs: pairs.iter().map(pair).collect(), ..texts([]) }
}

fn similarity(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[tokio::test]
async fn vectors_are_what_the_weights_say_alone_and_in_company() {
    let (own, bert, _file) = worker(Pooling::Mean).await;
    let status = own.client.status().await;
    let model = &status.models[0];
    assert_eq!((model.kind, model.dimensions as usize, model.context_length as usize), (ModelKind::Embedding, WIDTH, CONTEXT));
    let together = own.client.embed(texts(TEXTS)).await;
    for (text, vector) in TEXTS.iter().zip(&together.vectors) {
        let expected = bert.embed(text);
        assert!(similarity(vector, &expected) > 0.9999, "{text}: {vector:?} is not {expected:?}");
        assert!((similarity(vector, vector) - 1.0).abs() < 1e-4, "length 1");
        let alone = own.client.embed(texts([*text])).await;
        assert!(similarity(vector, &alone.vectors[0]) > 0.9999, "{text} depends on its company");
    }
    // [CLS], the words and [SEP] of each.
    let tokens: u32 = TEXTS.iter().map(|text| u32::try_from(text.split(' ').count()).unwrap() + 2).sum();
    assert_eq!((together.started, together.done().1.prompt_tokens), (Some((tokens, 0)), tokens));
    own.stop().await;
}

#[tokio::test]
async fn many_inputs_of_many_callers_all_come_back_in_order() {
    let (own, bert, _file) = worker(Pooling::Mean).await;
    let calls = (0..6).map(|caller| {
        let client = own.client.clone();
        async move {
            let chosen: Vec<&str> = (0..150).map(|n| TEXTS[(n + caller) % TEXTS.len()]).collect();
            let request = Embed { tenant: format!("tenant {caller}"), ..texts(chosen.iter().copied()) };
            (chosen, client.embed(request).await)
        }
    });
    for (chosen, ended) in futures::future::join_all(calls).await {
        assert_eq!(ended.vectors.len(), chosen.len());
        for (text, vector) in chosen.iter().zip(&ended.vectors) {
            assert!(similarity(vector, &bert.embed(text)) > 0.999, "{text}");
        }
    }
    own.client.until(|status| status.busy == 0 && status.queued == 0).await;
    own.stop().await;
}

#[tokio::test]
async fn pairs_are_scored_as_the_weights_say() {
    let (own, bert, _file) = worker(Pooling::Rank).await;
    assert_eq!(own.client.status().await.models[0].kind, ModelKind::Reranker);
    let asked = [("salt", "the kontor trades in salt"), ("salt", "the river"), ("bergen", "ships sail to bergen")];
    let ended = own.client.embed(pairs(&asked)).await;
    for ((query, document), vector) in asked.iter().zip(&ended.vectors) {
        let expected = bert.rank(query, document);
        assert!(vector.len() == 1 && (vector[0] - expected).abs() < 0.02, "{query} / {document}: {vector:?} is not {expected}");
    }
    own.stop().await;
}

#[tokio::test]
async fn tokens_are_taken_as_they_are() {
    let (own, bert, _file) = worker(Pooling::Mean).await;
    // [CLS], the words and [SEP], as the vocabulary numbers them.
    let tokens = |text: &str| Bert::tokens(text).into_iter().map(|token| u32::try_from(token).unwrap()).collect::<Vec<_>>();
    let given = |tokens: Vec<u32>| Embed { inputs: vec![EmbedInput::Tokens(tokens)], ..texts([]) };
    let ended = own.client.embed(given(tokens(TEXTS[0]))).await;
    assert!(similarity(&ended.vectors[0], &bert.embed(TEXTS[0])) > 0.9999, "{:?}", ended.vectors);
    assert_eq!(ended.done().1.prompt_tokens as usize, tokens(TEXTS[0]).len());
    let (code, message) = own.client.embed(given(vec![2, 4_000_000_000, 3])).await.failed();
    assert!(code == FailCode::Invalid && message.starts_with("input: there is no token 4000000000"), "{message}");
    own.stop().await;
}

#[tokio::test]
async fn what_cannot_be_done_is_refused() {
    let (own, _, _file) = worker(Pooling::Mean).await;
    let long = "salt ".repeat(100);
    let (code, message) = own.client.embed(texts(["salt", &long])).await.failed();
    assert!(code == FailCode::ContextLengthExceeded && message.contains("input 1 has 102 tokens, at most 64"), "{message}");
    let cut = own.client.embed(Embed { truncate: true, ..texts([long.as_str()]) }).await;
    assert_eq!(cut.done().1.prompt_tokens as usize, CONTEXT);
    let (code, message) = own.client.embed(Embed { truncate: true, ..texts(["salt ".repeat(300_000).as_str()]) }).await.failed();
    assert!(code == FailCode::Invalid && message.contains("300002 tokens, at most 300000"), "{message}");
    assert_eq!(own.client.embed(texts([])).await.failed().0, FailCode::Invalid);
    assert_eq!(own.client.embed(pairs(&[("a", "b")])).await.failed().0, FailCode::Invalid);
    let completion = own.client.run(ask("Say hello.", 3)).await.failed();
    assert!(completion.0 == FailCode::Invalid && completion.1.contains("makes vectors"), "{completion:?}");
    let took = own.client.until(|status| status.busy == 0).await;
    assert!(took < Duration::from_secs(1));
    own.stop().await;
}
