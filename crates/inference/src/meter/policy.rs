//! Prices, budgets, limits and weights as a node has them in memory.

use contract::{Millis, ids::TenantId};
use domain::{Amount, Currency, Error, Price, Result, quota::Payer};
use std::{collections::HashMap, sync::Arc};
use store::{Db, budgets::Budget, prices::StoredPrice, rate_limits::RateLimit};
use worker_protocol::Usage;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    /// By model, oldest first.
    prices: HashMap<String, Vec<DatedPrice>>,
    tenants: HashMap<TenantId, OfTenant>,
    /// Of those who have another one than 1.
    weights: HashMap<TenantId, u16>,
}

#[derive(Debug)]
struct DatedPrice {
    valid_from: Millis,
    /// `None`: it cannot be read, so nobody knows what the model costs.
    price: Option<Price>,
}

#[derive(Debug, Default)]
struct OfTenant {
    budgets: Vec<Arc<Budget>>,
    limits: Vec<Arc<RateLimit>>,
}

impl Policy {
    pub(crate) async fn read(db: &Db) -> Result<Self> {
        let mut policy = Self::default();
        for stored in db.prices().await? {
            let dated = DatedPrice { valid_from: stored.valid_from, price: price(&stored) };
            policy.prices.entry(stored.model).or_default().push(dated);
        }
        for budget in db.budgets().await? {
            policy.tenants.entry(budget.tenant).or_default().budgets.push(Arc::new(budget));
        }
        for limit in db.rate_limits().await? {
            policy.tenants.entry(limit.tenant).or_default().limits.push(Arc::new(limit));
        }
        policy.weights = db.tenant_weights().await?.into_iter().collect();
        Ok(policy)
    }

    /// What a tenant's work counts beside that of others.
    pub(crate) fn weight(&self, tenant: TenantId) -> u16 {
        self.weights.get(&tenant).copied().unwrap_or(1)
    }

    /// The price of a model at an instant; `None`: it costs nothing.
    fn price(&self, model: &str, at: Millis) -> Result<Option<Price>> {
        let valid = self.prices.get(model).and_then(|prices| prices.iter().rev().find(|price| price.valid_from <= at));
        match valid {
            None => Ok(None),
            Some(DatedPrice { price: Some(price), .. }) => Ok(Some(*price)),
            Some(DatedPrice { price: None, .. }) => Err(Error::unavailable("price", None)),
        }
    }

    /// Budgets that a use counts for, each with who has it.
    pub(crate) fn budgets<'a>(&'a self, payer: &'a Payer) -> impl Iterator<Item = (&'a Arc<Budget>, String)> + 'a {
        let budgets = self.tenants.get(&payer.tenant).map_or(&[][..], |tenant| &tenant.budgets);
        budgets.iter().filter_map(|budget| Some((budget, subject(payer, budget.level, budget.subject.as_deref())?)))
    }

    /// Limits that a use of this model counts for, each with who has it.
    pub(crate) fn limits<'a>(&'a self, payer: &'a Payer, model: &'a str) -> impl Iterator<Item = (&'a Arc<RateLimit>, String)> + 'a {
        let limits = self.tenants.get(&payer.tenant).map_or(&[][..], |tenant| &tenant.limits);
        limits
            .iter()
            .filter(move |limit| limit.model.as_deref().is_none_or(|only| only == model))
            .filter_map(|limit| Some((limit, subject(payer, limit.level, limit.subject.as_deref())?)))
    }

    /// What a use of the first model costs, or of those that may answer in its place. A model with another currency than
    /// the first one that has a price cannot: reservations are in one.
    pub(crate) fn tariff(&self, models: impl IntoIterator<Item = String>, at: Millis) -> Result<Tariff> {
        let mut tariff = Tariff { prices: Vec::new() };
        for model in models {
            match self.price(&model, at) {
                Ok(price) if price.is_none_or(|price| tariff.currency().is_none_or(|currency| currency == price.currency)) => {
                    tariff.prices.push((model, price));
                }
                Ok(_) => tracing::warn!(model, "not used as a fallback: its price is in another currency"),
                Err(error) if tariff.prices.is_empty() => return Err(error),
                Err(_) => tracing::warn!(model, "not used as a fallback: its price cannot be read"),
            }
        }
        Ok(tariff)
    }
}

/// Who has the budget or limit, if it counts for this payer.
fn subject(payer: &Payer, level: domain::quota::Level, only: Option<&str>) -> Option<String> {
    payer.subject(level).filter(|subject| only.is_none_or(|only| only == subject))
}

fn price(stored: &StoredPrice) -> Option<Price> {
    let price = stored.currency.parse().and_then(|currency| Price::new(currency, &stored.list));
    price.inspect_err(|error| tracing::error!(%error, model = stored.model, "a price cannot be read; the model is refused")).ok()
}

/// The prices that one use may come to, the requested model's first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tariff {
    prices: Vec<(String, Option<Price>)>,
}

impl Tariff {
    pub(crate) fn currency(&self) -> Option<Currency> {
        self.prices.iter().find_map(|(_, price)| price.map(|price| price.currency))
    }

    /// Models to fall back to.
    pub(crate) fn fallbacks(&self) -> Vec<String> {
        self.prices.iter().skip(1).map(|(model, _)| model.clone()).collect()
    }

    /// The most that so many tokens cost, whichever model answers.
    pub(crate) fn most(&self, prompt: u32, answer: u32) -> Amount {
        self.prices.iter().filter_map(|(_, price)| price.map(|price| price.most(prompt, answer))).max().unwrap_or(Amount::ZERO)
    }

    /// What a use of this model came to. `answered`: the model did something.
    pub(crate) fn cost(&self, model: &str, usage: Usage, answered: bool) -> Amount {
        let price = self.prices.iter().find(|(name, _)| name == model).and_then(|(_, price)| *price);
        match price {
            Some(price) if answered => price.cost(usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens),
            _ => Amount::ZERO,
        }
    }
}
