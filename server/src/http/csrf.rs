//! Writes come from our own pages only.
//!
//! Server functions check neither origin nor content type, so a foreign form could reach them with the
//! visitor's cookie. Here a write needs a same-origin mark that scripts cannot forge (`Sec-Fetch-Site`, or
//! `Origin` from older browsers) and a content type that no form can send. The one exception is the sign-in page, whose own
//! form the browser may send by itself: it needs the mark all the same, or a foreign page could sign visitors in as somebody
//! else. A program that was let in by its key needs no mark:
//! no browser adds a key by itself, and its cookie was not looked at.

use super::{problem, request_id};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    middleware::Next,
    response::Response,
};
use contract::problem::ProblemKind;
use domain::Actor;
use std::sync::Arc;

/// The page whose form works without a script.
pub const SIGN_IN: &str = "/sign-in";

/// The host of the public address, for installations whose proxy rewrites `Host`.
#[derive(Clone, Debug, Default)]
pub struct PublicHost(Option<Arc<str>>);

impl PublicHost {
    /// Host and port of the public address, e.g. `kontor.example.org`.
    #[must_use]
    pub fn of(public_url: Option<&str>) -> Self {
        let uri: Option<Uri> = public_url.and_then(|url| url.parse().ok());
        Self(uri.and_then(|uri| uri.authority().map(|authority| authority.as_str().into())))
    }
}

/// Refuses a write that does not come from our own pages, or is neither JSON nor the sign-in form.
pub async fn protect(State(public): State<PublicHost>, request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    let id = request_id::of(request.extensions());
    let by_key = request.extensions().get::<Option<Actor>>().and_then(Option::as_ref).is_some_and(|actor| actor.as_program().is_some());
    if !by_key && !same_origin(request.headers(), request.uri(), &public) {
        let message = "This call did not come from a page of this site.";
        return problem::refuse(StatusCode::FORBIDDEN, ProblemKind::Forbidden, "cross_site", message, id);
    }
    let kind = content_type(request.headers());
    let is_form = request.uri().path() == SIGN_IN && kind.eq_ignore_ascii_case("application/x-www-form-urlencoded");
    if !is_form && !kind.eq_ignore_ascii_case("application/json") {
        let message = "Send the content type application/json.";
        return problem::refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, ProblemKind::Invalid, "not_json", message, id);
    }
    next.run(request).await
}

fn same_origin(headers: &HeaderMap, uri: &Uri, public: &PublicHost) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin";
    }
    let Some(origin) = headers.get(header::ORIGIN).and_then(|value| value.to_str().ok()) else { return false };
    let Some((_, origin_host)) = origin.split_once("://") else { return false };
    let host =
        headers.get(header::HOST).and_then(|value| value.to_str().ok()).or_else(|| uri.authority().map(|authority| authority.as_str()));
    host == Some(origin_host) || public.0.as_deref() == Some(origin_host)
}

/// Without its parameters; empty if there is none.
fn content_type(headers: &HeaderMap) -> &str {
    let sent = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    sent.split(';').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::{PublicHost, same_origin};
    use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};

    fn judge(headers: &[(&'static str, &'static str)], public: Option<&str>) -> bool {
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect();
        same_origin(&headers, &Uri::from_static("/ui/sign_in"), &PublicHost::of(public))
    }

    #[test]
    fn only_our_own_pages_pass() {
        let cases: &[(&[(&'static str, &'static str)], bool)] = &[
            (&[("sec-fetch-site", "same-origin"), ("host", "a")], true),
            (&[("sec-fetch-site", "same-site"), ("host", "a"), ("origin", "http://a")], false),
            (&[("sec-fetch-site", "cross-site"), ("host", "a")], false),
            (&[("sec-fetch-site", "none"), ("host", "a")], false),
            (&[("origin", "http://a:3000"), ("host", "a:3000")], true),
            (&[("origin", "http://a:3001"), ("host", "a:3000")], false),
            (&[("origin", "null"), ("host", "a")], false),
            (&[("host", "a")], false),
        ];
        for (headers, expected) in cases {
            assert_eq!(
                judge(headers, None),
                *expected,
                "{headers:?}\nIf you are here because this failed: a foreign page could act in a visitor's name."
            );
        }
        assert!(judge(&[("origin", "https://kontor.example.org"), ("host", "inner:80")], Some("https://kontor.example.org/")));
    }
}
