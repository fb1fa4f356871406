//! Days on the command line.

use crate::AnyError;
use contract::Millis;
use time::{Date, macros::format_description};

/// The first moment of a day, YYYY-MM-DD, in UTC.
///
/// # Errors
/// It is no day.
pub fn first_moment(text: &str) -> Result<Millis, AnyError> {
    let day = Date::parse(text, format_description!("[year]-[month]-[day]")).map_err(|_| format!("{text} is no day like 2027-01-31"))?;
    Ok(day.midnight().assume_utc().unix_timestamp() * 1000)
}
