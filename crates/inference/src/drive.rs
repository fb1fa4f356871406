//! The driver: one task for each completion, from the ledger's row to its settlement.
//!
//! It owns the ticket and the worker's stream; the consumer has only the far end of a bounded channel. So
//! whatever happens to the consumer, the use is settled, once, with the worker's latest counters.

use crate::{
    generation::{Ended, Outcome, Output},
    meter::{Figures, RETRY_AFTER_S, Ticket},
    pool::{BackendError, DispatchError, Dispatched, MemberId, Pool},
};
use contract::chat::AnswerStats;
use domain::Error;
use futures::StreamExt;
use std::time::Duration;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use worker_protocol::{Event, FailCode, Finish, Generate, Usage};

/// No completion runs longer; also what the sweeper relies on.
pub const LONGEST_GENERATION: Duration = Duration::from_secs(60 * 60);
/// How long the consumer's end waits for the ledger before it is sent anyway (settling goes on).
const SETTLE_PATIENCE: Duration = Duration::from_secs(2);

/// See the module.
pub(crate) struct Driver {
    pub pool: Pool,
    pub ticket: Ticket,
    pub request: Generate,
    pub outputs: mpsc::Sender<Output>,
    pub cancel: CancellationToken,
}

/// How the work ended, before it is settled.
enum End {
    Done(Finish),
    Cancelled,
    Disconnected,
    Failed(Error),
}

/// How one try on one worker ended.
enum Attempt {
    Ended(End),
    /// The worker or the connection to it is gone.
    Lost(BackendError),
    /// This worker has no room.
    Full(MemberId),
}

/// What has been seen of the answer.
struct Progress {
    began: Instant,
    announced: bool,
    /// When the first text came; from then on no other worker can take over.
    first_text: Option<Instant>,
}

impl Driver {
    /// Runs to the end, settles, tells the consumer.
    pub(crate) async fn run(self) {
        let mut progress = Progress { began: Instant::now(), announced: false, first_text: None };
        let end = self.until_end(&mut progress).await;
        let Self { ticket, request, outputs, .. } = self;
        let (outcome, finish_reason, error) = match end {
            End::Done(Finish::Stop) => (Outcome::Ok, "stop", None),
            End::Done(Finish::Length) => (Outcome::Ok, "length", None),
            End::Cancelled => (Outcome::Cancelled, "", None),
            End::Disconnected => (Outcome::Disconnected, "", None),
            End::Failed(error) => (Outcome::Failed, "", Some(error)),
        };
        let usage = ticket.reported();
        let ttft_ms = progress.first_text.map(|at| millis(at - progress.began));
        let duration_ms = millis(progress.began.elapsed());
        let figures = Figures { outcome, usage, ttft_ms, duration_ms: Some(duration_ms) };
        let stats = AnswerStats {
            model: request.model,
            prompt_tokens: usage.prompt_tokens,
            cached_tokens: usage.cached_tokens,
            completion_tokens: usage.completion_tokens,
            ttft_ms: ttft_ms.unwrap_or(0),
            duration_ms,
            finish_reason: finish_reason.into(),
        };
        tracing::debug!(usage = %ticket.id(), ?figures, "completion ended");
        // Settling goes on in its own task, whether or not this wait sees the end of it.
        let _ = timeout(SETTLE_PATIENCE, ticket.settle(figures)).await;
        // A consumer that left does not want to know.
        let _ = outputs.send(Output::End(Ended { outcome, stats, error })).await;
    }

