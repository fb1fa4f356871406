//! Reading a request's JSON: errors name the field, and fields without the effect that they ask for are noted.

use crate::{BODY_MAX_BYTES, Gateway, caller::Caller, failure::Failure, headers::Ignored, wish::Unmet};
use axum::{
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Request},
    http::{HeaderMap, HeaderName, HeaderValue},
};
use domain::Actor;
use inference::CacheUse;
use serde::de::DeserializeOwned;
use serde_ignored::Path;

/// Ask for refusal of fields that would be ignored.
static STRICT: HeaderName = HeaderName::from_static("x-kontor-strict");
/// May the answer come out of the response cache?
static CACHE: HeaderName = HeaderName::from_static("x-kontor-cache");
/// As many unknown fields are named in the answer.
const MOST_NAMED: usize = 20;
/// Characters of what serde says of a field: it quotes a text in the wrong place as a whole, and that may be a picture.
const MOST_SAID: usize = 300;

/// Who calls, and with what. The key is checked before the body is read: strangers cannot make us read.
pub struct Call<T> {
    pub actor: Actor,
    pub input: T,
    /// Fields that nobody knows, or of which more is asked than is done, for the answer's headers.
    pub ignored: Ignored,
    /// What it wants of the response cache.
    pub cache: CacheUse,
}

impl<T: Unmet> FromRequest<Gateway> for Call<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, gateway: &Gateway) -> Result<Self, Failure> {
        let strict = request.headers().get(&STRICT).is_some_and(|value| value == "true" || value == "1");
        let (mut parts, body) = request.into_parts();
        let Caller(actor) = Caller::from_request_parts(&mut parts, gateway).await?;
        let cache = cache_use(&parts.headers)?;
        let mut request = Request::from_parts(parts, body);
        DefaultBodyLimit::max(BODY_MAX_BYTES).apply(&mut request);
        let bytes = Bytes::from_request(request, gateway).await?;
        let (input, unknown) = parse::<T>(&bytes)?;
        let unmet = input.unmet();
        if strict {
            refuse(&unknown, &unmet)?;
        }
        let ignored = unknown.into_iter().chain(unmet.into_iter().map(str::to_owned)).collect();
        Ok(Self { actor, input, ignored: Ignored::new(ignored), cache })
    }
}

/// Refuses what would be ignored.
fn refuse(unknown: &[String], unmet: &[&'static str]) -> Result<(), Failure> {
    match (unknown, unmet) {
        ([first, ..], _) => Err(Failure::invalid(first.clone(), "unknown_field", format!("The field {first} is not known here."))),
        ([], [first, ..]) => {
            let message = format!("Of {first} nothing but the default is done here.");
            Err(Failure::invalid(*first, "unsupported_value", message))
        }
        ([], []) => Ok(()),
    }
}

fn cache_use(headers: &HeaderMap) -> Result<CacheUse, Failure> {
    match headers.get(&CACHE).map(HeaderValue::as_bytes) {
        None | Some(b"off") => Ok(CacheUse::Off),
        Some(b"use") => Ok(CacheUse::Use),
        Some(b"refresh") => Ok(CacheUse::Refresh),
        Some(_) => Err(Failure::invalid(CACHE.as_str(), "unknown_value", format!("The header {CACHE} is use, refresh or off."))),
    }
}

/// The body, and the paths of fields that nobody knows.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, Vec<String>), Failure> {
    let mut ignored = Vec::new();
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_ignored::deserialize(&mut reader, |path| {
        if ignored.len() < MOST_NAMED {
            ignored.push(place(&path));
        }
    })
    .and_then(|input| reader.end().map(|()| input));
    match parsed {
        Ok(input) => Ok((input, ignored)),
        Err(_) => Err(explain::<T>(bytes)),
    }
}

/// A path as mistakes have it, too: `messages[0].role`.
fn place(path: &Path<'_>) -> String {
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", place(parent)),
        Path::Map { parent, key } => {
            let parent = place(parent);
            if parent.is_empty() { key.clone() } else { format!("{parent}.{key}") }
        }
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => place(parent),
    }
}

