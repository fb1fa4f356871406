//! Batches as their accounts see them; how they are worked off is in [`crate::batch_runs`].

use crate::{
    chat_sql::{all, count, instant, millis, one, run, sql},
    files::Slice,
    tx::TenantTx,
};
use contract::{
    Millis,
    ids::{ApiKeyId, BatchId, FileId, ServiceAccountId},
};
use domain::{DataClass, Error, Result};
use sea_orm::FromQueryResult;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use time::OffsetDateTime;
use uuid::Uuid;

/// How far a batch is, in OpenAI's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchStatus {
    /// Its lines are read and checked, or wait for that.
    Validating,
    InProgress,
    /// The results are written into files.
    Finalizing,
    Completed,
    Failed,
    Expired,
    /// An end was asked for.
    Cancelling,
    Cancelled,
}

impl BatchStatus {
    const ALL: [Self; 8] = [
        Self::Validating,
        Self::InProgress,
        Self::Finalizing,
        Self::Completed,
        Self::Failed,
        Self::Expired,
        Self::Cancelling,
        Self::Cancelled,
    ];

    /// Its name in the database and for clients.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Validating => "validating",
            Self::InProgress => "in_progress",
            Self::Finalizing => "finalizing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Cancelling => "cancelling",
            Self::Cancelled => "cancelled",
        }
    }

    /// Nothing more happens to it.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Expired | Self::Cancelled)
    }
}

/// A batch to be stored.
#[derive(Clone, Debug)]
pub struct NewBatch {
    pub id: BatchId,
    pub account: ServiceAccountId,
    /// In whose name its lines run.
    pub key: ApiKeyId,
    pub endpoint: String,
    pub input: FileId,
    pub metadata: Value,
    /// Its lines are of this class at least.
    pub class: DataClass,
    /// Bytes that are set aside for what it writes, until it ends; its files take from them ([`crate::files`]).
    pub reserved: u64,
    pub created_at: Millis,
    pub expires_at: Millis,
}

/// Why a batch failed, or a line of its input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchError {
    pub code: String,
    pub message: String,
    pub param: Option<String>,
    /// Of the input, counted from 1.
    pub line: Option<u32>,
}

/// A batch as its account sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub id: BatchId,
    pub endpoint: String,
    pub input: FileId,
    pub output: Option<FileId>,
    pub error: Option<FileId>,
    pub status: BatchStatus,
    pub metadata: BTreeMap<String, String>,
    /// What is wrong with its input, or with its key.
    pub errors: Vec<BatchError>,
    /// Lines: of the input, answered, refused or failed.
    pub total: u32,
    pub completed: u32,
    pub failed: u32,
    pub created_at: Millis,
    pub in_progress_at: Option<Millis>,
    pub finalizing_at: Option<Millis>,
    pub cancelling_at: Option<Millis>,
    pub ended_at: Option<Millis>,
    pub expires_at: Millis,
}

/// Repository of batches. Every query names the owner; a foreign row does not exist.
#[derive(Debug)]
pub struct Batches<'a> {
    tx: &'a TenantTx,
}

/// What [`Row`] is made of.
const COLUMNS: &str =
    "id, endpoint, input_file_id, output_file_id, error_file_id, status, metadata, errors, total, completed, failed, created_at,
                       in_progress_at, finalizing_at, cancelling_at, ended_at, expires_at";

#[derive(FromQueryResult)]
struct Row {
    id: Uuid,
    endpoint: String,
    input_file_id: Uuid,
    output_file_id: Option<Uuid>,
    error_file_id: Option<Uuid>,
    status: String,
    metadata: Value,
    errors: Value,
    total: i32,
    completed: i32,
    failed: i32,
    created_at: OffsetDateTime,
    in_progress_at: Option<OffsetDateTime>,
    finalizing_at: Option<OffsetDateTime>,
    cancelling_at: Option<OffsetDateTime>,
    ended_at: Option<OffsetDateTime>,
    expires_at: OffsetDateTime,
}

#[derive(FromQueryResult)]
struct OpenRow {
    open: i64,
}

