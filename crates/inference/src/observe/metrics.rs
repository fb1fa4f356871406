//! Counters of the funnel, for Prometheus. No label names a person, a key or a tenant: their figures are in the ledger.

use super::REASONS;
use crate::meter::WARNINGS;
use contract::usage::Purpose;
use domain::{Amount, Currency};
use guardrails::Decision;
use prometheus_client::{
    encoding::text::encode_registry,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock, atomic::AtomicU64},
    time::Duration,
};
use store::ledger_counts::Drift;
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
/// Of fractions.
type Amounts = Counter<f64, AtomicU64>;

/// A use that ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use<'a> {
    /// The model that answered; empty if it is not known.
    pub(super) model: &'a str,
    pub(super) purpose: Purpose,
    pub(super) outcome: &'static str,
    /// From the request to the end.
    pub(super) took: Duration,
    /// From the request to the first output, if there was any.
    pub(super) first: Option<Duration>,
    pub(super) usage: Usage,
    /// `None` without a price.
    pub(super) cost: Option<(Currency, Amount)>,
}

/// What tells the series of one model's uses apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct UseKind {
    purpose: Purpose,
    outcome: &'static str,
    /// There was output.
    output: bool,
    currency: Option<Currency>,
}

/// The series that a use counts in.
#[derive(Debug)]
struct Uses {
    requests: Counter,
    durations: Histogram,
    first: Option<Histogram>,
    /// Input, cached input, output.
    tokens: [Counter; 3],
    cost: Option<Amounts>,
}

