//! Lines of batches, answered by the very handlers of the routes.

use crate::{
    Gateway,
    body::{Call, parse},
    chat, completions, embeddings,
    failure::{Failure, INTERRUPTED},
    headers::Ignored,
    responses,
};
use axum::{
    body::to_bytes,
    extract::State,
    response::{IntoResponse, Response},
};
use domain::Actor;
use futures::future::BoxFuture;
use inference::{CacheUse, Priority};
use serde::de::DeserializeOwned;
use services::batches::{Endpoint, LineAnswer, Lines};
use std::{future::Future, time::Duration};

/// The routes for those whom nobody waits for.
pub struct BatchLines(Gateway);

impl BatchLines {
    #[must_use]
    pub fn new(gateway: &Gateway) -> Self {
        Self(Gateway::new(gateway.services.at(Priority::Batch), gateway.identity.clone()))
    }

    async fn handle<T, F>(&self, actor: Actor, body: &str, handler: impl FnOnce(State<Gateway>, Call<T>) -> F) -> Result<Response, Failure>
    where
        T: DeserializeOwned,
        F: Future<Output = Result<Response, Failure>>,
    {
        let (input, ignored) = parse(body.as_bytes())?;
        handler(State(self.0.clone()), Call { actor, input, ignored: Ignored::new(ignored), cache: CacheUse::Off }).await
    }

    async fn respond(&self, actor: Actor, endpoint: Endpoint, body: &str) -> LineAnswer {
        let answered = match endpoint {
            Endpoint::ChatCompletions => self.handle(actor, body, chat::create).await,
            Endpoint::Completions => self.handle(actor, body, completions::create).await,
            Endpoint::Embeddings => self.handle(actor, body, embeddings::create).await,
            Endpoint::Responses => self.handle(actor, body, responses::create).await,
        };
        let (response, retry_after, broke) = match answered {
            Ok(response) => (response, None, false),
            Err(failure) => {
                let retry_after = failure.retry_after_ms().map(|ms| Duration::from_millis(ms.into()));
                let broke = failure.body.code.as_deref() == Some(INTERRUPTED);
                (failure.into_response(), retry_after, broke)
            }
        };
        let status = response.status().as_u16();
        // Answers in one piece are in memory already.
        match to_bytes(response.into_body(), usize::MAX).await.map(|bytes| String::from_utf8(bytes.into())) {
            Ok(Ok(body)) => LineAnswer { status, body, retry_after, broke },
            Ok(Err(_)) | Err(_) => {
                tracing::error!(endpoint = endpoint.path(), "an answer to a batch's line is not text");
                LineAnswer { status: 500, body: "null".into(), retry_after: None, broke: false }
            }
        }
    }
}

impl Lines for BatchLines {
    fn answer<'a>(&'a self, actor: Actor, endpoint: Endpoint, body: &'a str) -> BoxFuture<'a, LineAnswer> {
        Box::pin(self.respond(actor, endpoint, body))
    }
}
