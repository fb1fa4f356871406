//! The meter: nothing is computed that budgets and limits do not cover and that is not in the ledger first, and every use is
//! settled exactly once.

mod minute;
mod places;
mod policy;
mod purse;
mod quotas;
mod reservation;
mod writer;

use contract::{
    ids::{NodeId, UsageId},
    usage::Purpose,
};
use domain::{Actor, Amount, Clock, Currency, Error, Payer, Quota, Result};
pub use minute::Standing;
use policy::Tariff;
pub use quotas::Limits;
use quotas::{Hold, Quotas, Wanted};
pub(crate) use reservation::Reservation;
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use store::{
    Db, Reason,
    usage::{NewUsage, Outcome, Settlement},
};
use tokio::{runtime::Handle, task::JoinHandle, time::Instant};
use tokio_util::task::TaskTracker;
use uuid::Uuid;
use worker_protocol::Usage;
use writer::Writer;

/// Seconds after which a caller that was refused for lack of something may try again.
pub(crate) const RETRY_AFTER_S: u32 = 5;
/// So long it is tried to settle one use before it is left to the sweeper, which knows no figures. Less than the sweeper
/// waits.
const SETTLED_WITHIN: Duration = Duration::from_secs(55 * 60);
/// Pause after the first failed attempt; doubles each time, up to the longest.
const SETTLE_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_SETTLE_PAUSE: Duration = Duration::from_secs(10);

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
    writer: Writer,
    clock: Arc<dyn Clock>,
    tracker: TaskTracker,
    node: NodeId,
    quotas: Quotas,
}

impl Meter {
    pub(crate) fn new(db: Db, clock: Arc<dyn Clock>, tracker: TaskTracker) -> Self {
        let node = NodeId(Uuid::now_v7());
        let quotas = Quotas::new(db.clone(), clock.clone(), node);
        let writer = Writer::new(db.clone());
        Self { db, writer, clock, tracker, node, quotas }
    }

    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    pub(crate) fn quotas(&self) -> &Quotas {
        &self.quotas
    }

    /// Reserves and writes the open use. Fails closed: what cannot be written down is not computed. `fallbacks`: who may
    /// answer in the model's place.
    ///
    /// # Errors
    /// [`Error::QuotaExceeded`] by a budget or limit; [`Error::Unavailable`] whatever kept budgets from being read or the
    /// ledger from being written.
    pub(crate) async fn open(&self, actor: Actor, reservation: Reservation, fallbacks: Vec<String>) -> Result<Ticket> {
        let id = UsageId(Uuid::now_v7());
        let opened = self.open_as(id, &actor, &reservation, fallbacks).await;
        let (tariff, hold, longest_answer) = opened.map_err(|error| match error {
            error @ Error::QuotaExceeded { .. } => {
                tracing::info!(request = %actor.request(), %error, "a use was refused");
                error
            }
            error => {
                tracing::error!(usage = %id, request = %actor.request(), %error, "a use could not be written into the ledger and was refused");
                Error::unavailable("ledger", Some(RETRY_AFTER_S))
            }
        })?;
        let account = Account { model: reservation.model, tariff, limits: hold.limits(), longest_answer };
        Ok(Ticket { id, actor, account, hold: Some(hold), meter: self.clone(), reported: Mutex::new(Usage::default()) })
    }

