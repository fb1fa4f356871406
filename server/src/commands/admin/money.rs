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
use std::collections::HashMap;
use store::{
    budgets::{Budget, BudgetState},
    prices::StoredPrice,
    rate_limits::RateLimit,
};
use time::OffsetDateTime;

/// What people call those whom budgets and limits are for, by id.
type Names = HashMap<String, String>;

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
            let names = quotas.names(BY, budget.tenant).await?;
            Ok(Output::new(budget_line(&budget, &[], &names), budget_value(&budget, &[], &names)))
        }
        MoneyCommand::ListBudgets { tenant: slug } => {
            let tenant = product.identity.tenant_by_slug(BY, &slug).await?;
            let (budgets, states) = quotas.budgets(BY, tenant).await?;
            let mut names = quotas.names(BY, tenant).await?;
            names.insert(tenant.to_string(), slug);
            let lines: Vec<String> = budgets.iter().map(|budget| budget_line(budget, &states, &names)).collect();
            Ok(list(&lines, "There is no budget.", budgets.iter().map(|budget| budget_value(budget, &states, &names)).collect()))
        }
        MoneyCommand::RemoveBudget { tenant, id } => {
            let tenant = product.identity.tenant_by_slug(BY, &tenant).await?;
            quotas.remove_budget(BY, tenant, id).await?;
            Ok(Output::new(format!("Ended the budget {id}."), json!({ "id": id })))
        }
        MoneyCommand::AddLimit { whose, model, requests, tokens, at_a_time } => {
            let whose = resolve(product, whose).await?;
            let limit = quotas.add_rate_limit(BY, NewRateLimit { whose, model, requests, tokens, places: at_a_time }).await?;
            let names = quotas.names(BY, limit.tenant).await?;
            Ok(Output::new(limit_line(&limit, &names), limit_value(&limit, &names)))
        }
        MoneyCommand::ListLimits { tenant } => {
            let tenant = product.identity.tenant_by_slug(BY, &tenant).await?;
            let limits = quotas.rate_limits(BY, tenant).await?;
            let names = quotas.names(BY, tenant).await?;
            let lines: Vec<String> = limits.iter().map(|limit| limit_line(limit, &names)).collect();
            Ok(list(&lines, "There is no limit.", limits.iter().map(|limit| limit_value(limit, &names)).collect()))
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

/// What people call it; whoever is gone is an id.
fn name<'a>(names: &'a Names, subject: &'a str) -> &'a str {
    names.get(subject).map_or(subject, String::as_str)
}

fn budget_line(budget: &Budget, states: &[BudgetState], names: &Names) -> String {
    let whose = budget.subject.as_deref().map_or("each", |subject| name(names, subject));
    let kind = if budget.hard { "" } else { ", warns only" };
    let head = format!("{}  {} {whose}: {} {} {}{kind}", budget.id, budget.level.noun(), budget.amount, budget.currency, budget.period);
    let of = states.iter().filter(|state| state.budget == budget.id);
    let lines = of.map(|state| format!("\n    {}: {} spent, {} set aside", name(names, &state.subject), state.spent, state.held));
    lines.fold(head, |text, line| text + &line)
}

fn budget_value(budget: &Budget, states: &[BudgetState], names: &Names) -> Value {
    let state = |state: &BudgetState| {
        let left = (budget.amount - state.spent - state.held).max(Amount::ZERO);
        json!({
            "subject": state.subject, "name": name(names, &state.subject), "spent": state.spent.to_string(),
            "held": state.held.to_string(), "left": left.to_string(),
        })
    };
    json!({
        "id": budget.id, "level": budget.level.name(), "subject": budget.subject,
        "name": budget.subject.as_deref().map(|subject| name(names, subject)), "amount": budget.amount.to_string(),
        "currency": budget.currency.code(), "period": budget.period.name(), "first_month": budget.first_month, "hard": budget.hard,
        "now": states.iter().filter(|state| state.budget == budget.id).map(state).collect::<Vec<_>>(),
    })
}

fn limit_line(limit: &RateLimit, names: &Names) -> String {
    let whose = limit.subject.as_deref().map_or("each", |subject| name(names, subject));
    let parts = [(limit.requests, "requests a minute"), (limit.tokens, "tokens a minute"), (limit.places, "at a time")];
    let parts: Vec<String> = parts.iter().filter_map(|(number, unit)| number.map(|number| format!("{number} {unit}"))).collect();
    let model = limit.model.as_ref().map_or_else(String::new, |model| format!(" of {model}"));
    format!("{}  {} {whose}: {}{model}", limit.id, limit.level.noun(), parts.join(", "))
}

fn limit_value(limit: &RateLimit, names: &Names) -> Value {
    json!({
        "id": limit.id, "level": limit.level.name(), "subject": limit.subject,
        "name": limit.subject.as_deref().map(|subject| name(names, subject)), "model": limit.model,
        "requests": limit.requests, "tokens": limit.tokens, "at_a_time": limit.places,
    })
}

#[cfg(test)]
mod tests {
    use super::{Budget, BudgetState, Names, budget_line, budget_value};
    use contract::ids::{BudgetId, TenantId};
    use domain::{
        Amount,
        quota::{Level, Period},
    };
    use uuid::Uuid;

    #[test]
    fn people_are_called_by_their_names() {
        let (known, gone) = (Uuid::now_v7().to_string(), Uuid::now_v7().to_string());
        let budget = Budget {
            tenant: TenantId(Uuid::now_v7()),
            id: BudgetId(Uuid::now_v7()),
            level: Level::User,
            subject: Some(known.clone()),
            currency: "EUR".parse().expect("a currency"),
            amount: Amount::ZERO,
            period: Period::Total,
            first_month: 1,
            hard: true,
        };
        let names = Names::from([(known.clone(), "ada@example.org".to_owned())]);
        let state = |subject: &String| BudgetState { budget: budget.id, subject: subject.clone(), spent: Amount::ZERO, held: Amount::ZERO };
        let states = [state(&known), state(&gone)];
        let text = budget_line(&budget, &states, &names);
        assert!(text.contains("person ada@example.org:") && text.contains("\n    ada@example.org: ") && !text.contains(&known), "{text}");
        assert!(text.contains(&gone), "{text}");
        let value = budget_value(&budget, &states, &names);
        assert_eq!(value["subject"], known.as_str());
        assert_eq!(value["name"], "ada@example.org");
        assert_eq!(value["now"][1]["name"], gone.as_str());
    }
}
