//! Service accounts: programs that use models.

use crate::{
    chat_sql::{all, instant, millis, one, run, sql},
    tenants,
    tx::SystemTx,
};
use contract::{
    Millis,
    ids::{ServiceAccountId, TenantId, UserId},
};
use domain::{DataClass, Error, Result};
use sea_orm::{FromQueryResult, Value};
use time::OffsetDateTime;
use uuid::Uuid;

/// A service account to be stored.
#[derive(Clone, Debug)]
pub struct NewServiceAccount {
    pub id: ServiceAccountId,
    /// Unique within the tenant, whatever the case.
    pub name: String,
    pub purpose: String,
    pub team: String,
    pub cost_center: String,
    /// Who answers for it.
    pub owner: Option<UserId>,
    /// `None`: every model of the tenant.
    pub models: Option<Vec<String>>,
    /// How closely its data is kept; `None`: as its tenant's.
    pub class: Option<DataClass>,
    pub expires_at: Option<Millis>,
    pub created_at: Millis,
}

/// A service account as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceAccount {
    pub id: ServiceAccountId,
    pub name: String,
    pub purpose: String,
    pub team: String,
    pub cost_center: String,
    /// `None`: nobody answers for it, or no longer.
    pub owner: Option<UserId>,
    /// Their address.
    pub owner_email: Option<String>,
    pub models: Option<Vec<String>>,
    pub class: Option<DataClass>,
    pub expires_at: Option<Millis>,
    pub disabled_at: Option<Millis>,
    pub created_at: Millis,
}

/// Service accounts across tenants.
#[derive(Debug)]
pub struct SystemServiceAccounts<'a> {
    tx: &'a SystemTx,
}

impl<'a> SystemServiceAccounts<'a> {
    pub(crate) fn new(tx: &'a SystemTx) -> Self {
        Self { tx }
    }

