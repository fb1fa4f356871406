//! News of turns.

use contract::{account::Role, ids::TurnId};
use std::time::Duration;
use testkit::TestDb;
use tokio::time::timeout;
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(5);
const NOT_YET: Duration = Duration::from_millis(200);

#[tokio::test]
async fn a_subscription_hears_of_its_turn_and_of_no_other() {
    let test = TestDb::new().await;
    let (mine, other) = (TurnId(Uuid::now_v7()), TurnId(Uuid::now_v7()));
    let mut subscription = test.db.subscribe(mine).await.unwrap();
    test.db.notify(other).await.unwrap();
    assert!(timeout(NOT_YET, subscription.changed()).await.is_err());
    test.db.notify(mine).await.unwrap();
    assert!(timeout(SOON, subscription.changed()).await.unwrap());
}

#[tokio::test]
async fn news_of_a_transaction_come_with_its_commit() {
    let test = TestDb::new().await;
    let tenant = testkit::tenant(&test, "a").await;
    let actor = testkit::user(&test, &tenant, &[Role::User]).await;
    let turn = TurnId(Uuid::now_v7());
    let mut subscription = test.db.subscribe(turn).await.unwrap();
    let tx = test.db.begin(&actor).await.unwrap();
    tx.notify(turn).await.unwrap();
    assert!(timeout(NOT_YET, subscription.changed()).await.is_err());
    tx.commit().await.unwrap();
    assert!(timeout(SOON, subscription.changed()).await.unwrap());
}

#[tokio::test]
async fn a_lost_connection_wakes_everybody_and_comes_back() {
    let test = TestDb::new().await;
    let turn = TurnId(Uuid::now_v7());
    let mut subscription = test.db.subscribe(turn).await.unwrap();
    let killed = test
        .count_as_owner(
            "SELECT count(pg_terminate_backend(pid)) AS value FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'",
        )
        .await;
    assert_eq!(killed, 1, "one connection listens for the whole process");
    assert!(timeout(SOON, subscription.changed()).await.unwrap(), "news may have been lost meanwhile");
    test.db.notify(turn).await.unwrap();
    assert!(timeout(SOON, subscription.changed()).await.unwrap());
}

#[tokio::test]
async fn closing_the_database_ends_subscriptions() {
    let test = TestDb::new().await;
    let mut subscription = test.db.subscribe(TurnId(Uuid::now_v7())).await.unwrap();
    test.db.close().await.unwrap();
    assert!(!timeout(SOON, subscription.changed()).await.unwrap());
}
