//! The ledger's upkeep: partitions for the days to come, sums of those that are over, the end of those past their time
//! (ADR 14).

use crate::shared::Shared;
use contract::Millis;
use domain::{Error, Result};
use store::{Reason, SystemTx, audit::AuditEvent};
use time::{Date, Duration, OffsetDateTime};

/// Who does it, in the audit trail.
const BY: &str = "ledger";
/// A day is summed up so long after its end: most of what comes late has come by then. What comes later still opens it again.
const LATE_MS: Millis = 10 * 60 * 1000;

/// Does what there is to do. Of a day that is not over for everybody yet, the next time. `keep`: days after which the ledger
/// of a day ends and its sums alone stay; `None`: never.
pub(crate) async fn tend(shared: &Shared, keep: Option<u32>) -> Result<()> {
    let tx = begin(shared).await?;
    let made = tx.ledger_days().prepare().await?;
    tx.commit().await?;
    if made > 0 {
        tracing::info!(made, "the ledger has partitions for further days");
    }
    close_days(shared).await?;
    match keep {
        Some(days) => end_days(shared, days).await,
        None => Ok(()),
    }
}

async fn close_days(shared: &Shared) -> Result<()> {
    let tx = begin(shared).await?;
    let days = tx.ledger_days().unclosed(day_of(shared.now() - LATE_MS)?).await?;
    tx.commit().await?;
    for day in days {
        let tx = begin(shared).await?;
        if tx.ledger_days().close(day, shared.now()).await? {
            tx.commit().await?;
            tracing::info!(%day, "a day of the ledger was summed up");
        }
    }
    Ok(())
}

async fn end_days(shared: &Shared, keep: u32) -> Result<()> {
    let before = day_of(shared.now())?.saturating_sub(Duration::days(keep.into()));
    let tx = begin(shared).await?;
    let days = tx.ledger_days().kept(before).await?;
    tx.commit().await?;
    for day in days {
        let tx = begin(shared).await?;
        let Some(uses) = tx.ledger_days().end(day, shared.now()).await? else { continue };
        tx.audit(&AuditEvent::new(BY, "ledger.day_ended").target(day).detail("uses", uses), None).await?;
        tx.commit().await?;
        tracing::info!(%day, uses, "a day of the ledger ended; its sums stay");
    }
    Ok(())
}

async fn begin(shared: &Shared) -> Result<SystemTx> {
    shared.db.begin_system(BY, Reason::Purge).await
}

/// The day in UTC.
fn day_of(at: Millis) -> Result<Date> {
    Ok(OffsetDateTime::from_unix_timestamp(at.div_euclid(1000)).map_err(Error::internal)?.date())
}
