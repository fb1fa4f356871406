//! Writes the ledger, many uses in one statement.
//!
//! Whoever has something to write puts it into a queue and waits for a turn. Who gets the turn writes all that lies there;
//! what arrives meanwhile is the next one's. So a lone use waits for one statement, and many at once share few.

use contract::ids::UsageId;
use domain::{Error, Result};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use store::{
    Db,
    ledger::Settling,
    usage::{NewUsage, Settlement},
};
use tokio::{
    sync::{
        Mutex as Turn,
        oneshot::{self, error::TryRecvError},
    },
    time::Instant,
};

use super::RETRY_AFTER_S;
use crate::observe::Metrics;

/// Uses in one statement.
const MOST: usize = 500;

/// See the module. Clones share the queue.
#[derive(Clone)]
pub(super) struct Writer {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    waiting: Mutex<Vec<Waiting>>,
    /// Held while somebody writes.
    turn: Turn<()>,
    metrics: Metrics,
}

struct Waiting {
    entry: Entry,
    /// Whether this has settled it; an opened use always tells `true`.
    written: oneshot::Sender<Result<bool>>,
}

impl Waiting {
    /// Fails if nobody waits any more.
    fn tell(self, outcome: Result<&HashMap<UsageId, Settling>>) {
        let _ = self.written.send(outcome.and_then(|settled| match &self.entry {
            Entry::Open(_) => Ok(true),
            Entry::Settle(with) => match settled.get(&with.id) {
                Some(Settling::Done) => Ok(true),
                Some(Settling::Busy) => Err(lost()),
                Some(Settling::Before) | None => Ok(false),
            },
        }));
    }
}

fn lost() -> Error {
    Error::unavailable("ledger", Some(RETRY_AFTER_S))
}

enum Entry {
    Open(Box<NewUsage>),
    Settle(Box<Settlement>),
}

impl Writer {
    pub(super) fn new(db: Db, metrics: Metrics) -> Self {
        Self { inner: Arc::new(Inner { db, waiting: Mutex::default(), turn: Turn::new(()), metrics }) }
    }

    /// Opens a use.
    ///
    /// # Errors
    /// As for any statement.
    pub(super) async fn open(&self, new: NewUsage) -> Result<()> {
        self.write(Entry::Open(Box::new(new))).await.map(drop)
    }

    /// Settles a use; `false` if somebody else was first.
    ///
    /// # Errors
    /// As for any statement.
    pub(super) async fn settle(&self, with: Settlement) -> Result<bool> {
        self.write(Entry::Settle(Box::new(with))).await
    }

    async fn write(&self, entry: Entry) -> Result<bool> {
        let (written, mut told) = oneshot::channel();
        {
            let mut waiting = self.waiting();
            waiting.push(Waiting { entry, written });
            self.inner.metrics.wait_for_ledger(waiting.len());
        }
        let _turn = tokio::select! {
            biased;
            // Whoever has the turn took it along. One who did not live to see the end leaves nobody knowing whether it is written.
            outcome = &mut told => return outcome.unwrap_or_else(|_| Err(lost())),
            turn = self.inner.turn.lock() => turn,
        };
        loop {
            match told.try_recv() {
                Ok(outcome) => return outcome,
                Err(TryRecvError::Closed) => return Err(lost()),
                Err(TryRecvError::Empty) => {}
            }
            let batch: Vec<Waiting> = {
                let mut waiting = self.waiting();
                let most = waiting.len().min(MOST);
                let batch = waiting.drain(..most).collect();
                self.inner.metrics.wait_for_ledger(waiting.len());
                batch
            };
            self.write_batch(batch).await;
        }
    }

    async fn write_batch(&self, batch: Vec<Waiting>) {
        match self.write_entries(&batch).await {
            Ok(settled) => batch.into_iter().for_each(|waiting| waiting.tell(Ok(&settled))),
            // One of them is at fault, and the others must not suffer for it.
            Err(Error::Internal(_) | Error::Conflict { .. }) if batch.len() > 1 => {
                for waiting in batch {
                    let outcome = self.write_entries(std::slice::from_ref(&waiting)).await;
                    waiting.tell(outcome.as_ref().map_err(|error| Error::internal(error.to_string())));
                }
            }
            Err(error @ (Error::Internal(_) | Error::Conflict { .. })) => {
                let mut error = Some(error);
                batch.into_iter().for_each(|waiting| waiting.tell(Err(error.take().unwrap_or_else(lost))));
            }
            Err(_) => batch.into_iter().for_each(|waiting| waiting.tell(Err(lost()))),
        }
    }

    async fn write_entries(&self, batch: &[Waiting]) -> Result<HashMap<UsageId, Settling>> {
        let (mut open, mut settle) = (Vec::new(), Vec::new());
        for waiting in batch {
            match &waiting.entry {
                Entry::Open(new) => open.push(&**new),
                Entry::Settle(with) => settle.push(&**with),
            }
        }
        let began = Instant::now();
        let written = self.inner.db.write_ledger(&open, &settle).await;
        self.inner.metrics.wrote(began.elapsed(), written.is_ok());
        written
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("waiting", &self.waiting().len()).finish_non_exhaustive()
    }
}
