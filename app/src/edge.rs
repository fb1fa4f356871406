//! The server's edge of the interface: from an HTTP request to one service call and back.
//!
//! The server mounts pages and server functions with [`context`] and puts [`load_visitor`] around
//! them. Its own middleware outside of that puts `Option<domain::Actor>` and
//! `contract::ids::RequestId` into the request's extensions.

use crate::{UiError, i18n, viewer::Visitor};
use axum::{
    extract::{ConnectInfo, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header, request::Parts},
    middleware::Next,
    response::Response,
};
use contract::{account::Language, ids::RequestId};
use domain::{Actor, Error, secret::Secret};
use identity::{Identity, SignIn};
use leptos::prelude::*;
use leptos_axum::ResponseOptions;
use services::Services;
use std::net::SocketAddr;

/// The name of the session cookie.
pub const SESSION_COOKIE: &str = "kontor_session";

/// How long a browser keeps the cookie, in seconds: the most that browsers allow (RFC 6265bis, 400 days). The server
/// decides when a session ends, and each use puts that off, of which the browser hears nothing.
const COOKIE_SECONDS: u32 = 400 * 24 * 60 * 60;

/// How the session cookie is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CookiePolicy {
    /// Set `Secure`: the site is reached by https only.
    pub secure: bool,
}

/// What pages and server functions share, to be given to both.
pub fn context(services: Services, identity: Identity, cookies: CookiePolicy) -> impl Fn() + Clone + Send + Sync + 'static {
    move || {
        provide_context(services.clone());
        provide_context(identity.clone());
        provide_context(cookies);
    }
}

/// Middleware: loads the person behind a page request, so that the page can be rendered in their
/// language and theme from the first byte. Server functions do not need it and are passed on.
pub async fn load_visitor(State(services): State<Services>, mut request: Request, next: Next) -> Response {
    if !request.uri().path().starts_with("/ui/") {
        let actor = request.extensions().get::<Option<Actor>>().cloned().flatten();
        let me = match &actor {
            Some(actor) => match services.account.me(actor).await {
                Ok(me) => Some(me),
                Err(error) => {
                    // The page still renders, as for a signed-out visitor, and its calls will say what is wrong.
                    tracing::warn!(request = %actor.request(), error = %error, "the visitor's profile could not be read");
                    None
                }
            },
            None => None,
        };
        let language = me.as_ref().and_then(|me| me.profile.language).unwrap_or_else(|| accepted_language(request.headers()));
        request.extensions_mut().insert(Visitor { me, language, refused: None });
    }
    next.run(request).await
}

/// The language that the browser asks for.
#[must_use]
pub fn accepted_language(headers: &axum::http::HeaderMap) -> Language {
    headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()).map(i18n::negotiate).unwrap_or_default()
}

/// The visitor of the page that is being rendered; the default where there is no request.
#[must_use]
pub fn visitor() -> Visitor {
    extension().unwrap_or_default()
}

/// A clone of something that middleware put into the request.
fn extension<T: Clone + Send + Sync + 'static>() -> Option<T> {
    with_context::<Parts, _>(|parts| parts.extensions.get::<T>().cloned()).flatten()
}

/// Who calls (a person who signed in, or a program with a key), and what can be done in their name.
///
/// # Errors
/// `Unauthenticated` without a valid session or key.
pub async fn actor() -> Result<(Services, Actor), UiError> {
    let services = services()?;
    match maybe_actor() {
        Some(actor) => Ok((services, actor)),
        None => Err(fail(Error::unauthenticated())),
    }
}

/// Who calls, if anybody.
#[must_use]
pub fn maybe_actor() -> Option<Actor> {
    extension::<Option<Actor>>().flatten()
}

/// Passes whoever comes without a key.
///
/// # Errors
/// `Forbidden` for a program: signing in is for people.
pub fn refuse_programs() -> Result<(), UiError> {
    match maybe_actor() {
        Some(actor) if actor.as_program().is_some() => Err(fail(Error::people_only())),
        _ => Ok(()),
    }
}

/// The services of this process.
///
/// # Errors
/// `Internal` when the server forgot to provide them.
pub fn services() -> Result<Services, UiError> {
    use_context().ok_or_else(|| fail(Error::internal("the services are not in context; mount the call with edge::context")))
}

/// Sign-in and sign-out.
///
/// # Errors
/// `Internal` when the server forgot to provide it.
pub fn identity() -> Result<Identity, UiError> {
    use_context().ok_or_else(|| fail(Error::internal("identity is not in context; mount the call with edge::context")))
}

