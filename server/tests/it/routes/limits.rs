//! Request sizes.

use crate::app::TestApp;
use axum::{
    body::{Body, Bytes},
    http::{Request, StatusCode, header},
};
use contract::{account::Role, problem::Problem};
use serde_json::json;
use std::convert::Infallible;

#[tokio::test]
async fn a_body_over_the_limit_is_refused_and_a_large_question_is_not() {
    let app = TestApp::start().await;
    let tenant = app.tenant("a").await;
    let kim = app.person(tenant, "kim", &[Role::User]).await;
    let big = "x".repeat(2 * 1024 * 1024 - 1);
    let input = json!({ "query": big, "cursor": null });
    let announced = Request::post("/ui/search_messages")
        .header(header::CONTENT_TYPE, "application/json")
        .header("sec-fetch-site", "same-origin")
        .header(header::CONTENT_LENGTH, input.to_string().len())
        .body(Body::from(input.to_string()))
        .expect("a request");
    let answer = app.send(Some(&kim), announced).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.json::<serde_json::Value>()["code"], "request_too_large");
    let chunks = input.to_string().into_bytes().chunks(64 * 1024).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect::<Vec<_>>();
    let unannounced = Request::post("/ui/search_messages")
        .header(header::CONTENT_TYPE, "application/json")
        .header("sec-fetch-site", "same-origin")
        .body(Body::from_stream(futures::stream::iter::<Vec<Result<Bytes, Infallible>>>(chunks)))
        .expect("a request");
    let answer = app.send(Some(&kim), unannounced).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "cut while it is read: {}", answer.text());
    let problem: Problem = answer.json();
    assert_eq!(problem.code, "request_too_large");
    assert!(problem.request_id.is_some(), "{problem:?}");

    let turn = json!({ "content": "See the file.", "attachments": [{ "name": "big.txt", "content": big }] });
    assert_eq!(app.call(Some(&kim), "start_turn", &json!({ "turn": turn })).await.status, StatusCode::OK);
}
