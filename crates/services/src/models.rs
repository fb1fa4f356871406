//! The models that a person may choose from.

use crate::shared::Shared;
use contract::model::ModelInfo;
use domain::{Action, Actor, Result};
use std::sync::Arc;

/// The model picker.
#[derive(Clone)]
pub struct Models {
    shared: Arc<Shared>,
}

impl Models {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Models granted to the actor, and whether a worker runs them now.
    ///
    /// # Errors
    /// [`domain::Error::Forbidden`] without the right to chat.
    #[expect(clippy::unused_async, reason = "all service methods are async: callers need not know which ones wait")]
    pub async fn list(&self, actor: &Actor) -> Result<Vec<ModelInfo>> {
        actor.may(Action::Chat)?;
        Ok(self.shared.inference.models(actor))
    }
}
