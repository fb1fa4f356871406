//! The sign-in form as the browser sends it by itself: without our script, or before it has arrived.

use super::safe_next;
use crate::{
    edge::{self, CookiePolicy},
    viewer::{RefusedSignIn, Visitor},
};
use axum::{
    Form,
    body::Body,
    extract::{
        Query, Request, State,
        rejection::{FormRejection, QueryRejection},
    },
    http::{StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use domain::Error;
use identity::Identity;
use serde::Deserialize;

/// What the form sends, by the names of its fields.
#[derive(Deserialize)]
pub struct Entry {
    email: String,
    password: String,
}

/// What the sign-in page's address says.
#[derive(Deserialize)]
pub struct Address {
    next: Option<String>,
}

/// Middleware around the sign-in page, within [`edge::load_visitor`]: starts a session as the server function does and leads
/// on to the page that was wanted. If that fails, the page is rendered with what is wrong, under the problem's status.
pub async fn receive(
    State((identity, cookies)): State<(Identity, CookiePolicy)>,
    address: Result<Query<Address>, QueryRejection>,
    mut parts: Parts,
    entry: Result<Form<Entry>, FormRejection>,
    page: Next,
) -> Response {
    let request = edge::id_of(&parts);
    let refused = match entry {
        Ok(Form(Entry { email, password })) => match identity.sign_in(edge::attempt(&parts, email.clone(), password)).await {
            Ok(signed_in) => {
                let next = address.ok().and_then(|Query(address)| address.next);
                return lead_on(signed_in.token.reveal(), cookies, next.as_deref());
            }
            Err(error) => RefusedSignIn { email, error: edge::tell(&error, request) },
        },
        Err(_) => {
            let error = Error::invalid("form", "malformed_request", "The form could not be read.");
            RefusedSignIn { email: String::new(), error: edge::tell(&error, request) }
        }
    };
    let status = StatusCode::from_u16(refused.error.kind().status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(visitor) = parts.extensions.get_mut::<Visitor>() {
        visitor.refused = Some(refused);
    }
    let mut response = page.run(Request::from_parts(parts, Body::empty())).await;
    if response.status().is_success() {
        *response.status_mut() = status;
    }
    response
}

fn lead_on(token: &str, cookies: CookiePolicy, next: Option<&str>) -> Response {
    let cookie = edge::session_cookie_value(Some(token), cookies);
    ([(header::SET_COOKIE, cookie)], Redirect::to(&in_header(&safe_next(next)))).into_response()
}

/// An address as a header may hold it: what was decoded with the query and is not plain is encoded again.
fn in_header(address: &str) -> String {
    address.bytes().fold(String::with_capacity(address.len()), |mut out, byte| {
        if byte.is_ascii_graphic() {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::in_header;

    #[test]
    fn the_way_on_is_an_address_again() {
        assert_eq!(in_header("/search?q=a%20b&c=ü d"), "/search?q=a%20b&c=%C3%BC%20d");
    }
}
