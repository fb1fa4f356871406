//! What the caller of the funnel holds while a model answers.

use crate::{cache::Answer, meter::Limits};
use contract::{chat::AnswerStats, ids::UsageId};
use domain::{Amount, Currency, Error, Result};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use worker_protocol::{Finish, TokenLogprob, ToolCall};

/// Outputs that may wait for a slow consumer before the worker is slowed down in turn.
const CHANNEL: usize = 64;
/// The same of an answer that others may be waiting for: it does not become slower with its reader, as far as that is worth
/// its memory.
const SHARED_CHANNEL: usize = 4096;

/// The way that a use took and what it came to, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// The worker's or upstream's name for operators.
    pub served_by: String,
    /// The model that answers; another one than was asked for after a fallback.
    pub model: String,
    /// 1: the first one that was asked answers.
    pub attempts: u32,
    /// From admission to dispatch: what everything but the model cost.
    pub overhead: Duration,
    /// How the limits stood when it began.
    pub limits: Limits,
    /// Guardrails that let the request pass and warn.
    pub warnings: Vec<String>,
    /// Once it has ended; `None` where there is no price.
    pub cost: Option<(Currency, Amount)>,
    /// What the response cache had to do with it.
    pub cached: Cached,
}

/// What the response cache had to do with an answer. Of several answers the greatest tells for all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cached {
    /// Nobody asked it.
    #[default]
    Unasked,
    /// The answer is its own, and so old.
    Hit { age: Duration },
    /// It was asked for, and this request or this organisation has none.
    Bypass,
    /// It did not have the answer.
    Miss,
}

/// Written by the driver, read by whoever holds the generation.
pub(crate) type SharedRoute = Arc<Mutex<Option<Route>>>;

/// A running completion. Dropping it cancels and settles as [`Outcome::Disconnected`].
#[derive(Debug)]
pub struct Generation {
    usage: UsageId,
    model: String,
    outputs: mpsc::Receiver<Output>,
    /// Heard by [`Generation::begun`] already.
    heard: Option<Output>,
    cancel: CancellationToken,
    route: SharedRoute,
    cached: Cached,
    ended: bool,
}

/// What comes out of a [`Generation`], in this order: any `Queued`, one `Started`, the parts of the
/// completions, one `End`.
// A channel sets aside room for 32 of them at once, for each stream: what is large and seldom is in a box.
#[derive(Debug)]
pub enum Output {
    /// Waiting for a slot; 0 is next. `wait_ms`: about how long, once the worker knows.
    Queued { place: u32, wait_ms: Option<u32> },
    /// The prompt was accepted; its size in tokens and the part that came out of the prefix cache.
    Started { prompt_tokens: u32, cached_tokens: u32 },
    /// A completion goes on with this. `choice` is its number among those asked for, from 0; `logprobs` are of its
    /// tokens, if asked for.
    Text { choice: u32, text: String, logprobs: Vec<TokenLogprob> },
    /// What the model thinks before it answers.
    Reasoning { choice: u32, text: String },
    /// A function that the model wants called; `index` is its number within the completion.
    ToolCall { choice: u32, index: u32, call: Box<ToolCall> },
    /// Vectors or scores of the inputs from `first` on.
    Vectors { first: u32, vectors: Vec<Vec<f32>> },
    /// One of several completions ended; the others go on.
    Ended { choice: u32, finish: Finish },
    /// The last one. The ledger is settled, or being settled if the database does not answer.
    End(Box<Ended>),
}

/// How a generation ended.
#[derive(Debug)]
pub struct Ended {
    pub outcome: Outcome,
    /// What was used up to the end, from the worker's own counters.
    pub stats: AnswerStats,
    /// The stop text that ended the first completion, where whoever computed it tells.
    pub stop: Option<String>,
    /// Why, if the outcome is [`Outcome::Failed`].
    pub error: Option<Error>,
}

/// The end of a use, as the ledger stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The model came to an end.
    Ok,
    /// Somebody pressed Stop.
    Cancelled,
    /// The consumer went away.
    Disconnected,
    /// No worker, or it failed in the middle.
    Failed,
}

/// The ledger has one more, `swept`, which the sweeper alone writes.
impl From<Outcome> for store::usage::Outcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Ok => Self::Ok,
            Outcome::Cancelled => Self::Cancelled,
            Outcome::Disconnected => Self::Disconnected,
            Outcome::Failed => Self::Failed,
        }
    }
}

impl Generation {
    /// `shared`: others may be waiting for the same answer.
    pub(crate) fn new(
        usage: UsageId,
        model: String,
        cancel: CancellationToken,
        route: SharedRoute,
        cached: Cached,
        shared: bool,
    ) -> (Self, mpsc::Sender<Output>) {
        let (sender, outputs) = mpsc::channel(if shared { SHARED_CHANNEL } else { CHANNEL });
        (Self { usage, model, outputs, heard: None, cancel, route, cached, ended: false }, sender)
    }

    /// An answer that is there already: all of it can be heard at once.
    pub(crate) fn again(usage: UsageId, route: Route, answer: &Answer) -> Self {
        let said = answer.outputs();
        let (sender, outputs) = mpsc::channel(said.len());
        let (model, cached) = (route.model.clone(), route.cached);
        for output in said {
            // There is room for all of them, and the receiver is in hand.
            let _ = sender.try_send(output);
        }
        let (cancel, route) = (CancellationToken::new(), Arc::new(Mutex::new(Some(route))));
        Self { usage, model, outputs, heard: None, cancel, route, cached, ended: false }
    }

