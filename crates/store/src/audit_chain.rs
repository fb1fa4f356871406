//! The audit trail as a chain of hashes, like the links of a hash chain in Schneier and Kelsey, *Secure Audit Logs to Support
//! Computer Forensics* (1999): whoever changes, removes or inserts an event has to make every later seal anew, which whoever
//! kept one of them notices.

use crate::{
    chat_sql::{all, millis, one, run, sql},
    tx::SystemTx,
};
use contract::Millis;
use domain::{Error, Result};
use sea_orm::{DbErr, FromQueryResult, QueryResult};
use serde_json::Value;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

/// What the first seal follows.
pub const NO_HASH: Hash = [0; 32];
/// Key of the advisory lock: one process seals at a time. The bytes of `kontor_a`.
const LOCK: i64 = i64::from_be_bytes(*b"kontor_a");
/// A transaction that adds an event is over after this long, in seconds; until then its event may still appear.
const LATE_SECONDS: f64 = 600.0;

/// A hash of the chain.
pub type Hash = [u8; 32];

/// The newest seal, or any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// From 1, without gaps.
    pub number: u64,
    pub hash: Hash,
}

/// A seal and the event it is for.
#[derive(Clone, Debug, PartialEq)]
pub struct SealedEvent {
    pub seal: Seal,
    /// `None`: the event is gone.
    pub event: Option<StoredEvent>,
}

/// An event as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredEvent {
    pub id: Uuid,
    pub tenant: Option<Uuid>,
    pub actor: String,
    pub action: String,
    pub target: String,
    /// As Postgres writes `jsonb`, which is the same for the same content.
    detail: String,
    pub request: Option<Uuid>,
    /// Microseconds since the Unix epoch.
    at_us: i64,
}

impl StoredEvent {
    /// When it happened.
    #[must_use]
    pub fn at(&self) -> Millis {
        self.at_us.div_euclid(1000)
    }

    /// Further facts.
    #[must_use]
    pub fn detail(&self) -> Value {
        serde_json::from_str(&self.detail).unwrap_or(Value::Null)
    }

    /// The hash of its seal: SHA-256 of the hash before it, its number, and all fields, each with its length before it.
    #[must_use]
    pub fn hash(&self, before: &Hash, number: u64) -> Hash {
        let mut sha = Sha256::new();
        sha.update(before);
        sha.update(number.to_be_bytes());
        sha.update(self.at_us.to_be_bytes());
        for id in [Some(self.id), self.tenant, self.request] {
            sha.update([u8::from(id.is_some())]);
            sha.update(id.unwrap_or_default().as_bytes());
        }
        for text in [&self.actor, &self.action, &self.target, &self.detail] {
            sha.update((text.len() as u64).to_be_bytes());
            sha.update(text.as_bytes());
        }
        sha.finalize().into()
    }
}

/// The chain, for the job that makes it and for whoever proves it.
#[derive(Debug)]
pub struct AuditChain<'a> {
    tx: &'a SystemTx,
}

impl<'a> AuditChain<'a> {
    pub(crate) fn new(tx: &'a SystemTx) -> Self {
        Self { tx }
    }

    /// Seals events that are not yet, oldest first, at most `most` of them. Returns how many.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn seal(&self, most: u32) -> Result<u64> {
        run(self.tx.conn(), sql("SELECT pg_advisory_xact_lock($1)", [LOCK.into()])).await?;
        let mut last = self.head().await?.unwrap_or(Seal { number: 0, hash: NO_HASH });
        let events = self.unsealed(most).await?;
        for event in &events {
            let number = last.number + 1;
            last = Seal { number, hash: event.hash(&last.hash, number) };
            let values = [signed(number)?.into(), event.id.into(), last.hash.to_vec().into()];
            run(self.tx.conn(), sql("INSERT INTO audit_seal (number, event_id, hash) VALUES ($1, $2, $3)", values)).await?;
        }
        Ok(events.len() as u64)
    }

    /// The newest seal.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn head(&self) -> Result<Option<Seal>> {
        let row: Option<SealRow> = one(self.tx.conn(), sql("SELECT number, hash FROM audit_seal ORDER BY number DESC LIMIT 1", [])).await?;
        row.map(Seal::try_from).transpose()
    }

    /// Seals beyond number `after`, with their events, by number.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn page(&self, after: u64, most: u32) -> Result<Vec<SealedEvent>> {
        let text = format!(
            "SELECT s.number, s.hash, {FIELDS}
             FROM audit_seal s LEFT JOIN audit_event e ON e.id = s.event_id WHERE s.number > $1 ORDER BY s.number LIMIT $2"
        );
        let rows: Vec<SealedRow> = all(self.tx.conn(), sql(&text, [signed(after)?.into(), i64::from(most).into()])).await?;
        rows.into_iter().map(SealedEvent::try_from).collect()
    }

    /// Events that no seal can be for any more: somebody added them behind the chain's back, or nobody seals.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn forgotten(&self) -> Result<u64> {
        let statement = sql(
            "SELECT count(*) AS number FROM audit_event e
             WHERE e.at < now() - make_interval(secs => $1) AND NOT EXISTS (SELECT 1 FROM audit_seal s WHERE s.event_id = e.id)",
            [LATE_SECONDS.into()],
        );
        let row: Option<CountRow> = one(self.tx.conn(), statement).await?;
        Ok(row.and_then(|row| u64::try_from(row.number).ok()).unwrap_or(0))
    }

    /// The oldest events without a seal; of the time before the newest sealed one only as far back as a transaction lasts.
    async fn unsealed(&self, most: u32) -> Result<Vec<StoredEvent>> {
        let text = format!(
            "SELECT {FIELDS} FROM audit_event e
             WHERE e.at >= coalesce(
                 (SELECT least(l.at, now()) FROM audit_seal s JOIN audit_event l ON l.id = s.event_id ORDER BY s.number DESC LIMIT 1)
                   - make_interval(secs => $2), '-infinity')
               AND NOT EXISTS (SELECT 1 FROM audit_seal s WHERE s.event_id = e.id)
             ORDER BY e.at, e.id LIMIT $1"
        );
        let rows: Vec<EventRow> = all(self.tx.conn(), sql(&text, [i64::from(most).into(), LATE_SECONDS.into()])).await?;
        rows.into_iter().map(|row| StoredEvent::try_from(row).map_err(Error::internal)).collect()
    }
}

