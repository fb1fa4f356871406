//! `/v1/batches`: many requests in a file, answered when there is room.

pub mod described;
mod lines;

pub use lines::BatchLines;

use crate::{
    Gateway,
    body::Call,
    caller::Caller,
    failure::{Failure, failed},
    files::{file_id, parse_file_id},
    paging::{List, Wanted},
    path::InPath,
    wish::Unmet,
};
use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use contract::{Millis, ids::BatchId};
use domain::{Actor, Error};
use serde::{Deserialize, Serialize};
use services::batches::{Batch, BatchError, BatchStatus, CreateBatch, Endpoint, WINDOW};
use std::collections::BTreeMap;
use utoipa::ToSchema;
use uuid::Uuid;

/// Batches of a page, where the client does not say how many, and at most.
const PAGE: u32 = 20;
const PAGE_MAX: u32 = 100;

/// The body.
#[derive(Debug, Deserialize, ToSchema)]
pub struct BatchRequest {
    input_file_id: String,
    endpoint: String,
    completion_window: String,
    metadata: Option<BTreeMap<String, String>>,
}

impl Unmet for BatchRequest {}

/// A batch.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Batch)]
pub struct BatchBody {
    id: String,
    object: &'static str,
    endpoint: String,
    errors: Option<Errors>,
    input_file_id: String,
    completion_window: &'static str,
    status: &'static str,
    output_file_id: Option<String>,
    error_file_id: Option<String>,
    /// Unix seconds, as all that end with `_at`.
    created_at: i64,
    in_progress_at: Option<i64>,
    expires_at: i64,
    finalizing_at: Option<i64>,
    completed_at: Option<i64>,
    failed_at: Option<i64>,
    expired_at: Option<i64>,
    cancelling_at: Option<i64>,
    cancelled_at: Option<i64>,
    request_counts: Counts,
    metadata: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BatchErrors)]
struct Errors {
    object: &'static str,
    data: Vec<Fault>,
}

/// Why a batch failed, or a line of its input.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BatchError)]
struct Fault {
    code: String,
    message: String,
    #[schema(required)]
    param: Option<String>,
    /// Of the input, counted from 1.
    #[schema(required)]
    line: Option<u32>,
}

impl From<BatchError> for Fault {
    fn from(BatchError { code, message, param, line }: BatchError) -> Self {
        Self { code, message, param, line }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BatchCounts)]
struct Counts {
    total: u32,
    completed: u32,
    failed: u32,
}

impl From<Batch> for BatchBody {
    fn from(batch: Batch) -> Self {
        let ended = |status| batch.ended_at.filter(|_| batch.status == status).map(seconds);
        Self {
            id: batch_id(batch.id),
            object: "batch",
            completed_at: ended(BatchStatus::Completed),
            failed_at: ended(BatchStatus::Failed),
            expired_at: ended(BatchStatus::Expired),
            cancelled_at: ended(BatchStatus::Cancelled),
            endpoint: batch.endpoint,
            errors: (!batch.errors.is_empty())
                .then(|| Errors { object: "list", data: batch.errors.into_iter().map(Fault::from).collect() }),
            input_file_id: file_id(batch.input),
            completion_window: WINDOW,
            status: batch.status.name(),
            output_file_id: batch.output.map(file_id),
            error_file_id: batch.error.map(file_id),
            created_at: seconds(batch.created_at),
            in_progress_at: batch.in_progress_at.map(seconds),
            expires_at: seconds(batch.expires_at),
            finalizing_at: batch.finalizing_at.map(seconds),
            cancelling_at: batch.cancelling_at.map(seconds),
            request_counts: Counts { total: batch.total, completed: batch.completed, failed: batch.failed },
            metadata: Some(batch.metadata).filter(|metadata| !metadata.is_empty()),
        }
    }
}

fn seconds(at: Millis) -> i64 {
    at.div_euclid(1000)
}

fn batch_id(id: BatchId) -> String {
    format!("batch_{}", id.0.simple())
}

/// What [`batch_id`] wrote.
fn parse_batch_id(text: &str) -> Option<BatchId> {
    Uuid::try_parse(text.strip_prefix("batch_")?).ok().map(BatchId)
}

pub async fn create(State(gateway): State<Gateway>, call: Call<BatchRequest>) -> Result<Response, Failure> {
    let Call { actor, input, ignored, .. } = call;
    let endpoint = Endpoint::at(&input.endpoint).ok_or_else(|| {
        let message = "endpoint must be /v1/chat/completions, /v1/completions, /v1/embeddings or /v1/responses.";
        Failure::invalid("endpoint", None, message)
    })?;
    if input.completion_window != WINDOW {
        return Err(Failure::invalid("completion_window", None, format!("completion_window must be {WINDOW}.")));
    }
    let unknown = || Failure::of(Error::not_found("file"), actor.request());
    let create = CreateBatch {
        input: parse_file_id(&input.input_file_id).ok_or_else(unknown)?,
        endpoint,
        metadata: input.metadata.unwrap_or_default(),
    };
    let batch = gateway.services.batches.create(&actor, create).await.map_err(failed(&actor))?;
    let mut response = Json(BatchBody::from(batch)).into_response();
    ignored.put(response.headers_mut());
    Ok(response)
}

pub async fn list(
    State(gateway): State<Gateway>,
    Caller(actor): Caller,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<List<BatchBody>>, Failure> {
    let slice = wanted?.slice(PAGE, PAGE_MAX, parse_batch_id)?;
    let limit = slice.limit;
    let batches = gateway.services.batches.list(&actor, slice).await.map_err(failed(&actor))?;
    Ok(Json(List::cut(batches.into_iter().map(BatchBody::from).collect(), limit, |batch| batch.id.clone())))
}

pub async fn get(State(gateway): State<Gateway>, Caller(actor): Caller, InPath(id): InPath) -> Result<Json<BatchBody>, Failure> {
    let batch = gateway.services.batches.get(&actor, named(&actor, &id)?).await.map_err(failed(&actor))?;
    Ok(Json(batch.into()))
}

pub async fn cancel(State(gateway): State<Gateway>, Caller(actor): Caller, InPath(id): InPath) -> Result<Json<BatchBody>, Failure> {
    let batch = gateway.services.batches.cancel(&actor, named(&actor, &id)?).await.map_err(failed(&actor))?;
    Ok(Json(batch.into()))
}

/// The batch of this id; what is no id is as unknown as what is somebody else's.
fn named(actor: &Actor, id: &str) -> Result<BatchId, Failure> {
    parse_batch_id(id).ok_or_else(|| Failure::of(Error::not_found("batch"), actor.request()))
}
