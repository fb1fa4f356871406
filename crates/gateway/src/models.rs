//! `GET /v1/models` and `GET /v1/models/{id}`.

use crate::{Gateway, caller::Caller, failure::Failure, openapi::Described, path::InPath};
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use domain::Error;
use inference::{ModelKind, Offered};
use serde::Serialize;
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
#[schema(as = ModelList)]
struct List {
    object: &'static str,
    data: Vec<Model>,
}

/// OpenAI's four fields, and what several servers add.
#[derive(Serialize, ToSchema)]
struct Model {
    id: String,
    object: &'static str,
    /// Models have no birthday here; clients demand a number.
    created: i64,
    owned_by: &'static str,
    name: String,
    context_length: u32,
    /// `completion`, `embedding` or `rerank`, and `multimodal` where it takes images.
    capabilities: Vec<&'static str>,
    status: &'static str,
}

impl From<Offered> for Model {
    fn from(offered: Offered) -> Self {
        let what = match offered.kind {
            ModelKind::Chat => "completion",
            ModelKind::Embedding => "embedding",
            ModelKind::Reranker => "rerank",
        };
        Self {
            id: offered.id,
            object: "model",
            created: 0,
            owned_by: "kontor",
            name: offered.name,
            context_length: offered.context_length,
            capabilities: [what].into_iter().chain(offered.images.then_some("multimodal")).collect(),
            status: if offered.ready { "ready" } else { "unavailable" },
        }
    }
}

/// For the API's description.
pub fn described_list(operation: Described) -> Described {
    operation.named("listModels", "Models that the key may use", "Of every kind.").answers::<List>("The models.")
}

/// For the API's description.
pub fn described(operation: Described) -> Described {
    operation
        .named("getModel", "One model", "A model that the key may not use is as unknown as one that is not there.")
        .addressed("model", "The model's id, which may have slashes.")
        .answers::<Model>("The model.")
}

pub async fn list(State(gateway): State<Gateway>, Caller(actor): Caller) -> Result<Response, Failure> {
    let models = gateway.services.api.models(&actor).await.map_err(|error| Failure::of(error, actor.request()))?;
    Ok(Json(List { object: "list", data: models.into_iter().map(Model::from).collect() }).into_response())
}

pub async fn get(State(gateway): State<Gateway>, Caller(actor): Caller, InPath(id): InPath) -> Result<Response, Failure> {
    let models = gateway.services.api.models(&actor).await.map_err(|error| Failure::of(error, actor.request()))?;
    match models.into_iter().find(|model| model.id == id || model.aliases.contains(&id)) {
        Some(model) => Ok(Json(Model::from(model)).into_response()),
        None => Err(Failure::of(Error::not_found("model"), actor.request())),
    }
}
