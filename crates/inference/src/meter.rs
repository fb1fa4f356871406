//! The meter: nothing is computed that is not in the ledger first, and every use is settled exactly once.
//!
//! Budgets are unlimited for now; their checks belong into [`Meter::open`], before the row is written.

use crate::{
    admit::{Options, Request},
    catalogue::ModelConfig,
    generation::Outcome,
};
use contract::{ids::UsageId, model::Sampling, usage::Purpose};
use domain::{Actor, Clock, Error, Result};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use store::{
    Db, Reason,
    usage::{NewUsage, Settlement},
};
use tokio::{runtime::Handle, task::JoinHandle};
use tokio_util::task::TaskTracker;
use uuid::Uuid;
use worker_protocol::{ChatMessage, Tool, Usage};

/// Seconds after which a caller that was refused for lack of something may try again.
pub(crate) const RETRY_AFTER_S: u32 = 5;
/// Attempts to settle one use before it is left to the sweeper; with the pauses between them about 13 s.
const SETTLE_ATTEMPTS: u32 = 7;
/// Pause after the first failed attempt; doubles each time.
const SETTLE_PAUSE: Duration = Duration::from_millis(200);
/// What a chat template adds around one message, in tokens, generously.
const TOKENS_AROUND_A_MESSAGE: usize = 16;
/// What a chat template adds around all messages (a default system prompt), in tokens, generously.
const TOKENS_AROUND_A_PROMPT: usize = 64;

/// What is set aside for one use before it begins.
#[derive(Clone, Debug)]
pub(crate) struct Reservation {
    model: String,
    purpose: Purpose,
    /// Prompt and longest answer together; never less than what will be used.
    tokens: u32,
}

impl Reservation {
    pub(crate) fn of(model: &ModelConfig, request: &Request) -> Self {
        let tokens = most_tokens(&request.messages, &request.sampling, &request.options, model.context_length);
        Self { model: model.id.clone(), purpose: request.purpose, tokens }
    }

    /// For inputs of an embedding model or a reranker, of so many bytes each.
    pub(crate) fn of_inputs(model: &ModelConfig, purpose: Purpose, inputs: impl IntoIterator<Item = usize>) -> Self {
        let most = |bytes: usize| u32::try_from(bytes + TOKENS_AROUND_A_MESSAGE).unwrap_or(u32::MAX).min(model.context_length);
        let tokens = inputs.into_iter().map(most).fold(0, u32::saturating_add);
        Self { model: model.id.clone(), purpose, tokens }
    }

    pub(crate) fn purpose(&self) -> Purpose {
        self.purpose
    }
}

/// An upper bound of what the request can use: a token covers at least one byte, and prompt and answer
/// together never exceed the context.
fn most_tokens(messages: &[ChatMessage], sampling: &Sampling, options: &Options, context_length: u32) -> u32 {
    let around = TOKENS_AROUND_A_PROMPT + options.tools.iter().map(bytes_of_tool).sum::<usize>();
    let prompt = messages.iter().map(|message| bytes_of(message) + TOKENS_AROUND_A_MESSAGE).sum::<usize>() + around;
    let prompt = u32::try_from(prompt).unwrap_or(u32::MAX).min(context_length);
    let answer = sampling.max_tokens.unwrap_or(context_length).min(context_length - prompt);
    prompt.saturating_add(answer.saturating_mul(options.n.max(1)))
}

fn bytes_of(message: &ChatMessage) -> usize {
    let calls = message.tool_calls.iter().map(|call| call.id.len() + call.name.len() + call.arguments.len() + TOKENS_AROUND_A_MESSAGE);
    message.content.len() + message.reasoning.as_ref().map_or(0, String::len) + calls.sum::<usize>()
}

fn bytes_of_tool(tool: &Tool) -> usize {
    let description = tool.description.as_ref().map_or(0, String::len);
    tool.name.len() + description + tool.parameters.to_string().len() + TOKENS_AROUND_A_MESSAGE
}

/// The final figures of one use.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    pub outcome: Outcome,
    pub usage: Usage,
    /// The model that answered, if it is known; another one than asked for where that could not be had.
    pub model: Option<String>,
    /// From dispatch to the first text; `None` without any.
    pub ttft_ms: Option<u32>,
    /// From dispatch to the end; `None` if its driver did not come to tell.
    pub duration_ms: Option<u32>,
}

/// Writes reservations and settlements.
#[derive(Clone)]
pub(crate) struct Meter {
    db: Db,
    clock: Arc<dyn Clock>,
    tracker: TaskTracker,
}

impl Meter {
    pub(crate) fn new(db: Db, clock: Arc<dyn Clock>, tracker: TaskTracker) -> Self {
        Self { db, clock, tracker }
    }

    /// Reserves and writes the open use. Fails closed: what cannot be written down is not computed.
    ///
    /// # Errors
    /// [`Error::Unavailable`] whatever kept the ledger from being written.
    pub(crate) async fn open(&self, actor: Actor, reservation: Reservation) -> Result<Ticket> {
        let id = UsageId(Uuid::now_v7());
        if let Err(error) = self.write_open(id, &actor, &reservation).await {
            tracing::error!(usage = %id, request = %actor.request(), %error, "a use could not be written into the ledger and was refused");
            return Err(Error::unavailable("ledger", Some(RETRY_AFTER_S)));
        }
        Ok(Ticket { id, actor, meter: self.clone(), reported: Mutex::new(Usage::default()), open: true })
    }

