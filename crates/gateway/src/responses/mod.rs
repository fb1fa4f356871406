//! `POST /v1/responses`, how long its input is, and what can be done with a response afterwards.

mod body;
pub mod described;
mod events;
mod frames;
mod input;
mod request;
mod tools;

use crate::{
    Gateway,
    body::Call,
    caller::Caller,
    failure::{self, Failure},
    headers, images,
    paging::{List, Order},
    path::InPath,
    words::Words,
};
use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use body::{Body, BodyItem, parse_response_id, response_id};
use contract::ids::ResponseId;
use domain::{Actor, Error};
use request::ResponsesRequest;
use serde::{Deserialize, Serialize};
use services::responses::InputItem;
use utoipa::ToSchema;

/// Items of a page of inputs, where the client does not say how many, and at most.
const PAGE: usize = 20;
const PAGE_MAX: usize = 100;

const WORDS: Words = Words(&[
    ("messages", "input"),
    ("max_tokens", "max_output_tokens"),
    ("response_format", "text.format"),
    ("reasoning_effort", "reasoning.effort"),
]);

pub async fn create(State(gateway): State<Gateway>, call: Call<ResponsesRequest>) -> Result<Response, Failure> {
    let Call { actor, input, ignored, cache } = call;
    let stream = input.stream.unwrap_or(false);
    let mut input = input.into_create()?;
    input.options.cache = cache;
    let responses = &gateway.services.responses;
    let image = input::first_image(&input.input);
    let refused = |error| images::located(failed(&actor)(error), image);
    let (made, events) = if stream {
        let (made, events) = responses.stream(&actor, input).await.map_err(refused)?;
        (made, Some(events))
    } else {
        (responses.create(&actor, input).await.map_err(refused)?, None)
    };
    let usage = made.response.id.0.simple().to_string();
    let mut response = match events {
        Some(events) => events::respond(made.response, events, None),
        None => Json(Body::of(&made.response)).into_response(),
    };
    headers::name_use(response.headers_mut(), &made.asked, &usage, made.route.as_ref());
    ignored.put(response.headers_mut());
    Ok(response)
}

#[derive(Serialize, ToSchema)]
#[schema(as = ResponseInputTokens)]
struct Counted {
    object: &'static str,
    input_tokens: u32,
}

pub async fn count(State(gateway): State<Gateway>, call: Call<ResponsesRequest>) -> Result<Response, Failure> {
    let Call { actor, input, ignored, .. } = call;
    let prompt = input.into_create()?;
    let image = input::first_image(&prompt.input);
    let counted = gateway.services.responses.count_tokens(&actor, prompt).await;
    let input_tokens = counted.map_err(|error| images::located(failed(&actor)(error), image))?;
    let mut response = Json(Counted { object: "response.input_tokens", input_tokens }).into_response();
    ignored.put(response.headers_mut());
    Ok(response)
}

#[derive(Debug, Deserialize)]
pub struct Look {
    stream: Option<bool>,
    /// Number of the last event seen.
    starting_after: Option<u64>,
}

pub async fn get(
    State(gateway): State<Gateway>,
    Caller(actor): Caller,
    InPath(id): InPath,
    look: Result<Query<Look>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(look) = look?;
    let id = named(&actor, &id)?;
    let responses = &gateway.services.responses;
    if look.stream == Some(true) {
        let (response, events) = responses.events(&actor, id).await.map_err(failed(&actor))?;
        return Ok(events::respond(response, events, look.starting_after));
    }
    let response = responses.get(&actor, id).await.map_err(failed(&actor))?;
    Ok(Json(Body::of(&response)).into_response())
}

pub async fn cancel(State(gateway): State<Gateway>, Caller(actor): Caller, InPath(id): InPath) -> Result<Response, Failure> {
    let response = gateway.services.responses.cancel(&actor, named(&actor, &id)?).await.map_err(failed(&actor))?;
    Ok(Json(Body::of(&response)).into_response())
}

