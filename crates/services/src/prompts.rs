//! The prompt history.

use crate::{check, cursor, shared::Shared};
use contract::{
    chat::{PromptEntry, PromptFilter},
    page::Page,
};
use domain::{Action, Actor, Error, Result};
use std::sync::Arc;
use store::search::Words;

/// Rows of a page; a row carries the whole question, so that it can be used again.
const PAGE: u32 = 25;

/// Every question that a user has asked.
#[derive(Clone)]
pub struct Prompts {
    shared: Arc<Shared>,
}

impl Prompts {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The user's questions that pass the filter, newest first.
    ///
    /// # Errors
    /// [`Error::Invalid`] for `query` (`too_long`), `from` (`out_of_range`) or `cursor` (`bad_cursor`).
    pub async fn list(&self, actor: &Actor, filter: PromptFilter, cursor: Option<String>) -> Result<Page<PromptEntry>> {
        actor.may(Action::Chat)?;
        let user = actor.user()?;
        check::query(&filter.query)?;
        let known = 0..=253_402_300_799_999;
        if filter.from.is_some_and(|at| !known.contains(&at)) || filter.to.is_some_and(|at| !known.contains(&at)) {
            return Err(Error::invalid("from", "out_of_range", "The time range is not one that the calendar knows."));
        }
        let after = cursor::parse_message(cursor.as_deref())?;
        let tx = self.shared.db.begin(actor).await?;
        let rows = tx.prompts().list(user, &filter, &Words::parse(&filter.query), after, PAGE + 1).await?;
        tx.commit().await?;
        Ok(cursor::cut(rows, PAGE, |row| cursor::message(row.created_at, row.message)))
    }
}
