//! `/v1/files`: what programs bring, and what their batches made.

pub mod described;

use crate::{
    Gateway,
    caller::Caller,
    failure::{Failure, failed},
    form::{Form, piece, text},
    paging::{List, Wanted},
    path::InPath,
};
use axum::{
    Json,
    body::Body,
    extract::{Query, Request, State, multipart::Field, rejection::QueryRejection},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use contract::ids::FileId;
use domain::{Actor, Error};
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use services::files::{FilePurpose, StoredFile, Upload};
use utoipa::ToSchema;
use uuid::Uuid;

/// Files of a page where the client does not say how many, and at most, as OpenAI has it.
const PAGE: u32 = 10_000;
/// Bytes of a form beside the file.
const BESIDE_MAX_BYTES: u64 = 1024 * 1024;

pub fn file_id(id: FileId) -> String {
    format!("file-{}", id.0.simple())
}

/// What [`file_id`] wrote.
pub fn parse_file_id(text: &str) -> Option<FileId> {
    Uuid::try_parse(text.strip_prefix("file-")?).ok().map(FileId)
}

/// A file.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = File)]
pub struct FileBody {
    id: String,
    object: &'static str,
    bytes: u64,
    /// Unix seconds, as `expires_at`.
    created_at: i64,
    #[schema(required)]
    expires_at: Option<i64>,
    filename: String,
    purpose: &'static str,
    status: &'static str,
    #[schema(required, value_type = Option<String>)]
    status_details: Option<()>,
    /// Ours: hexadecimal.
    sha256: String,
}

impl From<StoredFile> for FileBody {
    fn from(file: StoredFile) -> Self {
        Self {
            id: file_id(file.id),
            object: "file",
            bytes: file.bytes,
            created_at: file.created_at.div_euclid(1000),
            expires_at: file.expires_at.map(|at| at.div_euclid(1000)),
            filename: file.filename,
            purpose: file.purpose.name(),
            status: "processed",
            status_details: None,
            sha256: services::audit::hex(&file.sha256),
        }
    }
}

/// What a form says beside the file.
#[derive(Default)]
struct Said {
    upload: Option<Upload>,
    purpose: Option<FilePurpose>,
    /// `expires_after[anchor]`
    anchor: Option<String>,
    /// `expires_after[seconds]`
    seconds: Option<u32>,
}

pub async fn create(State(gateway): State<Gateway>, Caller(actor): Caller, request: Request) -> Result<Json<FileBody>, Failure> {
    let mut form = Form::of(request, gateway.services.files.limits().file.saturating_add(BESIDE_MAX_BYTES)).await?;
    let mut said = Said::default();
    // Clients put the file before the purpose or behind it: it is taken as it comes.
    while let Some(field) = form.next().await? {
        said.take(&gateway, &actor, field).await?;
    }
    let missing = |field: &str| Failure::invalid(field, "required", format!("The field {field} is missing."));
    let purpose = said.purpose.ok_or_else(|| missing("purpose"))?;
    if said.anchor.is_some_and(|anchor| anchor != "created_at") {
        return Err(Failure::invalid("expires_after.anchor", None, "The anchor of expires_after must be created_at."));
    }
    let upload = said.upload.ok_or_else(|| missing("file"))?;
    let file = gateway.services.files.finish(&actor, upload, purpose, said.seconds).await.map_err(failed(&actor))?;
    Ok(Json(file.into()))
}

impl Said {
    async fn take(&mut self, gateway: &Gateway, actor: &Actor, mut field: Field<'_>) -> Result<(), Failure> {
        match field.name().unwrap_or_default() {
            "file" => {
                if self.upload.is_some() {
                    return Err(Failure::invalid("file", None, "One file at a time."));
                }
                let filename = field.file_name().unwrap_or_default().to_owned();
                let mut upload = gateway.services.files.upload(actor, &filename).await.map_err(failed(actor))?;
                while let Some(bytes) = piece(&mut field).await? {
                    upload.write(&bytes).await.map_err(failed(actor))?;
                }
                self.upload = Some(upload);
            }
            "purpose" => {
                let named = FilePurpose::named(&text(field).await?).filter(|purpose| *purpose != FilePurpose::BatchOutput);
                let message = "purpose must be assistants, batch, evals, fine-tune, user_data or vision.";
                self.purpose = Some(named.ok_or_else(|| Failure::invalid("purpose", None, message))?);
            }
            "expires_after[anchor]" => self.anchor = Some(text(field).await?),
            "expires_after[seconds]" => {
                let seconds = text(field).await?.parse();
                self.seconds =
                    Some(seconds.map_err(|_| Failure::invalid("expires_after.seconds", None, "expires_after.seconds must be a number."))?);
            }
            _ => while piece(&mut field).await?.is_some() {},
        }
        Ok(())
    }
}

#[derive(Debug, Deserialize)]
pub struct Kind {
    purpose: Option<String>,
}

pub async fn list(
    State(gateway): State<Gateway>,
    Caller(actor): Caller,
    kind: Result<Query<Kind>, QueryRejection>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<List<FileBody>>, Failure> {
    let Query(kind) = kind?;
    let unknown = || Failure::invalid("purpose", None, "purpose has a value that is not known here.");
    let purpose = kind.purpose.map(|name| FilePurpose::named(&name).ok_or_else(unknown)).transpose()?;
    let slice = wanted?.slice(PAGE, PAGE, parse_file_id)?;
    let limit = slice.limit;
    let files = gateway.services.files.list(&actor, purpose, slice).await.map_err(failed(&actor))?;
    Ok(Json(List::cut(files.into_iter().map(FileBody::from).collect(), limit, |file| file.id.clone())))
}

pub async fn get(State(gateway): State<Gateway>, Caller(actor): Caller, InPath(id): InPath) -> Result<Json<FileBody>, Failure> {
    let file = gateway.services.files.get(&actor, named(&actor, &id)?).await.map_err(failed(&actor))?;
    Ok(Json(file.into()))
}

pub async fn content(State(gateway): State<Gateway>, Caller(actor): Caller, InPath(id): InPath) -> Result<Response, Failure> {
    let (file, pieces) = gateway.services.files.content(&actor, named(&actor, &id)?).await.map_err(failed(&actor))?;
    // The head is sent by then: all that can be done is to break the connection off, and to say why in the log.
    let request = actor.request();
    let pieces = pieces.inspect_err(move |error| tracing::warn!(%error, %request, "a file could not be sent to its end"));
    let mut response = Body::from_stream(pieces).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, file.bytes.into());
    if let Ok(disposition) = HeaderValue::from_str(&format!("attachment; filename=\"{}\"", plain(&file.filename))) {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    Ok(response)
}

/// A name that can stand in a header.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect()
}

#[derive(Serialize, ToSchema)]
#[schema(as = FileDeleted)]
pub struct Deleted {
    id: String,
    object: &'static str,
    deleted: bool,
}

pub async fn delete(State(gateway): State<Gateway>, Caller(actor): Caller, InPath(id): InPath) -> Result<Json<Deleted>, Failure> {
    let id = named(&actor, &id)?;
    gateway.services.files.delete(&actor, id).await.map_err(failed(&actor))?;
    Ok(Json(Deleted { id: file_id(id), object: "file", deleted: true }))
}

/// The file of this id; what is no id is as unknown as what is somebody else's.
fn named(actor: &Actor, id: &str) -> Result<FileId, Failure> {
    parse_file_id(id).ok_or_else(|| Failure::of(Error::not_found("file"), actor.request()))
}

#[cfg(test)]
mod tests {
    use super::{file_id, parse_file_id, plain};
    use contract::ids::FileId;
    use uuid::Uuid;

    #[test]
    fn an_id_comes_back_as_it_went() {
        let id = FileId(Uuid::now_v7());
        assert_eq!(parse_file_id(&file_id(id)), Some(id));
        assert_eq!((parse_file_id(&id.to_string()), parse_file_id("file-x"), parse_file_id("")), (None, None, None));
    }

    #[test]
    fn names_cannot_forge_headers() {
        assert_eq!(plain("a b\"\r\nset-cookie: x/ü.jsonl"), "a_b___set-cookie__x__.jsonl");
    }
}
