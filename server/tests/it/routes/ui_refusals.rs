//! Calls below `/ui` that something other than a service refuses, and those that it must not refuse.

use super::{
    ui_keys::{Program, refused},
    v1::House,
};
use crate::app::PASSWORD;
use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use contract::{account::Role, key::Scope, problem::ProblemKind};
use serde_json::{Value, json};
use testkit::fake_worker::FAKE_MODEL;

#[tokio::test]
async fn behind_a_proxy_with_a_token_of_its_own_people_sign_in() {
    let house = House::build().await;
    let kim = house.app.person(house.tenant, "kim", &[Role::User]).await;
    let body = json!({ "email": kim.email, "password": PASSWORD }).to_string();
    let sign_in = |key: &str, marks: &[(&str, &str)]| {
        let mut request = Request::post("/ui/sign_in")
            .header(header::AUTHORIZATION, format!("Bearer {key}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::HOST, "kontor:3000");
        for (name, value) in marks {
            request = request.header(*name, *value);
        }
        house.app.send(None, request.body(Body::from(body.clone())).expect("a request"))
    };
    for marks in [[("sec-fetch-site", "same-origin")], [("origin", "http://kontor:3000")]] {
        let answer = sign_in("eyJhbGciOi.x.y", &marks).await;
        assert_eq!(answer.status, StatusCode::OK, "{marks:?}: {}", answer.text());
        assert!(answer.header("set-cookie").starts_with("kontor_session="), "{:?}", answer.headers);
        refused(&sign_in("sk-kontor-wrong", &marks).await, 401, ProblemKind::Unauthenticated);
    }
    let foreign = sign_in("eyJhbGciOi.x.y", &[("sec-fetch-site", "cross-site")]).await;
    assert_eq!(refused(&foreign, 403, ProblemKind::Forbidden).code, "cross_site");
    assert_eq!(refused(&sign_in("eyJhbGciOi.x.y", &[]).await, 401, ProblemKind::Unauthenticated).code, "invalid_api_key");
}

#[tokio::test]
async fn who_accepts_html_is_answered_as_anybody() {
    let house = House::build().await;
    let program = Program::of(&house.app, house.tenant, house.account, &[Scope::Chat]).await;
    let send = |function: &str, arguments: Value| {
        let request = Request::post(format!("/ui/{function}"))
            .header(header::ACCEPT, "text/html, application/json;q=0.9, */*;q=0.8")
            .header(header::REFERER, "https://elsewhere.example.org/");
        program.send(request, Body::from(arguments.to_string()))
    };
    let models = send("list_models", json!({})).await;
    assert_eq!((models.status, models.header("location")), (StatusCode::OK, ""), "{}", models.text());
    assert_eq!(models.json::<Value>()[0]["id"], FAKE_MODEL);
    let empty = send("start_turn", json!({ "turn": { "content": " " } })).await;
    assert_eq!(refused(&empty, 400, ProblemKind::Invalid).field.as_deref(), Some("content"));
    let unread = send("start_turn", json!({})).await;
    assert_eq!(refused(&unread, 400, ProblemKind::Invalid).code, "malformed_request");
    assert_eq!(unread.header("location"), "");
}

#[tokio::test]
async fn what_no_service_refuses_is_a_problem_as_well() {
    let house = House::build().await;
    let program = Program::of(&house.app, house.tenant, house.account, &[Scope::Chat, Scope::Usage]).await;
    let turn = "/ui/turns/0198c0de-0000-7000-8000-000000000001/events";
    for (method, path, allowed) in
        [(Method::GET, "/ui/list_models", "POST"), (Method::PUT, "/ui/list_models", "POST"), (Method::POST, turn, "GET,HEAD")]
    {
        let answer = program.send(Request::builder().method(method.clone()).uri(path), Body::from("{}")).await;
        assert_eq!(refused(&answer, 405, ProblemKind::Invalid).code, "method_not_allowed", "{method} {path}");
        assert_eq!(answer.header("allow"), allowed, "{method} {path}");
    }
    for path in ["/ui/export/usage.csv?from=2026-01-01&from=2026-01-02&to=2026-01-31", format!("{turn}?after=1&after=2").as_str()] {
        let problem = refused(&program.get(path).await, 400, ProblemKind::Invalid);
        assert_eq!((problem.code.as_str(), problem.field.as_deref()), ("malformed_query", Some("query")), "{path}");
    }
    for path in ["/ui/turns/%ff/events", "/ui/export/conversations/%ff/json"] {
        refused(&program.get(path).await, 404, ProblemKind::NotFound);
    }
}
