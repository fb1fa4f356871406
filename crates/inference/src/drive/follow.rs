//! One answer of one member, event by event.

use super::{Attempt, Driver, End, Progress, interrupted, unavailable};
use crate::{
    generation::Output,
    guard::Passed,
    pool::{Backend, BackendError, Dispatched},
    refusal::{filtered, refused, unsupported},
    work::Work,
};
use domain::Error;
use futures::StreamExt;
use std::{
    future::pending,
    pin::pin,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};
use tokio::{
    sync::mpsc::error::TrySendError,
    time::{Instant, timeout},
};
use worker_protocol::{Event, FailCode, Usage};

/// How long it may take to tell a worker to end. Then its stream is closed, which frees its slot as well.
const CANCEL_PATIENCE: Duration = Duration::from_secs(1);

impl Driver {
    /// Passes the member's events on until the last one.
    pub(super) async fn follow(&self, mut dispatched: Dispatched, progress: &mut Progress) -> Attempt {
        let backend = dispatched.backend();
        let mut unheard = pin!(self.unheard(&backend));
        // An engine has begun with it, which is a worker's: an upstream that is lost takes nobody's answers along.
        let mut begun = false;
        loop {
            let event = tokio::select! {
                biased;
                () = &mut unheard => return Attempt::Stopped,
                event = dispatched.events.next() => event,
            };
            if let Some(Ok(event)) = &event {
                dispatched.hear(event);
            }
            begun |= matches!(event, Some(Ok(Event::Started { .. }))) && backend.counts_to_the_end();
            let output = match event {
                Some(Ok(Event::Done { finish, stop, usage, timings })) => {
                    self.ticket.report(usage);
                    dispatched.judge(true);
                    tracing::debug!(usage = %self.ticket.id(), ?timings, "worker's timings");
                    self.tell_rest(progress, true).await;
                    let stop = stop.map(|stop| match &progress.watch {
                        Some(watch) => watch.turned_back(stop),
                        None => stop,
                    });
                    return Attempt::Ended(End::Done(finish, stop));
                }
                Some(Ok(Event::Failed { usage, .. })) if self.stopping.is_cancelled() => {
                    self.ticket.report(usage);
                    return Attempt::Stopped;
                }
                Some(Ok(Event::Failed { code: FailCode::Overloaded, .. })) if !progress.committed => {
                    return Attempt::Full(dispatched.member());
                }
                // As an upstream's 5xx: nothing was said yet that another member would say twice.
                Some(Ok(Event::Failed { code: FailCode::Engine, message, usage })) if !progress.committed => {
                    self.ticket.report(usage);
                    progress.broke = true;
                    progress.engines += 1;
                    dispatched.judge(false);
                    return Attempt::Lost(Some(dispatched.member()), BackendError::Failing(message));
                }
                Some(Ok(Event::Failed { code, message, usage })) => {
                    self.ticket.report(usage);
                    dispatched.judge(code != FailCode::Engine);
                    self.tell_rest(progress, false).await;
                    return Attempt::Ended(End::Failed(self.failure(code, message)));
                }
                Some(Ok(event)) => self.output(event, progress),
                Some(Err(error @ BackendError::Lost(_))) => return self.lost(&mut dispatched, progress, begun, error).await,
                None => {
                    let error = BackendError::Lost("the answer ended without its last event".into());
                    return self.lost(&mut dispatched, progress, begun, error).await;
                }
                Some(Err(error @ BackendError::Failing(_))) => {
                    dispatched.judge(false);
                    return Attempt::Lost(Some(dispatched.member()), error);
                }
                Some(Err(error)) => {
                    dispatched.judge(false);
                    return Attempt::Ended(End::Failed(Error::internal(error)));
                }
            };
            match (output, &mut progress.watch) {
                (None, _) => {}
                (Some(output), None) => self.tell(output).await,
                // Nobody hears it, so nobody judges it.
                (Some(_), Some(_)) if self.stopping.is_cancelled() => self.cut.store(true, Ordering::Relaxed),
                (Some(output), Some(watch)) => {
                    let passed = watch.pass(output);
                    self.tell_passed(passed).await;
                }
            }
        }
    }

    /// The connection is gone. `begun`: an engine was at it, and may have ended because of it.
    async fn lost(&self, dispatched: &mut Dispatched, progress: &mut Progress, begun: bool, error: BackendError) -> Attempt {
        progress.broke = true;
        progress.engines += u32::from(begun);
        dispatched.suspect();
        self.tell_rest(progress, false).await;
        Attempt::Lost(None, error)
    }

