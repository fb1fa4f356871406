//! The funnel: the only way to a model, for every caller.
//!
//! [`Inference::admit`] runs the stages in order: catalogue → guardrails → response cache → meter (limits, budgets,
//! ledger) → pool. A [`Ticket`](meter::Ticket) is the meter's receipt; dispatch takes one, so a path that infers without
//! being metered does not compile.

#[cfg(target_family = "wasm")]
compile_error!("`inference` is server-only");

pub mod admit;
mod cache;
pub mod catalogue;
mod clearance;
mod compare;
mod count;
mod drive;
pub mod generation;
pub mod guard;
mod holds;
mod images;
pub mod meter;
mod observe;
pub mod pool;
mod reconcile;
mod refusal;
mod sweep;
mod vectors;
mod work;

pub use admit::{Options, Request};
pub use cache::{CacheFigures, CacheUse};
pub use catalogue::{Catalogue, CatalogueError, ModelConfig, Offered};
pub use clearance::Clearance;
pub use drive::LONGEST_GENERATION;
pub use generation::{Cached, Ended, Generation, Outcome, Output, Route};
pub use observe::Metrics;
pub use pool::{
    Credential, LengthField, Pool, PoolTiming, Prefer, RegisterError, StructuredField, Upstream, UpstreamKind, UpstreamModel, WorkerProcess,
};
pub use vectors::{MOST_INPUTS, MOST_TOKENS, VectorRequest, Vectors};
pub use work::Work;
pub use worker_protocol::{
    ChatMessage, ChatRole, ContentPart, DataUrl, Detail, EmbedInput, Finish, Format, Image, ModelKind, Priority, TokenLogprob, Tool,
    ToolCall, ToolChoice,
};

pub use meter::{CountedRequest, Limits, Standing};