impl Uses {
    fn count(&self, ended: &Use<'_>) {
        self.requests.inc();
        self.durations.observe(ended.took.as_secs_f64());
        if let (Some(series), Some(first)) = (&self.first, ended.first) {
            series.observe(first.as_secs_f64());
        }
        let Usage { prompt_tokens, cached_tokens, completion_tokens, .. } = ended.usage;
        for (series, tokens) in self.tokens.iter().zip([prompt_tokens, cached_tokens, completion_tokens]) {
            series.inc_by(tokens.into());
        }
        if let (Some(series), Some((_, amount))) = (&self.cost, ended.cost) {
            series.inc_by(units(amount));
        }
    }
}

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
    cost: Family<Labels<2>, Amounts>,
    /// By model: what is in the five above, found without making labels for each use.
    uses: RwLock<HashMap<String, HashMap<UseKind, Uses>>>,
    refusals: Counters<1>,
    warnings: Counters<1>,
    decisions: Counters<4>,
    classifier_failures: Counter,
    rules: Mutex<BTreeSet<String>>,
    writes: Histogram,
    failed_writes: Counter,
    backlog: Gauge,
    rows_drift: Family<Labels<1>, Gauge>,
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
        let cost = Family::<Labels<2>, Amounts>::default();
        registry.register("model_cost", "What uses cost, in units of the currency; the ledger has it exactly", cost.clone());
        let refusals = Counters::<1>::default();
        registry.register("refusals", "Requests that did not reach a model, by reason", refusals.clone());
        // Prometheus sees no increase in a series that begins with its first refusal.
        for reason in REASONS {
            refusals.get_or_create(&[("reason", reason.to_owned())]).inc_by(0);
        }
        let warnings = Counters::<1>::default();
        let help = "Times that a budget came to so many hundredths spent; once for each in a period";
        registry.register("budget_warnings", help, warnings.clone());
        for percent in WARNINGS {
            warnings.get_or_create(&[("percent", percent.to_string())]).inc_by(0);
        }
        let decisions = Counters::<4>::default();
        registry.register("guardrail_decisions", "Decisions of guardrails, by rule, kind, action and stage", decisions.clone());
        let classifier_failures = Counter::default();
        let help = "Requests that the classifier of injections should have judged and did not";
        registry.register("guardrail_classifier_failures", help, classifier_failures.clone());
        let writes = Histogram::new(WRITE_SECONDS);
        registry.register_with_unit("ledger_write_duration", "Statements that write the ledger", Unit::Seconds, writes.clone());
        let failed_writes = Counter::default();
        registry.register("ledger_write_failures", "Statements that should have written the ledger and failed", failed_writes.clone());
        let backlog = Gauge::default();
        registry.register("ledger_backlog", "Entries that wait to be written into the ledger", backlog.clone());
        let rows_drift = Family::<Labels<1>, Gauge>::default();
        let help = "By how many uses and tokens the ledger's rows of the last days differ from what processes settled";
        registry.register("ledger_rows_drift", help, rows_drift.clone());
        let (uses, rules) = (RwLock::default(), Mutex::default());
        let inner = Inner {
            registry,
            requests,
            durations,
            first,
            tokens,
            cost,
            uses,
            refusals,
            warnings,
            decisions,
            classifier_failures,
            rules,
            writes,
            failed_writes,
            backlog,
            rows_drift,
        };
        let metrics = Self { inner: Arc::new(inner) };
        metrics.ledger_differs(Drift::default());
        metrics
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
    pub(super) fn ended(&self, ended: &Use<'_>) {
        let Use { model, purpose, outcome, first, cost, .. } = *ended;
        let kind = UseKind { purpose, outcome, output: first.is_some(), currency: cost.map(|(currency, _)| currency) };
        let known = &self.inner.uses;
        if let Some(uses) = known.read().unwrap_or_else(PoisonError::into_inner).get(model).and_then(|kinds| kinds.get(&kind)) {
            return uses.count(ended);
        }
        let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
        let kinds = known.entry(model.to_owned()).or_default();
        kinds.entry(kind).or_insert_with(|| self.inner.uses_of(model, kind)).count(ended);
    }

    /// A request did not reach a model.
    pub(super) fn refused(&self, reason: &str) {
        debug_assert!(REASONS.contains(&reason), "{reason} is told from the beginning only if it is in the list");
        self.inner.refusals.get_or_create(&[("reason", reason.to_owned())]).inc();
    }

    /// So many hundredths of a budget are spent, and nobody was told before.
    pub(crate) fn warned(&self, percent: u8) {
        self.inner.warnings.get_or_create(&[("percent", percent.to_string())]).inc();
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

    /// The classifier of injections did not judge a request.
    pub(crate) fn classifier_failed(&self) {
        self.inner.classifier_failures.inc();
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

    /// So many entries wait for the ledger, but for those that are being written.
    pub(crate) fn wait_for_ledger(&self, entries: usize) {
        self.inner.backlog.set(i64::try_from(entries).unwrap_or(i64::MAX));
    }

    /// The ledger's rows of the last days differ by so much from what was settled.
    pub(crate) fn ledger_differs(&self, drift: Drift) {
        for (figure, by) in [("uses", drift.uses), ("tokens", drift.tokens)] {
            self.inner.rows_drift.get_or_create(&[("figure", figure.to_owned())]).set(by);
        }
    }
}

impl Inner {
    fn uses_of(&self, model: &str, UseKind { purpose, outcome, output, currency }: UseKind) -> Uses {
        let model = ("model", model.to_owned());
        let both = [model.clone(), ("purpose", purpose.name().to_owned())];
        let [of_model, purpose] = both.clone();
        let tokens = |kind: &str| self.tokens.get_or_create_owned(&[model.clone(), ("type", kind.to_owned())]);
        let cost = |currency: Currency| self.cost.get_or_create_owned(&[model.clone(), ("currency", currency.code().to_owned())]);
        Uses {
            requests: self.requests.get_or_create_owned(&[of_model, purpose, ("outcome", outcome.to_owned())]),
            durations: self.durations.get_or_create_owned(&both),
            first: output.then(|| self.first.get_or_create_owned(&both)),
            tokens: ["input", "cached_input", "output"].map(tokens),
            cost: currency.map(cost),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for graphs")]
fn units(amount: Amount) -> f64 {
    amount.pico() as f64 / 1e12
}

#[cfg(test)]
mod tests {
    use super::{MOST_RULES, Metrics, REASONS, Use};
    use contract::usage::Purpose;
    use domain::{Amount, Currency};
    use guardrails::{Action, Decision, Kind, Stage};
    use rust_decimal::Decimal;
    use std::time::Duration;
    use worker_protocol::Usage;

    #[test]
    fn each_use_counts_in_the_series_of_its_labels() {
        let metrics = Metrics::default();
        let usage = Usage { prompt_tokens: 10, cached_tokens: 4, completion_tokens: 3, reasoning_tokens: 0 };
        let second = Duration::from_secs(1);
        let two = Amount::new("cost", Decimal::from(2)).expect("an amount");
        let cost = |code: &str| Some((code.parse::<Currency>().expect("a currency"), two));
        let done = Use { model: "a", purpose: Purpose::Api, outcome: "ok", took: second, first: Some(second), usage, cost: cost("EUR") };
        for ended in [
            done,
            done,
            Use { cost: cost("USD"), ..done },
            Use { outcome: "failed", first: None, cost: None, ..done },
            Use { purpose: Purpose::Embedding, first: None, cost: None, ..done },
            Use { model: "b", ..done },
        ] {
            metrics.ended(&ended);
        }
        let mut text = String::new();
        metrics.encode(&mut text).expect("text");
        for line in [
            r#"kontor_model_requests_total{model="a",purpose="api",outcome="ok"} 3"#,
            r#"kontor_model_requests_total{model="a",purpose="api",outcome="failed"} 1"#,
            r#"kontor_model_requests_total{model="a",purpose="embedding",outcome="ok"} 1"#,
            r#"kontor_model_requests_total{model="b",purpose="api",outcome="ok"} 1"#,
            r#"kontor_model_request_duration_seconds_count{model="a",purpose="api"} 4"#,
            r#"kontor_model_time_to_first_token_seconds_count{model="a",purpose="api"} 3"#,
            r#"kontor_model_tokens_total{model="a",type="input"} 50"#,
            r#"kontor_model_tokens_total{model="a",type="cached_input"} 20"#,
            r#"kontor_model_tokens_total{model="a",type="output"} 15"#,
            r#"kontor_model_cost_total{model="a",currency="EUR"} 4.0"#,
            r#"kontor_model_cost_total{model="a",currency="USD"} 2.0"#,
        ] {
            assert!(text.lines().any(|told| told == line), "{line} is missing in\n{text}");
        }
        let first = r#"kontor_model_time_to_first_token_seconds_count{model="a",purpose="embedding"}"#;
        assert!(!text.contains(first), "what has no output has no time to it");
    }

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
