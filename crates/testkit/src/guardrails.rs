//! Guardrails for tests. Set them before the first use: a node looks for news once a second.

use crate::TestDb;
use contract::ids::TenantId;
use serde_json::Value;
use store::Reason;

/// Gives a tenant these rules, whatever they are.
///
/// # Panics
/// If the database refuses it.
pub async fn guardrails(db: &TestDb, tenant: TenantId, rules: Value) {
    let tx = db.db.begin_system("test", Reason::Administration).await.expect("a transaction");
    tx.guardrails().set(tenant, serde_json::json!({ "rules": rules })).await.expect("guardrails");
    tx.commit().await.expect("committing");
}

/// How often the audit trail has this action of this rule.
///
/// # Panics
/// Without a database.
pub async fn decided(db: &TestDb, action: &str, rule: &str) -> i64 {
    db.count_as_owner(&format!("SELECT count(*) AS value FROM audit_event WHERE action = '{action}' AND target = '{rule}'")).await
}
