//! What every test here begins with.

use contract::{account::Role, model::Sampling, usage::Purpose};
use domain::Actor;
use inference::{ChatMessage, ChatRole, Generation, Inference, Options, Request};
use std::future::Future;
pub use testkit::generation::{first_text, read};
use testkit::{
    TestDb,
    fake_worker::{self, FakeWorker},
    ledger::{LedgerRow, ledger},
};

/// A database, a worker, a funnel over both, and somebody who asks.
pub struct Setup {
    pub db: TestDb,
    pub worker: FakeWorker,
    pub inference: Inference,
    pub actor: Actor,
}

pub async fn setup() -> Setup {
    let db = TestDb::new().await;
    let worker = FakeWorker::start().await;
    let inference = fake_worker::inference(&db, &worker);
    let actor = asker(&db).await;
    Setup { db, worker, inference, actor }
}

pub async fn asker(db: &TestDb) -> Actor {
    asker_of(db, "a").await
}

pub async fn asker_of(db: &TestDb, tenant: &str) -> Actor {
    let tenant = testkit::tenant(db, tenant).await;
    testkit::user(db, &tenant, &[Role::User]).await
}

pub fn request() -> Request {
    let messages = vec![ChatMessage::new(ChatRole::User, "What is a kontor?")];
    Request {
        purpose: Purpose::Chat,
        model: None,
        messages,
        continue_last: false,
        sampling: Sampling::default(),
        transient: false,
        options: Options::default(),
    }
}

impl Setup {
    pub async fn ask(&self) -> Generation {
        self.inference.admit(&self.actor, request()).await.expect("admitted")
    }

    /// The only row of the ledger.
    pub async fn only_use(&self) -> LedgerRow {
        let rows = ledger(&self.db).await;
        assert_eq!(rows.len(), 1, "one use, one event: {rows:?}");
        rows.into_iter().next().expect("one")
    }

    /// The only row of the ledger, once it is settled.
    pub async fn settled(&self) -> LedgerRow {
        eventually("the use is settled", || async { self.only_use().await.state == "settled" }).await;
        self.only_use().await
    }
}

/// Waits up to five seconds for something to become true.
pub async fn eventually<F: Future<Output = bool>>(what: &str, check: impl FnMut() -> F) {
    testkit::eventually(what, 5, check).await;
}
