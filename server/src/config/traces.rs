//! Traces: whether, where to and how many.

use super::{
    Sources,
    address::{self, Fault},
};
use serde::Deserialize;

/// What the OpenTelemetry protocol adds to the address of a collector.
const PATH: &str = "/v1/traces";

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traces {
    /// A collector that takes OTLP over HTTP; `None`: what `OTEL_EXPORTER_OTLP_ENDPOINT` says, or no traces.
    pub endpoint: Option<String>,
    /// Part of the traces that are recorded, 0 to 1.
    pub ratio: f64,
    /// Who sends a trace along decides whether it is recorded.
    pub accept: bool,
    /// Tell upstreams which trace a request belongs to.
    pub upstreams: bool,
    /// The whole address; found by [`Traces::complete`].
    #[serde(skip)]
    target: Option<String>,
    /// `OTEL_TRACES_SAMPLER` decides in place of `ratio`.
    #[serde(skip)]
    sampled_by_environment: bool,
}

impl Traces {
    /// Where spans are sent; `None`: nowhere, and none are made.
    #[must_use]
    pub fn target(&self) -> Option<&str> {
        self.target.as_deref()
    }

    /// `None`: the SDK takes it from the environment.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        (!self.sampled_by_environment).then_some(self.ratio)
    }

    /// Takes the usual variables into account and checks all of it.
    pub(super) fn complete(&mut self, sources: &Sources, wrong: &mut Vec<String>) {
        self.target = target(self.endpoint.as_deref(), |name| sources.var(name).map(str::to_owned));
        self.sampled_by_environment = sources.var("OTEL_TRACES_SAMPLER").is_some();
        if let Some(target) = &self.target {
            wrong.extend(problem(target).map(|problem| format!("`traces.endpoint` (or OTEL_EXPORTER_OTLP_ENDPOINT): {problem}")));
        }
        if !(0.0..=1.0).contains(&self.ratio) {
            wrong.push("`traces.ratio`: must lie between 0 and 1".into());
        }
    }
}

/// Where spans go, by a setting of ours and the variables that OpenTelemetry's specification names.
pub(crate) fn target(endpoint: Option<&str>, var: impl Fn(&str) -> Option<String>) -> Option<String> {
    let below = |base: &str| format!("{}{PATH}", base.trim_end_matches('/'));
    let off = var("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        || var("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
    if off {
        return None;
    }
    endpoint
        .filter(|endpoint| !endpoint.is_empty())
        .map(below)
        .or_else(|| var("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
        .or_else(|| var("OTEL_EXPORTER_OTLP_ENDPOINT").map(|base| below(&base)))
}

/// What keeps spans from being sent there. The address is shown in logs and among arguments, so it holds no secret.
pub(crate) fn problem(target: &str) -> Option<&'static str> {
    address::fault(target).map(|fault| match fault {
        Fault::Scheme => "must begin with http:// or https://",
        Fault::Host => "names no host",
        Fault::Credentials => "must hold no credentials: put them into OTEL_EXPORTER_OTLP_HEADERS",
        Fault::Extras => "must hold neither a query nor a fragment: put credentials into OTEL_EXPORTER_OTLP_HEADERS",
    })
}
