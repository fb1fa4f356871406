//! Organisations.

use crate::{
    chat_sql::{all, one, run, sql},
    db::Db,
    error::map,
    tx::{SystemTx, TenantTx},
};
use contract::ids::TenantId;
use domain::{DataClass, Error, Result};
use sea_orm::FromQueryResult;
use uuid::Uuid;

/// An organisation as the operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    pub id: TenantId,
    /// Its short name.
    pub slug: String,
    /// The name shown to people.
    pub name: String,
    /// What its work counts beside that of others where a worker has not enough for all: 1 to 100.
    pub weight: u16,
    /// How closely its data is kept where no service account says otherwise.
    pub class: DataClass,
}

impl Db {
    /// The weights of all tenants that have another one than 1.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn tenant_weights(&self) -> Result<Vec<(TenantId, u16)>> {
        let statement = sql("SELECT id, weight FROM tenant WHERE weight <> 1", []);
        let rows = WeightRow::find_by_statement(statement).all(self.system()).await.map_err(map)?;
        rows.into_iter().map(|row| Ok((TenantId(row.id), weight(row.weight)?))).collect()
    }
}

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

#[derive(FromQueryResult)]
struct WeightRow {
    id: Uuid,
    weight: i32,
}

#[derive(FromQueryResult)]
struct TenantRow {
    id: Uuid,
    slug: String,
    name: String,
    weight: i32,
    data_class: String,
}

impl TryFrom<TenantRow> for Tenant {
    type Error = Error;

    fn try_from(row: TenantRow) -> Result<Self> {
        Ok(Self { id: TenantId(row.id), slug: row.slug, name: row.name, weight: weight(row.weight)?, class: class(&row.data_class)? })
    }
}

/// One that this version does not know is not taken for any other.
pub(crate) fn class(stored: &str) -> Result<DataClass> {
    DataClass::named(stored).ok_or_else(|| Error::internal(format!("unknown data class {stored:?} in the database")))
}

fn weight(stored: i32) -> Result<u16> {
    u16::try_from(stored).map_err(Error::internal)
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

    /// All of them, by slug.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn list(&self) -> Result<Vec<Tenant>> {
        let rows: Vec<TenantRow> = all(self.tx.conn(), sql(&select("ORDER BY slug"), [])).await?;
        rows.into_iter().map(Tenant::try_from).collect()
    }

    /// One of them.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such tenant; else as for any statement.
    pub async fn get(&self, tenant: TenantId) -> Result<Tenant> {
        let row: Option<TenantRow> = one(self.tx.conn(), sql(&select("WHERE id = $1"), [tenant.0.into()])).await?;
        row.ok_or(Error::not_found("tenant"))?.try_into()
    }

    /// Keeps a tenant's data as closely as this class wants. Nodes learn of it as they do of keys.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such tenant; else as for any statement.
    pub async fn set_class(&self, tenant: TenantId, class: DataClass) -> Result<()> {
        let statement = sql("UPDATE tenant SET data_class = $2 WHERE id = $1", [tenant.0.into(), class.name().into()]);
        match self.tx.changed(run(self.tx.conn(), statement).await?) {
            0 => Err(Error::not_found("tenant")),
            _ => Ok(()),
        }
    }

    /// Gives a tenant this weight, 1 to 100. Nodes learn of it as they do of limits.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such tenant; else as for any statement, also for another weight.
    pub async fn set_weight(&self, tenant: TenantId, weight: u16) -> Result<()> {
        let statement = sql("UPDATE tenant SET weight = $2 WHERE id = $1", [tenant.0.into(), i32::from(weight).into()]);
        match self.tx.changed(run(self.tx.conn(), statement).await?) {
            0 => Err(Error::not_found("tenant")),
            _ => Ok(()),
        }
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

fn select(rest: &str) -> String {
    format!("SELECT id, slug, name, weight, data_class FROM tenant {rest}")
}
