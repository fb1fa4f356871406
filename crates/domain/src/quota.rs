//! Who pays for a use of a model, and what budgets and limits are about.

use crate::{Actor, Caller, Error, Result};
use contract::{
    Millis,
    ids::{ApiKeyId, ServiceAccountId, TenantId, UserId},
};
use std::{fmt, str::FromStr};
use time::{Date, Duration, Month, OffsetDateTime};

/// What a budget or a limit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    Tenant,
    /// By the cost centre of service accounts.
    CostCenter,
    /// By the team of service accounts.
    Team,
    ServiceAccount,
    Key,
    User,
}

impl Level {
    pub const ALL: [Self; 6] = [Self::Tenant, Self::CostCenter, Self::Team, Self::ServiceAccount, Self::Key, Self::User];

    /// Its name in the database and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::CostCenter => "cost_center",
            Self::Team => "team",
            Self::ServiceAccount => "service_account",
            Self::Key => "key",
            Self::User => "user",
        }
    }

    /// For people.
    #[must_use]
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Tenant => "organisation",
            Self::CostCenter => "cost centre",
            Self::Team => "team",
            Self::ServiceAccount => "service account",
            Self::Key => "key",
            Self::User => "person",
        }
    }
}

impl FromStr for Level {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|level| level.name() == text);
        known.ok_or_else(|| Error::internal(format!("unknown level {text:?} of a budget or limit")))
    }
}

/// All that a use can be counted for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payer {
    pub tenant: TenantId,
    /// Empty: none.
    pub cost_center: String,
    /// Empty: none.
    pub team: String,
    pub program: Option<(ServiceAccountId, ApiKeyId)>,
    pub user: Option<UserId>,
}

impl Payer {
    #[must_use]
    pub fn of(actor: &Actor) -> Self {
        let mut payer = Self { tenant: actor.tenant(), cost_center: String::new(), team: String::new(), program: None, user: None };
        match actor.caller() {
            Caller::User { user, .. } => payer.user = Some(*user),
            Caller::Program(program) => {
                payer.program = Some((program.account, program.key));
                payer.team.clone_from(&program.team);
                payer.cost_center.clone_from(&program.cost_center);
            }
            Caller::System(_) => {}
        }
        payer
    }

    /// Its name at this level: an id, or what people call a team or cost centre; `None` if it has none.
    #[must_use]
    pub fn subject(&self, level: Level) -> Option<String> {
        let named = |name: &String| Some(name.clone()).filter(|name| !name.is_empty());
        match level {
            Level::Tenant => Some(self.tenant.to_string()),
            Level::CostCenter => named(&self.cost_center),
            Level::Team => named(&self.team),
            Level::ServiceAccount => self.program.map(|(account, _)| account.to_string()),
            Level::Key => self.program.map(|(_, key)| key.to_string()),
            Level::User => self.user.map(|user| user.to_string()),
        }
    }
}

/// What ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// Money; more of it is a decision of people.
    Budget,
    /// So many requests a minute.
    Requests(u64),
    /// So many tokens a minute.
    Tokens(u64),
    /// So much at the same time.
    Places(u64),
    /// So many tries.
    Attempts,
}

/// How long a budget lasts. Days are of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    Day,
    /// From Monday.
    Week,
    Month,
    Quarter,
    Year,
    /// Never begins anew.
    Total,
}

impl Period {
    pub const ALL: [Self; 6] = [Self::Day, Self::Week, Self::Month, Self::Quarter, Self::Year, Self::Total];

    /// Its name in the database and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Quarter => "quarter",
            Self::Year => "year",
            Self::Total => "total",
        }
    }

    /// Beginning and end of the period that `at` is in. Quarters and years begin with `first_month` (1 to 12), that of the
    /// fiscal year.
    ///
    /// # Errors
    /// [`Error::Internal`] for an instant that no calendar has.
    pub fn window(self, first_month: u8, at: Millis) -> Result<Window> {
        let now = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at) * 1_000_000).map_err(Error::internal)?;
        let today = now.date();
        let (begin, end) = match self {
            Self::Day => (today, Some(today + Duration::DAY)),
            Self::Week => {
                let monday = today - Duration::days(i64::from(today.weekday().number_days_from_monday()));
                (monday, Some(monday + Duration::WEEK))
            }
            Self::Month => months(today, 1, first_month)?,
            Self::Quarter => months(today, 3, first_month)?,
            Self::Year => months(today, 12, first_month)?,
            Self::Total => (OffsetDateTime::UNIX_EPOCH.date(), None),
        };
        Ok(Window { starts_at: millis(begin), ends_at: end.map(millis) })
    }
}

