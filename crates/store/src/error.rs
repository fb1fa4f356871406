//! What a database error means to the rest of the product.

use domain::Error;
use sea_orm::{DbErr, RuntimeErr, SqlErr};
use std::borrow::Cow;

/// Seconds after which a client may try again when the database was not available.
const RETRY_AFTER_S: u32 = 1;

/// Translates by meaning: a duplicate is a conflict, an overloaded or absent database is unavailable,
/// everything else is our fault.
pub(crate) fn map(error: DbErr) -> Error {
    if let Some(SqlErr::UniqueConstraintViolation(_)) = error.sql_err() {
        return Error::conflict("already_exists", "This already exists.");
    }
    if is_passing(&error) {
        // The cause does not travel with `Unavailable`, so it is logged here.
        tracing::warn!(%error, "the database is not available");
        return Error::unavailable("database", Some(RETRY_AFTER_S));
    }
    Error::internal(error)
}

/// The same for the listener, which uses sqlx directly.
pub(crate) fn map_sqlx(error: sqlx::Error) -> Error {
    map(DbErr::Conn(RuntimeErr::SqlxError(std::sync::Arc::new(error))))
}

/// A row does not fit into its partition, or breaks another check (`check_violation`).
pub(crate) fn is_misplaced(error: &DbErr) -> bool {
    sql_state(error).is_some_and(|code| code == "23514")
}

/// True for failures that a retry may cure.
fn is_passing(error: &DbErr) -> bool {
    let source = match error {
        DbErr::ConnectionAcquire(_) => return true,
        DbErr::Conn(RuntimeErr::SqlxError(source))
        | DbErr::Exec(RuntimeErr::SqlxError(source))
        | DbErr::Query(RuntimeErr::SqlxError(source)) => source,
        _ => return false,
    };
    match &**source {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(database) => database.code().is_some_and(|code| is_passing_code(&code)),
        _ => false,
    }
}

/// The data are at fault: no repetition helps. SQLSTATEs: data exception (22), integrity constraint violation (23).
pub(crate) fn is_rejection(error: &DbErr) -> bool {
    sql_state(error).is_some_and(|code| matches!(code.get(..2), Some("22" | "23")))
}

/// Of a statement that the database refused.
fn sql_state(error: &DbErr) -> Option<Cow<'_, str>> {
    let (DbErr::Exec(RuntimeErr::SqlxError(source)) | DbErr::Query(RuntimeErr::SqlxError(source))) = error else { return None };
    source.as_database_error()?.code()
}

/// SQLSTATEs: connection lost (08), serialization failure and deadlock (40), out of resources (53), lock or
/// statement timeout, idle in transaction, shutdown.
fn is_passing_code(code: &str) -> bool {
    matches!(code.get(..2), Some("08" | "40" | "53")) || matches!(code, "55P03" | "57014" | "57P01" | "57P02" | "57P03" | "25P03")
}

#[cfg(test)]
mod tests {
    use super::{is_passing_code, map};
    use contract::problem::ProblemKind;
    use sea_orm::{ConnAcquireErr, DbErr};

    #[test]
    fn an_exhausted_pool_is_unavailable_and_a_broken_statement_is_internal() {
        assert_eq!(map(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)).kind(), ProblemKind::Unavailable);
        assert_eq!(map(DbErr::Custom("no such column".into())).kind(), ProblemKind::Internal);
    }

    #[test]
    fn deadlocks_pass_and_violations_do_not() {
        assert!(is_passing_code("40P01"));
        assert!(!is_passing_code("23503"));
        assert!(!is_passing_code("42P01"));
    }
}
