//! What the operator of the machine asks about people, across tenants: who there is, and their ledger's sums.

use crate::{
    chat_sql::{all, instant, one, run, sql},
    credentials::email_key,
    ledger_days::used,
    tx::SystemTx,
    usage::{FIRST_DAY, LAST_DAY, midnight},
    users::role,
};
use contract::{
    Millis,
    account::Role,
    ids::{TenantId, UserId},
};
use domain::{Error, Result};
use sea_orm::FromQueryResult;
use uuid::Uuid;

/// A person as the operator sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    pub tenant: TenantId,
    /// The tenant's short name.
    pub tenant_slug: String,
    pub user: UserId,
    pub email: String,
    pub name: String,
    pub roles: Vec<Role>,
    /// Cannot sign in.
    pub disabled: bool,
}

/// Sums over all usage events of a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromQueryResult)]
pub struct LedgerSums {
    /// Events whose use still runs.
    pub open: i64,
    pub settled: i64,
    /// Of settled events, like all figures below.
    pub prompt_tokens: i64,
    pub cached_tokens: i64,
    pub completion_tokens: i64,
}

/// See the module.
#[derive(Debug)]
pub struct Administration<'a> {
    tx: &'a SystemTx,
}

impl<'a> Administration<'a> {
    pub(crate) fn new(tx: &'a SystemTx) -> Self {
        Self { tx }
    }

    /// Everybody, or everybody of one tenant, by tenant and e-mail.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn people(&self, tenant: Option<TenantId>) -> Result<Vec<Person>> {
        self.select(tenant, None).await
    }

    /// Whoever signs in with this e-mail and a local password.
    ///
    /// # Errors
    /// [`Error::NotFound`]; else as for any statement.
    pub async fn person(&self, email: &str) -> Result<Person> {
        self.select(None, Some(email_key(email))).await?.pop().ok_or(Error::not_found("user"))
    }

    /// Ends all sessions of a person. Returns how many.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn end_sessions(&self, tenant: TenantId, user: UserId, at: Millis) -> Result<u64> {
        let statement = sql(
            "UPDATE session SET revoked_at = $3 WHERE tenant_id = $1 AND user_id = $2 AND revoked_at IS NULL",
            [tenant.0.into(), user.0.into(), instant(at)?.into()],
        );
        Ok(self.tx.changed(run(self.tx.conn(), statement).await?))
    }

    /// Sums of a person's ledger.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn ledger(&self, tenant: TenantId, user: UserId) -> Result<LedgerSums> {
        let statement = sql(
            &format!(
                "SELECT (SELECT count(*) FROM usage_event WHERE tenant_id = $1 AND user_id = $4 AND state = 'open') AS open,
                        coalesce(sum(u.requests), 0)::bigint AS settled, coalesce(sum(u.prompt_tokens), 0)::bigint AS prompt_tokens,
                        coalesce(sum(u.cached_tokens), 0)::bigint AS cached_tokens,
                        coalesce(sum(u.completion_tokens), 0)::bigint AS completion_tokens
                 FROM {}",
                used("u.tenant_id = $1 AND u.user_id = $4")
            ),
            [tenant.0.into(), midnight(FIRST_DAY).into(), midnight(LAST_DAY).into(), user.0.into()],
        );
        one(self.tx.conn(), statement).await?.ok_or_else(|| Error::internal("an aggregate without a row"))
    }

    async fn select(&self, tenant: Option<TenantId>, key: Option<String>) -> Result<Vec<Person>> {
        let statement = sql(
            "SELECT u.tenant_id, t.slug, u.id, u.email, u.name, u.disabled_at IS NOT NULL AS disabled,
                    (SELECT coalesce(string_agg(r.role, ',' ORDER BY r.role), '') FROM user_role r
                     WHERE r.tenant_id = u.tenant_id AND r.user_id = u.id) AS roles
             FROM app_user u JOIN tenant t ON t.id = u.tenant_id
             WHERE u.service_account_id IS NULL AND ($1::uuid IS NULL OR u.tenant_id = $1)
               AND ($2::text IS NULL OR EXISTS (SELECT 1 FROM local_credential c
                    WHERE c.tenant_id = u.tenant_id AND c.user_id = u.id AND c.email_key = $2))
             ORDER BY t.slug, u.email",
            [tenant.map(|tenant| tenant.0).into(), key.into()],
        );
        let rows: Vec<PersonRow> = all(self.tx.conn(), statement).await?;
        rows.into_iter().map(Person::try_from).collect()
    }
}

#[derive(FromQueryResult)]
struct PersonRow {
    tenant_id: Uuid,
    slug: String,
    id: Uuid,
    email: String,
    name: String,
    disabled: bool,
    roles: String,
}

impl TryFrom<PersonRow> for Person {
    type Error = Error;

    fn try_from(row: PersonRow) -> Result<Self> {
        Ok(Self {
            tenant: TenantId(row.tenant_id),
            tenant_slug: row.slug,
            user: UserId(row.id),
            email: row.email,
            name: row.name,
            roles: row.roles.split(',').filter(|text| !text.is_empty()).map(role).collect::<Result<_>>()?,
            disabled: row.disabled,
        })
    }
}
