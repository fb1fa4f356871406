//! `/openapi.json`: the API's description. `/docs`: the same for people, made on the server and without any script.

mod examples;
mod html;
mod page;
mod schema;

use axum::{
    body::Bytes,
    extract::{Query, rejection::QueryRejection},
    http::header,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::Value;
use std::sync::LazyLock;

/// The page loads its own style sheet and icon, and nothing else.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
/// All of it changes with the program only; browsers ask again.
const ASK_AGAIN: &str = "public, no-cache";
/// The product's themes, and the page's own rules.
const STYLE: &str = concat!(include_str!("../../../../style/tokens.css"), include_str!("style.css"));

// Our own types always serialise.
static DESCRIPTION: LazyLock<Value> = LazyLock::new(|| serde_json::to_value(gateway::document()).unwrap_or_default());
static JSON: LazyLock<Bytes> = LazyLock::new(|| DESCRIPTION.to_string().into());
static WHOLE_PAGE: LazyLock<Bytes> = LazyLock::new(|| page::render(&DESCRIPTION, "").into());

/// What is looked for.
#[derive(Debug, Default, Deserialize)]
pub struct Asked {
    #[serde(default)]
    q: String,
}

/// The document for programs.
pub async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, ASK_AGAIN)], JSON.clone()).into_response()
}

/// The document for people, or what of it holds all words of `q`. A query string that cannot be read asks for nothing.
pub async fn page(asked: Result<Query<Asked>, QueryRejection>) -> Response {
    let Query(Asked { q }) = asked.unwrap_or_default();
    let page = if q.trim().is_empty() { WHOLE_PAGE.clone() } else { page::render(&DESCRIPTION, &q).into() };
    let headers =
        [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, POLICY), (header::CACHE_CONTROL, ASK_AGAIN)];
    (headers, page).into_response()
}

/// The page's style sheet.
pub async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, ASK_AGAIN)], STYLE).into_response()
}
