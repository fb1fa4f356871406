//! The commands about prices, budgets and limits.

use clap::{Args, Subcommand};
use contract::ids::{BudgetId, RateLimitId};
use domain::quota::{Level, Period};
use rust_decimal::Decimal;

#[derive(Debug, Subcommand)]
pub enum MoneyCommand {
    /// Set what a model costs from now on, or from a later day.
    SetPrice {
        #[arg(long)]
        model: String,
        /// Code of three letters, like EUR.
        #[arg(long)]
        currency: String,
        /// For a million tokens of prompts.
        #[arg(long, default_value = "0")]
        input: Decimal,
        /// For a million tokens of prompts that were computed before; default: as --input.
        #[arg(long)]
        cached_input: Option<Decimal>,
        /// For a million tokens of answers.
        #[arg(long, default_value = "0")]
        output: Decimal,
        /// For each request.
        #[arg(long, default_value = "0")]
        per_request: Decimal,
        /// First day, YYYY-MM-DD (UTC).
        #[arg(long, value_name = "DAY")]
        from: Option<String>,
    },
    /// List all prices.
    ListPrices,
    /// Give somebody a budget.
    AddBudget {
        #[command(flatten)]
        whose: WhoseArgs,
        #[arg(long)]
        amount: Decimal,
        /// Code of three letters, like EUR.
        #[arg(long)]
        currency: String,
        /// day, week, month, quarter, year or total, which never begins anew.
        #[arg(long, value_parser = period, default_value = "month")]
        period: Period,
        /// First month of the fiscal year, for quarters and years.
        #[arg(long, default_value_t = 1, value_name = "MONTH")]
        first_month: u8,
        /// Warn only; without it, what the budget does not cover is refused.
        #[arg(long)]
        soft: bool,
    },
    /// List a tenant's budgets and how far they are spent.
    ListBudgets {
        #[arg(long)]
        tenant: String,
    },
    /// End a budget.
    RemoveBudget {
        #[arg(long)]
        tenant: String,
        #[arg(long)]
        id: BudgetId,
    },
    /// Limit how much somebody may ask.
    AddLimit {
        #[command(flatten)]
        whose: WhoseArgs,
        /// Of this model; without it, of all together.
        #[arg(long)]
        model: Option<String>,
        /// Requests a minute.
        #[arg(long)]
        requests: Option<u64>,
        /// Tokens a minute, of prompts and answers.
        #[arg(long)]
        tokens: Option<u64>,
        /// Requests at the same time.
        #[arg(long)]
        at_a_time: Option<u64>,
    },
    /// List a tenant's limits.
    ListLimits {
        #[arg(long)]
        tenant: String,
    },
    /// End a limit.
    RemoveLimit {
        #[arg(long)]
        tenant: String,
        #[arg(long)]
        id: RateLimitId,
    },
}

/// Whom it is for.
#[derive(Args, Debug)]
pub struct WhoseArgs {
    /// The tenant's short name.
    #[arg(long)]
    pub tenant: String,
    /// tenant, cost-center, team, service-account, key or user.
    #[arg(long, value_parser = level)]
    pub level: Level,
    /// A person's e-mail, the name of a service account, team or cost centre, or the id of a key. Without it, each one of
    /// the level has it by itself.
    #[arg(long)]
    pub of: Option<String>,
}

fn level(text: &str) -> Result<Level, String> {
    named(Level::ALL, Level::name, text)
}

fn period(text: &str) -> Result<Period, String> {
    named(Period::ALL, Period::name, text)
}

/// The one of this name, written with hyphens as everything on the command line.
pub(super) fn named<T: Copy>(all: impl IntoIterator<Item = T>, name: impl Fn(T) -> &'static str, text: &str) -> Result<T, String> {
    let names: Vec<(String, T)> = all.into_iter().map(|one| (name(one).replace('_', "-"), one)).collect();
    let known = names.iter().find(|(name, _)| name == text).map(|(_, one)| *one);
    known.ok_or_else(|| format!("possible values: {}", names.into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(", ")))
}

#[cfg(test)]
mod tests {
    use super::{Level, Period, level, period};

    #[test]
    fn levels_and_periods_are_known_by_their_names() {
        assert_eq!(level("service-account"), Ok(Level::ServiceAccount));
        assert_eq!(level("cost-center"), Ok(Level::CostCenter));
        assert_eq!(period("total"), Ok(Period::Total));
        let wrong = level("house").expect_err("no level");
        assert_eq!(wrong, "possible values: tenant, cost-center, team, service-account, key, user");
    }
}
