//! An answer that comes as server-sent events, whatever dialect they are in.

use super::super::{
    backend::{BackendError, EventStream},
    http,
};
use bytes::Bytes;
use eventsource_stream::Eventsource;
use futures::{Stream, StreamExt, stream};
use reqwest::Response;
use std::{collections::VecDeque, time::Duration};
use tokio::time::{Instant, timeout};
use worker_protocol::{Event, Timings};

/// Longest event that is read, in bytes.
const LONGEST_EVENT: usize = 4 * 1024 * 1024;
/// Most bytes of an answer's calls: they are held until they are complete.
const MOST_HELD: usize = 1024 * 1024;

/// Turns the data of one event after the other over.
pub(super) trait Reader: Send {
    /// # Errors
    /// It makes no sense, or says that the server failed.
    fn take(&mut self, data: &str) -> Result<Vec<Event>, BackendError>;

    /// No more comes. Some servers close without a last word.
    ///
    /// # Errors
    /// The answer is not complete.
    fn finish(&mut self) -> Result<Vec<Event>, BackendError>;
}

/// The events of an answer that has begun.
pub(super) fn events(response: Response, reader: Box<dyn Reader>, first: Duration, idle: Duration) -> EventStream {
    let mut unended = Unended::default();
    let chunks = response.bytes_stream().map(move |chunk| -> Result<Bytes, BackendError> {
        let chunk = chunk.map_err(http::lost)?;
        unended.take(&chunk)?;
        Ok(chunk)
    });
    let chunks = chunks.eventsource();
    let data = chunks.map(|event| match event {
        Ok(event) => Ok(event.data),
        Err(eventsource_stream::EventStreamError::Transport(error)) => Err(error),
        Err(error) => Err(BackendError::Protocol(error.to_string())),
    });
    follow(data, reader, first, idle).boxed()
}

fn follow(
    data: impl Stream<Item = Result<String, BackendError>> + Send + 'static,
    reader: Box<dyn Reader>,
    first: Duration,
    idle: Duration,
) -> impl Stream<Item = Result<Event, BackendError>> + Send {
    let state = (Box::pin(data), reader, VecDeque::new(), first, false);
    stream::unfold(state, move |(mut data, mut reader, mut ready, patience, mut over)| async move {
        loop {
            if let Some(event) = ready.pop_front() {
                return Some((event, (data, reader, ready, idle, over)));
            }
            if over {
                return None;
            }
            let outcome = match timeout(patience, data.next()).await {
                Err(_) => Err(BackendError::Failing(format!("nothing came for {patience:?}"))),
                Ok(Some(Ok(text))) => reader.take(&text),
                Ok(Some(Err(error))) => Err(error),
                Ok(None) => reader.finish(),
            };
            match outcome {
                Ok(events) => {
                    over = events.iter().any(|event| matches!(event, Event::Done { .. } | Event::Failed { .. }));
                    ready.extend(events.into_iter().map(Ok));
                }
                Err(error) => {
                    over = true;
                    ready.push_back(Err(error));
                }
            }
        }
    })
}

/// What came since the last blank line, which ends an event: until then all of it is kept.
#[derive(Debug, Default)]
struct Unended {
    bytes: usize,
    within_line: bool,
    after_return: bool,
}

impl Unended {
    /// # Errors
    /// The event is too long.
    fn take(&mut self, chunk: &[u8]) -> Result<(), BackendError> {
        for &byte in chunk {
            match byte {
                // The second half of a line's end.
                b'\n' if self.after_return => {}
                b'\n' | b'\r' if !self.within_line => self.bytes = 0,
                _ => {
                    self.within_line = !matches!(byte, b'\n' | b'\r');
                    self.bytes += 1;
                }
            }
            self.after_return = byte == b'\r';
            if self.bytes > LONGEST_EVENT {
                return Err(BackendError::Protocol(format!("an event is longer than {LONGEST_EVENT} bytes")));
            }
        }
        Ok(())
    }
}

/// How much of an answer is held until it is complete.
#[derive(Debug, Default)]
pub(super) struct Held(usize);

impl Held {
    /// # Errors
    /// It is too much.
    pub(super) fn take(&mut self, text: &str) -> Result<(), BackendError> {
        self.0 = self.0.saturating_add(text.len());
        if self.0 > MOST_HELD {
            return Err(BackendError::Protocol(format!("the calls of an answer are longer than {MOST_HELD} bytes")));
        }
        Ok(())
    }
}

/// How long an answer took, as far as it can be seen from here.
#[derive(Debug)]
pub(super) struct Pace {
    began: Instant,
    first: Option<Instant>,
}

impl Pace {
    pub(super) fn begin() -> Self {
        Self { began: Instant::now(), first: None }
    }

    /// Something of the answer came.
    pub(super) fn output(&mut self) {
        self.first.get_or_insert_with(Instant::now);
    }

    pub(super) fn timings(&self) -> Timings {
        let ttft = self.first.map_or_else(|| self.began.elapsed(), |first| first - self.began);
        let decode = self.began.elapsed().saturating_sub(ttft);
        Timings { queued_ms: 0, prefill_ms: millis(ttft), ttft_ms: millis(ttft), decode_ms: millis(decode) }
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::{BackendError, LONGEST_EVENT, Unended};

    #[test]
    fn events_may_be_many_but_none_without_end() {
        let half = vec![b'x'; LONGEST_EVENT / 2];
        for end in ["\n\n", "\r\n\r\n", "\r\r"] {
            let mut unended = Unended::default();
            for _ in 0..5 {
                unended.take(&half).unwrap();
                // However the pieces are cut.
                for byte in end.bytes() {
                    unended.take(&[byte]).unwrap();
                }
            }
            unended.take(&half).unwrap();
            unended.take(&end.as_bytes()[..end.len() / 2]).unwrap();
            assert!(matches!(unended.take(&half), Err(BackendError::Protocol(_))), "a line's end {end:?} is no event's");
        }
    }
}
