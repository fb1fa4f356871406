//! `POST /count`: how long a prompt is. The engine has no part in it.

use worker_protocol::{FailCode, Generate};

use super::generate::{flow, prompt};
use super::{MOST_COUNTED, Refusal, Worker, gone};
use crate::engine::Link;
use crate::residence::Guest;

impl Worker {
    /// A model that is not there is loaded for it: nobody else knows its vocabulary and its template.
    /// The engine does nothing for it, so it takes no place of those who ask the engine, and nobody makes room for it.
    pub(super) async fn count(&self, request: Generate) -> Result<u32, Refusal> {
        let full = |_| Refusal(FailCode::Overloaded, format!("{MOST_COUNTED} prompts are being counted already"));
        let counted = self.counted.clone().try_acquire_owned().map_err(full)?;
        let Guest { stay, admissions } = self.enter(&request.model, &flow(&request), 0, &Link::nowhere()).await?;
        // Only now: those who wait for a model would keep out those whose model is there.
        let counting = self.counts.clone().acquire_owned().await.map_err(|_| gone())?;
        let shared = stay.shared.clone();
        let count = move || -> Result<u32, Refusal> {
            // The model stays as long as somebody is in.
            let _inside = (admissions, counted, counting);
            let prompt = prompt(shared.model.get().ok_or_else(gone)?, &request)?;
            Ok(u32::try_from(prompt.tokens.len()).unwrap_or(u32::MAX))
        };
        tokio::task::spawn_blocking(count).await.map_err(|error| Refusal(FailCode::Engine, error.to_string()))?
    }
}
