//! Vectors of texts and scores of documents: the funnel's other product.

use crate::{
    Inference,
    admit::Found,
    cache::{self, CacheUse},
    generation::{Ended, Generation, Output, Route},
    holds::Holds,
    meter::Reservation,
    observe::Observed,
    work::Work,
};
use contract::{chat::AnswerStats, ids::UsageId, usage::Purpose};
use domain::{Actor, Error, Result};
use std::ops::ControlFlow;
use worker_protocol::{Embed, EmbedInput, Priority};

/// Inputs of one request, as OpenAI has it.
pub const MOST_INPUTS: usize = 2048;

/// Token ids of one request, as OpenAI has it. Texts are counted by whoever runs the model.
pub const MOST_TOKENS: usize = 300_000;

/// Bytes of all inputs of one request.
const MOST_BYTES: usize = 8 * 1024 * 1024;

/// What somebody wants turned into vectors or scores.
#[derive(Clone, Debug, Default)]
pub struct VectorRequest {
    /// `None` takes the first one that is granted.
    pub model: Option<String>,
    /// Cut what is longer than the model's context instead of refusing it.
    pub truncate: bool,
    pub priority: Priority,
    /// Numbers of each vector; fewer than the model makes are the first ones, brought to length 1 again, which suits
    /// models that were trained for it (Matryoshka representation learning, Kusupati et al. 2022). `None`: all.
    pub dimensions: Option<usize>,
    /// May they come out of the response cache?
    pub cache: CacheUse,
}

/// The result, and what it took.
#[derive(Clone, Debug)]
pub struct Vectors {
    /// The ledger's id of this use.
    pub usage: UsageId,
    /// The id of the model that was asked; `stats` has the one that answered.
    pub asked: String,
    /// For each input, in order: its vector of length 1, or for a reranker one number, the better the higher.
    pub vectors: Vec<Vec<f32>>,
    pub stats: AnswerStats,
    pub route: Option<Route>,
}

impl Inference {
    /// Vectors of texts, or of their tokens.
    ///
    /// # Errors
    /// As [`Inference::admit`]; also [`Error::Invalid`] for a text that is longer than the model's context.
    pub async fn embed(&self, actor: &Actor, inputs: Vec<EmbedInput>, request: VectorRequest) -> Result<Vectors> {
        let dimensions = request.dimensions;
        if dimensions == Some(0) {
            return Err(Error::invalid("dimensions", "out_of_range", "dimensions must be at least 1."));
        }
        let mut made = self.vectors(actor, Purpose::Embedding, inputs, request).await?;
        if let Some(dimensions) = dimensions {
            made.vectors.iter_mut().try_for_each(|vector| shorten(vector, dimensions))?;
        }
        Ok(made)
    }

    /// How well each document answers a query; comparable only with each other.
    ///
    /// # Errors
    /// As [`Inference::embed`].
    pub async fn rerank(&self, actor: &Actor, query: &str, documents: Vec<String>, request: VectorRequest) -> Result<Vectors> {
        counted(documents.len())?;
        // The query goes along with each document.
        let bytes = documents.iter().map(String::len).sum::<usize>().saturating_add(query.len().saturating_mul(documents.len()));
        if bytes > MOST_BYTES {
            let message =
                format!("Query and documents together may have at most {} MiB, the query once for each document.", MOST_BYTES >> 20);
            return Err(Error::invalid("documents", "too_large", message));
        }
        let pair = |document| EmbedInput::Pair { query: query.to_owned(), document };
        self.vectors(actor, Purpose::Rerank, documents.into_iter().map(pair).collect(), request).await
    }

    async fn vectors(&self, actor: &Actor, purpose: Purpose, mut inputs: Vec<EmbedInput>, request: VectorRequest) -> Result<Vectors> {
        let observed = Observed::begin(self.metrics().clone(), purpose, actor.tenant());
        let found = self.look_at_inputs(actor, purpose, &mut inputs, &request, &observed).await;
        let count = inputs.len();
        let admitted = match self.way(actor, purpose, found, observed).await? {
            ControlFlow::Continue(admitted) => admitted,
            ControlFlow::Break(generation) => return collect(generation, count).await,
        };
        let context = self.catalogue().largest_context(actor, &admitted.model, purpose, Holds::of_inputs(&inputs));
        let reservation = Reservation::of_inputs(&admitted.model, context, purpose, inputs.iter().map(bytes));
        let VectorRequest { truncate, priority, .. } = request;
        let work = move |ticket: &crate::meter::Ticket, model| {
            let (id, tenant, weight) = (ticket.id().0, ticket.tenant(), ticket.weight());
            Work::Vectors(Embed { id, model, tenant, weight, priority, inputs, truncate })
        };
        collect(self.begin(actor, admitted, reservation, work).await?, count).await
    }

