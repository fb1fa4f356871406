//! `kontor worker`: one inference worker process.

use crate::{AnyError, cli::WorkerArgs, log, startup};
use domain::secret::Secret;
use std::{
    io::{BufRead, Read},
    time::Duration,
};
use tokio_util::sync::CancellationToken;
use worker::{FurtherModel, Join, ModelOptions, Options};
use worker_protocol::tls::Identity;

/// How long running answers may take to end. The parent gives us five seconds, and has ended all turns by then.
const DRAIN: Duration = Duration::from_secs(2);
/// For the last spans, out of what is left of that.
const FLUSH: Duration = Duration::from_secs(1);

/// Serves until standard input closes (the parent is gone or wants it) or a signal comes. One that belongs to a pool of
/// another machine serves until a signal comes.
///
/// # Errors
/// There is no token, a certificate is of no use, the model cannot be loaded, or the engine fails.
pub async fn run(args: WorkerArgs) -> Result<(), AnyError> {
    log::install_for_worker(&args.log)?;
    let shutdown = startup::signals::stop_on_signal()?;
    let mut options = match join(&args)? {
        Some(join) => {
            let mut options = Options::new(Secret::random::<32>().reveal(), models(&args)?);
            options.join = Some(join);
            options.drain_limit = Duration::from_secs(args.drain_seconds);
            options
        }
        None => {
            let token = tokio::task::spawn_blocking(read_token).await??;
            end_with_input(shutdown.clone())?;
            let mut options = Options::new(token, models(&args)?);
            options.drain_limit = DRAIN;
            options
        }
    };
    options.addr = args.addr;
    options.memory = args.memory_mib.map(|mib| mib << 20);
    set(&mut options.residence, args.residence_seconds.map(Duration::from_secs));
    let tracer = startup::traces::of_worker(args.traces)?;
    options.tracer = tracer.clone();
    let ended = worker::run(options, shutdown).await;
    tracer.shutdown(FLUSH).await;
    Ok(ended?)
}

/// The pool of another machine, if it belongs to one.
fn join(args: &WorkerArgs) -> Result<Option<Join>, AnyError> {
    let WorkerArgs { join, name, cert_file, key_file, ca_file, .. } = args;
    match (join, name, cert_file, key_file, ca_file) {
        (Some(pool), Some(name), Some(cert), Some(key), Some(ca)) => Ok(Some(Join {
            pool: pool.clone(),
            name: name.clone(),
            advertise: args.advertise.clone(),
            identity: Identity::read(cert, key, ca)?,
        })),
        _ => Ok(None),
    }
}

/// The first model and all further ones, which differ in what their JSON says.
fn models(args: &WorkerArgs) -> Result<Vec<ModelOptions>, AnyError> {
    let mut common = ModelOptions::new(&args.model, &args.model_id);
    common.cells = args.cells.filter(|cells| *cells > 0);
    common.cards.clone_from(&args.cards);
    set(&mut common.threads, args.threads);
    set(&mut common.cache_type, args.cache_type);
    set(&mut common.flash_attention, args.flash_attention);
    set(&mut common.batch, args.batch);
    set(&mut common.gpu_layers, args.gpu_layers);
    set(&mut common.queue_limit, args.queue_limit);
    set(&mut common.state_limit, args.cache_mib.map(|mib| mib.saturating_mul(1 << 20)));
    common.speculate = !args.no_speculation;
    let mut first =
        ModelOptions { pinned: args.pinned, context_length: args.context_length, state_dir: args.state_dir.clone(), ..common.clone() };
    set(&mut first.slots, args.slots);
    let mut models = vec![first];
    for more in &args.more {
        let further: FurtherModel = serde_json::from_str(more).map_err(|error| format!("--more {more}: {error}"))?;
        models.push(further.over(&common));
    }
    Ok(models)
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
