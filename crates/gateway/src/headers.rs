//! What every answer says about itself in headers.

use axum::http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{self, InvalidHeaderValue},
};
use domain::Quota;
use inference::{Cached, Limits, Route, Standing};
use std::time::Duration;

static PROCESSING_MS: HeaderName = HeaderName::from_static("openai-processing-ms");
static VERSION: HeaderName = HeaderName::from_static("openai-version");
static MODEL: HeaderName = HeaderName::from_static("x-kontor-model");
static USE: HeaderName = HeaderName::from_static("x-kontor-usage-id");
static SERVED_BY: HeaderName = HeaderName::from_static("x-kontor-served-by");
static ATTEMPTS: HeaderName = HeaderName::from_static("x-kontor-attempts");
/// The model that was asked for, if another one answers.
static FALLBACK: HeaderName = HeaderName::from_static("x-kontor-fallback-from");
static OVERHEAD: HeaderName = HeaderName::from_static("x-kontor-overhead-ms");
/// Names of guardrails that let the request pass and warn.
static WARNINGS: HeaderName = HeaderName::from_static("x-kontor-guardrail-warnings");
/// What it cost, with the currency; told once it is known, so not of streams: they tell it in `usage`.
static COST: HeaderName = HeaderName::from_static("x-kontor-cost");
/// Whether OpenAI's clients shall try again, whatever the status.
static SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
static RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
/// What the response cache had to do with it, if it was asked; beside it `age`.
static CACHE: HeaderName = HeaderName::from_static("x-kontor-cache");
static AGE: HeaderName = header::AGE;
static IGNORED: HeaderName = HeaderName::from_static("x-kontor-ignored-fields");

/// The version of the API that clients of OpenAI know.
const API_VERSION: &str = "2020-10-01";

/// Headers of an ordinary answer beside those that its body brings along, the server's own among them. Room is made for all of
/// them at once.
const USUAL: usize = 20;

/// Longer names of unknown fields are not told: proxies refuse long headers.
const LONGEST_NAME: usize = 64;

/// Fields of a request without the effect that they ask for.
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
    headers.reserve(USUAL);
    put(headers, &USE, HeaderValue::from_str(usage));
    put(headers, &MODEL, HeaderValue::from_str(route.map_or(wanted, |route| &route.model)));
    let Some(route) = route else { return };
    put(headers, &SERVED_BY, HeaderValue::from_str(&route.served_by));
    headers.insert(ATTEMPTS.clone(), route.attempts.into());
    put(headers, &OVERHEAD, format!("{:.3}", route.overhead.as_secs_f64() * 1000.0).try_into());
    if route.model != wanted {
        put(headers, &FALLBACK, HeaderValue::from_str(wanted));
    }
    if !route.warnings.is_empty() {
        put(headers, &WARNINGS, route.warnings.join(", ").try_into());
    }
    if let Some((currency, cost)) = route.cost {
        put(headers, &COST, format!("{cost} {currency}").try_into());
    }
    name_cache(headers, route.cached);
    name_limits(headers, &route.limits);
}

/// Names come from whoever configures: what cannot be in a header is left out.
fn put(headers: &mut HeaderMap, name: &HeaderName, value: Result<HeaderValue, InvalidHeaderValue>) {
    if let Ok(value) = value {
        headers.insert(name.clone(), value);
    }
}

fn name_cache(headers: &mut HeaderMap, cached: Cached) {
    let word = match cached {
        Cached::Unasked => return,
        Cached::Bypass => "bypass",
        Cached::Miss => "miss",
        Cached::Hit { age } => {
            headers.insert(AGE.clone(), age.as_secs().into());
            "hit"
        }
    };
    headers.insert(CACHE.clone(), HeaderValue::from_static(word));
}

/// How the limits stand.
pub fn name_limits(headers: &mut HeaderMap, limits: &Limits) {
    for (unit, standing) in [(&REQUESTS, limits.requests), (&TOKENS, limits.tokens)] {
        if let Some(standing) = standing {
            unit.put(headers, standing);
        }
    }
}

/// The three headers that tell how a limit stands.
struct RateLimit {
    limit: HeaderName,
    remaining: HeaderName,
    reset: HeaderName,
}

static REQUESTS: RateLimit = RateLimit {
    limit: HeaderName::from_static("x-ratelimit-limit-requests"),
    remaining: HeaderName::from_static("x-ratelimit-remaining-requests"),
    reset: HeaderName::from_static("x-ratelimit-reset-requests"),
};
static TOKENS: RateLimit = RateLimit {
    limit: HeaderName::from_static("x-ratelimit-limit-tokens"),
    remaining: HeaderName::from_static("x-ratelimit-remaining-tokens"),
    reset: HeaderName::from_static("x-ratelimit-reset-tokens"),
};

impl RateLimit {
    fn put(&self, headers: &mut HeaderMap, standing: Standing) {
        headers.insert(self.limit.clone(), standing.limit.into());
        headers.insert(self.remaining.clone(), standing.remaining.into());
        put(headers, &self.reset, span(standing.reset).try_into());
    }
}

/// A duration as OpenAI tells it: `12ms`, `1s`, `6m0s`.
fn span(duration: Duration) -> String {
    let ms = duration.as_millis();
    match ms.div_ceil(1000) {
        _ if ms < 1000 => format!("{ms}ms"),
        seconds if seconds < 60 => format!("{seconds}s"),
        seconds => format!("{}m{}s", seconds / 60, seconds % 60),
    }
}

/// What a refusal by a budget or a limit says beside `retry-after`.
pub fn refused(headers: &mut HeaderMap, quota: Quota, retry_after_ms: Option<u32>) {
    if let Some(ms) = retry_after_ms {
        headers.insert(RETRY_AFTER_MS.clone(), ms.into());
    }
    let reset = Duration::from_millis(retry_after_ms.unwrap_or(0).into());
    match quota {
        // Trying again does not bring money; without this each refusal comes three times.
        Quota::Budget => {
            headers.insert(SHOULD_RETRY.clone(), HeaderValue::from_static("false"));
        }
        Quota::Requests(limit) => REQUESTS.put(headers, Standing { limit, remaining: 0, reset }),
        Quota::Tokens(limit) => TOKENS.put(headers, Standing { limit, remaining: 0, reset }),
        Quota::Places(_) | Quota::Attempts => {}
    }
}

/// Adds what OpenAI's own server says with each answer: how long it `took` until its head, and the API's version.
pub fn describe(headers: &mut HeaderMap, took: Duration) {
    let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    headers.insert(PROCESSING_MS.clone(), HeaderValue::from(ms));
    headers.insert(VERSION.clone(), HeaderValue::from_static(API_VERSION));
}

#[cfg(test)]
mod tests {
    use super::{Ignored, span};
    use axum::http::HeaderMap;
    use std::time::Duration;

    #[test]
    fn spans_are_told_as_openai_tells_them() {
        let told = [(12, "12ms"), (999, "999ms"), (1_000, "1s"), (59_001, "1m0s"), (360_000, "6m0s")];
        for (ms, text) in told {
            assert_eq!(span(Duration::from_millis(ms)), text);
        }
    }

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
