//! The inference worker: one process that runs models with llama.cpp and speaks `worker-protocol`.
//!
//! ```text
//! server/      HTTP: /status, /generate, /embed   model.rs     load, tokenise
//! engine/      the thread and its steps           template/    the model's chat template
//!   lanes.rs       loop; thread.rs one context    sampling.rs  scores → token
//!   admission.rs   who runs; queue/ fairness      constraint.rs  schemas, expressions, grammars
//!   step.rs        one step; batch/ its division  text.rs      token bytes → whole characters, stop texts
//!                                                tools/       calls and thoughts in what a model writes
//!                                                choices.rs   several completions of one prompt
//!   cells/         prefix cache and room          shared.rs    what HTTP and engine both look at
//!   drafts.rs      tokens guessed ahead
//!   kept/          the prefix cache over a restart; inbox.rs when it is saved
//!   embed.rs       the loop of embedding models and rerankers
//! join.rs      belonging to a pool on another machine
//! pulse.rs     whether an engine comes to the end of its steps
//! cards.rs     graphics cards; power.rs what the machine draws; spin.rs how long threads look for each other
//! residence/   which models are in memory: loaded when asked for, one engine each
//! bound.rs     how many may wait, and who makes room for others
//! ```
//!
//! llama.cpp ends the process on a failed assertion, so nothing else runs in a worker; whoever starts one
//! also restarts it. Its own log goes to `tracing` under the target [`LLAMA_LOG`].

#[cfg(target_family = "wasm")]
compile_error!("`worker` is server-only");

mod bound;
mod cards;
mod choices;
mod constraint;
mod engine;
mod error;
mod join;
mod model;
mod options;
mod power;
mod pulse;
mod residence;
mod sampling;
mod server;
mod shared;
mod spin;
mod template;
mod text;
mod tools;

use std::future::IntoFuture;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;

use axum::serve::ListenerExt;
use futures::future::Either;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use worker_protocol::tls::{POOL, TlsListener};
use worker_protocol::{Hello, PROTOCOL, SHORT_SPIN, SPIN};

pub use error::Error;
pub use join::Join;
pub use options::{CacheType, FlashAttention, FurtherModel, MAX_WAITING, MIN_TOKEN_CHARS, ModelOptions, Options};
use residence::{Residents, Steward};

/// `tracing` target of llama.cpp's own messages. They are many; a log filter should show only warnings of it.
pub const LLAMA_LOG: &str = "llama-cpp-2";

/// The variable that a worker of this program is to start with: [`SPIN`], or [`SHORT_SPIN`] where it cannot choose less.
#[must_use]
pub fn spin() -> (&'static str, &'static str) {
    if spin::Spin::here().is_some() { SPIN } else { SHORT_SPIN }
}

/// Runs a worker until `shutdown` is cancelled, then lets running answers end (at most
/// [`Options::drain_limit`]). Prints [`Hello`] as the first line on standard output once it listens; the
/// model loads after that, see [`worker_protocol::State`].
///
/// # Errors
/// See [`Error`]; the process should end then.
pub async fn run(options: Options, shutdown: CancellationToken) -> Result<(), Error> {
    run_with(options, shutdown, |hello| {
        let mut line = serde_json::to_vec(hello)?;
        line.push(b'\n');
        let mut out = std::io::stdout().lock();
        out.write_all(&line)?;
        out.flush()
    })
    .await
}

/// [`run`] with another way of telling the address.
///
/// # Errors
/// As [`run`].
pub async fn run_with(
    options: Options,
    shutdown: CancellationToken,
    announce: impl FnOnce(&Hello) -> std::io::Result<()>,
) -> Result<(), Error> {
    options.validate()?;
    let fail = |source| Error::Listen { addr: options.addr, source };
    let listener = TcpListener::bind(options.addr).await.map_err(fail)?;
    let local = listener.local_addr().map_err(fail)?;
    let hello = Hello { protocol: PROTOCOL, addr: local.to_string() };
    announce(&hello).map_err(Error::Announce)?;
    tracing::info!(addr = hello.addr, ?options, "worker listens");

    let residents = Residents::new(&options);
    let router = server::router(&options, residents.clone());
    let stop = CancellationToken::new();
    let steward = Steward::new(&options, residents.clone()).run(stop.clone());
    let drained = CancellationToken::new();
    let keeping = keep(&options, local, shutdown.clone(), drained.clone());
    tokio::pin!(steward, keeping);
    tokio::select! {
        ended = &mut steward => return ended,
        () = &mut keeping => {}
        served = serve(listener, router, &options, &residents, shutdown) => served?,
    }
    drained.cancel();
    keeping.await;
    stop.cancel();
    steward.await
}

/// Stays in the pool of another machine, if it belongs to one, until all is drained.
async fn keep(options: &Options, local: SocketAddr, shutdown: CancellationToken, drained: CancellationToken) {
    let models = options.models.iter().map(|model| model.id.clone()).collect();
    match options.join.clone() {
        Some(join) => join.keep(local, options.token.clone(), models, shutdown, drained).await,
        None => drained.cancelled().await,
    }
}

/// Serves until shutdown and drained.
async fn serve(
    listener: TcpListener,
    router: axum::Router,
    options: &Options,
    residents: &Residents,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let drain = {
        let (house, shutdown) = (residents.house.clone(), shutdown.clone());
        async move {
            shutdown.cancelled().await;
            house.draining.store(true, Relaxed);
            house.changed.notify_one();
        }
    };
    let server = match &options.join {
        Some(join) => {
            let listener = TlsListener::new(listener, &join.identity, Some(POOL))?;
            Either::Left(axum::serve(listener, router).with_graceful_shutdown(drain).into_future())
        }
        None => {
            // Tokens are small and must not wait for company.
            let listener = listener.tap_io(|stream| {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY");
                }
            });
            Either::Right(axum::serve(listener, router).with_graceful_shutdown(drain).into_future())
        }
    };
    let too_long = async {
        shutdown.cancelled().await;
        tokio::time::sleep(options.drain_limit).await;
    };
    tokio::select! {
        served = server => served.map_err(Error::Serve),
        () = too_long => {
            tracing::warn!(limit = ?options.drain_limit, busy = residents.status().busy, "answers did not end in time and are cut off");
            Ok(())
        }
    }
}