impl TryFrom<Row> for Batch {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            id: row.id.into(),
            endpoint: row.endpoint,
            input: row.input_file_id.into(),
            output: row.output_file_id.map(Into::into),
            error: row.error_file_id.map(Into::into),
            status: status(&row.status)?,
            metadata: serde_json::from_value(row.metadata).map_err(Error::internal)?,
            errors: serde_json::from_value(row.errors).map_err(Error::internal)?,
            total: count(row.total),
            completed: count(row.completed),
            failed: count(row.failed),
            created_at: millis(row.created_at),
            in_progress_at: row.in_progress_at.map(millis),
            finalizing_at: row.finalizing_at.map(millis),
            cancelling_at: row.cancelling_at.map(millis),
            ended_at: row.ended_at.map(millis),
            expires_at: millis(row.expires_at),
        })
    }
}

impl<'a> Batches<'a> {
    pub(crate) fn new(tx: &'a TenantTx) -> Self {
        Self { tx }
    }

    /// Stores a batch that waits for its validation.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn insert(&self, new: &NewBatch) -> Result<()> {
        let statement = sql(
            "INSERT INTO batch (tenant_id, id, account_id, key_id, endpoint, input_file_id, status, metadata, created_at, expires_at,
               reserved_bytes, data_class)
             VALUES (app_tenant(), $1, $2, $3, $4, $5, 'validating', $6, $7, $8, $9, $10)",
            [
                new.id.0.into(),
                new.account.0.into(),
                new.key.0.into(),
                new.endpoint.as_str().into(),
                new.input.0.into(),
                new.metadata.clone().into(),
                instant(new.created_at)?.into(),
                instant(new.expires_at)?.into(),
                i64::try_from(new.reserved).unwrap_or(i64::MAX).into(),
                new.class.name().into(),
            ],
        );
        run(self.tx.conn(), statement).await.map(drop)
    }

    /// How many batches of the account have not ended. Until the transaction's end nobody else is told: so who adds one then
    /// adds no more than there may be.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn open(&self, account: ServiceAccountId) -> Result<u64> {
        let alone = sql("SELECT pg_advisory_xact_lock(hashtextextended('batches of ' || $1::text, 0))", [account.0.into()]);
        run(self.tx.conn(), alone).await?;
        let statement = sql("SELECT count(*) AS open FROM batch WHERE account_id = $1 AND ended_at IS NULL", [account.0.into()]);
        let row: Option<OpenRow> = one(self.tx.conn(), statement).await?;
        Ok(row.map_or(0, |row| u64::try_from(row.open).unwrap_or(0)))
    }

    /// One batch of the account.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn get(&self, account: ServiceAccountId, id: BatchId) -> Result<Option<Batch>> {
        let text = format!("SELECT {COLUMNS} FROM batch WHERE id = $1 AND account_id = $2");
        let row: Option<Row> = one(self.tx.conn(), sql(&text, [id.0.into(), account.0.into()])).await?;
        row.map(Batch::try_from).transpose()
    }

    /// Batches of the account, by the time when they were made.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn list(&self, account: ServiceAccountId, slice: Slice<BatchId>) -> Result<Vec<Batch>> {
        // Ids are ordered by time.
        let (behind, order) = if slice.ascending { (">", "ASC") } else { ("<", "DESC") };
        let text = format!(
            "SELECT {COLUMNS} FROM batch WHERE account_id = $1 AND ($2::uuid IS NULL OR id {behind} $2) ORDER BY id {order} LIMIT $3"
        );
        let values = [account.0.into(), slice.after.map(|id| id.0).into(), i64::from(slice.limit).into()];
        let rows: Vec<Row> = all(self.tx.conn(), sql(&text, values)).await?;
        rows.into_iter().map(Batch::try_from).collect()
    }

    /// Asks whoever is at the batch to end it; `false` if the account has no such batch that could still be ended.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn request_cancel(&self, account: ServiceAccountId, id: BatchId, at: Millis) -> Result<bool> {
        let statement = sql(
            "UPDATE batch SET status = 'cancelling', cancelling_at = $3, waits_until = NULL
             WHERE id = $1 AND account_id = $2 AND status IN ('validating', 'in_progress')",
            [id.0.into(), account.0.into(), instant(at)?.into()],
        );
        Ok(run(self.tx.conn(), statement).await? > 0)
    }
}

pub(crate) fn status(text: &str) -> Result<BatchStatus> {
    let known = BatchStatus::ALL.into_iter().find(|status| status.name() == text);
    known.ok_or_else(|| Error::internal(format!("unknown status {text:?} of a batch in the database")))
}
