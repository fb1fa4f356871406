//! Counters of the funnel, for Prometheus. No label names a person, a key or a tenant: their figures are in the ledger.

use super::REASONS;
use contract::usage::Purpose;
use domain::{Amount, Currency};
use guardrails::Decision;
use prometheus_client::{
    encoding::text::encode_registry,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};
use worker_protocol::Usage;

/// Bounds of durations in seconds, as OpenTelemetry's conventions for generative AI have them.
const SECONDS: [f64; 14] = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
/// Likewise of the time to the first token.
const FIRST_SECONDS: [f64; 16] = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// Of one statement that writes the ledger.
const WRITE_SECONDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];

/// Rules of guardrails that are told apart. Tenants name them, so there may be any number; further ones are `other`.
const MOST_RULES: usize = 100;
const OTHER: &str = "other";

type Labels<const N: usize> = [(&'static str, String); N];
type Counters<const N: usize> = Family<Labels<N>, Counter>;

/// See the module. Clones share everything.
#[derive(Clone, Debug)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    registry: Registry,
    requests: Counters<3>,
    durations: Family<Labels<2>, Histogram>,
    first: Family<Labels<2>, Histogram>,
    tokens: Counters<2>,
    cost: Family<Labels<2>, Counter<f64, AtomicU64>>,
    refusals: Counters<1>,
    decisions: Counters<4>,
    rules: Mutex<BTreeSet<String>>,
    writes: Histogram,
    failed_writes: Counter,
    backlog: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("kontor");
        let requests = Counters::<3>::default();
        registry.register("model_requests", "Uses of models that ended, by what they were for and how they ended", requests.clone());
        let durations = Family::<Labels<2>, Histogram>::new_with_constructor(|| Histogram::new(SECONDS));
        registry.register_with_unit("model_request_duration", "From a request to the end of its answer", Unit::Seconds, durations.clone());
        let first = Family::<Labels<2>, Histogram>::new_with_constructor(|| Histogram::new(FIRST_SECONDS));
        registry.register_with_unit("model_time_to_first_token", "From a request to its first output", Unit::Seconds, first.clone());
        let tokens = Counters::<2>::default();
        let help = "Tokens of prompts (input), of these from a cache (cached_input), of answers (output)";
        registry.register("model_tokens", help, tokens.clone());
        let cost = Family::<Labels<2>, Counter<f64, AtomicU64>>::default();
        registry.register("model_cost", "What uses cost, in units of the currency; the ledger has it exactly", cost.clone());
        let refusals = Counters::<1>::default();
        registry.register("refusals", "Requests that did not reach a model, by reason", refusals.clone());
        // Prometheus sees no increase in a series that begins with its first refusal.
        for reason in REASONS {
            refusals.get_or_create(&[("reason", reason.to_owned())]).inc_by(0);
        }
        let decisions = Counters::<4>::default();
        registry.register("guardrail_decisions", "Decisions of guardrails, by rule, kind, action and stage", decisions.clone());
        let writes = Histogram::new(WRITE_SECONDS);
        registry.register_with_unit("ledger_write_duration", "Statements that write the ledger", Unit::Seconds, writes.clone());
        let failed_writes = Counter::default();
        registry.register("ledger_write_failures", "Statements that should have written the ledger and failed", failed_writes.clone());
        let backlog = Gauge::default();
        registry.register("ledger_backlog", "Entries that wait to be written into the ledger", backlog.clone());
        let rules = Mutex::default();
        let inner =
            Inner { registry, requests, durations, first, tokens, cost, refusals, decisions, rules, writes, failed_writes, backlog };
        Self { inner: Arc::new(inner) }
    }
}

impl Metrics {
    /// Adds all of it to the text for Prometheus, without the line that ends it.
    ///
    /// # Errors
    /// The text could not be written.
    pub fn encode(&self, into: &mut String) -> fmt::Result {
        encode_registry(into, &self.inner.registry)
    }

