//! What operators see of the funnel: one span and the counters of each use.
//!
//! Names of attributes are those of OpenTelemetry's conventions for generative AI; what they have no word for begins with
//! `kontor.`. Nothing of prompts and answers is among them.

mod metrics;

pub use metrics::Metrics;

use crate::{admit::Request, meter::Figures};
use contract::{
    ids::{TenantId, UsageId},
    problem::CONTENT_FILTER,
    usage::Purpose,
};
use domain::{Amount, Currency, Error, Quota};
use metrics::Use;
use telemetry::{KeyValue, Kind, Span, Trace, texts};
use tokio::time::Instant;

/// One use of a model, from its request to its end. Dropped without an end, it tells none.
pub(crate) struct Observed {
    metrics: Metrics,
    span: Span,
    purpose: Purpose,
    began: Instant,
}

/// How a use ended.
pub(crate) struct Seen<'a> {
    pub figures: &'a Figures,
    /// Empty unless the model came to an end.
    pub finish: &'static str,
    pub error: Option<&'a Error>,
    pub cost: Option<(Currency, Amount)>,
    pub first_output: Option<Instant>,
    /// Members that were asked.
    pub attempts: u32,
}

impl Observed {
    /// Below whatever asks.
    pub(crate) fn begin(metrics: Metrics, purpose: Purpose, tenant: TenantId) -> Self {
        let span = Trace::here().child(Kind::Internal, || operation(purpose).to_owned());
        span.set(|| {
            [
                KeyValue::new("gen_ai.operation.name", operation(purpose)),
                KeyValue::new("gen_ai.provider.name", "kontor"),
                KeyValue::new("kontor.purpose", purpose.name()),
                KeyValue::new("kontor.tenant.id", tenant.to_string()),
            ]
        });
        Self { metrics, span, purpose, began: Instant::now() }
    }

    /// This model may be used. Before that its name is whatever somebody sent.
    pub(crate) fn granted(&self, model: &str) {
        self.span.rename(|| format!("{} {model}", operation(self.purpose)));
        self.span.set(|| [KeyValue::new("gen_ai.request.model", model.to_owned())]);
    }

    /// What is asked of the model.
    pub(crate) fn asked(&self, request: &Request) {
        self.span.set(|| {
            let sampling = &request.sampling;
            let max_tokens = sampling.max_tokens.map(|tokens| KeyValue::new("gen_ai.request.max_tokens", i64::from(tokens)));
            let temperature = sampling.temperature.map(|value| KeyValue::new("gen_ai.request.temperature", f64::from(value)));
            let top_p = sampling.top_p.map(|value| KeyValue::new("gen_ai.request.top_p", f64::from(value)));
            let choices = (request.options.n > 1).then(|| KeyValue::new("gen_ai.request.choice.count", i64::from(request.options.n)));
            [max_tokens, temperature, top_p, choices].into_iter().flatten()
        });
    }

    /// It has a row in the ledger.
    pub(crate) fn opened(&self, usage: UsageId) {
        self.span.set(|| [KeyValue::new("gen_ai.response.id", usage.0.simple().to_string())]);
    }

    /// One member is asked.
    pub(crate) fn attempt(&self, model: &str) -> Span {
        let span = self.span.trace().child(Kind::Client, || format!("attempt {model}"));
        span.set(|| [KeyValue::new("gen_ai.request.model", model.to_owned())]);
        span
    }

    /// It did not reach a model; gives back why.
    pub(crate) fn refused(self, error: Error) -> Error {
        let reason = reason(&error);
        self.metrics.refused(reason);
        self.span.fail(reason);
        error
    }

    /// It ended.
    pub(crate) fn ended(self, seen: &Seen<'_>) {
        let Seen { figures, finish, error, cost, first_output, attempts } = *seen;
        let model = figures.model.as_deref().unwrap_or_default();
        let first = first_output.map(|at| at.saturating_duration_since(self.began));
        let (outcome, usage) = (figures.outcome.name(), figures.usage);
        self.metrics.ended(&Use { model, purpose: self.purpose, outcome, took: self.began.elapsed(), first, usage, cost });
        self.span.set(|| {
            let mut told = vec![
                KeyValue::new("gen_ai.response.model", model.to_owned()),
                KeyValue::new("gen_ai.usage.input_tokens", i64::from(usage.prompt_tokens)),
                KeyValue::new("gen_ai.usage.cache_read.input_tokens", i64::from(usage.cached_tokens)),
                KeyValue::new("gen_ai.usage.output_tokens", i64::from(usage.completion_tokens)),
                KeyValue::new("gen_ai.usage.reasoning.output_tokens", i64::from(usage.reasoning_tokens)),
                KeyValue::new("kontor.outcome", outcome),
                KeyValue::new("kontor.attempts", i64::from(attempts)),
            ];
            if !finish.is_empty() {
                told.push(texts("gen_ai.response.finish_reasons", [finish]));
            }
            if let Some(first) = first {
                told.push(KeyValue::new("gen_ai.response.time_to_first_chunk", first.as_secs_f64()));
            }
            if let Some((currency, amount)) = cost {
                told.push(KeyValue::new("kontor.cost", format!("{amount} {currency}")));
            }
            told
        });
        if let Some(error) = error {
            self.span.fail(match error {
                // It reached a model, so this is the filter of whoever runs that, and none of our rules.
                Error::Invalid { code: CONTENT_FILTER, .. } => CONTENT_FILTER,
                other => reason(other),
            });
        }
    }
}

/// The conventions' word for what is done.
fn operation(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Chat | Purpose::TemporaryChat | Purpose::Title | Purpose::Api => "chat",
        Purpose::Embedding => "embeddings",
        Purpose::Rerank => "rerank",
    }
}

/// All that [`reason`] says.
const REASONS: [&str; 13] = [
    "unauthenticated",
    "forbidden",
    "model_not_found",
    "invalid",
    "conflict",
    "budget",
    "requests_per_minute",
    "tokens_per_minute",
    "at_a_time",
    "attempts",
    "guardrail",
    "unavailable",
    "internal",
];

/// Why something did not happen, in few words that do not change.
pub(crate) fn reason(error: &Error) -> &'static str {
    match error {
        Error::Unauthenticated { .. } => "unauthenticated",
        Error::Forbidden { .. } => "forbidden",
        Error::NotFound { .. } => "model_not_found",
        // What rules cannot look at.
        Error::Invalid { code: CONTENT_FILTER, .. } => "guardrail",
        Error::Invalid { .. } => "invalid",
        Error::Conflict { .. } => "conflict",
        Error::QuotaExceeded { quota, .. } => match quota {
            Quota::Budget => "budget",
            Quota::Requests(_) => "requests_per_minute",
            Quota::Tokens(_) => "tokens_per_minute",
            Quota::Places(_) => "at_a_time",
            Quota::Attempts => "attempts",
        },
        Error::GuardrailBlocked { .. } => "guardrail",
        Error::Unavailable { .. } => "unavailable",
        Error::Internal(_) => "internal",
    }
}
