//! The ledger as it is, across all tenants, read with the owner's login.

use crate::TestDb;
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, FromQueryResult, Statement};
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

/// Nobody can write the ledger, as if the database hung, until this is let go.
#[derive(Debug)]
pub struct HeldLedger(DatabaseConnection);

/// Holds the ledger.
///
/// # Panics
/// Without a database.
pub async fn hold_ledger(db: &TestDb) -> HeldLedger {
    let mut options = ConnectOptions::new(&db.owner_url);
    // The lock belongs to one session.
    options.max_connections(1);
    let connection = Database::connect(options).await.expect("the owner can connect");
    connection.execute_unprepared("BEGIN; LOCK TABLE usage_event IN EXCLUSIVE MODE").await.expect("locked");
    HeldLedger(connection)
}

impl HeldLedger {
    /// The database answers again.
    ///
    /// # Panics
    /// Without a database.
    pub async fn let_go(self) {
        self.let_go_and("").await;
    }

    /// The same after something was done that nobody could see so far.
    ///
    /// # Panics
    /// Without a database, and if it fails.
    pub async fn let_go_and(self, sql: &str) {
        self.0.execute_unprepared(&format!("{sql}; COMMIT")).await.expect("unlocked");
        self.0.close().await.expect("closing");
    }
}

async fn owner(db: &TestDb) -> DatabaseConnection {
    Database::connect(&db.owner_url).await.expect("the owner can connect")
}
