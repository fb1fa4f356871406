//! What a person or a service account used, as the ledger has it.

use crate::{check, shared::Shared};
use contract::usage::{UsageRange, UsageReport, UsageRow};
use domain::{Action, Actor, Error, Result, quota::Level};
use rust_decimal::Decimal;
use std::sync::Arc;
use store::usage::Whose;
use time::{Date, format_description::FormatItem, macros::format_description};

/// Longest range of a report, in days.
const DAYS_MAX: i64 = 366 * 2;
const DAY: &[FormatItem<'_>] = format_description!("[year]-[month]-[day]");

/// The usage tab.
#[derive(Clone)]
pub struct UsageReports {
    shared: Arc<Shared>,
}

impl UsageReports {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The caller's own tokens and their cost per day, model and purpose, newest day first, and their budgets. Settled uses
    /// only. For a program: what all keys of its service account used, wherever, and the budgets of the account and of this key.
    ///
    /// # Errors
    /// [`Error::Invalid`] for `from` or `to` (`bad_date`, `bad_range`).
    pub async fn report(&self, actor: &Actor, range: UsageRange) -> Result<UsageReport> {
        actor.may(Action::SeeOwnUsage)?;
        let (whose, budgeted) = match actor.as_program() {
            Some(program) => {
                let subjects = vec![(Level::ServiceAccount, program.account.to_string()), (Level::Key, program.key.to_string())];
                (Whose::Program(program.account), subjects)
            }
            None => {
                let user = actor.user()?;
                (Whose::Person(user), vec![(Level::User, user.to_string())])
            }
        };
        let (from, to) = days(&range)?;
        let now = self.shared.now();
        let tx = self.shared.db.begin(actor).await?;
        let rows = tx.usage().report(whose, from, to).await?;
        let as_of = tx.usage().as_of(whose).await?;
        let mut budgets = Vec::new();
        for (level, subject) in &budgeted {
            budgets.append(&mut tx.budgets().own(*level, subject, now).await?);
        }
        tx.commit().await?;
        Ok(UsageReport { range, rows, budgets, as_of })
    }

    /// The same as CSV with a heading, for spreadsheets.
    ///
    /// # Errors
    /// As [`Self::report`].
    pub async fn csv(&self, actor: &Actor, range: UsageRange) -> Result<String> {
        actor.may(Action::SeeOwnUsage)?;
        table(&self.report(actor, range).await?.rows)
    }
}

/// First and last day.
pub(crate) fn days(range: &UsageRange) -> Result<(Date, Date)> {
    let day = |field: &'static str, text: &str| {
        check::at_most(field, text, 10)?;
        Date::parse(text, DAY).map_err(|_| Error::invalid(field, "bad_date", format!("{field} must be a day like 2026-01-31.")))
    };
    let (from, to) = (day("from", &range.from)?, day("to", &range.to)?);
    // Years beyond these are no days of this product, and no timestamps of Postgres.
    if from.year() < 1970 || to.year() > 9998 {
        return Err(Error::invalid("from", "bad_date", "The range lies outside of the calendar of this ledger."));
    }
    if to < from || (to - from).whole_days() > DAYS_MAX {
        return Err(Error::invalid("to", "bad_range", format!("The range must end after it begins and may have at most {DAYS_MAX} days.")));
    }
    Ok((from, to))
}

/// Rows as CSV.
pub(crate) fn table(rows: &[UsageRow]) -> Result<String> {
    let columns = ["day", "model", "purpose", "requests", "prompt_tokens", "cached_tokens", "completion_tokens", "cost", "currency"];
    let rows = rows.iter().map(|row| {
        vec![
            row.day.clone(),
            row.model.clone(),
            row.purpose.name().to_owned(),
            row.requests.to_string(),
            row.prompt_tokens.to_string(),
            row.cached_tokens.to_string(),
            row.completion_tokens.to_string(),
            row.cost.as_ref().map_or_else(String::new, |cost| Decimal::from_i128_with_scale(cost.pico.into(), 12).normalize().to_string()),
            row.cost.as_ref().map_or_else(String::new, |cost| cost.currency.clone()),
        ]
    });
    csv(&columns, rows)
}

/// A table with a heading; no cell is a formula for a spreadsheet.
pub(crate) fn csv(columns: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Result<String> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record(columns).map_err(Error::internal)?;
    for row in rows {
        csv.write_record(row.iter().map(|text| cell(text))).map_err(Error::internal)?;
    }
    let bytes = csv.into_inner().map_err(|error| Error::internal(error.to_string()))?;
    String::from_utf8(bytes).map_err(Error::internal)
}

/// A cell that no spreadsheet takes for a formula.
fn cell(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) { format!("'{text}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::{days, table};
    use contract::usage::{Money, Purpose, UsageRange, UsageRow};

    #[test]
    fn a_model_name_is_no_formula() {
        let row = UsageRow {
            day: "2026-01-31".into(),
            model: "=HYPERLINK(\"x\")".into(),
            purpose: Purpose::Title,
            requests: 1,
            prompt_tokens: 2,
            cached_tokens: 3,
            completion_tokens: 4,
            cost: Some(Money { currency: "EUR".into(), pico: 21_000_000 }),
        };
        let csv = table(&[row]).expect("csv");
        let line = csv.lines().nth(1).expect("a row");
        assert_eq!(
            line, "2026-01-31,\"'=HYPERLINK(\"\"x\"\")\",title,1,2,3,4,0.000021,EUR",
            "If you are here because this failed: a spreadsheet would run what somebody called a model."
        );
    }

    #[test]
    fn ranges_are_checked() {
        let range = |from: &str, to: &str| days(&UsageRange { from: from.into(), to: to.into() });
        assert!(range("2026-01-31", "2026-01-31").is_ok());
        for (from, to) in [
            ("2026-02-30", "2026-03-01"),
            ("2026-02-02", "2026-02-01"),
            ("2020-01-01", "2026-01-01"),
            ("", ""),
            ("0001-01-01", "0001-01-02"),
        ] {
            assert!(range(from, to).is_err(), "{from} {to}");
        }
    }
}
