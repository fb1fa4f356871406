//! Organisations.

use crate::{
    chat_sql::{one, run, sql},
    tx::{SystemTx, TenantTx},
};
use contract::ids::TenantId;
use domain::{Error, Result};
use sea_orm::FromQueryResult;
use uuid::Uuid;

/// The transaction's own tenant.
#[derive(Debug)]
pub struct Tenants<'a> {
    tx: &'a TenantTx,
}

#[derive(FromQueryResult)]
struct NameRow {
    name: String,
}

#[derive(FromQueryResult)]
struct IdRow {
    id: Uuid,
}

impl<'a> Tenants<'a> {
    pub(crate) fn new(tx: &'a TenantTx) -> Self {
        Self { tx }
    }

    /// The name shown to people.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the tenant is gone; else as for any statement.
    pub async fn name(&self) -> Result<String> {
        let row: Option<NameRow> = one(self.tx.conn(), sql("SELECT name FROM tenant WHERE id = $1", [self.tx.tenant().0.into()])).await?;
        Ok(row.ok_or(Error::not_found("tenant"))?.name)
    }
}

/// All tenants.
#[derive(Debug)]
pub struct SystemTenants<'a> {
    tx: &'a SystemTx,
}

impl<'a> SystemTenants<'a> {
    pub(crate) fn new(tx: &'a SystemTx) -> Self {
        Self { tx }
    }

    /// Adds a tenant. `slug` is its short name in commands and addresses: lower case letters, digits, hyphens.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the slug is taken; else as for any statement.
    pub async fn create(&self, id: TenantId, slug: &str, name: &str) -> Result<()> {
        let statement = sql("INSERT INTO tenant (id, slug, name) VALUES ($1, $2, $3)", [id.0.into(), slug.into(), name.into()]);
        self.tx.changed(run(self.tx.conn(), statement).await?);
        Ok(())
    }

    /// The tenant with this slug.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn by_slug(&self, slug: &str) -> Result<Option<TenantId>> {
        let row: Option<IdRow> = one(self.tx.conn(), sql("SELECT id FROM tenant WHERE slug = $1", [slug.into()])).await?;
        Ok(row.map(|row| TenantId(row.id)))
    }

    /// There is at least one tenant: this is not the first start.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn any(&self) -> Result<bool> {
        let row: Option<IdRow> = one(self.tx.conn(), sql("SELECT id FROM tenant LIMIT 1", [])).await?;
        Ok(row.is_some())
    }
}
