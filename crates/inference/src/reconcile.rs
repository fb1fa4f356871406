//! Tells once a day whether the workers' own counters agree with what the ledger was told (ADR 14). Whether the ledger has it,
//! `compare` tells.

use crate::{Inference, pool::Reconciled};
use domain::Result;
use std::{collections::BTreeMap, sync::PoisonError, time::Duration};
use store::{Reason, audit::AuditEvent};
use tokio_util::sync::CancellationToken;

/// Who does it, in the audit trail.
pub(crate) const BY: &str = "ledger";
/// What it is called there.
pub(crate) const RECONCILED: &str = "ledger.reconciled";
pub(crate) const DRIFT: &str = "ledger.drift";
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// What was told already, by worker.
pub(crate) type Told = BTreeMap<String, Reconciled>;

impl Inference {
    /// [`Inference::reconcile`] at every midnight (UTC) and at the end, and [`Inference::compare_ledger`], until `stop`.
    pub async fn tend_reconciliation(&self, stop: CancellationToken) {
        tokio::join!(self.tend_workers(&stop), self.tend_comparison(&stop));
    }

    async fn tend_workers(&self, stop: &CancellationToken) {
        loop {
            let left = DAY_MS - self.inner.meter.now().rem_euclid(DAY_MS);
            let midnight = tokio::time::sleep(Duration::from_millis(left.unsigned_abs()));
            let ends = stop.run_until_cancelled(midnight).await.is_none();
            if let Err(error) = self.reconcile().await {
                tracing::warn!(%error, "it could not be written down how workers' counters agree with the ledger");
            }
            if ends {
                return;
            }
        }
    }

    /// Writes into the audit trail, for each worker of this process that computed something since the last time, what its own
    /// counters and what was heard of its answers came to: `ledger.reconciled`, or `ledger.drift` where they differ without an
    /// explanation.
    ///
    /// # Errors
    /// As for any statement; nothing is lost, the next time tells it.
    pub async fn reconcile(&self) -> Result<()> {
        let now = self.inner.pool.reconciled();
        let before = std::mem::take(&mut *self.inner.told.lock().unwrap_or_else(PoisonError::into_inner));
        let outcome = self.write_down(&now, &before).await;
        let told = if outcome.is_ok() { now } else { before };
        *self.inner.told.lock().unwrap_or_else(PoisonError::into_inner) = told;
        outcome
    }

    async fn write_down(&self, now: &Told, before: &Told) -> Result<()> {
        let news = now.iter().map(|(worker, all)| (worker, before.get(worker).map_or(*all, |before| all.since(before))));
        let news: Vec<(&String, Reconciled)> = news.filter(|(_, new)| *new != Reconciled::default()).collect();
        if news.is_empty() {
            return Ok(());
        }
        let tx = self.inner.meter.db().begin_system(BY, Reason::Sweep).await?;
        for (worker, new) in news {
            let event = AuditEvent::new(BY, if new.drift > 0 { DRIFT } else { RECONCILED })
                .target(worker)
                .detail("comparison", "worker")
                .detail("node", self.node().to_string())
                .detail("counted_prompt_tokens", new.counted.prompt)
                .detail("counted_completion_tokens", new.counted.completion)
                .detail("heard_prompt_tokens", new.heard.prompt)
                .detail("heard_completion_tokens", new.heard.completion)
                .detail("cut_tokens", new.cut)
                .detail("drift_tokens", new.drift);
            tx.audit(&event, None).await?;
        }
        tx.commit().await
    }
}