    /// The stages before the meter.
    async fn look_at_inputs(
        &self,
        actor: &Actor,
        purpose: Purpose,
        inputs: &mut Vec<EmbedInput>,
        request: &VectorRequest,
        observed: &Observed,
    ) -> Result<Found> {
        let model = self.grant(actor, request.model.as_deref(), purpose)?.clone();
        observed.granted(&model.id);
        counted(inputs.len())?;
        let bounds = self.bounds(actor, &model, purpose, Holds::of_inputs(inputs))?;
        if inputs.iter().map(tokens).sum::<usize>() > MOST_TOKENS {
            return Err(Error::invalid("input", "too_large", format!("All inputs together may have at most {MOST_TOKENS} tokens.")));
        }
        if inputs.iter().map(bytes).sum::<usize>() > MOST_BYTES {
            return Err(Error::invalid("input", "too_large", format!("All inputs together may have at most {} MiB.", MOST_BYTES >> 20)));
        }
        if let Some(at) = inputs.iter().position(|input| bytes(input) == 0) {
            return Err(Error::invalid("input", "empty", format!("Input {at} is empty.")));
        }
        let rules = self.guards().of(actor.tenant()).await?;
        let content = || cache::of_inputs(purpose, inputs, request.truncate);
        let asked = self.asked(actor, &model, request.cache, rules.as_ref(), content).await;
        self.guards().inputs(actor, rules, inputs).await?;
        Ok(Found { model, bounds, watch: None, look: asked.look().await })
    }
}

fn counted(inputs: usize) -> Result<()> {
    let fits = (1..=MOST_INPUTS).contains(&inputs);
    if fits { Ok(()) } else { Err(Error::invalid("input", "out_of_range", format!("There must be 1 to {MOST_INPUTS} inputs."))) }
}

async fn collect(mut generation: Generation, count: usize) -> Result<Vectors> {
    let (usage, asked) = (generation.usage_id(), generation.model().to_owned());
    let mut vectors = vec![Vec::new(); count];
    while let Some(output) = generation.next().await {
        match output {
            // A second worker that took over begins anew.
            Output::Vectors { first, vectors: some } => {
                let first = usize::try_from(first).unwrap_or(usize::MAX);
                vectors.iter_mut().skip(first).zip(some).for_each(|(place, vector)| *place = vector);
            }
            Output::End(ended) => match *ended {
                Ended { error: Some(error), .. } => return Err(error),
                Ended { stats, .. } if vectors.iter().all(|vector| !vector.is_empty()) => {
                    return Ok(Vectors { usage, asked, vectors, stats, route: generation.route() });
                }
                _ => break,
            },
            _ => {}
        }
    }
    Err(Error::internal("a model ended without a vector for each input"))
}

fn shorten(vector: &mut Vec<f32>, dimensions: usize) -> Result<()> {
    if dimensions > vector.len() {
        let message = format!("This model's vectors have {} dimensions.", vector.len());
        return Err(Error::invalid("dimensions", "out_of_range", message));
    }
    if dimensions < vector.len() {
        vector.truncate(dimensions);
        *vector = worker_protocol::normalised(vector);
    }
    Ok(())
}

/// Of an input that was given as such.
fn tokens(input: &EmbedInput) -> usize {
    if let EmbedInput::Tokens(tokens) = input { tokens.len() } else { 0 }
}

/// At least as many as it has tokens.
fn bytes(input: &EmbedInput) -> usize {
    match input {
        EmbedInput::Text(text) => text.len(),
        EmbedInput::Tokens(tokens) => tokens.len(),
        EmbedInput::Pair { query, document } => {
            if document.is_empty() {
                0
            } else {
                query.len() + document.len()
            }
        }
    }
}
