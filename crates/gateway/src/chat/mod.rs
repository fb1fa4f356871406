//! `POST /v1/chat/completions`.

pub mod answer;
mod messages;
mod request;
mod stream;

use crate::{Gateway, body::Call, failure::Failure, headers};
use axum::{extract::State, response::Response};
use contract::ids::RequestId;
use inference::{Generation, Output};
use request::ChatRequest;
use std::{collections::VecDeque, time::Duration};

/// How long an answer may take to begin before a stream's head is sent. Until then a refusal has a status of its own.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);

pub async fn create(State(gateway): State<Gateway>, call: Call<ChatRequest>) -> Result<Response, Failure> {
    let Call { actor, input, ignored } = call;
    let request = actor.request();
    let (stream, options) = (input.stream.unwrap_or(false), input.stream_options.unwrap_or_default());
    let completion = input.into_completion()?;
    let choices = completion.options.n.max(1);
    let generation = gateway.services.api.complete(&actor, completion).await.map_err(|error| Failure::of(error, request))?;
    let named = Named::of(&generation);
    let mut response = if stream {
        let begun = Begun::wait(generation, request).await?;
        stream::respond(begun, named.clone(), choices, options.include_usage.unwrap_or(false), request)
    } else {
        answer::respond(answer::collect(generation, choices, request).await?, &named)
    };
    headers::name_use(response.headers_mut(), &named.model, &named.usage);
    ignored.put(response.headers_mut());
    Ok(response)
}

/// What every part of an answer says about itself.
#[derive(Clone, Debug)]
pub struct Named {
    /// The ledger's id.
    pub usage: String,
    pub model: String,
    /// Unix seconds.
    pub created: i64,
}

impl Named {
    pub fn of(generation: &Generation) -> Self {
        Self { usage: generation.usage_id().0.simple().to_string(), model: generation.model().to_owned(), created: created(generation) }
    }

    pub fn id(&self, prefix: &str) -> String {
        format!("{prefix}-{}", self.usage)
    }
}

/// When the use was opened, which its id tells (UUIDv7).
fn created(generation: &Generation) -> i64 {
    let opened = generation.usage_id().0.get_timestamp().map(|at| at.to_unix().0);
    opened.and_then(|seconds| i64::try_from(seconds).ok()).unwrap_or_default()
}

/// A generation that has said something, or has been waited for long enough.
pub struct Begun {
    generation: Generation,
    /// What it said already.
    said: VecDeque<Output>,
}

impl Begun {
    /// # Errors
    /// It ended with a failure before it said anything.
    pub async fn wait(mut generation: Generation, request: RequestId) -> Result<Self, Failure> {
        let mut said = VecDeque::new();
        let first = async {
            loop {
                match generation.next().await {
                    Some(Output::Queued { .. }) => {}
                    other => return other,
                }
            }
        };
        match tokio::time::timeout(HEAD_PATIENCE, first).await {
            Ok(Some(Output::End(ended))) if ended.error.is_some() => match ended.error {
                Some(error) => return Err(Failure::of(error, request)),
                None => said.push_back(Output::End(ended)),
            },
            Ok(output) => said.extend(output),
            Err(_) => {}
        }
        Ok(Self { generation, said })
    }

    pub async fn next(&mut self) -> Option<Output> {
        match self.said.pop_front() {
            Some(output) => Some(output),
            None => self.generation.next().await,
        }
    }
}
