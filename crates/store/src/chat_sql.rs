//! What the chat repositories share: statements with bound values, instants, and the words of the text columns.

use contract::{
    Millis,
    chat::{MessageRole, MessageStatus, RatingValue},
};
use domain::{Error, Result};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, FromQueryResult, Statement, Value};
use time::OffsetDateTime;

/// A statement with bound values; the text never contains data.
pub(crate) fn sql<const N: usize>(text: &str, values: [Value; N]) -> Statement {
    Statement::from_sql_and_values(DbBackend::Postgres, text, values)
}

/// All rows of a statement.
pub(crate) async fn all<T: FromQueryResult>(conn: &DatabaseTransaction, statement: Statement) -> Result<Vec<T>> {
    T::find_by_statement(statement).all(conn).await.map_err(crate::error::map)
}

/// The only row of a statement, if there is one.
pub(crate) async fn one<T: FromQueryResult>(conn: &DatabaseTransaction, statement: Statement) -> Result<Option<T>> {
    T::find_by_statement(statement).one(conn).await.map_err(crate::error::map)
}

/// Runs a statement that returns no rows; the number of rows it touched.
pub(crate) async fn run(conn: &DatabaseTransaction, statement: Statement) -> Result<u64> {
    Ok(conn.execute_raw(statement).await.map_err(crate::error::map)?.rows_affected())
}

/// Unix milliseconds as Postgres wants them.
pub(crate) fn instant(at: Millis) -> Result<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at) * 1_000_000).map_err(Error::internal)
}

/// Postgres' instant as Unix milliseconds.
pub(crate) fn millis(at: OffsetDateTime) -> Millis {
    Millis::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(Millis::MAX)
}

/// A count from the database; counts are never negative.
pub(crate) fn count(value: i32) -> u32 {
    u32::try_from(value).unwrap_or(0)
}

/// A count for the database.
pub(crate) fn int(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

pub(crate) fn role_text(role: MessageRole) -> &'static str {
    match role {
        MessageRole::User => "user",
        MessageRole::Assistant => "assistant",
    }
}

pub(crate) fn role(text: &str) -> Result<MessageRole> {
    match text {
        "user" => Ok(MessageRole::User),
        "assistant" => Ok(MessageRole::Assistant),
        other => Err(Error::internal(format!("unknown message role {other:?} in the database"))),
    }
}

pub(crate) fn status_text(status: MessageStatus) -> &'static str {
    match status {
        MessageStatus::Running => "running",
        MessageStatus::Complete => "complete",
        MessageStatus::Stopped => "stopped",
        MessageStatus::Interrupted => "interrupted",
    }
}

pub(crate) fn status(text: &str) -> Result<MessageStatus> {
    match text {
        "running" => Ok(MessageStatus::Running),
        "complete" => Ok(MessageStatus::Complete),
        "stopped" => Ok(MessageStatus::Stopped),
        "interrupted" => Ok(MessageStatus::Interrupted),
        other => Err(Error::internal(format!("unknown message status {other:?} in the database"))),
    }
}

pub(crate) fn rating_text(value: RatingValue) -> &'static str {
    match value {
        RatingValue::Up => "up",
        RatingValue::Down => "down",
    }
}

pub(crate) fn rating(text: &str) -> Result<RatingValue> {
    match text {
        "up" => Ok(RatingValue::Up),
        "down" => Ok(RatingValue::Down),
        other => Err(Error::internal(format!("unknown rating {other:?} in the database"))),
    }
}
