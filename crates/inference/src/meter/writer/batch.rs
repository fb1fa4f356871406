//! How it is written, and by how many statements where an entry among others is at fault.

use super::{MOST, Writer, gathered::Waiting};
use domain::Result;
use std::sync::atomic::Ordering;
use store::ledger::{Entry, WriteError, Wrote};
use tokio::time::Instant;

impl Writer {
    /// Writes so many uses, the oldest first, while the database takes them. Whoever calls it has the turn.
    pub(super) async fn write_due(&self, mut due: usize) {
        while due > 0 {
            let some = due.min(MOST);
            self.write_some(some).await;
            if self.is_failing() {
                return;
            }
            due -= some;
        }
    }

    /// Writes at most so many uses, the oldest first, by one pair of statements. Whoever calls it has the turn.
    pub(super) async fn write_some(&self, most: usize) {
        let batch: Vec<Waiting> = {
            let mut waiting = self.waiting();
            let batch = waiting.take(most);
            self.inner.metrics.wait_for_ledger(waiting.entries());
            batch
        };
        // The first part is on top.
        let mut parts = vec![batch];
        while let Some(part) = parts.pop() {
            if let Err(error) = self.write_part(part, &mut parts).await {
                self.fail(parts.into_iter().rev().flatten().collect(), &error);
                return;
            }
        }
    }

    /// What of it has to be tried again goes back on top of the parts, in halves while an entry among others is at fault: they
    /// must not suffer for it, and few statements find it.
    ///
    /// # Errors
    /// The database does not take anything now.
    async fn write_part(&self, mut part: Vec<Waiting>, parts: &mut Vec<Vec<Waiting>>) -> Result<()> {
        let mut written = self.write_batch(&part).await;
        // It may be right the next time: a person who was just being deleted is gone by then, and not named.
        if part.len() == 1 && matches!(written, Err(WriteError::Rejected(_))) {
            written = self.write_batch(&part).await;
        }
        match written {
            Ok(Wrote { told, failed: None }) => {
                self.inner.failing.store(false, Ordering::Relaxed);
                self.tell_all(part, &told);
            }
            Ok(Wrote { told, failed: Some(error) }) => {
                // What was to be opened is open, whatever became of the others.
                let (written, left) = part.into_iter().partition(|one| one.entry.opens() || told.contains_key(&one.entry.id()));
                self.tell_all(written, &told);
                parts.push(left);
                if let WriteError::Failed(error) = error {
                    return Err(error);
                }
            }
            Err(WriteError::Rejected(error)) if part.len() <= 1 => part.into_iter().for_each(|one| self.reject(one, &error)),
            Err(WriteError::Rejected(_)) => {
                let second = part.split_off(part.len() / 2);
                parts.extend([second, part]);
            }
            Err(WriteError::Failed(error)) => {
                parts.push(part);
                return Err(error);
            }
        }
        Ok(())
    }

    async fn write_batch(&self, batch: &[Waiting]) -> Result<Wrote, WriteError> {
        let entries: Vec<&Entry> = batch.iter().map(|waiting| &waiting.entry).collect();
        let began = Instant::now();
        let written = self.inner.db.write_entries(&entries).await;
        self.inner.metrics.wrote(began.elapsed(), matches!(written, Ok(Wrote { failed: None, .. })));
        written
    }
}
