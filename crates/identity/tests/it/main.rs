//! `identity` against a real Postgres.

use contract::{
    account::Role,
    ids::{RequestId, TenantId, UserId},
};
use domain::{Actor, Result, secret::Secret};
use identity::{Identity, IdentityConfig, NewPerson, SignIn, SignedIn};
use std::sync::Arc;
use testkit::{TestClock, TestDb};
use uuid::Uuid;

mod account;
mod keys;
mod people;
mod sessions;
mod sign_in;
mod throttling;

const EMAIL: &str = "anna@example.org";
const PASSWORD: &str = "Fahrradkette am Hafen";

/// A tenant with Anna in it.
struct House {
    test: TestDb,
    clock: Arc<TestClock>,
    identity: Identity,
    tenant: TenantId,
    anna: UserId,
}

impl House {
    async fn build() -> Self {
        let test = TestDb::new().await;
        let clock = Arc::new(TestClock::default());
        let identity = Identity::new(test.db.clone(), clock.clone(), IdentityConfig::default());
        let tenant = identity.create_tenant("test", "demo", "Demo").await.unwrap();
        let anna = identity.create_user("test", person(tenant, EMAIL)).await.unwrap();
        Self { test, clock, identity, tenant, anna }
    }

    /// A second process on the same database, with a cache of its own.
    fn other_replica(&self) -> Identity {
        Identity::new(self.test.db.clone(), self.clock.clone(), IdentityConfig::default())
    }

    async fn sign_in(&self) -> SignedIn {
        self.identity.sign_in(visitor(EMAIL, PASSWORD)).await.unwrap()
    }

    async fn try_sign_in(&self, email: &str, password: &str) -> Result<SignedIn> {
        self.identity.sign_in(visitor(email, password)).await
    }

    async fn actor(&self, signed_in: &SignedIn) -> Option<Actor> {
        self.identity.authenticate(signed_in.token.reveal(), request()).await.unwrap()
    }

    /// Rows of the audit trail.
    async fn audited(&self, action: &str, condition: &str) -> i64 {
        self.test.count_as_owner(&format!("SELECT count(*) AS value FROM audit_event WHERE action = '{action}' AND {condition}")).await
    }
}

fn person(tenant: TenantId, email: &str) -> NewPerson {
    NewPerson { tenant, email: email.into(), name: "Anna".into(), roles: vec![Role::User], password: Secret::new(PASSWORD) }
}

fn visitor(email: &str, password: &str) -> SignIn {
    SignIn {
        email: email.into(),
        password: Secret::new(password),
        user_agent: "Mozilla/5.0".into(),
        client: "192.0.2.7".into(),
        previous: None,
        request: request(),
    }
}

fn request() -> RequestId {
    RequestId(Uuid::now_v7())
}

fn code<T: std::fmt::Debug>(outcome: Result<T>) -> String {
    outcome.unwrap_err().problem().code
}
