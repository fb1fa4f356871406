//! The server function of the search page.

use crate::UiError;
use contract::{chat::SearchHit, page::Page};
use leptos::prelude::*;
use server_fn::codec::Json;

/// Messages of the own conversations that hold all words, best first.
#[server(prefix = "/ui", endpoint = "search_messages", input = Json, output = Json)]
pub async fn search_messages(query: String, cursor: Option<String>) -> Result<Page<SearchHit>, UiError> {
    let (services, actor) = crate::edge::actor().await?;
    services.chats.search(&actor, query, cursor).await.map_err(crate::edge::fail)
}
