//! The working off of batches: who is at one, its lines, what became of them.
//!
//! Whoever takes a batch gives it a lease, a number of its own, and everything that is written afterwards names it: a
//! node that was slow, and whose batch another one took, changes nothing any more. Signs of life are stamped with the
//! database's clock, because several nodes compare them.

pub use crate::batch_lines::{BatchLine, InVain, LineEnd, LineResult, WaitingLine};

use crate::{
    batches::{BatchError, BatchStatus, status},
    chat_sql::{all, instant, int, millis, one, run, sql},
    tenants,
    tx::{SystemTx, TenantTx},
};
use contract::{
    Millis,
    ids::{ApiKeyId, BatchId, FileId, ServiceAccountId, TenantId},
};
use domain::{DataClass, Error, Result};
use sea_orm::FromQueryResult;
use std::time::Duration;
use time::OffsetDateTime;
use uuid::Uuid;

/// Batches that the purge removes at a time.
const PURGED_AT_A_TIME: i64 = 1_000;

/// A batch that was taken.
#[derive(Clone, Debug)]
pub struct TakenBatch {
    pub account: ServiceAccountId,
    pub key: ApiKeyId,
    pub endpoint: String,
    pub input: FileId,
    /// Its lines are of this class at least.
    pub class: DataClass,
    pub status: BatchStatus,
    /// When its input had been checked. Before that none of its lines may run.
    pub in_progress_at: Option<Millis>,
    pub expires_at: Millis,
}

/// How a batch ended.
#[derive(Clone, Debug)]
pub struct BatchEnd {
    pub status: BatchStatus,
    pub output: Option<FileId>,
    pub error: Option<FileId>,
    pub errors: Vec<BatchError>,
    /// Lines that failed because they never ran.
    pub never_run: u32,
    pub at: Millis,
}

/// Repository of batches that are worked off. The caller is the node that is at it.
#[derive(Debug)]
pub struct BatchRuns<'a> {
    pub(crate) tx: &'a TenantTx,
}

#[derive(FromQueryResult)]
struct TakenRow {
    account_id: Uuid,
    key_id: Uuid,
    endpoint: String,
    input_file_id: Uuid,
    data_class: String,
    status: String,
    in_progress_at: Option<OffsetDateTime>,
    expires_at: OffsetDateTime,
}

#[derive(FromQueryResult)]
pub(crate) struct OwnRow {
    pub(crate) own: bool,
}

#[derive(FromQueryResult)]
struct CancelRow {
    cancelled: bool,
}

#[derive(FromQueryResult)]
struct TotalRow {
    total: i32,
}

impl<'a> BatchRuns<'a> {
    pub(crate) fn new(tx: &'a TenantTx) -> Self {
        Self { tx }
    }

