//! Tells once a night whether the ledger's rows agree with what processes settled by their own count (ADR 14).

use crate::{
    Inference,
    reconcile::{BY, DRIFT, RECONCILED},
};
use contract::Millis;
use domain::Result;
use std::time::Duration;
use store::{
    Reason, SystemTx,
    audit::AuditEvent,
    ledger_counts::{Compared, Drift, Figures},
};
use time::Date;
use tokio_util::sync::CancellationToken;

/// A day is compared soon after it was summed up, which is soon after midnight.
const LOOK: Duration = Duration::from_secs(10 * 60);
/// So many processes and organisations of a day that differs are named.
const NAMED: usize = 100;

impl Inference {
    /// [`Inference::compare_ledger`] again and again, until `stop`.
    pub(crate) async fn tend_comparison(&self, stop: &CancellationToken) {
        loop {
            if let Err(error) = self.compare_ledger().await {
                tracing::warn!(%error, "the ledger could not be compared with what was settled; trying again");
            }
            if stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_none() {
                return;
            }
        }
    }

    /// Compares each day of the last week that is summed up with what processes settled, once a night and again if something came
    /// late, whichever process comes first; what is news is in the audit trail as `ledger.reconciled` or `ledger.drift`. What
    /// differs is in the metrics of every process.
    ///
    /// # Errors
    /// As for any statement; what was not compared is compared the next time.
    pub async fn compare_ledger(&self) -> Result<()> {
        self.inner.meter.tell_counts().await?;
        let now = self.inner.meter.now();
        let tx = self.begin_comparison().await?;
        let due = tx.ledger_counts().due(now).await?;
        tx.commit().await?;
        for day in due {
            self.compare_day(day, now).await?;
        }
        let tx = self.begin_comparison().await?;
        let standing = tx.ledger_counts().standing(now).await?;
        tx.commit().await?;
        self.inner.metrics.ledger_differs(standing);
        Ok(())
    }

    async fn compare_day(&self, day: Date, now: Millis) -> Result<()> {
        let tx = self.begin_comparison().await?;
        let counts = tx.ledger_counts();
        if !counts.alone().await? {
            return Ok(());
        }
        let all = counts.compare(day).await?;
        let drift = Drift::of(&all);
        let news = counts.note(day, drift, now).await?;
        if news {
            for event in events(day, &all, drift) {
                tx.audit(&event, None).await?;
            }
        }
        tx.commit().await?;
        if news && !drift.is_none() {
            let Drift { uses, tokens } = drift;
            tracing::error!(%day, uses, tokens, "the ledger's rows and what processes settled differ");
        }
        Ok(())
    }

    async fn begin_comparison(&self) -> Result<SystemTx> {
        self.inner.meter.db().begin_system(BY, Reason::Sweep).await
    }
}

/// The day as a whole, and whatever differs.
fn events(day: Date, all: &[Compared], drift: Drift) -> Vec<AuditEvent> {
    let total = |of: fn(&Compared) -> Figures| all.iter().map(of).fold(Figures::default(), Figures::plus);
    let (counted, ledger) = (total(|one| one.counted), total(|one| one.ledger));
    let whole = event(if drift.is_none() { RECONCILED } else { DRIFT }, day)
        .detail("counted_uses", counted.uses)
        .detail("counted_prompt_tokens", counted.prompt_tokens)
        .detail("counted_cached_tokens", counted.cached_tokens)
        .detail("counted_completion_tokens", counted.completion_tokens)
        .detail("ledger_uses", ledger.uses)
        .detail("ledger_prompt_tokens", ledger.prompt_tokens)
        .detail("ledger_cached_tokens", ledger.cached_tokens)
        .detail("ledger_completion_tokens", ledger.completion_tokens)
        .detail("untold_processes", Compared::untold_processes(all))
        .detail("drift_uses", drift.uses)
        .detail("drift_tokens", drift.tokens);
    let differing = all.iter().filter(|one| one.drift() != Figures::default()).take(NAMED);
    std::iter::once(whole).chain(differing.map(|one| differs(day, one))).collect()
}

fn differs(day: Date, one: &Compared) -> AuditEvent {
    let drift = one.drift();
    let event = event(DRIFT, day)
        .detail("tenant", one.tenant.to_string())
        .detail("too_many_uses", drift.uses)
        .detail("too_many_prompt_tokens", drift.prompt_tokens)
        .detail("too_many_cached_tokens", drift.cached_tokens)
        .detail("too_many_completion_tokens", drift.completion_tokens);
    match one.node {
        Some(node) => event.detail("node", node.to_string()),
        None => event,
    }
}

fn event(action: &'static str, day: Date) -> AuditEvent {
    AuditEvent::new(BY, action).target(day).detail("comparison", "ledger")
}
