//! Files of programs, in pieces. The pieces of one file are read and written one by one: no statement moves a whole file.

use crate::{
    chat_sql::{all, instant, millis, one, run, sql},
    tx::{SystemTx, TenantTx},
};
use contract::{
    Millis,
    ids::{BatchId, FileId, ServiceAccountId},
};
use domain::{Error, Result};
use sea_orm::FromQueryResult;
use time::OffsetDateTime;
use uuid::Uuid;

/// Files that the purge removes at a time, and the bytes that more than one of them may have together: their pieces go
/// with them, which takes a while.
const PURGED_AT_A_TIME: i64 = 100;
const BYTES_PURGED_AT_A_TIME: i64 = 200 << 20;

/// What a file is for, in OpenAI's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilePurpose {
    Assistants,
    /// Requests of a batch.
    Batch,
    /// Answers of a batch.
    BatchOutput,
    Evals,
    FineTune,
    UserData,
    Vision,
}

impl FilePurpose {
    const ALL: [Self; 7] = [Self::Assistants, Self::Batch, Self::BatchOutput, Self::Evals, Self::FineTune, Self::UserData, Self::Vision];

    /// Its name in the database and for clients.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Assistants => "assistants",
            Self::Batch => "batch",
            Self::BatchOutput => "batch_output",
            Self::Evals => "evals",
            Self::FineTune => "fine-tune",
            Self::UserData => "user_data",
            Self::Vision => "vision",
        }
    }

    /// The purpose of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.name() == name)
    }
}

/// An upload that begins.
#[derive(Clone, Debug)]
pub struct NewFile {
    pub id: FileId,
    pub account: ServiceAccountId,
    pub filename: String,
    pub created_at: Millis,
    /// Whose answers it will have: it takes from the room that was set aside for this batch.
    pub batch: Option<BatchId>,
}

/// What makes an upload a file.
#[derive(Clone, Copy, Debug)]
pub struct FileEnd {
    pub purpose: FilePurpose,
    pub sha256: [u8; 32],
    pub expires_at: Option<Millis>,
}

/// A file as stored, without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    pub id: FileId,
    pub filename: String,
    pub purpose: FilePurpose,
    pub bytes: u64,
    pub sha256: [u8; 32],
    pub created_at: Millis,
    pub expires_at: Option<Millis>,
}

/// Which page of a list.
#[derive(Clone, Copy, Debug)]
pub struct Slice<T> {
    /// Begin behind this one.
    pub after: Option<T>,
    pub limit: u32,
    /// Oldest first.
    pub ascending: bool,
}

/// Repository of files. Where a query names no owner, the caller has checked it, or the file is its own upload.
#[derive(Debug)]
pub struct Files<'a> {
    tx: &'a TenantTx,
}

#[derive(FromQueryResult)]
struct Row {
    id: Uuid,
    filename: String,
    purpose: String,
    bytes: i64,
    sha256: Vec<u8>,
    created_at: OffsetDateTime,
    expires_at: Option<OffsetDateTime>,
}

impl TryFrom<Row> for StoredFile {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let purpose = FilePurpose::named(&row.purpose);
        Ok(Self {
            id: row.id.into(),
            filename: row.filename,
            purpose: purpose.ok_or_else(|| Error::internal(format!("unknown purpose {:?} of a file in the database", row.purpose)))?,
            bytes: u64::try_from(row.bytes).unwrap_or(0),
            sha256: row.sha256.try_into().map_err(|_| Error::internal("a file's hash is not 32 bytes long"))?,
            created_at: millis(row.created_at),
            expires_at: row.expires_at.map(millis),
        })
    }
}

#[derive(FromQueryResult)]
struct BytesRow {
    bytes: i64,
}

#[derive(FromQueryResult)]
struct ChunkRow {
    bytes: Vec<u8>,
}

impl<'a> Files<'a> {
    pub(crate) fn new(tx: &'a TenantTx) -> Self {
        Self { tx }
    }

    /// Begins an upload. Nobody sees it before [`Self::complete`].
    ///
    /// # Errors
    /// Those of the database.
    pub async fn begin(&self, new: &NewFile) -> Result<()> {
        let statement = sql(
            "INSERT INTO file (tenant_id, id, account_id, filename, created_at, batch_id) VALUES (app_tenant(), $1, $2, $3, $4, $5)",
            [
                new.id.0.into(),
                new.account.0.into(),
                new.filename.as_str().into(),
                instant(new.created_at)?.into(),
                new.batch.map(|id| id.0).into(),
            ],
        );
        run(self.tx.conn(), statement).await.map(drop)
    }

    /// Adds the piece of this number, counted from 0, to an upload.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such upload; else those of the database.
    pub async fn append(&self, id: FileId, number: i32, bytes: Vec<u8>) -> Result<()> {
        let length = i64::try_from(bytes.len()).map_err(Error::internal)?;
        let grown = sql("UPDATE file SET bytes = bytes + $2 WHERE id = $1 AND sha256 IS NULL", [id.0.into(), length.into()]);
        if run(self.tx.conn(), grown).await? == 0 {
            return Err(Error::not_found("upload"));
        }
        let piece = sql(
            "INSERT INTO file_chunk (tenant_id, file_id, number, bytes) VALUES (app_tenant(), $1, $2, $3)",
            [id.0.into(), number.into(), bytes.into()],
        );
        run(self.tx.conn(), piece).await.map(drop)
    }