    /// Takes a batch that nobody is at and whose time has come, or whose node has given no sign of life for `seconds`. What
    /// was being asked then was asked in vain. `None` if somebody else was quicker.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn take(&self, id: BatchId, lease: Uuid, seconds: u32) -> Result<Option<TakenBatch>> {
        let statement = sql(
            "UPDATE batch SET lease = $2, heartbeat_at = now(), waits_until = NULL
             WHERE id = $1 AND ended_at IS NULL AND (waits_until IS NULL OR waits_until <= now())
               AND (lease IS NULL OR heartbeat_at < now() - make_interval(secs => $3))
             RETURNING account_id, key_id, endpoint, input_file_id, data_class, status, in_progress_at, expires_at",
            [id.0.into(), lease.into(), f64::from(seconds).into()],
        );
        let Some(row) = one::<TakenRow>(self.tx.conn(), statement).await? else { return Ok(None) };
        let broken = sql("UPDATE batch_line SET breaks = breaks + 1, asked = false WHERE batch_id = $1 AND asked", [id.0.into()]);
        run(self.tx.conn(), broken).await?;
        Ok(Some(TakenBatch {
            account: row.account_id.into(),
            key: row.key_id.into(),
            endpoint: row.endpoint,
            input: row.input_file_id.into(),
            class: tenants::class(&row.data_class)?,
            status: status(&row.status)?,
            in_progress_at: row.in_progress_at.map(millis),
            expires_at: millis(row.expires_at),
        }))
    }

    /// Says that the node is alive: `None` if the batch is no longer its own, else whether an end was asked for.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn heartbeat(&self, id: BatchId, lease: Uuid) -> Result<Option<bool>> {
        let statement = sql(
            "UPDATE batch SET heartbeat_at = now() WHERE id = $1 AND lease = $2 AND ended_at IS NULL
             RETURNING status = 'cancelling' AS cancelled, set_config('synchronous_commit', 'off', true)",
            [id.0.into(), lease.into()],
        );
        Ok(one::<CancelRow>(self.tx.conn(), statement).await?.map(|row| row.cancelled))
    }

    /// Leaves the batch to whoever comes next, but not before `wait` is over, or its window. What is being asked is given up,
    /// and was not asked in vain.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn release(&self, id: BatchId, lease: Uuid, wait: Duration) -> Result<()> {
        let left = sql(
            "UPDATE batch SET lease = NULL,
               waits_until = CASE WHEN status <> 'cancelling' AND $3 > 0 THEN least(now() + make_interval(secs => $3), expires_at) END
             WHERE id = $1 AND lease = $2 AND ended_at IS NULL",
            [id.0.into(), lease.into(), wait.as_secs_f64().into()],
        );
        if run(self.tx.conn(), left).await? > 0 {
            run(self.tx.conn(), sql("UPDATE batch_line SET asked = false WHERE batch_id = $1 AND asked", [id.0.into()])).await?;
        }
        Ok(())
    }

    /// Forgets the lines that a validation found which did not come to its end. `false` if the batch is no longer the
    /// caller's.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn clear_lines(&self, id: BatchId, lease: Uuid) -> Result<bool> {
        if !self.own(id, lease).await? {
            return Ok(false);
        }
        run(self.tx.conn(), sql("DELETE FROM batch_line WHERE batch_id = $1", [id.0.into()])).await?;
        Ok(true)
    }

    /// Whether the batch is the caller's, and stays so until the transaction's end. Files are changed before it is asked.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn own(&self, id: BatchId, lease: Uuid) -> Result<bool> {
        let statement =
            sql("SELECT true AS own FROM batch WHERE id = $1 AND lease = $2 AND ended_at IS NULL FOR UPDATE", [id.0.into(), lease.into()]);
        Ok(one::<OwnRow>(self.tx.conn(), statement).await?.is_some_and(|row| row.own))
    }

    /// Its lines are valid: they can run, unless an end was asked for. `false` if the batch is no longer the caller's.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn start(&self, id: BatchId, lease: Uuid, total: u32, at: Millis) -> Result<bool> {
        let statement = sql(
            "UPDATE batch SET total = $3, in_progress_at = $4, finalizing_at = NULL,
               status = CASE WHEN status = 'cancelling' THEN status ELSE 'in_progress' END
             WHERE id = $1 AND lease = $2 AND ended_at IS NULL",
            [id.0.into(), lease.into(), int(total).into(), instant(at)?.into()],
        );
        Ok(run(self.tx.conn(), statement).await? > 0)
    }

    /// The results are being written; a batch whose end was asked for keeps saying so. How many lines it has, which is 0
    /// before its input was checked; `None` if the batch is no longer the caller's.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn finalize(&self, id: BatchId, lease: Uuid, at: Millis) -> Result<Option<u32>> {
        let statement = sql(
            "UPDATE batch SET finalizing_at = coalesce(finalizing_at, $3), status = CASE WHEN status = 'cancelling' THEN status ELSE 'finalizing' END
             WHERE id = $1 AND lease = $2 AND ended_at IS NULL RETURNING total",
            [id.0.into(), lease.into(), instant(at)?.into()],
        );
        Ok(one::<TotalRow>(self.tx.conn(), statement).await?.map(|row| number(row.total)))
    }

    /// Removes what a node that died had written of the batch's files; what was set aside for it is there again. Nothing
    /// happens if the batch is no longer the caller's. How many there were.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn discard_output(&self, id: BatchId, lease: Uuid) -> Result<u64> {
        // No lock on the batch: its signs of life would wait for the pieces. Whoever takes it meanwhile begins uploads that
        // this statement does not see.
        let statement = sql(
            "DELETE FROM file WHERE batch_id = $1 AND sha256 IS NULL
               AND EXISTS (SELECT FROM batch WHERE batch.id = $1 AND batch.lease = $2 AND batch.ended_at IS NULL)",
            [id.0.into(), lease.into()],
        );
        run(self.tx.conn(), statement).await
    }

    /// Ends a batch. The files have what became of its lines, which are to be deleted next ([`Self::delete_lines`]): not in
    /// this transaction, which keeps the tenant's other files waiting. `false` if the batch is no longer the caller's.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn end(&self, id: BatchId, lease: Uuid, end: &BatchEnd) -> Result<bool> {
        let statement = sql(
            "UPDATE batch SET status = $3, output_file_id = $4, error_file_id = $5, errors = $6, failed = failed + $7, ended_at = $8, lease = NULL
             WHERE id = $1 AND lease = $2 AND ended_at IS NULL",
            [
                id.0.into(),
                lease.into(),
                end.status.name().into(),
                end.output.map(|id| id.0).into(),
                end.error.map(|id| id.0).into(),
                serde_json::to_value(&end.errors).map_err(Error::internal)?.into(),
                int(end.never_run).into(),
                instant(end.at)?.into(),
            ],
        );
        Ok(run(self.tx.conn(), statement).await? > 0)
    }

    /// Deletes lines of a batch that has ended, at most so many. How many: there may be more until it is less than that. What
    /// is left of them goes with the batch.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn delete_lines(&self, id: BatchId, at_most: u32) -> Result<u64> {
        let statement = sql(
            "DELETE FROM batch_line WHERE batch_id = $1 AND number IN (SELECT number FROM batch_line WHERE batch_id = $1 LIMIT $2)
               AND EXISTS (SELECT FROM batch WHERE batch.id = $1 AND batch.ended_at IS NOT NULL)",
            [id.0.into(), i64::from(at_most).into()],
        );
        run(self.tx.conn(), statement).await
    }
}

