//! The commands about prices, budgets and limits.

use clap::{Args, Subcommand, ValueEnum};
use contract::ids::{BudgetId, RateLimitId};
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
        #[arg(long, value_enum, default_value = "month")]
        period: PeriodArg,
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
    #[arg(long, value_enum)]
    pub level: LevelArg,
    /// A person's e-mail, the name of a service account, team or cost centre, or the id of a key. Without it, each one of
    /// the level has it by itself.
    #[arg(long)]
    pub of: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LevelArg {
    Tenant,
    CostCenter,
    Team,
    ServiceAccount,
    Key,
    User,
}

impl From<LevelArg> for domain::quota::Level {
    fn from(level: LevelArg) -> Self {
        match level {
            LevelArg::Tenant => Self::Tenant,
            LevelArg::CostCenter => Self::CostCenter,
            LevelArg::Team => Self::Team,
            LevelArg::ServiceAccount => Self::ServiceAccount,
            LevelArg::Key => Self::Key,
            LevelArg::User => Self::User,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PeriodArg {
    Day,
    Week,
    Month,
    Quarter,
    Year,
    /// Never begins anew.
    Total,
}

impl From<PeriodArg> for domain::quota::Period {
    fn from(period: PeriodArg) -> Self {
        match period {
            PeriodArg::Day => Self::Day,
            PeriodArg::Week => Self::Week,
            PeriodArg::Month => Self::Month,
            PeriodArg::Quarter => Self::Quarter,
            PeriodArg::Year => Self::Year,
            PeriodArg::Total => Self::Total,
        }
    }
}
