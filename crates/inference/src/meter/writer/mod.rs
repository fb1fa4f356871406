//! Writes the ledger, many uses in one statement.
//!
//! With a journal, an entry counts once it is in there, and a task writes what came within a moment into the ledger, spread
//! over the next such moment (`pace`), a use that is over by then as one (`gathered`). Without a journal, or while the database
//! does not keep up, whoever has something to write puts it into the queue and waits for a turn; who gets the turn writes all
//! that lies there. So a lone use waits for one statement, and many at once share few.

mod adopt;
mod batch;
mod gathered;
mod outcome;
mod pace;

use super::journal::Journal;
use crate::observe::Metrics;
use domain::Result;
use gathered::{Gathered, Waiting, Whose};
use outcome::lost;
use pace::Pace;
use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use store::{
    Db,
    ledger::{Entry, Settling, WriteError},
};
use tokio::{
    sync::{
        Mutex as Turn, Notify,
        oneshot::{self, error::TryRecvError},
    },
    time::{Instant, timeout},
};
use tokio_util::task::TaskTracker;

/// Uses in one statement, however many wait.
const MOST: usize = 1000;
/// Entries that may wait for the database before whoever comes waits with them.
const BEHIND: usize = 50_000;
/// So many uses are not kept waiting.
const ENOUGH: usize = 2 * MOST;
/// Pause after the database did not take what was in the journal; doubles each time, up to the longest.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// See the module. Clones share the queue.
#[derive(Clone)]
pub(super) struct Writer {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    tracker: TaskTracker,
    journal: Option<Journal>,
    waiting: Mutex<Gathered>,
    /// Held while somebody writes.
    turn: Turn<()>,
    metrics: Metrics,
    /// A task is about to write what is in the journal.
    flushing: AtomicBool,
    /// That task is not to wait, neither for more nor for the database.
    hurry: Notify,
    /// [`ENOUGH`] uses wait, and it was told to hurry because of them.
    crowded: AtomicBool,
    /// The database did not take the last entries.
    failing: AtomicBool,
}

impl Writer {
    pub(super) fn new(db: Db, tracker: TaskTracker, metrics: Metrics, journal: Option<Journal>) -> Self {
        let inner = Inner {
            db,
            tracker,
            journal,
            waiting: Mutex::default(),
            turn: Turn::new(()),
            metrics,
            flushing: AtomicBool::new(false),
            hurry: Notify::new(),
            crowded: AtomicBool::new(false),
            failing: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Writes it into the journal, if there is one and the database keeps up; [`Writer::write`] otherwise.
    ///
    /// # Errors
    /// As for any statement.
    pub(super) async fn open(&self, entry: Entry) -> Result<()> {
        let keeps_up = !self.is_failing() && self.waiting().entries() < BEHIND;
        match if keeps_up { self.keep(entry) } else { Some(entry) } {
            Some(entry) => Ok(self.write(entry).await.map(drop)?),
            None => Ok(()),
        }
    }

    /// Writes it into the journal, from where it gets into the ledger later. Returns it if there is no journal, or no room
    /// for it.
    pub(super) fn keep(&self, entry: Entry) -> Option<Entry> {
        let Some(journal) = &self.inner.journal else { return Some(entry) };
        // In one step, or the ledger might be told of an end before its beginning.
        let mut waiting = self.waiting();
        match journal.append(&entry) {
            Ok(place) => waiting.push(Waiting { entry, whose: Whose::Journal(place) }),
            Err(error) => {
                tracing::error!(%error, "the journal of the ledger cannot be written; writing to the database at once");
                return Some(entry);
            }
        }
        // By one of them alone: those that follow come with it or are not enough.
        let enough = waiting.uses() >= ENOUGH && !self.inner.crowded.swap(true, Ordering::Relaxed);
        drop(waiting);
        self.flush();
        if enough {
            self.hurry();
        }
        None
    }

    /// Writes it into the ledger and tells what became of it.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub(super) async fn write(&self, entry: Entry) -> Result<Settling, WriteError> {
        let (written, mut told) = oneshot::channel();
        self.waiting().push(Waiting { entry, whose: Whose::Caller(written) });
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
                Err(TryRecvError::Empty) => self.write_some(MOST).await,
            }
        }
    }

    /// What is in the journal is written now, unless the database does not take it.
    pub(super) fn hurry(&self) {
        self.inner.hurry.notify_one();
    }

    /// Sees to it that what is in the journal is written.
    fn flush(&self) {
        if !self.inner.flushing.swap(true, Ordering::SeqCst) {
            let writer = self.clone();
            self.inner.tracker.spawn(async move { writer.flush_all().await });
        }
    }

    async fn flush_all(&self) {
        let (mut pause, mut pace) = (PAUSE, Pace::begun(Instant::now()));
        loop {
            let failing = self.is_failing();
            let patience = if failing { pause } else { pace.pause(Instant::now()) };
            let hurried = timeout(patience, self.inner.hurry.notified()).await.is_ok();
            {
                let _turn = self.inner.turn.lock().await;
                let uses = self.waiting().uses();
                // What piled up while the database took nothing has waited long enough, too.
                let due = if hurried || failing { uses } else { pace.due(Instant::now(), uses) };
                self.write_due(due).await;
            }
            self.thin_out();
            if self.is_failing() && self.inner.tracker.is_closed() {
                tracing::warn!("the process ends before the database takes its journal; the next one writes it");
                return;
            }
            pause = if self.is_failing() { (pause * 2).min(LONGEST_PAUSE) } else { PAUSE };
            if self.waiting().is_empty() {
                self.inner.flushing.store(false, Ordering::SeqCst);
                // Somebody may have come in between and relied on this task.
                if self.waiting().is_empty() || self.inner.flushing.swap(true, Ordering::SeqCst) {
                    return;
                }
            }
        }
    }

    /// Where fewer than [`ENOUGH`] uses wait, the next one that makes them enough tells to hurry again. Room for a rush of them
    /// is given back.
    fn thin_out(&self) {
        let mut waiting = self.waiting();
        if waiting.is_empty() {
            waiting.shrink_to(MOST / 8);
        }
        if waiting.uses() < ENOUGH {
            self.inner.crowded.store(false, Ordering::Relaxed);
        }
    }

    fn is_failing(&self) -> bool {
        self.inner.failing.load(Ordering::Relaxed)
    }

    fn waiting(&self) -> MutexGuard<'_, Gathered> {
        self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("waiting", &self.waiting().entries()).finish_non_exhaustive()
    }
}
