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
use tokio::time::{Instant, sleep};

/// A comment is sent after so long a silence, so that proxies keep the connection.
const PING: Duration = Duration::from_secs(15);
const PING_FRAME: Bytes = Bytes::from_static(b": ping\n\n");
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

/// A comment, which clients that do not look for it pass over: the place in the queue, 0 is next, and about how long it takes.
pub fn queued(place: u32, wait_ms: Option<u32>) -> Bytes {
    let wait = wait_ms.map(|wait_ms| format!(" wait_ms={wait_ms}")).unwrap_or_default();
    format!(": queued place={place}{wait}\n\n").into()
}

/// Sends frames as they come, with pings in between.
pub fn respond(frames: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let mut response = Response::new(Body::from_stream(pinged(frames, PING).map(Ok::<_, Infallible>)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(ACCEL_BUFFERING.clone(), HeaderValue::from_static("no"));
    response
}

/// The frames, and a ping `after` each silence. One timer is moved on with every frame, which takes no lock.
fn pinged(frames: impl Stream<Item = Bytes> + Send + 'static, after: Duration) -> impl Stream<Item = Bytes> + Send + 'static {
    let begin = (Box::pin(frames), Box::pin(sleep(after)));
    stream::unfold(begin, move |(mut frames, mut silence)| async move {
        let frame = tokio::select! {
            biased;
            frame = frames.next() => frame?,
            () = silence.as_mut() => PING_FRAME,
        };
        silence.as_mut().reset(Instant::now() + after);
        Some((frame, (frames, silence)))
    })
}

#[cfg(test)]
mod tests {
    use super::{Bytes, PING_FRAME, data, named, pinged, queued};
    use futures::{StreamExt, stream};
    use std::time::Duration;
    use tokio::time::sleep;

    #[tokio::test]
    async fn silence_is_filled_with_pings_and_with_nothing_else() {
        let [first, last] = [Bytes::from_static(b"first"), Bytes::from_static(b"last")];
        let later = stream::once(async {
            sleep(Duration::from_millis(250)).await;
            Bytes::from_static(b"last")
        });
        let frames: Vec<Bytes> =
            pinged(stream::iter([first.clone(), first.clone()]).chain(later), Duration::from_millis(100)).collect().await;
        let [begin @ .., end] = frames.as_slice() else { panic!("{frames:?}") };
        assert_eq!((&begin[..2], end), (&[first.clone(), first][..], &last));
        let pings = &begin[2..];
        assert!(
            !pings.is_empty() && pings.iter().all(|frame| *frame == PING_FRAME),
            "{frames:?}\nIf you are here because this failed: proxies cut long silences off, or clients read what is no event."
        );
    }

    #[test]
    fn events_end_with_an_empty_line() {
        assert_eq!(data(&[1]), "data: [1]\n\n");
        assert_eq!(named("x", &[1]), "event: x\ndata: [1]\n\n");
        assert_eq!((queued(3, Some(4000)), queued(0, None)), (": queued place=3 wait_ms=4000\n\n".into(), ": queued place=0\n\n".into()));
    }
}
