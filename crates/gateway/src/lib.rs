//! The face for programs: those that speak OpenAI's API, or Anthropic's, work by changing base URL and key.
//!
//! Routes parse, call one method of [`services::Api`] and render. What clients expect to the byte is OpenAI's OpenAPI
//! document 2.3.0; where clients are stricter or laxer than that, the comments say so.

#[cfg(target_family = "wasm")]
compile_error!("`gateway` is server-only");

mod anthropic;
mod batches;
mod body;
mod caller;
mod chat;
mod completions;
mod embeddings;
mod failure;
mod files;
mod follow;
mod form;
mod headers;
mod images;
mod inputs;
mod known;
mod models;
mod moderations;
mod openapi;
mod paging;
mod parameters;
mod path;
mod rerank;
mod responses;
mod sse;
mod structured;
mod usage;
mod wish;
mod words;

pub use batches::BatchLines;
pub use caller::{CLASS_HEADER, key};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{MethodRouter, delete, get, post},
};
pub use failure::panicked;
pub use headers::describe;
use identity::Identity;
pub use openapi::{FUNCTIONS_VERSION, PEOPLE_ONLY, document, is_function};
use services::Services;
use std::{ops::Deref, sync::Arc};

/// Largest body of a request, in bytes. A conversation of 100,000 tokens has about half a megabyte; images are larger.
const BODY_MAX_BYTES: usize = 64 * 1024 * 1024;

/// What the routes work with. Cheap to clone: a handler gets its own with each request.
#[derive(Clone)]
pub struct Gateway(Arc<Parts>);

/// What a [`Gateway`] shares.
pub struct Parts {
    services: Services,
    identity: Identity,
}

impl Gateway {
    /// Made once; the services decide how urgent its requests are.
    #[must_use]
    pub fn new(services: Services, identity: Identity) -> Self {
        Self(Arc::new(Parts { services, identity }))
    }
}

impl Deref for Gateway {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// Method, path, handler.
type Route = (&'static str, &'static str, fn() -> MethodRouter<Gateway>);

/// Every route, for the authorisation matrix too.
pub const ROUTES: &[Route] = &[
    ("POST", "/v1/chat/completions", || post(chat::create)),
    ("POST", "/v1/completions", || post(completions::create)),
    ("POST", "/v1/embeddings", || post(embeddings::create)),
    ("POST", "/v1/rerank", || post(rerank::create)),
    ("POST", "/v1/moderations", || post(moderations::create)),
    ("POST", "/v1/responses", || post(responses::create)),
    ("POST", "/v1/responses/input_tokens", || post(responses::count)),
    ("GET", "/v1/responses/{id}", || get(responses::get)),
    ("DELETE", "/v1/responses/{id}", || delete(responses::delete)),
    ("POST", "/v1/responses/{id}/cancel", || post(responses::cancel)),
    ("GET", "/v1/responses/{id}/input_items", || get(responses::input_items)),
    // A file is taken piece by piece, and its size is the service's business.
    ("POST", "/v1/files", || post(files::create).layer(DefaultBodyLimit::disable())),
    ("GET", "/v1/files", || get(files::list)),
    ("GET", "/v1/files/{id}", || get(files::get)),
    ("DELETE", "/v1/files/{id}", || delete(files::delete)),
    ("GET", "/v1/files/{id}/content", || get(files::content)),
    ("POST", "/v1/batches", || post(batches::create)),
    ("GET", "/v1/batches", || get(batches::list)),
    ("GET", "/v1/batches/{id}", || get(batches::get)),
    ("POST", "/v1/batches/{id}/cancel", || post(batches::cancel)),
    ("POST", "/v1/messages", || post(anthropic::create)),
    ("POST", "/v1/messages/count_tokens", || post(anthropic::count)),
    ("GET", "/v1/models", || get(models::list)),
    // A model's id may have slashes.
    ("GET", "/v1/models/{*model}", || get(models::get)),
];

/// The routes, ready to be merged into the server's router. Whoever mounts them puts a
/// [`RequestId`](contract::ids::RequestId) into each request's extensions and lets [`describe`] add to each answer. They have
/// no layer of their own: axum clones and boxes all that lies within one, for each request.
pub fn router(gateway: Gateway) -> Router {
    let routes = ROUTES.iter().fold(Router::new(), |router, (_, path, handler)| router.route(path, handler()));
    routes
        .route("/v1/{*unknown}", axum::routing::any(failure::no_such_route))
        .method_not_allowed_fallback(failure::method_not_allowed)
        .with_state(gateway)
}
