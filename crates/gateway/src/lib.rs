//! The OpenAI face: programs that speak its API work by changing base URL and key.
//!
//! Routes parse, call one method of [`services::Api`] and render. What clients expect to the byte is OpenAI's OpenAPI
//! document 2.3.0; where clients are stricter or laxer than that, the comments say so.

#[cfg(target_family = "wasm")]
compile_error!("`gateway` is server-only");

mod body;
mod caller;
mod chat;
mod completions;
mod embeddings;
mod failure;
mod headers;
mod models;
mod parameters;
mod rerank;
mod sse;
mod usage;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware::from_fn,
    routing::{MethodRouter, get, post},
};
use identity::Identity;
use services::Services;

/// Largest body of a request, in bytes. A conversation of 100,000 tokens has about half a megabyte; images are larger.
const BODY_MAX_BYTES: usize = 64 * 1024 * 1024;

/// What the routes work with. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    pub services: Services,
    pub identity: Identity,
}

/// Method, path, handler.
type Route = (&'static str, &'static str, fn() -> MethodRouter<Gateway>);

/// Every route, for the authorisation matrix too.
pub const ROUTES: &[Route] = &[
    ("POST", "/v1/chat/completions", || post(chat::create)),
    ("POST", "/v1/completions", || post(completions::create)),
    ("POST", "/v1/embeddings", || post(embeddings::create)),
    ("POST", "/v1/rerank", || post(rerank::create)),
    ("GET", "/v1/models", || get(models::list)),
    // A model's id may have slashes.
    ("GET", "/v1/models/{*model}", || get(models::get)),
];

/// The routes, ready to be merged into the server's router. Whoever mounts them puts a
/// [`RequestId`](contract::ids::RequestId) into each request's extensions.
pub fn router(gateway: Gateway) -> Router {
    let routes = ROUTES.iter().fold(Router::new(), |router, (_, path, handler)| router.route(path, handler()));
    routes
        .route("/v1/{*unknown}", axum::routing::any(failure::no_such_route))
        .method_not_allowed_fallback(failure::method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .layer(from_fn(headers::describe))
        .with_state(gateway)
}
