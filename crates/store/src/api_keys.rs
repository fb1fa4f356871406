//! Keys of service accounts. Only their hashes are here.

use crate::{
    chat_sql::{all, instant, millis, one, run, sql},
    db::Db,
    error::map,
    tx::SystemTx,
};
use contract::{
    Millis,
    ids::{ApiKeyId, ServiceAccountId, TenantId, UserId},
    key::Scope,
};
use domain::{Error, Result};
use sea_orm::{ConnectionTrait, FromQueryResult};
use time::OffsetDateTime;
use uuid::Uuid;

/// SHA-256 of a key.
pub type KeyHash = [u8; 32];

/// A key to be stored.
#[derive(Clone, Debug)]
pub struct NewApiKey {
    pub id: ApiKeyId,
    pub account: ServiceAccountId,
    pub name: String,
    pub hash: KeyHash,
    /// The key's last characters.
    pub hint: String,
    pub scopes: Vec<Scope>,
    /// `None`: every model of the account.
    pub models: Option<Vec<String>>,
    /// From where it may be used, as CIDR; empty: from everywhere.
    pub networks: Vec<String>,
    pub expires_at: Option<Millis>,
    pub created_at: Millis,
}

/// A key as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiKey {
    pub id: ApiKeyId,
    pub account: ServiceAccountId,
    pub name: String,
    pub hint: String,
    pub scopes: Vec<Scope>,
    pub models: Option<Vec<String>>,
    pub networks: Vec<String>,
    pub expires_at: Option<Millis>,
    pub disabled_at: Option<Millis>,
    pub last_used_at: Option<Millis>,
    pub created_at: Millis,
}

/// What authentication needs of a key and its account.
#[derive(Clone, Debug)]
pub struct Authority {
    pub hash: KeyHash,
    pub tenant: TenantId,
    /// The tenant's short name.
    pub tenant_slug: String,
    /// Of the account's data, by name as scopes are.
    pub data_class: String,
    pub account: ServiceAccountId,
    pub key: ApiKeyId,
    pub team: String,
    pub cost_center: String,
    /// By name: whoever reads them may know fewer than whoever wrote them.
    pub scopes: Vec<String>,
    /// Who owns the account's chats, if it may have any.
    pub user: Option<UserId>,
    pub account_models: Option<Vec<String>>,
    pub key_models: Option<Vec<String>>,
    pub networks: Vec<String>,
    /// The earlier of the two.
    pub expires_at: Option<Millis>,
    /// The key or its account is.
    pub disabled: bool,
}

impl Db {
    /// Every key of every tenant, for the memory of a node.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn authorities(&self) -> Result<Vec<Authority>> {
        let statement = sql(
            "SELECT k.hash, k.tenant_id, t.slug, coalesce(a.data_class, t.data_class) AS data_class, k.account_id, k.id, a.team, a.cost_center, k.scopes, u.id AS user_id, a.models AS account_models, k.models AS key_models, k.networks,
                    least(k.expires_at, a.expires_at) AS expires_at, (k.disabled_at IS NOT NULL OR a.disabled_at IS NOT NULL) AS disabled
             FROM api_key k JOIN service_account a ON a.tenant_id = k.tenant_id AND a.id = k.account_id
             JOIN tenant t ON t.id = k.tenant_id
             LEFT JOIN app_user u ON u.tenant_id = a.tenant_id AND u.service_account_id = a.id",
            [],
        );
        let rows = AuthorityRow::find_by_statement(statement).all(self.system()).await.map_err(map)?;
        rows.into_iter().map(Authority::try_from).collect()
    }

    /// Notes when keys were last used.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn keys_used(&self, uses: &[(ApiKeyId, Millis)]) -> Result<()> {
        let ids: Vec<Uuid> = uses.iter().map(|(key, _)| key.0).collect();
        let times: Vec<OffsetDateTime> = uses.iter().map(|(_, at)| instant(*at)).collect::<Result<_>>()?;
        let statement = sql(
            "UPDATE api_key k SET last_used_at = greatest(k.last_used_at, u.at)
             FROM unnest($1::uuid[], $2::timestamptz[]) AS u (id, at) WHERE k.id = u.id",
            [ids.into(), times.into()],
        );
        self.system().execute_raw(statement).await.map_err(map)?;
        Ok(())
    }
}

/// Keys across tenants.
#[derive(Debug)]
pub struct SystemApiKeys<'a> {
    tx: &'a SystemTx,
}

impl<'a> SystemApiKeys<'a> {
    pub(crate) fn new(tx: &'a SystemTx) -> Self {
        Self { tx }
    }