#[derive(Serialize, ToSchema)]
#[schema(as = ResponseDeleted)]
struct Deleted {
    id: String,
    object: &'static str,
    deleted: bool,
}

pub async fn delete(State(gateway): State<Gateway>, Caller(actor): Caller, InPath(id): InPath) -> Result<Response, Failure> {
    let id = named(&actor, &id)?;
    gateway.services.responses.delete(&actor, id).await.map_err(failed(&actor))?;
    Ok(Json(Deleted { id: response_id(id), object: "response", deleted: true }).into_response())
}

#[derive(Debug, Default, Deserialize)]
pub struct Page {
    after: Option<String>,
    before: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    order: Order,
}

pub async fn input_items(
    State(gateway): State<Gateway>,
    Caller(actor): Caller,
    InPath(id): InPath,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(page) = page?;
    let items = gateway.services.responses.input(&actor, named(&actor, &id)?).await.map_err(failed(&actor))?;
    let (items, has_more) = page.cut(items)?;
    let data: Vec<_> = items.iter().map(|item| BodyItem::of(&item.item, item.id.clone().unwrap_or_default(), "completed")).collect();
    Ok(Json(List::new(data, has_more, |item| item.id().to_owned())).into_response())
}

impl Page {
    /// The page's items, and whether there are more behind it.
    fn cut(&self, mut items: Vec<InputItem>) -> Result<(Vec<InputItem>, bool), Failure> {
        if self.order == Order::Desc {
            items.reverse();
        }
        if let Some(before) = &self.before {
            items.truncate(position(&items, "before", before)?);
        }
        if let Some(after) = &self.after {
            items.drain(..=position(&items, "after", after)?);
        }
        let limit = self.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        Ok((items, more))
    }
}

fn position(items: &[InputItem], param: &str, id: &str) -> Result<usize, Failure> {
    let at = items.iter().position(|item| item.id.as_deref() == Some(id));
    at.ok_or_else(|| Failure::invalid(param, None, format!("{param} names no item of this list.")))
}

/// The response of this id; what is no id is as unknown as what is somebody else's.
fn named(actor: &Actor, id: &str) -> Result<ResponseId, Failure> {
    parse_response_id(id).ok_or_else(|| Failure::of(Error::not_found("response"), actor.request()))
}

/// What became of a call, in this route's words for its fields.
fn failed(actor: &Actor) -> impl Fn(Error) -> Failure + use<> {
    let failed = failure::failed(actor);
    move |error| WORDS.tell(failed(error))
}

#[cfg(test)]
mod tests {
    use super::{Order, Page};
    use services::responses::{InputItem, Item, Role};

    fn items() -> Vec<InputItem> {
        let item = |id: &str| InputItem { id: Some(id.into()), item: Item::says(Role::User, vec![id.into()]) };
        ["a", "b", "c", "d"].map(item).into()
    }

    fn ids(page: &Page) -> (String, bool) {
        let (items, more) = page.cut(items()).unwrap();
        (items.iter().filter_map(|item| item.id.as_deref()).collect(), more)
    }

    #[test]
    fn pages_begin_behind_an_item() {
        assert_eq!(ids(&Page::default()), ("dcba".into(), false));
        let ascending = |after: Option<&str>, limit| Page { order: Order::Asc, after: after.map(str::to_owned), limit, ..Page::default() };
        assert_eq!(ids(&ascending(None, Some(2))), ("ab".into(), true));
        assert_eq!(ids(&ascending(Some("b"), Some(2))), ("cd".into(), false));
        assert_eq!(ids(&ascending(Some("a"), Some(0))), ("b".into(), true));
        let before = Page { before: Some("b".into()), ..Page::default() };
        assert_eq!(ids(&before), ("dc".into(), false));
        assert!(ascending(Some("x"), None).cut(items()).unwrap_err().event().contains(r#""param":"after""#));
    }
}
