//! Answers that must have a form: expressions, choices and the like.

use super::v1::House;
use axum::http::StatusCode;
use serde_json::{Value, json};
use testkit::fake_worker::FAKE_MODEL;
use worker_protocol::Format;

#[tokio::test]
async fn an_answer_has_the_form_of_an_expression() {
    let house = House::build().await;
    let year = || Some(Format::Regex("[0-9]{4}".into()));
    let structured = json!({ "structured_outputs": { "regex": "[0-9]{4}" } });
    let forms = [structured.clone(), json!({ "guided_regex": "[0-9]{4}" })];
    for fields in &forms {
        let answer = house.chat(fields.clone()).await;
        assert_eq!((answer.status, answer.header("x-kontor-ignored-fields")), (StatusCode::OK, ""), "{}", answer.text());
    }
    for (path, mut body) in [
        ("/v1/completions", json!({ "model": FAKE_MODEL, "prompt": "Husum was founded in" })),
        ("/v1/responses", json!({ "model": FAKE_MODEL, "input": "When was Husum founded?" })),
    ] {
        body.as_object_mut().expect("an object").extend(structured.as_object().expect("an object").clone());
        let answer = house.post(path, &body).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    }
    let asked = house.app.worker.requests();
    assert_eq!(asked.len(), 4);
    assert!(asked.iter().all(|request| request.format == year()), "{asked:?}");
}

#[tokio::test]
async fn a_form_that_makes_no_sense_is_refused_by_its_field() {
    let house = House::build().await;
    let object = json!({ "type": "json_object" });
    let wrong = [
        ("guided_regex", json!({ "guided_regex": "(" })),
        ("structured_outputs.regex", json!({ "structured_outputs": { "regex": "[" } })),
        ("structured_outputs", json!({ "structured_outputs": {} })),
        ("guided_choice", json!({ "guided_regex": "a", "guided_choice": ["a"] })),
        ("response_format", json!({ "guided_regex": "a", "response_format": object })),
    ];
    for (field, fields) in wrong {
        let answer = house.chat(fields).await;
        let body: Value = answer.json();
        assert_eq!((answer.status, &body["error"]["param"]), (StatusCode::BAD_REQUEST, &json!(field)), "{body}");
    }
    assert!(house.app.worker.requests().is_empty());
}
