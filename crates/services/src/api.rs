//! What programs do with models: everything behind `/v1`.

use crate::shared::Shared;
use contract::{model::Sampling, usage::Purpose};
use domain::{Action, Actor, Result};
use futures::future::{BoxFuture, FutureExt};
use inference::{ChatMessage, EmbedInput, Generation, Offered, Options, Priority, Request, VectorRequest, Vectors};
use std::sync::Arc;
use telemetry::Trace;
use tracing::{Instrument, Span};

/// A completion for a program.
#[derive(Clone, Debug)]
pub struct Completion {
    pub model: String,
    /// Oldest first.
    pub messages: Vec<ChatMessage>,
    pub sampling: Sampling,
    pub options: Options,
}

impl Completion {
    fn request(self, priority: Priority) -> Request {
        let Self { model, messages, sampling, options } = self;
        let options = Options { priority, ..options };
        Request { purpose: Purpose::Api, model: Some(model), messages, continue_last: false, sampling, transient: false, options }
    }
}

/// See the module.
#[derive(Clone)]
pub struct Api {
    shared: Arc<Shared>,
    priority: Priority,
}

impl Api {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, priority: Priority::default() }
    }

    /// The same, for those who wait less, or more.
    pub(crate) fn at(&self, priority: Priority) -> Self {
        Self { shared: self.shared.clone(), priority }
    }

    /// Models that the key may use, of every kind.
    ///
    /// # Errors
    /// [`domain::Error::Forbidden`] without the scope.
    #[expect(clippy::unused_async, reason = "all service methods are async: callers need not know which ones wait")]
    pub async fn models(&self, actor: &Actor) -> Result<Vec<Offered>> {
        actor.may(Action::UseModels)?;
        Ok(self.shared.inference.offered(actor))
    }

    /// Begins a completion. Whoever drops it cancels it and pays for what was produced.
    ///
    /// # Errors
    /// As [`inference::Inference::admit`]; [`domain::Error::Forbidden`] without the scope.
    pub async fn complete(&self, actor: &Actor, completion: Completion) -> Result<Generation> {
        actor.may(Action::UseModels)?;
        self.shared.inference.admit(actor, completion.request(self.priority)).await
    }

    /// For completions that one request wants one after another, the later ones while its answer is being sent.
    #[must_use]
    pub fn asking(&self, actor: Actor) -> Asking {
        Asking { api: self.clone(), actor, trace: Trace::here(), span: Span::current() }
    }

    /// How many tokens a completion's prompt has. Costs nothing.
    ///
    /// # Errors
    /// As [`inference::Inference::count_tokens`]; [`domain::Error::Forbidden`] without the scope.
    pub async fn count_tokens(&self, actor: &Actor, completion: Completion) -> Result<u32> {
        actor.may(Action::UseModels)?;
        self.shared.inference.count_tokens(actor, completion.request(self.priority)).await
    }

    /// Vectors of texts, or of their tokens.
    ///
    /// # Errors
    /// As [`inference::Inference::embed`]; [`domain::Error::Forbidden`] without the scope.
    pub async fn embed(&self, actor: &Actor, inputs: Vec<EmbedInput>, request: VectorRequest) -> Result<Vectors> {
        actor.may(Action::UseModels)?;
        self.shared.inference.embed(actor, inputs, VectorRequest { priority: self.priority, ..request }).await
    }

    /// Scores of documents for a query.
    ///
    /// # Errors
    /// As [`inference::Inference::rerank`]; [`domain::Error::Forbidden`] without the scope.
    pub async fn rerank(&self, actor: &Actor, query: &str, documents: Vec<String>, request: VectorRequest) -> Result<Vectors> {
        actor.may(Action::UseModels)?;
        self.shared.inference.rerank(actor, query, documents, VectorRequest { priority: self.priority, ..request }).await
    }
}

/// Begins completions of one request, whoever polls that: they stay within its trace, and their log lines keep its id.
#[derive(Clone)]
pub struct Asking {
    api: Api,
    actor: Actor,
    trace: Trace,
    span: Span,
}

impl Asking {
    /// As [`Api::complete`].
    pub fn complete(&self, completion: Completion) -> BoxFuture<'static, Result<Generation>> {
        let Self { api, actor, trace, span } = self.clone();
        trace.scope(async move { api.complete(&actor, completion).await }).instrument(span).boxed()
    }
}
