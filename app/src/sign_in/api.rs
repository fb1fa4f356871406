//! Server functions of signing in and out.

use crate::UiError;
use leptos::prelude::*;
use server_fn::codec::Json;

/// Starts a session for this browser. A session it had before ends.
///
/// # Errors
/// `Unauthenticated` for an unknown e-mail or a wrong password (indistinguishable),
/// `QuotaExceeded` after too many attempts; `Forbidden` with a key.
#[server(prefix = "/ui", endpoint = "sign_in", input = Json, output = Json)]
pub async fn sign_in(email: String, password: String) -> Result<(), UiError> {
    use crate::edge;
    use axum::http::request::Parts;
    edge::refuse_programs()?;
    let attempt = with_context::<Parts, _>(|parts| edge::attempt(parts, email, password))
        .ok_or_else(|| edge::fail(domain::Error::internal("the request is not in context")))?;
    let signed_in = edge::identity()?.sign_in(attempt).await.map_err(edge::fail)?;
    edge::set_session_cookie(Some(signed_in.token.reveal()))
}

/// Ends this browser's session. Does nothing without one.
///
/// # Errors
/// `Internal` if the session could not be ended; `Forbidden` with a key.
#[server(prefix = "/ui", endpoint = "sign_out", input = Json, output = Json)]
pub async fn sign_out() -> Result<(), UiError> {
    use crate::edge;
    if let Some(actor) = edge::maybe_actor() {
        edge::identity()?.sign_out(&actor).await.map_err(edge::fail)?;
    }
    edge::set_session_cookie(None)
}
