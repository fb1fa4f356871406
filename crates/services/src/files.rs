//! Files of programs: brought in pieces, kept in pieces, read in pieces. A file belongs to the service account that
//! brought it.

use crate::shared::Shared;
use contract::{
    Millis,
    ids::{BatchId, FileId, RequestId, ServiceAccountId},
};
use domain::{Action, Actor, Error, Result};
use futures::{StreamExt, stream, stream::BoxStream};
use sha2::{Digest, Sha256};
use std::{fmt, sync::Arc};
use store::{
    TenantTx,
    audit::AuditEvent,
    files::{FileEnd, NewFile},
};
use tokio::runtime::Handle;
use uuid::Uuid;

pub use store::files::{FilePurpose, Slice, StoredFile};

/// Bytes of a piece.
const CHUNK_BYTES: usize = 1024 * 1024;
/// Input of batches and what they made is kept this long if nobody says how long.
const BATCH_FILE_KEPT_MS: Millis = 30 * 24 * 60 * 60 * 1000;
/// What may be asked for, in seconds: an hour to 30 days.
const EXPIRY_SECONDS: std::ops::RangeInclusive<u32> = 3_600..=2_592_000;
/// Longest name, in characters.
const NAME_MAX_CHARS: usize = 255;

/// How much programs may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLimits {
    /// Bytes of one file.
    pub file: u64,
    /// Bytes of all files of a tenant together. What a batch writes counts, and is never refused, because it is paid for: so
    /// as much as its input has is set aside when it is made, and what it has written counts against that.
    pub tenant: u64,
}

impl Default for FileLimits {
    fn default() -> Self {
        Self { file: 100 << 20, tenant: 10 << 30 }
    }
}

/// Where the room for an upload comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Room {
    /// The tenant has so much; beyond that the upload is refused.
    Within(FileLimits),
    /// From what was set aside for this batch, which the caller has with this lease. It is never refused.
    SetAside { batch: BatchId, lease: Uuid },
}

/// See the module.
#[derive(Clone)]
pub struct Files {
    shared: Arc<Shared>,
    limits: FileLimits,
}

