//! What all HTTP clients of the funnel have in common.

use super::backend::BackendError;
use contract::chain;
use reqwest::{Client, ClientBuilder, Response, redirect::Policy};
use std::time::Duration;
use tokio::time::timeout;

/// How long a connection is kept for the next request.
const IDLE: Duration = Duration::from_secs(30);

/// A client that goes nowhere but where it is sent.
pub(crate) fn builder(connect: Duration) -> ClientBuilder {
    // Whoever installed one before has made the same choice: there is no other in this workspace.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .connect_timeout(connect)
        .tcp_nodelay(true)
        // Each holds some 20 KiB here, and more at the other side. After a rush of requests most of them are of no use.
        .pool_idle_timeout(IDLE)
        // Credentials and prompts are for this server alone.
        .redirect(Policy::none())
        // A proxy from the environment must never see them.
        .no_proxy()
}

pub(super) fn lost(error: reqwest::Error) -> BackendError {
    // The address may hold a secret; nothing of it belongs into a log.
    BackendError::Lost(chain(&error.without_url()))
}

/// The first `most` bytes of an answer's body; the rest is not waited for.
///
/// # Errors
/// The connection breaks, or `patience` ends, before that.
pub(crate) async fn read_at_most(mut response: Response, most: usize, patience: Duration) -> Result<Vec<u8>, BackendError> {
    let reading = async {
        let mut body = Vec::new();
        while body.len() < most
            && let Some(chunk) = response.chunk().await.map_err(lost)?
        {
            body.extend_from_slice(chunk.get(..most - body.len()).unwrap_or(&chunk));
        }
        Ok::<_, BackendError>(body)
    };
    let late = |_| Err(BackendError::Failing(format!("no whole answer within {patience:?}")));
    timeout(patience, reading).await.unwrap_or_else(late)
}
