//! Documents put in order for a query, as clients of Jina and Cohere see it.

use super::{
    v1::House,
    v1_quotas::{RANKS, house, told},
};
use axum::http::StatusCode;
use serde_json::{Value, json};
use testkit::ledger::ledger;

/// The fake worker finds each document better than those before it.
async fn rank(house: &House, more: Value) -> Value {
    let mut body = json!({ "model": RANKS, "query": "Where?", "documents": ["first", { "text": "second" }, "third"] });
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let answer = house.post("/v1/rerank", &body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let body: Value = answer.json();
    assert_eq!(body["id"], format!("rerank-{}", answer.header("x-kontor-usage-id")), "the id is the use's");
    let told = ["x-kontor-model", "x-kontor-served-by"].map(|name| answer.header(name));
    assert_eq!((&body["model"], told), (&json!(RANKS), [RANKS, "ranks"]));
    body
}

/// The numbers of the documents, best first.
fn order(body: &Value) -> Vec<u64> {
    body["results"].as_array().expect("results").iter().map(|result| result["index"].as_u64().expect("a number")).collect()
}

#[tokio::test]
async fn the_best_document_comes_first_with_its_number_and_score() {
    let house = house().await;
    let body = rank(&house, json!({})).await;
    let fields = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(order(&body), [2, 1, 0]);
    for (result, logit) in body["results"].as_array().expect("results").iter().zip([2.0_f64, 1.0, 0.0]) {
        let mut fields = fields(result);
        fields.sort();
        assert_eq!(fields, ["index", "relevance_score"], "documents are returned to those alone who ask");
        let score = result["relevance_score"].as_f64().expect("a number");
        assert!((score - 1.0 / (1.0 + (-logit).exp())).abs() < 1e-6, "{result}");
    }
    let usage = &body["usage"];
    assert_eq!((&usage["prompt_tokens"], &usage["total_tokens"]), (&json!(12), &json!(12)));
    let mut fields = fields(&body);
    fields.sort();
    assert_eq!(fields, ["id", "model", "results", "usage"]);

    house.app.state.inference.drain().await;
    let rows = ledger(&house.app.db).await;
    assert_eq!((rows.len(), rows[0].model.as_str(), rows[0].purpose.as_str(), rows[0].prompt_tokens), (1, RANKS, "rerank", 12));
}

#[tokio::test]
async fn as_many_as_are_wanted_are_told_with_their_documents_if_wanted() {
    let house = house().await;
    assert_eq!(order(&rank(&house, json!({ "top_n": 2 })).await), [2, 1]);
    assert_eq!(order(&rank(&house, json!({ "top_n": 7 })).await), [2, 1, 0], "more than there are is no mistake");
    let body = rank(&house, json!({ "top_n": 2, "return_documents": true })).await;
    let documents: Vec<&Value> = body["results"].as_array().expect("results").iter().map(|result| &result["document"]).collect();
    assert_eq!(documents, [&json!({ "text": "third" }), &json!({ "text": "second" })], "each beside its own number");
    let body = rank(&house, json!({ "return_documents": false })).await;
    assert!(body["results"].as_array().expect("results").iter().all(|result| result.get("document").is_none()), "{body}");
}

#[tokio::test]
async fn a_request_without_documents_or_with_one_that_is_empty_is_refused() {
    let house = house().await;
    for documents in [json!([]), json!(["first", ""]), json!("first")] {
        let answer = house.post("/v1/rerank", &json!({ "model": RANKS, "query": "Where?", "documents": documents })).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{documents}: {}", answer.text());
        assert_eq!(told(&answer).0, "invalid_request_error", "{documents}: {}", answer.text());
    }
    assert!(ledger(&house.app.db).await.is_empty(), "what is refused costs nothing");
}
