//! What becomes of each entry: it is told of, done, set aside, or tried again.

use super::{
    Writer,
    gathered::{Waiting, Whose},
};
use crate::meter::{RETRY_AFTER_S, journal::Place};
use contract::ids::UsageId;
use domain::Error;
use std::{collections::HashMap, sync::atomic::Ordering};
use store::ledger::{Entry, Settling, WriteError};

impl Writer {
    pub(super) fn tell_all(&self, batch: Vec<Waiting>, settled: &HashMap<UsageId, Settling>) {
        let mut busy = Vec::new();
        for Waiting { entry, whose } in batch {
            let settling = if entry.opens() { Settling::Done } else { *settled.get(&entry.id()).unwrap_or(&Settling::Missing) };
            match (whose, settling) {
                // Fails if nobody waits any more.
                (Whose::Caller(written), Settling::Busy) => drop(written.send(Err(lost()))),
                (Whose::Caller(written), settling) => drop(written.send(Ok(settling))),
                (Whose::Journal(place), Settling::Busy) => busy.push(Waiting { entry, whose: Whose::Journal(place) }),
                (Whose::Journal(place), Settling::Missing) => self.set_aside(place, &entry, "there is no such use"),
                (Whose::Journal(place), Settling::Before) => {
                    tracing::warn!(usage = %entry.id(), "a use was settled by somebody else first");
                    self.done(place);
                }
                (Whose::Journal(place), Settling::Done) => self.done(place),
            }
        }
        if !busy.is_empty() {
            let mut waiting = self.waiting();
            busy.into_iter().for_each(|one| waiting.push(one));
            drop(waiting);
            self.flush();
        }
    }

    fn done(&self, place: Place) {
        if let Some(Err(error)) = self.inner.journal.as_ref().map(|journal| journal.done(place)) {
            tracing::error!(%error, "a journal of the ledger that is written can neither be emptied nor removed");
        }
    }

    /// It can never be written.
    pub(super) fn reject(&self, Waiting { entry, whose }: Waiting, error: &Error) {
        match whose {
            Whose::Caller(written) => drop(written.send(Err(WriteError::Rejected(Error::internal(error.to_string()))))),
            Whose::Journal(place) => self.set_aside(place, &entry, &error.to_string()),
        }
    }

    fn set_aside(&self, place: Place, entry: &Entry, why: &str) {
        let Some(journal) = &self.inner.journal else { return };
        match journal.reject(journal.node(), entry, why) {
            Ok(()) => self.done(place),
            // It stays where it is, and the next process that finds it tries once more.
            Err(error) => {
                tracing::error!(usage = %entry.id(), %error, why, ?entry, "an entry of the ledger can neither be written nor set aside")
            }
        }
    }

    /// Nothing of it is written. What is in the journal is tried again, in its order; all who wait for the database hear of it.
    pub(super) fn fail(&self, batch: Vec<Waiting>, error: &Error) {
        if !self.inner.failing.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "the ledger cannot be written; trying again");
        }
        let mut waiting = self.waiting();
        let all = batch.into_iter().chain(waiting.take(usize::MAX)).collect::<Vec<_>>();
        for Waiting { entry, whose } in all {
            match whose {
                Whose::Caller(written) => drop(written.send(Err(lost()))),
                Whose::Journal(place) => waiting.push(Waiting { entry, whose: Whose::Journal(place) }),
            }
        }
        let left = waiting.entries();
        drop(waiting);
        self.inner.metrics.wait_for_ledger(left);
        if left > 0 {
            self.flush();
        }
    }
}

/// The database did not take it.
pub(super) fn lost() -> WriteError {
    WriteError::Failed(Error::unavailable("ledger", Some(RETRY_AFTER_S)))
}
