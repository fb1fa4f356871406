//! Service accounts with keys that open, made as an administrator makes them.

use contract::{
    ids::{ServiceAccountId, TenantId},
    key::Scope,
};
use identity::{Identity, MadeKey, NewAccount, NewKey};

/// An account of the tenant that may use every model.
#[must_use]
pub fn reports(tenant: TenantId) -> NewAccount {
    NewAccount {
        tenant,
        name: "Reports".into(),
        purpose: "Weekly reports".into(),
        team: String::new(),
        cost_center: String::new(),
        owner: None,
        models: None,
        class: None,
        expires_at: None,
    }
}

/// Makes [`reports`], with a key for inference.
///
/// # Panics
/// If the tenant has them already.
pub async fn make(identity: &Identity, tenant: TenantId) -> (ServiceAccountId, MadeKey) {
    let account = identity.create_service_account("test", reports(tenant)).await.expect("an account");
    (account, key(identity, tenant, account, NewKey::default()).await)
}

/// Makes a key of the account for inference, else as `new` has it.
///
/// # Panics
/// If it is refused.
pub async fn key(identity: &Identity, tenant: TenantId, account: ServiceAccountId, new: NewKey) -> MadeKey {
    let new = NewKey { scopes: vec![Scope::Inference], ..new };
    identity.create_key("test", tenant, account, new).await.expect("a key")
}
