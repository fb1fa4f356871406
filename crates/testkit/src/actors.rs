//! Tenants and signed-in people for tests, stored for real.

use crate::TestDb;
use contract::{
    account::Role,
    ids::{ApiKeyId, RequestId, ServiceAccountId, SessionId, TenantId, UserId},
    key::Scope,
};
use domain::{Actor, Clock, DataClass, Program, SystemClock};
use std::sync::Arc;
use store::{Reason, service_accounts::NewServiceAccount, sessions::NewSession, users::NewUser};
use uuid::Uuid;

/// A stored tenant.
#[derive(Clone, Copy, Debug)]
pub struct TestTenant {
    pub id: TenantId,
}

/// Stores a tenant; `slug` must be unique within the test's database.
///
/// # Panics
/// If the database refuses it.
pub async fn tenant(test: &TestDb, slug: &str) -> TestTenant {
    let id = TenantId(Uuid::now_v7());
    let tx = test.db.begin_system("testkit", Reason::SignIn).await.expect("a transaction");
    tx.tenants().create(id, slug, &format!("Tenant {slug}")).await.expect("a tenant");
    tx.commit().await.expect("committing");
    TestTenant { id }
}

/// Stores a person (without a password) with a valid session, and gives the actor that `identity` would make of it.
///
/// # Panics
/// If the database refuses it.
pub async fn user(test: &TestDb, tenant: &TestTenant, roles: &[Role]) -> Actor {
    let (user, session, now) = (UserId(Uuid::now_v7()), SessionId(Uuid::now_v7()), SystemClock.now());
    let tx = test.db.begin_system("testkit", Reason::SignIn).await.expect("a transaction");
    let new = NewUser {
        id: user,
        email: format!("{}@example.org", user.0.simple()),
        name: "Somebody".into(),
        roles: roles.to_vec(),
        created_at: now,
    };
    tx.users().create(tenant.id, &new).await.expect("a user");
    let new = NewSession {
        id: session,
        tenant: tenant.id,
        user,
        token_hash: token_hash(session),
        user_agent: "testkit".into(),
        created_at: now,
        expires_at: now + 86_400_000,
    };
    tx.sessions().create(&new).await.expect("a session");
    let stored = tx.tenants().get(tenant.id).await.expect("the tenant");
    tx.commit().await.expect("committing");
    Actor::authenticated(tenant.id, user, session, roles.to_vec(), RequestId(Uuid::now_v7())).classified(stored.slug.into(), stored.class)
}

/// Stores a service account, and gives the actor that `identity` would make of a key of it.
///
/// # Panics
/// If the database refuses it.
pub async fn program(test: &TestDb, tenant: &TestTenant) -> Actor {
    program_of(test, tenant, "Team", "4711").await
}

/// The same with a service account of this team and this cost centre.
///
/// # Panics
/// If the database refuses it.
pub async fn program_of(test: &TestDb, tenant: &TestTenant, team: &str, cost_center: &str) -> Actor {
    let account = ServiceAccountId(Uuid::now_v7());
    let new = NewServiceAccount {
        id: account,
        name: format!("Program {account}"),
        purpose: "Tests".into(),
        team: team.into(),
        cost_center: cost_center.into(),
        owner: None,
        models: None,
        class: None,
        expires_at: None,
        created_at: SystemClock.now(),
    };
    let tx = test.db.begin_system("testkit", Reason::SignIn).await.expect("a transaction");
    tx.service_accounts().create(tenant.id, &new).await.expect("a service account");
    let stored = tx.tenants().get(tenant.id).await.expect("the tenant");
    tx.commit().await.expect("committing");
    let program = Program {
        account,
        key: ApiKeyId(Uuid::now_v7()),
        team: team.into(),
        cost_center: cost_center.into(),
        scopes: vec![Scope::Inference],
        user: None,
        models: None,
    };
    Actor::program(tenant.id, Arc::new(program), RequestId(Uuid::now_v7())).classified(stored.slug.into(), stored.class)
}

/// The same service account by another key.
///
/// # Panics
/// If it is no program of [`program`] or [`program_of`].
#[must_use]
pub fn another_key(of: &Actor) -> Actor {
    let program = Program { key: ApiKeyId(Uuid::now_v7()), ..of.as_program().expect("a program").clone() };
    let slug = of.tenant_slug().expect("a stored tenant").clone();
    Actor::program(of.tenant(), Arc::new(program), RequestId(Uuid::now_v7())).classified(slug, of.class())
}

/// Somebody with internal data in a tenant of this short name, stored nowhere: for rules that ask no database.
#[must_use]
pub fn anybody(tenant: &str) -> Actor {
    Actor::system("testkit", TenantId(Uuid::now_v7()), RequestId(Uuid::now_v7())).classified(tenant.into(), DataClass::Internal)
}

/// Unique, and the hash of no token that anybody could know.
fn token_hash(session: SessionId) -> [u8; 32] {
    let mut hash = [0; 32];
    hash[..16].copy_from_slice(session.0.as_bytes());
    hash[16..].copy_from_slice(Uuid::now_v7().as_bytes());
    hash
}
