//! Signed-in browsers. A session is known by the hash of its token; the token itself is nowhere.

use crate::{
    chat_sql::{all, instant, millis, one, run, sql},
    db::Db,
    error::map,
    tenants,
    tx::{SystemTx, TenantTx},
    users,
};
use contract::{
    Millis,
    account::Role,
    ids::{SessionId, TenantId, UserId},
};
use domain::{DataClass, Result};
use sea_orm::FromQueryResult;
use std::sync::Arc;
use time::OffsetDateTime;
use uuid::Uuid;

/// SHA-256 of a session token.
pub type TokenHash = [u8; 32];

/// How often, at most, a session's last use is written.
const TOUCH_EVERY_MS: i64 = 60_000;

/// A valid session, as the token lookup finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveSession {
    pub tenant: TenantId,
    /// The tenant's short name.
    pub tenant_slug: Arc<str>,
    /// Of the tenant's data.
    pub class: DataClass,
    pub user: UserId,
    pub session: SessionId,
    pub roles: Vec<Role>,
    pub expires_at: Millis,
}

/// A session in the account page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub id: SessionId,
    pub user_agent: String,
    pub created_at: Millis,
    pub last_seen_at: Millis,
    pub expires_at: Millis,
}

/// A session to be stored.
#[derive(Clone, Debug)]
pub struct NewSession {
    pub id: SessionId,
    pub tenant: TenantId,
    pub user: UserId,
    pub token_hash: TokenHash,
    pub user_agent: String,
    pub created_at: Millis,
    pub expires_at: Millis,
}

impl Db {
    /// Whose valid session this token belongs to, in one statement. It also notes the use and slides the end to
    /// `at + lifetime_ms`, at most once a minute.
    ///
    /// The one lookup across tenants that is not audited: it happens on every request, before anybody is known.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn session_by_token(&self, token_hash: &TokenHash, at: Millis, lifetime_ms: i64) -> Result<Option<ActiveSession>> {
        let statement = sql(
            "WITH found AS (
               SELECT s.tenant_id, s.id, s.user_id, s.last_seen_at, s.expires_at
               FROM session s JOIN app_user u ON u.tenant_id = s.tenant_id AND u.id = s.user_id
               WHERE s.token_hash = $1 AND s.revoked_at IS NULL AND s.expires_at > $2 AND u.disabled_at IS NULL
             ), touched AS (
               UPDATE session s SET last_seen_at = $2, expires_at = $3
               FROM found f WHERE s.tenant_id = f.tenant_id AND s.id = f.id AND f.last_seen_at <= $4 AND s.revoked_at IS NULL
               RETURNING s.id, s.expires_at
             )
             SELECT f.tenant_id, o.slug, o.data_class, f.id, f.user_id, coalesce(t.expires_at, f.expires_at) AS expires_at,
                    (SELECT coalesce(string_agg(r.role, ' '), '') FROM user_role r WHERE r.tenant_id = f.tenant_id AND r.user_id = f.user_id) AS roles
             FROM found f JOIN tenant o ON o.id = f.tenant_id LEFT JOIN touched t ON t.id = f.id",
            [
                token_hash.to_vec().into(),
                instant(at)?.into(),
                instant(at.saturating_add(lifetime_ms))?.into(),
                instant(at - TOUCH_EVERY_MS)?.into(),
            ],
        );
        let row = ActiveRow::find_by_statement(statement).one(self.system()).await.map_err(map)?;
        row.map(ActiveSession::try_from).transpose()
    }
}

/// The sessions of the transaction's tenant.
#[derive(Debug)]
pub struct Sessions<'a> {
    tx: &'a TenantTx,
}

impl<'a> Sessions<'a> {
    pub(crate) fn new(tx: &'a TenantTx) -> Self {
        Self { tx }
    }

