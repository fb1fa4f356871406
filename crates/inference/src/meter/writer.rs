//! Writes the ledger, many uses in one statement.
//!
//! With a journal, an entry counts once it is in there, and a task writes what came within a moment into the ledger. Without
//! one, or while the database does not keep up, whoever has something to write puts it into the queue and waits for a turn; who
//! gets the turn writes all that lies there. So a lone use waits for one statement, and many at once share few.

use super::{
    RETRY_AFTER_S,
    journal::{Journal, Orphan, Place},
};
use crate::observe::Metrics;
use contract::ids::UsageId;
use domain::{Error, Result};
use futures::future::join_all;
use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use store::{
    Db,
    ledger::{Entry, Settling, WriteError, Wrote},
};
use tokio::{
    sync::{
        Mutex as Turn, Notify,
        oneshot::{self, error::TryRecvError},
    },
    time::{Instant, timeout},
};
use tokio_util::task::TaskTracker;

/// Entries in one statement.
const MOST: usize = 2000;
/// Entries that may wait for the database before whoever comes waits with them.
const BEHIND: usize = 50_000;
/// What comes within this time after a first entry is written together with it: the longer, the more uses are opened and settled
/// by one statement, which costs half.
const GATHER: Duration = Duration::from_millis(200);
/// So many entries are not kept waiting.
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
    waiting: Mutex<VecDeque<Waiting>>,
    /// Held while somebody writes.
    turn: Turn<()>,
    metrics: Metrics,
    /// A task is about to write what is in the journal.
    flushing: AtomicBool,
    /// That task is not to wait, neither for more nor for the database.
    hurry: Notify,
    /// [`ENOUGH`] entries wait, and it was told to hurry because of them.
    crowded: AtomicBool,
    /// The database did not take the last entries.
    failing: AtomicBool,
}

struct Waiting {
    entry: Entry,
    whose: Whose,
}

enum Whose {
    /// Somebody waits to hear what became of it; of an opened use it is always done.
    Caller(oneshot::Sender<Result<Settling, WriteError>>),
    Journal(Place),
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
        let keeps_up = !self.is_failing() && self.waiting().len() < BEHIND;
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
            Ok(place) => waiting.push_back(Waiting { entry, whose: Whose::Journal(place) }),
            Err(error) => {
                tracing::error!(%error, "the journal of the ledger cannot be written; writing to the database at once");
                return Some(entry);
            }
        }
        // By one of them alone: those that follow come with it or are not enough.
        let enough = waiting.len() >= ENOUGH && !self.inner.crowded.swap(true, Ordering::Relaxed);
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
        self.waiting().push_back(Waiting { entry, whose: Whose::Caller(written) });
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
                Err(TryRecvError::Empty) => self.write_some().await,
            }
        }
    }

    /// Writes what processes left in their journals that are gone; what the database does not take now stays where it is.
    pub(super) async fn adopt(&self) {
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
        let mut pause = PAUSE;
        loop {
            let patience = if self.is_failing() { pause } else { GATHER };
            // Whether the time has come or enough entries, they are written.
            let _ = timeout(patience, self.inner.hurry.notified()).await;
            {
                let _turn = self.inner.turn.lock().await;
                let batches = self.waiting().len().div_ceil(MOST);
                for _ in 0..batches {
                    self.write_some().await;
                    if self.is_failing() {
                        break;
                    }
                }
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

    /// Where fewer than [`ENOUGH`] entries wait, the next one that makes them enough tells to hurry again. Room for a rush of them
    /// is given back.
    fn thin_out(&self) {
        let mut waiting = self.waiting();
        waiting.shrink_to(MOST / 8);
        if waiting.len() < ENOUGH {
            self.inner.crowded.store(false, Ordering::Relaxed);
        }
    }

    /// Writes as much as one statement takes. Whoever calls it has the turn.
    async fn write_some(&self) {
        let batch: Vec<Waiting> = {
            let mut waiting = self.waiting();
            let most = waiting.len().min(MOST);
            let batch = waiting.drain(..most).collect();
            self.inner.metrics.wait_for_ledger(waiting.len());
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

    fn tell_all(&self, batch: Vec<Waiting>, settled: &HashMap<UsageId, Settling>) {
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
            self.waiting().extend(busy);
            self.flush();
        }
    }

    fn done(&self, place: Place) {
        if let Some(Err(error)) = self.inner.journal.as_ref().map(|journal| journal.done(place)) {
            tracing::error!(%error, "a journal of the ledger that is written can neither be emptied nor removed");
        }
    }

    /// It can never be written.
    fn reject(&self, Waiting { entry, whose }: Waiting, error: &Error) {
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
    fn fail(&self, batch: Vec<Waiting>, error: &Error) {
        if !self.inner.failing.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "the ledger cannot be written; trying again");
        }
        let mut waiting = self.waiting();
        let all = batch.into_iter().chain(waiting.drain(..)).collect::<Vec<_>>();
        for Waiting { entry, whose } in all {
            match whose {
                Whose::Caller(written) => drop(written.send(Err(lost()))),
                Whose::Journal(place) => waiting.push_back(Waiting { entry, whose: Whose::Journal(place) }),
            }
        }
        let left = waiting.len();
        drop(waiting);
        self.inner.metrics.wait_for_ledger(left);
        if left > 0 {
            self.flush();
        }
    }

    fn is_failing(&self) -> bool {
        self.inner.failing.load(Ordering::Relaxed)
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lost() -> WriteError {
    WriteError::Failed(Error::unavailable("ledger", Some(RETRY_AFTER_S)))
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("waiting", &self.waiting().len()).finish_non_exhaustive()
    }
}
