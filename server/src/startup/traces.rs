//! Makes the tracer, and says what worker processes of our own need for theirs.

use crate::{
    AnyError,
    config::{Traces, foreign_variable, traces},
};
use std::{ffi::OsString, time::Duration};
use telemetry::{Settings, Tracer};

/// For the last spans at the end of the process.
pub const FLUSH: Duration = Duration::from_secs(2);

/// What OpenTelemetry's SDK reads in a worker as well. Headers may hold the collector's key: the environment of a process
/// can be read by its owner alone, unlike its arguments.
const PASSED_ON: [&str; 8] = [
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    "OTEL_RESOURCE_ATTRIBUTES",
];

/// The tracer of `kontor serve`; off if nothing says where spans go.
///
/// # Errors
/// The exporter cannot be made.
pub fn of_server(config: &Traces) -> Result<Tracer, AnyError> {
    let Some(target) = config.target() else { return Ok(Tracer::default()) };
    tracing::info!(collector = target, "traces are exported");
    let settings = Settings {
        target: target.into(),
        service: service("kontor"),
        ratio: config.ratio(),
        accept: config.accept,
        upstreams: config.upstreams,
    };
    Ok(Tracer::export(&settings)?)
}

/// The tracer of `kontor worker`. What is recorded was decided where the request came in.
///
/// # Errors
/// The address makes no sense, or the exporter cannot be made.
pub fn of_worker(given: Option<String>) -> Result<Tracer, AnyError> {
    let variable = |name: &str| foreign_variable(name).and_then(|value| value.into_string().ok()).filter(|value| !value.is_empty());
    let Some(target) = given.or_else(|| traces::target(None, variable)) else { return Ok(Tracer::default()) };
    if let Some(problem) = traces::problem(&target) {
        return Err(format!("--traces: {problem}").into());
    }
    // Not accepted: the environment's sampler is no judge of what the server has decided, which `Tracer::join` goes by.
    Ok(Tracer::export(&Settings { target, service: service("kontor-worker"), ratio: None, accept: false, upstreams: false })?)
}

/// Variables for worker processes of our own.
pub fn environment() -> impl Iterator<Item = (OsString, OsString)> {
    PASSED_ON.into_iter().filter_map(|name| Some((OsString::from(name), foreign_variable(name)?)))
}

/// What it is called, unless the environment says so.
fn service(name: &'static str) -> Option<&'static str> {
    foreign_variable("OTEL_SERVICE_NAME").is_none().then_some(name)
}
