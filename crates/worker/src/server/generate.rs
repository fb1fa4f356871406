//! `POST /generate`: checks a request, tokenises its prompt and hands it to the engine.

use std::time::Instant;

use llama_cpp_2::token::LlamaToken;
use worker_protocol::{FailCode, Format, Generate, ModelKind, Tool, ToolChoice};

use super::{Refusal, Worker, gone};
use crate::constraint::Constraint;
use crate::engine::kept::transient;
use crate::engine::queue::flows::Flow;
use crate::engine::{Choice, Job, Link};
use crate::model::{Model, Prompt};
use crate::residence::Guest;
use crate::sampling::Params;
use crate::shared::{Admission, Shared};
use crate::template::Conversation;
use crate::tools::{Family, Thoughts, after_thoughts, forced, parser};

const MAX_STOPS: usize = 16;
const MAX_STOP_BYTES: usize = 256;
/// Most completions of one prompt.
const MAX_CHOICES: u32 = 16;
/// Most alternatives told for a token.
const MAX_LOGPROBS: u8 = 20;
/// What is said of a model that was never taught to write what belongs between two texts.
const NO_MIDDLE: &str = "suffix: this model cannot fill in the middle; leave suffix out or take another model";

impl Worker {
    /// Checks the request, tokenises its prompt and hands it to the engine.
    pub(super) async fn generate(&self, request: Generate, link: Link) -> Result<(), Refusal> {
        let arrived = Instant::now();
        if request.n > MAX_CHOICES {
            return Err(Refusal(FailCode::Invalid, format!("n must be at most {MAX_CHOICES}")));
        }
        let Guest { stay, admissions } = self.enter(&request.model, &flow(&request), request.n.max(1), &link).await?;
        let shared = stay.shared.clone();
        // A long prompt takes milliseconds; the engine's steps and other connections go on meanwhile.
        let prepare = move || prepare(&shared, &request, &link, admissions, arrived);
        let jobs = tokio::task::spawn_blocking(prepare).await.map_err(|error| Refusal(FailCode::Engine, error.to_string()))??;
        jobs.into_iter().try_for_each(|job| stay.engine.submit(job)).map_err(|_| gone())
    }
}

/// The jobs of a request, one for each completion.
fn prepare(shared: &Shared, request: &Generate, link: &Link, admissions: Vec<Admission>, arrived: Instant) -> Result<Vec<Job>, Refusal> {
    let model = shared.model.get().ok_or_else(gone)?;
    if request.partition.is_empty() || request.partition.contains('\0') {
        return Err(invalid("partition must not be empty and hold no NUL".into()));
    }
    if request.stop.len() > MAX_STOPS || request.stop.iter().any(|stop| stop.len() > MAX_STOP_BYTES) {
        return Err(invalid(format!("at most {MAX_STOPS} stop texts of {MAX_STOP_BYTES} bytes each")));
    }
    let prompt = prompt(model, request)?;
    fits(model, &prompt.tokens)?;
    let conversation = conversation(request);
    let pinned = pinned(model, request, &prompt);
    let partition = if request.transient { transient(&request.partition) } else { request.partition.clone() };
    check(model, request).map_err(invalid)?;
    let mut form = form(model, request, conversation.tools, prompt.thinks).map_err(invalid)?;
    let several = admissions.len() > 1;
    let mut left = admissions.len();
    let jobs = (0..).zip(admissions).map(|(number, admission)| {
        let mut params = Params::resolve(&request.sampling, &model.defaults, rand::random()).map_err(invalid)?;
        params.seed = params.seed.wrapping_add(number);
        left -= 1;
        // What takes long is done once.
        let constraint = if left > 0 { form.constraint.as_ref().map(Constraint::of_another) } else { form.constraint.take() };
        Ok(Job {
            id: request.id,
            partition: partition.clone(),
            flow: flow(request),
            weight: request.weight.max(1),
            prompt: prompt.tokens.clone(),
            pinned,
            pin_known_only: request.pin_known_only,
            params,
            choice: Choice { constraint, ..choice(model, request, conversation.tools, &form) },
            exact: request.sampling.seed.is_some(),
            number: several.then_some(number),
            stop: request.stop.clone(),
            link: link.clone(),
            arrived,
            admission,
        })
    });
    jobs.collect()
}

/// Whose work it is; without a tenant, each partition is its own.
pub(super) fn flow(request: &Generate) -> Flow {
    let tenant = if request.tenant.is_empty() { &request.partition } else { &request.tenant };
    Flow { tenant: tenant.clone(), priority: request.priority }
}

fn invalid(message: String) -> Refusal {
    Refusal(FailCode::Invalid, message)
}

/// What the template is given.
fn conversation(request: &Generate) -> Conversation<'_> {
    // What must not be called is not mentioned.
    let tools = if request.tool_choice == ToolChoice::None { &[] } else { request.tools.as_slice() };
    Conversation { messages: &request.messages, tools, continue_last: request.continue_last, think: request.think }
}