impl Files {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, limits: FileLimits::default() }
    }

    pub(crate) fn within(&self, limits: FileLimits) -> Self {
        Self { shared: self.shared.clone(), limits }
    }

    /// How much programs may keep.
    #[must_use]
    pub fn limits(&self) -> FileLimits {
        self.limits
    }

    /// Begins to take a file. Whoever drops the upload before its end leaves nothing behind.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without the scope; [`Error::Invalid`] for `file` if the tenant has no room left.
    pub async fn upload(&self, actor: &Actor, filename: &str) -> Result<Upload> {
        actor.may(Action::UseModels)?;
        self.shared.refuse_while_ending()?;
        Upload::begin(self.shared.clone(), actor.clone(), account(actor)?, filename, Room::Within(self.limits)).await
    }

    /// Makes an upload a file.
    ///
    /// # Errors
    /// [`Error::Invalid`] for `file` beyond a limit or without a byte, and for `expires_after`.
    pub async fn finish(&self, actor: &Actor, mut upload: Upload, purpose: FilePurpose, expires_after: Option<u32>) -> Result<StoredFile> {
        if expires_after.is_some_and(|seconds| !EXPIRY_SECONDS.contains(&seconds)) {
            let message = format!("expires_after must lie between {} and {} seconds.", EXPIRY_SECONDS.start(), EXPIRY_SECONDS.end());
            return Err(Error::invalid("expires_after", "out_of_range", message));
        }
        let tx = self.shared.db.begin(actor).await?;
        let asked = expires_after.map(|seconds| upload.created_at + 1000 * Millis::from(seconds));
        let file = upload.complete(&tx, purpose, asked).await?;
        let event = AuditEvent::by(actor, "file.created").target(file.id).detail("purpose", purpose.name()).detail("bytes", file.bytes);
        tx.audit().add(&event).await?;
        tx.commit().await?;
        upload.keep();
        Ok(file)
    }

    /// The account's files; one more than `slice.limit` where there are more.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without the scope.
    pub async fn list(&self, actor: &Actor, purpose: Option<FilePurpose>, slice: Slice<FileId>) -> Result<Vec<StoredFile>> {
        actor.may(Action::UseModels)?;
        let tx = self.shared.db.begin(actor).await?;
        let files = tx.files().list(account(actor)?, purpose, Slice { limit: slice.limit.saturating_add(1), ..slice }).await?;
        tx.commit().await?;
        Ok(files)
    }

    /// What a file is.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the account has no such file.
    pub async fn get(&self, actor: &Actor, id: FileId) -> Result<StoredFile> {
        actor.may(Action::UseModels)?;
        let tx = self.shared.db.begin(actor).await?;
        let file = tx.files().get(account(actor)?, id).await?.ok_or(not_found())?;
        tx.commit().await?;
        Ok(file)
    }

    /// What is in a file, piece by piece. If it is removed meanwhile, the pieces end with an error.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the account has no such file.
    pub async fn content(&self, actor: &Actor, id: FileId) -> Result<(StoredFile, BoxStream<'static, Result<Vec<u8>>>)> {
        let file = self.get(actor, id).await?;
        let start = (self.shared.clone(), actor.clone(), 0, file.bytes);
        let pieces = stream::try_unfold(start, move |(shared, actor, number, left)| async move {
            if left == 0 {
                return Ok(None);
            }
            let piece = chunk(&shared, &actor, id, number).await?.ok_or(not_found())?;
            let left = left.saturating_sub(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            Ok::<_, Error>(Some((piece, (shared, actor, number + 1, left))))
        });
        Ok((file, pieces.boxed()))
    }

    /// Removes a file.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the account has no such file.
    pub async fn delete(&self, actor: &Actor, id: FileId) -> Result<()> {
        actor.may(Action::UseModels)?;
        let tx = self.shared.db.begin(actor).await?;
        if !tx.files().delete(account(actor)?, id).await? {
            return Err(not_found());
        }
        tx.audit().add(&AuditEvent::by(actor, "file.deleted").target(id)).await?;
        tx.commit().await
    }
}

/// One piece of a file whose owner was checked.
pub(crate) async fn chunk(shared: &Shared, actor: &Actor, id: FileId, number: i32) -> Result<Option<Vec<u8>>> {
    let tx = shared.db.begin(actor).await?;
    let piece = tx.files().chunk(id, number).await?;
    tx.commit().await?;
    Ok(piece)
}

/// A file that is being brought.
pub struct Upload {
    shared: Arc<Shared>,
    actor: Actor,
    id: FileId,
    filename: String,
    created_at: Millis,
    room: Room,
    hash: Sha256,
    bytes: u64,
    /// Less than a piece.
    buffer: Vec<u8>,
    /// Of the next piece.
    number: i32,
    kept: bool,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("id", &self.id).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Upload {
    pub(crate) async fn begin(shared: Arc<Shared>, actor: Actor, account: ServiceAccountId, filename: &str, room: Room) -> Result<Self> {
        // Control characters would break the headers and lists that show the name.
        let name: String = filename.chars().filter(|c| !c.is_control()).take(NAME_MAX_CHARS).collect();
        let filename = if name.trim().is_empty() { "file".to_owned() } else { name.trim().to_owned() };
        let (id, created_at) = (FileId(Uuid::now_v7()), shared.now());
        let tx = shared.db.begin(&actor).await?;
        if let Room::Within(limits) = room {
            refuse_beyond(&tx, limits, 1, "file").await?;
        }
        let batch = match room {
            Room::Within(_) => None,
            Room::SetAside { batch, .. } => Some(batch),
        };
        tx.files().begin(&NewFile { id, account, filename: filename.clone(), created_at, batch }).await?;
        tx.commit().await?;
        let (hash, buffer) = (Sha256::new(), Vec::with_capacity(CHUNK_BYTES));
        Ok(Self { shared, actor, id, filename, created_at, room, hash, bytes: 0, buffer, number: 0, kept: false })
    }

    /// Takes what comes next.
    ///
    /// # Errors
    /// [`Error::Invalid`] for `file` beyond a limit; else those of the database.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if let Room::Within(limits) = self.room
            && self.bytes > limits.file
        {
            let message = format!("A file may have at most {} MiB.", limits.file >> 20);
            return Err(Error::invalid("file", "file_too_large", message));
        }
        self.hash.update(bytes);
        while self.buffer.len() + bytes.len() >= CHUNK_BYTES {
            let (now, later) = bytes.split_at(CHUNK_BYTES - self.buffer.len());
            self.buffer.extend_from_slice(now);
            bytes = later;
            let tx = self.shared.db.begin(&self.actor).await?;
            self.store(&tx).await?;
            tx.commit().await?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    async fn store(&mut self, tx: &TenantTx) -> Result<()> {
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK_BYTES));
        tx.files().append(self.id, self.number, piece).await?;
        // Behind the piece: until this transaction ends nobody else's counts.
        match self.room {
            Room::Within(limits) => refuse_beyond(tx, limits, 0, "file").await?,
            Room::SetAside { batch, lease } => {
                if !tx.batch_runs().own(batch, lease).await? {
                    return Err(Error::not_found("batch"));
                }
            }
        }
        self.number += 1;
        Ok(())
    }

