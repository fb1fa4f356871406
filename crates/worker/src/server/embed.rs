//! `POST /embed`: checks a request, tokenises its inputs and hands them to the engine.

use std::time::Instant;

use llama_cpp_2::token::LlamaToken;
use worker_protocol::{Embed, FailCode, ModelKind};

use super::{Refusal, Worker, gone};
use crate::engine::Link;
use crate::engine::embed::EmbedJob;
use crate::engine::queue::flows::Flow;
use crate::model::Model;
use crate::residence::Guest;
use crate::shared::{Admission, Shared};

/// Most inputs of one request, as OpenAI has it.
const MAX_INPUTS: usize = 2048;
/// Most tokens of all texts of one request, as OpenAI has it.
const MAX_TOKENS: usize = 300_000;

impl Worker {
    pub(super) async fn embed(&self, request: Embed, link: Link) -> Result<(), Refusal> {
        let arrived = Instant::now();
        let flow = Flow { tenant: request.tenant.clone(), priority: request.priority };
        let Guest { stay, mut admissions } = self.enter(&request.model, &flow, 1, &link).await?;
        let Some(admission) = admissions.pop() else { return Err(gone()) };
        let shared = stay.shared.clone();
        let prepare = move || prepare(&shared, request, flow, link, admission, arrived);
        let job = tokio::task::spawn_blocking(prepare).await.map_err(|error| Refusal(FailCode::Engine, error.to_string()))??;
        stay.engine.submit_embed(job).map_err(|_| gone())
    }
}

fn prepare(shared: &Shared, request: Embed, flow: Flow, link: Link, admission: Admission, arrived: Instant) -> Result<EmbedJob, Refusal> {
    let model = shared.model.get().ok_or_else(gone)?;
    if request.inputs.is_empty() || request.inputs.len() > MAX_INPUTS {
        return Err(Refusal(FailCode::Invalid, format!("input: there must be 1 to {MAX_INPUTS}, not {}", request.inputs.len())));
    }
    let invalid = |message| Refusal(FailCode::Invalid, message);
    let inputs = request.inputs.iter().map(|input| model.input(input)).collect::<Result<Vec<_>, _>>().map_err(invalid)?;
    let all: usize = inputs.iter().map(Vec::len).sum();
    // The query of pairs was counted once for each document, by whoever asks.
    if all > MAX_TOKENS && model.info.kind == ModelKind::Embedding {
        return Err(invalid(format!("input: all inputs together have {all} tokens, at most {MAX_TOKENS} are taken")));
    }
    let fit = |(at, tokens)| fit(model, at, tokens, request.truncate);
    let inputs = inputs.into_iter().enumerate().map(fit).collect::<Result<Vec<_>, _>>()?;
    Ok(EmbedJob { id: request.id, flow, weight: request.weight.max(1), inputs, link, arrived, admission })
}

/// The tokens if they fit, or as many as do if that is wished.
fn fit(model: &Model, at: usize, mut tokens: Vec<LlamaToken>, truncate: bool) -> Result<Vec<LlamaToken>, Refusal> {
    let most = usize::try_from(model.info.context_length).unwrap_or(usize::MAX);
    if tokens.is_empty() {
        return Err(Refusal(FailCode::Invalid, format!("input: number {at} is empty")));
    }
    if tokens.len() > most && !truncate {
        let message = format!("input {at} has {} tokens, at most {most} fit into this model's context", tokens.len());
        return Err(Refusal(FailCode::ContextLengthExceeded, message));
    }
    if tokens.len() > most {
        // What ends an input stays: models are trained with it.
        let end = tokens[tokens.len() - 1];
        tokens.truncate(most - 1);
        tokens.push(end);
    }
    Ok(tokens)
}