use cache::ResponseCache;
use contract::{ids::NodeId, model::ModelInfo};
use domain::{Actor, Clock, Result};
use guard::{ClassifierConfig, Guard, Guards};
use meter::Meter;
use std::{
    io,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use store::Db;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The funnel of one process. Clones share everything.
#[derive(Clone)]
pub struct Inference {
    inner: Arc<Inner>,
}

struct Inner {
    catalogue: Catalogue,
    pool: Pool,
    guards: Guards,
    cache: ResponseCache,
    meter: Meter,
    metrics: Metrics,
    /// Every driver and every settlement runs in here; [`Inference::drain`] waits for them.
    tracker: TaskTracker,
    /// What still runs has to end.
    ending: CancellationToken,
    /// How workers' counters were told to agree with what was heard of them.
    told: Mutex<reconcile::Told>,
}

impl Inference {
    /// Puts the stages together. Starts nothing: the pool's workers are added by whoever made it.
    #[must_use]
    pub fn new(db: Db, catalogue: Catalogue, pool: Pool, clock: Arc<dyn Clock>) -> Self {
        let (tracker, metrics) = (TaskTracker::new(), Metrics::default());
        let meter = Meter::new(db.clone(), clock.clone(), tracker.clone(), metrics.clone());
        Self::of(db, catalogue, pool, clock, meter, metrics, tracker)
    }

    /// The same with journals in this folder: a use is written down there before anything is computed, and in the database
    /// a moment later.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn with_journal(db: Db, catalogue: Catalogue, pool: Pool, clock: Arc<dyn Clock>, folder: &Path) -> io::Result<Self> {
        let (tracker, metrics) = (TaskTracker::new(), Metrics::default());
        let meter = Meter::with_journal(db.clone(), clock.clone(), tracker.clone(), metrics.clone(), folder)?;
        Ok(Self::of(db, catalogue, pool, clock, meter, metrics, tracker))
    }

    fn of(db: Db, catalogue: Catalogue, pool: Pool, clock: Arc<dyn Clock>, meter: Meter, metrics: Metrics, tracker: TaskTracker) -> Self {
        let (guards, cache) = (Guards::new(db.clone(), metrics.clone()), ResponseCache::new(db, clock));
        let (ending, told) = (CancellationToken::new(), Mutex::default());
        Self { inner: Arc::new(Inner { catalogue, pool, guards, cache, meter, metrics, tracker, ending, told }) }
    }

    /// Models granted to the actor, for the picker; `ready` says whether somebody runs it now who may see the actor's data.
    #[must_use]
    pub fn models(&self, actor: &Actor) -> Vec<ModelInfo> {
        self.inner.catalogue.picker(actor, |bounds| self.inner.pool.readiness(bounds))
    }

    /// Models granted to the actor, of every kind, for programs.
    #[must_use]
    pub fn offered(&self, actor: &Actor) -> Vec<Offered> {
        self.inner.catalogue.offered(actor, |bounds| self.inner.pool.readiness(bounds))
    }

    /// The ids of all models, whoever they are offered to.
    pub fn model_ids(&self) -> impl Iterator<Item = &str> {
        self.inner.catalogue.models().iter().map(|model| model.id.as_str())
    }

    /// This process, in the ledger and wherever work belongs to one.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.inner.meter.node()
    }

    /// The guardrails of the actor's organisation, for these texts; `None` if it has none.
    ///
    /// # Errors
    /// [`domain::Error::Unavailable`] if they cannot be read, or nobody can say whether the texts are injections.
    pub async fn guardrails(&self, actor: &Actor, texts: &[String]) -> Result<Option<Arc<Guard>>> {
        self.inner.guards.for_texts(actor, texts).await
    }

    /// Has a server judge from now on, beside the heuristic, whether texts are injections, for rules that look for any.
    ///
    /// # Errors
    /// It cannot be used, or there is one already.
    pub fn ask_classifier(&self, config: ClassifierConfig) -> Result<()> {
        self.inner.guards.ask(config)
    }

    /// Counters of this process.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// Who runs the models.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.inner.pool
    }

    /// Counts a request of a program that asks no model, by the limits that it has. `name`: what stands for a model in them.
    ///
    /// # Errors
    /// [`domain::Error::QuotaExceeded`] by a limit; [`domain::Error::Unavailable`] if limits cannot be read.
    pub async fn count_request(&self, actor: &Actor, name: &str) -> Result<CountedRequest> {
        self.inner.meter.count(actor, name).await
    }

    pub(crate) fn guards(&self) -> &Guards {
        &self.inner.guards
    }

    pub(crate) fn catalogue(&self) -> &Catalogue {
        &self.inner.catalogue
    }

    /// At least one model of the catalogue answers: one for chats, if there is any.
    ///
    /// # Errors
    /// Why none does, in English, for the operator.
    pub fn ready(&self) -> Result<(), String> {
        let models = self.inner.catalogue.models();
        let chats = models.iter().any(|model| model.kind == ModelKind::Chat);
        let counts = |model: &&Arc<ModelConfig>| !chats || model.kind == ModelKind::Chat;
        if models.iter().filter(counts).any(|model| self.inner.pool.is_ready(&model.id)) {
            Ok(())
        } else {
            Err(format!("no worker is ready ({})", self.inner.pool.describe()))
        }
    }

    /// Ends all that still runs, as *unavailable*: the process is about to end.
    pub fn end(&self) {
        self.inner.ending.cancel();
    }

    /// Waits until every driver has settled. From now on [`Inference::admit`] refuses; generations that
    /// still run go on until they end or their [`Generation`] is dropped.
    pub async fn drain(&self) {
        self.inner.tracker.close();
        self.inner.meter.hurry();
        self.inner.tracker.wait().await;
        // At the same time: both wait for a database that does not answer.
        tokio::join!(self.inner.meter.try_to_tell_counts(), self.inner.meter.quotas().give_back());
    }

    /// Writes into the ledger what processes left in their journals that are gone; what cannot be written is logged and stays
    /// where it is. Part of [`Inference::tend_quotas`], too; nothing without a folder for journals.
    pub async fn adopt_journals(&self) {
        self.inner.meter.adopt().await;
    }

    /// Keeps prices, budgets and limits fresh, shares what this process holds of them with others, and writes what was refused
    /// into the audit trail, until `stop`.
    pub async fn tend_quotas(&self, stop: CancellationToken) {
        self.inner.meter.tend(stop).await;
    }

    /// Takes back what processes hold of budgets that were silent for so long; what they spent is counted from the ledger.
    /// Part of [`Inference::tend_quotas`], with a minute. Returns how many shares.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn recover_quotas(&self, silent: Duration) -> Result<u64> {
        self.inner.meter.quotas().recover(silent).await
    }
}
