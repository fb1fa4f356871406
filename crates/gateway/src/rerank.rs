//! `POST /v1/rerank`, in the form of Jina and Cohere.

use crate::{
    Gateway,
    body::Call,
    failure::{Failure, failed},
    headers,
    openapi::Described,
    usage::{Cost, InputUsage},
    wish::Unmet,
    words::Words,
};
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use inference::VectorRequest;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

const WORDS: Words = Words(&[("input", "documents")]);

#[derive(Debug, Deserialize, ToSchema)]
pub struct RerankRequest {
    model: String,
    query: String,
    documents: Vec<Document>,
    top_n: Option<usize>,
    return_documents: Option<bool>,
}

impl Unmet for RerankRequest {}

/// Jina takes texts, Cohere also objects.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = RerankDocument)]
enum Document {
    Text(String),
    Object { text: String },
}

#[derive(Serialize, ToSchema)]
#[schema(as = RerankAnswer)]
struct Ranking<'a> {
    id: String,
    model: &'a str,
    results: Vec<Ranked>,
    usage: InputUsage,
}

#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = RankedEntry)]
struct Ranked {
    index: usize,
    relevance_score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<RankedDocument>,
}

#[derive(Debug, PartialEq, Serialize, ToSchema)]
struct RankedDocument {
    text: String,
}

/// For the API's description.
pub fn described(operation: Described) -> Described {
    let asked =
        json!({ "model": "bge-reranker-v2-m3", "query": "Where is the town hall?", "documents": ["At the market.", "On Mondays."] });
    operation
        .named("createRerank", "Put documents in order for a query", "In the form of Jina and Cohere. Scores lie between 0 and 1.")
        .reads::<RerankRequest>(asked)
        .answers::<Ranking<'_>>("The documents, best first.")
        .names_its_use()
}

pub async fn create(State(gateway): State<Gateway>, call: Call<RerankRequest>) -> Result<Response, Failure> {
    let Call { actor, input, ignored, cache } = call;
    let texts: Vec<String> = input
        .documents
        .into_iter()
        .map(|document| match document {
            Document::Text(text) | Document::Object { text } => text,
        })
        .collect();
    let kept = if input.return_documents.unwrap_or(false) { texts.clone() } else { Vec::new() };
    let wanted = VectorRequest { model: Some(input.model), cache, ..VectorRequest::default() };
    let made = gateway.services.api.rerank(&actor, &input.query, texts, wanted).await;
    let made = made.map_err(|error| WORDS.tell(failed(&actor)(error)))?;
    let usage = made.usage.0.simple().to_string();
    let scores = made.vectors.iter().map(|vector| vector.first().copied().unwrap_or_default());
    let results = ranked(scores, input.top_n, kept);
    let cost = Cost::of(made.route.as_ref().and_then(|route| route.cost));
    let body = Ranking { id: format!("rerank-{usage}"), model: &made.stats.model, results, usage: InputUsage::of(&made.stats, cost) };
    let mut response = Json(body).into_response();
    headers::name_use(response.headers_mut(), &made.asked, &usage, made.route.as_ref());
    ignored.put(response.headers_mut());
    Ok(response)
}

/// Best first. A reranker's logits become scores between 0 and 1, which clients expect.
fn ranked(scores: impl Iterator<Item = f32>, top_n: Option<usize>, mut documents: Vec<String>) -> Vec<Ranked> {
    let mut order: Vec<(usize, f32)> = scores.map(|logit| 1.0 / (1.0 + (-logit).exp())).enumerate().collect();
    order.sort_by(|(a, left), (b, right)| right.total_cmp(left).then(a.cmp(b)));
    order.truncate(top_n.unwrap_or(usize::MAX));
    let rank = |(index, relevance_score): (usize, f32)| {
        let document = documents.get_mut(index).map(|text| RankedDocument { text: std::mem::take(text) });
        Ranked { index, relevance_score, document }
    };
    order.into_iter().map(rank).collect()
}

#[cfg(test)]
mod tests {
    use super::ranked;

    #[test]
    fn the_best_come_first_and_only_so_many() {
        let results = ranked([-2.0, 3.0, 0.0].into_iter(), Some(2), vec!["a".into(), "b".into(), "c".into()]);
        assert_eq!(results.iter().map(|ranked| ranked.index).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(results[0].document.as_ref().unwrap().text, "b");
        assert!((results[1].relevance_score - 0.5).abs() < 1e-6 && results[0].relevance_score < 1.0);
        assert!(ranked([1.0].into_iter(), None, Vec::new())[0].document.is_none());
    }
}
