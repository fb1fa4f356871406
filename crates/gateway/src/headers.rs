//! What every answer says about itself in headers.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};
use inference::Route;
use std::time::Instant;

static PROCESSING_MS: HeaderName = HeaderName::from_static("openai-processing-ms");
static VERSION: HeaderName = HeaderName::from_static("openai-version");
static MODEL: HeaderName = HeaderName::from_static("x-kontor-model");
static USE: HeaderName = HeaderName::from_static("x-kontor-usage-id");
static SERVED_BY: HeaderName = HeaderName::from_static("x-kontor-served-by");
static ATTEMPTS: HeaderName = HeaderName::from_static("x-kontor-attempts");
/// The model that was asked for, if another one answers.
static FALLBACK: HeaderName = HeaderName::from_static("x-kontor-fallback-from");
static OVERHEAD: HeaderName = HeaderName::from_static("x-kontor-overhead-ms");
static IGNORED: HeaderName = HeaderName::from_static("x-kontor-ignored-fields");

/// The version of the API that clients of OpenAI know.
const API_VERSION: &str = "2020-10-01";

/// Longer names of unknown fields are not told: proxies refuse long headers.
const LONGEST_NAME: usize = 64;

/// Fields of a request that nobody knows.
#[derive(Clone, Debug, Default)]
pub struct Ignored(Option<HeaderValue>);

impl Ignored {
    pub fn new(paths: Vec<String>) -> Self {
        // Names may hold anything; what cannot be in a header is left out.
        let plain = |path: &String| path.len() <= LONGEST_NAME && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
        let text = paths.into_iter().filter(plain).collect::<Vec<_>>().join(", ");
        Self(HeaderValue::from_str(&text).ok().filter(|value| !value.is_empty()))
    }

    pub fn put(&self, headers: &mut HeaderMap) {
        if let Some(value) = &self.0 {
            headers.insert(IGNORED.clone(), value.clone());
        }
    }
}

/// The use's id in the ledger, who serves it, and what that took. `route`: as far as it is known when the head is sent.
pub fn name_use(headers: &mut HeaderMap, wanted: &str, usage: &str, route: Option<&Route>) {
    let mut put = |name: &HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name.clone(), value);
        }
    };
    put(&USE, usage);
    put(&MODEL, route.map_or(wanted, |route| &route.model));
    let Some(route) = route else { return };
    put(&SERVED_BY, &route.served_by);
    put(&ATTEMPTS, &route.attempts.to_string());
    put(&OVERHEAD, &format!("{:.3}", route.overhead.as_secs_f64() * 1000.0));
    if route.model != wanted {
        put(&FALLBACK, wanted);
    }
}

/// Adds what OpenAI's own server says: how long it took until the head of the answer, and the API's version.
pub async fn describe(request: Request, next: Next) -> Response {
    let began = Instant::now();
    let mut response = next.run(request).await;
    let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let headers = response.headers_mut();
    headers.insert(PROCESSING_MS.clone(), HeaderValue::from(took));
    headers.insert(VERSION.clone(), HeaderValue::from_static(API_VERSION));
    response
}

#[cfg(test)]
mod tests {
    use super::Ignored;
    use axum::http::HeaderMap;

    #[test]
    fn names_of_fields_cannot_forge_headers() {
        let mut headers = HeaderMap::new();
        Ignored::new(vec!["a.b".into(), "evil\r\nset-cookie: x".into(), "c".into()]).put(&mut headers);
        assert_eq!(headers.get("x-kontor-ignored-fields").unwrap(), "a.b, c");
        let mut none = HeaderMap::new();
        Ignored::new(vec![]).put(&mut none);
        assert!(none.is_empty());
    }
}
