//! One batch, from the moment that this node takes it: its lines are checked, answered (see [`super::answering`]), and written
//! into files.

use super::{
    BatchError, Endpoint, Lines,
    input::{MOST_ERRORS, MOST_LINES, Reader, Rules},
    output::{Output, line},
    patience::{StoodStill, persist},
};
use crate::{running::DEAD_AFTER_SECONDS, shared::Shared};
use contract::ids::{BatchId, RequestId, TenantId};
use domain::{Actor, Error, Result};
use std::{sync::Arc, time::Duration};
use store::{
    batch_runs::{BatchEnd, BatchLine, TakenBatch},
    batches::BatchStatus,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often a node says that it is at a batch, and hears whether an end was asked for.
const BEAT: Duration = Duration::from_secs(1);
/// Lines that are stored or read at a time, and the bytes after which it is fewer.
const LINES_STORED: usize = 200;
const BYTES_STORED: usize = 4 * 1024 * 1024;
const RESULTS_READ: u32 = 200;
const RESULT_BYTES_READ: i64 = 4 * 1024 * 1024;
/// Lines that are deleted at a time.
const LINES_DELETED: u32 = 2_000;

/// See the module.
pub(super) struct Run {
    pub(super) shared: Arc<Shared>,
    pub(super) lines: Arc<dyn Lines>,
    pub(super) parallel: usize,
    pub(super) places: Arc<Semaphore>,
    pub(super) suspects: Arc<Semaphore>,
    pub(super) stood_still: Arc<StoodStill>,
    pub(super) actor: Actor,
    pub(super) id: BatchId,
    pub(super) lease: Uuid,
}

/// Why a batch is not gone on with.
#[derive(Debug)]
pub(super) enum Outcome {
    /// All lines have their end.
    Through,
    /// Those that have none are asked again only after so long.
    Waits(Duration),
    Cancelled,
    Expired,
    /// Its input, or its key, does not allow it.
    Failed(Vec<BatchError>),
    /// Another node has it, or may have it by now.
    Lost,
}

impl Run {
    /// Works the batch off. What goes wrong is logged, and this node, or another one, takes it again.
    pub(super) async fn run(&self, stop: CancellationToken) {
        let outcome = tokio::select! {
            outcome = self.work() => outcome,
            () = stop.cancelled() => return self.give_back(Duration::ZERO, &stop).await,
        };
        match outcome {
            Ok(false) => {}
            // Whatever is being stopped: nobody else looks for them soon.
            Ok(true) => self.forget_lines().await,
            Err(error) => {
                tracing::warn!(%error, batch = %self.id, "a batch could not be gone on with; it will be tried again");
                self.give_back(Duration::from_secs(DEAD_AFTER_SECONDS.into()), &stop).await;
            }
        }
    }

    /// Whether the batch has ended.
    async fn work(&self) -> Result<bool> {
        let tx = self.shared.db.begin(&self.actor).await?;
        let taken = tx.batch_runs().take(self.id, self.lease, DEAD_AFTER_SECONDS).await?;
        tx.commit().await?;
        let Some(taken) = taken else { return Ok(false) };
        let outcome = tokio::select! {
            outcome = self.make(&taken) => outcome?,
            outcome = self.watch(&taken) => outcome,
        };
        match outcome {
            Outcome::Lost => return Err(Error::internal("its node could not say for too long that it is alive, or another one has it")),
            Outcome::Waits(wait) => return persist(|| self.release(wait)).await.map(|()| false),
            _ => {}
        }
        tokio::select! {
            closed = self.close(&taken, outcome) => closed,
            () = self.keep_alive() => Ok(false),
        }
    }

    /// Leaves the batch to whoever comes next, but not before `wait` is over. If it is not ours any more, nothing happens.
    async fn release(&self, wait: Duration) -> Result<()> {
        let tx = self.shared.db.begin(&self.actor).await?;
        tx.batch_runs().release(self.id, self.lease, wait).await?;
        tx.commit().await
    }

    /// Releases the batch however long the database is away, unless the process ends: nobody died over the lines that were
    /// being asked.
    async fn give_back(&self, wait: Duration, stop: &CancellationToken) {
        while let Err(error) = persist(|| self.release(wait)).await {
            tracing::warn!(%error, batch = %self.id, "a batch could not be given back");
            if stop.is_cancelled() {
                return;
            }
        }
    }

    async fn forget_lines(&self) {
        if let Err(error) = persist(|| forget_lines(&self.shared, self.actor.tenant(), self.id)).await {
            tracing::warn!(%error, batch = %self.id, "the lines of a batch that ended could not be deleted; the purge will");
        }
    }

    /// Ends when the batch must not be gone on with, whatever its lines do.
    async fn watch(&self, taken: &TakenBatch) -> Outcome {
        let mut heard = Instant::now();
        loop {
            match self.beat(&mut heard).await {
                None => return Outcome::Lost,
                Some(true) => return Outcome::Cancelled,
                Some(false) if self.shared.now() >= taken.expires_at => return Outcome::Expired,
                Some(false) => sleep(BEAT).await,
            }
        }
    }

    /// Ends when the batch is lost.
    async fn keep_alive(&self) {
        let mut heard = Instant::now();
        while self.beat(&mut heard).await.is_some() {
            sleep(BEAT).await;
        }
    }

    /// Says that this node is alive: `None` if the batch is lost, else whether its end was asked for. A database that is
    /// away for a moment changes nothing; after a longer one another node may have the batch.
    async fn beat(&self, heard: &mut Instant) -> Option<bool> {
        let beaten = async {
            let tx = self.shared.db.begin(&self.actor).await?;
            let cancelled = tx.batch_runs().heartbeat(self.id, self.lease).await?;
            tx.commit().await?;
            Ok::<_, Error>(cancelled)
        };
        match beaten.await {
            Ok(cancelled) => {
                *heard = Instant::now();
                cancelled
            }
            Err(error) => {
                tracing::warn!(%error, batch = %self.id, "a batch's node could not say that it is alive");
                (heard.elapsed() < Duration::from_secs(DEAD_AFTER_SECONDS.into())).then_some(false)
            }
        }
    }

    async fn make(&self, taken: &TakenBatch) -> Result<Outcome> {
        if taken.status == BatchStatus::Cancelling {
            return Ok(Outcome::Cancelled);
        }
        if self.shared.now() >= taken.expires_at {
            return Ok(Outcome::Expired);
        }
        let unknown = || Error::internal(format!("unknown endpoint {:?} of a batch in the database", taken.endpoint));
        let endpoint = Endpoint::at(&taken.endpoint).ok_or_else(unknown)?;
        // Whatever its status: whoever had it before may have died over an input with mistakes.
        if taken.in_progress_at.is_none()
            && let Some(outcome) = self.validate(taken, endpoint).await?
        {
            return Ok(outcome);
        }
        self.answer_all(taken, endpoint).await
    }

    /// In whose name lines run, if the key is still good.
    pub(super) async fn program(&self, taken: &TakenBatch, request: RequestId) -> Result<Result<Actor, BatchError>> {
        match self.shared.identity.authenticate_later(self.actor.tenant(), taken.key, request).await {
            // What the key's account brings may be guarded less by now; what was brought then is not.
            Ok(actor) => Ok(Ok(actor.raised_to(taken.class))),
            Err(Error::Unauthenticated { code, message }) => {
                let message = format!("The key that made the batch does not work any more: {message}");
                Ok(Err(BatchError { code: code.into(), message, param: None, line: None }))
            }
            Err(error) => Err(error),
        }
    }

    /// Reads the input and stores its lines; `Some` if there is nothing to go on with.
    async fn validate(&self, taken: &TakenBatch, endpoint: Endpoint) -> Result<Option<Outcome>> {
        let program = match self.program(taken, self.actor.request()).await? {
            Ok(program) => program,
            Err(error) => return Ok(Some(Outcome::Failed(vec![error]))),
        };
        let tx = self.shared.db.begin(&self.actor).await?;
        if !tx.batch_runs().clear_lines(self.id, self.lease).await? {
            return Ok(Some(Outcome::Lost));
        }
        let file = tx.files().get(taken.account, taken.input).await?;
        tx.commit().await?;
        let gone = || Outcome::Failed(vec![of_input("file_not_found", "The input file is not there any more.")]);
        let Some(file) = file else { return Ok(Some(gone())) };
        let mut rules = Rules::new(endpoint, self.shared.inference.offered(&program));
        let mut reader = Reader::new(&self.shared, &self.actor, &file);
        let (mut errors, mut waiting, mut bytes, mut number, mut total) = (Vec::new(), Vec::new(), 0, 0, 0);
        while let Some(line) = reader.next().await? {
            number += 1;
            if line.trim_ascii().is_empty() {
                continue;
            }
            total += 1;
            if total > MOST_LINES {
                errors.push(of_input("too_many_requests", &format!("A batch may have at most {MOST_LINES} requests.")));
                break;
            }
            match rules.check(number, &line) {
                Ok(line) if errors.is_empty() => {
                    bytes += line.body.len();
                    waiting.push(line);
                }
                Ok(_) => {}
                Err(error) => errors.push(error),
            }
            // What comes behind a line that has no end in sight is no line.
            if errors.len() >= MOST_ERRORS || errors.last().is_some_and(|error: &BatchError| error.code == "line_too_long") {
                break;
            }
            if (waiting.len() >= LINES_STORED || bytes >= BYTES_STORED) && !self.store(std::mem::take(&mut waiting)).await? {
                return Ok(Some(Outcome::Lost));
            }
            bytes = if waiting.is_empty() { 0 } else { bytes };
        }
        if reader.removed() {
            return Ok(Some(gone()));
        }
        if total == 0 {
            errors.push(of_input("empty_file", "The input file has no requests."));
        }
        if !errors.is_empty() {
            return Ok(Some(Outcome::Failed(errors)));
        }
        if !self.store(waiting).await? || !self.start(total).await? {
            return Ok(Some(Outcome::Lost));
        }
        Ok(None)
    }

    async fn store(&self, lines: Vec<BatchLine>) -> Result<bool> {
        if lines.is_empty() {
            return Ok(true);
        }
        let tx = self.shared.db.begin(&self.actor).await?;
        let stored = tx.batch_runs().add_lines(self.id, self.lease, lines).await?;
        tx.commit().await?;
        Ok(stored)
    }

    async fn start(&self, total: u32) -> Result<bool> {
        let tx = self.shared.db.begin(&self.actor).await?;
        let started = tx.batch_runs().start(self.id, self.lease, total, self.shared.now()).await?;
        tx.commit().await?;
        Ok(started)
    }

    /// Writes what became of the lines, and ends the batch. `false` if it is lost.
    async fn close(&self, taken: &TakenBatch, outcome: Outcome) -> Result<bool> {
        let tx = self.shared.db.begin(&self.actor).await?;
        let total = tx.batch_runs().finalize(self.id, self.lease, self.shared.now()).await?;
        tx.commit().await?;
        let Some(total) = total else { return Ok(false) };
        self.discard_output().await?;
        let output = |kind| Output::new(&self.shared, &self.actor, taken.account, (self.id, self.lease), kind);
        let (mut answers, mut failures) = (output("output"), output("error"));
        let never_run = self.write(&mut answers, &mut failures, matches!(outcome, Outcome::Expired)).await?;
        let (status, errors) = match outcome {
            Outcome::Cancelled => (BatchStatus::Cancelled, Vec::new()),
            Outcome::Failed(errors) => (BatchStatus::Failed, errors),
            Outcome::Expired if total == 0 || never_run > 0 => (BatchStatus::Expired, Vec::new()),
            // Its window closed when the last line had been answered.
            Outcome::Through | Outcome::Expired | Outcome::Waits(_) | Outcome::Lost => (BatchStatus::Completed, Vec::new()),
        };
        let tx = self.shared.db.begin(&self.actor).await?;
        let (output, error) = (answers.complete(&tx).await?, failures.complete(&tx).await?);
        let end = BatchEnd { status, output, error, errors, never_run, at: self.shared.now() };
        if !tx.batch_runs().end(self.id, self.lease, &end).await? {
            return Ok(false);
        }
        tx.commit().await?;
        answers.keep();
        failures.keep();
        tracing::info!(batch = %self.id, status = status.name(), "a batch ended");
        Ok(true)
    }

    /// Whoever had the batch before may have died over its files.
    async fn discard_output(&self) -> Result<()> {
        let tx = self.shared.db.begin(&self.actor).await?;
        let discarded = tx.batch_runs().discard_output(self.id, self.lease).await?;
        tx.commit().await?;
        if discarded > 0 {
            tracing::info!(batch = %self.id, discarded, "files of a batch that its last node had not written to their end were removed");
        }
        Ok(())
    }

    /// How many lines never ran, if those are asked for.
    async fn write(&self, answers: &mut Output, failures: &mut Output, all: bool) -> Result<u32> {
        let (mut after, mut never_run) = (0, 0);
        loop {
            let tx = self.shared.db.begin(&self.actor).await?;
            let results = tx.batch_runs().results(self.id, after, RESULTS_READ, RESULT_BYTES_READ, all).await?;
            tx.commit().await?;
            let Some(last) = results.last() else { return Ok(never_run) };
            after = last.number;
            for result in &results {
                let text = line(self.id, result)?;
                match &result.end {
                    Some(end) if (200..300).contains(&end.status) => answers.write(&text).await?,
                    Some(_) => failures.write(&text).await?,
                    None => {
                        never_run += 1;
                        failures.write(&text).await?;
                    }
                }
            }
        }
    }
}

/// Deletes the lines of a batch that has ended, some in each transaction. Whoever does so at the same time is not hindered.
pub(crate) async fn forget_lines(shared: &Shared, tenant: TenantId, id: BatchId) -> Result<()> {
    let actor = Actor::system("batches", tenant, RequestId(Uuid::now_v7()));
    loop {
        let tx = shared.db.begin(&actor).await?;
        let deleted = tx.batch_runs().delete_lines(id, LINES_DELETED).await?;
        tx.commit().await?;
        if deleted < LINES_DELETED.into() {
            return Ok(());
        }
    }
}

/// A mistake of the whole input.
fn of_input(code: &str, message: &str) -> BatchError {
    BatchError { code: code.into(), message: message.into(), param: Some("input_file_id".into()), line: None }
}
