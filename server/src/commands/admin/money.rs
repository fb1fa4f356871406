//! Prices, budgets and limits.

use super::{BY, day, output::Output};
use crate::{
    AnyError,
    cli::money::{MoneyCommand, WhoseArgs},
    startup::product::Product,
};
use domain::{Amount, money::PriceList};
use serde_json::{Value, json};
use services::quotas::{NewBudget, NewRateLimit, Whose};
use store::{
    budgets::{Budget, BudgetState},
    prices::StoredPrice,
    rate_limits::RateLimit,
};
use time::OffsetDateTime;

/// The commands about money.
///
/// # Errors
/// The command is refused.
pub async fn execute(product: &Product, command: MoneyCommand) -> Result<Output, AnyError> {
    let quotas = &product.services.quotas;
    match command {
        MoneyCommand::SetPrice { model, currency, input, cached_input, output, per_request, from } => {
            let list = PriceList { input, cached_input: cached_input.unwrap_or(input), output, per_request };
            let from = from.as_deref().map(day::first_moment).transpose()?;
            let price = quotas.set_price(BY, &model, &currency, list, from).await?;
            Ok(Output::new(price_line(&price), price_value(&price)))
        }
        MoneyCommand::ListPrices => {
            let prices = quotas.prices().await?;
            let lines: Vec<String> = prices.iter().map(price_line).collect();
            Ok(list(&lines, "No model has a price: all of them are free.", prices.iter().map(price_value).collect()))
        }
        MoneyCommand::AddBudget { whose, amount, currency, period, first_month, soft } => {
            let whose = resolve(product, whose).await?;
            let new = NewBudget { whose, amount, currency, period, first_month, hard: !soft };
            let budget = quotas.add_budget(BY, new).await?;
            Ok(Output::new(budget_line(&budget, &[]), budget_value(&budget, &[])))
        }
        MoneyCommand::ListBudgets { tenant } => {
            let tenant = product.identity.tenant_by_slug(BY, &tenant).await?;
            let (budgets, states) = quotas.budgets(BY, tenant).await?;
            let lines: Vec<String> = budgets.iter().map(|budget| budget_line(budget, &states)).collect();
            Ok(list(&lines, "There is no budget.", budgets.iter().map(|budget| budget_value(budget, &states)).collect()))
        }
        MoneyCommand::RemoveBudget { tenant, id } => {
            let tenant = product.identity.tenant_by_slug(BY, &tenant).await?;
            quotas.remove_budget(BY, tenant, id).await?;
            Ok(Output::new(format!("Ended the budget {id}."), json!({ "id": id })))
        }
        MoneyCommand::AddLimit { whose, model, requests, tokens, at_a_time } => {
            let whose = resolve(product, whose).await?;
            let limit = quotas.add_rate_limit(BY, NewRateLimit { whose, model, requests, tokens, places: at_a_time }).await?;
            Ok(Output::new(limit_line(&limit), limit_value(&limit)))
        }
        MoneyCommand::ListLimits { tenant } => {
            let tenant = product.identity.tenant_by_slug(BY, &tenant).await?;
            let limits = quotas.rate_limits(BY, tenant).await?;
            let lines: Vec<String> = limits.iter().map(limit_line).collect();
            Ok(list(&lines, "There is no limit.", limits.iter().map(limit_value).collect()))
        }
        MoneyCommand::RemoveLimit { tenant, id } => {
            let tenant = product.identity.tenant_by_slug(BY, &tenant).await?;
            quotas.remove_rate_limit(BY, tenant, id).await?;
            Ok(Output::new(format!("Ended the limit {id}."), json!({ "id": id })))
        }
    }
}

async fn resolve(product: &Product, whose: WhoseArgs) -> Result<Whose, AnyError> {
    let tenant = product.identity.tenant_by_slug(BY, &whose.tenant).await?;
    Ok(Whose { tenant, level: whose.level, name: whose.of })
}

fn list(lines: &[String], none: &str, value: Value) -> Output {
    Output::new(if lines.is_empty() { none.to_owned() } else { lines.join("\n") }, value)
}

fn price_line(price: &StoredPrice) -> String {
    let PriceList { input, cached_input, output, per_request } = price.list;
    let [input, cached_input, output, per_request] = [input, cached_input, output, per_request].map(|price| price.normalize());
    let from = OffsetDateTime::from_unix_timestamp(price.valid_from / 1000).map(|at| at.date().to_string()).unwrap_or_default();
    format!(
        "{}  from {from}: {} {input} (cached {cached_input}) for a million tokens in, {output} out, {per_request} for each request",
        price.model, price.currency
    )
}

fn price_value(price: &StoredPrice) -> Value {
    json!({
        "model": price.model, "currency": price.currency, "input": price.list.input.to_string(),
        "cached_input": price.list.cached_input.to_string(), "output": price.list.output.to_string(),
        "per_request": price.list.per_request.to_string(), "valid_from": price.valid_from,
    })
}

fn budget_line(budget: &Budget, states: &[BudgetState]) -> String {
    let whose = budget.subject.as_deref().unwrap_or("each");
    let kind = if budget.hard { "" } else { ", warns only" };
    let head = format!("{}  {} {whose}: {} {} {}{kind}", budget.id, budget.level.noun(), budget.amount, budget.currency, budget.period);
    let of = states.iter().filter(|state| state.budget == budget.id);
    let lines = of.map(|state| format!("\n    {}: {} spent, {} set aside", state.subject, state.spent, state.held));
    lines.fold(head, |text, line| text + &line)
}

fn budget_value(budget: &Budget, states: &[BudgetState]) -> Value {
    let state = |state: &BudgetState| {
        let left = (budget.amount - state.spent - state.held).max(Amount::ZERO);
        json!({ "subject": state.subject, "spent": state.spent.to_string(), "held": state.held.to_string(), "left": left.to_string() })
    };
    json!({
        "id": budget.id, "level": budget.level.name(), "subject": budget.subject, "amount": budget.amount.to_string(),
        "currency": budget.currency.code(), "period": budget.period.name(), "first_month": budget.first_month, "hard": budget.hard,
        "now": states.iter().filter(|state| state.budget == budget.id).map(state).collect::<Vec<_>>(),
    })
}

fn limit_line(limit: &RateLimit) -> String {
    let whose = limit.subject.as_deref().unwrap_or("each");
    let parts = [(limit.requests, "requests a minute"), (limit.tokens, "tokens a minute"), (limit.places, "at a time")];
    let parts: Vec<String> = parts.iter().filter_map(|(number, unit)| number.map(|number| format!("{number} {unit}"))).collect();
    let model = limit.model.as_ref().map_or_else(String::new, |model| format!(" of {model}"));
    format!("{}  {} {whose}: {}{model}", limit.id, limit.level.noun(), parts.join(", "))
}

fn limit_value(limit: &RateLimit) -> Value {
    json!({
        "id": limit.id, "level": limit.level.name(), "subject": limit.subject, "model": limit.model,
        "requests": limit.requests, "tokens": limit.tokens, "at_a_time": limit.places,
    })
}