    /// Makes an upload a file.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such upload; else those of the database.
    pub async fn complete(&self, id: FileId, end: &FileEnd) -> Result<()> {
        let statement = sql(
            "UPDATE file SET purpose = $2, sha256 = $3, expires_at = $4 WHERE id = $1 AND sha256 IS NULL",
            [id.0.into(), end.purpose.name().into(), end.sha256.to_vec().into(), end.expires_at.map(instant).transpose()?.into()],
        );
        match run(self.tx.conn(), statement).await? {
            0 => Err(Error::not_found("upload")),
            _ => Ok(()),
        }
    }

    /// Removes an upload that did not come to its end.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn discard(&self, id: FileId) -> Result<()> {
        let statement = sql("DELETE FROM file WHERE id = $1 AND sha256 IS NULL", [id.0.into()]);
        run(self.tx.conn(), statement).await.map(drop)
    }

    /// Keeps others from changing what [`Self::total`] sums up until the transaction's end. Whoever has changed a file in it
    /// does so already. Files and batches that it locks must be locked before.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn hold_total(&self) -> Result<()> {
        let statement = sql(
            "INSERT INTO file_total AS t (tenant_id, bytes) VALUES (app_tenant(), 0)
             ON CONFLICT (tenant_id) DO UPDATE SET bytes = t.bytes",
            [],
        );
        run(self.tx.conn(), statement).await.map(drop)
    }

    /// Bytes of all files and uploads of the tenant, and what its batches have left of what was set aside for them: an upload
    /// of theirs that is removed gives its room back. Whoever has changed a file in this transaction keeps others from doing
    /// so until its end.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn total(&self) -> Result<u64> {
        let statement = sql(
            "SELECT (coalesce((SELECT bytes FROM file_total WHERE tenant_id = app_tenant()), 0)
               + coalesce((SELECT sum(greatest(0, b.reserved_bytes - coalesce((
                   SELECT sum(f.bytes) FROM file f WHERE f.tenant_id = b.tenant_id AND f.batch_id = b.id), 0)))
                 FROM batch b WHERE b.ended_at IS NULL), 0))::bigint AS bytes",
            [],
        );
        let row: Option<BytesRow> = one(self.tx.conn(), statement).await?;
        Ok(row.map_or(0, |row| u64::try_from(row.bytes).unwrap_or(0)))
    }

    /// One file of the account.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn get(&self, account: ServiceAccountId, id: FileId) -> Result<Option<StoredFile>> {
        let statement = sql(
            "SELECT id, filename, purpose, bytes, sha256, created_at, expires_at FROM file
             WHERE id = $1 AND account_id = $2 AND sha256 IS NOT NULL",
            [id.0.into(), account.0.into()],
        );
        one::<Row>(self.tx.conn(), statement).await?.map(StoredFile::try_from).transpose()
    }

    /// Files of the account, by the time when they were brought.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn list(&self, account: ServiceAccountId, purpose: Option<FilePurpose>, slice: Slice<FileId>) -> Result<Vec<StoredFile>> {
        // Ids are ordered by time.
        let (behind, order) = if slice.ascending { (">", "ASC") } else { ("<", "DESC") };
        let text = format!(
            "SELECT id, filename, purpose, bytes, sha256, created_at, expires_at FROM file
             WHERE account_id = $1 AND sha256 IS NOT NULL AND ($2::text IS NULL OR purpose = $2) AND ($3::uuid IS NULL OR id {behind} $3)
             ORDER BY id {order} LIMIT $4"
        );
        let values =
            [account.0.into(), purpose.map(FilePurpose::name).into(), slice.after.map(|id| id.0).into(), i64::from(slice.limit).into()];
        let rows = all::<Row>(self.tx.conn(), sql(&text, values)).await?;
        rows.into_iter().map(StoredFile::try_from).collect()
    }

    /// The piece of this number; `None` behind the last one.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn chunk(&self, id: FileId, number: i32) -> Result<Option<Vec<u8>>> {
        let statement = sql("SELECT bytes FROM file_chunk WHERE file_id = $1 AND number = $2", [id.0.into(), number.into()]);
        Ok(one::<ChunkRow>(self.tx.conn(), statement).await?.map(|row| row.bytes))
    }

    /// Removes a file; `false` if the account has no such file.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn delete(&self, account: ServiceAccountId, id: FileId) -> Result<bool> {
        let statement = sql("DELETE FROM file WHERE id = $1 AND account_id = $2 AND sha256 IS NOT NULL", [id.0.into(), account.0.into()]);
        Ok(run(self.tx.conn(), statement).await? > 0)
    }
}

/// Files of all tenants, for the jobs. The system login cannot read what is in them.
#[derive(Debug)]
pub struct SystemFiles<'a> {
    tx: &'a SystemTx,
}

impl<'a> SystemFiles<'a> {
    pub(crate) fn new(tx: &'a SystemTx) -> Self {
        Self { tx }
    }

    /// Removes files whose time was over at `now`, and uploads that began before `begun` and never ended; some at a time,
    /// as many as one transaction can. How many: there may be more until it is 0.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn purge(&self, now: Millis, begun: Millis) -> Result<u64> {
        let statement = sql(
            "DELETE FROM file WHERE (tenant_id, id) IN (
               SELECT tenant_id, id FROM (
                 SELECT tenant_id, id, row_number() OVER own AS place, sum(bytes) OVER own AS together FROM (
                   SELECT tenant_id, id, bytes FROM file WHERE expires_at < $1 OR (sha256 IS NULL AND created_at < $2) LIMIT $3
                 ) AS past WINDOW own AS (ORDER BY tenant_id, id)
               ) AS summed WHERE place = 1 OR together <= $4)",
            [instant(now)?.into(), instant(begun)?.into(), PURGED_AT_A_TIME.into(), BYTES_PURGED_AT_A_TIME.into()],
        );
        Ok(self.tx.changed(run(self.tx.conn(), statement).await?))
    }
}