    /// Makes it a file, as part of a transaction. Once that is committed, [`Self::keep`] it.
    pub(crate) async fn complete(&mut self, tx: &TenantTx, purpose: FilePurpose, expires_at: Option<Millis>) -> Result<StoredFile> {
        if self.bytes == 0 {
            return Err(Error::invalid("file", "empty", "The file is empty."));
        }
        if !self.buffer.is_empty() {
            self.store(tx).await?;
        }
        let of_batch = matches!(purpose, FilePurpose::Batch | FilePurpose::BatchOutput);
        let expires_at = expires_at.or_else(|| of_batch.then_some(self.created_at + BATCH_FILE_KEPT_MS));
        let sha256: [u8; 32] = std::mem::take(&mut self.hash).finalize().into();
        tx.files().complete(self.id, &FileEnd { purpose, sha256, expires_at }).await?;
        Ok(StoredFile {
            id: self.id,
            filename: self.filename.clone(),
            purpose,
            bytes: self.bytes,
            sha256,
            created_at: self.created_at,
            expires_at,
        })
    }

    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // Without a runtime the process is at its end, and the purge finds what is left.
        let (false, Ok(runtime)) = (self.kept, Handle::try_current()) else { return };
        let (shared, id) = (self.shared.clone(), self.id);
        let actor = Actor::system("upload", self.actor.tenant(), RequestId(Uuid::now_v7()));
        let discard = async move {
            let discarded = async {
                let tx = shared.db.begin(&actor).await?;
                tx.files().discard(id).await?;
                tx.commit().await
            };
            if let Err(error) = discarded.await {
                tracing::warn!(%error, file = %id, "an upload that was broken off could not be removed; the purge will");
            }
        };
        self.shared.tracker.spawn_on(discard, &runtime);
    }
}

/// Refuses what the tenant has no room for; `field` is what asks for it.
pub(crate) async fn refuse_beyond(tx: &TenantTx, limits: FileLimits, more: u64, field: &'static str) -> Result<()> {
    if tx.files().total().await?.saturating_add(more) > limits.tenant {
        let message = format!("The files of your organisation may have {} MiB together. Delete some.", limits.tenant >> 20);
        return Err(Error::invalid(field, "storage_full", message));
    }
    Ok(())
}

/// The service account that acts.
pub(crate) fn account(actor: &Actor) -> Result<ServiceAccountId> {
    actor.as_program().map(|program| program.account).ok_or_else(|| Error::forbidden("Only a program has files and batches."))
}

fn not_found() -> Error {
    Error::not_found("file")
}
