//! Server functions of the account area.

use crate::UiError;
use contract::{
    account::{Me, Profile, SessionInfo},
    chat::{Imported, PromptEntry, PromptFilter},
    ids::SessionId,
    page::Page,
    usage::{UsageRange, UsageReport},
};
use leptos::prelude::*;
use server_fn::codec::Json;

#[cfg(feature = "ssr")]
use crate::edge;
#[cfg(feature = "ssr")]
use domain::secret::Secret;

/// The signed-in person.
///
/// # Errors
/// `Unauthenticated`.
#[server(prefix = "/ui", endpoint = "current_user", input = Json, output = Json)]
pub async fn current_user() -> Result<Me, UiError> {
    let (services, actor) = edge::actor().await?;
    services.account.me(&actor).await.map_err(edge::fail)
}

/// Replaces the own profile; returns it as stored.
///
/// # Errors
/// `Unauthenticated`; `Invalid` at `name`, `default_model` or `instructions`.
#[server(prefix = "/ui", endpoint = "change_profile", input = Json, output = Json)]
pub async fn change_profile(profile: Profile) -> Result<Profile, UiError> {
    let (services, actor) = edge::actor().await?;
    services.account.change_profile(&actor, profile).await.map_err(edge::fail)
}

/// Sets a new password and ends all other sessions.
///
/// # Errors
/// `Unauthenticated`; `Invalid` at `current` or `new`.
#[server(prefix = "/ui", endpoint = "change_password", input = Json, output = Json)]
pub async fn change_password(current: String, new: String) -> Result<(), UiError> {
    let (services, actor) = edge::actor().await?;
    services.account.change_password(&actor, Secret::new(current), Secret::new(new)).await.map_err(edge::fail)
}

/// The browsers in which the person is signed in.
///
/// # Errors
/// `Unauthenticated`.
#[server(prefix = "/ui", endpoint = "list_sessions", input = Json, output = Json)]
pub async fn list_sessions() -> Result<Vec<SessionInfo>, UiError> {
    let (services, actor) = edge::actor().await?;
    services.account.sessions(&actor).await.map_err(edge::fail)
}

/// Signs one browser out.
///
/// # Errors
/// `Unauthenticated`; `NotFound` for a session that is not one's own.
#[server(prefix = "/ui", endpoint = "revoke_session", input = Json, output = Json)]
pub async fn revoke_session(session: SessionId) -> Result<(), UiError> {
    let (services, actor) = edge::actor().await?;
    services.account.revoke_session(&actor, session).await.map_err(edge::fail)
}

/// Signs all browsers out but this one.
///
/// # Errors
/// `Unauthenticated`.
#[server(prefix = "/ui", endpoint = "revoke_other_sessions", input = Json, output = Json)]
pub async fn revoke_other_sessions() -> Result<(), UiError> {
    let (services, actor) = edge::actor().await?;
    services.account.revoke_other_sessions(&actor).await.map_err(edge::fail)
}

/// Deletes the own account with everything in it, for good.
///
/// # Errors
/// `Unauthenticated`; `Invalid` at `password`.
#[server(prefix = "/ui", endpoint = "delete_account", input = Json, output = Json)]
pub async fn delete_account(password: String) -> Result<(), UiError> {
    let (services, actor) = edge::actor().await?;
    services.account.delete(&actor, Secret::new(password)).await.map_err(edge::fail)?;
    edge::set_session_cookie(None)
}

/// Adds the chats of an export to the own ones.
///
/// # Errors
/// `Unauthenticated`; `Invalid` for text that is not an export.
#[server(prefix = "/ui", endpoint = "import_conversations", input = Json, output = Json)]
pub async fn import_conversations(json: String) -> Result<Imported, UiError> {
    let (services, actor) = edge::actor().await?;
    services.transfer.import(&actor, json).await.map_err(edge::fail)
}

/// The own prompts, newest first.
///
/// # Errors
/// `Unauthenticated`; `Invalid` at `cursor`.
#[server(prefix = "/ui", endpoint = "list_prompts", input = Json, output = Json)]
pub async fn list_prompts(filter: PromptFilter, cursor: Option<String>) -> Result<Page<PromptEntry>, UiError> {
    let (services, actor) = edge::actor().await?;
    services.prompts.list(&actor, filter, cursor).await.map_err(edge::fail)
}

/// The own token usage per day, model and purpose.
///
/// # Errors
/// `Unauthenticated`; `Invalid` for a range that is none.
#[server(name = ReadUsageReport, prefix = "/ui", endpoint = "usage_report", input = Json, output = Json)]
pub async fn usage_report(range: UsageRange) -> Result<UsageReport, UiError> {
    let (services, actor) = edge::actor().await?;
    services.usage.report(&actor, range).await.map_err(edge::fail)
}
