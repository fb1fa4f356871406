//! Downloads: a chat, everything, the usage table.

use super::{
    problem::{self, Failure},
    request_id,
    state::AppState,
};
use app::edge::accepted_language;
use axum::{
    Extension,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{Extensions, HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use contract::{ids::ConversationId, usage::UsageRange};
use domain::{Actor, Error, Result};
use serde::Deserialize;

/// `GET /ui/export/conversations/{id}/{format}` with `markdown` or `json`.
pub async fn conversation(
    State(state): State<AppState>,
    Extension(actor): Extension<Option<Actor>>,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
    extensions: Extensions,
) -> Response {
    let file = async {
        let actor = actor.ok_or_else(Error::unauthenticated)?;
        let Path((id, format)) = path.map_err(|_| Error::not_found("conversation"))?;
        let id: ConversationId = id.parse().map_err(|_| Error::not_found("conversation"))?;
        let transfer = &state.services.transfer;
        let file = match format.as_str() {
            "markdown" => transfer.conversation_markdown(&actor, id, accepted_language(&headers)).await?,
            "json" => transfer.conversation_json(&actor, id).await?,
            _ => return Err(Error::not_found("format")),
        };
        Ok(Download::from(file))
    };
    respond(file.await, &extensions)
}

/// `GET /ui/export/everything`: a ZIP of all own chats, the profile and the usage.
pub async fn everything(
    State(state): State<AppState>,
    Extension(actor): Extension<Option<Actor>>,
    headers: HeaderMap,
    extensions: Extensions,
) -> Response {
    let file = async {
        let actor = actor.ok_or_else(Error::unauthenticated)?;
        Ok(Download::from(state.services.transfer.everything_zip(&actor, accepted_language(&headers)).await?))
    };
    respond(file.await, &extensions)
}

/// Query of the usage table; both days included.
#[derive(Debug, Default, Deserialize)]
pub struct Days {
    #[serde(default)]
    from: String,
    #[serde(default)]
    to: String,
}

/// `GET /ui/export/usage.csv?from=YYYY-MM-DD&to=YYYY-MM-DD`.
pub async fn usage(
    State(state): State<AppState>,
    Extension(actor): Extension<Option<Actor>>,
    days: Result<Query<Days>, QueryRejection>,
    extensions: Extensions,
) -> Response {
    let file = async {
        let actor = actor.ok_or_else(Error::unauthenticated)?;
        let days = problem::query(days)?;
        let name = format!("usage-{}-{}.csv", days.from, days.to);
        let text = state.services.usage.csv(&actor, UsageRange { from: days.from, to: days.to }).await?;
        Ok(Download { name, mime: "text/csv; charset=utf-8".into(), bytes: text.into() })
    };
    respond(file.await, &extensions)
}

/// A file on its way to the browser's download folder.
struct Download {
    name: String,
    mime: String,
    bytes: Bytes,
}

impl From<services::transfer::File> for Download {
    fn from(file: services::transfer::File) -> Self {
        Self { name: file.name, mime: file.mime.into(), bytes: file.bytes.into() }
    }
}

fn respond(file: Result<Download>, extensions: &Extensions) -> Response {
    match file {
        Err(error) => Failure::new(error, request_id::of(extensions)).into_response(),
        Ok(file) => {
            let mime = HeaderValue::from_str(&file.mime).unwrap_or(HeaderValue::from_static("application/octet-stream"));
            let headers = [
                (header::CONTENT_TYPE, mime),
                (header::CONTENT_DISPOSITION, disposition(&file.name)),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            ];
            (StatusCode::OK, headers, file.bytes).into_response()
        }
    }
}

/// The file name twice: plain for old browsers, UTF-8 for the others (RFC 6266).
fn disposition(name: &str) -> HeaderValue {
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || "-._ ".contains(c) { c } else { '_' }).collect();
    let encoded: String = name
        .bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
            },
        )
        .collect();
    HeaderValue::from_str(&format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"))
        .unwrap_or(HeaderValue::from_static("attachment"))
}

#[cfg(test)]
mod tests {
    use super::disposition;

    #[test]
    fn a_title_cannot_break_out_of_the_header() {
        let value = disposition("Grüße \"; x=\r\n.md");
        assert_eq!(
            value.to_str().ok(),
            Some("attachment; filename=\"Gr__e __ x___.md\"; filename*=UTF-8''Gr%C3%BC%C3%9Fe%20%22%3B%20x%3D%0D%0A.md")
        );
    }
}
