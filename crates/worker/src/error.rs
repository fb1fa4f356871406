//! Why a worker ends with an error.

use std::path::PathBuf;

/// Ends the worker process; the supervisor reads it in the log and decides whether to start another.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option makes no sense; starting again with the same options fails again.
    #[error("worker option {name}: {problem}")]
    Option { name: &'static str, problem: String },
    /// The file is missing, unreadable, not GGUF, incomplete or of an unknown architecture.
    #[error("cannot load the model {}: {problem}", path.display())]
    Model { path: PathBuf, problem: String },
    #[error("cannot listen on {addr}: {source}")]
    Listen { addr: std::net::SocketAddr, source: std::io::Error },
    #[error("cannot announce the address on standard output: {0}")]
    Announce(std::io::Error),
    #[error(transparent)]
    Tls(#[from] worker_protocol::tls::TlsError),
    #[error("the worker's HTTP server failed: {0}")]
    Serve(std::io::Error),
    /// llama.cpp failed in a way that leaves the context unusable.
    #[error("the engine failed: {0}")]
    Engine(String),
    /// The engine's thread ended without a word; its panic message is in the log.
    #[error("the engine's thread panicked")]
    EnginePanicked,
}
