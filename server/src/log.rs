//! Sets up logging: to standard error, as text or JSON (docs/LOGGING.md).

use crate::config::{Log, LogFormat};
use std::{io::IsTerminal, iter::once};
use tracing_subscriber::{EnvFilter, Layer, Registry, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

/// Libraries that say at *info* what only their developers want to know. Naming one in `log.level` wins over this.
const QUIET: &str = "llama-cpp-2=warn,sqlx=warn,sea_orm_migration=warn,hyper=warn,h2=warn";

type Filter = Box<dyn Layer<Registry> + Send + Sync>;

/// What may be in a filter is [`EnvFilter`]'s business. One of targets and levels alone needs none: it would look each span up
/// in a table whenever that is entered or left.
fn filter(level: &str) -> Result<Filter, String> {
    let filter = EnvFilter::try_new(format!("{QUIET},{level}")).map_err(|error| error.to_string())?;
    Ok(match targets(level) {
        Some(targets) => targets.boxed(),
        None => filter.boxed(),
    })
}

/// The same as targets and levels; `None` where it has more, or where the two read it differently.
fn targets(level: &str) -> Option<Targets> {
    let directives: Vec<&str> = level.split(',').filter(|directive| !directive.is_empty()).collect();
    let word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-:".contains(&byte));
    let plain = |directive: &&str| directive.split_once('=').map_or_else(|| word(directive), |(target, level)| word(target) && word(level));
    if !directives.iter().all(plain) {
        return None;
    }
    let all: Vec<&str> = once(QUIET).chain(directives).collect();
    all.join(",").parse().ok()
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

#[cfg(test)]
mod tests {
    use super::{filter, targets};
    use std::sync::{Arc, Mutex};
    use tracing::{Event, Level, Subscriber, subscriber::with_default};
    use tracing_subscriber::{
        Layer,
        layer::{Context, SubscriberExt},
    };

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Lines {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let metadata = event.metadata();
            self.0.lock().expect("lines").push(format!("{} {}", metadata.target(), metadata.level()));
        }
    }

    /// What is logged at this level, within a span.
    fn logged(level: &str) -> Vec<String> {
        let lines = Lines::default();
        with_default(tracing_subscriber::registry().with(filter(level).expect("a filter")).with(lines.clone()), || {
            let _within = tracing::info_span!(target: "server::http", "request", id = 1).entered();
            tracing::event!(target: "server::http", Level::INFO, "told");
            tracing::event!(target: "server::http", Level::DEBUG, "told");
            tracing::event!(target: "inference::pool", Level::DEBUG, "told");
            tracing::event!(target: "inference::pool", Level::TRACE, "told");
            tracing::event!(target: "sqlx::query", Level::INFO, "told");
            tracing::event!(target: "sqlx::query", Level::WARN, "told");
        });
        let lines = lines.0.lock().expect("lines");
        lines.clone()
    }

    #[test]
    fn a_level_or_levels_of_targets_are_the_quick_filter() {
        for level in ["info", "WARN", "3", "info,inference=debug", "info,,inference=debug,", "llama-cpp-2=info,server::http=trace"] {
            assert!(targets(level).is_some(), "{level}");
        }
        for level in ["info,[request]=debug", "info,server[{id=1}]=debug", "info,inference=", "info, inference=debug", "a=b=c"] {
            assert!(targets(level).is_none(), "{level}");
        }
        assert!(filter("loud=very").is_err() && filter("a=b=c").is_err());
    }

    #[test]
    fn either_filter_logs_what_was_asked_for() {
        let usual = ["server::http INFO", "sqlx::query WARN"];
        assert_eq!(logged("info"), usual);
        assert_eq!(logged("info,"), usual);
        let debug = ["server::http INFO", "inference::pool DEBUG", "sqlx::query WARN"];
        assert_eq!(logged("info,inference=debug"), debug);
        let sqlx = ["server::http INFO", "sqlx::query INFO", "sqlx::query WARN"];
        assert_eq!(logged("info,sqlx=info"), sqlx, "naming a quiet library wins");
        let within = ["server::http INFO", "server::http DEBUG", "inference::pool DEBUG", "sqlx::query INFO", "sqlx::query WARN"];
        assert_eq!(logged("info,[request]=debug"), within, "what a span holds, whoever says it");
    }
}
