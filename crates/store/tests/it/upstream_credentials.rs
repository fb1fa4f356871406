//! Keys of upstreams: kept as they come, told to other nodes, and nothing for the web's login.

use crate::statement;
use sea_orm::ConnectionTrait;
use store::{Reason, SystemTx, Topic, Watched, upstream_credentials::UpstreamCredential};
use testkit::TestDb;

async fn begin(test: &TestDb) -> SystemTx {
    test.db.begin_system("test", Reason::Administration).await.unwrap()
}

async fn set(test: &TestDb, upstream: &str, sealed: &[u8], key_id: &str) {
    let tx = begin(test).await;
    tx.upstream_credentials().set(upstream, sealed.to_vec(), key_id, "kim").await.unwrap();
    tx.commit().await.unwrap();
}

fn shown(rows: &[UpstreamCredential]) -> Vec<(&str, &[u8], &str)> {
    rows.iter().map(|row| (row.upstream.as_str(), row.sealed.as_slice(), row.key_id.as_str())).collect()
}

#[tokio::test]
async fn a_key_is_set_replaced_sealed_anew_and_forgotten() {
    let test = TestDb::new().await;
    set(&test, "vllm", b"one", "a").await;
    set(&test, "azure", b"two", "a").await;
    set(&test, "vllm", b"three", "a").await;
    let before = test.db.upstream_credentials().await.unwrap();
    assert_eq!(shown(&before), [("azure", b"two".as_slice(), "a"), ("vllm", b"three".as_slice(), "a")]);
    assert!(before.iter().all(|row| row.changed_by == "kim" && row.changed_at > 0), "{before:?}");

    let tx = begin(&test).await;
    let keys = tx.upstream_credentials();
    assert_eq!(keys.locked().await.unwrap(), before);
    keys.reseal("vllm", b"four".to_vec(), "b").await.unwrap();
    keys.remove("azure").await.unwrap();
    assert!(keys.remove("azure").await.is_err());
    assert!(keys.reseal("azure", Vec::new(), "b").await.is_err(), "what was removed does not come back");
    tx.commit().await.unwrap();
    let after = test.db.upstream_credentials().await.unwrap();
    assert_eq!(shown(&after), [("vllm", b"four".as_slice(), "b")]);
    assert_eq!(after[0].changed_at, before[1].changed_at, "the key itself is the same");
}

#[tokio::test]
async fn every_change_is_counted_so_that_nodes_look() {
    let test = TestDb::new().await;
    let watched = Watched::new(Topic::UpstreamCredentials);
    let known = async || {
        let db = &test.db;
        watched.not_older_than(std::time::Duration::ZERO, db, |_| db.upstream_credentials()).await.unwrap().len()
    };
    assert_eq!(known().await, 0);
    set(&test, "vllm", b"one", "a").await;
    assert_eq!(known().await, 1);
    let tx = begin(&test).await;
    tx.upstream_credentials().remove("vllm").await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(known().await, 0);
}

#[tokio::test]
async fn the_web_s_login_sees_none_of_it() {
    let test = TestDb::new().await;
    set(&test, "vllm", b"one", "a").await;
    let web = test.login("kontor_tenant").await;
    for sql in [
        "SELECT sealed FROM upstream_credentials",
        "SELECT upstream FROM upstream_credentials",
        "INSERT INTO upstream_credentials (upstream, sealed, key_id, changed_by) VALUES ('x', '', '', '')",
        "DELETE FROM upstream_credentials",
    ] {
        let refused = web.query_all_raw(statement(sql, [])).await.expect_err(sql).to_string();
        assert!(refused.contains("permission denied"), "{sql}: {refused}");
    }
}

#[tokio::test]
async fn whoever_seals_waits_for_whoever_seals_anew() {
    // Two transactions and a reader at the same time, on a quarter of these.
    let test = TestDb::with_connections(16).await;
    let tx = begin(&test).await;
    assert!(tx.upstream_credentials().locked().await.unwrap().is_empty());
    let second = set(&test, "vllm", b"one", "a");
    let first = async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        assert!(test.db.upstream_credentials().await.unwrap().is_empty(), "reading goes on, and nobody has written");
        tx.upstream_credentials().set("azure", b"two".to_vec(), "b", "kim").await.unwrap();
        tx.commit().await.unwrap();
    };
    tokio::join!(second, first);
    assert_eq!(test.db.upstream_credentials().await.unwrap().len(), 2);
}