    async fn write_open(&self, id: UsageId, actor: &Actor, reservation: &Reservation) -> Result<()> {
        let tx = self.db.begin(actor).await?;
        let new = NewUsage {
            id,
            user: actor.user().ok(),
            program: actor.as_program().map(|program| (program.account, program.key)),
            model: reservation.model.clone(),
            purpose: reservation.purpose,
            reserved_tokens: reservation.tokens,
            request: actor.request(),
            created_at: self.clock.now(),
        };
        tx.usage().open(&new).await?;
        tx.commit().await
    }

    /// The one way a use is settled. Compare-and-set: `false` if somebody else was first.
    async fn write_settlement(&self, id: UsageId, actor: &Actor, figures: &Figures) -> Result<bool> {
        let tx = self.db.begin(actor).await?;
        let settled = tx.usage().settle(id, &self.settlement(figures)).await?;
        tx.commit().await?;
        Ok(settled)
    }

    fn settlement(&self, figures: &Figures) -> Settlement {
        Settlement {
            outcome: figures.outcome.into(),
            model: figures.model.clone(),
            prompt_tokens: figures.usage.prompt_tokens,
            cached_tokens: figures.usage.cached_tokens,
            completion_tokens: figures.usage.completion_tokens,
            ttft_ms: figures.ttft_ms,
            duration_ms: figures.duration_ms,
            at: self.clock.now(),
        }
    }

    /// Settles, trying again while the database does not answer; what still fails is the sweeper's.
    async fn settle(self, id: UsageId, actor: Actor, figures: Figures) {
        let mut pause = SETTLE_PAUSE;
        for attempt in 1..=SETTLE_ATTEMPTS {
            match self.write_settlement(id, &actor, &figures).await {
                Ok(true) => return,
                Ok(false) => {
                    tracing::warn!(usage = %id, ?figures, "a use was settled by somebody else first");
                    return;
                }
                Err(error) if attempt == SETTLE_ATTEMPTS => {
                    tracing::error!(usage = %id, request = %actor.request(), ?figures, %error, "a use could not be settled; the sweeper will");
                }
                Err(_) => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
            }
        }
    }

    /// See [`crate::Inference::sweep`].
    pub(crate) async fn sweep(&self, reason: Reason, older_than_ms: i64) -> Result<u64> {
        let now = self.clock.now();
        let tx = self.db.begin_system("usage sweeper", reason).await?;
        let swept = tx.usage().settle_stale(now.saturating_sub(older_than_ms), now).await?;
        tx.commit().await?;
        if swept > 0 {
            tracing::warn!(swept, "uses that a process left open were settled");
        }
        Ok(swept)
    }
}

/// The meter's receipt for one open use. Only the meter makes one, and only with one in hand can a
/// [`Backend`](crate::pool::Backend) be asked.
///
/// It is settled by its driver; if it is dropped without that (the driver panicked), it settles itself as
/// *failed* with what was reported so far.
pub struct Ticket {
    id: UsageId,
    actor: Actor,
    meter: Meter,
    /// The worker's latest counters for this use.
    reported: Mutex<Usage>,
    open: bool,
}

impl Ticket {
    /// The ledger's id of the use.
    #[must_use]
    pub fn id(&self) -> UsageId {
        self.id
    }

    /// Who uses it.
    pub(crate) fn actor(&self) -> &Actor {
        &self.actor
    }

    /// The boundary that a worker must not share prefixes across.
    #[must_use]
    pub fn partition(&self) -> String {
        self.actor.tenant().to_string()
    }

    /// Who is served fairly beside others.
    #[must_use]
    pub fn tenant(&self) -> String {
        self.actor.tenant().to_string()
    }

    /// Takes over the worker's counters as they stand now.
    pub(crate) fn report(&self, usage: Usage) {
        *self.reported.lock().unwrap_or_else(PoisonError::into_inner) = usage;
    }

    /// The worker's latest counters.
    pub(crate) fn reported(&self) -> Usage {
        *self.reported.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Settles in a task of its own, so that neither a slow database nor a dropped caller loses it. Wait for
    /// the handle to know that it is done.
    pub(crate) fn settle(mut self, figures: Figures) -> JoinHandle<()> {
        self.open = false;
        let meter = self.meter.clone();
        self.meter.tracker.spawn(meter.settle(self.id, self.actor.clone(), figures))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        tracing::error!(usage = %self.id, request = %self.actor.request(), "a ticket was dropped without being settled");
        let figures = Figures { outcome: Outcome::Failed, usage: self.reported(), model: None, ttft_ms: None, duration_ms: None };
        // Without a runtime the process is ending: the sweeper of the next one finds the open use.
        if let Ok(runtime) = Handle::try_current() {
            let settling = self.meter.clone().settle(self.id, self.actor.clone(), figures);
            self.meter.tracker.spawn_on(settling, &runtime);
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("id", &self.id).field("open", &self.open).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{Options, most_tokens};
    use contract::model::Sampling;
    use worker_protocol::{ChatMessage, ChatRole};

    #[test]
    fn a_reservation_covers_prompt_and_answer_and_never_more_than_the_context() {
        let messages = [ChatMessage::new(ChatRole::User, "a".repeat(100))];
        let short = Sampling { max_tokens: Some(50), ..Sampling::default() };
        assert_eq!(most_tokens(&messages, &short, &Options::default(), 4096), 100 + 16 + 64 + 50);
        assert_eq!(most_tokens(&messages, &Sampling::default(), &Options::default(), 4096), 4096);
        let huge = Sampling { max_tokens: Some(u32::MAX), ..Sampling::default() };
        assert_eq!(most_tokens(&messages, &huge, &Options::default(), 4096), 4096);
        let three = Options { n: 3, ..Options::default() };
        assert_eq!(most_tokens(&messages, &short, &three, 4096), 100 + 16 + 64 + 3 * 50);
    }
}
