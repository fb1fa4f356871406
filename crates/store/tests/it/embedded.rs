//! Our own Postgres: made, taken over, stopped, started again.

use sea_orm::{ConnectionTrait, Database};
use std::os::unix::fs::PermissionsExt;
use store::embedded::{Embedded, EmbeddedOptions};
use testkit::db::postgres_dir;

const OPTIONS: EmbeddedOptions = EmbeddedOptions { max_connections: 10, durable: false };

async fn run(url: &str, sql: &str) -> Result<(), sea_orm::DbErr> {
    let connection = Database::connect(url).await?;
    connection.execute_unprepared(sql).await?;
    connection.close().await
}

#[tokio::test]
async fn data_survives_a_stop_and_a_running_server_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("postgres");
    let first = Embedded::start(&postgres_dir(), &data, OPTIONS).await.unwrap();
    run(&first.owner_url, "CREATE TABLE kept (id int)").await.unwrap();

    let second = Embedded::start(&postgres_dir(), &data, OPTIONS).await.unwrap();
    assert_eq!(first.owner_url, second.owner_url, "the same server, with the same password");
    assert_eq!(first.tenant_password, second.tenant_password);
    second.stop().await.unwrap();
    assert!(run(&first.owner_url, "SELECT 1").await.is_err());

    let third = Embedded::start(&postgres_dir(), &data, OPTIONS).await.unwrap();
    run(&third.owner_url, "INSERT INTO kept VALUES (1)").await.unwrap();
    third.stop().await.unwrap();
}

#[tokio::test]
async fn the_passwords_are_for_their_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let server = Embedded::start(&postgres_dir(), folder.path(), OPTIONS).await.unwrap();
    for name in ["owner", "tenant", "system"] {
        let mode = std::fs::metadata(folder.path().join(format!("{name}.password"))).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert!(!folder.path().join("initdb.password").exists());
    let (_, address) = server.owner_url.rsplit_once('@').unwrap();
    let nobody = format!("postgres://kontor_owner:guess@{address}");
    assert!(run(&nobody, "SELECT 1").await.is_err(), "a password is asked for");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_start_that_fails_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let server = Embedded::start(&postgres_dir(), folder.path(), OPTIONS).await.unwrap();
    server.stop().await.unwrap();
    // As an older major version would have left it.
    std::fs::write(folder.path().join("cluster/PG_VERSION"), "9.6\n").unwrap();
    let error = Embedded::start(&postgres_dir(), folder.path(), OPTIONS).await.unwrap_err().to_string();
    assert!(error.contains("9.6"), "{error}");
}
