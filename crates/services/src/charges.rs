//! Charge-back: what a tenant used and what it cost, for its bookkeeping. People are not told apart in it: whoever pays has
//! no need to know what somebody asked how often.

use crate::{shared::Shared, usage};
use contract::{ids::TenantId, usage::UsageRange};
use domain::{Amount, Error, Result};
use serde_json::json;
use std::sync::Arc;
use store::{Reason, usage::Charge};
use time::{Date, Duration};

/// The columns of Kontor's own form.
const COLUMNS: [&str; 13] = [
    "day",
    "service_account",
    "team",
    "cost_center",
    "model",
    "purpose",
    "requests",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "cost",
    "currency",
    "from_cache",
];

/// The columns of FOCUS 1.2 that are mandatory, and those that say more about a charge of ours
/// (<https://focus.finops.org/focus-specification/v1-2/>).
const FOCUS_COLUMNS: [&str; 31] = [
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingAccountType",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedCost",
    "EffectiveCost",
    "InvoiceIssuerName",
    "ListCost",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "ResourceId",
    "ResourceName",
    "ServiceCategory",
    "ServiceName",
    "ServiceSubcategory",
    "SubAccountId",
    "SubAccountName",
    "Tags",
];

/// See the module.
#[derive(Clone)]
pub struct Charges {
    shared: Arc<Shared>,
}

impl Charges {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The charges of these days as CSV; with the columns of FOCUS 1.2 or our own.
    ///
    /// # Errors
    /// [`Error::Invalid`] for `from` or `to` (`bad_date`, `bad_range`); as for any statement.
    pub async fn csv(&self, by: &str, tenant: TenantId, slug: &str, range: &UsageRange, focus: bool) -> Result<String> {
        let (from, to) = usage::days(range)?;
        let tx = self.shared.db.begin_system(by, Reason::Administration).await?;
        let charges = tx.usage().charges(tenant, from, to).await?;
        tx.commit().await?;
        if focus { focus_table(tenant, slug, &charges) } else { table(&charges) }
    }
}

fn table(charges: &[Charge]) -> Result<String> {
    let rows = charges.iter().map(|charge| {
        let cost = charge.cost.map_or_else(String::new, |(_, cost)| plain(cost));
        vec![
            charge.day.to_string(),
            charge.account.clone().unwrap_or_default(),
            charge.team.clone(),
            charge.cost_center.clone(),
            charge.model.clone(),
            charge.purpose.clone(),
            charge.requests.to_string(),
            charge.prompt_tokens.to_string(),
            charge.cached_tokens.to_string(),
            charge.completion_tokens.to_string(),
            cost,
            charge.cost.map_or_else(String::new, |(currency, _)| currency.code().to_owned()),
            charge.from_cache.to_string(),
        ]
    });
    usage::csv(&COLUMNS, rows)
}

fn focus_table(tenant: TenantId, slug: &str, charges: &[Charge]) -> Result<String> {
    // What is free is no charge.
    let paid = charges.iter().filter_map(|charge| charge.cost.map(|(currency, cost)| (charge, currency, cost)));
    let rows = paid
        .map(|(charge, currency, cost)| {
            let month = charge.day.replace_day(1).map_err(Error::internal)?;
            let next = (month + Duration::days(31)).replace_day(1).map_err(Error::internal)?;
            let tokens = (charge.prompt_tokens + charge.completion_tokens).to_string();
            let tags = json!({
                "team": charge.team, "cost_center": charge.cost_center, "purpose": charge.purpose, "requests": charge.requests.to_string(),
            });
            let cost = plain(cost);
            Ok(vec![
                cost.clone(),
                tenant.to_string(),
                slug.to_owned(),
                "Tenant".into(),
                currency.code().to_owned(),
                midnight(next),
                midnight(month),
                "Usage".into(),
                String::new(),
                format!("Use of {} by {}", charge.model, charge.account.as_deref().unwrap_or("people")),
                "Usage-Based".into(),
                midnight(charge.day + Duration::DAY),
                midnight(charge.day),
                tokens.clone(),
                "Tokens".into(),
                cost.clone(),
                cost.clone(),
                "Kontor".into(),
                cost,
                tokens,
                "Tokens".into(),
                "Kontor".into(),
                "Kontor".into(),
                charge.model.clone(),
                charge.model.clone(),
                "AI and Machine Learning".into(),
                "Kontor".into(),
                "Generative AI".into(),
                charge.account_id.map_or_else(String::new, |account| account.to_string()),
                charge.account.clone().unwrap_or_default(),
                tags.to_string(),
            ])
        })
        .collect::<Result<Vec<_>>>()?;
    usage::csv(&FOCUS_COLUMNS, rows)
}

