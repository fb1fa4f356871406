//! Whatever way a use of a model begins and ends, the ledger has exactly one settled event for it.

use crate::app::{Person, TestApp};
use axum::http::StatusCode;
use contract::{
    account::Role,
    ids::{MessageId, TurnId},
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};
use testkit::{
    eventually,
    fake_worker::Script,
    ledger::{LedgerRow, ledger},
};
use uuid::Uuid;
use worker_protocol::FailCode;

/// How a route that infers is called. Whoever adds such a route adds it here; `authorisation_matrix.rs` finds it.
#[derive(Clone, Copy, Debug)]
enum Route {
    Start,
    Temporary,
    Regenerate,
    Continue,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Ok,
    WorkerError,
    WorkerLost,
    ViewerGone,
    Stop,
}

impl End {
    fn script(self) -> Script {
        let answer = Script::answer("One two three four five.");
        match self {
            Self::Ok | Self::ViewerGone => answer.delay(Duration::from_millis(5)),
            Self::WorkerError => answer.fails_after(2, FailCode::Engine),
            Self::WorkerLost => answer.drops_after(2),
            Self::Stop => answer.hangs_after(2),
        }
    }

    fn outcome(self) -> &'static str {
        match self {
            // A turn belongs to the server: a viewer that leaves changes nothing.
            Self::Ok | Self::ViewerGone => "ok",
            Self::WorkerError | Self::WorkerLost => "failed",
            Self::Stop => "cancelled",
        }
    }
}

#[tokio::test]
async fn each_inference_route_leaves_one_settled_event() {
    let app = TestApp::start().await;
    let tenant = app.tenant("a").await;
    let kim = app.person(tenant, "kim", &[Role::User]).await;
    for route in [Route::Start, Route::Temporary, Route::Regenerate, Route::Continue] {
        for end in [End::Ok, End::WorkerError, End::WorkerLost, End::ViewerGone, End::Stop] {
            let answer = prepare(&app, &kim, route).await;
            let before: BTreeSet<Uuid> = quiet(&app).await.into_iter().map(|row| row.id).collect();
            app.worker.otherwise(end.script());
            let turn = begin(&app, &kim, route, answer).await;
            finish(&app, &kim, turn, end).await;
            let after = quiet(&app).await;
            let new: Vec<&LedgerRow> = after.iter().filter(|row| !before.contains(&row.id) && row.purpose != "title").collect();
            let why = "If you are here because this failed: somebody is billed twice, or not at all.";
            assert_eq!(new.len(), 1, "{route:?} {end:?}: {new:?}\n{why}");
            assert_eq!(new[0].outcome.as_deref(), Some(end.outcome()), "{route:?} {end:?}\n{why}");
            assert_eq!(new[0].purpose, if matches!(route, Route::Temporary) { "temporary_chat" } else { "chat" });
            assert!(new[0].prompt_tokens > 0 && new[0].completion_tokens > 0, "{route:?} {end:?}: {:?}\n{why}", new[0]);
            assert_eq!(new[0].user_id, Some(kim.user.0));
        }
    }
}

/// What the route needs: an answer that is complete, or one that can be continued.
async fn prepare(app: &TestApp, kim: &Person, route: Route) -> Option<MessageId> {
    let script = match route {
        Route::Start | Route::Temporary => return None,
        Route::Regenerate => End::Ok.script(),
        Route::Continue => End::WorkerError.script(),
    };
    app.worker.otherwise(script);
    Some(app.ask(kim, "Count to five.").await.answer.id)
}

async fn begin(app: &TestApp, kim: &Person, route: Route, answer: Option<MessageId>) -> TurnId {
    let (endpoint, input) = match route {
        Route::Start => ("start_turn", json!({ "turn": { "content": "Count to five." } })),
        Route::Temporary => ("start_temporary_turn", json!({ "turn": { "messages": [{ "role": "user", "content": "Count to five." }] } })),
        Route::Regenerate => ("regenerate_answer", json!({ "answer": answer })),
        Route::Continue => ("continue_answer", json!({ "answer": answer })),
    };
    let response = app.call(Some(kim), endpoint, &input).await;
    assert_eq!(response.status, StatusCode::OK, "{route:?}: {}", response.text());
    let value: Value = response.json();
    let turn = if value.is_string() { &value } else { &value["turn"] };
    turn.as_str().and_then(|id| id.parse().ok()).expect("a turn")
}

async fn finish(app: &TestApp, kim: &Person, turn: TurnId, end: End) {
    let path = format!("/ui/turns/{turn}/events");
    match end {
        End::ViewerGone => drop(app.open(kim, &path).await),
        End::Stop => {
            eventually("it is at work", 20, || async { app.worker.running() > 0 }).await;
            // Two tokens arrive, then silence.
            tokio::time::sleep(Duration::from_millis(100)).await;
            let stopped = app.call(Some(kim), "stop_turn", &json!({ "turn": turn })).await;
            assert_eq!(stopped.status, StatusCode::OK, "{}", stopped.text());
        }
        End::Ok | End::WorkerError | End::WorkerLost => {}
    }
    if !matches!(end, End::ViewerGone) {
        let events = app.get(Some(kim), &path).await.text();
        assert!(events.contains(r#""type":"end""#), "{events}");
    }
}

/// The ledger once nothing is open and nothing runs any more.
async fn quiet(app: &TestApp) -> Vec<LedgerRow> {
    let mut calm = 0;
    for _ in 0..500 {
        let rows = ledger(&app.db).await;
        let busy = app.worker.running() > 0 || rows.iter().any(|row| row.state != "settled");
        calm = if busy { 0 } else { calm + 1 };
        if calm >= 10 {
            return rows;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("an event stays open: {:?}", ledger(&app.db).await);
}
