//! Service accounts and their keys.

use super::{BY, output::Output};
use crate::{AnyError, cli::AdminCommand};
use contract::{Millis, ids::TenantId};
use domain::{Clock, DataClass, SystemClock};
use identity::{Identity, MadeKey, NewAccount, NewKey};
use serde_json::{Value, json};
use store::{api_keys::ApiKey, service_accounts::ServiceAccount};

const HOUR_MS: i64 = 60 * 60 * 1000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// The commands about keys.
///
/// # Errors
/// The command is refused, or is none of these.
pub async fn execute(identity: &Identity, command: AdminCommand) -> Result<Output, AnyError> {
    match command {
        AdminCommand::CreateServiceAccount { tenant, name, purpose, team, cost_center, owner, models, class, days } => {
            let tenant_id = identity.tenant_by_slug(BY, &tenant).await?;
            let account = NewAccount {
                tenant: tenant_id,
                name: name.clone(),
                purpose,
                team,
                cost_center,
                owner,
                models: some(models),
                class,
                expires_at: days.map(end_of),
            };
            let id = identity.create_service_account(BY, account).await?;
            let text =
                format!("Created the service account {name} in {tenant}. Next: kontor admin create-key --tenant {tenant} --account {name}");
            Ok(Output::new(text, json!({ "id": id, "name": name, "tenant": tenant })))
        }
        AdminCommand::ListServiceAccounts { tenant } => list(identity, &tenant).await,
        AdminCommand::DisableServiceAccount { tenant, name, undo } => {
            let tenant = identity.tenant_by_slug(BY, &tenant).await?;
            let account = identity.service_account(BY, tenant, &name).await?;
            identity.disable_service_account(BY, tenant, account.id, !undo).await?;
            Ok(Output::new(format!("{} {name}.", done(undo)), json!({ "id": account.id, "disabled": !undo })))
        }
        AdminCommand::DeleteServiceAccount { tenant, account, yes } => {
            let tenant = identity.tenant_by_slug(BY, &tenant).await?;
            if !yes {
                let account = identity.service_account(BY, tenant, &account).await?;
                let what = "its keys, chats, responses, files and batches";
                return Err(format!("This deletes {} with {what} for good. Say it again with --yes.", account.name).into());
            }
            let id = identity.delete_service_account(BY, tenant, &account).await?;
            Ok(Output::new(format!("Deleted {account}."), json!({ "id": id, "name": account })))
        }
        AdminCommand::CreateKey { tenant, account, name, scopes, models, networks, days } => {
            let tenant = identity.tenant_by_slug(BY, &tenant).await?;
            let account = identity.service_account(BY, tenant, &account).await?;
            let new = NewKey { name, scopes, models: some(models), networks, expires_at: days.map(end_of) };
            Ok(show(&identity.create_key(BY, tenant, account.id, new).await?, ""))
        }
        AdminCommand::DisableKey { id, undo } => {
            identity.disable_key(BY, id, !undo).await?;
            Ok(Output::new(format!("{} the key {id}.", done(undo)), json!({ "id": id, "disabled": !undo })))
        }
        AdminCommand::RotateKey { id, overlap_hours } => {
            let made = identity.rotate_key(BY, id, i64::from(overlap_hours) * HOUR_MS).await?;
            Ok(show(&made, &format!(" The old one ends in {overlap_hours} h.")))
        }
        _ => Err("this command is not about keys".into()),
    }
}

/// What an account's data is from now on; `None`: what its tenant's is.
pub async fn set_class(identity: &Identity, tenant: TenantId, account: &str, class: Option<DataClass>) -> Result<Output, AnyError> {
    let account = identity.service_account(BY, tenant, account).await?;
    identity.set_account_class(BY, tenant, account.id, class).await?;
    let name = class.map_or("as its tenant's", DataClass::name);
    Ok(Output::new(format!("The data of {} is {name}.", account.name), json!({ "id": account.id, "class": class })))
}

/// The one time that a key is seen.
fn show(made: &MadeKey, more: &str) -> Output {
    let key = made.key.reveal();
    Output::new(format!("{key}\nThis key is shown once. Its id is {}.{more}", made.id), json!({ "id": made.id, "key": key }))
}

async fn list(identity: &Identity, tenant: &str) -> Result<Output, AnyError> {
    let tenant = identity.tenant_by_slug(BY, tenant).await?;
    let (mut lines, mut values) = (Vec::new(), Vec::new());
    for account in identity.service_accounts(BY, tenant).await? {
        let keys = identity.keys(BY, tenant, account.id).await?;
        let owner = account.owner_email.as_ref().map_or_else(String::new, |email| format!("  ({email})"));
        lines.push(format!("{}{}  {}{owner}", account.name, state(account.disabled_at, account.expires_at), account.purpose));
        let line = |key: &ApiKey| {
            let scopes = key.scopes.iter().map(|scope| scope.name()).collect::<Vec<_>>().join(", ");
            format!("  {}  …{}{}  {scopes}  {}", key.id, key.hint, state(key.disabled_at, key.expires_at), key.name)
        };
        lines.extend(keys.iter().map(line));
        values.push(value(&account, &keys));
    }
    let text = if lines.is_empty() { "There is no service account yet.".into() } else { lines.join("\n") };
    Ok(Output::new(text, values.into()))
}