    /// Comes back when an end is wanted and the backend will not say what it computed: at once, or because it cannot be
    /// reached.
    async fn unheard(&self, backend: &Arc<dyn Backend>) {
        self.stopping.cancelled().await;
        if !backend.counts_to_the_end() {
            return;
        }
        match timeout(CANCEL_PATIENCE, backend.cancel(&self.ticket)).await {
            Ok(Ok(())) => pending().await,
            Ok(Err(error)) => tracing::warn!(usage = %self.ticket.id(), %error, "a worker could not be told to end"),
            Err(_) => tracing::warn!(usage = %self.ticket.id(), "a worker does not hear that it is to end"),
        }
    }

    /// Tells the consumer, as long as it wants to hear; one that is gone wants the end.
    async fn tell(&self, output: Output) {
        self.record(&output);
        if self.stopping.is_cancelled() {
            return self.cut.store(true, Ordering::Relaxed);
        }
        let output = match self.outputs.try_send(output) {
            Ok(()) => return,
            Err(TrySendError::Closed(_)) => return self.stopping.cancel(),
            Err(TrySendError::Full(output)) => output,
        };
        tokio::select! {
            biased;
            () = self.stopping.cancelled() => self.cut.store(true, Ordering::Relaxed),
            sent = self.outputs.send(output) => if sent.is_err() {
                self.stopping.cancel();
            }
        }
    }

    /// Lets the response cache hear it. Whoever waits for the same answer does not wait for this one's reader.
    fn record(&self, output: &Output) {
        if let Some(recording) = self.recording.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            recording.take(output);
            if self.outputs.capacity() == 0 {
                recording.let_go();
            }
        }
    }

    /// What the consumer hears of an event that is not the last one.
    fn output(&self, event: Event, progress: &mut Progress) -> Option<Output> {
        let mut produced = |completion_tokens| {
            self.ticket.report(Usage { completion_tokens, ..self.ticket.reported() });
            progress.first_output.get_or_insert_with(Instant::now);
        };
        let output = match event {
            Event::Queued { place, wait_ms } => Some(Output::Queued { place, wait_ms }),
            Event::Started { prompt_tokens, cached_tokens } => {
                self.ticket.report(Usage { prompt_tokens, cached_tokens, ..Usage::default() });
                // A second worker that took over starts again; the consumer hears of it once.
                (!std::mem::replace(&mut progress.announced, true)).then_some(Output::Started { prompt_tokens, cached_tokens })
            }
            Event::Text { choice, text, completion_tokens, logprobs } => {
                produced(completion_tokens);
                // Where only counters were told there is nothing to hear.
                (!text.is_empty() || !logprobs.is_empty()).then_some(Output::Text { choice, text, logprobs })
            }
            Event::Reasoning { choice, text, completion_tokens } => {
                produced(completion_tokens);
                Some(Output::Reasoning { choice, text })
            }
            Event::ToolCall { choice, index, call, completion_tokens } => {
                produced(completion_tokens);
                Some(Output::ToolCall { choice, index, call: Box::new(call) })
            }
            Event::Vectors { first, vectors } => {
                progress.first_output.get_or_insert_with(Instant::now);
                Some(Output::Vectors { first, vectors })
            }
            Event::Ended { choice, finish } => Some(Output::Ended { choice, finish }),
            // The caller has seen to them.
            Event::Done { .. } | Event::Failed { .. } => None,
        };
        // Counters alone leave nothing that another member would say twice.
        let said = matches!(output, Some(Output::Text { .. } | Output::Reasoning { .. } | Output::ToolCall { .. }));
        if said && !std::mem::replace(&mut progress.committed, true) {
            // A long prompt is not kept for as long as its answer takes.
            self.change_work(Work::let_go);
        }
        output
    }

    /// Tells what was held back, now that no more comes. `whole`: the model came to its end.
    async fn tell_rest(&self, progress: &mut Progress, whole: bool) {
        if let Some(watch) = &mut progress.watch
            && !self.stopping.is_cancelled()
        {
            let passed = watch.finish(whole);
            self.tell_passed(passed).await;
        }
    }

    /// Tells what a guardrail lets out, and ends where it does not.
    async fn tell_passed(&self, passed: Passed) {
        for output in passed.outputs {
            self.tell(output).await;
        }
        if let Some(rule) = passed.blocked {
            self.blocked.get_or_init(|| rule);
            self.stopping.cancel();
        }
    }

    pub(super) fn failure(&self, code: FailCode, message: String) -> Error {
        match code {
            FailCode::ContextLengthExceeded => match *self.work() {
                Work::Completion(_) => {
                    Error::invalid("messages", "context_length_exceeded", "The conversation is longer than the model's context.")
                }
                Work::Vectors(_) => Error::invalid("input", "context_length_exceeded", message),
            },
            FailCode::Invalid => refused(message),
            FailCode::Unsupported => unsupported(message),
            FailCode::ContentFilter => filtered(message),
            FailCode::Overloaded | FailCode::Engine | FailCode::Cancelled => {
                tracing::warn!(usage = %self.ticket.id(), ?code, message, "the worker failed");
                if code == FailCode::Engine { interrupted() } else { unavailable() }
            }
        }
    }
}
