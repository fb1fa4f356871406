//! What all HTTP clients of the pool have in common.

use super::backend::BackendError;
use contract::chain;
use reqwest::{Client, ClientBuilder, redirect::Policy};
use std::time::Duration;

/// A client that goes nowhere but where it is sent.
pub(super) fn builder(connect: Duration) -> ClientBuilder {
    // Whoever installed one before has made the same choice: there is no other in this workspace.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .connect_timeout(connect)
        .tcp_nodelay(true)
        // Credentials and prompts are for this server alone.
        .redirect(Policy::none())
        // A proxy from the environment must never see them.
        .no_proxy()
}

pub(super) fn lost(error: reqwest::Error) -> BackendError {
    // The address may hold a secret; nothing of it belongs into a log.
    BackendError::Lost(chain(&error.without_url()))
}