    /// Adds a key. With the first one that may chat, its account gets somebody who owns the chats.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn create(&self, tenant: TenantId, new: &NewApiKey) -> Result<()> {
        let scopes: Vec<String> = new.scopes.iter().map(|scope| scope.name().to_owned()).collect();
        let statement = sql(
            "INSERT INTO api_key (tenant_id, id, account_id, name, hash, hint, scopes, models, networks, expires_at, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            [
                tenant.0.into(),
                new.id.0.into(),
                new.account.0.into(),
                new.name.as_str().into(),
                new.hash.to_vec().into(),
                new.hint.as_str().into(),
                scopes.into(),
                new.models.clone().into(),
                new.networks.clone().into(),
                new.expires_at.map(instant).transpose()?.into(),
                instant(new.created_at)?.into(),
            ],
        );
        self.tx.changed(run(self.tx.conn(), statement).await?);
        if new.scopes.contains(&Scope::Chat) {
            self.tx.users().create_for_account(tenant, new.account, new.created_at).await?;
        }
        Ok(())
    }

    /// One key, of whatever tenant.
    ///
    /// # Errors
    /// [`Error::NotFound`]; else as for any statement.
    pub async fn get(&self, key: ApiKeyId) -> Result<(TenantId, ApiKey)> {
        let row: Option<Row> = one(self.tx.conn(), sql(&select("WHERE id = $1"), [key.0.into()])).await?;
        row.ok_or(Error::not_found("key"))?.try_into()
    }

    /// The keys of an account, newest first.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn list(&self, tenant: TenantId, account: ServiceAccountId) -> Result<Vec<ApiKey>> {
        let statement =
            sql(&select("WHERE tenant_id = $1 AND account_id = $2 ORDER BY created_at DESC, id"), [tenant.0.into(), account.0.into()]);
        let rows: Vec<Row> = all(self.tx.conn(), statement).await?;
        rows.into_iter().map(|row| <(TenantId, ApiKey)>::try_from(row).map(|(_, key)| key)).collect()
    }

    /// Closes (`Some`) or opens (`None`) a key.
    ///
    /// # Errors
    /// [`Error::NotFound`]; else as for any statement.
    pub async fn set_disabled(&self, key: ApiKeyId, at: Option<Millis>) -> Result<()> {
        self.set(key, "disabled_at", at).await
    }

    /// Lets a key end at `at`; `None`: never.
    ///
    /// # Errors
    /// [`Error::NotFound`]; else as for any statement.
    pub async fn set_expiry(&self, key: ApiKeyId, at: Option<Millis>) -> Result<()> {
        self.set(key, "expires_at", at).await
    }

    async fn set(&self, key: ApiKeyId, column: &'static str, at: Option<Millis>) -> Result<()> {
        let text = format!("UPDATE api_key SET {column} = $2 WHERE id = $1");
        let statement = sql(&text, [key.0.into(), at.map(instant).transpose()?.into()]);
        match self.tx.changed(run(self.tx.conn(), statement).await?) {
            0 => Err(Error::not_found("key")),
            _ => Ok(()),
        }
    }
}

fn select(rest: &str) -> String {
    format!(
        "SELECT tenant_id, id, account_id, name, hint, scopes, models, networks, expires_at, disabled_at, last_used_at, created_at
         FROM api_key {rest}"
    )
}

#[derive(FromQueryResult)]
struct Row {
    tenant_id: Uuid,
    id: Uuid,
    account_id: Uuid,
    name: String,
    hint: String,
    scopes: Vec<String>,
    models: Option<Vec<String>>,
    networks: Vec<String>,
    expires_at: Option<OffsetDateTime>,
    disabled_at: Option<OffsetDateTime>,
    last_used_at: Option<OffsetDateTime>,
    created_at: OffsetDateTime,
}

impl TryFrom<Row> for (TenantId, ApiKey) {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let key = ApiKey {
            id: ApiKeyId(row.id),
            account: ServiceAccountId(row.account_id),
            name: row.name,
            hint: row.hint,
            scopes: scopes(&row.scopes)?,
            models: row.models,
            networks: row.networks,
            expires_at: row.expires_at.map(millis),
            disabled_at: row.disabled_at.map(millis),
            last_used_at: row.last_used_at.map(millis),
            created_at: millis(row.created_at),
        };
        Ok((TenantId(row.tenant_id), key))
    }
}

#[derive(FromQueryResult)]
struct AuthorityRow {
    hash: Vec<u8>,
    tenant_id: Uuid,
    slug: String,
    data_class: String,
    account_id: Uuid,
    id: Uuid,
    team: String,
    cost_center: String,
    scopes: Vec<String>,
    user_id: Option<Uuid>,
    account_models: Option<Vec<String>>,
    key_models: Option<Vec<String>>,
    networks: Vec<String>,
    expires_at: Option<OffsetDateTime>,
    disabled: bool,
}

impl TryFrom<AuthorityRow> for Authority {
    type Error = Error;

    fn try_from(row: AuthorityRow) -> Result<Self> {
        Ok(Self {
            hash: row.hash.try_into().map_err(|_| Error::internal("a key's hash is not 32 bytes long"))?,
            tenant: TenantId(row.tenant_id),
            tenant_slug: row.slug,
            data_class: row.data_class,
            account: ServiceAccountId(row.account_id),
            key: ApiKeyId(row.id),
            team: row.team,
            cost_center: row.cost_center,
            scopes: row.scopes,
            user: row.user_id.map(UserId),
            account_models: row.account_models,
            key_models: row.key_models,
            networks: row.networks,
            expires_at: row.expires_at.map(millis),
            disabled: row.disabled,
        })
    }
}

fn scopes(names: &[String]) -> Result<Vec<Scope>> {
    let scope = |name: &String| Scope::named(name).ok_or_else(|| Error::internal(format!("unknown scope {name:?} in the database")));
    names.iter().map(scope).collect()
}
