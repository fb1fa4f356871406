//! Prices, budgets and limits, for whoever administers them.

use crate::shared::Shared;
use contract::{
    Millis,
    ids::{ApiKeyId, BudgetId, RateLimitId, TenantId},
};
use domain::{
    Amount, Error, Price, Result,
    money::PriceList,
    quota::{Level, Period},
};
use rust_decimal::Decimal;
use std::{collections::HashMap, sync::Arc};
use store::{
    Reason,
    audit::AuditEvent,
    budgets::{Budget, BudgetState},
    prices::StoredPrice,
    rate_limits::RateLimit,
};
use uuid::Uuid;

/// Longest name of a team, a cost centre or a model.
const LONGEST_NAME: usize = 200;

/// Whom a budget or a limit is for.
#[derive(Clone, Debug)]
pub struct Whose {
    pub tenant: TenantId,
    pub level: Level,
    /// A person's e-mail, the name of a service account, team or cost centre, or the id of a key; `None`: each one of the
    /// level by itself.
    pub name: Option<String>,
}

/// A budget to be made.
#[derive(Clone, Debug)]
pub struct NewBudget {
    pub whose: Whose,
    pub amount: Decimal,
    /// ISO 4217.
    pub currency: String,
    pub period: Period,
    /// The first month of the fiscal year, 1 to 12.
    pub first_month: u8,
    pub hard: bool,
}

/// A limit to be made; at least one of the three.
#[derive(Clone, Debug)]
pub struct NewRateLimit {
    pub whose: Whose,
    /// `None`: all models together.
    pub model: Option<String>,
    pub requests: Option<u64>,
    pub tokens: Option<u64>,
    pub places: Option<u64>,
}

/// See the module. Every method takes the name of who acts, for the audit trail.
#[derive(Clone)]
pub struct Quotas {
    shared: Arc<Shared>,
}

impl Quotas {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Sets what a model costs from an instant on (now by default), until another price of it begins.
    ///
    /// # Errors
    /// [`Error::Invalid`] on a field that is no price, in the past, or of a model that is not offered; [`Error::Conflict`]
    /// if there is a price from that instant on.
    pub async fn set_price(&self, by: &str, model: &str, currency: &str, list: PriceList, from: Option<Millis>) -> Result<StoredPrice> {
        let currency = currency.parse()?;
        Price::new(currency, &list)?;
        self.is_offered(model)?;
        let now = self.shared.now();
        // What was used has its price.
        if from.is_some_and(|from| from < now) {
            return Err(Error::invalid("from", "in_the_past", "A price cannot begin in the past."));
        }
        let price = StoredPrice { model: model.into(), currency: currency.code().into(), list, valid_from: from.unwrap_or(now) };
        let tx = self.shared.db.begin_system(by, Reason::Administration).await?;
        tx.prices().add(Uuid::now_v7(), &price).await?;
        let event = AuditEvent::new(by, "price.set").target(model).detail("currency", price.currency.clone());
        let event = event
            .detail("input", price.list.input.to_string())
            .detail("cached_input", price.list.cached_input.to_string())
            .detail("output", price.list.output.to_string())
            .detail("per_request", price.list.per_request.to_string())
            .detail("valid_from", price.valid_from);
        tx.audit(&event, None).await?;
        tx.commit().await?;
        Ok(price)
    }

