//! Service accounts and their keys, for whoever administers them.

use crate::{
    Identity, keys,
    people::{required, taken},
};
use contract::{
    Millis,
    ids::{ApiKeyId, ServiceAccountId, TenantId},
    key::Scope,
};
use domain::{DataClass, Error, Result, secret::Secret};
use ipnet::IpNet;
use std::{collections::BTreeSet, net::IpAddr};
use store::{
    Reason,
    api_keys::{ApiKey, NewApiKey},
    audit::AuditEvent,
    service_accounts::{NewServiceAccount, ServiceAccount},
};
use uuid::Uuid;

/// A service account to be made.
#[derive(Clone, Debug)]
pub struct NewAccount {
    pub tenant: TenantId,
    pub name: String,
    /// What it is for, in words.
    pub purpose: String,
    pub team: String,
    pub cost_center: String,
    /// Who answers for it: the e-mail of a person of the tenant.
    pub owner: Option<String>,
    /// `None`: every model of the tenant.
    pub models: Option<Vec<String>>,
    /// How closely its data is kept; `None`: as its tenant's.
    pub class: Option<DataClass>,
    pub expires_at: Option<Millis>,
}

/// A key to be made.
#[derive(Clone, Debug, Default)]
pub struct NewKey {
    pub name: String,
    pub scopes: Vec<Scope>,
    /// `None`: every model of the account.
    pub models: Option<Vec<String>>,
    /// From where it may be used, as addresses or CIDR; empty: from everywhere.
    pub networks: Vec<String>,
    pub expires_at: Option<Millis>,
}

/// A key that was just made. The secret is shown once and stored nowhere.
#[derive(Clone, Debug)]
pub struct MadeKey {
    pub id: ApiKeyId,
    pub key: Secret,
}

impl Identity {
    /// Adds a service account. `by` names the command for the audit trail, here and below.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `name`, `purpose` or `owner`; [`Error::Conflict`] with code `name_taken`.
    pub async fn create_service_account(&self, by: &str, account: NewAccount) -> Result<ServiceAccountId> {
        let (name, purpose) = (required("name", &account.name)?, required("purpose", &account.purpose)?);
        let id = ServiceAccountId(Uuid::now_v7());
        let tx = self.db().begin_system(by, Reason::Administration).await?;
        let owner = match &account.owner {
            Some(email) => Some(tx.users().by_email(account.tenant, email).await.map_err(|error| nobody(error, email))?),
            None => None,
        };
        let new = NewServiceAccount {
            id,
            name: name.into(),
            purpose: purpose.into(),
            team: account.team.trim().into(),
            cost_center: account.cost_center.trim().into(),
            owner,
            models: account.models,
            class: account.class,
            expires_at: account.expires_at,
            created_at: self.now(),
        };
        let name_taken = |error| taken(error, "name_taken", "There is a service account of this name already.");
        tx.service_accounts().create(account.tenant, &new).await.map_err(name_taken)?;
        let event = AuditEvent::new(by, "service_account.created").target(id).detail("owner", owner.map(|owner| owner.to_string()));
        let event = event.detail("class", new.class.map(DataClass::name));
        tx.audit(&event, Some(account.tenant)).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// All service accounts of a tenant.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn service_accounts(&self, by: &str, tenant: TenantId) -> Result<Vec<ServiceAccount>> {
        let tx = self.db().begin_system(by, Reason::Administration).await?;
        let accounts = tx.service_accounts().list(tenant).await?;
        tx.commit().await?;
        Ok(accounts)
    }

    /// The service account of this name.
    ///
    /// # Errors
    /// [`Error::NotFound`]; else as for any statement.
    pub async fn service_account(&self, by: &str, tenant: TenantId, name: &str) -> Result<ServiceAccount> {
        let tx = self.db().begin_system(by, Reason::Administration).await?;
        let account = tx.service_accounts().by_name(tenant, name).await?;
        tx.commit().await?;
        Ok(account)
    }

