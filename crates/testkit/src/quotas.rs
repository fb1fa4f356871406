//! Prices, budgets, limits and weights for tests. Set them before the first use: a node looks for news once a second.

use crate::TestDb;
use contract::{
    Millis,
    ids::{BudgetId, RateLimitId, TenantId},
};
use domain::{
    Amount,
    money::PriceList,
    quota::{Level, Period},
};
use rust_decimal::Decimal;
use store::{
    Reason, SystemTx,
    budgets::{Budget, BudgetState},
    prices::StoredPrice,
    rate_limits::RateLimit,
};
use uuid::Uuid;

/// A decimal number.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn decimal(text: &str) -> Decimal {
    text.parse().expect("a decimal number")
}

/// An amount of money.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn amount(text: &str) -> Amount {
    Amount::new("amount", decimal(text)).expect("an amount")
}

/// What a million tokens of a model cost from the beginning of time on, in prompts (a tenth of it where they are cached) and
/// in answers.
///
/// # Panics
/// If the database refuses it, here and below.
pub async fn price(db: &TestDb, model: &str, currency: &str, input: &str, output: &str) {
    let (input, output) = (decimal(input), decimal(output));
    let list = PriceList { input, cached_input: input / Decimal::TEN, output, per_request: Decimal::ZERO };
    let stored = StoredPrice { model: model.into(), currency: currency.into(), list, valid_from: 0 };
    let tx = begin(db).await;
    tx.prices().add(Uuid::now_v7(), &stored).await.expect("a price");
    tx.commit().await.expect("committing");
}

/// A budget in euros that never begins anew.
pub async fn budget(db: &TestDb, tenant: TenantId, level: Level, subject: Option<&str>, money: &str, hard: bool) -> Budget {
    let budget = Budget {
        tenant,
        id: BudgetId(Uuid::now_v7()),
        level,
        subject: subject.map(str::to_owned),
        currency: "EUR".parse().expect("a currency"),
        amount: amount(money),
        period: Period::Total,
        first_month: 1,
        hard,
    };
    add(db, budget).await
}

/// A hard budget in euros of a whole tenant, that begins anew with each period.
pub async fn periodic_budget(db: &TestDb, tenant: TenantId, period: Period, money: &str) -> Budget {
    let budget = Budget {
        tenant,
        id: BudgetId(Uuid::now_v7()),
        level: Level::Tenant,
        subject: None,
        currency: "EUR".parse().expect("a currency"),
        amount: amount(money),
        period,
        first_month: 1,
        hard: true,
    };
    add(db, budget).await
}

async fn add(db: &TestDb, budget: Budget) -> Budget {
    let tx = begin(db).await;
    tx.budgets().add(&budget).await.expect("a budget");
    tx.commit().await.expect("committing");
    budget
}

/// How far a tenant's budgets are spent that never begin anew.
pub async fn spent(db: &TestDb, tenant: TenantId) -> Vec<BudgetState> {
    spent_at(db, tenant, 1).await
}

/// How far a tenant's budgets are spent in the periods that this instant is in.
pub async fn spent_at(db: &TestDb, tenant: TenantId, at: Millis) -> Vec<BudgetState> {
    let tx = begin(db).await;
    tx.budgets().states(tenant, at).await.expect("states")
}

/// A limit for each one of a level by itself.
pub async fn limit(db: &TestDb, tenant: TenantId, level: Level, change: impl FnOnce(&mut RateLimit)) -> RateLimit {
    let id = RateLimitId(Uuid::now_v7());
    let mut limit = RateLimit { tenant, id, level, subject: None, model: None, requests: None, tokens: None, places: None };
    change(&mut limit);
    let tx = begin(db).await;
    tx.rate_limits().add(&limit).await.expect("a limit");
    tx.commit().await.expect("committing");
    limit
}

/// What a tenant's work counts beside that of others.
pub async fn weigh(db: &TestDb, tenant: TenantId, weight: u16) {
    let tx = begin(db).await;
    tx.tenants().set_weight(tenant, weight).await.expect("a weight");
    tx.commit().await.expect("committing");
}

async fn begin(db: &TestDb) -> SystemTx {
    db.db.begin_system("testkit", Reason::SignIn).await.expect("a transaction")
}
