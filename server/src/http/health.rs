//! `/healthz`: the process is up. `/readyz`: it can do its work. Other addresses answer the same: see the router.

use super::state::AppState;
use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

/// Always 200: a process that cannot answer this is to be restarted.
pub async fn alive() -> &'static str {
    "ok\n"
}

/// Body of `/readyz`; `null` means *well*, text says what is not.
#[derive(Debug, Serialize)]
struct Readiness {
    ready: bool,
    database: Option<String>,
    models: Option<String>,
}

/// 200 if the database and at least one model (for chats, if there is any) answer, else 503 with the reasons.
pub async fn ready(State(state): State<AppState>) -> Response {
    let database = state.db.ping().await.err().map(|error| error.problem().message);
    let models = state.inference.ready().err();
    let readiness = Readiness { ready: database.is_none() && models.is_none(), database, models };
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(readiness)).into_response()
}