fn value(account: &ServiceAccount, keys: &[ApiKey]) -> Value {
    let key = |key: &ApiKey| {
        json!({
            "id": key.id, "name": key.name, "hint": key.hint, "scopes": key.scopes, "models": key.models, "networks": key.networks,
            "expires_at": key.expires_at, "disabled_at": key.disabled_at, "last_used_at": key.last_used_at,
        })
    };
    json!({
        "id": account.id, "name": account.name, "purpose": account.purpose, "team": account.team, "cost_center": account.cost_center,
        "owner": account.owner_email, "models": account.models, "class": account.class, "expires_at": account.expires_at,
        "disabled_at": account.disabled_at,
        "keys": keys.iter().map(key).collect::<Vec<_>>(),
    })
}

fn state(disabled_at: Option<Millis>, expires_at: Option<Millis>) -> &'static str {
    match (disabled_at, expires_at) {
        (Some(_), _) => "  (disabled)",
        (None, Some(at)) if at <= SystemClock.now() => "  (expired)",
        _ => "",
    }
}

fn done(undo: bool) -> &'static str {
    if undo { "Opened" } else { "Closed" }
}

fn some(models: Vec<String>) -> Option<Vec<String>> {
    Some(models).filter(|models| !models.is_empty())
}

fn end_of(days: u32) -> Millis {
    SystemClock.now().saturating_add(i64::from(days) * DAY_MS)
}

#[cfg(test)]
mod tests {
    use super::execute;
    use crate::cli::AdminCommand;
    use contract::account::Role;
    use domain::{SystemClock, secret::Secret};
    use identity::{Identity, IdentityConfig, NewPerson};
    use std::sync::Arc;
    use testkit::TestDb;

    #[tokio::test]
    async fn an_account_has_an_owner_of_its_own_organisation() {
        let test = TestDb::new().await;
        let identity = Identity::new(test.db.clone(), Arc::new(SystemClock), IdentityConfig::default());
        let tenant = identity.create_tenant("test", "acme", "Acme").await.expect("a tenant");
        let other = identity.create_tenant("test", "other", "Other").await.expect("a tenant");
        for (tenant, email) in [(tenant, "kim@acme.example"), (other, "eve@other.example")] {
            let person = NewPerson {
                tenant,
                email: email.into(),
                name: "Somebody".into(),
                roles: vec![Role::User],
                password: Secret::new("Fahrradkette am Hafen"),
            };
            identity.create_user("test", person).await.expect("a person");
        }
        let create = async |name: &str, owner: Option<&str>| {
            let command = AdminCommand::CreateServiceAccount {
                tenant: "acme".into(),
                name: name.into(),
                purpose: "Tests".into(),
                team: String::new(),
                cost_center: String::new(),
                owner: owner.map(str::to_owned),
                models: Vec::new(),
                class: None,
                days: None,
            };
            execute(&identity, command).await.map(|output| output.render(false)).map_err(|error| error.to_string())
        };
        for stranger in ["eve@other.example", "nobody@acme.example"] {
            let refused = create("Reports", Some(stranger)).await.expect_err("nobody of theirs");
            assert!(refused.contains(stranger), "{refused}");
        }
        create("Reports", Some("Kim@Acme.example")).await.expect("created");
        create("Unowned", None).await.expect("created");
        let listed = execute(&identity, AdminCommand::ListServiceAccounts { tenant: "acme".into() }).await;
        let listed = listed.map(|output| output.render(false)).map_err(|error| error.to_string());
        assert_eq!(listed, Ok("Reports  Tests  (kim@acme.example)\nUnowned  Tests".to_owned()));
        let audited = "SELECT count(*) AS value FROM audit_event e JOIN app_user u ON u.id::text = e.detail ->> 'owner'
                       WHERE e.action = 'service_account.created' AND u.email = 'kim@acme.example'";
        assert_eq!(test.count_as_owner(audited).await, 1);
    }

    #[tokio::test]
    async fn an_account_is_deleted_only_if_it_is_meant() {
        let test = TestDb::new().await;
        let identity = Identity::new(test.db.clone(), Arc::new(SystemClock), IdentityConfig::default());
        let tenant = identity.create_tenant("test", "acme", "Acme").await.expect("a tenant");
        identity.create_service_account("test", testkit::keys::reports(tenant)).await.expect("an account");
        let delete = |yes| execute(&identity, AdminCommand::DeleteServiceAccount { tenant: "acme".into(), account: "Reports".into(), yes });
        let refused = delete(false).await.err().map(|error| error.to_string());
        assert!(refused.as_ref().is_some_and(|text| text.contains("Reports") && text.contains("--yes")), "{refused:?}");
        assert_eq!(identity.service_accounts("test", tenant).await.expect("accounts").len(), 1, "nothing is gone");
        let deleted = delete(true).await.map(|output| output.render(false)).map_err(|error| error.to_string());
        assert_eq!(deleted, Ok("Deleted Reports.".to_owned()));
        assert!(identity.service_accounts("test", tenant).await.expect("accounts").is_empty());
    }
}
