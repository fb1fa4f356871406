//! What the caller of the funnel holds while a model answers.

use contract::{chat::AnswerStats, ids::UsageId};
use domain::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use worker_protocol::{Finish, TokenLogprob, ToolCall};

/// Outputs that may wait for a slow consumer before the worker is slowed down in turn.
pub(crate) const CHANNEL: usize = 64;

/// A running completion. Dropping it cancels and settles as [`Outcome::Disconnected`].
#[derive(Debug)]
pub struct Generation {
    usage: UsageId,
    model: String,
    outputs: mpsc::Receiver<Output>,
    cancel: CancellationToken,
    ended: bool,
}

/// What comes out of a [`Generation`], in this order: any `Queued`, one `Started`, the parts of the
/// completions, one `End`.
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
    ToolCall { choice: u32, index: u32, call: ToolCall },
    /// Vectors or scores of the inputs from `first` on.
    Vectors { first: u32, vectors: Vec<Vec<f32>> },
    /// One of several completions ended; the others go on.
    Ended { choice: u32, finish: Finish },
    /// The last one. The ledger is settled, or being settled if the database does not answer.
    End(Ended),
}

/// How a generation ended.
#[derive(Debug)]
pub struct Ended {
    pub outcome: Outcome,
    /// What was used up to the end, from the worker's own counters.
    pub stats: AnswerStats,
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
    pub(crate) fn new(usage: UsageId, model: String, cancel: CancellationToken) -> (Self, mpsc::Sender<Output>) {
        let (sender, outputs) = mpsc::channel(CHANNEL);
        (Self { usage, model, outputs, cancel, ended: false }, sender)
    }

    /// The ledger's id of this use.
    #[must_use]
    pub fn usage_id(&self) -> UsageId {
        self.usage
    }

    /// The model that answers.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The next output; `None` after [`Output::End`], which always comes.
    pub async fn next(&mut self) -> Option<Output> {
        if self.ended {
            return None;
        }
        // A driver that panicked closes the channel without a word: the consumer still gets its end.
        let output = self.outputs.recv().await.unwrap_or_else(|| Output::End(self.broken()));
        self.ended = matches!(output, Output::End(_));
        Some(output)
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
            error: Some(Error::internal("the driver of a generation ended without a result")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Generation, Outcome, Output};
    use contract::ids::UsageId;
    use tokio_util::sync::CancellationToken;
    use uuid::Uuid;

    #[tokio::test]
    async fn an_end_comes_even_if_the_driver_is_gone() {
        let (mut generation, sender) = Generation::new(UsageId(Uuid::now_v7()), "m".into(), CancellationToken::new());
        drop(sender);
        let Some(Output::End(ended)) = generation.next().await else { panic!("no end") };
        assert_eq!(ended.outcome, Outcome::Failed);
        assert!(generation.next().await.is_none());
    }
}
