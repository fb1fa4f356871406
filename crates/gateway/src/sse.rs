//! Server-sent events as OpenAI sends them: completions as `data:` lines without a name and `[DONE]` at the end, responses
//! as events with names.

use axum::{
    body::{Body, Bytes},
    http::{HeaderName, HeaderValue, header},
    response::Response,
};
use futures::{Stream, StreamExt, stream};
use serde::Serialize;
use std::{convert::Infallible, time::Duration};

/// A comment is sent after so long a silence, so that proxies keep the connection.
const PING: Duration = Duration::from_secs(15);
/// nginx would collect the events otherwise.
static ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// Bytes of an event with a word or two.
const USUAL: usize = 320;
/// The last event.
pub const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// `data: …` with a value as JSON.
pub fn data(value: &impl Serialize) -> Bytes {
    ended(Vec::with_capacity(USUAL), value)
}

/// The same with a name.
pub fn named(name: &str, value: &impl Serialize) -> Bytes {
    let mut begun = Vec::with_capacity(USUAL);
    for piece in ["event: ", name, "\n"] {
        begun.extend_from_slice(piece.as_bytes());
    }
    ended(begun, value)
}

/// The event with its data, which come last.
fn ended(mut begun: Vec<u8>, value: &impl Serialize) -> Bytes {
    begun.extend_from_slice(b"data: ");
    // Our own types always serialise.
    if serde_json::to_writer(&mut begun, value).is_err() {
        return Bytes::new();
    }
    begun.extend_from_slice(b"\n\n");
    begun.into()
}

/// `data: …` with JSON that is there already.
pub fn text(json: &str) -> Bytes {
    format!("data: {json}\n\n").into()
}

/// Sends frames as they come, with pings in between.
pub fn respond(frames: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let pinged = stream::unfold(Box::pin(frames), |mut frames| async move {
        match tokio::time::timeout(PING, frames.next()).await {
            Ok(None) => None,
            Ok(Some(frame)) => Some((Ok::<_, Infallible>(frame), frames)),
            Err(_) => Some((Ok(Bytes::from_static(b": ping\n\n")), frames)),
        }
    });
    let mut response = Response::new(Body::from_stream(pinged));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(ACCEL_BUFFERING.clone(), HeaderValue::from_static("no"));
    response
}
