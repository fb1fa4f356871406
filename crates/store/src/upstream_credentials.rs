//! Keys of upstreams, as they are sealed. What is in a seal is not known here.

use crate::{
    chat_sql::{all, millis, run, sql},
    db::Db,
    error::map,
    tx::SystemTx,
};
use contract::Millis;
use domain::{Error, Result};
use sea_orm::FromQueryResult;
use time::OffsetDateTime;

/// All of them, by name.
const ALL: &str = "SELECT upstream, sealed, key_id, changed_at, changed_by FROM upstream_credentials ORDER BY upstream";

/// A key of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamCredential {
    /// The upstream's name in the configuration.
    pub upstream: String,
    pub sealed: Vec<u8>,
    /// The id of the master key that opens it.
    pub key_id: String,
    /// When it was set last.
    pub changed_at: Millis,
    /// By whom, as in the audit trail.
    pub changed_by: String,
}

impl Db {
    /// All keys, by the upstreams' names.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn upstream_credentials(&self) -> Result<Vec<UpstreamCredential>> {
        let rows = Row::find_by_statement(sql(ALL, [])).all(self.system()).await.map_err(map)?;
        Ok(rows.into_iter().map(UpstreamCredential::from).collect())
    }
}

/// Keys of upstreams, for whoever administers them.
#[derive(Debug)]
pub struct SystemUpstreamCredentials<'a> {
    tx: &'a SystemTx,
}

impl<'a> SystemUpstreamCredentials<'a> {
    pub(crate) fn new(tx: &'a SystemTx) -> Self {
        Self { tx }
    }

    /// All keys, by the upstreams' names. Until this transaction ends nobody else changes them or gets here; reading goes on.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if somebody else does not come to an end; else as for any statement.
    pub async fn locked(&self) -> Result<Vec<UpstreamCredential>> {
        run(self.tx.conn(), sql("LOCK TABLE upstream_credentials IN SHARE ROW EXCLUSIVE MODE", [])).await?;
        self.list().await
    }

    /// All keys, by the upstreams' names.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn list(&self) -> Result<Vec<UpstreamCredential>> {
        let rows: Vec<Row> = all(self.tx.conn(), sql(ALL, [])).await?;
        Ok(rows.into_iter().map(UpstreamCredential::from).collect())
    }

    /// Puts a key in the place of the upstream's.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn set(&self, upstream: &str, sealed: Vec<u8>, key_id: &str, by: &str) -> Result<()> {
        let statement = sql(
            "INSERT INTO upstream_credentials (upstream, sealed, key_id, changed_by) VALUES ($1, $2, $3, $4)
             ON CONFLICT (upstream) DO UPDATE SET sealed = $2, key_id = $3, changed_at = now(), changed_by = $4",
            [upstream.into(), sealed.into(), key_id.into(), by.into()],
        );
        self.tx.changed(run(self.tx.conn(), statement).await?);
        Ok(())
    }

    /// Keeps the same key under another seal.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the upstream has none; else as for any statement.
    pub async fn reseal(&self, upstream: &str, sealed: Vec<u8>, key_id: &str) -> Result<()> {
        let statement = sql(
            "UPDATE upstream_credentials SET sealed = $2, key_id = $3 WHERE upstream = $1",
            [upstream.into(), sealed.into(), key_id.into()],
        );
        self.found(run(self.tx.conn(), statement).await?)
    }

    /// Forgets the upstream's key.
    ///
    /// # Errors
    /// [`Error::NotFound`] if it has none; else as for any statement.
    pub async fn remove(&self, upstream: &str) -> Result<()> {
        let statement = sql("DELETE FROM upstream_credentials WHERE upstream = $1", [upstream.into()]);
        self.found(run(self.tx.conn(), statement).await?)
    }

    fn found(&self, rows: u64) -> Result<()> {
        match self.tx.changed(rows) {
            0 => Err(Error::not_found("upstream key")),
            _ => Ok(()),
        }
    }
}

#[derive(FromQueryResult)]
struct Row {
    upstream: String,
    sealed: Vec<u8>,
    key_id: String,
    changed_at: OffsetDateTime,
    changed_by: String,
}

impl From<Row> for UpstreamCredential {
    fn from(Row { upstream, sealed, key_id, changed_at, changed_by }: Row) -> Self {
        Self { upstream, sealed, key_id, changed_at: millis(changed_at), changed_by }
    }
}
