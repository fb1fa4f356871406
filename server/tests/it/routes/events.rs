//! `GET /ui/turns/{id}/events`: replay, resume, follow.

use crate::app::{TestApp, events, replay};
use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use contract::account::Role;
use serde_json::json;
use std::time::Duration;
use testkit::fake_worker::Script;

const TEXT: &str = "Grüße aus dem Automaten: äöüß 🙂 und noch ein paar Wörter mehr.";

#[tokio::test]
async fn resuming_from_any_event_gives_the_same_text() {
    let app = TestApp::start().await;
    app.worker.script(Script::answer(TEXT).delay(Duration::from_millis(15)));
    let tenant = app.tenant("a").await;
    let kim = app.person(tenant, "kim", &[Role::User]).await;
    let started = app.start_turn(&kim, "Hallo?").await;
    let path = format!("/ui/turns/{}/events", started.turn);

    let answer = app.get(Some(&kim), &path).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("content-type"), "text/event-stream");
    assert_eq!(answer.header("x-accel-buffering"), "no");
    assert!(answer.header("content-encoding").is_empty(), "a compressed stream is a delayed stream");
    let all = events(&answer.text());
    assert_eq!(replay(&all), TEXT);
    assert_eq!(all.last().expect("events").1["type"], "end");

    for cut in 0..all.len() - 1 {
        let seen = &all[..=cut];
        let last = seen.last().expect("one").0;
        let request = Request::get(&path).header("last-event-id", last).body(Body::empty()).expect("a request");
        let rest = events(&app.send(Some(&kim), request).await.text());
        assert!(rest.iter().all(|(number, _)| *number > last), "only what came after {last}: {rest:?}");
        let joined: Vec<_> = seen.iter().cloned().chain(rest).collect();
        assert_eq!(replay(&joined), TEXT, "cut after event {last}");
    }
    let by_query = events(&app.get(Some(&kim), &format!("{path}?after={}", all[0].0)).await.text());
    assert_eq!(by_query.len(), all.len() - 1);
}

#[tokio::test]
async fn a_viewer_that_leaves_does_not_end_the_turn() {
    let app = TestApp::start().await;
    app.worker.script(Script::answer(TEXT).delay(Duration::from_millis(20)));
    let tenant = app.tenant("a").await;
    let kim = app.person(tenant, "kim", &[Role::User]).await;
    let started = app.start_turn(&kim, "Hallo?").await;
    let path = format!("/ui/turns/{}/events", started.turn);
    drop(app.open(&kim, &path).await);
    let all = events(&app.get(Some(&kim), &path).await.text());
    assert_eq!(replay(&all), TEXT);
    let end = &all.last().expect("events").1;
    assert_eq!(end["status"], "complete", "If you are here because this failed: a closed tab cancelled an answer. Only Stop may.");
}

#[tokio::test]
async fn two_viewers_see_the_same() {
    let app = TestApp::start().await;
    app.worker.script(Script::answer(TEXT).delay(Duration::from_millis(15)));
    let tenant = app.tenant("a").await;
    let kim = app.person(tenant, "kim", &[Role::User]).await;
    let path = format!("/ui/turns/{}/events", app.start_turn(&kim, "Hallo?").await.turn);
    let (one, two) = tokio::join!(app.get(Some(&kim), &path), app.get(Some(&kim), &path));
    assert_eq!(replay(&events(&one.text())), TEXT);
    assert_eq!(replay(&events(&two.text())), TEXT);
}

#[tokio::test]
async fn what_is_no_id_is_as_unknown_as_what_is_not_mine() {
    let app = TestApp::start().await;
    let tenant = app.tenant("a").await;
    let kim = app.person(tenant, "kim", &[Role::User]).await;
    let mut problems = Vec::new();
    for id in ["not-an-id", "0198c0de-0000-7000-8000-000000000001"] {
        let answer = app.get(Some(&kim), &format!("/ui/turns/{id}/events")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        problems.push(answer.json::<serde_json::Value>()["code"].clone());
    }
    assert_eq!(problems, [json!("turn_not_found"), json!("turn_not_found")]);
}
