//! `POST /v1/moderations`: what the guardrails of the key's organisation see in texts. Its categories are the kinds of
//! their checks, not OpenAI's: nobody here judges violence or hate, and an answer that denies them would be a lie.

mod input;

use crate::{Gateway, body::Call, failure::Failure, headers, openapi::Described, wish::Unmet};
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use input::{Input, Part, Texts};
use serde::{Deserialize, Serialize};
use serde_json::json;
use services::guardrails::{Found, MODERATION};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// The categories of each result. Those that no rule of the organisation looks at are never flagged.
const CATEGORIES: [&str; 4] = ["pii", "secrets", "injection", "words"];

#[derive(Debug, Deserialize, ToSchema)]
pub struct ModerationRequest {
    /// A text, texts, or parts of the type `text`, which together are one input.
    #[schema(schema_with = input::schema)]
    input: Input,
    /// Taken, so that clients of OpenAI's API work; there is one.
    #[serde(rename = "model")]
    _model: Option<String>,
}

impl Unmet for ModerationRequest {}

#[derive(Serialize, ToSchema)]
struct Moderation {
    id: String,
    model: &'static str,
    results: Vec<Judged>,
}

#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = ModerationResult)]
struct Judged {
    flagged: bool,
    categories: BTreeMap<&'static str, bool>,
    category_scores: BTreeMap<&'static str, f32>,
    /// Names of the rules, which OpenAI does not have.
    rules: Vec<String>,
}

impl From<Vec<Found>> for Judged {
    fn from(found: Vec<Found>) -> Self {
        let mut scores: BTreeMap<&'static str, f32> = CATEGORIES.iter().map(|category| (*category, 0.0)).collect();
        for found in &found {
            let score = scores.entry(found.kind).or_default();
            *score = score.max(found.score);
        }
        let flags = |kind: &&'static str| found.iter().any(|found| found.kind == *kind);
        Self {
            flagged: !found.is_empty(),
            categories: scores.keys().map(|kind| (*kind, flags(kind))).collect(),
            rules: found.iter().map(|found| found.rule.clone()).collect(),
            category_scores: scores,
        }
    }
}

/// For the API's description.
pub fn described(operation: Described) -> Described {
    let text =
        "What the guardrails of the key's organisation see. The categories are `pii`, `secrets`, `injection` and `words`, not OpenAI's.";
    operation
        .named("createModeration", "Look at texts with the guardrails", text)
        .reads::<ModerationRequest>(json!({ "input": "My account is DE89 3704 0044 0532 0130 00." }))
        .knows::<Part>()
        .answers::<Moderation>("A result for each text, or one for all parts.")
}

pub async fn create(State(gateway): State<Gateway>, call: Call<ModerationRequest>) -> Result<Response, Failure> {
    let Call { actor, input, ignored, .. } = call;
    let Texts { all, together } = input.input.texts()?;
    let moderated = gateway.services.guardrails.moderate(&actor, all).await.map_err(|error| Failure::of(error, actor.request()))?;
    let found = if together { vec![moderated.found.concat()] } else { moderated.found };
    let results = found.into_iter().map(Judged::from).collect();
    let body = Moderation { id: format!("modr-{}", actor.request()), model: MODERATION, results };
    let mut response = Json(body).into_response();
    headers::name_limits(response.headers_mut(), &moderated.limits);
    ignored.put(response.headers_mut());
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::{CATEGORIES, Judged};
    use services::guardrails::Found;

    #[test]
    fn what_was_found_flags_its_category_and_no_other() {
        let found = |rule: &str, kind, score| Found { rule: rule.into(), kind, score };
        let judged = Judged::from(vec![found("accounts", "pii", 0.6), found("people", "pii", 0.9)]);
        assert!(judged.flagged && judged.categories["pii"] && !judged.categories["secrets"]);
        assert!((judged.category_scores["pii"] - 0.9).abs() < f32::EPSILON);
        assert_eq!(judged.rules, ["accounts", "people"]);
        let nothing = Judged::from(Vec::new());
        assert!(!nothing.flagged && nothing.categories.len() == CATEGORIES.len());
    }
}