    /// The person's valid sessions, last used first.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn list(&self, user: UserId, at: Millis) -> Result<Vec<Session>> {
        let statement = sql(
            "SELECT id, user_agent, created_at, last_seen_at, expires_at FROM session
             WHERE tenant_id = $1 AND user_id = $2 AND revoked_at IS NULL AND expires_at > $3
             ORDER BY last_seen_at DESC, id DESC",
            [self.tx.tenant().0.into(), user.0.into(), instant(at)?.into()],
        );
        let rows: Vec<SessionRow> = all(self.tx.conn(), statement).await?;
        Ok(rows.into_iter().map(Session::from).collect())
    }

    /// Ends one session of the person; `false` if they have no such session that is still open.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn revoke(&self, user: UserId, session: SessionId, at: Millis) -> Result<bool> {
        let statement = sql(
            "UPDATE session SET revoked_at = $4 WHERE tenant_id = $1 AND user_id = $2 AND id = $3 AND revoked_at IS NULL",
            [self.tx.tenant().0.into(), user.0.into(), session.0.into(), instant(at)?.into()],
        );
        Ok(run(self.tx.conn(), statement).await? == 1)
    }

    /// Ends all sessions of the person but `keep` (`None`: all). Returns how many.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn revoke_others(&self, user: UserId, keep: Option<SessionId>, at: Millis) -> Result<u64> {
        let statement = sql(
            "UPDATE session SET revoked_at = $4
             WHERE tenant_id = $1 AND user_id = $2 AND id IS DISTINCT FROM $3 AND revoked_at IS NULL",
            [self.tx.tenant().0.into(), user.0.into(), keep.map(|keep| keep.0).into(), instant(at)?.into()],
        );
        run(self.tx.conn(), statement).await
    }
}

/// Sessions across tenants.
#[derive(Debug)]
pub struct SystemSessions<'a> {
    tx: &'a SystemTx,
}

impl<'a> SystemSessions<'a> {
    pub(crate) fn new(tx: &'a SystemTx) -> Self {
        Self { tx }
    }

    /// Adds a session: somebody signed in.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn create(&self, new: &NewSession) -> Result<()> {
        let statement = sql(
            "INSERT INTO session (tenant_id, id, user_id, token_hash, user_agent, created_at, last_seen_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $6, $7)",
            [
                new.tenant.0.into(),
                new.id.0.into(),
                new.user.0.into(),
                new.token_hash.to_vec().into(),
                new.user_agent.as_str().into(),
                instant(new.created_at)?.into(),
                instant(new.expires_at)?.into(),
            ],
        );
        self.tx.changed(run(self.tx.conn(), statement).await?);
        Ok(())
    }

    /// Ends the session with this token, if there is one. Used at sign-in for the cookie the browser still had.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn revoke_token(&self, token_hash: &TokenHash, at: Millis) -> Result<Option<SessionId>> {
        let statement = sql(
            "UPDATE session SET revoked_at = $2 WHERE token_hash = $1 AND revoked_at IS NULL RETURNING id",
            [token_hash.to_vec().into(), instant(at)?.into()],
        );
        let row: Option<IdRow> = one(self.tx.conn(), statement).await?;
        Ok(row.map(|row| SessionId(row.id)))
    }

    /// Removes sessions that ended before `before`. Returns how many.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn purge(&self, before: Millis) -> Result<u64> {
        let before = instant(before)?;
        let statement = sql("DELETE FROM session WHERE expires_at < $1 OR revoked_at < $1", [before.into()]);
        Ok(self.tx.changed(run(self.tx.conn(), statement).await?))
    }
}

#[derive(FromQueryResult)]
struct IdRow {
    id: Uuid,
}

#[derive(FromQueryResult)]
struct ActiveRow {
    tenant_id: Uuid,
    slug: String,
    data_class: String,
    id: Uuid,
    user_id: Uuid,
    expires_at: OffsetDateTime,
    roles: String,
}

#[derive(FromQueryResult)]
struct SessionRow {
    id: Uuid,
    user_agent: String,
    created_at: OffsetDateTime,
    last_seen_at: OffsetDateTime,
    expires_at: OffsetDateTime,
}

impl TryFrom<ActiveRow> for ActiveSession {
    type Error = domain::Error;

    fn try_from(row: ActiveRow) -> Result<Self> {
        Ok(Self {
            tenant: TenantId(row.tenant_id),
            tenant_slug: row.slug.into(),
            class: tenants::class(&row.data_class)?,
            user: UserId(row.user_id),
            session: SessionId(row.id),
            roles: row.roles.split_whitespace().map(users::role).collect::<Result<_>>()?,
            expires_at: millis(row.expires_at),
        })
    }
}

impl From<SessionRow> for Session {
    fn from(row: SessionRow) -> Self {
        Self {
            id: SessionId(row.id),
            user_agent: row.user_agent,
            created_at: millis(row.created_at),
            last_seen_at: millis(row.last_seen_at),
            expires_at: millis(row.expires_at),
        }
    }
}
