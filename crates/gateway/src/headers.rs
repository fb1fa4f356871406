//! What every answer says about itself in headers.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};
use std::time::Instant;

static PROCESSING_MS: HeaderName = HeaderName::from_static("openai-processing-ms");
static VERSION: HeaderName = HeaderName::from_static("openai-version");
static MODEL: HeaderName = HeaderName::from_static("x-kontor-model");
static USE: HeaderName = HeaderName::from_static("x-kontor-usage-id");
static IGNORED: HeaderName = HeaderName::from_static("x-kontor-ignored-fields");

/// The version of the API that clients of OpenAI know.
const API_VERSION: &str = "2020-10-01";

/// Fields of a request that nobody knows.
#[derive(Clone, Debug, Default)]
pub struct Ignored(Option<HeaderValue>);

impl Ignored {
    pub fn new(paths: Vec<String>) -> Self {
        // Names may hold anything; what cannot be in a header is left out.
        let plain = |path: &String| path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
        let text = paths.into_iter().filter(plain).collect::<Vec<_>>().join(", ");
        Self(HeaderValue::from_str(&text).ok().filter(|value| !value.is_empty()))
    }

    pub fn put(&self, headers: &mut HeaderMap) {
        if let Some(value) = &self.0 {
            headers.insert(IGNORED.clone(), value.clone());
        }
    }
}

/// The model that was asked, and the use's id in the ledger.
pub fn name_use(headers: &mut HeaderMap, model: &str, usage: &str) {
    if let Ok(model) = HeaderValue::from_str(model) {
        headers.insert(MODEL.clone(), model);
    }
    if let Ok(usage) = HeaderValue::from_str(usage) {
        headers.insert(USE.clone(), usage);
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