impl FromStr for Period {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|period| period.name() == text);
        known.ok_or_else(|| Error::internal(format!("unknown period {text:?} of a budget")))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Total => f.write_str("in total"),
            other => write!(f, "per {}", other.name()),
        }
    }
}

/// A time from its first millisecond to the one after its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    pub starts_at: Millis,
    /// `None`: it does not end.
    pub ends_at: Option<Millis>,
}

/// The span of `count` months, counted from `first_month`, that `day` is in.
fn months(day: Date, count: i32, first_month: u8) -> Result<(Date, Option<Date>)> {
    let month = day.year() * 12 + i32::from(u8::from(day.month())) - 1;
    let first = i32::from(first_month.clamp(1, 12)) - 1;
    let begin = month - (month - first).rem_euclid(count);
    Ok((first_of(begin)?, Some(first_of(begin + count)?)))
}

/// The first day of a month, counted from the year 0.
fn first_of(month: i32) -> Result<Date> {
    let number = u8::try_from(month.rem_euclid(12) + 1).map_err(Error::internal)?;
    Date::from_calendar_date(month.div_euclid(12), Month::try_from(number).map_err(Error::internal)?, 1).map_err(Error::internal)
}

fn millis(day: Date) -> Millis {
    day.midnight().assume_utc().unix_timestamp() * 1000
}

#[cfg(test)]
mod tests {
    use super::{Period, Window};
    use time::{Date, Month};

    fn at(year: i32, month: u8, day: u8) -> i64 {
        Date::from_calendar_date(year, Month::try_from(month).unwrap(), day).unwrap().midnight().assume_utc().unix_timestamp() * 1000
    }

    #[track_caller]
    fn spans(period: Period, first_month: u8, now: i64, from: i64, to: i64) {
        assert_eq!(period.window(first_month, now).unwrap(), Window { starts_at: from, ends_at: Some(to) });
    }

    #[test]
    fn periods_follow_the_calendar() {
        let now = at(2026, 11, 25) + 3_600_000;
        spans(Period::Day, 1, now, at(2026, 11, 25), at(2026, 11, 26));
        spans(Period::Week, 1, now, at(2026, 11, 23), at(2026, 11, 30));
        spans(Period::Month, 1, now, at(2026, 11, 1), at(2026, 12, 1));
        spans(Period::Quarter, 1, now, at(2026, 10, 1), at(2027, 1, 1));
        spans(Period::Year, 1, now, at(2026, 1, 1), at(2027, 1, 1));
        assert_eq!(Period::Total.window(1, now).unwrap(), Window { starts_at: 0, ends_at: None });
    }

    #[test]
    fn fiscal_years_and_their_quarters_begin_with_their_month() {
        spans(Period::Year, 4, at(2026, 11, 25), at(2026, 4, 1), at(2027, 4, 1));
        spans(Period::Year, 12, at(2026, 11, 25), at(2025, 12, 1), at(2026, 12, 1));
        spans(Period::Quarter, 2, at(2026, 11, 25), at(2026, 11, 1), at(2027, 2, 1));
        spans(Period::Month, 4, at(2024, 2, 29), at(2024, 2, 1), at(2024, 3, 1));
    }

    #[test]
    fn the_last_millisecond_belongs_to_the_old_period() {
        let month = |now| Period::Month.window(1, now).unwrap().starts_at;
        assert_eq!(month(at(2026, 12, 1) - 1), at(2026, 11, 1));
        assert_eq!(month(at(2026, 12, 1)), at(2026, 12, 1));
    }
}
