//! The door of the funnel: every use of a model comes through [`Inference::admit`].

mod check;
mod request;

pub(crate) use check::check;
pub use request::{Options, Request};

use crate::{
    Inference,
    cache::{self, Look, Making},
    catalogue::ModelConfig,
    clearance::Bounds,
    drive::Driver,
    generation::{Generation, SharedRoute},
    guard::{self, Watch},
    holds::{Holds, tokens},
    images::check_images,
    meter::{self, Reservation, Ticket},
    observe::{Observed, reason},
    work::Work,
};
use contract::{model::Sampling, usage::Purpose};
use domain::{Actor, Error, Result};
use std::{
    ops::ControlFlow,
    sync::{Arc, Mutex, OnceLock, atomic::AtomicBool},
};
use telemetry::carried;
use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;
use worker_protocol::Generate;

/// Bytes that a token stands for at most, as far as a prompt can be refused for its length without counting.
const LONGEST_TOKEN: usize = 256;

/// What the stages before the meter found.
pub(crate) struct Found {
    pub model: Arc<ModelConfig>,
    pub bounds: Bounds,
    /// What a guardrail has to see.
    pub watch: Option<Box<Watch>>,
    pub look: Look,
}

/// What may be asked of a model now.
pub(crate) struct Admitted {
    pub model: Arc<ModelConfig>,
    bounds: Bounds,
    watch: Option<Box<Watch>>,
    making: Making,
    observed: Observed,
}

impl Inference {
    /// Runs the stages and starts the completion. Returns once the use is written into the ledger; waiting
    /// for a worker is part of the [`Generation`], whose end says so if none came.
    ///
    /// The completion belongs to a driver of its own: dropping the future of this call, like dropping the
    /// generation, ends it as *disconnected*, settled.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a model that is not granted, [`Error::Forbidden`] where nobody who runs it may see the data,
    /// [`Error::Invalid`] for a request that makes no sense, [`Error::GuardrailBlocked`] for one that the organisation does not
    /// allow, [`Error::Unavailable`] if the use cannot be metered or the process is shutting down.
    pub async fn admit(&self, actor: &Actor, mut request: Request) -> Result<Generation> {
        let observed = Observed::begin(self.inner.metrics.clone(), request.purpose, actor.tenant());
        let found = self.look_at(actor, &mut request, &observed).await;
        let admitted = match self.way(actor, request.purpose, found, observed).await? {
            ControlFlow::Continue(admitted) => admitted,
            ControlFlow::Break(generation) => return Ok(generation),
        };
        let holds = Holds::of(&request.messages);
        let context = self.inner.catalogue.largest_context(actor, &admitted.model, request.purpose, holds);
        let image = if holds == Holds::Images { self.inner.catalogue.largest_image(actor, &admitted.model, request.purpose) } else { 0 };
        let reservation = Reservation::of(&admitted.model, context, image, &request);
        let work = |ticket: &Ticket, model| Work::Completion(Box::new(generate(ticket, model, request)));
        self.begin(actor, admitted, reservation, work).await
    }

    /// Goes on behind the stages before the meter: notes a refusal, or breaks off with an answer that is there and told again.
    ///
    /// # Errors
    /// The refusal; as [`Inference::again`].
    pub(crate) async fn way(
        &self,
        actor: &Actor,
        purpose: Purpose,
        found: Result<Found>,
        observed: Observed,
    ) -> Result<ControlFlow<Generation, Admitted>> {
        let Found { model, bounds, watch, look } = match found {
            Ok(found) => found,
            Err(error) => return Err(observed.refused(error)),
        };
        match look {
            Look::Make(making) => Ok(ControlFlow::Continue(Admitted { model, bounds, watch, making, observed })),
            Look::Hit(hit) => {
                let warnings = watch.map_or_else(Vec::new, |watch| watch.warnings().to_vec());
                self.again(actor, Reservation::free(&model.id, purpose), hit, warnings, observed).await.map(ControlFlow::Break)
            }
        }
    }

    /// The stages before the meter: may it be asked, and does it make sense?
    async fn look_at(&self, actor: &Actor, request: &mut Request, observed: &Observed) -> Result<Found> {
        let model = self.grant(actor, request.model.as_deref(), request.purpose)?.clone();
        observed.granted(&model.id);
        observed.asked(request);
        check(request)?;
        check_images(&model, &request.messages)?;
        let bounds = self.bounds(actor, &model, request.purpose, Holds::of(&request.messages))?;
        let context = usize::try_from(model.context_length).unwrap_or(usize::MAX);
        if guard::bytes(&request.messages) / LONGEST_TOKEN > context || tokens(&request.messages) > context {
            let message = "The conversation is longer than the model's context.";
            return Err(Error::invalid("messages", "context_length_exceeded", message));
        }
        let rules = self.guards().of(actor.tenant()).await?;
        // By what was asked, before anything of it is masked: what goes out has it again.
        let asked = self.asked(actor, &model, request.options.cache, rules.as_ref(), || cache::of_completion(request)).await;
        let watch = self.guards().completion(actor, rules, request).await?;
        Ok(Found { model, bounds, watch, look: asked.look().await })
    }

    /// How far a request to a granted model may go.
    ///
    /// # Errors
    /// [`Error::Forbidden`] where nobody is so near.
    pub(crate) fn bounds(&self, actor: &Actor, model: &Arc<ModelConfig>, purpose: Purpose, holds: Holds) -> Result<Bounds> {
        let bounds = self.inner.catalogue.bounds(actor, model, purpose, holds);
        self.inner.pool.reach(&bounds)?;
        Ok(bounds)
    }