    /// Who answers; `None` until somebody took the request.
    #[must_use]
    pub fn route(&self) -> Option<Route> {
        let route = self.route.lock().unwrap_or_else(PoisonError::into_inner).clone();
        route.map(|route| Route { cached: self.cached, ..route })
    }

    /// What it cost, once it has ended; `None` where there is no price.
    #[must_use]
    pub fn cost(&self) -> Option<(Currency, Amount)> {
        self.route.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.cost
    }

    /// The ledger's id of this use.
    #[must_use]
    pub fn usage_id(&self) -> UsageId {
        self.usage
    }

    /// The model that was asked; see [`Generation::route`] for the one that answers.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The next output; `None` after [`Output::End`], which always comes.
    pub async fn next(&mut self) -> Option<Output> {
        if self.ended {
            return None;
        }
        let output = match self.heard.take() {
            Some(output) => output,
            None => self.hear().await,
        };
        self.ended = matches!(output, Output::End(_));
        Some(output)
    }

    /// Waits until the model begins, but no longer than `patience`: whoever has to say first whether there will be an
    /// answer knows it then. Nothing is lost but places in the queue that have changed since.
    ///
    /// # Errors
    /// It failed before it began.
    pub async fn begun(&mut self, patience: Duration) -> Result<()> {
        let mut place = None;
        let first = async {
            loop {
                match self.next().await {
                    Some(queued @ Output::Queued { .. }) => place = Some(queued),
                    other => return other,
                }
            }
        };
        let first = timeout(patience, first).await;
        match first {
            Ok(Some(mut output)) => {
                if let Output::End(ended) = &mut output
                    && let Some(error) = ended.error.take()
                {
                    return Err(error);
                }
                // An end is still to be told.
                self.ended = false;
                self.heard = Some(output);
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(_) => {
                self.heard = place;
                Ok(())
            }
        }
    }

    async fn hear(&mut self) -> Output {
        // A driver that panicked closes the channel without a word: the consumer still gets its end.
        self.outputs.recv().await.unwrap_or_else(|| Output::End(Box::new(self.broken())))
    }

    /// Asks for an end (the user's Stop): [`Outcome::Cancelled`] follows, unless the end was already on its way.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Lets others cancel while this one is being read.
    #[must_use]
    pub fn canceller(&self) -> CancellationToken {
        self.cancel.clone()
    }

    fn broken(&self) -> Ended {
        Ended {
            outcome: Outcome::Failed,
            stats: AnswerStats { model: self.model.clone(), ..AnswerStats::default() },
            stop: None,
            error: Some(Error::internal("the driver of a generation ended without a result")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Cached, Ended, Generation, Outcome, Output, SharedRoute};
    use contract::{chat::AnswerStats, ids::UsageId};
    use domain::Error;
    use std::time::Duration;
    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;
    use uuid::Uuid;

    const SOON: Duration = Duration::from_secs(1);

    fn generation() -> (Generation, mpsc::Sender<Output>) {
        let (usage, cancel, route) = (UsageId(Uuid::now_v7()), CancellationToken::new(), SharedRoute::default());
        Generation::new(usage, "m".into(), cancel, route, Cached::default(), false)
    }

    fn failed() -> Output {
        let error = Some(Error::unavailable("model", None));
        Output::End(Box::new(Ended { outcome: Outcome::Failed, stats: AnswerStats::default(), stop: None, error }))
    }

    #[test]
    fn an_output_is_small() {
        let size = size_of::<Output>();
        assert!(size <= 56, "{size} bytes. If you are here because this failed: each open stream takes 32 times as much.");
    }

    #[tokio::test]
    async fn a_failure_before_the_beginning_is_known_and_what_was_heard_is_not_lost() {
        let (mut generation, sender) = generation();
        generation.begun(Duration::ZERO).await.expect("nobody knows yet");
        sender.send(Output::Queued { place: 1, wait_ms: None }).await.expect("room");
        sender.send(Output::Started { prompt_tokens: 7, cached_tokens: 0 }).await.expect("room");
        generation.begun(SOON).await.expect("it began");
        assert!(matches!(generation.next().await, Some(Output::Started { prompt_tokens: 7, .. })));
        sender.send(failed()).await.expect("room");
        assert!(matches!(generation.begun(SOON).await, Err(Error::Unavailable { .. })));
        assert!(generation.next().await.is_none());
    }

    #[tokio::test]
    async fn who_still_waits_is_told_the_place_of_now() {
        let (mut generation, sender) = generation();
        for place in [3, 2] {
            sender.send(Output::Queued { place, wait_ms: Some(4000) }).await.expect("room");
        }
        generation.begun(Duration::from_millis(50)).await.expect("nobody knows yet");
        assert!(matches!(generation.next().await, Some(Output::Queued { place: 2, wait_ms: Some(4000) })));
        sender.send(Output::Started { prompt_tokens: 7, cached_tokens: 0 }).await.expect("room");
        assert!(matches!(generation.next().await, Some(Output::Started { .. })));
    }

    #[tokio::test]
    async fn an_end_comes_even_if_the_driver_is_gone() {
        let (mut generation, sender) = generation();
        drop(sender);
        let Some(Output::End(ended)) = generation.next().await else { panic!("no end") };
        assert_eq!(ended.outcome, Outcome::Failed);
        assert!(generation.next().await.is_none());
    }
}