    /// Works until an end, abandoning everything as soon as somebody presses Stop or the consumer leaves.
    async fn until_end(&self, progress: &mut Progress) -> End {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => End::Cancelled,
            () = self.outputs.closed() => End::Disconnected,
            end = self.attempts(progress) => end,
            () = sleep(LONGEST_GENERATION) => {
                tracing::error!(usage = %self.ticket.id(), "a completion ran too long and was ended");
                End::Failed(unavailable())
            }
        }
    }

    /// Tries workers: the next one if one is full, one more if one died before it produced anything.
    async fn attempts(&self, progress: &mut Progress) -> End {
        let mut full = Vec::new();
        let mut lost_before = false;
        loop {
            match self.attempt(progress, &full).await {
                Attempt::Ended(end) => return end,
                Attempt::Full(member) => full.push(member),
                Attempt::Lost(error) if progress.first_text.is_none() && !lost_before => {
                    tracing::warn!(usage = %self.ticket.id(), %error, "a worker was lost before the first token; trying again");
                    lost_before = true;
                    self.ticket.report(Usage::default());
                }
                Attempt::Lost(error) => {
                    tracing::warn!(usage = %self.ticket.id(), %error, "a completion was interrupted");
                    return End::Failed(unavailable());
                }
            }
        }
    }

    async fn attempt(&self, progress: &mut Progress, full: &[MemberId]) -> Attempt {
        match self.pool.dispatch(&self.ticket, &self.request, full).await {
            Ok(dispatched) => self.follow(dispatched, progress).await,
            Err(DispatchError::NoWorker(error)) => Attempt::Ended(End::Failed(error)),
            Err(DispatchError::Backend(error @ BackendError::Lost(_))) => Attempt::Lost(error),
            Err(DispatchError::Backend(error)) => Attempt::Ended(End::Failed(Error::internal(error))),
        }
    }

    /// Passes the worker's events on until the last one.
    async fn follow(&self, mut dispatched: Dispatched, progress: &mut Progress) -> Attempt {
        while let Some(event) = dispatched.events.next().await {
            let output = match event {
                Ok(Event::Queued { place, wait_ms }) => Some(Output::Queued { place, wait_ms }),
                Ok(Event::Started { prompt_tokens, cached_tokens }) => {
                    self.ticket.report(Usage { prompt_tokens, cached_tokens, completion_tokens: 0 });
                    // A second worker that took over starts again; the consumer hears of it once.
                    (!std::mem::replace(&mut progress.announced, true)).then_some(Output::Started { prompt_tokens, cached_tokens })
                }
                Ok(Event::Text { text, completion_tokens, .. }) => {
                    self.ticket.report(Usage { completion_tokens, ..self.ticket.reported() });
                    progress.first_text.get_or_insert_with(Instant::now);
                    Some(Output::Text(text))
                }
                Ok(Event::Done { finish, usage, timings }) => {
                    self.ticket.report(usage);
                    tracing::debug!(usage = %self.ticket.id(), ?timings, "worker's timings");
                    return Attempt::Ended(End::Done(finish));
                }
                Ok(Event::Failed { code: FailCode::Overloaded, .. }) if progress.first_text.is_none() => {
                    return Attempt::Full(dispatched.member());
                }
                Ok(Event::Failed { code, message, usage }) => {
                    self.ticket.report(usage);
                    return Attempt::Ended(End::Failed(self.failure(code, message)));
                }
                Err(error @ BackendError::Lost(_)) => {
                    dispatched.suspect();
                    return Attempt::Lost(error);
                }
                Err(error) => return Attempt::Ended(End::Failed(Error::internal(error))),
            };
            if let Some(output) = output
                && self.outputs.send(output).await.is_err()
            {
                return Attempt::Ended(End::Disconnected);
            }
        }
        dispatched.suspect();
        Attempt::Lost(BackendError::Lost("the answer ended without its last event".into()))
    }

    fn failure(&self, code: FailCode, message: String) -> Error {
        match code {
            FailCode::ContextLengthExceeded => {
                Error::invalid("messages", "context_length_exceeded", "The conversation is longer than the model's context.")
            }
            // Our own checks should have refused it before.
            FailCode::Invalid => Error::internal(format!("the worker refused a request: {message}")),
            FailCode::Overloaded | FailCode::Engine => {
                tracing::warn!(usage = %self.ticket.id(), ?code, message, "the worker failed");
                unavailable()
            }
        }
    }
}

fn unavailable() -> Error {
    Error::unavailable("model", Some(RETRY_AFTER_S))
}

/// Whole milliseconds; what does not fit is over 49 days and cannot happen.
fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
