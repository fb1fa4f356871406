//! `kontor worker`: one inference worker process.

use crate::{AnyError, cli::WorkerArgs, config::foreign_variable, log, startup};
use domain::secret::Secret;
use std::{
    env,
    io::{BufRead, Read},
    os::unix::process::CommandExt,
    process::Command,
    time::Duration,
};
use tokio_util::sync::CancellationToken;
use worker::{FurtherModel, Join, ModelOptions, Options};
use worker_protocol::tls::Identity;

/// How long running answers may take to end. The parent gives us five seconds, and has ended all turns by then.
const DRAIN: Duration = Duration::from_secs(2);
/// For the last spans, out of what is left of that.
const FLUSH: Duration = Duration::from_secs(1);

/// Goes on as the same command with the variable that OpenMP reads when it is loaded ([`worker::spin`]), unless it is set.
/// `kontor serve` sets it for its own workers; those of other machines are started by hand or by their system.
///
/// # Errors
/// The program cannot be started once more.
pub fn with_spin() -> Result<(), AnyError> {
    let (name, spins) = worker::spin();
    if foreign_variable(name).is_some() {
        return Ok(());
    }
    let mut arguments = env::args_os();
    let mut again = Command::new(env::current_exe()?);
    if let Some(called) = arguments.next() {
        again.arg0(called);
    }
    let error = again.args(arguments).env(name, spins).exec();
    Err(format!("this program cannot be started once more with {name}={spins} ({error}): set that variable and start it again").into())
}

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
    options.lock_dir = args.lock_dir;
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

#[cfg(test)]
mod tests {
    use super::models;
    use crate::cli::{Cli, Command};
    use clap::Parser;
    use worker::{CacheType, FlashAttention, ModelOptions};

    fn told(more: &[&str]) -> Result<Vec<ModelOptions>, String> {
        let line = ["kontor", "worker", "--model", "chat.gguf", "--model-id", "chat"];
        let parsed = Cli::try_parse_from(line.iter().chain(more)).map_err(|error| error.to_string())?;
        match parsed.command {
            Some(Command::Worker(args)) => models(&args).map_err(|error| error.to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_are_for_all_models_unless_one_says_otherwise() {
        let embedder = r#"{"id": "e", "path": "e.gguf", "gpu_layers": 0, "cells": 0, "cache_type": "f16", "flash_attention": "off"}"#;
        let common = ["--gpu-layers", "99", "--cells", "4096", "--cache-type", "q8_0", "--flash-attention", "on", "--queue-limit", "7"];
        let own = ["--cache-mib", "2", "--slots", "2", "--context-length", "1024", "--state-dir", "kept", "--pinned"];
        let more = ["--more", r#"{"id": "other", "path": "o.gguf"}"#, "--more", embedder];
        let models = told(&[&common[..], &own[..], &more[..]].concat()).expect("valid");
        let kinds = |model: &ModelOptions| (model.gpu_layers, model.cells, model.cache_type, model.flash_attention);
        assert_eq!(kinds(&models[0]), (99, Some(4096), CacheType::Q8_0, FlashAttention::On));
        assert_eq!(kinds(&models[1]), kinds(&models[0]));
        assert_eq!(kinds(&models[2]), (0, None, CacheType::F16, FlashAttention::Off));
        assert!(models.iter().all(|model| model.queue_limit == 7 && model.state_limit == 2 << 20));
        let first = &models[0];
        assert_eq!((first.slots, first.context_length, first.pinned, first.state_dir.is_some()), (2, Some(1024), true, true));
        let other = &models[1];
        assert_eq!((other.slots, other.context_length, other.pinned, other.state_dir.is_some()), (4, None, false, false));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (option, value, named) in [
            ("--flash-attention", "maybe", "none of auto, on, off"),
            ("--cache-type", "q5", "none of f16, q8_0, q4_0"),
            ("--more", r#"{"id": "e", "path": "e.gguf", "cache_type": "q5"}"#, "unknown variant"),
        ] {
            let wrong = told(&[option, value]).expect_err(value);
            assert!(wrong.contains(named), "{wrong}");
        }
    }
}