/// Line numbers are never negative.
pub(crate) fn number(value: i32) -> u32 {
    u32::try_from(value).unwrap_or(0)
}

/// Batches of all tenants, for the nodes that work them off. The system login cannot read what they say.
#[derive(Debug)]
pub struct SystemBatches<'a> {
    tx: &'a SystemTx,
}

#[derive(FromQueryResult)]
struct TenantRow {
    tenant_id: Uuid,
    id: Uuid,
}

impl<'a> SystemBatches<'a> {
    pub(crate) fn new(tx: &'a SystemTx) -> Self {
        Self { tx }
    }

    /// Unfinished batches that nobody is at and whose time has come, or whose node has given no sign of life for `seconds`: of
    /// each tenant the `each` oldest ones.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn idle(&self, seconds: u32, each: u32) -> Result<Vec<(TenantId, BatchId)>> {
        let statement = sql(
            "SELECT tenant_id, id FROM (
               SELECT tenant_id, id, created_at, row_number() OVER (PARTITION BY tenant_id ORDER BY created_at, id) AS place FROM batch
               WHERE ended_at IS NULL AND (waits_until IS NULL OR waits_until <= now())
                 AND (lease IS NULL OR heartbeat_at < now() - make_interval(secs => $1))
             ) AS idle WHERE place <= $2 ORDER BY created_at, id LIMIT 100",
            [f64::from(seconds).into(), i64::from(each).into()],
        );
        let rows = all::<TenantRow>(self.tx.conn(), statement).await?;
        Ok(rows.into_iter().map(|row| (row.tenant_id.into(), row.id.into())).collect())
    }

    /// Batches that have ended and still have lines, because their node is deleting them or died before it could; at most a
    /// hundred.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn ended_with_lines(&self) -> Result<Vec<(TenantId, BatchId)>> {
        let statement = sql(
            "SELECT tenant_id, id FROM batch WHERE ended_at IS NOT NULL
               AND EXISTS (SELECT FROM batch_line WHERE batch_line.tenant_id = batch.tenant_id AND batch_line.batch_id = batch.id)
             ORDER BY ended_at LIMIT 100",
            [],
        );
        let rows = all::<TenantRow>(self.tx.conn(), statement).await?;
        Ok(rows.into_iter().map(|row| (row.tenant_id.into(), row.id.into())).collect())
    }

    /// Removes batches that ended before `before`, some at a time. How many.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn purge(&self, before: Millis) -> Result<u64> {
        let statement = sql(
            "DELETE FROM batch WHERE (tenant_id, id) IN (SELECT tenant_id, id FROM batch WHERE ended_at < $1 LIMIT $2)",
            [instant(before)?.into(), PURGED_AT_A_TIME.into()],
        );
        Ok(self.tx.changed(run(self.tx.conn(), statement).await?))
    }
}