/// Reads once more to find out which field is at fault. Only bad requests pay for it.
fn explain<T: DeserializeOwned>(bytes: &[u8]) -> Failure {
    match serde_path_to_error::deserialize::<_, T>(&mut serde_json::Deserializer::from_slice(bytes)) {
        Err(error) if error.inner().is_data() => {
            let path = error.path().to_string();
            let message = sentence(error.inner());
            let missing = message.strip_prefix("missing field `").and_then(|rest| rest.split_once('`')).map(|(name, _)| name.to_owned());
            let param = match (path.as_str(), missing) {
                (".", Some(name)) => name,
                (path, Some(name)) => format!("{path}.{name}"),
                (path, None) => path.to_owned(),
            };
            let text = format!("{param}: {message}.");
            Failure::invalid(param, None, text)
        }
        Err(error) => Failure::malformed(format!("The body is not JSON: {}.", error.inner())),
        Ok(_) => Failure::malformed("The body goes on after the JSON object."),
    }
}

/// serde's words without the place, which a path says better.
fn sentence(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let words = text.rsplit_once(" at line ").map_or(text.as_str(), |(words, _)| words);
    if words.chars().nth(MOST_SAID).is_none() {
        return words.to_owned();
    }
    words.chars().take(MOST_SAID).chain(['\u{2026}']).collect()
}

#[cfg(test)]
mod tests {
    use super::{cache_use, parse, refuse};
    use crate::known::Known;
    use axum::http::{HeaderMap, HeaderValue};
    use inference::CacheUse;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    struct Inner {
        #[expect(dead_code, reason = "only its type matters")]
        role: String,
    }

    #[derive(Debug, Deserialize)]
    struct Outer {
        model: String,
        #[serde(rename = "metadata")]
        _metadata: Option<Known>,
        #[expect(dead_code, reason = "only its type matters")]
        messages: Vec<Inner>,
        #[expect(dead_code, reason = "only its type matters")]
        options: Option<Options>,
    }

    #[derive(Debug, Deserialize)]
    struct Options {}

    #[test]
    fn unknown_fields_are_noted_with_their_path() {
        let body = br#"{"model":"m","messages":[{"role":"user","x":1}],"y":{"z":2},"options":{"w":3},"metadata":{"a":[1,{"b":null}]}}"#;
        let (outer, ignored) = parse::<Outer>(body).unwrap();
        assert_eq!((outer.model.as_str(), ignored), ("m", ["messages[0].x", "y", "options.w"].map(str::to_owned).to_vec()));
    }

    #[test]
    fn the_strict_are_told_the_first_field_that_would_be_ignored() {
        let told = |unknown: &[&str], unmet: &[&'static str]| {
            let unknown: Vec<String> = unknown.iter().map(|path| (*path).to_owned()).collect();
            refuse(&unknown, unmet).map_err(|failure| failure.event())
        };
        assert_eq!(told(&[], &[]), Ok(()));
        assert!(told(&["a", "b"], &["store"]).unwrap_err().contains(r#""param":"a","code":"unknown_field""#));
        assert!(told(&[], &["store"]).unwrap_err().contains(r#""param":"store","code":"unsupported_value""#));
    }

    #[test]
    fn the_cache_is_asked_by_a_word() {
        let read = |word: Option<&'static str>| {
            let headers: HeaderMap =
                word.map(|word| ("x-kontor-cache".parse().unwrap(), HeaderValue::from_static(word))).into_iter().collect();
            cache_use(&headers)
        };
        for (word, wanted) in
            [(None, CacheUse::Off), (Some("off"), CacheUse::Off), (Some("use"), CacheUse::Use), (Some("refresh"), CacheUse::Refresh)]
        {
            assert_eq!(read(word).unwrap(), wanted);
        }
        assert!(read(Some("yes")).unwrap_err().event().contains(r#""param":"x-kontor-cache""#));
    }

    #[test]
    fn mistakes_are_named_with_their_path() {
        let told = |text: &str| parse::<Outer>(text.as_bytes()).map(|_| ()).unwrap_err().event();
        let missing = told(r#"{"model":"m","messages":[{}]}"#);
        assert!(missing.contains(r#""param":"messages[0].role""#), "{missing}");
        let wrong = told(r#"{"model":7,"messages":[]}"#);
        assert!(wrong.contains(r#""param":"model""#) && wrong.contains("invalid type: integer `7`, expected a string"), "{wrong}");
        let gone = told(r#"{"messages":[]}"#);
        assert!(gone.contains(r#""param":"model""#), "{gone}");
        let picture = told(&format!(r#"{{"model":"m","messages":["{}"]}}"#, "A".repeat(10_000)));
        assert!(picture.contains(r#""param":"messages[0]""#) && picture.len() < 1_000, "{} bytes", picture.len());
        let broken = told(r#"{"model":"#);
        assert!(broken.contains("not JSON") && broken.contains(r#""param":null"#), "{broken}");
        assert!(told(r#"{"model":"m","messages":[]} x"#).contains("goes on"));
    }
}
