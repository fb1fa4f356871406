//! Tenants and signed-in people for tests, stored for real.

use crate::TestDb;
use contract::{
    account::{Language, Role},
    ids::{RequestId, SessionId, TenantId, UserId},
};
use domain::{Actor, Clock, SystemClock};
use store::{Reason, sessions::NewSession, users::NewUser};
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
        language: Language::En,
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
    tx.commit().await.expect("committing");
    Actor::authenticated(tenant.id, user, session, roles.to_vec(), RequestId(Uuid::now_v7()))
}

/// Unique, and the hash of no token that anybody could know.
fn token_hash(session: SessionId) -> [u8; 32] {
    let mut hash = [0; 32];
    hash[..16].copy_from_slice(session.0.as_bytes());
    hash[16..].copy_from_slice(Uuid::now_v7().as_bytes());
    hash
}
