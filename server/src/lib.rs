//! The composition root: reads the configuration, builds the services, mounts the routes, runs the commands.

#![recursion_limit = "256"]

pub mod cli;
pub mod commands;
pub mod config;
pub mod http;
pub mod log;
pub mod startup;

use cli::{Cli, Command};
use std::{num::NonZero, process::ExitCode, thread::available_parallelism, time::Duration};
use tokio::runtime::Builder;

/// How long a thread for blocking work waits for more. With its end the allocator gives back what it had used, above
/// all the 19 MiB of a password's hash.
const IDLE_THREAD: Duration = Duration::from_secs(2);

/// Runs one command to its end. Failures are printed on standard error, one readable line or list.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    if matches!(cli.command, Some(Command::Worker(_)))
        && let Err(error) = commands::worker::with_spin()
    {
        return failed(&error);
    }
    let mut runtime = runtime(available_parallelism().map_or(1, NonZero::get));
    let runtime = match runtime.enable_all().thread_keep_alive(IDLE_THREAD).on_thread_start(run_soon).build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    match runtime.block_on(dispatch(cli)) {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

/// With one core there is nobody to share work with, so nothing is spent on being able to. (`TOKIO_WORKER_THREADS` is then
/// without meaning.)
fn runtime(cores: usize) -> Builder {
    if cores > 1 {
        return Builder::new_multi_thread();
    }
    run_soon();
    Builder::new_current_thread()
}

/// Threads of the runtime have little to do at a time and somebody who waits for it.
fn run_soon() {
    // Before the log is set up nobody hears it; the threads that are added later tell.
    if let Err(error) = startup::threads::run_soon() {
        tracing::debug!(%error, "the kernel does not let a thread run sooner than others");
    }
}

/// What a command may fail with: everything below has its own error type, and here they only get printed.
pub type AnyError = Box<dyn std::error::Error + Send + Sync>;

async fn dispatch(cli: Cli) -> Result<ExitCode, AnyError> {
    let command = cli.command.unwrap_or(Command::Serve { no_jobs: false });
    let command = match command {
        // A worker reads no configuration: its parent decided everything.
        Command::Worker(args) => return commands::worker::run(*args).await.map(|()| ExitCode::SUCCESS),
        Command::Certificates { out, workers } => return commands::certificates::run(&out, &workers).map(|()| ExitCode::SUCCESS),
        Command::Check { print_config: true } => {
            commands::print(config::DEFAULT_TOML);
            return Ok(ExitCode::SUCCESS);
        }
        other => other,
    };
    let config = config::Config::load(&config::Sources::of_process(cli.config))?;
    match command {
        Command::Serve { no_jobs } => commands::serve::run(config, !no_jobs).await?,
        Command::Jobs => commands::jobs::run(config).await?,
        Command::Migrate => commands::migrate::run(&config).await?,
        Command::Check { .. } => return commands::check::run(&config).await,
        Command::Admin { json, command } => commands::admin::run(&config, command, json).await?,
        Command::Worker(_) | Command::Certificates { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the failure with its causes.
fn failed(error: &AnyError) -> ExitCode {
    use std::io::Write;
    let mut text = format!("kontor: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!("\n  because: {cause}"));
        source = cause.source();
    }
    // Nobody is left to tell if even standard error is closed.
    drop(writeln!(std::io::stderr(), "{text}"));
    ExitCode::FAILURE
}
