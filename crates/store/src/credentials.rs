//! Local passwords. The hash is opaque here; `identity` makes and checks it.

use crate::{
    chat_sql::{instant, one, run, sql},
    tx::{SystemTx, TenantTx},
};
use contract::{
    Millis,
    ids::{TenantId, UserId},
};
use domain::{Error, Result};
use sea_orm::FromQueryResult;
use std::fmt;
use uuid::Uuid;

/// What sign-in needs to know of a person.
#[derive(Clone)]
pub struct Credential {
    pub tenant: TenantId,
    pub user: UserId,
    /// PHC string.
    pub password_hash: String,
    /// The person may not sign in.
    pub disabled: bool,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("tenant", &self.tenant).field("user", &self.user).finish_non_exhaustive()
    }
}

/// An e-mail as sign-in compares it.
#[must_use]
pub fn email_key(email: &str) -> String {
    email.trim().to_lowercase()
}

/// Passwords of the transaction's tenant.
#[derive(Debug)]
pub struct Credentials<'a> {
    tx: &'a TenantTx,
}

#[derive(FromQueryResult)]
struct HashRow {
    password_hash: String,
}

#[derive(FromQueryResult)]
struct CredentialRow {
    tenant_id: Uuid,
    user_id: Uuid,
    password_hash: String,
    disabled: bool,
}

impl<'a> Credentials<'a> {
    pub(crate) fn new(tx: &'a TenantTx) -> Self {
        Self { tx }
    }

    /// The person's password hash; `None` for somebody without a local password.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn hash(&self, user: UserId) -> Result<Option<String>> {
        let statement = sql(
            "SELECT password_hash FROM local_credential WHERE tenant_id = $1 AND user_id = $2",
            [self.tx.tenant().0.into(), user.0.into()],
        );
        let row: Option<HashRow> = one(self.tx.conn(), statement).await?;
        Ok(row.map(|row| row.password_hash))
    }

    /// Replaces the person's password hash.
    ///
    /// # Errors
    /// [`Error::NotFound`] for somebody without a local password; else as for any statement.
    pub async fn change(&self, user: UserId, password_hash: &str, at: Millis) -> Result<()> {
        let statement = sql(
            "UPDATE local_credential SET password_hash = $3, changed_at = $4 WHERE tenant_id = $1 AND user_id = $2",
            [self.tx.tenant().0.into(), user.0.into(), password_hash.into(), instant(at)?.into()],
        );
        if run(self.tx.conn(), statement).await? == 1 { Ok(()) } else { Err(Error::not_found("password")) }
    }
}

/// Passwords across tenants.
#[derive(Debug)]
pub struct SystemCredentials<'a> {
    tx: &'a SystemTx,
}

impl<'a> SystemCredentials<'a> {
    pub(crate) fn new(tx: &'a SystemTx) -> Self {
        Self { tx }
    }

    /// Whoever signs in with this e-mail.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn by_email(&self, email: &str) -> Result<Option<Credential>> {
        let statement = sql(
            "SELECT c.tenant_id, c.user_id, c.password_hash, u.disabled_at IS NOT NULL AS disabled
             FROM local_credential c JOIN app_user u ON u.tenant_id = c.tenant_id AND u.id = c.user_id
             WHERE c.email_key = $1",
            [email_key(email).into()],
        );
        let row: Option<CredentialRow> = one(self.tx.conn(), statement).await?;
        Ok(row.map(|row| Credential {
            tenant: TenantId(row.tenant_id),
            user: UserId(row.user_id),
            password_hash: row.password_hash,
            disabled: row.disabled,
        }))
    }

    /// Gives a person a local password, replacing one they had.
    ///
    /// # Errors
    /// [`Error::Conflict`] if somebody, in whatever tenant, signs in with this e-mail; else as for any statement.
    pub async fn set(&self, tenant: TenantId, user: UserId, email: &str, password_hash: &str, at: Millis) -> Result<()> {
        let statement = sql(
            "INSERT INTO local_credential (tenant_id, user_id, email_key, password_hash, changed_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (tenant_id, user_id) DO UPDATE
             SET email_key = excluded.email_key, password_hash = excluded.password_hash, changed_at = excluded.changed_at",
            [tenant.0.into(), user.0.into(), email_key(email).into(), password_hash.into(), instant(at)?.into()],
        );
        self.tx.changed(run(self.tx.conn(), statement).await?);
        Ok(())
    }
}
