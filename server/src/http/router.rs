//! The one router: plain routes, pages, server functions, static files and the API for programs, each behind its
//! middleware.

use super::{
    assets::Site,
    csrf, docs,
    edge::Edge,
    export, headers, health, limits, pages, problem, request_id,
    session::{authenticate, note_forbidden, require_sign_in},
    sse,
    state::AppState,
};
use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{Extensions, StatusCode},
    middleware::{from_fn, from_fn_with_state},
    response::Response,
    routing::{MethodRouter, any, get},
};
use contract::problem::ProblemKind;
use gateway::Gateway;
use tower_http::compression::CompressionLayer;

/// A route that is neither page nor server function: method, path, handler.
type PlainRoute = (&'static str, &'static str, fn() -> MethodRouter<AppState>);

/// The table of plain routes. The authorisation matrix has a row for each.
pub const PLAIN_ROUTES: &[PlainRoute] = &[
    ("GET", "/healthz", || get(health::alive)),
    ("GET", "/readyz", || get(health::ready)),
    // Where probes look that were made for llama.cpp, Open WebUI, newer Kubernetes and LiteLLM, whose spelling it is.
    ("GET", "/health", || get(health::alive)),
    ("GET", "/livez", || get(health::alive)),
    ("GET", "/health/liveliness", || get(health::alive)),
    ("GET", "/health/readiness", || get(health::ready)),
    ("GET", "/openapi.json", || get(docs::document)),
    ("GET", "/docs", || get(docs::page)),
    ("GET", "/docs/style.css", || get(docs::style)),
    ("GET", "/ui/turns/{id}/events", || get(sse::turn_events)),
    ("GET", "/ui/export/conversations/{id}/{format}", || get(export::conversation)),
    ("GET", "/ui/export/everything", || get(export::everything)),
    ("GET", "/ui/export/usage.csv", || get(export::usage)),
];

/// Builds the whole router.
///
/// Order of the layers, outermost first: the [`Edge`]; then for everything but the API for programs compression; then for
/// everything but static files and health: version, session or key, CSRF, refusals, size, sign-in.
///
/// # Errors
/// The site's folder cannot be listed.
pub fn router(site: &Site, state: &AppState) -> std::io::Result<Router> {
    let (open, personal): (Vec<_>, Vec<_>) = PLAIN_ROUTES.iter().partition(|(_, path, _)| !gateway::is_function(path));
    let mount = |routes: Vec<&PlainRoute>| {
        routes.into_iter().fold(Router::new(), |router, (_, path, handler)| router.route(path, handler())).with_state(state.clone())
    };
    let behind_session = mount(personal)
        .merge(pages::routes(site, state))
        .route("/ui/{*unknown}", any(no_such_function))
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn(require_sign_in))
        .layer(from_fn(limits::bound))
        // Ours is by route; axum's own would cut every body at 2 MB.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(state.identity.clone(), note_forbidden))
        .layer(from_fn_with_state(state.public_host.clone(), csrf::protect))
        .layer(from_fn_with_state(state.identity.clone(), authenticate))
        .layer(from_fn(headers::version));
    let api = gateway::router(Gateway::new(state.services.clone(), state.identity.clone()));
    Ok(behind_session
        .merge(mount(open))
        .merge(site.routes()?)
        // The default predicate leaves event streams, images and tiny bodies alone.
        .layer(CompressionLayer::new())
        // Programs do not wait for compression.
        .merge(api)
        .layer(Edge::new(state)))
}

/// An address under `/ui` that is not there: a program can do nothing with a page that says so.
async fn no_such_function(extensions: Extensions) -> problem::Failure {
    problem::Failure::new(domain::Error::not_found("function"), request_id::of(&extensions))
}

/// An address that is there, for another method: `Allow` says for which.
async fn wrong_method(extensions: Extensions) -> Response {
    let (kind, message) = (ProblemKind::Invalid, "This address does not take this method; the header Allow has the one that it takes.");
    problem::refuse(StatusCode::METHOD_NOT_ALLOWED, kind, "method_not_allowed", message, request_id::of(&extensions))
}
