//! An answer that comes as server-sent events, whatever dialect they are in.

use super::super::{
    backend::{BackendError, EventStream},
    http,
};
use eventsource_stream::Eventsource;
use futures::{Stream, StreamExt, stream};
use reqwest::Response;
use std::{collections::VecDeque, time::Duration};
use tokio::time::{Instant, timeout};
use worker_protocol::{Event, Timings};

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
    let chunks = response.bytes_stream().map(|chunk| chunk.map_err(http::lost)).eventsource();
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
