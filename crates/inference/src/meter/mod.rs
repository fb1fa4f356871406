//! The meter: nothing is computed that budgets and limits do not cover and that is not in the ledger first, and every use is
//! settled exactly once.

mod counted;
mod journal;
mod minute;
mod places;
mod policy;
mod purse;
mod quotas;
mod reservation;
#[cfg(test)]
mod samples;
mod ticket;
mod unsettled;
mod writer;

use crate::observe::{Metrics, reason};
use contract::{
    Millis,
    ids::{NodeId, UsageId},
    usage::Purpose,
};
use domain::{Actor, Amount, Clock, Error, Payer, Result};
use journal::Journal;
pub use minute::Standing;
pub(crate) use purse::WARNINGS;
pub use quotas::Limits;
use quotas::{Hold, Quotas, Wanted};
pub(crate) use reservation::Reservation;
use std::{
    io,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use store::{
    Db, Reason,
    ledger::Entry,
    ledger_counts::Counts,
    refusals::WRITTEN_EVERY,
    usage::{Outcome, Settlement},
};
pub use ticket::Ticket;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use unsettled::Unsettled;
use uuid::Uuid;
use worker_protocol::Usage;
use writer::Writer;

/// Seconds after which a caller that was refused for lack of something may try again.
pub(crate) const RETRY_AFTER_S: u32 = 5;
/// Journals of processes that are gone are looked for this often.
const ADOPT: Duration = Duration::from_secs(20);
/// The database is told this often what was settled. What is not told when a process is killed is not compared.
const TELL: Duration = Duration::from_secs(10);

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

impl Figures {
    /// Of prompt and answer.
    fn tokens(&self) -> u64 {
        u64::from(self.usage.prompt_tokens) + u64::from(self.usage.completion_tokens)
    }
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
    /// What was settled.
    counted: Arc<Mutex<Counts>>,
}

impl Meter {
    /// Every use waits for the database.
    pub(crate) fn new(db: Db, clock: Arc<dyn Clock>, tracker: TaskTracker, metrics: Metrics) -> Self {
        Self::of(db, clock, tracker, metrics, new_node(), None)
    }

    /// Uses are in a journal in this folder first.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn with_journal(db: Db, clock: Arc<dyn Clock>, tracker: TaskTracker, metrics: Metrics, folder: &Path) -> io::Result<Self> {
        let node = new_node();
        let journal = Journal::open(folder, node)?;
        Ok(Self::of(db, clock, tracker, metrics, node, Some(journal)))
    }

    fn of(db: Db, clock: Arc<dyn Clock>, tracker: TaskTracker, metrics: Metrics, node: NodeId, journal: Option<Journal>) -> Self {
        let quotas = Quotas::new(db.clone(), clock.clone(), node, metrics.clone());
        let writer = Writer::new(db.clone(), tracker.clone(), metrics, journal);
        Self { db, writer, clock, tracker, node, quotas, counted: Arc::default() }
    }

    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    pub(crate) fn db(&self) -> &Db {
        &self.db
    }

    pub(crate) fn now(&self) -> Millis {
        self.clock.now()
    }

    pub(crate) fn quotas(&self) -> &Quotas {
        &self.quotas
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
                self.db.refusals().of(actor, reason(&error), name);
                Err(error)
            }
            Err(error) => {
                tracing::error!(request = %actor.request(), %error, "a request could not be counted and was refused");
                Err(Error::unavailable("limits", Some(RETRY_AFTER_S)))
            }
        }
    }

    fn settlement(&self, (id, opened_at): (UsageId, Millis), actor: &Actor, figures: &Figures, cost: Amount) -> Settlement {
        Settlement {
            tenant: actor.tenant(),
            id,
            opened_at,
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

    /// The one way a use is settled, by compare-and-set. With a journal it is settled once it is in there, which is at once;
    /// otherwise, or where that cannot be written, the rest is returned: see [`Unsettled::write`]. Budgets follow the ledger:
    /// what is not written is not spent, and what it has no room for is the sweeper's. Within a runtime.
    fn settle(&self, of: (UsageId, Millis), actor: &Actor, figures: Figures, cost: Amount, hold: Hold) -> Option<Unsettled> {
        let (id, _) = of;
        let request = actor.request();
        // The clock is read while nobody tells: what is not told yet is newer than what is.
        let mut counted = self.counted();
        let settlement = self.settlement(of, actor, &figures, cost);
        // Before anything that may lose it.
        counted.add(&settlement);
        drop(counted);
        let entry = match Entry::settle(&settlement) {
            Ok(entry) => entry,
            Err(error) => {
                tracing::error!(usage = %id, %request, ?figures, %error, "a use has figures that the ledger has no room for");
                return None;
            }
        };
        match self.writer.keep(entry) {
            Some(entry) => Some(Unsettled { writer: self.writer.clone(), entry, request, figures, cost, hold }),
            None => {
                hold.settle(cost, figures.tokens());
                None
            }
        }
    }

    /// See [`Writer::hurry`].
    pub(crate) fn hurry(&self) {
        self.writer.hurry();
    }

    /// See [`crate::Inference::adopt_journals`].
    pub(crate) async fn adopt(&self) {
        self.writer.adopt().await;
    }

    /// See [`crate::Inference::tend_quotas`].
    pub(crate) async fn tend(&self, stop: CancellationToken) {
        tokio::join!(
            self.quotas.tend(stop.clone()),
            quotas::every(ADOPT, &stop, || self.adopt()),
            quotas::every(TELL, &stop, || self.try_to_tell_counts()),
            quotas::every(WRITTEN_EVERY, &stop, || self.write_refusals()),
        );
    }

    async fn write_refusals(&self) {
        if let Err(error) = self.db.write_refusals().await {
            tracing::warn!(%error, "what was refused could not be written into the audit trail; trying again");
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

fn new_node() -> NodeId {
    NodeId(Uuid::now_v7())
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

/// The boundary that nothing of what was computed for somebody is shared across, prefixes and answers alike: one tenant's data of
/// one class.
pub(crate) fn partition(actor: &Actor) -> String {
    format!("{} {}", actor.tenant(), actor.class().name())
}
