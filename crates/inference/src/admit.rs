//! The door of the funnel: every use of a model comes through [`Inference::admit`].

use crate::{
    Inference,
    cache::{self, CacheUse, Look, Making},
    catalogue::ModelConfig,
    clearance::Bounds,
    drive::Driver,
    generation::{Generation, SharedRoute},
    guard::{self, Watch},
    images::{check_images, has_images},
    meter::{self, Reservation, Ticket},
    observe::{Observed, reason},
    work::Work,
};
use contract::{model::Sampling, usage::Purpose};
use domain::{Actor, Error, Result};
use std::{
    collections::{BTreeMap, HashSet},
    ops::ControlFlow,
    sync::{Arc, Mutex, OnceLock, atomic::AtomicBool},
};
use telemetry::carried;
use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;
use worker_protocol::{ChatMessage, ChatRole, Format, Generate, Priority, Tool, ToolChoice};

/// Completions of one request.
const MOST_CHOICES: u32 = 16;
/// Alternatives told for each token.
const MOST_LOGPROBS: u8 = 20;
const MOST_STOPS: usize = 16;
/// Bytes of one of them.
const LONGEST_STOP: usize = 256;
/// Tokens whose scores may be changed.
const MOST_BIASES: usize = 1024;
/// Bytes that a token stands for at most, as far as a prompt can be refused for its length without counting.
const LONGEST_TOKEN: usize = 256;

/// What somebody wants from a model.
#[derive(Clone, Debug)]
pub struct Request {
    pub purpose: Purpose,
    /// `None` takes the catalogue's default.
    pub model: Option<String>,
    /// Oldest first; never empty.
    pub messages: Vec<ChatMessage>,
    /// The last message is an unfinished answer that the completion goes on from.
    pub continue_last: bool,
    pub sampling: Sampling,
    /// Nothing of it may outlive the worker's memory, as for temporary chats.
    pub transient: bool,
    pub options: Options,
}

/// What else a completion may be asked to be; the default is plain text.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Texts that end a completion.
    pub stop: Vec<String>,
    /// What it must look like.
    pub format: Option<Format>,
    /// Added to the scores of tokens, -100 to 100.
    pub logit_bias: BTreeMap<i32, f32>,
    /// Tell log-probabilities, with so many alternatives.
    pub logprobs: Option<u8>,
    /// What the model may call.
    pub tools: Vec<Tool>,
    pub tool_choice: ToolChoice,
    /// At most one call in an answer.
    pub single_tool_call: bool,
    /// Let a model that can think before it answers do so; `None`: as it is made.
    pub think: Option<bool>,
    /// Completions of the same prompt; 0 counts as 1.
    pub n: u32,
    pub priority: Priority,
    /// So many messages at the beginning are kept computed.
    pub pinned_messages: u32,
    /// Only if a request before this one began with them, too.
    pub pin_known_only: bool,
    /// The text of the only message is the whole prompt, without the model's template.
    pub raw: bool,
    /// May it come out of the response cache?
    pub cache: CacheUse,
}

