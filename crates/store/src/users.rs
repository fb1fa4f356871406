//! People of a tenant: profile and roles.

use crate::{
    chat_sql::{all, instant, millis, one, run, sql},
    tx::{SystemTx, TenantTx},
};
use contract::{
    Millis,
    account::{Language, Profile, Role, Theme},
    ids::{ServiceAccountId, TenantId, UserId},
};
use domain::{Error, Result};
use sea_orm::FromQueryResult;
use time::OffsetDateTime;

/// A person as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    pub id: UserId,
    pub email: String,
    pub profile: Profile,
    pub created_at: Millis,
    /// A disabled person cannot sign in; their sessions no longer count.
    pub disabled_at: Option<Millis>,
}

/// A person to be stored.
#[derive(Clone, Debug)]
pub struct NewUser {
    pub id: UserId,
    pub email: String,
    pub name: String,
    pub roles: Vec<Role>,
    pub created_at: Millis,
}

/// The people of the transaction's tenant.
#[derive(Debug)]
pub struct Users<'a> {
    tx: &'a TenantTx,
}

impl<'a> Users<'a> {
    pub(crate) fn new(tx: &'a TenantTx) -> Self {
        Self { tx }
    }

    /// One person.
    ///
    /// # Errors
    /// [`Error::NotFound`]; else as for any statement.
    pub async fn get(&self, user: UserId) -> Result<User> {
        let statement = sql(
            "SELECT id, email, name, CASE WHEN follows_browser THEN NULL ELSE language END AS language, theme, default_model, instructions, created_at, disabled_at
             FROM app_user WHERE tenant_id = $1 AND id = $2",
            [self.tx.tenant().0.into(), user.0.into()],
        );
        let row: UserRow = one(self.tx.conn(), statement).await?.ok_or(Error::not_found("user"))?;
        row.try_into()
    }

    /// The person's roles.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn roles(&self, user: UserId) -> Result<Vec<Role>> {
        let statement = sql(
            "SELECT role FROM user_role WHERE tenant_id = $1 AND user_id = $2 ORDER BY role",
            [self.tx.tenant().0.into(), user.0.into()],
        );
        let rows: Vec<RoleRow> = all(self.tx.conn(), statement).await?;
        rows.iter().map(|row| role(&row.role)).collect()
    }

    /// Replaces the profile.
    ///
    /// # Errors
    /// [`Error::NotFound`]; else as for any statement.
    pub async fn change_profile(&self, user: UserId, profile: &Profile) -> Result<()> {
        let statement = sql(
            "UPDATE app_user SET name = $3, language = coalesce($4, language), follows_browser = $4::text IS NULL, theme = $5, default_model = $6,
                    instructions = $7
             WHERE tenant_id = $1 AND id = $2",
            [
                self.tx.tenant().0.into(),
                user.0.into(),
                profile.name.as_str().into(),
                profile.language.map(language_text).into(),
                theme_text(profile.theme).into(),
                profile.default_model.clone().into(),
                profile.instructions.as_str().into(),
            ],
        );
        found(run(self.tx.conn(), statement).await?)
    }

    /// Removes the person with everything they own: chats, sessions, password. Their usage stays in the
    /// ledger without their name.
    ///
    /// # Errors
    /// [`Error::NotFound`]; else as for any statement.
    pub async fn delete(&self, user: UserId) -> Result<()> {
        let statement = sql("DELETE FROM app_user WHERE tenant_id = $1 AND id = $2", [self.tx.tenant().0.into(), user.0.into()]);
        found(run(self.tx.conn(), statement).await?)
    }
}

/// People across tenants.
#[derive(Debug)]
pub struct SystemUsers<'a> {
    tx: &'a SystemTx,
}

impl<'a> SystemUsers<'a> {
    pub(crate) fn new(tx: &'a SystemTx) -> Self {
        Self { tx }
    }

    /// Adds a person with roles, who reads in the browser's language until they choose one. How they sign in is a matter of its own (a local password: `credentials`).
    ///
    /// # Errors
    /// [`Error::Conflict`] if the tenant has somebody with this e-mail; else as for any statement.
    pub async fn create(&self, tenant: TenantId, new: &NewUser) -> Result<()> {
        let statement = sql(
            "INSERT INTO app_user (tenant_id, id, email, name, follows_browser, created_at) VALUES ($1, $2, $3, $4, TRUE, $5)",
            [tenant.0.into(), new.id.0.into(), new.email.as_str().into(), new.name.as_str().into(), instant(new.created_at)?.into()],
        );
        self.tx.changed(run(self.tx.conn(), statement).await?);
        for role in &new.roles {
            let statement = sql(
                "INSERT INTO user_role (tenant_id, user_id, role) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                [tenant.0.into(), new.id.0.into(), role_text(*role).into()],
            );
            run(self.tx.conn(), statement).await?;
        }
        Ok(())
    }

