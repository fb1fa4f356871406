//! Full-text search over all own messages.

use super::Chats;
use crate::{check, cursor};
use contract::{chat::SearchHit, page::Page};
use domain::{Action, Actor, Result};
use store::search::Words;

/// Hits of one page.
const PAGE: u32 = 20;

impl Chats {
    /// The user's messages that match, newest first, with the hits marked. Quotes, `or` and `-` work as in web
    /// search; the last word also matches as a beginning. Nothing to search for finds nothing.
    ///
    /// # Errors
    /// [`domain::Error::Invalid`] for `query` (`too_long`) or `cursor` (`bad_cursor`).
    pub async fn search(&self, actor: &Actor, query: String, cursor: Option<String>) -> Result<Page<SearchHit>> {
        actor.may(Action::Chat)?;
        let user = actor.user()?;
        check::query(&query)?;
        let after = cursor::parse_message(cursor.as_deref())?;
        let words = Words::parse(&query);
        if words.is_empty() {
            return Ok(Page::default());
        }
        let tx = self.shared.db.begin(actor).await?;
        let rows = tx.search().find(user, &words, after, PAGE + 1).await?;
        tx.commit().await?;
        Ok(cursor::cut(rows, PAGE, |row| cursor::message(row.created_at, row.message)))
    }
}