    /// A use has ended.
    pub(super) fn ended(&self, model: &str, purpose: Purpose, outcome: &str, took: Duration, first: Option<Duration>) {
        let model = ("model", model.to_owned());
        let purpose = ("purpose", purpose.name().to_owned());
        self.inner.requests.get_or_create(&[model.clone(), purpose.clone(), ("outcome", outcome.to_owned())]).inc();
        let labels = [model, purpose];
        self.inner.durations.get_or_create(&labels).observe(took.as_secs_f64());
        if let Some(first) = first {
            self.inner.first.get_or_create(&labels).observe(first.as_secs_f64());
        }
    }

    /// What it used; `cost` is `None` without a price.
    pub(super) fn used(&self, model: &str, usage: Usage, cost: Option<(Currency, Amount)>) {
        let count = |kind: &str, tokens: u32| {
            self.inner.tokens.get_or_create(&[("model", model.to_owned()), ("type", kind.to_owned())]).inc_by(tokens.into());
        };
        count("input", usage.prompt_tokens);
        count("cached_input", usage.cached_tokens);
        count("output", usage.completion_tokens);
        if let Some((currency, amount)) = cost {
            let labels = [("model", model.to_owned()), ("currency", currency.code().to_owned())];
            self.inner.cost.get_or_create(&labels).inc_by(units(amount));
        }
    }

    /// A request did not reach a model.
    pub(super) fn refused(&self, reason: &str) {
        debug_assert!(REASONS.contains(&reason), "{reason} is told from the beginning only if it is in the list");
        self.inner.refusals.get_or_create(&[("reason", reason.to_owned())]).inc();
    }

    /// A guardrail decided.
    pub(crate) fn decided(&self, decision: &Decision) {
        let labels = [
            ("rule", self.rule(&decision.rule)),
            ("kind", decision.kind.name().to_owned()),
            ("action", decision.action.name().to_owned()),
            ("stage", decision.stage.name().to_owned()),
        ];
        self.inner.decisions.get_or_create(&labels).inc();
    }

    fn rule(&self, name: &str) -> String {
        let mut rules = self.inner.rules.lock().unwrap_or_else(PoisonError::into_inner);
        if !rules.contains(name) {
            if rules.len() >= MOST_RULES {
                return OTHER.into();
            }
            rules.insert(name.to_owned());
        }
        name.to_owned()
    }

    /// A statement wrote the ledger, or failed to.
    pub(crate) fn wrote(&self, took: Duration, well: bool) {
        self.inner.writes.observe(took.as_secs_f64());
        if !well {
            self.inner.failed_writes.inc();
        }
    }

    /// So many entries wait for the ledger.
    pub(crate) fn wait_for_ledger(&self, entries: usize) {
        self.inner.backlog.set(i64::try_from(entries).unwrap_or(i64::MAX));
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for graphs")]
fn units(amount: Amount) -> f64 {
    amount.pico() as f64 / 1e12
}

#[cfg(test)]
mod tests {
    use super::{MOST_RULES, Metrics, REASONS};
    use guardrails::{Action, Decision, Kind, Stage};

    #[test]
    fn refusals_are_told_before_there_is_one() {
        let mut text = String::new();
        Metrics::default().encode(&mut text).expect("a text");
        for reason in REASONS {
            let line = format!("kontor_refusals_total{{reason=\"{reason}\"}} 0\n");
            assert!(
                text.contains(&line),
                "If you are here because this failed: the first {reason} is missed by graphs and alerts.\n{text}"
            );
        }
    }

    #[test]
    fn the_number_of_rules_that_are_told_apart_is_bounded() {
        let metrics = Metrics::default();
        for number in 0..2 * MOST_RULES {
            let rule = format!("rule-{number}");
            let decision = Decision { rule, kind: Kind::Words, entity: None, action: Action::Log, stage: Stage::Input, count: 1 };
            metrics.decided(&decision);
        }
        let mut text = String::new();
        metrics.encode(&mut text).expect("text");
        let series = text.lines().filter(|line| line.starts_with("kontor_guardrail_decisions_total{")).count();
        assert_eq!(series, MOST_RULES + 1, "If you are here because this failed: tenants can make any number of series.");
        assert!(text.contains("rule=\"other\""));
    }
}