/// The id of this call in logs and problems.
#[must_use]
pub fn request_id() -> RequestId {
    with_context::<Parts, _>(id_of).unwrap_or(RequestId(uuid::Uuid::nil()))
}

/// The id of the request with this head; nil where no middleware gave one.
#[must_use]
pub fn id_of(parts: &Parts) -> RequestId {
    parts.extensions.get::<RequestId>().copied().unwrap_or(RequestId(uuid::Uuid::nil()))
}

/// Turns a service's error into what the client may know; logs it (once, here) if it is our fault
/// and sets the HTTP status.
#[must_use]
pub fn fail(error: Error) -> UiError {
    let error = tell(&error, request_id());
    set_status(error.kind().status());
    error
}

/// What the client may know of an error of this request; logs it if it is our fault.
#[must_use]
pub fn tell(error: &Error, request: RequestId) -> UiError {
    let mut problem = error.problem();
    problem.request_id = Some(request.to_string());
    if let Error::Internal(source) = error {
        tracing::error!(request = %request, error = %contract::chain(source.as_ref()), "a call of the interface failed");
    }
    UiError(problem)
}

/// Sets the status of the response being made. Has no effect once a page has begun to stream.
pub fn set_status(status: u16) {
    if let (Some(response), Ok(status)) = (use_context::<ResponseOptions>(), StatusCode::from_u16(status)) {
        response.set_status(status);
    }
}

/// The attempt to sign in that the request with this head is.
#[must_use]
pub fn attempt(parts: &Parts, email: String, password: String) -> SignIn {
    SignIn {
        email,
        password: Secret::new(password),
        user_agent: header_of(parts, &header::USER_AGENT).unwrap_or_default().to_owned(),
        client: client_address(parts),
        previous: session_cookie(parts).map(Secret::new),
        request: id_of(parts),
    }
}

/// A request header as text.
fn header_of<'a>(parts: &'a Parts, name: &HeaderName) -> Option<&'a str> {
    parts.headers.get(name).and_then(|value| value.to_str().ok())
}

/// The address a request came from, for sign-in throttling; empty if the listener does not tell.
fn client_address(parts: &Parts) -> String {
    parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip().to_string()).unwrap_or_default()
}

/// The session token of a request's cookie, valid or not.
fn session_cookie(parts: &Parts) -> Option<String> {
    header_of(parts, &header::COOKIE)?.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == SESSION_COOKIE && !value.is_empty()).then(|| value.to_owned())
    })
}

/// Sends the session cookie with the response; `None` removes it from the browser.
///
/// # Errors
/// `Internal` when the token cannot be a header value or the call has no response.
pub fn set_session_cookie(token: Option<&str>) -> Result<(), UiError> {
    let policy = use_context::<CookiePolicy>().unwrap_or(CookiePolicy { secure: false });
    let cookie = session_cookie_value(token, policy);
    let value = HeaderValue::from_str(&cookie).map_err(|error| fail(Error::internal(error)))?;
    let response = use_context::<ResponseOptions>().ok_or_else(|| fail(Error::internal("no response to put the session cookie into")))?;
    response.append_header(header::SET_COOKIE, value);
    Ok(())
}

/// The header `Set-Cookie` with this token; `None` removes the cookie from the browser.
#[must_use]
pub fn session_cookie_value(token: Option<&str>, policy: CookiePolicy) -> String {
    let max_age = if token.is_some() { COOKIE_SECONDS } else { 0 };
    let secure = if policy.secure { "; Secure" } else { "" };
    format!("{SESSION_COOKIE}={}; Path=/; HttpOnly; SameSite=Lax; Max-Age={max_age}{secure}", token.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::{CookiePolicy, session_cookie_value};

    #[test]
    fn the_session_cookie_is_out_of_reach_for_scripts_and_foreign_sites() {
        assert_eq!(
            session_cookie_value(Some("t0ken"), CookiePolicy { secure: true }),
            "kontor_session=t0ken; Path=/; HttpOnly; SameSite=Lax; Max-Age=34560000; Secure",
            "If you are here because this failed: the session cookie lost a protection. Scripts must not read it, foreign sites must not send it."
        );
        let removed = session_cookie_value(None, CookiePolicy { secure: false });
        assert_eq!(removed, "kontor_session=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0");
    }
}
