//! The driver: one task for each use, from the ledger's row to its settlement.
//!
//! It owns the ticket and the worker's stream; the consumer has only the far end of a bounded channel. So
//! whatever happens to the consumer, the use is settled, once, with the worker's latest counters. If an end is asked for,
//! the worker is told and heard to its last counters: what was computed meanwhile is in the ledger, too.

mod follow;

use crate::{
    cache::Recording,
    clearance::Bounds,
    generation::{Cached, Ended, Outcome, Output, Route, SharedRoute},
    guard::Watch,
    meter::{Figures, RETRY_AFTER_S, Ticket},
    observe::{Observed, Seen},
    pool::{BackendError, DispatchError, Dispatched, MOST_RETRIES, MemberId, Pool},
    work::Work,
};
use contract::chat::AnswerStats;
use domain::Error;
use std::{
    pin::pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use worker_protocol::{FailCode, Finish, Priority, Usage};

/// No completion runs longer; also what the sweeper relies on.
pub const LONGEST_GENERATION: Duration = Duration::from_secs(60 * 60);
/// How long the consumer's end waits for the ledger before it is sent anyway (settling goes on).
const SETTLE_PATIENCE: Duration = Duration::from_secs(2);

/// How long a worker that was told to end is heard.
const LAST_COUNTERS: Duration = Duration::from_secs(2);
/// Engines that may fail over one use, or be lost once they had begun with it: what breaks one may break each of them, and
/// beside it the answers of others end.
const MOST_ENGINES: u32 = 2;

/// See the module.
pub(crate) struct Driver {
    pub pool: Pool,
    pub ticket: Ticket,
    /// What is asked of the model that is asked now; nothing is left of a prompt that nobody will be asked again.
    pub work: Mutex<Arc<Work>>,
    /// Models to fall back to, in this order, where the requested one cannot be had.
    pub fallbacks: Vec<String>,
    /// Nobody is asked beyond them, at no try.
    pub bounds: Bounds,
    pub outputs: mpsc::Sender<Output>,
    /// Listens along for the response cache: here, because equal requests wait for the answer, and not for its reader.
    pub recording: Mutex<Option<Recording>>,
    pub cancel: CancellationToken,
    /// An end was asked for, by whomever: nothing new is begun, nothing more is told.
    pub stopping: CancellationToken,
    /// Something that came after an end was asked for was not told.
    pub cut: AtomicBool,
    /// The rule that ended the answer.
    pub blocked: OnceLock<String>,
    /// The process is about to end.
    pub ending: CancellationToken,
    pub route: SharedRoute,
    /// When the request came.
    pub admitted: Instant,
    pub observed: Observed,
}

/// How the work ended, before it is settled.
enum End {
    /// Of itself, or at this stop text.
    Done(Finish, Option<String>),
    Cancelled,
    Disconnected,
    Failed(Error),
}

/// How one try on one member ended.
enum Attempt {
    Ended(End),
    /// An end was asked for, and all counters are known that ever will be.
    Stopped,
    /// The member or the connection to it is gone, or it cannot now.
    Lost(Option<MemberId>, BackendError),
    /// This member has no room.
    Full(MemberId),
    /// This member has no word for it; a sentence for the caller.
    Unfit(MemberId, String),
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
    /// A member was lost over it, or its engine failed.
    broke: bool,
    /// Engines of workers that failed over it, or were lost while they were at it.
    engines: u32,
    retries: u32,
    /// Members that were asked.
    attempts: u32,
    /// The model that is asked now.
    model: String,
    /// What a guardrail has to see before it goes out.
    watch: Option<Box<Watch>>,
}

impl Driver {
    /// Runs to the end, settles, tells the consumer. `watch` sees what goes out.
    pub(crate) async fn run(self: Box<Self>, watch: Option<Box<Watch>>) {
        self.pool.count_request();
        let asked = self.work().model().to_owned();
        let mut progress = Progress {
            began: Instant::now(),
            announced: false,
            first_output: None,
            committed: false,
            broke: false,
            engines: 0,
            retries: 0,
            attempts: 0,
            model: asked.clone(),
            watch,
        };
        let end = self.until_end(&mut progress).await;
        if matches!(end, End::Cancelled | End::Disconnected) {
            // A substitute that was still being waited for had no part in it.
            let answering = self.route.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|route| route.model.clone());
            progress.model = answering.unwrap_or(asked);
        }
        // From when an end was asked for, nothing is told: the answer may lack what came after that.
        let whole = !self.stopping.is_cancelled();
        let Self { ticket, outputs, recording, route, blocked, observed, .. } = *self;
        let end = blocked.into_inner().map_or(end, |rule| End::Failed(Error::GuardrailBlocked { rule }));
        let (outcome, finish_reason, stop, error) = match end {
            End::Done(finish, stop) => (Outcome::Ok, finish.name(), stop, None),
            End::Cancelled => (Outcome::Cancelled, "", None, None),
            End::Disconnected => (Outcome::Disconnected, "", None, None),
            End::Failed(error) => (Outcome::Failed, "", None, Some(error)),
        };
        let usage = ticket.reported();
        let ttft_ms = progress.first_output.map(|at| millis(at - progress.began));
        let duration_ms = millis(progress.began.elapsed());
        let model = progress.model;
        let figures = Figures { outcome: outcome.into(), usage, model: Some(model.clone()), ttft_ms, duration_ms: Some(duration_ms) };
        let cost = ticket.cost(&figures);
        if let Some(route) = route.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            route.cost = cost;
        }
        let (first_output, attempts) = (progress.first_output, progress.attempts);
        observed.ended(&Seen { figures: &figures, finish: finish_reason, error: error.as_ref(), cost, first_output, attempts });
        let stats = AnswerStats {
            model,
            prompt_tokens: usage.prompt_tokens,
            cached_tokens: usage.cached_tokens,
            completion_tokens: usage.completion_tokens,
            reasoning_tokens: usage.reasoning_tokens,
            ttft_ms: ttft_ms.unwrap_or(0),
            duration_ms,
            finish_reason: finish_reason.into(),
        };
        tracing::debug!(usage = %ticket.id(), ?figures, "completion ended");
        let ended = Ended { outcome, stats, stop, error };
        if let Some(recording) = recording.into_inner().unwrap_or_else(PoisonError::into_inner).filter(|_| whole) {
            recording.end(&ended);
        }
        let settled = ticket.settle(figures);
        if let Some(watch) = progress.watch {
            // Its statements take more than all the rest, and that is not set aside while the model answers.
            Box::pin(watch.write_down()).await;
        }
        if let Some(settled) = settled {
            // It goes on, whether or not this wait sees the end of it.
            let _ = timeout(SETTLE_PATIENCE, settled).await;
        }
        // A consumer that left does not want to know.
        let _ = outputs.send(Output::End(Box::new(ended))).await;
    }

    /// Works until an end, which somebody who presses Stop or leaves asks for at any time.
    async fn until_end(&self, progress: &mut Progress) -> End {
        let mut attempts = pin!(self.attempts(progress));
        let asked = tokio::select! {
            biased;
            () = self.cancel.cancelled() => End::Cancelled,
            () = self.outputs.closed() => End::Disconnected,
            () = self.ending.cancelled() => End::Failed(Error::unavailable("server", Some(RETRY_AFTER_S))),
            end = &mut attempts => return end.unwrap_or(End::Disconnected),
            // A rule has ended it, or telling the consumer failed.
            () = self.stopping.cancelled() => End::Disconnected,
            () = sleep(LONGEST_GENERATION) => {
                tracing::error!(usage = %self.ticket.id(), "a completion ran too long and was ended");
                End::Failed(unavailable())
            }
        };
        self.stopping.cancel();
        // Nobody else waits for what will hardly be whole.
        self.recording.lock().unwrap_or_else(PoisonError::into_inner).take();
        match timeout(LAST_COUNTERS, attempts).await {
            // It came to its end while the end was being asked for, and all of it was told.
            Ok(Some(done @ End::Done(..))) if !self.cut.load(Ordering::Relaxed) => done,
            Ok(_) => asked,
            Err(_) => {
                tracing::warn!(usage = %self.ticket.id(), "a worker was told to end and did not say what it had computed");
                asked
            }
        }
    }

    /// Tries the model that was asked for, then those to fall back to. `None`: an end was asked for.
    async fn attempts(&self, progress: &mut Progress) -> Option<End> {
        let mut told = None;
        let asked = self.work().model().to_owned();
        for model in std::iter::once(asked.as_str()).chain(self.fallbacks.iter().map(String::as_str)) {
            model.clone_into(&mut progress.model);
            self.ticket.report(Usage::default());
            match self.attempts_with(progress).await {
                Ok(end) => return end,
                // That of the model that was asked for says more than those of its substitutes.
                Err(error) => told = told.or(Some(error)),
            }
            tracing::warn!(usage = %self.ticket.id(), model, "the model cannot be had");
        }
        asked.clone_into(&mut progress.model);
        Some(End::Failed(told.unwrap_or_else(unavailable)))
    }

    /// Tries members that have the model: another one if one is full, has died or cannot before it produced anything.
    /// `None`: an end was asked for.
    ///
    /// # Errors
    /// Nobody could; another model may.
    async fn attempts_with(&self, progress: &mut Progress) -> Result<Option<End>, Error> {
        self.change_work(|work| work.set_model(&progress.model));
        let (mut avoid, mut unfit, mut failed) = (Vec::new(), None, None);
        loop {
            match self.attempt(progress, &avoid).await {
                Attempt::Ended(end) => return Ok(Some(end)),
                _ if self.stopping.is_cancelled() => return Ok(None),
                Attempt::Stopped => return Ok(None),
                Attempt::Nobody(error) => return Err(unfit.or(failed).unwrap_or(error)),
                Attempt::Full(member) => avoid.push(member),
                Attempt::Unfit(member, message) => {
                    unfit = unfit.or_else(|| Some(self.failure(FailCode::Invalid, message)));
                    avoid.push(member);
                }
                Attempt::Lost(_, error) if progress.committed => {
                    tracing::warn!(usage = %self.ticket.id(), %error, "a completion was interrupted");
                    return Ok(Some(End::Failed(interrupted())));
                }
                Attempt::Lost(member, error) => {
                    // Nothing was said, so nothing is charged, however the tries end.
                    self.ticket.report(Usage::default());
                    // A batch asks again by itself, and counts: what kills workers must not kill several at each of its tries.
                    if progress.broke && self.work().priority() == Priority::Batch {
                        tracing::warn!(usage = %self.ticket.id(), %error, "a worker was lost over a line of a batch");
                        return Ok(Some(End::Failed(interrupted())));
                    }
                    if progress.retries == MOST_RETRIES || progress.engines >= MOST_ENGINES || !self.pool.may_retry() {
                        tracing::warn!(usage = %self.ticket.id(), %error, "a completion failed and is not tried again");
                        return Err(if progress.broke { interrupted() } else { unavailable() });
                    }
                    tracing::warn!(usage = %self.ticket.id(), %error, "a completion failed before its first output; trying again");
                    progress.retries += 1;
                    if let Some(member) = member {
                        avoid.push(member);
                        // If nobody is left, that is why.
                        failed = progress.broke.then(interrupted);
                    }
                }
            }
        }
    }

    /// Tries one member, within a span of its own.
    async fn attempt(&self, progress: &mut Progress, avoid: &[MemberId]) -> Attempt {
        let span = self.observed.attempt(&progress.model);
        let attempt = span.trace().scope(self.ask_one(progress, avoid)).await;
        match &attempt {
            Attempt::Ended(End::Failed(_)) | Attempt::Lost(..) => span.fail("failed"),
            Attempt::Full(_) => span.fail("full"),
            Attempt::Unfit(..) => span.fail("unfit"),
            Attempt::Nobody(_) => span.fail("nobody"),
            Attempt::Ended(_) | Attempt::Stopped => {}
        }
        attempt
    }

    async fn ask_one(&self, progress: &mut Progress, avoid: &[MemberId]) -> Attempt {
        // Waiting for a member is soon over, hearing it is not: what the one takes is not there for the other.
        let dispatched = {
            let work = self.work();
            Box::pin(self.pool.dispatch(&self.ticket, &self.bounds, &work, avoid, &self.stopping)).await
        };
        if matches!(dispatched, Ok(_) | Err(DispatchError::Backend(..))) {
            progress.attempts += 1;
        }
        match dispatched {
            Ok(dispatched) => {
                self.note(&dispatched, progress);
                self.follow(dispatched, progress).await
            }
            Err(DispatchError::Stopped) => Attempt::Stopped,
            Err(DispatchError::NoWorker(error)) => Attempt::Nobody(error),
            Err(DispatchError::Unfit(member, message)) => Attempt::Unfit(member, message),
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

    fn work(&self) -> Arc<Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change_work(&self, change: impl FnOnce(&mut Work)) {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let work: &mut Arc<Work> = &mut work;
        change(Arc::make_mut(work));
    }

    /// Lets the consumer know who answers.
    fn note(&self, dispatched: &Dispatched, progress: &Progress) {
        let mut route = self.route.lock().unwrap_or_else(PoisonError::into_inner);
        // What later attempts take is the fault of those that failed, not ours.
        let overhead = route.as_ref().map_or_else(|| self.admitted.elapsed(), |first| first.overhead);
        let (served_by, model) = (dispatched.served_by().to_owned(), progress.model.clone());
        let warnings = progress.watch.as_ref().map_or_else(Vec::new, |watch| watch.warnings().to_vec());
        let (attempts, limits) = (progress.attempts, self.ticket.limits());
        *route = Some(Route { served_by, model, attempts, overhead, limits, warnings, cost: None, cached: Cached::default() });
    }
}

/// Whoever was computing it stopped.
fn interrupted() -> Error {
    Error::unavailable("worker", Some(RETRY_AFTER_S))
}

fn unavailable() -> Error {
    Error::unavailable("model", Some(RETRY_AFTER_S))
}

/// Whole milliseconds; what does not fit is over 49 days and cannot happen.
fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
