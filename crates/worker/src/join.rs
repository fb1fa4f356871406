//! Belonging to a pool on another machine: says so again and again, and says goodbye.

use std::net::SocketAddr;
use std::time::Duration;

use contract::chain;
use reqwest::{Client, Response};
use tokio::net::lookup_host;
use tokio_util::sync::CancellationToken;
use worker_protocol::PROTOCOL;
use worker_protocol::registration::{Registered, Registration};
use worker_protocol::tls::{Identity, POOL};

use crate::error::Error;

/// After a call that failed.
const AGAIN: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a worker belongs.
#[derive(Clone, Debug)]
pub struct Join {
    /// The pool's port for workers, `host:port`.
    pub pool: String,
    /// The worker's name in its certificate.
    pub name: String,
    /// Where the pool reaches it, `host:port`; `None`: where it listens.
    pub advertise: Option<String>,
    pub identity: Identity,
}

impl Join {
    /// Says that the worker is there until `shutdown`, and takes it out of the pool when it has `drained`. Not longer: its
    /// successor may be there already.
    pub(crate) async fn keep(
        self,
        addr: SocketAddr,
        token: String,
        models: Vec<String>,
        shutdown: CancellationToken,
        drained: CancellationToken,
    ) {
        let addr = self.advertise.clone().unwrap_or_else(|| addr.to_string());
        let registration = Registration { protocol: PROTOCOL, addr, token, models };
        let mut known = false;
        let repeating = async {
            loop {
                let pause = match self.register(&registration).await {
                    Ok(registered) => {
                        if !std::mem::replace(&mut known, true) {
                            tracing::info!(pool = self.pool, name = self.name, "the pool knows this worker");
                        }
                        Duration::from_millis(registered.again_ms.into())
                    }
                    Err(error) => {
                        known = false;
                        tracing::warn!(pool = self.pool, error, "the pool does not take this worker; trying again");
                        AGAIN
                    }
                };
                tokio::time::sleep(pause).await;
            }
        };
        let _: Option<()> = shutdown.run_until_cancelled(repeating).await;
        drained.cancelled().await;
        if let Err(error) = self.leave(&registration.token).await {
            tracing::warn!(pool = self.pool, error, "the pool was not told that this worker ends; it will find out");
        }
    }

    async fn register(&self, registration: &Registration) -> Result<Registered, String> {
        let (client, url) = self.client().await?;
        let answer = answered(client.put(url).json(registration).send().await).await?;
        answer.json().await.map_err(|error| chain(&error))
    }

    async fn leave(&self, token: &str) -> Result<(), String> {
        let (client, url) = self.client().await?;
        answered(client.delete(url).bearer_auth(token).send().await).await.map(|_| ())
    }

    /// A new one each time: the pool may have moved.
    async fn client(&self) -> Result<(Client, String), String> {
        let addr = lookup_host(&self.pool).await.map_err(|error| error.to_string())?.next().ok_or("its name leads nowhere")?;
        let client = self.identity.client(POOL, addr).map_err(|error| error.to_string())?;
        let client = client.timeout(PATIENCE).build().map_err(|error| chain(&error))?;
        Ok((client, format!("https://{POOL}:{}/workers/{}", addr.port(), self.name)))
    }

    /// What cannot work is said before anything is loaded.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        if worker_protocol::tls::is_worker_name(&self.name) {
            Ok(())
        } else {
            let problem = format!("must have 1 to 63 lower-case letters, digits and hyphens, is {:?}", self.name);
            Err(Error::Option { name: "name", problem })
        }
    }
}

async fn answered(response: reqwest::Result<Response>) -> Result<Response, String> {
    let response = response.map_err(|error| chain(&error))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    // What it says is for people; without it the status must do.
    let why = response.text().await.unwrap_or_default();
    Err(format!("HTTP status {status} {why}"))
}