/// The columns of [`EventRow`].
const FIELDS: &str = "e.id, e.tenant_id, e.actor, e.action, e.target, e.detail::text AS detail, e.request_id, e.at";

#[derive(FromQueryResult)]
struct EventRow {
    id: Option<Uuid>,
    tenant_id: Option<Uuid>,
    actor: Option<String>,
    action: Option<String>,
    target: Option<String>,
    detail: Option<String>,
    request_id: Option<Uuid>,
    at: Option<OffsetDateTime>,
}

impl TryFrom<EventRow> for StoredEvent {
    type Error = &'static str;

    fn try_from(row: EventRow) -> Result<Self, Self::Error> {
        const NULL: &str = "a column of an audit event is NULL";
        let at = row.at.ok_or(NULL)?;
        Ok(Self {
            id: row.id.ok_or(NULL)?,
            tenant: row.tenant_id,
            actor: row.actor.ok_or(NULL)?,
            action: row.action.ok_or(NULL)?,
            target: row.target.ok_or(NULL)?,
            detail: row.detail.ok_or(NULL)?,
            request: row.request_id,
            at_us: millis(at) * 1000 + i64::from(at.microsecond() % 1000),
        })
    }
}

/// A seal, and its event if that is still there.
struct SealedRow {
    seal: SealRow,
    event: EventRow,
}

impl FromQueryResult for SealedRow {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        Ok(Self { seal: SealRow::from_query_result(row, prefix)?, event: EventRow::from_query_result(row, prefix)? })
    }
}

impl TryFrom<SealedRow> for SealedEvent {
    type Error = Error;

    fn try_from(row: SealedRow) -> Result<Self> {
        let event = row.event.id.is_some().then(|| StoredEvent::try_from(row.event)).transpose().map_err(Error::internal)?;
        Ok(Self { seal: row.seal.try_into()?, event })
    }
}

#[derive(FromQueryResult)]
struct SealRow {
    number: i64,
    hash: Vec<u8>,
}

impl TryFrom<SealRow> for Seal {
    type Error = Error;

    fn try_from(row: SealRow) -> Result<Self> {
        let hash = row.hash.try_into().map_err(|_| Error::internal("a seal is not 32 bytes long"))?;
        Ok(Self { number: u64::try_from(row.number).map_err(Error::internal)?, hash })
    }
}

#[derive(FromQueryResult)]
struct CountRow {
    number: i64,
}

fn signed(number: u64) -> Result<i64> {
    i64::try_from(number).map_err(Error::internal)
}

#[cfg(test)]
mod tests {
    use super::{NO_HASH, StoredEvent};
    use uuid::Uuid;

    fn event() -> StoredEvent {
        StoredEvent {
            id: Uuid::from_u128(1),
            tenant: None,
            actor: "ab".into(),
            action: "c".into(),
            target: String::new(),
            detail: "{}".into(),
            request: None,
            at_us: 1,
        }
    }

    #[test]
    fn every_field_and_every_border_between_them_counts() {
        let hash = event().hash(&NO_HASH, 1);
        let others = [
            StoredEvent { id: Uuid::from_u128(2), ..event() },
            StoredEvent { tenant: Some(Uuid::nil()), ..event() },
            StoredEvent { actor: "a".into(), action: "bc".into(), ..event() },
            StoredEvent { target: "x".into(), ..event() },
            StoredEvent { detail: "{ }".into(), ..event() },
            StoredEvent { request: Some(Uuid::nil()), ..event() },
            StoredEvent { at_us: 2, ..event() },
        ];
        assert!(others.iter().all(|other| other.hash(&NO_HASH, 1) != hash));
        assert_ne!(event().hash(&NO_HASH, 2), hash);
        assert_ne!(event().hash(&[1; 32], 1), hash);
        assert_eq!(event().hash(&NO_HASH, 1), hash);
    }
}
