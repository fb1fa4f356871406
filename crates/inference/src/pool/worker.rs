//! A worker over `worker-protocol`: HTTP/2 with prior knowledge, JSON, a bearer token; mutual TLS with other machines.

use super::{
    backend::{Backend, BackendError, EventStream},
    http::{self, lost},
    lines::Lines,
};
use crate::{images::has_images, meter::Ticket, work::Work};
use async_trait::async_trait;
use bytes::Bytes;
use contract::chain;
use domain::secret::Secret;
use futures::{Stream, StreamExt, stream};
use reqwest::{Client, RequestBuilder, Response, redirect::Policy};
use serde::de::DeserializeOwned;
use std::{collections::VecDeque, net::SocketAddr, time::Duration};
use telemetry::Trace;
use tokio::task::coop::consume_budget;
use worker_protocol::{Cancel, Counted, Event, Generate, Status, tls::Identity};

/// For a connection to be made. Workers are near.
const CONNECT: Duration = Duration::from_secs(2);
/// Between two signs of life on a connection, and how long the answer to one may take: a machine that
/// vanished is noticed without any answer being timed.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// The client of one worker.
#[derive(Debug)]
pub struct WorkerBackend {
    client: Client,
    base: String,
    token: Secret,
}

impl WorkerBackend {
    /// `addr` is what the worker said in its `Hello`, e.g. `127.0.0.1:41234`.
    ///
    /// # Errors
    /// [`BackendError::Protocol`] if no HTTP client can be made.
    pub fn new(addr: &str, token: Secret) -> Result<Self, BackendError> {
        let client = http::builder(CONNECT)
            // Nothing is encrypted on the way to a worker beside us: the system's authorities need not be read.
            .tls_certs_only([])
            .http2_prior_knowledge()
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(KEEP_ALIVE)
            .build()
            .map_err(|error| BackendError::Protocol(chain(&error)))?;
        Ok(Self { client, base: format!("http://{addr}"), token })
    }

    /// A worker of another machine: mutual TLS with whoever holds the certificate for `name`.
    ///
    /// # Errors
    /// [`BackendError::Protocol`] if no HTTP client can be made.
    pub(super) fn remote(name: &str, addr: SocketAddr, token: Secret, identity: &Identity) -> Result<Self, BackendError> {
        let client = identity.client(name, addr).map_err(|error| BackendError::Protocol(error.to_string()))?;
        let client = client
            .connect_timeout(CONNECT)
            .redirect(Policy::none())
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(KEEP_ALIVE)
            .build()
            .map_err(|error| BackendError::Protocol(chain(&error)))?;
        Ok(Self { client, base: format!("https://{name}:{}", addr.port()), token })
    }

    async fn send(&self, call: RequestBuilder) -> Result<Response, BackendError> {
        let response = call.bearer_auth(self.token.reveal()).send().await.map_err(lost)?;
        if response.status().is_success() { Ok(response) } else { Err(BackendError::Refused(response.status().as_u16())) }
    }

    /// For an answer in one piece.
    async fn ask<T: DeserializeOwned>(&self, call: RequestBuilder) -> Result<T, BackendError> {
        let body = self.send(call).await?.bytes().await.map_err(lost)?;
        serde_json::from_slice(&body).map_err(|error| BackendError::Protocol(error.to_string()))
    }
}

#[async_trait]
impl Backend for WorkerBackend {
    async fn status(&self) -> Result<Status, BackendError> {
        self.ask(self.client.get(format!("{}/status", self.base))).await
    }

    async fn count(&self, prompt: &Generate) -> Result<Counted, BackendError> {
        refuse_images(prompt)?;
        self.ask(self.client.post(format!("{}/count", self.base)).json(prompt)).await
    }

    fn counts_to_the_end(&self) -> bool {
        true
    }

    fn address(&self) -> &str {
        &self.base
    }

    async fn cancel(&self, ticket: &Ticket) -> Result<(), BackendError> {
        let call = self.client.post(format!("{}/cancel", self.base)).json(&Cancel { id: ticket.id().0 });
        self.send(call).await.map(drop)
    }

    async fn start(&self, ticket: &Ticket, work: &Work) -> Result<EventStream, BackendError> {
        tracing::debug!(usage = %ticket.id(), worker = self.base, "dispatch");
        let call = match work {
            Work::Completion(generate) => {
                refuse_images(generate)?;
                self.client.post(format!("{}/generate", self.base)).json(generate)
            }
            Work::Vectors(embed) => self.client.post(format!("{}/embed", self.base)).json(embed),
        };
        let response = self.send(call.headers(Trace::here().headers())).await?;
        let chunks = response.bytes_stream().map(|chunk| chunk.map_err(lost));
        Ok(events(chunks).boxed())
    }
}

/// A worker would answer as if there were none. The configuration keeps models of workers and pictures apart; a worker of
/// another machine may have the name of an upstream's model.
fn refuse_images(request: &Generate) -> Result<(), BackendError> {
    let unfit = || BackendError::Unfit("messages: a worker takes no images".into());
    if has_images(&request.messages) { Err(unfit()) } else { Ok(()) }
}

/// Chunks → events. Ends after the first error, which a connection closed within a line is.
fn events(
    chunks: impl Stream<Item = Result<Bytes, BackendError>> + Send + Unpin,
) -> impl Stream<Item = Result<Event, BackendError>> + Send {
    let state = (chunks, Lines::default(), VecDeque::new(), false);
    stream::unfold(state, |(mut chunks, mut lines, mut ready, mut failed)| async move {
        loop {
            if let Some(event) = ready.pop_front() {
                return Some((event, (chunks, lines, ready, failed)));
            }
            if failed {
                return None;
            }
            // However much is there already: others have their turn in between.
            consume_budget().await;
            match chunks.next().await? {
                Ok(chunk) => failed = decode(&mut lines, &chunk, &mut ready),
                Err(error) => return Some((Err(error), (chunks, lines, ready, true))),
            }
        }
    })
}

/// Decodes what became whole with this chunk. Returns whether the last thing is an error.
fn decode(lines: &mut Lines, chunk: &Bytes, ready: &mut VecDeque<Result<Event, BackendError>>) -> bool {
    lines.push(chunk);
    loop {
        match lines.next() {
            Ok(Some(event)) => ready.push_back(Ok(event)),
            Ok(None) => return false,
            Err(error) => {
                ready.push_back(Err(error));
                return true;
            }
        }
    }
}
