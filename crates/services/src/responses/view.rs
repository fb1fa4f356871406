//! A response as its account sees it.

use super::{Item, ResponseEnd};
use contract::{Millis, chat::AnswerStats, ids::ResponseId, problem::Problem, usage::Money};
use domain::{Error, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use store::responses::{ResponseStatus, StoredResponse};

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// The same number as the use in the ledger.
    pub id: ResponseId,
    /// The one that it goes on from.
    pub previous: Option<ResponseId>,
    /// The one that answers, which after a fallback is another one than was asked; until that is known, the one that was asked.
    pub model: String,
    pub status: ResponseStatus,
    pub instructions: Option<String>,
    /// Parameters of the request as the edge wants to show them again; an object.
    pub echo: Value,
    /// Empty until the end.
    pub output: Vec<Item>,
    pub stats: Option<AnswerStats>,
    /// Once it has ended; `None` where there is no price.
    pub cost: Option<Money>,
    /// Why, if it failed.
    pub problem: Option<Problem>,
    pub metadata: BTreeMap<String, String>,
    pub background: bool,
    pub created_at: Millis,
    pub ended_at: Option<Millis>,
}

impl Response {
    /// It has ended.
    pub fn end(&mut self, end: ResponseEnd) {
        if let Some(stats) = &end.stats {
            self.model.clone_from(&stats.model);
        }
        self.status = end.status;
        self.stats = end.stats;
        self.cost = end.cost;
        self.problem = end.problem;
        self.ended_at = Some(end.at);
    }

    /// As it was when it began.
    #[must_use]
    pub fn at_its_beginning(self) -> Self {
        let status = if self.background { ResponseStatus::Queued } else { ResponseStatus::InProgress };
        Self { status, output: Vec::new(), stats: None, cost: None, problem: None, ended_at: None, ..self }
    }
}

impl TryFrom<StoredResponse> for Response {
    type Error = Error;

    fn try_from(stored: StoredResponse) -> Result<Self> {
        Ok(Self {
            id: stored.id,
            previous: stored.previous,
            model: stored.model,
            status: stored.status,
            instructions: stored.instructions,
            echo: stored.echo,
            output: serde_json::from_value(stored.output).map_err(Error::internal)?,
            stats: stored.stats,
            cost: stored.cost,
            problem: stored.problem,
            metadata: serde_json::from_value(stored.metadata).map_err(Error::internal)?,
            background: stored.background,
            created_at: stored.created_at,
            ended_at: stored.ended_at,
        })
    }
}
