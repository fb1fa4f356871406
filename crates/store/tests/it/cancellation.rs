//! A caller that goes away while its transaction begins.

use contract::account::Role;
use futures::poll;
use rand::RngExt;
use std::{
    pin::pin,
    time::{Duration, Instant},
};
use testkit::TestDb;

/// Looks this often whether an abandoned transaction is gone, 10 ms apart: far less than the 30 s after
/// which Postgres itself would end it.
const LOOKS: u32 = 300;

/// sqlx 0.9.0 returns a connection with an open transaction to the pool if the future is dropped while `BEGIN`
/// is on its way; the next borrower would then work inside it, and lose its work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_begin_never_poisons_the_pool() {
    let test = TestDb::with_connections(1).await;
    let tenant = testkit::tenant(&test, "a").await;
    let actor = testkit::user(&test, &tenant, &[Role::User]).await;
    let mut cancelled = 0;
    for round in 0..60 {
        let delay = Duration::from_micros(rand::rng().random_range(0..1_500));
        // Whether it was in time does not matter: either way it must leave nothing behind.
        if !finishes_within(delay, test.db.begin(&actor)).await {
            cancelled += 1;
        }
        assert!(
            becomes_idle(&test).await,
            "round {round}: a connection with an open transaction is in the pool. \
             If you are here because this failed: begin only inside a spawned task (db.rs, `open`)."
        );
        // And the pool's only connection works as if nothing had happened.
        let tx = test.db.begin(&actor).await.unwrap();
        tx.users().get(actor.user().unwrap()).await.unwrap();
        tx.commit().await.unwrap();
    }
    assert!(cancelled > 0, "no delay was short enough to cancel anything: the test proves nothing");
}

/// Tokio's own timer knows whole milliseconds only, in which a transaction has long begun.
async fn finishes_within<F: Future>(delay: Duration, future: F) -> bool {
    let (mut future, until) = (pin!(future), Instant::now() + delay);
    loop {
        if poll!(&mut future).is_ready() {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        tokio::task::yield_now().await;
    }
}

async fn becomes_idle(test: &TestDb) -> bool {
    let open = "SELECT count(*) AS value FROM pg_stat_activity
                WHERE datname = current_database() AND usename = 'kontor_tenant' AND state LIKE 'idle in transaction%'";
    for _ in 0..LOOKS {
        if test.count_as_owner(open).await == 0 {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

#[tokio::test]
async fn an_uncommitted_transaction_leaves_nothing() {
    let test = TestDb::new().await;
    let tenant = testkit::tenant(&test, "a").await;
    let actor = testkit::user(&test, &tenant, &[Role::User]).await;
    let user = actor.user().unwrap();
    let tx = test.db.begin(&actor).await.unwrap();
    tx.users().delete(user).await.unwrap();
    drop(tx);
    let tx = test.db.begin(&actor).await.unwrap();
    assert!(tx.users().get(user).await.is_ok());
}
