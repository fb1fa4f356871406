//! The schema's history. Read `README.md` beside this crate before adding a step.
//!
//! Migrations run with the owner's login, under a Postgres advisory lock, so that any number of
//! replicas may call [`migrate`] at the same time.

use sea_orm_migration::{
    prelude::*,
    sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement},
};
use std::hash::{DefaultHasher, Hash, Hasher};

mod step;

use step::Step;

/// All steps, oldest first. What is released is never changed, see `README.md`.
const STEPS: [Step; 22] = [
    // Tenants, people, chats, ledger, audit.
    Step { name: "m0001_ground_floor", sql: include_str!("m0001_ground_floor.sql") },
    Step { name: "m0002_served_model", sql: include_str!("m0002_served_model.sql") },
    Step { name: "m0003_service_accounts", sql: include_str!("m0003_service_accounts.sql") },
    Step { name: "m0004_responses", sql: include_str!("m0004_responses.sql") },
    Step { name: "m0005_money", sql: include_str!("m0005_money.sql") },
    Step { name: "m0006_audit_chain", sql: include_str!("m0006_audit_chain.sql") },
    Step { name: "m0007_guardrails", sql: include_str!("m0007_guardrails.sql") },
    Step { name: "m0008_ledger_batches", sql: include_str!("m0008_ledger_batches.sql") },
    Step { name: "m0009_ledger_days", sql: include_str!("m0009_ledger_days.sql") },
    Step { name: "m0010_files_and_batches", sql: include_str!("m0010_files_and_batches.sql") },
    Step { name: "m0011_response_cache", sql: include_str!("m0011_response_cache.sql") },
    Step { name: "m0012_language_and_warnings", sql: include_str!("m0012_language_and_warnings.sql") },
    Step { name: "m0013_journal", sql: include_str!("m0013_journal.sql") },
    Step { name: "m0014_chats_of_programs", sql: include_str!("m0014_chats_of_programs.sql") },
    Step { name: "m0015_upstream_credentials", sql: include_str!("m0015_upstream_credentials.sql") },
    Step { name: "m0016_waiting_batches", sql: include_str!("m0016_waiting_batches.sql") },
    Step { name: "m0017_people_of_the_ledger", sql: include_str!("m0017_people_of_the_ledger.sql") },
    Step { name: "m0018_deleted_accounts", sql: include_str!("m0018_deleted_accounts.sql") },
    Step { name: "m0019_files_of_batches", sql: include_str!("m0019_files_of_batches.sql") },
    Step { name: "m0020_weights_of_tenants", sql: include_str!("m0020_weights_of_tenants.sql") },
    Step { name: "m0021_data_classes", sql: include_str!("m0021_data_classes.sql") },
    Step { name: "m0022_ledger_counts", sql: include_str!("m0022_ledger_counts.sql") },
];

/// Key of the advisory lock: the bytes of `kontor_m`. Never change it, or two versions could migrate at once.
const LOCK: i64 = i64::from_be_bytes(*b"kontor_m");

/// What sea-orm runs.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        STEPS.into_iter().map(|step| Box::new(step) as Box<dyn MigrationTrait>).collect()
    }
}

/// Identifies this set of migrations, including their text: test databases are cached under it.
#[must_use]
pub fn fingerprint() -> String {
    let mut hasher = DefaultHasher::new();
    STEPS.map(|step| (step.name, step.sql)).hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Brings the database at `owner_url` to the newest schema. Waits while another process does the same.
///
/// # Errors
/// The database cannot be reached, the login may not change the schema, or a step fails (it is rolled back).
pub async fn migrate(owner_url: &str) -> Result<(), DbErr> {
    let connection = connect(owner_url).await?;
    let outcome = migrate_locked(&connection).await;
    // Closing the only connection gives the session's advisory lock back, whatever happened.
    connection.close().await?;
    outcome
}

/// The schema of an earlier version, for tests of what becomes of its data: the first `steps` steps on an empty database.
///
/// # Errors
/// As [`migrate`].
pub async fn migrate_to_step(owner_url: &str, steps: u32) -> Result<(), DbErr> {
    let connection = connect(owner_url).await?;
    let outcome = Migrator::up(&connection, Some(steps)).await;
    connection.close().await?;
    outcome
}

async fn migrate_locked(connection: &DatabaseConnection) -> Result<(), DbErr> {
    connection.execute_raw(statement("SELECT pg_advisory_lock($1)", [LOCK.into()])).await?;
    Migrator::up(connection, None).await
}

/// Names of the steps that the database still lacks; works with an unprivileged login.
///
/// # Errors
/// The database cannot be reached or the login may not read the table of migrations.
pub async fn pending(url: &str) -> Result<Vec<String>, DbErr> {
    let connection = connect(url).await?;
    let pending = Migrator::get_pending_migrations_read_only(&connection).await;
    connection.close().await?;
    Ok(pending?.iter().map(|migration| migration.name().to_owned()).collect())
}

/// Lets the two unprivileged roles of the schema log in with these passwords.
///
/// The roles themselves are made (without login) by the first migration. They belong to the whole
/// Postgres server: two Kontors on one server must be given the same passwords.
///
/// # Errors
/// The roles do not exist yet or `owner` may not change them.
pub async fn ensure_logins(owner_url: &str, tenant_password: &str, system_password: &str) -> Result<(), DbErr> {
    let connection = connect(owner_url).await?;
    let outcome = set_passwords(&connection, tenant_password, system_password).await;
    connection.close().await?;
    outcome
}

async fn set_passwords(connection: &DatabaseConnection, tenant_password: &str, system_password: &str) -> Result<(), DbErr> {
    // Two replicas starting together would otherwise fail with "tuple concurrently updated".
    connection.execute_raw(statement("SELECT pg_advisory_lock($1)", [LOCK.into()])).await?;
    for (role, password) in [("kontor_tenant", tenant_password), ("kontor_system", system_password)] {
        // ALTER ROLE takes no bound values; `format` with %I and %L quotes them in Postgres itself.
        let quoted = statement("SELECT format('ALTER ROLE %I LOGIN PASSWORD %L', $1, $2) AS sql", [role.into(), password.into()]);
        let row = connection.query_one_raw(quoted).await?.ok_or_else(|| DbErr::Custom("format() gave no row".into()))?;
        connection.execute_unprepared(&row.try_get::<String>("", "sql")?).await?;
    }
    Ok(())
}

async fn connect(url: &str) -> Result<DatabaseConnection, DbErr> {
    let mut options = ConnectOptions::new(url);
    // One connection: the advisory lock belongs to the session, not to the pool.
    options.max_connections(1).sqlx_logging(false).set_application_name("kontor migrate");
    Database::connect(options).await
}

fn statement<const N: usize>(sql: &str, values: [sea_orm_migration::sea_orm::Value; N]) -> Statement {
    Statement::from_sql_and_values(DbBackend::Postgres, sql, values)
}
