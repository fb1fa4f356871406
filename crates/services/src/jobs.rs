//! Background duties: recovery of turns and responses, the sweeper of the ledger and its days, purges, seals of the audit trail.

use crate::{Services, audit, batches, responses, shared::Shared, turns::recovery};
use contract::Millis;
use domain::Result;
use inference::LONGEST_GENERATION;
use std::{future::Future, time::Duration};
use store::Reason;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often turns and responses of dead nodes are looked for.
const RECOVER_EVERY: Duration = Duration::from_secs(5);
/// How often the ledger is swept.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// How often what is past its time is purged.
const PURGE_EVERY: Duration = Duration::from_secs(10 * 60);
/// How often events of the audit trail are sealed.
const SEAL_EVERY: Duration = Duration::from_secs(1);
/// How often the ledger's days are looked after.
const TEND_EVERY: Duration = Duration::from_secs(15 * 60);
/// How often the log says how far the audit chain is.
const TELL_EVERY: Duration = Duration::from_secs(60 * 60);
/// Events of what has ended are kept for those who come late.
const EVENTS_KEPT_SECONDS: u32 = 60 * 60;
/// A deleted conversation can be restored for this long.
const DELETED_KEPT_MS: Millis = 30 * 24 * 60 * 60 * 1000;
/// An upload that began so long ago and has not ended will not.
const UPLOAD_MS: Millis = 24 * 60 * 60 * 1000;
/// A batch is kept this long after its end.
const BATCH_KEPT_MS: Millis = 30 * 24 * 60 * 60 * 1000;
/// Beyond the longest generation a use of a model is surely orphaned.
const SWEEP_MARGIN_MS: i64 = 5 * 60 * 1000;

impl Services {
    /// Background duties, each at once and then again and again, until the token is cancelled. Several nodes may
    /// run them at the same time.
    pub async fn run_jobs(&self, stop: CancellationToken) {
        let shared = &*self.shared;
        tokio::join!(
            every(RECOVER_EVERY, "turn recovery", &stop, || async { recovery::recover(shared).await.map(drop) }),
            every(RECOVER_EVERY, "response recovery", &stop, || async { responses::recovery::recover(shared).await.map(drop) }),
            every(SWEEP_EVERY, "ledger sweeper", &stop, || async { shared.inference.sweep(oldest_use_ms()).await.map(drop) }),
            every(PURGE_EVERY, "purge", &stop, || purge(shared, &stop)),
            every(SEAL_EVERY, "audit chain", &stop, || audit::seal(shared)),
            every(TELL_EVERY, "audit chain's head", &stop, || audit::tell_head(shared)),
            every(TEND_EVERY, "ledger's days", &stop, || self.tend_ledger()),
        );
    }
}

/// Runs a job until told to stop. A failure is logged, and the next time is tried again.
pub(crate) async fn every<F: Future<Output = Result<()>>>(period: Duration, name: &str, stop: &CancellationToken, job: impl Fn() -> F) {
    let mut clock = interval(period);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = clock.tick() => {}
        }
        if let Err(error) = job().await {
            tracing::warn!(%error, job = name, "a background job failed; it will be tried again");
        }
    }
}

fn oldest_use_ms() -> i64 {
    i64::try_from(LONGEST_GENERATION.as_millis()).unwrap_or(i64::MAX).saturating_add(SWEEP_MARGIN_MS)
}

/// Removes what is past its time.
async fn purge(shared: &Shared, stop: &CancellationToken) -> Result<()> {
    shared.temporary.purge();
    let tx = shared.db.begin_system("purge", Reason::Purge).await?;
    let events = tx.turns().purge_events(EVENTS_KEPT_SECONDS).await?;
    let conversations = tx.conversations().purge(shared.now() - DELETED_KEPT_MS).await?;
    let said = tx.responses().purge_events(shared.now() - 1000 * Millis::from(EVENTS_KEPT_SECONDS)).await?;
    let responses = tx.responses().purge(shared.now()).await?;
    let batches = tx.batches().purge(shared.now() - BATCH_KEPT_MS).await?;
    tx.commit().await?;
    let sessions = shared.identity.purge().await?;
    if events + conversations + said + responses + batches + sessions > 0 {
        tracing::info!(events = events + said, conversations, responses, batches, sessions, "purged");
    }
    purge_files(shared, stop).await?;
    purge_lines(shared, stop).await
}

/// Lines of batches that have ended go with the end; those of a node that died over it are left.
async fn purge_lines(shared: &Shared, stop: &CancellationToken) -> Result<()> {
    let tx = shared.db.begin_system("purge", Reason::Purge).await?;
    let ended = tx.batches().ended_with_lines().await?;
    tx.commit().await?;
    for (tenant, id) in ended {
        if stop.is_cancelled() {
            break;
        }
        batches::forget_lines(shared, tenant, id).await?;
    }
    Ok(())
}

/// Files take their pieces with them: a few in each transaction, so that none comes to the limit of a statement's time,
/// and behind all else, which they must not keep from being purged.
async fn purge_files(shared: &Shared, stop: &CancellationToken) -> Result<()> {
    while !stop.is_cancelled() {
        let tx = shared.db.begin_system("purge", Reason::Purge).await?;
        let files = tx.files().purge(shared.now(), shared.now() - UPLOAD_MS).await?;
        tx.commit().await?;
        if files == 0 {
            return Ok(());
        }
        tracing::info!(files, "purged");
    }
    Ok(())
}
