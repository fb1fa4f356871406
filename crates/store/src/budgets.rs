//! Budgets, and the slices of them that nodes hold (ADR 14).

use crate::{
    chat_sql::{all, instant, one, run, sql},
    db::Db,
    error::map,
    tx::{SystemTx, TenantTx},
    usage::money,
};
use contract::{
    Millis,
    ids::{BudgetId, NodeId, TenantId},
    usage::{Money, OwnBudget},
};
use domain::{
    Amount, Currency, Error, Result,
    quota::{Level, Period, Window},
};
use rust_decimal::Decimal;
use sea_orm::{ConnectionTrait, FromQueryResult};
use std::time::Duration;
use uuid::Uuid;

/// Shares that are recovered in one transaction.
const SHARES_AT_A_TIME: i32 = 50;

/// Money for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    pub tenant: TenantId,
    pub id: BudgetId,
    pub level: Level,
    /// An id, or the name of a team or cost centre; `None`: each one of the level has a budget of its own.
    pub subject: Option<String>,
    pub currency: Currency,
    pub amount: Amount,
    pub period: Period,
    /// The first month of the fiscal year, 1 to 12.
    pub first_month: u8,
    /// Refuses what it does not cover; else it only warns.
    pub hard: bool,
}

/// One budget of one subject in one period.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BudgetPeriod {
    pub tenant: TenantId,
    pub budget: BudgetId,
    pub subject: String,
    pub window: Window,
}

/// How far a budget is spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetState {
    pub budget: BudgetId,
    pub subject: String,
    pub spent: Amount,
    /// Set aside by nodes, for what runs.
    pub held: Amount,
}

/// What a process says of its part of a budget, in whole figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Since the process began.
    pub spent: Amount,
    /// Now.
    pub held: Amount,
}

/// What came of telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Zero: nothing was needed, or the budget does not cover it.
    pub granted: Amount,
    /// By all processes, in the period.
    pub spent: Amount,
    /// The process was taken for dead meanwhile: it holds nothing but what is set aside for what it runs. Nothing was granted.
    pub lost: bool,
}

impl Db {
    /// The budgets of all tenants.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn budgets(&self) -> Result<Vec<Budget>> {
        let rows = Row::find_by_statement(sql(&select("TRUE"), [])).all(self.system()).await.map_err(map)?;
        rows.into_iter().map(Budget::try_from).collect()
    }

    /// Tells a process's share and takes a slice that covers `need`, if that is more than nothing; never more than a hard
    /// budget has left. Telling twice does no harm.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn tell_budget(&self, of: &BudgetPeriod, budget: &Budget, node: NodeId, share: Share, need: Amount) -> Result<Told> {
        let statement = sql(
            "SELECT granted, spent, lost FROM budget_tell($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            [
                of.tenant.0.into(),
                of.budget.0.into(),
                of.subject.as_str().into(),
                instant(of.window.starts_at)?.into(),
                of.window.ends_at.map(instant).transpose()?.into(),
                node.0.into(),
                share.spent.decimal().into(),
                share.held.decimal().into(),
                budget.amount.decimal().into(),
                budget.hard.into(),
                need.decimal().into(),
            ],
        );
        let row = TellRow::find_by_statement(statement).one(self.system()).await.map_err(map)?;
        let row = row.ok_or_else(|| Error::internal("budget_tell returned nothing"))?;
        Ok(Told { granted: Amount::from_stored(row.granted)?, spent: Amount::from_stored(row.spent)?, lost: row.lost })
    }

    /// Notes that somebody is warned that so many hundredths are spent; false if somebody was already.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn warn_of_budget(&self, of: &BudgetPeriod, percent: u8) -> Result<bool> {
        let statement = sql(
            "UPDATE budget_period SET warned = $5
             WHERE tenant_id = $1 AND budget_id = $2 AND subject = $3 AND starts_at = $4 AND warned < $5",
            [
                of.tenant.0.into(),
                of.budget.0.into(),
                of.subject.as_str().into(),
                instant(of.window.starts_at)?.into(),
                i16::from(percent).into(),
            ],
        );
        Ok(self.system().execute_raw(statement).await.map_err(map)?.rows_affected() == 1)
    }

    /// Takes back what processes hold that were silent for so long, and counts from the ledger what they spent; a few shares
    /// at a time. Returns how many.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn recover_budgets(&self, silent: Duration) -> Result<u64> {
        let text = "SELECT budget_recover(clock_timestamp() - make_interval(secs => $1), $2) AS recovered";
        let statement = sql(text, [silent.as_secs_f64().into(), SHARES_AT_A_TIME.into()]);
        let row = self.system().query_one_raw(statement).await.map_err(map)?;
        let row = row.ok_or_else(|| Error::internal("budget_recover returned nothing"))?;
        let recovered: i64 = row.try_get("", "recovered").map_err(map)?;
        Ok(u64::try_from(recovered).unwrap_or(0))
    }

    /// Counts anew what a process spent that was taken for dead: the ledger has heard of more.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn recount_budgets(&self, node: NodeId) -> Result<()> {
        self.system().execute_raw(sql("SELECT budget_recount($1)", [node.0.into()])).await.map_err(map)?;
        Ok(())
    }
}

/// Budgets, for whoever has them.
#[derive(Debug)]
pub struct Budgets<'a> {
    tx: &'a TenantTx,
}

impl<'a> Budgets<'a> {
    pub(crate) fn new(tx: &'a TenantTx) -> Self {
        Self { tx }
    }

