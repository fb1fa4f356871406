//! What the pool can ask for a completion.

use crate::{meter::Ticket, work::Work};
use async_trait::async_trait;
use futures::stream::BoxStream;
use std::fmt::Debug;
use worker_protocol::{Counted, Event, Generate, Status};

/// Events of one use, the last of which is `Done` or `Failed`. Dropping the stream cancels.
pub type EventStream = BoxStream<'static, Result<Event, BackendError>>;

/// Something that runs models: a worker, or a server that somebody else runs.
#[async_trait]
pub trait Backend: Debug + Send + Sync + 'static {
    /// What it is doing now.
    ///
    /// # Errors
    /// If it does not answer.
    async fn status(&self) -> Result<Status, BackendError>;

    /// Starts work. Takes a ticket, so nothing is computed that is not metered.
    ///
    /// # Errors
    /// If it does not answer or refuses the call as such; a refusal of the request is an event.
    async fn start(&self, ticket: &Ticket, work: &Work) -> Result<EventStream, BackendError>;

    /// It answers [`Backend::cancel`] with the last counters as the last event. Others are cancelled by dropping their
    /// stream, or the call that begins it.
    fn counts_to_the_end(&self) -> bool {
        false
    }

    /// Asks for the end of what this ticket's use has begun; without effect if it is over.
    ///
    /// # Errors
    /// If it does not answer.
    async fn cancel(&self, _ticket: &Ticket) -> Result<(), BackendError> {
        Ok(())
    }

    /// Its base address, for traces; may hold credentials.
    fn address(&self) -> &str {
        ""
    }

    /// How many tokens a completion's prompt has. Nothing is computed, so there is no ticket.
    ///
    /// # Errors
    /// If it does not answer; that there is no such prompt is an answer.
    async fn count(&self, prompt: &Generate) -> Result<Counted, BackendError>;
}

/// Why a backend gave no (further) answer. For the log; a client sees *unavailable* or *internal*.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// No connection, or it broke before the last event: the other side may have died.
    #[error("no connection: {0}")]
    Lost(String),
    /// It answered that it cannot now (HTTP 5xx, a time limit), or not for us (its key, its account): another one may.
    #[error("failing: {0}")]
    Failing(String),
    /// It answered with an HTTP error that would come again.
    #[error("refused with HTTP status {0}")]
    Refused(u16),
    /// It is never asked for this: it has no word for it. A sentence for the caller, if nobody else takes it.
    #[error("not for this backend: {0}")]
    Unfit(String),
    /// It answered something else than the protocol says.
    #[error("broken protocol: {0}")]
    Protocol(String),
}
