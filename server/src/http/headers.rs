//! Security headers of every response.

use crate::config::foreign_variable;
use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    middleware::Next,
    response::Response,
};
use gateway::{FUNCTIONS_VERSION, is_function};
use leptos::{nonce::use_nonce, prelude::use_context};
use leptos_axum::ResponseOptions;

/// For everything that is not a page: such a response has nothing to load.
const BARE_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

/// Headers that are the same for all responses.
static ALWAYS: [(HeaderName, HeaderValue); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static("camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ),
];

/// Adds the headers; a page has set its own content policy by then.
pub fn secure(headers: &mut HeaderMap) {
    for (name, value) in &ALWAYS {
        headers.insert(name.clone(), value.clone());
    }
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(BARE_POLICY));
}

/// Tells below `/ui/` which version of names, bodies and results this is, whatever the answer.
///
/// What a client would rather have is not asked there: leptos takes whoever accepts HTML for a form, and sends them elsewhere
/// instead of answering. Forms never come so far.
pub async fn version(mut request: Request, next: Next) -> Response {
    let function = is_function(request.uri().path());
    if function {
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    }
    let mut response = next.run(request).await;
    if function {
        response.headers_mut().insert("x-kontor-version", HeaderValue::from_static(FUNCTIONS_VERSION));
    }
    response
}

/// To be called while a page's context is being set up: allows the page its own scripts, named by the nonce
/// of this response, and nothing from elsewhere.
///
/// `wasm-unsafe-eval` lets the browser compile our WebAssembly and nothing else. Inline `style` attributes are
/// allowed because sizes of charts and lists are data; style elements are not.
pub fn page_policy() {
    let (Some(nonce), Some(response)) = (use_nonce(), use_context::<ResponseOptions>()) else { return };
    let watch = if foreign_variable("LEPTOS_WATCH").is_some() { " ws: wss:" } else { "" };
    let policy = format!(
        "default-src 'none'; script-src 'self' 'nonce-{nonce}' 'wasm-unsafe-eval'; style-src 'self'; style-src-attr 'unsafe-inline'; \
         img-src 'self' data: blob:; font-src 'self'; connect-src 'self'{watch}; manifest-src 'self'; base-uri 'none'; form-action 'self'; \
         frame-ancestors 'none'"
    );
    if let Ok(value) = HeaderValue::from_str(&policy) {
        response.insert_header(header::CONTENT_SECURITY_POLICY, value);
        // A page holds a person's texts; nobody but this browser may keep it, and the browser only until it asks again.
        response.insert_header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}
