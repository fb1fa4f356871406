//! The ledger as it is, across all tenants, read with the owner's login.

use crate::TestDb;
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, DbBackend, FromQueryResult, Statement};
use uuid::Uuid;

/// A row of `usage_event`.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct LedgerRow {
    pub id: Uuid,
    pub tenant_id: Uuid,
    pub user_id: Option<Uuid>,
    pub model: String,
    pub purpose: String,
    pub state: String,
    pub outcome: Option<String>,
    pub reserved_tokens: i32,
    pub prompt_tokens: i32,
    pub cached_tokens: i32,
    pub completion_tokens: i32,
    pub ttft_ms: Option<i32>,
    pub duration_ms: Option<i32>,
}

/// All uses of the database, oldest first.
///
/// # Panics
/// Without a database.
pub async fn ledger(db: &TestDb) -> Vec<LedgerRow> {
    let query = "SELECT id, tenant_id, user_id, model, purpose, state, outcome, reserved_tokens, prompt_tokens, cached_tokens, \
                 completion_tokens, ttft_ms, duration_ms FROM usage_event ORDER BY created_at, id";
    let query = Statement::from_string(DbBackend::Postgres, query);
    LedgerRow::find_by_statement(query).all(&owner(db).await).await.expect("the ledger can be read")
}

/// Runs SQL as the owner, to break or bend what a test wants broken.
///
/// # Panics
/// If it fails.
pub async fn execute_as_owner(db: &TestDb, sql: &str) {
    owner(db).await.execute_unprepared(sql).await.expect("valid SQL");
}

async fn owner(db: &TestDb) -> DatabaseConnection {
    Database::connect(&db.owner_url).await.expect("the owner can connect")
}