/// How many tokens at the prompt's beginning are to be kept computed.
fn pinned(model: &Model, request: &Generate, prompt: &Prompt) -> usize {
    let messages = usize::try_from(request.pinned_messages).unwrap_or(usize::MAX).min(request.messages.len());
    if messages == 0 {
        return 0;
    }
    if request.pin_known_only {
        // Almost every request of a program asks for it, so it may cost nothing: no second look at a long text.
        return request.messages.get(messages).map_or(0, |next| prompt.before(&next.content));
    }
    let beginning = Conversation { messages: &request.messages[..messages], continue_last: false, ..conversation(request) };
    model.beginning(&prompt.tokens, &beginning)
}

/// What the model is to go on from.
pub(super) fn prompt(model: &Model, request: &Generate) -> Result<Prompt, Refusal> {
    if model.info.kind != ModelKind::Chat {
        return Err(invalid(format!("{:?} makes vectors, no completions", request.model)));
    }
    match request.messages.as_slice() {
        [only] if request.raw => model.raw_prompt(only).map_err(invalid),
        [before, behind] if request.raw => {
            let marks = model.fill_marks().ok_or_else(|| Refusal(FailCode::Unsupported, NO_MIDDLE.into()))?;
            model.fill_prompt(marks, before, behind).map_err(invalid)
        }
        _ if request.raw => Err(invalid("prompt: without a template it is one message, or two".into())),
        _ => model.prompt(&conversation(request)).map_err(invalid),
    }
}

/// One token at least must fit behind the prompt.
fn fits(model: &Model, prompt: &[LlamaToken]) -> Result<(), Refusal> {
    let most = usize::try_from(model.info.context_length).unwrap_or(usize::MAX).saturating_sub(1);
    if prompt.is_empty() {
        return Err(invalid("messages: there is nothing in the prompt".into()));
    }
    if prompt.len() > most {
        let message = format!("the prompt has {} tokens, at most {most} fit into this model's context", prompt.len());
        return Err(Refusal(FailCode::ContextLengthExceeded, message));
    }
    Ok(())
}

/// Checks what a request asks of its tokens. What the caller gets told begins with the field at fault.
fn check(model: &Model, request: &Generate) -> Result<(), String> {
    let vocabulary = model.weights.n_vocab();
    if let Some((token, bias)) =
        request.logit_bias.iter().find(|(token, bias)| !(0..vocabulary).contains(*token) || !(-100.0..=100.0).contains(*bias))
    {
        let last = vocabulary - 1;
        return Err(format!("logit_bias: token {token} cannot have {bias}: tokens are 0 to {last}, values -100 to 100"));
    }
    if let Some(logprobs) = request.logprobs.filter(|logprobs| *logprobs > MAX_LOGPROBS) {
        return Err(format!("top_logprobs: at most {MAX_LOGPROBS} alternatives are told, not {logprobs}"));
    }
    Ok(())
}

/// What all completions of a request look like.
struct Form {
    family: Family,
    /// What is told apart from the answer.
    thoughts: Option<&'static Thoughts>,
    /// The prompt has begun them.
    began: bool,
    constraint: Option<Constraint>,
}

/// Compiles what the answer must match.
fn form(model: &Model, request: &Generate, tools: &[Tool], thinking: bool) -> Result<Form, String> {
    let begun = model.thoughts().filter(|thoughts| thinking && thoughts.sayable);
    let forced = forced(model.family(), tools, &request.tool_choice, request.single_tool_call, begun);
    // What the caller gets told begins with the field at fault.
    let field = match (&forced, &request.format) {
        (Some(_), _) => "tools",
        (None, Some(Format::Regex(_) | Format::Choice(_) | Format::Lark(_))) => "structured_outputs",
        (None, _) => "response_format",
    };
    // Where the thoughts cannot be let through, what is written is the answer.
    let (family, format, thoughts) = match (forced, &request.format) {
        (Some((family, format)), _) => (family, Some(format), if thinking { begun } else { model.thoughts() }),
        (None, Some(format)) => {
            let after = begun.and_then(|thoughts| after_thoughts(format, thoughts));
            let thoughts = begun.filter(|_| after.is_some());
            (model.family(), Some(after.unwrap_or_else(|| format.clone())), thoughts)
        }
        (None, None) => (model.family(), None, model.thoughts()),
    };
    let constraint = |format: Format| {
        let grammars = model.grammars.as_ref().map_err(Clone::clone)?;
        grammars.constraint(&format).map_err(|error| format!("{field}: {error}"))
    };
    Ok(Form { family, thoughts, began: thinking && thoughts.is_some(), constraint: format.map(constraint).transpose()? })
}

/// How the tokens of one completion are chosen, but for what they must match.
fn choice(model: &Model, request: &Generate, tools: &[Tool], form: &Form) -> Choice {
    let Form { family, thoughts, began, .. } = *form;
    let parser = (!request.raw && (!tools.is_empty() || thoughts.is_some())).then(|| parser(family, tools.to_vec(), thoughts, began));
    Choice {
        bias: request.logit_bias.iter().map(|(token, bias)| (LlamaToken(*token), *bias)).collect(),
        logprobs: request.logprobs.map(usize::from),
        constraint: None,
        ignore_end: request.ignore_end,
        // A guess changes the last digits of the scores, and a seed is asked for so that nothing changes.
        speculate: request.speculate.unwrap_or(model.speculate && request.sampling.seed.is_none()),
        parser,
        single_call: request.single_tool_call,
    }
}
