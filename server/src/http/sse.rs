//! `GET /ui/turns/{id}/events`: a turn's events, from the beginning or from where the browser was.

use super::{
    problem::{self, Failure},
    request_id,
    state::AppState,
};
use axum::{
    Extension,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{Extensions, HeaderMap, HeaderName, HeaderValue, header},
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use contract::{chat::TurnEvent, ids::TurnId};
use domain::Actor;
use futures::StreamExt;
use serde::Deserialize;
use std::time::Duration;

/// A comment line this often keeps proxies from closing a silent stream.
const PING: Duration = Duration::from_secs(15);

#[derive(Debug, Default, Deserialize)]
pub struct Position {
    /// Number of the last event seen; the header `Last-Event-ID` comes first. What is no number counts as absent.
    after: Option<String>,
}

/// Replays what came after the given event, then follows until the turn ends.
pub async fn turn_events(
    State(state): State<AppState>,
    Extension(actor): Extension<Option<Actor>>,
    turn: Result<Path<String>, PathRejection>,
    position: Result<Query<Position>, QueryRejection>,
    headers: HeaderMap,
    extensions: Extensions,
) -> Response {
    let request = request_id::of(&extensions);
    let opened = async {
        let actor = actor.ok_or_else(domain::Error::unauthenticated)?;
        // Not an id at all: as unknown as somebody else's.
        let turn: TurnId = turn.ok().and_then(|Path(turn)| turn.parse().ok()).ok_or_else(|| domain::Error::not_found("turn"))?;
        let position = problem::query(position)?;
        let after = last_event_id(&headers).or_else(|| position.after.and_then(|after| after.parse().ok())).unwrap_or(0);
        state.services.turns.events(&actor, turn, after).await
    };
    let events = match opened.await {
        Ok(events) => events,
        Err(error) => return Failure::new(error, request).into_response(),
    };
    let lines = events.map(|(number, event)| line(number, &event));
    let mut response = Sse::new(lines).keep_alive(KeepAlive::new().interval(PING).text("ping")).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    // nginx would otherwise hold back the stream.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

fn line(number: i32, event: &TurnEvent) -> Result<Event, axum::Error> {
    Event::default().id(number.to_string()).json_data(event)
}

fn last_event_id(headers: &HeaderMap) -> Option<i32> {
    headers.get("last-event-id")?.to_str().ok()?.parse().ok()
}
