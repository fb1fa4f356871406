//! What this process settled, by its own count: the ledger's rows are compared with it (ADR 14).

use super::Meter;
use domain::Result;
use std::sync::{MutexGuard, PoisonError};
use store::{Reason, ledger_counts::Counts};

/// Who tells, in the audit trail.
const BY: &str = "ledger";

impl Meter {
    pub(super) fn counted(&self) -> MutexGuard<'_, Counts> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the database what it does not know of it yet.
    ///
    /// # Errors
    /// As for any statement; nothing is lost, the next time tells it.
    pub(crate) async fn tell_counts(&self) -> Result<()> {
        let untold = self.counted().untold();
        if untold.is_empty() {
            return Ok(());
        }
        let tx = self.db.begin_system(BY, Reason::Sweep).await?;
        tx.ledger_counts().tell(self.node, &untold).await?;
        tx.commit().await?;
        self.counted().told(&untold, self.clock.now());
        Ok(())
    }

    /// The same; where it fails, the log says so.
    pub(crate) async fn try_to_tell_counts(&self) {
        if let Err(error) = self.tell_counts().await {
            tracing::warn!(%error, "the database could not be told what this process settled; trying again");
        }
    }
}