/// FOCUS writes instants in UTC with a `Z`.
fn midnight(day: Date) -> String {
    format!("{day}T00:00:00Z")
}

/// Without needless zeros.
fn plain(cost: Amount) -> String {
    cost.decimal().normalize().to_string()
}

#[cfg(test)]
mod tests {
    use super::{COLUMNS, Charge, FOCUS_COLUMNS, focus_table, table};
    use contract::ids::{ServiceAccountId, TenantId};
    use domain::Amount;
    use time::macros::date;
    use uuid::Uuid;

    fn charge(cost: Option<&str>) -> Charge {
        let cost = cost.map(|cost| ("EUR".parse().unwrap(), Amount::new("cost", cost.parse().unwrap()).unwrap()));
        Charge {
            day: date!(2026 - 12 - 31),
            account_id: Some(ServiceAccountId(Uuid::nil())),
            account: Some("=Reports".into()),
            team: "Statistics".into(),
            cost_center: "4711".into(),
            model: "m".into(),
            purpose: "api".into(),
            requests: 2,
            from_cache: 1,
            prompt_tokens: 100,
            cached_tokens: 40,
            completion_tokens: 7,
            cost,
        }
    }

    fn rows(csv: &str) -> Vec<std::collections::HashMap<String, String>> {
        csv::Reader::from_reader(csv.as_bytes()).deserialize().map(|row| row.expect("a row")).collect()
    }

    #[test]
    fn charges_are_exact_and_no_formulas() {
        let csv = table(&[charge(Some("0.000000000001")), charge(None)]).expect("CSV");
        assert_eq!(csv.lines().next().expect("a head"), COLUMNS.join(","));
        let rows = rows(&csv);
        assert_eq!((rows[0]["cost"].as_str(), rows[0]["currency"].as_str()), ("0.000000000001", "EUR"));
        assert_eq!(rows[0]["service_account"], "'=Reports");
        assert_eq!((rows[0]["requests"].as_str(), rows[0]["from_cache"].as_str()), ("2", "1"));
        assert_eq!((rows[1]["cost"].as_str(), rows[1]["currency"].as_str()), ("", ""), "free is not a price of zero");
    }

    #[test]
    fn focus_has_all_mandatory_columns_and_periods_over_the_turn_of_the_year() {
        let csv = focus_table(TenantId(Uuid::nil()), "acme", &[charge(Some("1.5")), charge(None)]).expect("CSV");
        let rows = rows(&csv);
        assert_eq!(rows.len(), 1);
        let is = |column: &str, value: &str| assert_eq!(rows[0][column], value, "{column}");
        for column in ["BilledCost", "EffectiveCost", "ListCost", "ContractedCost"] {
            is(column, "1.5");
        }
        is("BillingPeriodStart", "2026-12-01T00:00:00Z");
        is("BillingPeriodEnd", "2027-01-01T00:00:00Z");
        is("ChargePeriodStart", "2026-12-31T00:00:00Z");
        is("ChargePeriodEnd", "2027-01-01T00:00:00Z");
        is("ChargeCategory", "Usage");
        is("ServiceCategory", "AI and Machine Learning");
        is("PricingQuantity", "107");
        assert!(FOCUS_COLUMNS.is_sorted(), "the specification's order");
    }
}
