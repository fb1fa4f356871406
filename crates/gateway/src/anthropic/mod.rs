//! Anthropic's face: `POST /v1/messages`, and `POST /v1/messages/count_tokens`, which makes no answer.
//!
//! What its clients expect to the byte is what the official ones for Python and TypeScript parse. Their header
//! `anthropic-version` is not looked at: 2026-10-21 forbids some of what 2023-06-01 allows, sampling parameters above all,
//! and is answered in the same way.

mod answer;
mod events;
mod failure;
mod messages;
mod request;
mod stream;

use crate::{
    Gateway,
    body::Call,
    chat::{Named, answer::collect},
    failure::Failure,
    follow::{begun, follow},
    headers, images,
    openapi::Described,
    words::Words,
};
use axum::{
    Extension, Json,
    extract::State,
    response::{IntoResponse, Response},
};
use contract::ids::RequestId;
pub use failure::{Told, refuse};
use request::MessagesRequest;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use uuid::Uuid;

/// The parent of its addresses, and one of them.
const PATH: &str = "/v1/messages";

/// Whether clients of this address expect Anthropic's shapes.
pub fn is_at(path: &str) -> bool {
    path.strip_prefix(PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What the funnel calls otherwise than Anthropic's clients do.
const WORDS: Words =
    Words(&[("stop", "stop_sequences"), ("response_format", "output_config.format.schema"), ("reasoning_effort", "thinking")]);

/// Not a [`Call`] itself: what is wrong with it must be said in this face's shape.
type Asked = Result<Call<MessagesRequest>, Failure>;

/// For the API's description.
pub fn described(operation: Described) -> Described {
    let asked =
        json!({ "model": "qwen2.5-coder-1.5b-instruct", "max_tokens": 200, "messages": [{ "role": "user", "content": "Say hello." }] });
    operation
        .named(
            "createMessage",
            "Answer in Anthropic's form",
            "Text, tools, schemas and thoughts, and images in base64 where the model takes them. Events of a stream have their type \
             for a name.",
        )
        .reads::<MessagesRequest>(asked)
        .knows::<messages::Block>()
        .answers::<answer::Message<'_>>("The answer.")
        .streams::<events::Event<'_>>()
        .names_its_use()
}

/// For the API's description.
pub fn described_count(operation: Described) -> Described {
    let asked = json!({ "model": "qwen2.5-coder-1.5b-instruct", "messages": [{ "role": "user", "content": "Say hello." }] });
    operation
        .named("countMessageTokens", "Tokens of a prompt", "Makes no answer and costs nothing.")
        .reads::<MessagesRequest>(asked)
        .knows::<messages::Block>()
        .answers::<Counted>("How many they are.")
}

pub async fn create(State(gateway): State<Gateway>, request: Option<Extension<RequestId>>, asked: Asked) -> Response {
    told(asked, request, |call| answer(&gateway, call)).await
}

pub async fn count(State(gateway): State<Gateway>, request: Option<Extension<RequestId>>, asked: Asked) -> Response {
    told(asked, request, |call| counted(&gateway, call)).await
}

/// What comes of a request, in Anthropic's shape and words.
async fn told<F: Future<Output = Result<Response, Failure>>>(
    asked: Asked,
    request: Option<Extension<RequestId>>,
    answer: impl FnOnce(Call<MessagesRequest>) -> F,
) -> Response {
    let result = match asked {
        Ok(call) => answer(call).await.map_err(|failure| WORDS.tell(failure)),
        // It names what the client wrote.
        Err(failure) => Err(failure),
    };
    failure::in_shape(result, id(request))
}

fn id(request: Option<Extension<RequestId>>) -> RequestId {
    request.map_or(RequestId(Uuid::nil()), |Extension(id)| id)
}

async fn answer(gateway: &Gateway, call: Call<MessagesRequest>) -> Result<Response, Failure> {
    let Call { actor, input, ignored, cache } = call;
    let request = actor.request();
    let (stream, thoughts) = (input.stream.unwrap_or(false), input.wants_thoughts());
    let mut completion = input.into_completion()?;
    completion.options.cache = cache;
    let image = images::first(&completion.messages);
    let generation = gateway.services.api.complete(&actor, completion).await;
    let mut generation = generation.map_err(|error| images::located(Failure::of(error, request), image))?;
    let named = Named::of(&generation);
    let (mut response, route) = if stream {
        begun(&mut generation, request).await?;
        let route = generation.route();
        (follow(generation, request, stream::Blocks::new(named.served(route.as_ref()), thoughts, request)), route)
    } else {
        let collected = collect(generation, 1, request).await?;
        (answer::respond(&collected, &named.served(collected.route.as_ref()), thoughts), collected.route)
    };
    headers::name_use(response.headers_mut(), &named.model, &named.usage, route.as_ref());
    ignored.put(response.headers_mut());
    Ok(response)
}

#[derive(Serialize, ToSchema)]
#[schema(as = AnthropicTokenCount)]
struct Counted {
    input_tokens: u32,
}

async fn counted(gateway: &Gateway, call: Call<MessagesRequest>) -> Result<Response, Failure> {
    let Call { actor, input, ignored, .. } = call;
    let prompt = input.into_prompt()?;
    let image = images::first(&prompt.messages);
    let counted = gateway.services.api.count_tokens(&actor, prompt).await;
    let input_tokens = counted.map_err(|error| images::located(Failure::of(error, actor.request()), image))?;
    let mut response = Json(Counted { input_tokens }).into_response();
    ignored.put(response.headers_mut());
    Ok(response)
}
