//! The audit trail: who did what, when. Rows are only ever added.

use crate::{db::caller_name, error::map, tx::TenantTx};
use contract::ids::{RequestId, TenantId};
use domain::{Actor, Result};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use serde_json::{Map, Value};
use uuid::Uuid;

/// One row of the trail. Never put content, passwords or tokens into it: it is kept for ever.
#[derive(Clone, Debug)]
pub struct AuditEvent {
    actor: String,
    action: &'static str,
    target: String,
    detail: Map<String, Value>,
    request: Option<RequestId>,
}

impl AuditEvent {
    /// `actor` is a person's id or a job's name, `action` a stable dotted word (`sign_in.failed`).
    #[must_use]
    pub fn new(actor: impl Into<String>, action: &'static str) -> Self {
        Self { actor: actor.into(), action, target: String::new(), detail: Map::new(), request: None }
    }

    /// The same for an authenticated caller, with its request id. The actor of a program is its account; which of the account's
    /// keys it was is the detail `key`.
    #[must_use]
    pub fn by(actor: &Actor, action: &'static str) -> Self {
        let event = Self::new(caller_name(actor), action).request(actor.request());
        match actor.as_program() {
            Some(program) => event.detail("key", program.key.to_string()),
            None => event,
        }
    }

    /// The id of what was acted on.
    #[must_use]
    pub fn target(mut self, target: impl ToString) -> Self {
        self.target = target.to_string();
        self
    }

    /// A further fact.
    #[must_use]
    pub fn detail(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.detail.insert(key.to_owned(), value.into());
        self
    }

    /// The call it happened in.
    #[must_use]
    pub fn request(mut self, request: RequestId) -> Self {
        self.request = Some(request);
        self
    }
}

/// The trail of one tenant.
#[derive(Debug)]
pub struct Audit<'a> {
    tx: &'a TenantTx,
}

impl<'a> Audit<'a> {
    pub(crate) fn new(tx: &'a TenantTx) -> Self {
        Self { tx }
    }

    /// Adds a row; it is kept if the transaction is.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn add(&self, event: &AuditEvent) -> Result<()> {
        self.tx.conn().execute_raw(insert(event, Some(self.tx.tenant()))).await.map_err(map)?;
        Ok(())
    }
}

pub(crate) fn insert(event: &AuditEvent, tenant: Option<TenantId>) -> Statement {
    Statement::from_sql_and_values(
        DbBackend::Postgres,
        "INSERT INTO audit_event (id, tenant_id, actor, action, target, detail, request_id) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        [
            Uuid::now_v7().into(),
            tenant.map(|tenant| tenant.0).into(),
            event.actor.clone().into(),
            event.action.into(),
            event.target.clone().into(),
            Value::Object(event.detail.clone()).into(),
            event.request.map(|request| request.0).into(),
        ],
    )
}