    /// Adds an account.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the name is taken; else as for any statement.
    pub async fn create(&self, tenant: TenantId, new: &NewServiceAccount) -> Result<()> {
        let statement = sql(
            "INSERT INTO service_account (tenant_id, id, name, purpose, team, cost_center, owner_id, models, expires_at, created_at,
                                          data_class)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            [
                tenant.0.into(),
                new.id.0.into(),
                new.name.as_str().into(),
                new.purpose.as_str().into(),
                new.team.as_str().into(),
                new.cost_center.as_str().into(),
                new.owner.map(|owner| owner.0).into(),
                new.models.clone().into(),
                new.expires_at.map(instant).transpose()?.into(),
                instant(new.created_at)?.into(),
                new.class.map(DataClass::name).into(),
            ],
        );
        self.tx.changed(run(self.tx.conn(), statement).await?);
        Ok(())
    }

    /// All accounts of a tenant, by name.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn list(&self, tenant: TenantId) -> Result<Vec<ServiceAccount>> {
        let rows: Vec<Row> = all(self.tx.conn(), sql(&select("ORDER BY lower(name)"), [tenant.0.into()])).await?;
        rows.into_iter().map(ServiceAccount::try_from).collect()
    }

    /// The account of this name, whatever the case.
    ///
    /// # Errors
    /// [`Error::NotFound`]; else as for any statement.
    pub async fn by_name(&self, tenant: TenantId, name: &str) -> Result<ServiceAccount> {
        let statement = sql(&select("AND lower(name) = lower($2)"), [tenant.0.into(), name.into()]);
        let row: Option<Row> = one(self.tx.conn(), statement).await?;
        row.ok_or(Error::not_found("service account"))?.try_into()
    }

    /// Keeps an account's data as closely as this class wants; `None`: as its tenant's.
    ///
    /// # Errors
    /// [`Error::NotFound`]; else as for any statement.
    pub async fn set_class(&self, tenant: TenantId, account: ServiceAccountId, class: Option<DataClass>) -> Result<()> {
        let statement = sql(
            "UPDATE service_account SET data_class = $3 WHERE tenant_id = $1 AND id = $2",
            [tenant.0.into(), account.0.into(), class.map(DataClass::name).into()],
        );
        match self.tx.changed(run(self.tx.conn(), statement).await?) {
            0 => Err(Error::not_found("service account")),
            _ => Ok(()),
        }
    }

    /// Closes (`Some`) or opens (`None`) an account with all its keys.
    ///
    /// # Errors
    /// [`Error::NotFound`]; else as for any statement.
    pub async fn set_disabled(&self, tenant: TenantId, account: ServiceAccountId, at: Option<Millis>) -> Result<()> {
        let statement = sql(
            "UPDATE service_account SET disabled_at = $3 WHERE tenant_id = $1 AND id = $2",
            [tenant.0.into(), account.0.into(), at.map(instant).transpose()?.into()],
        );
        match self.tx.changed(run(self.tx.conn(), statement).await?) {
            0 => Err(Error::not_found("service account")),
            _ => Ok(()),
        }
    }

    /// Removes an account with its keys, chats, responses, files and batches; its uses stay in the ledger. Which of its turns and
    /// responses were still being made: whoever makes them is to be told.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] with code `batches_open` if not all of its batches have ended; else as for any
    /// statement.
    pub async fn delete(&self, tenant: TenantId, account: ServiceAccountId) -> Result<Vec<Uuid>> {
        let whose = || -> [Value; 2] { [tenant.0.into(), account.0.into()] };
        // Until the end nobody adds a batch: that would have to look at this row.
        let locked = sql("SELECT id FROM service_account WHERE tenant_id = $1 AND id = $2 FOR UPDATE", whose());
        one::<IdRow>(self.tx.conn(), locked).await?.ok_or(Error::not_found("service account"))?;
        let open = sql("SELECT id FROM batch WHERE tenant_id = $1 AND account_id = $2 AND ended_at IS NULL", whose());
        let open = all::<IdRow>(self.tx.conn(), open).await?.len();
        if open > 0 {
            let message = format!("{open} of its batches have not ended. Close the account: they end then. Delete it afterwards.");
            return Err(Error::conflict("batches_open", message));
        }
        // Turns are locked first, as by whoever writes an answer down: what goes with the account would go in another order.
        let mut made: Vec<IdRow> = Vec::new();
        for running in [
            "SELECT id FROM turn WHERE tenant_id = $1 AND user_id = $2 AND status = 'running' FOR UPDATE",
            "SELECT id FROM response WHERE tenant_id = $1 AND account_id = $2 AND ended_at IS NULL",
        ] {
            made.extend(all::<IdRow>(self.tx.conn(), sql(running, whose())).await?);
        }
        // Not by the foreign key: a trigger counts their bytes, with the rights of whoever deletes them.
        run(self.tx.conn(), sql("DELETE FROM file WHERE tenant_id = $1 AND account_id = $2", whose())).await?;
        let deleted = run(self.tx.conn(), sql("DELETE FROM service_account WHERE tenant_id = $1 AND id = $2", whose())).await?;
        self.tx.changed(deleted);
        Ok(made.into_iter().map(|row| row.id).collect())
    }
}

fn select(rest: &str) -> String {
    format!(
        "SELECT id, name, purpose, team, cost_center, owner_id, models, data_class, expires_at, disabled_at, created_at,
                (SELECT u.email FROM app_user u
                 WHERE u.tenant_id = service_account.tenant_id AND u.id = service_account.owner_id) AS owner_email
         FROM service_account WHERE tenant_id = $1 {rest}"
    )
}

#[derive(FromQueryResult)]
struct IdRow {
    id: Uuid,
}

#[derive(FromQueryResult)]
struct Row {
    id: Uuid,
    name: String,
    purpose: String,
    team: String,
    cost_center: String,
    owner_id: Option<Uuid>,
    owner_email: Option<String>,
    models: Option<Vec<String>>,
    data_class: Option<String>,
    expires_at: Option<OffsetDateTime>,
    disabled_at: Option<OffsetDateTime>,
    created_at: OffsetDateTime,
}

impl TryFrom<Row> for ServiceAccount {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            id: ServiceAccountId(row.id),
            name: row.name,
            purpose: row.purpose,
            team: row.team,
            cost_center: row.cost_center,
            owner: row.owner_id.map(UserId),
            owner_email: row.owner_email,
            models: row.models,
            class: row.data_class.as_deref().map(tenants::class).transpose()?,
            expires_at: row.expires_at.map(millis),
            disabled_at: row.disabled_at.map(millis),
            created_at: millis(row.created_at),
        })
    }
}