    /// Makes sure that somebody owns the chats of a service account: one whom nobody signs in as, without roles, e-mail and
    /// name, with the account's own id, so that two that do it at once do the same.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn create_for_account(&self, tenant: TenantId, account: ServiceAccountId, at: Millis) -> Result<()> {
        let statement = sql(
            "INSERT INTO app_user (tenant_id, id, service_account_id, email, name, follows_browser, created_at) VALUES ($1, $2, $2, '', '', TRUE, $3)
             ON CONFLICT (tenant_id, id) DO NOTHING",
            [tenant.0.into(), account.0.into(), instant(at)?.into()],
        );
        self.tx.changed(run(self.tx.conn(), statement).await?);
        Ok(())
    }

    /// The person of a tenant with this e-mail, whatever the case; nobody who is locked out, and no program.
    ///
    /// # Errors
    /// [`Error::NotFound`]; else as for any statement.
    pub async fn by_email(&self, tenant: TenantId, email: &str) -> Result<UserId> {
        let statement = sql(
            "SELECT id FROM app_user
             WHERE tenant_id = $1 AND lower(email) = lower($2) AND service_account_id IS NULL AND disabled_at IS NULL",
            [tenant.0.into(), email.trim().into()],
        );
        let row: Option<IdRow> = one(self.tx.conn(), statement).await?;
        row.map(|row| UserId(row.id)).ok_or(Error::not_found("user"))
    }

    /// Locks a person out, or lets them in again (`None`).
    ///
    /// # Errors
    /// [`Error::NotFound`]; else as for any statement.
    pub async fn disable(&self, tenant: TenantId, user: UserId, at: Option<Millis>) -> Result<()> {
        let statement = sql(
            "UPDATE app_user SET disabled_at = $3 WHERE tenant_id = $1 AND id = $2",
            [tenant.0.into(), user.0.into(), at.map(instant).transpose()?.into()],
        );
        found(self.tx.changed(run(self.tx.conn(), statement).await?))
    }
}

#[derive(FromQueryResult)]
struct UserRow {
    id: uuid::Uuid,
    email: String,
    name: String,
    language: Option<String>,
    theme: String,
    default_model: Option<String>,
    instructions: String,
    created_at: OffsetDateTime,
    disabled_at: Option<OffsetDateTime>,
}

#[derive(FromQueryResult)]
struct IdRow {
    id: uuid::Uuid,
}

#[derive(FromQueryResult)]
struct RoleRow {
    role: String,
}

impl TryFrom<UserRow> for User {
    type Error = Error;

    fn try_from(row: UserRow) -> Result<Self> {
        Ok(Self {
            id: UserId(row.id),
            email: row.email,
            profile: Profile {
                name: row.name,
                language: row.language.as_deref().map(language).transpose()?,
                theme: theme(&row.theme)?,
                default_model: row.default_model,
                instructions: row.instructions,
            },
            created_at: millis(row.created_at),
            disabled_at: row.disabled_at.map(millis),
        })
    }
}

fn found(rows: u64) -> Result<()> {
    if rows == 1 { Ok(()) } else { Err(Error::not_found("user")) }
}

fn language_text(language: Language) -> &'static str {
    match language {
        Language::En => "en",
        Language::De => "de",
    }
}

fn language(text: &str) -> Result<Language> {
    match text {
        "en" => Ok(Language::En),
        "de" => Ok(Language::De),
        other => Err(unknown("language", other)),
    }
}

fn theme_text(theme: Theme) -> &'static str {
    match theme {
        Theme::System => "system",
        Theme::Light => "light",
        Theme::Dark => "dark",
        Theme::Contrast => "contrast",
    }
}

fn theme(text: &str) -> Result<Theme> {
    match text {
        "system" => Ok(Theme::System),
        "light" => Ok(Theme::Light),
        "dark" => Ok(Theme::Dark),
        "contrast" => Ok(Theme::Contrast),
        other => Err(unknown("theme", other)),
    }
}

fn role_text(role: Role) -> &'static str {
    match role {
        Role::User => "user",
        Role::ServiceAdmin => "service_admin",
        Role::SystemAdmin => "system_admin",
    }
}

pub(crate) fn role(text: &str) -> Result<Role> {
    match text {
        "user" => Ok(Role::User),
        "service_admin" => Ok(Role::ServiceAdmin),
        "system_admin" => Ok(Role::SystemAdmin),
        other => Err(unknown("role", other)),
    }
}

fn unknown(what: &str, text: &str) -> Error {
    Error::internal(format!("unknown {what} {text:?} in the database"))
}
