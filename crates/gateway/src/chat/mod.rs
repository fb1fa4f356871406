//! `POST /v1/chat/completions`.

pub mod answer;
mod messages;
mod request;
mod stream;

use crate::{
    Gateway,
    body::Call,
    failure::Failure,
    follow::{begun, follow},
    headers, images,
    openapi::Described,
};
use axum::{extract::State, response::Response};
use inference::{Generation, Route};
use request::ChatRequest;
pub use request::word_choice;
use serde_json::json;

pub async fn create(state: State<Gateway>, call: Call<ChatRequest>) -> Result<Response, Failure> {
    let words = call.input.words();
    complete(state, call).await.map_err(|failure| words.tell(failure))
}

async fn complete(State(gateway): State<Gateway>, call: Call<ChatRequest>) -> Result<Response, Failure> {
    let Call { actor, input, ignored, cache } = call;
    let request = actor.request();
    let (stream, options) = (input.stream.unwrap_or(false), input.stream_options.unwrap_or_default());
    let mut completion = input.into_completion()?;
    completion.options.cache = cache;
    let choices = completion.options.n.max(1);
    let image = images::first(&completion.messages);
    let generation = gateway.services.api.complete(&actor, completion).await;
    let mut generation = generation.map_err(|error| images::located(Failure::of(error, request), image))?;
    let named = Named::of(&generation);
    let (mut response, route) = if stream {
        begun(&mut generation, request).await?;
        let route = generation.route();
        let chunks = stream::Chunks::new(named.served(route.as_ref()), choices, options.include_usage.unwrap_or(false));
        (follow(generation, request, chunks), route)
    } else {
        let collected = answer::collect(generation, choices, request).await?;
        (answer::respond(&collected, &named.served(collected.route.as_ref())), collected.route)
    };
    headers::name_use(response.headers_mut(), &named.model, &named.usage, route.as_ref());
    ignored.put(response.headers_mut());
    Ok(response)
}

/// For the API's description.
pub fn described(operation: Described) -> Described {
    let asked = json!({ "model": "qwen2.5-coder-1.5b-instruct", "messages": [{ "role": "user", "content": "Say hello." }] });
    let text = "Text, tools, schemas and log-probabilities as OpenAI has them, and images as data URLs where the model's \
                capabilities have `multimodal`. A stream ends with `data: [DONE]`; what fails after its \
                beginning is an event with an `error`.";
    operation
        .named("createChatCompletion", "Answer in a conversation", text)
        .reads::<ChatRequest>(asked)
        .answers::<answer::Body<'_>>("The answer.")
        .streams::<stream::Chunk<'_>>()
        .names_its_use()
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

    /// The same with the model that answers, which after a fallback is another one.
    pub fn served(&self, route: Option<&Route>) -> Self {
        let model = route.map_or(&self.model, |route| &route.model);
        Self { usage: self.usage.clone(), model: model.clone(), created: self.created }
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