    /// All prices, by model, oldest first.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn prices(&self) -> Result<Vec<StoredPrice>> {
        self.shared.db.prices().await
    }

    /// Adds a budget.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `amount`, `currency`, `first_month` or `of`; [`Error::NotFound`] for a person, an account or a
    /// key that there is not.
    pub async fn add_budget(&self, by: &str, new: NewBudget) -> Result<Budget> {
        if !(1..=12).contains(&new.first_month) {
            return Err(Error::invalid("first_month", "out_of_range", "first_month must lie between 1 and 12."));
        }
        let budget = Budget {
            tenant: new.whose.tenant,
            id: BudgetId(Uuid::now_v7()),
            level: new.whose.level,
            subject: self.subject(by, &new.whose).await?,
            currency: new.currency.parse()?,
            amount: Amount::new("amount", new.amount)?,
            period: new.period,
            first_month: new.first_month,
            hard: new.hard,
        };
        let tx = self.shared.db.begin_system(by, Reason::Administration).await?;
        tx.budgets().add(&budget).await?;
        let event = AuditEvent::new(by, "budget.created")
            .target(budget.id)
            .detail("level", budget.level.name())
            .detail("subject", budget.subject.clone().unwrap_or_default())
            .detail("amount", format!("{} {}", budget.amount, budget.currency))
            .detail("period", budget.period.name())
            .detail("hard", budget.hard);
        tx.audit(&event, Some(budget.tenant)).await?;
        tx.commit().await?;
        Ok(budget)
    }

    /// The budgets of a tenant, and how far they are spent in the present periods.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn budgets(&self, by: &str, tenant: TenantId) -> Result<(Vec<Budget>, Vec<BudgetState>)> {
        let tx = self.shared.db.begin_system(by, Reason::Administration).await?;
        let (budgets, states) = (tx.budgets().list(tenant).await?, tx.budgets().states(tenant, self.shared.now()).await?);
        tx.commit().await?;
        Ok((budgets, states))
    }

    /// What people call those whom budgets and limits of a tenant are for, by the id that these have: e-mails of people, names
    /// of service accounts and keys.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn names(&self, by: &str, tenant: TenantId) -> Result<HashMap<String, String>> {
        let identity = &self.shared.identity;
        let people = identity.people(by, Some(tenant)).await?.into_iter();
        let mut names: HashMap<String, String> = people.map(|person| (person.user.to_string(), person.email)).collect();
        for account in identity.service_accounts(by, tenant).await? {
            let keys = identity.keys(by, tenant, account.id).await?.into_iter();
            names.extend(keys.map(|key| (key.id.to_string(), format!("{} of {}", key.name, account.name))));
            names.insert(account.id.to_string(), account.name);
        }
        Ok(names)
    }

    /// Ends a budget.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn remove_budget(&self, by: &str, tenant: TenantId, budget: BudgetId) -> Result<()> {
        let tx = self.shared.db.begin_system(by, Reason::Administration).await?;
        tx.budgets().remove(tenant, budget).await?;
        tx.audit(&AuditEvent::new(by, "budget.removed").target(budget), Some(tenant)).await?;
        tx.commit().await
    }

    /// Adds a limit.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `requests` without any number, on a number of 0, on `model` or on `of`; [`Error::NotFound`] as for budgets.
    pub async fn add_rate_limit(&self, by: &str, new: NewRateLimit) -> Result<RateLimit> {
        let numbers = [("requests", new.requests), ("tokens", new.tokens), ("at_a_time", new.places)];
        if numbers.iter().all(|(_, number)| number.is_none()) {
            return Err(Error::invalid("requests", "required", "A limit needs requests, tokens or a number at a time."));
        }
        for (field, number) in numbers {
            if number.is_some_and(|number| number == 0 || i64::try_from(number).is_err()) {
                return Err(Error::invalid(field, "out_of_range", format!("{field} must be at least 1.")));
            }
        }
        new.model.as_deref().map_or(Ok(()), |model| self.is_offered(model))?;
        let limit = RateLimit {
            tenant: new.whose.tenant,
            id: RateLimitId(Uuid::now_v7()),
            level: new.whose.level,
            subject: self.subject(by, &new.whose).await?,
            model: new.model,
            requests: new.requests,
            tokens: new.tokens,
            places: new.places,
        };
        let tx = self.shared.db.begin_system(by, Reason::Administration).await?;
        tx.rate_limits().add(&limit).await?;
        let event = AuditEvent::new(by, "limit.created")
            .target(limit.id)
            .detail("level", limit.level.name())
            .detail("subject", limit.subject.clone().unwrap_or_default())
            .detail("model", limit.model.clone().unwrap_or_default())
            .detail("requests", limit.requests)
            .detail("tokens", limit.tokens)
            .detail("at_a_time", limit.places);
        tx.audit(&event, Some(limit.tenant)).await?;
        tx.commit().await?;
        Ok(limit)
    }

    /// The limits of a tenant.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn rate_limits(&self, by: &str, tenant: TenantId) -> Result<Vec<RateLimit>> {
        let tx = self.shared.db.begin_system(by, Reason::Administration).await?;
        let limits = tx.rate_limits().list(tenant).await?;
        tx.commit().await?;
        Ok(limits)
    }

    /// Ends a limit.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn remove_rate_limit(&self, by: &str, tenant: TenantId, limit: RateLimitId) -> Result<()> {
        let tx = self.shared.db.begin_system(by, Reason::Administration).await?;
        tx.rate_limits().remove(tenant, limit).await?;
        tx.audit(&AuditEvent::new(by, "limit.removed").target(limit), Some(tenant)).await?;
        tx.commit().await
    }

    fn is_offered(&self, model: &str) -> Result<()> {
        let ids: Vec<&str> = self.shared.inference.model_ids().collect();
        if ids.contains(&model) {
            return Ok(());
        }
        Err(Error::invalid("model", "unknown_model", format!("No model is called {model}. There are: {}.", ids.join(", "))))
    }

    /// The name as the ledger has it.
    async fn subject(&self, by: &str, whose: &Whose) -> Result<Option<String>> {
        let Some(name) = whose.name.as_deref().map(str::trim) else { return Ok(None) };
        let no_such = |what: &str| Error::invalid("of", "unknown", format!("This organisation has no {what} {name}."));
        let identity = &self.shared.identity;
        Ok(Some(match whose.level {
            Level::Tenant => return Err(Error::invalid("of", "not_needed", "An organisation needs no name.")),
            Level::Team | Level::CostCenter if name.is_empty() || name.len() > LONGEST_NAME => {
                return Err(Error::invalid("of", "out_of_range", format!("A name has 1 to {LONGEST_NAME} bytes.")));
            }
            Level::Team | Level::CostCenter => name.to_owned(),
            Level::ServiceAccount => identity.service_account(by, whose.tenant, name).await?.id.to_string(),
            Level::Key => {
                let key: ApiKeyId = name.parse().map_err(|_| no_such("key"))?;
                if identity.tenant_of_key(by, key).await? != whose.tenant {
                    return Err(no_such("key"));
                }
                key.to_string()
            }
            Level::User => {
                let people = identity.people(by, Some(whose.tenant)).await?;
                let person = people.iter().find(|person| person.email.eq_ignore_ascii_case(name)).ok_or_else(|| no_such("person"))?;
                person.user.to_string()
            }
        }))
    }
}