    /// Keeps an account's data as closely as this class wants, or (`None`) as its tenant's. In force everywhere within two
    /// seconds, for what begins from then on.
    ///
    /// # Errors
    /// [`Error::NotFound`]; else as for any statement.
    pub async fn set_account_class(&self, by: &str, tenant: TenantId, account: ServiceAccountId, class: Option<DataClass>) -> Result<()> {
        let tx = self.db().begin_system(by, Reason::Administration).await?;
        tx.service_accounts().set_class(tenant, account, class).await?;
        let event = AuditEvent::new(by, "service_account.class_set").target(account).detail("class", class.map(DataClass::name));
        tx.audit(&event, Some(tenant)).await?;
        tx.commit().await?;
        self.inner.keys.doubt();
        Ok(())
    }

    /// Closes an account with all its keys, or opens it again.
    ///
    /// # Errors
    /// [`Error::NotFound`]; else as for any statement.
    pub async fn disable_service_account(&self, by: &str, tenant: TenantId, account: ServiceAccountId, disabled: bool) -> Result<()> {
        let tx = self.db().begin_system(by, Reason::Administration).await?;
        tx.service_accounts().set_disabled(tenant, account, disabled.then(|| self.now())).await?;
        let action = if disabled { "service_account.disabled" } else { "service_account.enabled" };
        tx.audit(&AuditEvent::new(by, action).target(account), Some(tenant)).await?;
        tx.commit().await?;
        self.inner.keys.doubt();
        Ok(())
    }

    /// Removes an account for good, with its keys, chats, responses, files and batches. What is being made for it ends. Its uses
    /// stay in the ledger; limits and budgets of its own stay until they are removed. The id that it had.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] with code `batches_open` if not all of its batches have ended; else as for any
    /// statement.
    pub async fn delete_service_account(&self, by: &str, tenant: TenantId, name: &str) -> Result<ServiceAccountId> {
        let tx = self.db().begin_system(by, Reason::Administration).await?;
        let account = tx.service_accounts().by_name(tenant, name).await?;
        let made = tx.service_accounts().delete(tenant, account.id).await?;
        let event = AuditEvent::new(by, "service_account.deleted").target(account.id).detail("name", account.name);
        tx.audit(&event, Some(tenant)).await?;
        for id in made {
            tx.notify(id).await?;
        }
        tx.commit().await?;
        self.inner.keys.doubt();
        Ok(account.id)
    }

    /// Makes a key for an account. The first one with [`Scope::Chat`] lets the account own chats.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `scopes` or `networks`.
    pub async fn create_key(&self, by: &str, tenant: TenantId, account: ServiceAccountId, new: NewKey) -> Result<MadeKey> {
        if new.scopes.is_empty() {
            return Err(Error::invalid("scopes", "required", "A key needs at least one scope."));
        }
        let networks = networks(&new.networks)?;
        let scopes: Vec<Scope> = new.scopes.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        let (id, (key, hash, hint)) = (ApiKeyId(Uuid::now_v7()), keys::make());
        let row = NewApiKey {
            id,
            account,
            name: new.name.trim().into(),
            hash,
            hint,
            scopes,
            models: new.models,
            networks,
            expires_at: new.expires_at,
            created_at: self.now(),
        };
        let tx = self.db().begin_system(by, Reason::Administration).await?;
        tx.api_keys().create(tenant, &row).await?;
        tx.audit(&rights(AuditEvent::new(by, "key.created").target(id), &row), Some(tenant)).await?;
        tx.commit().await?;
        self.inner.keys.doubt();
        Ok(MadeKey { id, key })
    }

