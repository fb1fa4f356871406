//! Tokens as OpenAI tells them, and what they cost.

use contract::{chat::AnswerStats, usage::Money};
use domain::{Amount, Currency};
use serde::{Serialize, Serializer};
use std::fmt::Display;
use utoipa::ToSchema;

/// What a use cost, told beside its tokens. The fields are Kontor's own; they are there where the model has a price. LiteLLM
/// takes a field `cost` for dollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = UsageCost)]
pub struct Cost {
    /// Kontor's own: an exact decimal number, of models that have a price.
    #[serde(rename = "kontor_cost", skip_serializing_if = "Option::is_none", serialize_with = "text")]
    #[schema(value_type = Option<String>)]
    cost: Option<Amount>,
    /// Kontor's own: the code (ISO 4217) of what `kontor_cost` is in.
    #[serde(rename = "kontor_currency", skip_serializing_if = "Option::is_none", serialize_with = "text")]
    #[schema(value_type = Option<String>)]
    currency: Option<Currency>,
}

impl Cost {
    /// `None`: there is no price.
    pub fn of(cost: Option<(Currency, Amount)>) -> Self {
        let (currency, cost) = cost.unzip();
        Self { cost, currency }
    }

    /// The same as it was kept.
    pub fn of_money(money: Option<&Money>) -> Self {
        Self::of(money.and_then(|money| Some((money.currency.parse::<Currency>().ok()?, Amount::of_pico(money.pico)))))
    }
}

/// JSON's numbers are not exact.
fn text<T: Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

/// The value of `usage`.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Usage {
    prompt_tokens: u32,
    completion_tokens: u32,
    total_tokens: u32,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
    #[serde(flatten)]
    cost: Cost,
}

#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
struct PromptDetails {
    /// Came out of the prefix cache.
    cached_tokens: u32,
    audio_tokens: u32,
}

#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
struct CompletionDetails {
    /// Were thoughts.
    reasoning_tokens: u32,
    audio_tokens: u32,
    accepted_prediction_tokens: u32,
    rejected_prediction_tokens: u32,
}

impl Usage {
    pub fn of(stats: &AnswerStats, cost: Cost) -> Self {
        Self {
            prompt_tokens: stats.prompt_tokens,
            completion_tokens: stats.completion_tokens,
            total_tokens: stats.prompt_tokens.saturating_add(stats.completion_tokens),
            prompt_tokens_details: PromptDetails { cached_tokens: stats.cached_tokens, audio_tokens: 0 },
            completion_tokens_details: CompletionDetails {
                reasoning_tokens: stats.reasoning_tokens,
                audio_tokens: 0,
                accepted_prediction_tokens: 0,
                rejected_prediction_tokens: 0,
            },
            cost,
        }
    }
}

/// The value of `usage` where nothing is completed.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct InputUsage {
    prompt_tokens: u32,
    total_tokens: u32,
    #[serde(flatten)]
    cost: Cost,
}

impl InputUsage {
    pub fn of(stats: &AnswerStats, cost: Cost) -> Self {
        Self { prompt_tokens: stats.prompt_tokens, total_tokens: stats.prompt_tokens, cost }
    }
}

#[cfg(test)]
mod tests {
    use super::{Cost, InputUsage, Usage};
    use contract::{chat::AnswerStats, usage::Money};
    use domain::Amount;
    use serde_json::json;

    #[test]
    fn thoughts_are_part_of_what_was_completed() {
        let stats = AnswerStats { prompt_tokens: 9, cached_tokens: 4, completion_tokens: 7, reasoning_tokens: 5, ..AnswerStats::default() };
        let expected = json!({
            "prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16,
            "prompt_tokens_details": { "cached_tokens": 4, "audio_tokens": 0 },
            "completion_tokens_details": {
                "reasoning_tokens": 5, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
            },
        });
        assert_eq!(serde_json::to_value(Usage::of(&stats, Cost::default())).unwrap(), expected);
    }

    #[test]
    fn what_it_cost_is_told_exactly_and_only_where_there_is_a_price() {
        let stats = AnswerStats { prompt_tokens: 9, ..AnswerStats::default() };
        let told = |cost| serde_json::to_value(InputUsage::of(&stats, cost)).unwrap();
        let expected = json!({ "prompt_tokens": 9, "total_tokens": 9, "kontor_cost": "0.000000000001", "kontor_currency": "EUR" });
        assert_eq!(told(Cost::of(Some(("EUR".parse().unwrap(), Amount::of_pico(1))))), expected);
        assert_eq!(told(Cost::of_money(Some(&Money { currency: "EUR".into(), pico: 1 }))), expected);
        assert_eq!(told(Cost::of(None)), json!({ "prompt_tokens": 9, "total_tokens": 9 }));
    }
}
