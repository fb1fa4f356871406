//! An answer followed to its end, with its outputs rendered as frames of an event stream.

use crate::{failure::Failure, sse, usage::Cost};
use axum::{body::Bytes, response::Response};
use contract::{chat::AnswerStats, ids::RequestId};
use futures::stream;
use inference::{Ended, Finish, Generation, Output, Route};
use std::{collections::VecDeque, time::Duration};

/// How long an answer may take to begin before a stream's head is sent. Until then a refusal has a status of its own.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);

/// Waits until there will be an answer, or long enough.
///
/// # Errors
/// It failed before it began.
pub async fn begun(generation: &mut Generation, request: RequestId) -> Result<(), Failure> {
    generation.begun(HEAD_PATIENCE).await.map_err(|error| Failure::of(error, request))
}

/// Where an answer comes from: a generation, or several that are heard as one. Dropping it cancels.
pub trait Source: Send + 'static {
    /// As [`Generation::next`].
    fn next(&mut self) -> impl Future<Output = Option<Output>> + Send;
    /// As [`Generation::route`].
    fn route(&self) -> Option<Route>;
}

impl Source for Generation {
    async fn next(&mut self) -> Option<Output> {
        Generation::next(self).await
    }

    fn route(&self) -> Option<Route> {
        Generation::route(self)
    }
}

/// How outputs look on the wire. Frames are pushed, none or several for each.
pub trait Render: Send + 'static {
    /// Before anything else.
    fn begin(&mut self, frames: &mut VecDeque<Bytes>);
    /// An output that is no end.
    fn take(&mut self, output: Output, frames: &mut VecDeque<Bytes>);
    /// One of several completions ended; those that were not told of end with the whole.
    fn ended(&mut self, choice: u32, finish: Finish, frames: &mut VecDeque<Bytes>);
    /// After everything else.
    fn end(&mut self, ended: &Ended, cost: Cost, frames: &mut VecDeque<Bytes>);
    /// In the place of an end.
    fn fail(&mut self, failure: &Failure, frames: &mut VecDeque<Bytes>) {
        frames.push_back(sse::text(&failure.event()));
    }
}

struct Following<S, R> {
    source: S,
    request: RequestId,
    render: R,
    frames: VecDeque<Bytes>,
    over: bool,
}

/// Sends the answer while it is made. A client that leaves drops its source, which cancels it.
pub fn follow(source: impl Source, request: RequestId, mut render: impl Render) -> Response {
    let mut frames = VecDeque::new();
    render.begin(&mut frames);
    let following = Following { source, request, render, frames, over: false };
    sse::respond(stream::unfold(following, |mut following| async move {
        let frame = following.next().await?;
        Some((frame, following))
    }))
}

impl<S: Source, R: Render> Following<S, R> {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Some(frame);
            }
            if self.over {
                return None;
            }
            match self.source.next().await {
                None => self.over = true,
                Some(Output::Queued { place, wait_ms }) => self.frames.push_back(sse::queued(place, wait_ms)),
                Some(Output::Ended { choice, finish }) => self.render.ended(choice, finish, &mut self.frames),
                Some(Output::End(mut ended)) => {
                    self.over = true;
                    match ended.error.take() {
                        Some(error) => self.render.fail(&Failure::of(error, self.request), &mut self.frames),
                        None => {
                            let cost = Cost::of(self.source.route().and_then(|route| route.cost));
                            self.render.end(&ended, cost, &mut self.frames);
                        }
                    }
                }
                Some(output) => self.render.take(output, &mut self.frames),
            }
        }
    }
}

/// How each of several completions ended.
#[derive(Debug)]
pub struct Finishes(Vec<Option<Finish>>);

impl Finishes {
    pub fn new(choices: u32) -> Self {
        Self(vec![None; usize::try_from(choices).unwrap_or(1)])
    }

    pub fn note(&mut self, choice: u32, finish: Finish) {
        if let Some(place) = usize::try_from(choice).ok().and_then(|at| self.0.get_mut(at)) {
            *place = Some(finish);
        }
    }

    /// Number and end of each.
    pub fn iter(&self) -> impl Iterator<Item = (u32, Option<Finish>)> + '_ {
        (0..).zip(self.0.iter().copied())
    }
}

/// `finish_reason`: of the completion itself, else (it was the only one) of the whole.
pub fn finish_reason(finish: Option<Finish>, stats: &AnswerStats) -> &str {
    match finish {
        Some(finish) => finish.name(),
        None if stats.finish_reason.is_empty() => "stop",
        None => &stats.finish_reason,
    }
}
