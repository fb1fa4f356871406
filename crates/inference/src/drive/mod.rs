//! The driver: one task for each use, from the ledger's row to its settlement.
//!
//! It owns the ticket and the worker's stream; the consumer has only the far end of a bounded channel. So
//! whatever happens to the consumer, the use is settled, once, with the worker's latest counters.

use crate::{
    generation::{Ended, Outcome, Output, Route, SharedRoute},
    meter::{Figures, RETRY_AFTER_S, Ticket},
    pool::{BackendError, DispatchError, Dispatched, MemberId, Pool},
    work::Work,
};
use contract::chat::AnswerStats;
use domain::Error;
use futures::StreamExt;
use std::{sync::PoisonError, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use worker_protocol::{Event, FailCode, Finish, Usage};

/// No completion runs longer; also what the sweeper relies on.
pub const LONGEST_GENERATION: Duration = Duration::from_secs(60 * 60);
/// How long the consumer's end waits for the ledger before it is sent anyway (settling goes on).
const SETTLE_PATIENCE: Duration = Duration::from_secs(2);

/// Second tries of one request.
const MOST_RETRIES: u32 = 2;

/// See the module.
pub(crate) struct Driver {
    pub pool: Pool,
    pub ticket: Ticket,
    pub work: Work,
    /// Models to fall back to, in this order, where the requested one cannot be had.
    pub fallbacks: Vec<String>,
    pub outputs: mpsc::Sender<Output>,
    pub cancel: CancellationToken,
    /// The process is about to end.
    pub ending: CancellationToken,
    pub route: SharedRoute,
    /// When the request came.
    pub admitted: Instant,
}

/// How the work ended, before it is settled.
enum End {
    Done(Finish),
    Cancelled,
    Disconnected,
    Failed(Error),
}

/// How one try on one member ended.
enum Attempt {
    Ended(End),
    /// The member or the connection to it is gone, or it cannot now.
    Lost(Option<MemberId>, BackendError),
    /// This member has no room.
    Full(MemberId),
    /// There is nobody for this model.
    Nobody(Error),
}

/// What has been seen of the answer.
struct Progress {
    began: Instant,
    announced: bool,
    /// When the first output came.
    first_output: Option<Instant>,
    /// A part of a completion came out; from then on no other member can take over. Vectors come out the same anywhere.
    committed: bool,
    retries: u32,
    /// Members that were asked.
    attempts: u32,
    /// The model that is asked now.
    model: String,
}

impl Driver {
    /// Runs to the end, settles, tells the consumer.
    pub(crate) async fn run(self) {
        self.pool.count_request();
        let model = self.work.model().to_owned();
        let mut progress =
            Progress { began: Instant::now(), announced: false, first_output: None, committed: false, retries: 0, attempts: 0, model };
        let end = self.until_end(&mut progress).await;
        let Self { ticket, outputs, route, .. } = self;
        let (outcome, finish_reason, error) = match end {
            End::Done(Finish::Stop) => (Outcome::Ok, "stop", None),
            End::Done(Finish::Length) => (Outcome::Ok, "length", None),
            End::Done(Finish::ToolCalls) => (Outcome::Ok, "tool_calls", None),
            End::Cancelled => (Outcome::Cancelled, "", None),
            End::Disconnected => (Outcome::Disconnected, "", None),
            End::Failed(error) => (Outcome::Failed, "", Some(error)),
        };
        let usage = ticket.reported();
        let ttft_ms = progress.first_output.map(|at| millis(at - progress.began));
        let duration_ms = millis(progress.began.elapsed());
        let model = progress.model;
        let figures = Figures { outcome, usage, model: Some(model.clone()), ttft_ms, duration_ms: Some(duration_ms) };
        if let Some(route) = route.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            route.cost = ticket.cost(&figures);
        }
        let stats = AnswerStats {
            model,
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
            () = self.ending.cancelled() => End::Failed(Error::unavailable("server", Some(RETRY_AFTER_S))),
            end = self.attempts(progress) => end,
            () = sleep(LONGEST_GENERATION) => {
                tracing::error!(usage = %self.ticket.id(), "a completion ran too long and was ended");
                End::Failed(unavailable())
            }
        }
    }

    /// Tries the model that was asked for, then those to fall back to.
    async fn attempts(&self, progress: &mut Progress) -> End {
        let mut last = unavailable();
        for model in std::iter::once(self.work.model()).chain(self.fallbacks.iter().map(String::as_str)) {
            model.clone_into(&mut progress.model);
            self.ticket.report(Usage::default());
            match self.attempts_with(progress).await {
                Ok(end) => return end,
                Err(error) => last = error,
            }
            tracing::warn!(usage = %self.ticket.id(), model, "the model cannot be had");
        }
        End::Failed(last)
    }

    /// Tries members that have the model: another one if one is full, has died or cannot before it produced anything.
    ///
    /// # Errors
    /// Nobody could; another model may.
    async fn attempts_with(&self, progress: &mut Progress) -> Result<End, Error> {
        let other = (progress.model != self.work.model()).then(|| self.work.clone().with_model(&progress.model));
        let work = other.as_ref().unwrap_or(&self.work);
        let mut avoid = Vec::new();
        loop {
            match self.attempt(work, progress, &avoid).await {
                Attempt::Ended(end) => return Ok(end),
                Attempt::Nobody(error) => return Err(error),
                Attempt::Full(member) => avoid.push(member),
                Attempt::Lost(_, error) if progress.committed => {
                    tracing::warn!(usage = %self.ticket.id(), %error, "a completion was interrupted");
                    return Ok(End::Failed(unavailable()));
                }
                Attempt::Lost(member, error) => {
                    if progress.retries == MOST_RETRIES || !self.pool.may_retry() {
                        tracing::warn!(usage = %self.ticket.id(), %error, "a completion failed and is not tried again");
                        return Err(unavailable());
                    }
                    tracing::warn!(usage = %self.ticket.id(), %error, "a completion failed before its first output; trying again");
                    progress.retries += 1;
                    self.ticket.report(Usage::default());
                    avoid.extend(member);
                }
            }
        }
    }

    async fn attempt(&self, work: &Work, progress: &mut Progress, avoid: &[MemberId]) -> Attempt {
        match self.pool.dispatch(&self.ticket, work, avoid).await {
            Ok(dispatched) => {
                progress.attempts += 1;
                self.note(&dispatched, progress);
                self.follow(dispatched, progress).await
            }
            Err(DispatchError::NoWorker(error)) => Attempt::Nobody(error),
            // A worker that died comes back, and then it may have the request.
            Err(DispatchError::Backend(_, error @ BackendError::Lost(_))) => Attempt::Lost(None, error),
            Err(DispatchError::Backend(member, error @ BackendError::Failing(_))) => Attempt::Lost(Some(member), error),
            // Larger than the member takes at all.
            Err(DispatchError::Backend(_, BackendError::Refused(413))) => {
                Attempt::Ended(End::Failed(self.failure(FailCode::ContextLengthExceeded, "The input is too large.".into())))
            }
            Err(DispatchError::Backend(_, error)) => Attempt::Ended(End::Failed(Error::internal(error))),
        }
    }

    /// Lets the consumer know who answers.
    fn note(&self, dispatched: &Dispatched, progress: &Progress) {
        let mut route = self.route.lock().unwrap_or_else(PoisonError::into_inner);
        // What later attempts take is the fault of those that failed, not ours.
        let overhead = route.as_ref().map_or_else(|| self.admitted.elapsed(), |first| first.overhead);
        let (served_by, model) = (dispatched.served_by().to_owned(), progress.model.clone());
        *route = Some(Route { served_by, model, attempts: progress.attempts, overhead, limits: self.ticket.limits(), cost: None });
    }

    /// Passes the member's events on until the last one.
    async fn follow(&self, mut dispatched: Dispatched, progress: &mut Progress) -> Attempt {
        while let Some(event) = dispatched.events.next().await {
            let output = match event {
                Ok(Event::Done { finish, usage, timings }) => {
                    self.ticket.report(usage);
                    dispatched.judge(true);
                    tracing::debug!(usage = %self.ticket.id(), ?timings, "worker's timings");
                    return Attempt::Ended(End::Done(finish));
                }
                Ok(Event::Failed { code: FailCode::Overloaded, .. }) if !progress.committed => {
                    return Attempt::Full(dispatched.member());
                }
                Ok(Event::Failed { code, message, usage }) => {
                    self.ticket.report(usage);
                    dispatched.judge(code != FailCode::Engine);
                    return Attempt::Ended(End::Failed(self.failure(code, message)));
                }
                Ok(event) => self.output(event, progress),
                Err(error @ BackendError::Lost(_)) => {
                    dispatched.suspect();
                    return Attempt::Lost(None, error);
                }
                Err(error @ BackendError::Failing(_)) => {
                    dispatched.judge(false);
                    return Attempt::Lost(Some(dispatched.member()), error);
                }
                Err(error) => {
                    dispatched.judge(false);
                    return Attempt::Ended(End::Failed(Error::internal(error)));
                }
            };
            if let Some(output) = output
                && self.outputs.send(output).await.is_err()
            {
                return Attempt::Ended(End::Disconnected);
            }
        }
        dispatched.suspect();
        Attempt::Lost(None, BackendError::Lost("the answer ended without its last event".into()))
    }

    /// What the consumer hears of an event that is not the last one.
    fn output(&self, event: Event, progress: &mut Progress) -> Option<Output> {
        let mut produced = |completion_tokens| {
            self.ticket.report(Usage { completion_tokens, ..self.ticket.reported() });
            progress.first_output.get_or_insert_with(Instant::now);
            progress.committed = true;
        };
        match event {
            Event::Queued { place, wait_ms } => Some(Output::Queued { place, wait_ms }),
            Event::Started { prompt_tokens, cached_tokens } => {
                self.ticket.report(Usage { prompt_tokens, cached_tokens, completion_tokens: 0 });
                // A second worker that took over starts again; the consumer hears of it once.
                (!std::mem::replace(&mut progress.announced, true)).then_some(Output::Started { prompt_tokens, cached_tokens })
            }
            Event::Text { choice, text, completion_tokens, logprobs } => {
                produced(completion_tokens);
                Some(Output::Text { choice, text, logprobs })
            }
            Event::Reasoning { choice, text, completion_tokens } => {
                produced(completion_tokens);
                Some(Output::Reasoning { choice, text })
            }
            Event::ToolCall { choice, index, call, completion_tokens } => {
                produced(completion_tokens);
                Some(Output::ToolCall { choice, index, call })
            }
            Event::Vectors { first, vectors } => {
                progress.first_output.get_or_insert_with(Instant::now);
                Some(Output::Vectors { first, vectors })
            }
            Event::Ended { choice, finish } => Some(Output::Ended { choice, finish }),
            // The caller has seen to them.
            Event::Done { .. } | Event::Failed { .. } => None,
        }
    }

    fn failure(&self, code: FailCode, message: String) -> Error {
        match code {
            FailCode::ContextLengthExceeded => match self.work {
                Work::Completion(_) => {
                    Error::invalid("messages", "context_length_exceeded", "The conversation is longer than the model's context.")
                }
                Work::Vectors(_) => Error::invalid("input", "context_length_exceeded", message),
            },
            // What only the model's side can judge, such as a schema or the template's demands; a sentence for the caller.
            FailCode::Invalid => Error::invalid("request", "model_refused", message),
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
