//! How long a prompt is, before anybody pays for it.

use crate::{
    Inference,
    admit::{Options, Request, check},
    clearance::Bounds,
    guard,
    images::check_images,
    meter::{RETRY_AFTER_S, partition},
    refusal::{filtered, refused, unsupported},
};
use domain::{Actor, Error, Result};
use worker_protocol::{Counted, FailCode, Generate};

/// Bytes for each token of the context beyond which a prompt is estimated: it will not fit whatever the number.
const WORTH_COUNTING: usize = 16;
/// Bytes that a token has on average, for estimates.
const BYTES_PER_TOKEN: usize = 4;

impl Inference {
    /// The tokens of a request's prompt, as a worker would compute it: the model's template, tools and all. Of an
    /// upstream an estimate. Nothing is computed, so the ledger has no row of it.
    ///
    /// # Errors
    /// As [`Inference::admit`], except that a prompt may be longer than the model's context.
    pub async fn count_tokens(&self, actor: &Actor, mut request: Request) -> Result<u32> {
        let model = self.grant(actor, request.model.as_deref(), request.purpose)?;
        check(&request)?;
        check_images(model, &request.messages)?;
        // Nobody else counts in its place.
        let bounds = Bounds::new(actor, request.purpose, model.clone(), Vec::new());
        self.inner.pool.reach(&bounds)?;
        let (model, context) = (model.id.clone(), usize::try_from(model.context_length).unwrap_or(usize::MAX));
        let bytes = guard::bytes(&request.messages);
        if bytes > context.saturating_mul(WORTH_COUNTING) {
            return Ok(u32::try_from(bytes / BYTES_PER_TOKEN).unwrap_or(u32::MAX));
        }
        // Some providers count themselves: what rules keep from them is not sent for that either.
        let rules = self.guards().of(actor.tenant()).await?;
        self.guards().completion(actor, rules, &mut request).await?;
        let Request { messages, continue_last, options, .. } = request;
        let Options { tools, tool_choice, think, raw, .. } = options;
        let (tenant, partition) = (actor.tenant().to_string(), partition(actor));
        let prompt = Generate { model, tenant, partition, messages, continue_last, raw, tools, tool_choice, think, ..Generate::default() };
        match self.inner.pool.count(&prompt, &bounds).await? {
            Counted::Tokens(tokens) => Ok(tokens),
            Counted::Refused { code: FailCode::Invalid | FailCode::ContextLengthExceeded, message } => Err(refused(message)),
            Counted::Refused { code: FailCode::Unsupported, message } => Err(unsupported(message)),
            Counted::Refused { code: FailCode::ContentFilter, message } => Err(filtered(message)),
            Counted::Refused { code, message } => {
                tracing::warn!(?code, message, "a worker could not count a prompt");
                Err(Error::unavailable("model", Some(RETRY_AFTER_S)))
            }
        }
    }
}
