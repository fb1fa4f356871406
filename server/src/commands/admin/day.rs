//! Days on the command line.

use crate::AnyError;
use contract::Millis;
use time::{Date, macros::format_description};

/// A day, YYYY-MM-DD.
///
/// # Errors
/// It is no day.
pub fn parse(text: &str) -> Result<Date, AnyError> {
    let day = Date::parse(text, format_description!("[year]-[month]-[day]"));
    Ok(day.map_err(|_| format!("{text} is no day like 2027-01-31"))?)
}

/// Its first moment in UTC.
///
/// # Errors
/// It is no day.
pub fn first_moment(text: &str) -> Result<Millis, AnyError> {
    Ok(parse(text)?.midnight().assume_utc().unix_timestamp() * 1000)
}
