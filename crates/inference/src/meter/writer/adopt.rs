//! What processes left behind that are gone.

use super::{MOST, Writer};
use crate::meter::journal::{Journal, Orphan};
use domain::{Error, Result};
use futures::future::join_all;
use store::ledger::{Settling, WriteError};

impl Writer {
    /// Writes what processes left in their journals that are gone; what the database does not take now stays where it is.
    pub(in crate::meter) async fn adopt(&self) {
        let Some(journal) = &self.inner.journal else { return };
        let orphans = match journal.orphans() {
            Ok(orphans) => orphans,
            Err(error) => {
                tracing::error!(%error, "the folder for journals of the ledger cannot be read");
                return;
            }
        };
        let mut failed = None;
        for orphan in orphans.parts {
            let (node, entries) = (orphan.node, orphan.entries.len());
            // In its later parts are the ends of what it opened in the earlier ones.
            if failed == Some(node) {
                continue;
            }
            match self.adopt_one(journal, orphan).await {
                Ok(()) => tracing::warn!(%node, entries, "what a process left in its journal is in the ledger now"),
                Err(error) => {
                    failed = Some(node);
                    tracing::error!(%node, entries, %error, "what a process left in its journal cannot be written; trying again");
                }
            }
        }
    }

    async fn adopt_one(&self, journal: &Journal, orphan: Orphan) -> Result<()> {
        // In order, so that nothing is settled before it is opened.
        for some in orphan.entries.chunks(MOST) {
            let written = join_all(some.iter().map(|entry| self.write(entry.clone()))).await;
            for (entry, outcome) in some.iter().zip(written) {
                match outcome {
                    Ok(Settling::Missing) => journal.reject(orphan.node, entry, "there is no such use")?,
                    Ok(_) => {}
                    Err(WriteError::Rejected(error)) => journal.reject(orphan.node, entry, &error.to_string())?,
                    Err(WriteError::Failed(error)) => return Err(error),
                }
            }
        }
        // Whoever took the process for dead before has counted without these.
        self.inner.db.recount_budgets(orphan.node).await?;
        orphan.written().map_err(Error::internal)
    }
}