    async fn open_as(
        &self,
        id: UsageId,
        actor: &Actor,
        reservation: &Reservation,
        fallbacks: Vec<String>,
    ) -> Result<(Tariff, Hold, Option<u32>)> {
        let policy = self.quotas.policy().await?;
        let (at, payer) = (self.clock.now(), Payer::of(actor));
        let tariff = policy.tariff(std::iter::once(reservation.model.clone()).chain(fallbacks), at)?;
        let mut covered = reservation.clone();
        let (hold, most) = loop {
            let most = if covered.free { Amount::ZERO } else { tariff.most(covered.prompt, covered.answer) };
            let most = tariff.currency().map(|currency| (currency, most));
            // What costs nothing needs no budget, however far that is spent.
            let wanted = Wanted { reservation: &covered, most: most.filter(|_| !covered.free), at };
            match self.quotas.reserve(&policy, &payer, &wanted).await {
                Ok(hold) => break (hold, most),
                Err(error @ Error::QuotaExceeded { quota: Quota::Budget, .. }) => covered = covered.shorter().ok_or(error)?,
                Err(error) => return Err(error),
            }
        };
        let new = NewUsage {
            tenant: actor.tenant(),
            id,
            user: payer.user,
            program: payer.program,
            team: payer.team,
            cost_center: payer.cost_center,
            model: reservation.model.clone(),
            purpose: reservation.purpose,
            reserved_tokens: reservation.tokens,
            reserved: most,
            node: self.node,
            request: actor.request(),
            created_at: at,
        };
        self.writer.open(new).await?;
        let shortened = covered.answer < reservation.answer;
        Ok((tariff, hold, shortened.then(|| covered.longest_answer())))
    }

    /// Counts a request that computes nothing and is not in the ledger. `name`: what stands for a model in limits.
    ///
    /// # Errors
    /// [`Error::QuotaExceeded`] by a limit; [`Error::Unavailable`] if limits cannot be read.
    pub(crate) async fn count(&self, actor: &Actor, name: &str) -> Result<CountedRequest> {
        let reservation = Reservation::free(name, Purpose::Api);
        let counted = async {
            let policy = self.quotas.policy().await?;
            self.quotas.reserve(&policy, &Payer::of(actor), &Wanted { reservation: &reservation, most: None, at: self.clock.now() }).await
        };
        match counted.await {
            Ok(hold) => Ok(CountedRequest { hold: hold.kept() }),
            Err(error @ Error::QuotaExceeded { .. }) => {
                tracing::info!(request = %actor.request(), %error, "a request was refused");
                Err(error)
            }
            Err(error) => {
                tracing::error!(request = %actor.request(), %error, "a request could not be counted and was refused");
                Err(Error::unavailable("limits", Some(RETRY_AFTER_S)))
            }
        }
    }

    fn settlement(&self, id: UsageId, actor: &Actor, figures: &Figures, cost: Amount) -> Settlement {
        Settlement {
            tenant: actor.tenant(),
            id,
            outcome: figures.outcome,
            model: figures.model.clone(),
            prompt_tokens: figures.usage.prompt_tokens,
            cached_tokens: figures.usage.cached_tokens,
            completion_tokens: figures.usage.completion_tokens,
            cost,
            ttft_ms: figures.ttft_ms,
            duration_ms: figures.duration_ms,
            at: self.clock.now(),
        }
    }

