//! Sets up logging: to standard error, as text or JSON (docs/LOGGING.md).

use crate::config::{Log, LogFormat};
use std::io::IsTerminal;
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

/// Libraries that say at *info* what only their developers want to know. Naming one in `log.level` wins over this.
const QUIET: &str = "llama-cpp-2=warn,sqlx=warn,sea_orm_migration=warn,hyper=warn,h2=warn";

fn filter(level: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(format!("{QUIET},{level}")).map_err(|error| error.to_string())
}

/// Installs the process-wide subscriber.
///
/// # Errors
/// The filter does not parse, or a subscriber is installed already.
pub fn install(config: &Log) -> Result<(), crate::AnyError> {
    let filter = filter(&config.level).map_err(|error| format!("`log.level`: {error}"))?;
    let colours = std::io::stderr().is_terminal();
    let registry = tracing_subscriber::registry().with(filter);
    match config.format {
        LogFormat::Text => {
            registry.with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours).with_target(false)).try_init()?
        }
        LogFormat::Json => {
            registry.with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr).json().flatten_event(true)).try_init()?
        }
    }
    Ok(())
}

/// Installs the subscriber of a worker process: bare lines, because the parent adds time and name to them.
///
/// # Errors
/// As [`install`].
pub fn install_for_worker(level: &str) -> Result<(), crate::AnyError> {
    let filter = filter(level).map_err(|error| format!("--log: {error}"))?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).without_time().with_ansi(false).with_target(false);
    Ok(tracing_subscriber::registry().with(filter).with(lines).try_init()?)
}
