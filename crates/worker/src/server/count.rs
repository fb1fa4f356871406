//! `POST /count`: how long a prompt is. The engine has no part in it.

use worker_protocol::{FailCode, Generate};

use super::generate::{flow, prompt};
use super::{Refusal, Worker, gone};
use crate::bound::DISPLACED;
use crate::engine::Link;
use crate::residence::Guest;
use crate::shared::Admission;

impl Worker {
    /// A model that is not there is loaded for it: nobody else knows its vocabulary and its template.
    pub(super) async fn count(&self, request: Generate) -> Result<u32, Refusal> {
        let Guest { stay, admissions } = self.enter(&request.model, &flow(&request), 1, &Link::nowhere()).await?;
        // The engine, which tells others that they made room, never sees this one.
        if !admissions.iter().all(Admission::begin) {
            return Err(Refusal(FailCode::Overloaded, DISPLACED.into()));
        }
        let shared = stay.shared.clone();
        let count = move || -> Result<u32, Refusal> {
            // The model stays as long as somebody is in.
            let _admissions = admissions;
            let (tokens, _) = prompt(shared.model.get().ok_or_else(gone)?, &request)?;
            Ok(u32::try_from(tokens.len()).unwrap_or(u32::MAX))
        };
        tokio::task::spawn_blocking(count).await.map_err(|error| Refusal(FailCode::Engine, error.to_string()))?
    }
}
