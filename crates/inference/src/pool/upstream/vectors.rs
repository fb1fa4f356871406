//! Embeddings and reranking in the words of upstreams.
//!
//! Sources: OpenAI's embeddings reference; for reranking Jina's, which vLLM, llama-server and text-embeddings-router
//! follow.

use super::{
    super::backend::{BackendError, EventStream},
    decode,
    wire::tokens_in,
};
use futures::{StreamExt, stream};
use reqwest::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use worker_protocol::{Embed, EmbedInput, Event, Finish, Timings, Usage, normalised};

/// Bytes that an answer has at most for each input: ten thousand numbers with all their digits.
const LONGEST_VECTOR: usize = 256 * 1024;
/// And beside them.
const LONGEST_FRAME: usize = 1024 * 1024;

#[derive(Deserialize)]
struct Answer {
    /// Of embeddings.
    #[serde(default)]
    data: Vec<Embedding>,
    /// Of reranking.
    #[serde(default)]
    results: Vec<Score>,
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct Embedding {
    index: usize,
    embedding: Vec<f32>,
}

#[derive(Deserialize)]
struct Score {
    index: usize,
    relevance_score: f32,
}

#[derive(Deserialize)]
struct WireUsage {
    prompt_tokens: Option<u32>,
    total_tokens: Option<u32>,
}

/// The call below the base address, and its body. All pairs of a request have the same query.
pub(super) fn body(request: &Embed, model: &str) -> (&'static str, Value) {
    let mut documents = Vec::new();
    let mut query = None;
    for input in &request.inputs {
        if let EmbedInput::Pair { query: asked, document } = input {
            query = Some(asked.as_str());
            documents.push(document.as_str());
        }
    }
    match query {
        Some(query) => ("rerank", json!({"model": model, "query": query, "documents": documents, "return_documents": false})),
        // Texts are strings and tokens arrays of numbers in the pool's own words, too.
        None => ("embeddings", json!({"model": model, "input": request.inputs, "encoding_format": "float"})),
    }
}

/// The events of an answer that has begun.
pub(super) async fn events(response: Response, request: &Embed, patience: Duration) -> Result<EventStream, BackendError> {
    let most = request.inputs.len().saturating_mul(LONGEST_VECTOR).saturating_add(LONGEST_FRAME);
    let answer: Answer = decode(response, most, patience).await?;
    let usage = Usage { prompt_tokens: prompt_tokens(&answer, request), ..Usage::default() };
    let vectors = in_order(answer, request.inputs.len())?;
    let told = [
        Event::Started { prompt_tokens: usage.prompt_tokens, cached_tokens: 0 },
        Event::Vectors { first: 0, vectors },
        Event::Done { finish: Finish::Stop, stop: None, usage, timings: Timings::default() },
    ];
    Ok(stream::iter(told.map(Ok)).boxed())
}

fn prompt_tokens(answer: &Answer, request: &Embed) -> u32 {
    let told = answer.usage.as_ref().and_then(|usage| usage.prompt_tokens.or(usage.total_tokens));
    told.unwrap_or_else(|| {
        let texts = request.inputs.iter().map(|input| match input {
            EmbedInput::Text(text) => tokens_in(text),
            EmbedInput::Tokens(tokens) => u32::try_from(tokens.len()).unwrap_or(u32::MAX),
            EmbedInput::Pair { query, document } => tokens_in(query).saturating_add(tokens_in(document)),
        });
        texts.fold(0, u32::saturating_add)
    })
}

/// One vector for each input, with length 1 whatever the server makes of it; scores as they are.
fn in_order(answer: Answer, count: usize) -> Result<Vec<Vec<f32>>, BackendError> {
    let mut vectors = vec![Vec::new(); count];
    let embeddings = answer.data.into_iter().map(|Embedding { index, embedding }| (index, normalised(&embedding)));
    let scores = answer.results.into_iter().map(|Score { index, relevance_score }| (index, vec![relevance_score]));
    for (index, vector) in embeddings.chain(scores) {
        match vectors.get_mut(index) {
            Some(place) => *place = vector,
            None => return Err(BackendError::Protocol(format!("a vector for input {index} of {count}"))),
        }
    }
    match vectors.iter().position(Vec::is_empty) {
        Some(missing) => Err(BackendError::Protocol(format!("no vector for input {missing} of {count}"))),
        None => Ok(vectors),
    }
}

#[cfg(test)]
mod tests {
    use super::body;
    use serde_json::json;
    use worker_protocol::{Embed, EmbedInput};

    #[test]
    fn inputs_go_as_they_came() {
        let request = |inputs| Embed { inputs, ..Embed::default() };
        let (path, sent) = body(&request(vec![EmbedInput::Text("salt".into()), EmbedInput::Text("fish".into())]), "m");
        assert_eq!((path, &sent["input"]), ("embeddings", &json!(["salt", "fish"])));
        let (path, sent) = body(&request(vec![EmbedInput::Tokens(vec![5, 7]), EmbedInput::Tokens(vec![9])]), "m");
        assert_eq!((path, &sent["input"]), ("embeddings", &json!([[5, 7], [9]])));
        let (path, sent) = body(&request(vec![EmbedInput::Pair { query: "q".into(), document: "d".into() }]), "m");
        assert_eq!((path, &sent["query"], &sent["documents"]), ("rerank", &json!("q"), &json!(["d"])));
    }
}
