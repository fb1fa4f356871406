//! From cookie or key to `Actor`, and the way to the sign-in page for those without one.

use super::{csrf::SIGN_IN, problem::Failure, request_id};
use app::edge::SESSION_COOKIE;
use axum::{
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use domain::{Actor, Error, Result};
use gateway::{CLASS_HEADER, is_function};
use identity::{Identity, KEY_PREFIX};
use std::net::{IpAddr, SocketAddr};

/// Puts `Option<Actor>` into the request's extensions: the person of the cookie or, below `/ui/`, the program of the key. Who
/// sends a key is that program and nobody else, whatever cookie comes along; a wrong key is refused here. A database that does
/// not answer is an error, not a sign-out.
pub async fn authenticate(State(identity): State<Identity>, mut request: Request, next: Next) -> Response {
    let id = request_id::of(request.extensions());
    let (key, token) = (key(&request), cookie(request.headers()));
    let by_key = key.is_some();
    let actor = match (key, token) {
        (Some(key), _) => {
            let address = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip());
            let actor = identity.authenticate_key(key, address, id).await;
            actor.and_then(|actor| unclassified(request.headers()).map(|()| Some(actor)))
        }
        (None, Some(token)) => identity.authenticate(token, id).await,
        (None, None) => Ok(None),
    };
    match actor {
        Ok(actor) => {
            request.extensions_mut().insert::<Option<Actor>>(actor);
            next.run(request).await
        }
        Err(error) => {
            let mut response = Failure::new(error, id).into_response();
            if by_key && response.status() == StatusCode::UNAUTHORIZED {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            response
        }
    }
}

/// Counts for the audit trail who was refused what neither a role nor a scope of theirs allows. It stands behind
/// [`super::csrf`]: what a foreign page makes a visitor's browser send is not what they tried.
pub async fn note_forbidden(State(identity): State<Identity>, request: Request, next: Next) -> Response {
    let actor = request.extensions().get::<Option<Actor>>().cloned().flatten();
    let response = next.run(request).await;
    if let Some(actor) = actor.filter(|_| response.status() == StatusCode::FORBIDDEN) {
        identity.note_forbidden(&actor);
    }
    response
}

/// The key of a call to what the interface itself calls; pages are for people. A token that some proxy adds to what browsers
/// send is no key of ours: there the cookie counts, or nothing yet for who is about to sign in. A browser is known by its marks,
/// which [`super::csrf`] looks at, or by our cookie.
fn key(request: &Request) -> Option<&str> {
    let headers = request.headers();
    let key = gateway::key(headers).filter(|_| is_function(request.uri().path()))?;
    let browser = headers.contains_key("sec-fetch-site") || headers.contains_key(header::ORIGIN) || cookie(headers).is_some();
    (key.starts_with(KEY_PREFIX) || !browser).then_some(key)
}

/// What the interface calls keeps no class of a call. Who names one must not believe that it does.
fn unclassified(headers: &HeaderMap) -> Result<()> {
    if headers.contains_key(CLASS_HEADER) {
        let message = "Only calls below /v1 can be of another class than their account's; here nothing would keep it.";
        return Err(Error::invalid(CLASS_HEADER, "unknown_here", message));
    }
    Ok(())
}

/// Pages are for people who signed in; others go to the sign-in page and come back afterwards. Who is signed in
/// has no business there.
pub async fn require_sign_in(request: Request, next: Next) -> Response {
    let signed_in = request.extensions().get::<Option<Actor>>().is_some_and(Option::is_some);
    let path = request.uri().path();
    let page = matches!(*request.method(), Method::GET | Method::HEAD) && !is_function(path);
    if page && signed_in && path == SIGN_IN {
        return Redirect::to("/").into_response();
    }
    if !page || signed_in || path == SIGN_IN {
        return next.run(request).await;
    }
    let wanted = request.uri().path_and_query().map_or("/", |wanted| wanted.as_str());
    Redirect::to(&sign_in_address(wanted)).into_response()
}

/// Takes the visitor's address from the last entry of `X-Forwarded-For`, the one our own proxy wrote. What stands before it is
/// the visitor's, and may be anything.
pub fn believe_proxy(request: &mut Request) {
    let Some(list) = request.headers().get_all("x-forwarded-for").iter().next_back() else { return };
    let entry = list.as_bytes().rsplit(|byte| *byte == b',').next().and_then(|entry| str::from_utf8(entry).ok()).map(str::trim);
    // Some proxies add the port.
    let address = |entry: &str| entry.parse::<IpAddr>().or_else(|_| entry.parse::<SocketAddr>().map(|address| address.ip())).ok();
    match entry.and_then(address) {
        Some(address) => request.extensions_mut().insert(ConnectInfo(SocketAddr::new(address, 0))),
        // The proxy's own address would pass for the visitor's.
        None => request.extensions_mut().remove::<ConnectInfo<SocketAddr>>(),
    };
}

fn sign_in_address(wanted: &str) -> String {
    if wanted == "/" { SIGN_IN.into() } else { format!("{SIGN_IN}?next={}", encode(wanted)) }
}

/// Percent-encodes everything but what is plain in a query value.
fn encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|line| line.split(';')).find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == SESSION_COOKIE && !value.is_empty()).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::sign_in_address;

    #[test]
    fn the_way_back_survives_the_query() {
        assert_eq!(sign_in_address("/"), "/sign-in");
        assert_eq!(sign_in_address("/search?q=a&b=ü"), "/sign-in?next=/search%3Fq%3Da%26b%3D%C3%BC");
    }
}
