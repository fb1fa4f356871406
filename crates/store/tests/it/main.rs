//! `store` against a real Postgres. One binary: linking it once is enough.

use sea_orm::{DbBackend, Statement, Value};

mod batches;
mod budgets;
mod cancellation;
mod compile_fail;
mod embedded;
mod files;
mod ledger;
mod ledger_counts;
mod ledger_days;
mod listening;
mod people;
mod refusals;
mod responses;
mod schema;
mod service_accounts;
mod tenancy;
mod upgrade;
mod upstream_credentials;

/// A statement with bound values.
fn statement<const N: usize>(sql: &str, values: [Value; N]) -> Statement {
    Statement::from_sql_and_values(DbBackend::Postgres, sql, values)
}
