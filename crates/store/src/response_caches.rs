//! Which tenants have answers kept in memory, and on which terms. The answers themselves are never in the database.

use crate::{
    chat_sql::{int, one, run, sql},
    db::Db,
    error::map,
    tx::SystemTx,
};
use contract::ids::TenantId;
use domain::{Error, Result};
use sea_orm::FromQueryResult;
use uuid::Uuid;

/// How answers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheTerms {
    /// How old an answer may be.
    pub ttl_seconds: u32,
    /// What all of them may take on each node, in MiB.
    pub memory_mib: u32,
}

impl Db {
    /// The terms of all tenants whose answers are kept.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn response_caches(&self) -> Result<Vec<(TenantId, CacheTerms)>> {
        let statement = sql("SELECT tenant_id, ttl_seconds, memory_mib FROM response_cache ORDER BY tenant_id", []);
        let rows = Row::find_by_statement(statement).all(self.system()).await.map_err(map)?;
        rows.into_iter().map(|row| Ok((TenantId(row.tenant_id), row.terms()?))).collect()
    }
}

/// Terms, for whoever administers them.
#[derive(Debug)]
pub struct SystemResponseCaches<'a> {
    tx: &'a SystemTx,
}

impl<'a> SystemResponseCaches<'a> {
    pub(crate) fn new(tx: &'a SystemTx) -> Self {
        Self { tx }
    }

    /// Those of a tenant; `None` if its answers are not kept.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn get(&self, tenant: TenantId) -> Result<Option<CacheTerms>> {
        let statement = sql("SELECT tenant_id, ttl_seconds, memory_mib FROM response_cache WHERE tenant_id = $1", [tenant.0.into()]);
        let row: Option<Row> = one(self.tx.conn(), statement).await?;
        row.map(|row| row.terms()).transpose()
    }

    /// Puts these in the place of those that there are.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn set(&self, tenant: TenantId, terms: CacheTerms) -> Result<()> {
        let statement = sql(
            "INSERT INTO response_cache (tenant_id, ttl_seconds, memory_mib) VALUES ($1, $2, $3)
             ON CONFLICT (tenant_id) DO UPDATE SET ttl_seconds = $2, memory_mib = $3, changed_at = now()",
            [tenant.0.into(), int(terms.ttl_seconds).into(), int(terms.memory_mib).into()],
        );
        self.tx.changed(run(self.tx.conn(), statement).await?);
        Ok(())
    }

    /// Takes them away: nothing is kept any more.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there are none; else as for any statement.
    pub async fn remove(&self, tenant: TenantId) -> Result<()> {
        let statement = sql("DELETE FROM response_cache WHERE tenant_id = $1", [tenant.0.into()]);
        match self.tx.changed(run(self.tx.conn(), statement).await?) {
            0 => Err(Error::not_found("response cache")),
            _ => Ok(()),
        }
    }
}

#[derive(FromQueryResult)]
struct Row {
    tenant_id: Uuid,
    ttl_seconds: i32,
    memory_mib: i32,
}

impl Row {
    fn terms(&self) -> Result<CacheTerms> {
        let number = |number: i32| u32::try_from(number).map_err(Error::internal);
        Ok(CacheTerms { ttl_seconds: number(self.ttl_seconds)?, memory_mib: number(self.memory_mib)? })
    }
}