    /// The budgets of one person, service account or key alone, with what is spent of them at `at`. `subject` is its id. What
    /// others spend is nobody's business: budgets that they share are not among them.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn own(&self, level: Level, subject: &str, at: Millis) -> Result<Vec<OwnBudget>> {
        let which = "tenant_id = $1 AND level = $3 AND (subject IS NULL OR subject = $2)";
        let statement = sql(&select(which), [self.tx.tenant().0.into(), subject.into(), level.name().into()]);
        let rows: Vec<Row> = all(self.tx.conn(), statement).await?;
        let mut own = Vec::new();
        for budget in rows.into_iter().map(Budget::try_from) {
            let budget = budget?;
            let window = budget.period.window(budget.first_month, at)?;
            let statement = sql(
                "SELECT spent FROM budget_period WHERE tenant_id = $1 AND budget_id = $2 AND subject = $3 AND starts_at = $4",
                [self.tx.tenant().0.into(), budget.id.0.into(), subject.into(), instant(window.starts_at)?.into()],
            );
            let spent: Option<SpentRow> = one(self.tx.conn(), statement).await?;
            let currency = budget.currency.code().to_owned();
            own.push(OwnBudget {
                amount: Money { currency: currency.clone(), pico: budget.amount.pico() },
                spent: money(currency, spent.map_or(Decimal::ZERO, |row| row.spent))?,
                ends_at: window.ends_at,
                hard: budget.hard,
            });
        }
        Ok(own)
    }
}

/// Budgets, for whoever administers them.
#[derive(Debug)]
pub struct SystemBudgets<'a> {
    tx: &'a SystemTx,
}

impl<'a> SystemBudgets<'a> {
    pub(crate) fn new(tx: &'a SystemTx) -> Self {
        Self { tx }
    }

    /// Adds a budget.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn add(&self, budget: &Budget) -> Result<()> {
        let statement = sql(
            "INSERT INTO budget (tenant_id, id, level, subject, currency, amount, period, first_month, hard)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            [
                budget.tenant.0.into(),
                budget.id.0.into(),
                budget.level.name().into(),
                budget.subject.as_deref().into(),
                budget.currency.code().into(),
                budget.amount.decimal().into(),
                budget.period.name().into(),
                i16::from(budget.first_month).into(),
                budget.hard.into(),
            ],
        );
        self.tx.changed(run(self.tx.conn(), statement).await?);
        Ok(())
    }

    /// Ends a budget; what was spent of it stays.
    ///
    /// # Errors
    /// [`Error::NotFound`]; else as for any statement.
    pub async fn remove(&self, tenant: TenantId, budget: BudgetId) -> Result<()> {
        let text = "UPDATE budget SET removed_at = now() WHERE tenant_id = $1 AND id = $2 AND removed_at IS NULL";
        match self.tx.changed(run(self.tx.conn(), sql(text, [tenant.0.into(), budget.0.into()])).await?) {
            0 => Err(Error::not_found("budget")),
            _ => Ok(()),
        }
    }

    /// The budgets of a tenant, oldest first.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn list(&self, tenant: TenantId) -> Result<Vec<Budget>> {
        let rows: Vec<Row> = all(self.tx.conn(), sql(&select("tenant_id = $1"), [tenant.0.into()])).await?;
        rows.into_iter().map(Budget::try_from).collect()
    }

    /// How far the budgets of a tenant are spent in the periods that `at` is in.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn states(&self, tenant: TenantId, at: Millis) -> Result<Vec<BudgetState>> {
        let statement = sql(
            "SELECT budget_id, subject, spent, held FROM budget_period
             WHERE tenant_id = $1 AND starts_at <= $2 AND (ends_at IS NULL OR ends_at > $2) ORDER BY budget_id, subject",
            [tenant.0.into(), instant(at)?.into()],
        );
        let rows: Vec<StateRow> = all(self.tx.conn(), statement).await?;
        rows.into_iter().map(BudgetState::try_from).collect()
    }
}

fn select(which: &str) -> String {
    format!(
        "SELECT tenant_id, id, level, subject, currency, amount, period, first_month, hard
         FROM budget WHERE removed_at IS NULL AND {which} ORDER BY tenant_id, created_at, id"
    )
}

#[derive(FromQueryResult)]
struct Row {
    tenant_id: Uuid,
    id: Uuid,
    level: String,
    subject: Option<String>,
    currency: String,
    amount: Decimal,
    period: String,
    first_month: i16,
    hard: bool,
}

impl TryFrom<Row> for Budget {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            tenant: TenantId(row.tenant_id),
            id: BudgetId(row.id),
            level: row.level.parse()?,
            subject: row.subject,
            currency: row.currency.parse()?,
            amount: Amount::from_stored(row.amount)?,
            period: row.period.parse()?,
            first_month: u8::try_from(row.first_month).map_err(Error::internal)?,
            hard: row.hard,
        })
    }
}

#[derive(FromQueryResult)]
struct SpentRow {
    spent: Decimal,
}

#[derive(FromQueryResult)]
struct TellRow {
    granted: Decimal,
    spent: Decimal,
    lost: bool,
}

#[derive(FromQueryResult)]
struct StateRow {
    budget_id: Uuid,
    subject: String,
    spent: Decimal,
    held: Decimal,
}

impl TryFrom<StateRow> for BudgetState {
    type Error = Error;

    fn try_from(row: StateRow) -> Result<Self> {
        let (spent, held) = (Amount::from_stored(row.spent)?, Amount::from_stored(row.held)?);
        Ok(Self { budget: BudgetId(row.budget_id), subject: row.subject, spent, held })
    }
}
