//! Guardrails of tenants, as data that another crate understands.

use crate::{
    chat_sql::{one, run, sql},
    db::Db,
    error::map,
    tx::SystemTx,
};
use contract::ids::TenantId;
use domain::{Error, Result};
use sea_orm::FromQueryResult;
use serde_json::Value;
use uuid::Uuid;

/// A tenant's guardrails.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredPolicy {
    pub tenant: TenantId,
    pub policy: Value,
}

impl Db {
    /// Those of all tenants that have any.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn guardrails(&self) -> Result<Vec<StoredPolicy>> {
        let statement = sql("SELECT tenant_id, policy FROM guardrail_policy ORDER BY tenant_id", []);
        let rows = Row::find_by_statement(statement).all(self.system()).await.map_err(map)?;
        Ok(rows.into_iter().map(|row| StoredPolicy { tenant: TenantId(row.tenant_id), policy: row.policy }).collect())
    }
}

/// Guardrails, for whoever administers them.
#[derive(Debug)]
pub struct SystemGuardrails<'a> {
    tx: &'a SystemTx,
}

impl<'a> SystemGuardrails<'a> {
    pub(crate) fn new(tx: &'a SystemTx) -> Self {
        Self { tx }
    }

    /// Those of a tenant; `None` if it has none.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn get(&self, tenant: TenantId) -> Result<Option<Value>> {
        let statement = sql("SELECT tenant_id, policy FROM guardrail_policy WHERE tenant_id = $1", [tenant.0.into()]);
        let row: Option<Row> = one(self.tx.conn(), statement).await?;
        Ok(row.map(|row| row.policy))
    }

    /// Puts these in the place of those that there are.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn set(&self, tenant: TenantId, policy: Value) -> Result<()> {
        let statement = sql(
            "INSERT INTO guardrail_policy (tenant_id, policy) VALUES ($1, $2)
             ON CONFLICT (tenant_id) DO UPDATE SET policy = $2, changed_at = now()",
            [tenant.0.into(), policy.into()],
        );
        self.tx.changed(run(self.tx.conn(), statement).await?);
        Ok(())
    }

    /// Takes them away.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there are none; else as for any statement.
    pub async fn remove(&self, tenant: TenantId) -> Result<()> {
        let statement = sql("DELETE FROM guardrail_policy WHERE tenant_id = $1", [tenant.0.into()]);
        match self.tx.changed(run(self.tx.conn(), statement).await?) {
            0 => Err(Error::not_found("guardrails")),
            _ => Ok(()),
        }
    }
}

#[derive(FromQueryResult)]
struct Row {
    tenant_id: Uuid,
    policy: Value,
}