    /// The keys of an account, newest first.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn keys(&self, by: &str, tenant: TenantId, account: ServiceAccountId) -> Result<Vec<ApiKey>> {
        let tx = self.db().begin_system(by, Reason::Administration).await?;
        let keys = tx.api_keys().list(tenant, account).await?;
        tx.commit().await?;
        Ok(keys)
    }

    /// Whose key it is.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn tenant_of_key(&self, by: &str, key: ApiKeyId) -> Result<TenantId> {
        let tx = self.db().begin_system(by, Reason::Administration).await?;
        let (tenant, _) = tx.api_keys().get(key).await?;
        tx.commit().await?;
        Ok(tenant)
    }

    /// Closes a key everywhere within two seconds, or opens it again.
    ///
    /// # Errors
    /// [`Error::NotFound`]; else as for any statement.
    pub async fn disable_key(&self, by: &str, key: ApiKeyId, disabled: bool) -> Result<()> {
        let tx = self.db().begin_system(by, Reason::Administration).await?;
        let (tenant, _) = tx.api_keys().get(key).await?;
        tx.api_keys().set_disabled(key, disabled.then(|| self.now())).await?;
        let action = if disabled { "key.disabled" } else { "key.enabled" };
        tx.audit(&AuditEvent::new(by, action).target(key), Some(tenant)).await?;
        tx.commit().await?;
        self.inner.keys.doubt();
        Ok(())
    }

    /// Makes a successor with the same rights; the old key goes on for `overlap_ms` at most.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] if the key has ended; else as for any statement.
    pub async fn rotate_key(&self, by: &str, key: ApiKeyId, overlap_ms: i64) -> Result<MadeKey> {
        let now = self.now();
        let (id, (secret, hash, hint)) = (ApiKeyId(Uuid::now_v7()), keys::make());
        let tx = self.db().begin_system(by, Reason::Administration).await?;
        let (tenant, old) = tx.api_keys().get(key).await?;
        if old.disabled_at.is_some() || old.expires_at.is_some_and(|at| at <= now) {
            return Err(Error::conflict("key_ended", "This key is disabled or has expired; make a new one."));
        }
        let ends = now.saturating_add(overlap_ms.max(0));
        tx.api_keys().set_expiry(key, Some(old.expires_at.map_or(ends, |at| at.min(ends)))).await?;
        let new = NewApiKey {
            id,
            account: old.account,
            name: old.name,
            hash,
            hint,
            scopes: old.scopes,
            models: old.models,
            networks: old.networks,
            expires_at: old.expires_at,
            created_at: now,
        };
        tx.api_keys().create(tenant, &new).await?;
        let event = AuditEvent::new(by, "key.rotated").target(key).detail("successor", id.to_string());
        tx.audit(&rights(event, &new), Some(tenant)).await?;
        tx.commit().await?;
        self.inner.keys.doubt();
        Ok(MadeKey { id, key: secret })
    }
}

fn nobody(error: Error, email: &str) -> Error {
    match error {
        Error::NotFound { .. } => {
            let message = format!("Nobody in this organisation has the e-mail {email}, or they are locked out.");
            Error::invalid("owner", "unknown_person", message)
        }
        other => other,
    }
}

/// What a new key opens, and whose it is, for the audit trail: keys may be gone when somebody asks.
fn rights(event: AuditEvent, key: &NewApiKey) -> AuditEvent {
    let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.name()).collect();
    let event = event.detail("account", key.account.to_string()).detail("scopes", scopes);
    event.detail("models", key.models.clone()).detail("networks", key.networks.clone())
}

/// Addresses become networks of one.
fn networks(texts: &[String]) -> Result<Vec<String>> {
    let network = |text: &String| {
        let text = text.trim();
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map(|network| network.trunc().to_string()).map_err(|_| {
            Error::invalid("networks", "bad_network", format!("{text:?} is no network; write it like 10.1.0.0/16 or 2001:db8::/32."))
        })
    };
    texts.iter().map(network).collect()
}

#[cfg(test)]
mod tests {
    use super::networks;

    #[test]
    fn networks_are_addresses_or_ranges() {
        let made = |texts: &[&str]| networks(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(made(&["10.1.2.3/16", " 192.0.2.7", "2001:db8::1"]).unwrap(), ["10.1.0.0/16", "192.0.2.7/32", "2001:db8::1/128"]);
        assert!(made(&["10.1.2.3/33"]).is_err() && made(&["example.org"]).is_err() && made(&[""]).is_err());
    }
}
