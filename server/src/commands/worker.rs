//! `kontor worker`: one inference worker process.

use crate::{AnyError, cli::WorkerArgs, log, startup};
use std::{
    io::{BufRead, Read},
    time::Duration,
};
use tokio_util::sync::CancellationToken;
use worker::Options;

/// How long running answers may take to end. The parent gives us five seconds, and has ended all turns by then.
const DRAIN: Duration = Duration::from_secs(2);

/// Reads the token from standard input, then serves until standard input closes (the parent is gone or wants
/// it) or a signal comes.
///
/// # Errors
/// There is no token, the model cannot be loaded, or the engine fails.
pub async fn run(args: WorkerArgs) -> Result<(), AnyError> {
    log::install_for_worker(&args.log)?;
    let shutdown = startup::signals::stop_on_signal()?;
    let token = tokio::task::spawn_blocking(read_token).await??;
    end_with_input(shutdown.clone())?;
    let mut options = Options::new(args.model, args.model_id, token);
    options.addr = args.addr;
    options.context_length = args.context_length;
    options.cells = args.cells;
    set(&mut options.slots, args.slots);
    set(&mut options.threads, args.threads);
    set(&mut options.cache_type, args.cache_type);
    set(&mut options.flash_attention, args.flash_attention);
    set(&mut options.batch, args.batch);
    set(&mut options.gpu_layers, args.gpu_layers);
    set(&mut options.queue_limit, args.queue_limit);
    options.state_dir = args.state_dir;
    options.speculate = !args.no_speculation;
    options.drain_limit = DRAIN;
    Ok(worker::run(options, shutdown).await?)
}

/// What was not given stays as it is.
fn set<T>(option: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *option = given;
    }
}

/// One line; arguments and environment of a process can be read by others, its standard input cannot.
fn read_token() -> std::io::Result<String> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

/// Watches standard input on a thread of its own: a blocking read there must not keep the runtime from
/// ending.
fn end_with_input(shutdown: CancellationToken) -> std::io::Result<()> {
    std::thread::Builder::new().name("stdin".into()).spawn(move || {
        let mut rest = [0; 64];
        // An error means the same as the end: nobody is there any more.
        while matches!(std::io::stdin().lock().read(&mut rest), Ok(read) if read > 0) {}
        shutdown.cancel();
        // Nobody can be answered any more, and loading a model cannot be interrupted in any other way. Saving the
        // prefix cache has had its time by then.
        std::thread::sleep(DRAIN + Duration::from_secs(2));
        std::process::exit(0);
    })?;
    Ok(())
}
