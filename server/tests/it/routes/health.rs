//! `/healthz`, `/readyz`, and the addresses that answer as they do.

use crate::app::TestApp;
use axum::http::StatusCode;
use serde_json::Value;
use std::time::Duration;
use worker_protocol::State;

#[tokio::test]
async fn ready_means_that_database_and_a_model_answer() {
    let app = TestApp::start().await;
    assert_eq!(app.get(None, "/healthz").await.status, StatusCode::OK);
    until(&app, StatusCode::OK).await;

    app.worker.set_state(State::Loading);
    let body = until(&app, StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!(body["database"], Value::Null);
    assert!(body["models"].as_str().is_some_and(|reason| reason.contains("loading")), "{body}");
    for alias in ["/healthz", "/health", "/livez", "/health/liveliness"] {
        let answer = app.get(None, alias).await;
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, "ok\n".into()), "{alias}: the process itself is well");
    }
    let readiness = app.get(None, "/health/readiness").await;
    assert_eq!((readiness.status, &readiness.json::<Value>()["ready"]), (StatusCode::SERVICE_UNAVAILABLE, &Value::Bool(false)));
}

/// The pool polls; give it a moment.
async fn until(app: &TestApp, wanted: StatusCode) -> Value {
    for _ in 0..100 {
        let answer = app.get(None, "/readyz").await;
        if answer.status == wanted {
            return answer.json();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("/readyz never answered {wanted}");
}