    /// See [`Catalogue::grant`](crate::Catalogue); who was refused is counted for the audit trail.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub(crate) fn grant(&self, actor: &Actor, wanted: Option<&str>, purpose: Purpose) -> Result<&Arc<ModelConfig>> {
        let catalogue = &self.inner.catalogue;
        let there = |model: &Arc<ModelConfig>| self.inner.pool.exists(&catalogue.bounds(actor, model, purpose, Holds::Texts));
        catalogue.grant_where(actor, wanted, purpose, there).inspect_err(|error| {
            // Nobody asks for titles themselves.
            if purpose != Purpose::Title {
                // A name that nothing has is whatever somebody sent: it stays out.
                let model = wanted.and_then(|name| catalogue.id_of(name)).unwrap_or_default();
                self.inner.meter.db().refusals().of(actor, reason(error), model);
            }
        })
    }

    /// Opens the use and starts its driver.
    pub(crate) async fn begin(
        &self,
        actor: &Actor,
        admitted: Admitted,
        reservation: Reservation,
        work: impl FnOnce(&Ticket, String) -> Work + Send + 'static,
    ) -> Result<Generation> {
        let Admitted { model, bounds, watch, making, observed } = admitted;
        let start = |observed, tell| {
            let admitted = Admitted { model, bounds, watch, making, observed };
            self.clone().start(actor.clone(), admitted, reservation, work, tell)
        };
        self.apart(observed, start).await
    }

    /// Runs a task that tells a generation. Spawned before the ledger is touched: a caller that goes away between the two must
    /// not leave an open use behind.
    pub(crate) async fn apart<F>(
        &self,
        observed: Observed,
        task: impl FnOnce(Observed, oneshot::Sender<Result<Generation>>) -> F,
    ) -> Result<Generation>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if self.inner.tracker.is_closed() {
            return Err(observed.refused(Error::unavailable("model", Some(meter::RETRY_AFTER_S))));
        }
        let (tell, told) = oneshot::channel();
        self.inner.tracker.spawn(carried(task(observed, tell)));
        told.await.unwrap_or_else(|_| Err(Error::internal("the admission task ended without a result")))
    }

    /// Opens the use, tells its generation and drives it. What only opening it takes is given back before it is driven: a use
    /// waits for its model most of the time, and there are as many of them as streams.
    fn start(
        self,
        actor: Actor,
        admitted: Admitted,
        reservation: Reservation,
        work: impl FnOnce(&Ticket, String) -> Work + Send + 'static,
        tell: oneshot::Sender<Result<Generation>>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let opening = Box::pin(self.open(actor, admitted, reservation, work, tell));
        async move {
            let opened = opening.await;
            if let Some((driver, watch)) = opened {
                driver.run(watch).await;
            }
        }
    }

    /// Opens the use and tells its generation, or why there is none. What drives it, with what sees its answer.
    async fn open(
        self,
        actor: Actor,
        admitted: Admitted,
        reservation: Reservation,
        work: impl FnOnce(&Ticket, String) -> Work,
        tell: oneshot::Sender<Result<Generation>>,
    ) -> Option<(Box<Driver>, Option<Box<Watch>>)> {
        let Admitted { model, bounds, watch, making, observed } = admitted;
        let admitted = Instant::now();
        let ticket = match self.inner.meter.open(actor, reservation, bounds.fallbacks()).await {
            Ok(ticket) => ticket,
            Err(error) => {
                // The caller may be gone, and then nobody wants to know.
                let _ = tell.send(Err(observed.refused(error)));
                return None;
            }
        };
        observed.opened(ticket.id());
        // A budget that covers no longer answer than this one may become: another one would be longer.
        let recording = making.recording.filter(|_| ticket.longest_answer().is_none());
        let (cancel, route) = (CancellationToken::new(), SharedRoute::default());
        let shared = recording.is_some();
        let (generation, outputs) = Generation::new(ticket.id(), model.id.clone(), cancel.clone(), route.clone(), making.cached, shared);
        let fallbacks = ticket.fallbacks();
        let work = work(&ticket, model.id.clone());
        // If the caller is gone, the generation is dropped here and the driver sees that at once.
        let _ = tell.send(Ok(generation));
        let driver = Driver {
            pool: self.inner.pool.clone(),
            ticket,
            work: Mutex::new(Arc::new(work)),
            fallbacks,
            bounds,
            outputs,
            recording: Mutex::new(recording),
            cancel,
            stopping: CancellationToken::new(),
            cut: AtomicBool::new(false),
            blocked: OnceLock::new(),
            ending: self.inner.ending.clone(),
            route,
            admitted,
            observed,
        };
        Some((Box::new(driver), watch))
    }
}

/// What the worker is told.
fn generate(ticket: &Ticket, model: String, request: Request) -> Generate {
    let Options {
        stop,
        format,
        logit_bias,
        logprobs,
        tools,
        tool_choice,
        single_tool_call,
        think,
        n,
        priority,
        pinned_messages,
        pin_known_only,
        raw,
        cache: _,
    } = request.options;
    Generate {
        id: ticket.id().0,
        model,
        weight: ticket.weight(),
        priority,
        pinned_messages,
        pin_known_only,
        raw,
        stop,
        format,
        logit_bias,
        logprobs,
        ignore_end: false,
        speculate: None,
        tools,
        tool_choice,
        single_tool_call,
        think,
        n,
        partition: ticket.partition(),
        tenant: ticket.tenant(),
        transient: request.transient,
        messages: request.messages,
        continue_last: request.continue_last,
        sampling: Sampling { max_tokens: ticket.longest_answer().or(request.sampling.max_tokens), ..request.sampling },
    }
}
