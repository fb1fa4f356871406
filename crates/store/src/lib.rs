//! The only crate that knows SQL.
//!
//! [`Db::begin`] is the one door to tenant data: it opens a transaction bound to the actor's tenant, and
//! every repository hangs on the [`TenantTx`] it returns. Row-level security in Postgres is the second wall
//! behind it. [`Db::begin_system`] is the other door, for work across tenants: another login, which cannot
//! read what people wrote, and an audit row.
//!
//! One file per noun; a noun's file holds its statements, its row types and nothing else.

#[cfg(target_family = "wasm")]
compile_error!("`store` is server-only");

mod chat_sql;
mod db;
mod error;
mod ledger_sql;
mod tx;
mod watched;

pub mod embedded;
pub mod listen;

// People, programs and platform.
pub mod administration;
pub mod api_keys;
pub mod credentials;
pub mod service_accounts;
pub mod sessions;
pub mod tenants;
pub mod throttle;
pub mod users;

// What the installation itself is shown as by others.
pub mod upstream_credentials;

// Chats.
pub mod attachments;
pub mod conversations;
pub mod imports;
pub mod messages;
pub mod prompts;
pub mod search;
pub mod turns;

// Responses to programs.
pub mod response_runs;
pub mod responses;

// Files and batches of programs.
mod batch_lines;
pub mod batch_runs;
pub mod batches;
pub mod files;

// Money: prices, budgets, limits, ledger; audit; refusals; guardrails; whose answers are kept.
pub mod audit;
pub mod audit_chain;
pub mod budgets;
pub mod guardrails;
pub mod ledger;
pub mod ledger_counts;
pub mod ledger_days;
pub mod prices;
pub mod rate_limits;
pub mod refusals;
pub mod response_caches;
pub mod usage;

pub use db::{Connections, Db, DbConfig};
pub use tx::{Reason, SystemTx, TenantTx};
pub use watched::{Topic, Watched};
