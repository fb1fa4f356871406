//! The inference worker: one process that runs one model with llama.cpp and speaks `worker-protocol`.
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
//!   kept.rs        the prefix cache over a restart
//!   embed.rs       the loop of embedding models and rerankers
//! ```
//!
//! llama.cpp ends the process on a failed assertion, so nothing else runs in a worker; whoever starts one
//! also restarts it. Its own log goes to `tracing` under the target [`LLAMA_LOG`].

#[cfg(target_family = "wasm")]
compile_error!("`worker` is server-only");

mod choices;
mod constraint;
mod engine;
mod error;
mod model;
mod options;
mod sampling;
mod server;
mod shared;
mod template;
mod text;
mod tools;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use worker_protocol::{Hello, PROTOCOL};

use engine::{Ended, Engine};
pub use error::Error;
pub use options::{CacheType, FlashAttention, MIN_TOKEN_CHARS, Options};
use shared::Shared;

/// `tracing` target of llama.cpp's own messages. They are many; a log filter should show only warnings of it.
pub const LLAMA_LOG: &str = "llama-cpp-2";

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
    let hello = Hello { protocol: PROTOCOL, addr: listener.local_addr().map_err(fail)?.to_string() };
    announce(&hello).map_err(Error::Announce)?;
    tracing::info!(addr = hello.addr, ?options, "worker listens");

    let shared = Arc::new(Shared::default());
    let (engine, mut ended) = Engine::start(options.clone(), shared.clone())?;
    let router = server::router(&options, shared.clone(), engine.clone());
    let outcome = serve(listener, router, &options, &shared, shutdown, &mut ended).await;
    if outcome.is_ok() {
        engine.halt(&shared);
        drop(engine);
        return ended.wait().await;
    }
    outcome
}

/// Serves until shutdown and drained, or until the engine ends, which it should not.
async fn serve(
    listener: TcpListener,
    router: axum::Router,
    options: &Options,
    shared: &Arc<Shared>,
    shutdown: CancellationToken,
    ended: &mut Ended,
) -> Result<(), Error> {
    // Tokens are small and must not wait for company.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
    });
    let drain = {
        let (shared, shutdown) = (shared.clone(), shutdown.clone());
        async move {
            shutdown.cancelled().await;
            shared.draining.store(true, Relaxed);
        }
    };
    let server = axum::serve(listener, router).with_graceful_shutdown(drain);
    let too_long = async {
        shutdown.cancelled().await;
        tokio::time::sleep(options.drain_limit).await;
    };
    tokio::select! {
        served = server => served.map_err(Error::Serve),
        result = ended.wait() => Err(result.err().unwrap_or(Error::EnginePanicked)),
        () = too_long => {
            tracing::warn!(limit = ?options.drain_limit, busy = shared.status().busy, "answers did not end in time and are cut off");
            Ok(())
        }
    }
}