impl Options {
    /// For a program's request with these messages: its instructions are kept computed, once they came a second time. They may
    /// be other ones in each request, and those of many would be kept for nobody.
    #[must_use]
    pub fn pinning_known(self, messages: &[ChatMessage]) -> Self {
        let leading = messages.iter().take_while(|message| message.role == ChatRole::System).count();
        Self { pinned_messages: u32::try_from(leading).unwrap_or(u32::MAX), pin_known_only: true, ..self }
    }
}

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
        let images = has_images(&request.messages);
        let context = self.inner.catalogue.largest_context(actor, &admitted.model, request.purpose, images);
        let image = if images { self.inner.catalogue.largest_image(actor, &admitted.model, request.purpose) } else { 0 };
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
        let bounds = self.bounds(actor, &model, request.purpose, has_images(&request.messages))?;
        if guard::bytes(&request.messages) / LONGEST_TOKEN > usize::try_from(model.context_length).unwrap_or(usize::MAX) {
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
    pub(crate) fn bounds(&self, actor: &Actor, model: &Arc<ModelConfig>, purpose: Purpose, images: bool) -> Result<Bounds> {
        let bounds = self.inner.catalogue.bounds(actor, model, purpose, images);
        self.inner.pool.reach(&bounds)?;
        Ok(bounds)
    }

    /// See [`Catalogue::grant`](crate::Catalogue); who was refused is counted for the audit trail.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub(crate) fn grant(&self, actor: &Actor, wanted: Option<&str>, purpose: Purpose) -> Result<&Arc<ModelConfig>> {
        let catalogue = &self.inner.catalogue;
        let there = |model: &Arc<ModelConfig>| self.inner.pool.exists(&catalogue.bounds(actor, model, purpose, false));
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

/// Refuses what no worker could answer, before anything is reserved for it.
pub(crate) fn check(request: &Request) -> Result<()> {
    let Some(last) = request.messages.last() else {
        return Err(Error::invalid("messages", "messages_empty", "There is no message to answer."));
    };
    if request.continue_last && last.role != ChatRole::Assistant {
        return Err(Error::invalid("messages", "nothing_to_continue", "Only an answer can be continued."));
    }
    if request.options.raw && (request.messages.len() != 1 || request.continue_last || !request.options.tools.is_empty()) {
        return Err(Error::invalid("prompt", "raw_prompt", "A prompt without a template is one text, without tools."));
    }
    let sampling = &request.sampling;
    within("temperature", sampling.temperature, 0.0, 2.0)?;
    within("top_p", sampling.top_p, 0.0, 1.0)?;
    within("min_p", sampling.min_p, 0.0, 1.0)?;
    within("typical_p", sampling.typical_p, 0.0, 1.0)?;
    within("repeat_penalty", sampling.repeat_penalty, 1.0, 2.0)?;
    within("frequency_penalty", sampling.frequency_penalty, -2.0, 2.0)?;
    within("presence_penalty", sampling.presence_penalty, -2.0, 2.0)?;
    if sampling.max_tokens == Some(0) {
        return Err(Error::invalid("max_tokens", "out_of_range", "max_tokens must be at least 1."));
    }
    check_options(&request.options)
}

fn within(field: &'static str, value: Option<f32>, least: f32, most: f32) -> Result<()> {
    match value {
        // `contains` is false for NaN.
        Some(value) if !(least..=most).contains(&value) => {
            Err(Error::invalid(field, "out_of_range", format!("{field} must lie between {least} and {most}.")))
        }
        _ => Ok(()),
    }
}

fn check_options(options: &Options) -> Result<()> {
    let out_of_range = |field, message: String| Err(Error::invalid(field, "out_of_range", message));
    if options.n > MOST_CHOICES {
        return out_of_range("n", format!("n must be at most {MOST_CHOICES}."));
    }
    if options.logprobs.is_some_and(|logprobs| logprobs > MOST_LOGPROBS) {
        return out_of_range("logprobs", format!("At most {MOST_LOGPROBS} alternatives can be told."));
    }
    if options.logit_bias.values().any(|bias| !(-100.0..=100.0).contains(bias)) {
        return out_of_range("logit_bias", "Each bias must lie between -100 and 100.".into());
    }
    if options.stop.len() > MOST_STOPS || options.stop.iter().any(|stop| stop.len() > LONGEST_STOP) {
        return out_of_range("stop", format!("There can be at most {MOST_STOPS} stop texts of {LONGEST_STOP} bytes each."));
    }
    if options.logit_bias.len() > MOST_BIASES {
        return out_of_range("logit_bias", format!("At most {MOST_BIASES} tokens can have a bias."));
    }
    check_tools(options)
}

fn check_tools(options: &Options) -> Result<()> {
    let mut names = HashSet::new();
    for tool in &options.tools {
        let fits = (1..=64).contains(&tool.name.len()) && tool.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        if !fits {
            return Err(Error::invalid("tools", "tool_name", "A tool's name has 1 to 64 letters, digits, `_`, `-` or `.`."));
        }
        if !names.insert(tool.name.as_str()) {
            return Err(Error::invalid("tools", "tool_twice", format!("The tool {} occurs twice.", tool.name)));
        }
    }
    match &options.tool_choice {
        ToolChoice::Required if names.is_empty() => Err(Error::invalid("tool_choice", "no_tools", "There is no tool to choose from.")),
        ToolChoice::Named(name) if !names.contains(name.as_str()) => {
            Err(Error::invalid("tool_choice", "unknown_tool", "tool_choice names a tool that is not in tools."))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST_CHOICES, Options, Request, check};
    use contract::{model::Sampling, usage::Purpose};
    use domain::Error;
    use worker_protocol::{ChatMessage, ChatRole, Tool, ToolChoice};

    fn request(sampling: Sampling) -> Request {
        let messages = vec![ChatMessage::new(ChatRole::User, "hi")];
        Request {
            purpose: Purpose::Chat,
            model: None,
            messages,
            continue_last: false,
            sampling,
            transient: false,
            options: Options::default(),
        }
    }

    #[test]
    fn sampling_out_of_range_is_refused_by_name() {
        assert!(check(&request(Sampling::default())).is_ok());
        let wrong = [
            ("temperature", Sampling { temperature: Some(f32::NAN), ..Sampling::default() }),
            ("top_p", Sampling { top_p: Some(1.1), ..Sampling::default() }),
            ("min_p", Sampling { min_p: Some(-0.1), ..Sampling::default() }),
            ("typical_p", Sampling { typical_p: Some(1.5), ..Sampling::default() }),
            ("frequency_penalty", Sampling { frequency_penalty: Some(-2.5), ..Sampling::default() }),
            ("presence_penalty", Sampling { presence_penalty: Some(f32::INFINITY), ..Sampling::default() }),
            ("repeat_penalty", Sampling { repeat_penalty: Some(2.5), ..Sampling::default() }),
            ("max_tokens", Sampling { max_tokens: Some(0), ..Sampling::default() }),
        ];
        for (name, sampling) in wrong {
            let refused = check(&request(sampling));
            assert!(matches!(refused, Err(Error::Invalid { field, .. }) if field == name), "{name}: {refused:?}");
        }
    }

    #[test]
    fn options_out_of_range_are_refused_by_name() {
        let tool = |name: &str| Tool { name: name.into(), description: None, parameters: serde_json::json!({}) };
        let wrong = [
            ("n", Options { n: MOST_CHOICES + 1, ..Options::default() }),
            ("logprobs", Options { logprobs: Some(21), ..Options::default() }),
            ("logit_bias", Options { logit_bias: [(1, 101.0)].into(), ..Options::default() }),
            ("stop", Options { stop: vec!["x".into(); 17], ..Options::default() }),
            ("tools", Options { tools: vec![tool("no spaces")], ..Options::default() }),
            ("tools", Options { tools: vec![tool("twice"), tool("twice")], ..Options::default() }),
            ("tool_choice", Options { tool_choice: ToolChoice::Required, ..Options::default() }),
            ("tool_choice", Options { tools: vec![tool("a")], tool_choice: ToolChoice::Named("b".into()), ..Options::default() }),
        ];
        for (name, options) in wrong {
            let refused = check(&Request { options, ..request(Sampling::default()) });
            assert!(matches!(refused, Err(Error::Invalid { field, .. }) if field == name), "{name}: {refused:?}");
        }
    }

    #[test]
    fn only_an_answer_can_be_continued() {
        let refused = check(&Request { continue_last: true, ..request(Sampling::default()) });
        assert!(matches!(refused, Err(Error::Invalid { code: "nothing_to_continue", .. })));
        let refused = check(&Request { messages: Vec::new(), ..request(Sampling::default()) });
        assert!(matches!(refused, Err(Error::Invalid { code: "messages_empty", .. })));
    }
}
