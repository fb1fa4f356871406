//! Batches: many requests of a program in a file, answered within a day at low priority, the answers in a file again.
//!
//! A line is answered by the route that its `url` names, through [`Lines`], in the name of the key that made the batch.
//! So models, budgets, limits, guardrails and ledger are those of every other request. Who works a batch off holds a
//! lease; what became of a line is kept at once, so that another node goes on where one died.

mod answering;
mod desk;
mod input;
mod output;
mod patience;
mod queue;
mod run;

pub(crate) use run::forget_lines;
pub use store::batches::{Batch, BatchError, BatchStatus};

use crate::{
    check,
    files::{FileLimits, FilePurpose, Slice, account, refuse_beyond},
    shared::Shared,
};
use contract::{
    Millis,
    ids::{BatchId, FileId},
};
use desk::Desk;
use domain::{Action, Actor, Error, Result};
use futures::future::BoxFuture;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use store::{audit::AuditEvent, batches::NewBatch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The only window that there is, in OpenAI's words and ours.
pub const WINDOW: &str = "24h";
const WINDOW_MS: Millis = 24 * 60 * 60 * 1000;
/// Batches of an account that have not ended, if nobody says how many.
const MOST_OPEN: u32 = 100;

/// What the lines of a batch ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    ChatCompletions,
    Completions,
    Embeddings,
    Responses,
}

impl Endpoint {
    const ALL: [Self; 4] = [Self::ChatCompletions, Self::Completions, Self::Embeddings, Self::Responses];

    /// The route's path.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Embeddings => "/v1/embeddings",
            Self::Responses => "/v1/responses",
        }
    }

    /// The endpoint at this path.
    #[must_use]
    pub fn at(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|endpoint| endpoint.path() == path)
    }
}

/// What a route said to a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineAnswer {
    /// Of HTTP.
    pub status: u16,
    /// JSON.
    pub body: String,
    /// When it may be asked again, if that is what it takes.
    pub retry_after: Option<Duration>,
    /// Whoever was computing it died.
    pub broke: bool,
}

/// The routes, for lines of batches: whoever owns them answers a line just as a request.
pub trait Lines: Send + Sync + 'static {
    /// Answers one line. Dropped, it stops the model.
    fn answer<'a>(&'a self, actor: Actor, endpoint: Endpoint, body: &'a str) -> BoxFuture<'a, LineAnswer>;
}

/// A batch to be made.
#[derive(Clone, Debug)]
pub struct CreateBatch {
    pub input: FileId,
    pub endpoint: Endpoint,
    pub metadata: BTreeMap<String, String>,
}

/// See the module.
#[derive(Clone)]
pub struct Batches {
    shared: Arc<Shared>,
    limits: FileLimits,
    most_open: u32,
}

impl Batches {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, limits: FileLimits::default(), most_open: MOST_OPEN }
    }

    pub(crate) fn within(self, limits: FileLimits) -> Self {
        Self { limits, ..self }
    }

    pub(crate) fn open_at_most(self, most_open: u32) -> Self {
        Self { most_open, ..self }
    }

    /// Queues a batch. Its lines are checked later: what is wrong with them is in its `errors`.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the account has no such file; [`Error::Invalid`] for `input_file_id`, also if the tenant has no
    /// room for what the batch will write, or for `metadata`; [`Error::Conflict`] (`too_many_batches`).
    pub async fn create(&self, actor: &Actor, create: CreateBatch) -> Result<Batch> {
        actor.may(Action::UseModels)?;
        self.shared.refuse_while_ending()?;
        let CreateBatch { input, endpoint, metadata } = create;
        check::metadata(&metadata)?;
        let mut metadata = serde_json::to_value(metadata).map_err(Error::internal)?;
        check::clean_json(&mut metadata);
        let program = actor.as_program().ok_or_else(|| Error::forbidden("Only a program has batches."))?;
        let (id, created_at) = (BatchId(Uuid::now_v7()), self.shared.now());
        let tx = self.shared.db.begin(actor).await?;
        let file = tx.files().get(program.account, input).await?.ok_or(Error::not_found("file"))?;
        if file.purpose != FilePurpose::Batch {
            let message = format!("The file's purpose is {}. Bring it with the purpose batch.", file.purpose.name());
            return Err(Error::invalid("input_file_id", "wrong_purpose", message));
        }
        if tx.batches().open(program.account).await? >= self.most_open.into() {
            let message =
                format!("A service account may have {} batches that have not ended. Wait for one, or cancel one.", self.most_open);
            return Err(Error::conflict("too_many_batches", message));
        }
        let new = NewBatch {
            id,
            account: program.account,
            key: program.key,
            endpoint: endpoint.path().into(),
            input,
            metadata,
            class: actor.class(),
            // What it writes nobody can know; about as much as it reads.
            reserved: file.bytes,
            created_at,
            expires_at: created_at + WINDOW_MS,
        };
        tx.batches().insert(&new).await?;
        // Behind the batch: what others set aside at the same time counts before, or they count this one.
        tx.files().hold_total().await?;
        refuse_beyond(&tx, self.limits, 0, "input_file_id").await?;
        let event =
            AuditEvent::by(actor, "batch.created").target(id).detail("input", input.to_string()).detail("endpoint", endpoint.path());
        tx.audit().add(&event).await?;
        let stored = tx.batches().get(program.account, id).await?.ok_or(not_found())?;
        tx.commit().await?;
        Ok(stored)
    }

    /// A batch as it is now.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the account has no such batch.
    pub async fn get(&self, actor: &Actor, id: BatchId) -> Result<Batch> {
        actor.may(Action::UseModels)?;
        let tx = self.shared.db.begin(actor).await?;
        let stored = tx.batches().get(account(actor)?, id).await?.ok_or(not_found())?;
        tx.commit().await?;
        Ok(stored)
    }

    /// The account's batches; one more than `slice.limit` where there are more.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without the scope.
    pub async fn list(&self, actor: &Actor, slice: Slice<BatchId>) -> Result<Vec<Batch>> {
        actor.may(Action::UseModels)?;
        let tx = self.shared.db.begin(actor).await?;
        let stored = tx.batches().list(account(actor)?, Slice { limit: slice.limit.saturating_add(1), ..slice }).await?;
        tx.commit().await?;
        Ok(stored)
    }

    /// Asks for the end of a batch: whoever is at it stops within seconds, and what was answered is kept.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the account has no such batch; [`Error::Conflict`] if it has ended or is about to.
    pub async fn cancel(&self, actor: &Actor, id: BatchId) -> Result<Batch> {
        actor.may(Action::UseModels)?;
        let account = account(actor)?;
        let tx = self.shared.db.begin(actor).await?;
        let asked = tx.batches().request_cancel(account, id, self.shared.now()).await?;
        let stored = tx.batches().get(account, id).await?.ok_or(not_found())?;
        if asked {
            tx.audit().add(&AuditEvent::by(actor, "batch.cancelled").target(id)).await?;
        } else if stored.status != BatchStatus::Cancelling {
            return Err(Error::conflict(
                "batch_not_cancellable",
                format!("The batch is {} and cannot be cancelled.", stored.status.name()),
            ));
        }
        tx.commit().await?;
        Ok(stored)
    }

    /// Works batches off until the token is cancelled, `parallel` lines at a time (0: none). Several nodes may do it at
    /// the same time; each needs models.
    pub async fn work(&self, lines: Arc<dyn Lines>, parallel: usize, stop: CancellationToken) {
        if parallel > 0 {
            Desk::new(self.shared.clone(), lines, parallel, stop).work().await;
        }
    }
}

fn not_found() -> Error {
    Error::not_found("batch")
}