    /// The one way a use is settled, by compare-and-set; tries again while the database does not answer; what still fails is the sweeper's. Budgets follow the
    /// ledger: what is not in it is not spent.
    async fn settle(self, id: UsageId, actor: Actor, figures: Figures, cost: Amount, hold: Hold) {
        let tokens = u64::from(figures.usage.prompt_tokens) + u64::from(figures.usage.completion_tokens);
        let (began, mut pause, mut failed) = (Instant::now(), SETTLE_PAUSE, false);
        loop {
            match self.writer.settle(self.settlement(id, &actor, &figures, cost)).await {
                Ok(true) => return hold.settle(cost, tokens),
                // An earlier attempt may have come through and only its answer got lost.
                Ok(false) if failed => return hold.settle(cost, tokens),
                Ok(false) => {
                    tracing::warn!(usage = %id, ?figures, "a use was settled by somebody else first");
                    return;
                }
                Err(error) if began.elapsed() > SETTLED_WITHIN => {
                    tracing::error!(usage = %id, request = %actor.request(), ?figures, %error, "a use could not be settled; the sweeper will");
                    return;
                }
                Err(error) => {
                    if !std::mem::replace(&mut failed, true) {
                        tracing::warn!(usage = %id, request = %actor.request(), ?figures, %error, "a use could not be settled; trying again");
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_SETTLE_PAUSE);
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

/// A request that was counted. The place that it takes among those at the same time is free again once this is dropped.
pub struct CountedRequest {
    hold: Hold,
}

impl CountedRequest {
    /// How the limits stood when it began.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.hold.limits()
    }
}

/// The boundary that nothing of what was computed for somebody is shared across: prefixes and answers alike.
pub(crate) fn partition(actor: &Actor) -> String {
    actor.tenant().to_string()
}

/// The meter's receipt for one open use. Only the meter makes one, and only with one in hand can a
/// [`Backend`](crate::pool::Backend) be asked.
///
/// It is settled by its driver; if it is dropped without that (the driver panicked), it settles itself as
/// *failed* with what was reported so far.
pub struct Ticket {
    id: UsageId,
    actor: Actor,
    account: Account,
    /// What is set aside for it, until it is settled.
    hold: Option<Hold>,
    meter: Meter,
    /// The worker's latest counters for this use.
    reported: Mutex<Usage>,
}

/// What a use costs, and how the limits stood when it began.
#[derive(Clone, Debug)]
struct Account {
    /// The model that was asked for.
    model: String,
    tariff: Tariff,
    limits: Limits,
    /// Tokens that an answer may have, where the budget covers no longer one.
    longest_answer: Option<u32>,
}

impl Ticket {
    /// The ledger's id of the use.
    #[must_use]
    pub fn id(&self) -> UsageId {
        self.id
    }

    /// The boundary that a worker must not share prefixes across.
    #[must_use]
    pub fn partition(&self) -> String {
        partition(&self.actor)
    }

    /// Who is served fairly beside others.
    #[must_use]
    pub fn tenant(&self) -> String {
        self.actor.tenant().to_string()
    }

    /// Models to fall back to that were reserved for.
    pub(crate) fn fallbacks(&self) -> Vec<String> {
        self.account.tariff.fallbacks()
    }

    /// Tokens that an answer may have, where the budget covers no longer one.
    pub(crate) fn longest_answer(&self) -> Option<u32> {
        self.account.longest_answer
    }

    /// How the limits stood when it began.
    pub(crate) fn limits(&self) -> Limits {
        self.account.limits
    }

    /// What a use with these figures costs; `None` where there is no price.
    pub(crate) fn cost(&self, figures: &Figures) -> Option<(Currency, Amount)> {
        // A failure that brought nothing costs nothing, nor does what was cancelled before the model began.
        let produced = figures.usage.completion_tokens > 0;
        let answered = produced || figures.outcome != Outcome::Failed && figures.usage.prompt_tokens > 0;
        let model = figures.model.as_ref().unwrap_or(&self.account.model);
        self.account.tariff.currency().map(|currency| (currency, self.account.tariff.cost(model, figures.usage, answered)))
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
        let hold = self.hold.take().unwrap_or_default();
        self.meter.tracker.spawn(self.settling(figures, hold))
    }

    fn settling(&self, figures: Figures, hold: Hold) -> impl Future<Output = ()> + Send + use<> {
        let cost = self.cost(&figures).map_or(Amount::ZERO, |(_, cost)| cost);
        self.meter.clone().settle(self.id, self.actor.clone(), figures, cost, hold)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let Some(hold) = self.hold.take() else { return };
        tracing::error!(usage = %self.id, request = %self.actor.request(), "a ticket was dropped without being settled");
        let figures = Figures { outcome: Outcome::Failed, usage: self.reported(), model: None, ttft_ms: None, duration_ms: None };
        // Without a runtime the process is ending: the sweeper of the next one finds the open use.
        if let Ok(runtime) = Handle::try_current() {
            self.meter.tracker.spawn_on(self.settling(figures, hold), &runtime);
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("id", &self.id).field("open", &self.hold.is_some()).finish_non_exhaustive()
    }
}
